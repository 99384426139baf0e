//! Buckets of an S3 service, looked at as a backend will use them: there, readable, writable, in this region and style.
//!
//! A look writes nothing. A probe writes one object under the name of the backend's instance, reads it and removes it
//! again. Every request has a deadline, every answer a limit, and the service's address is held against a [`HostPolicy`].
//!
//! Must not do: touch an object of a backend unless its removal was asked for, or make a bucket where data is missing.

mod error;
mod exchange;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use reqwest::{Method, StatusCode};
use rusty_s3::actions::{ListObjectsV2, ListObjectsV2Response};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use url::Url;

pub use error::{BucketError, BucketProblem};

use self::exchange::{Answer, Exchange, Failure};
use crate::convex::buckets::{bucket_names, prefix_of};
use crate::model::{HostPolicy, S3Files, Secret};

/// How long a signature holds.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(300);
/// What the probe object holds.
const PROBE: &[u8] = b"convexinfra wrote this to see whether it may, and removes it again\n";
/// How many pages of 1,000 objects are counted.
const PAGES_MAX: usize = 20;
/// How many objects are removed at once.
const PARALLEL_DELETIONS: usize = 32;

/// How closely buckets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeMode {
    /// Nothing is written.
    Look,
    /// An object is written, read and removed.
    Write,
}

/// What to do about a bucket that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingBucket {
    /// It is refused.
    Refuse,
    /// It will be created.
    Tolerate,
    /// It is created.
    Create,
}

/// What buckets were found to be, besides usable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketReport {
    /// The buckets that were created.
    pub created: Vec<String>,
    /// The probe objects that could not be removed, each with its bucket.
    pub left: Vec<(String, String)>,
}

/// Objects that outlive their backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The bucket.
    pub bucket: String,
    /// What their keys begin with.
    pub prefix: String,
    /// How many there are, or at least are.
    pub count: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// Whether all of them were counted.
    pub is_complete: bool,
}

/// Where a listing goes on.
enum Position {
    /// Where the page before ended.
    Token(String),
    /// After this key.
    After(String),
}

/// The buckets of one backend, with the credentials that it will use.
pub struct BucketStore {
    endpoint: Url,
    style: UrlStyle,
    has_own_endpoint: bool,
    region: String,
    buckets: Vec<String>,
    credentials: Credentials,
    exchange: Exchange,
}

impl BucketStore {
    /// Returns the buckets of `files`; none where it names no credentials, because the backend's machine has others than
    /// this one.
    ///
    /// # Errors
    /// [`BucketError`] when the endpoint is no URL.
    pub fn new(
        files: &S3Files,
        secret: impl Fn(&str) -> Option<Secret>,
        policy: HostPolicy,
    ) -> Result<Option<Self>, BucketError> {
        let (Some(id), Some(key)) = (secret("files.access_key_id"), secret("files.secret_access_key")) else { return Ok(None) };
        let endpoint = match &files.endpoint {
            None => format!("https://s3.{}.amazonaws.com", files.region),
            Some(crate::model::TextValue::Literal(url)) => url.clone(),
            Some(crate::model::TextValue::Reference(_)) => {
                let Some(url) = secret("files.endpoint") else { return Ok(None) };
                url.expose().to_owned()
            }
        };
        let endpoint = Url::parse(&endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let endpoint = endpoint.ok_or_else(|| BucketError::new("", BucketProblem::Endpoint))?;
        // As the AWS SDK does, which the backend uses.
        let is_address = !matches!(endpoint.host(), Some(url::Host::Domain(_)));
        let style = if files.path_style || is_address { UrlStyle::Path } else { UrlStyle::VirtualHost };
        Ok(Some(Self {
            endpoint,
            style,
            has_own_endpoint: files.endpoint.is_some(),
            region: files.region.clone(),
            buckets: bucket_names(&files.buckets),
            credentials: Credentials::new(id.expose(), key.expose()),
            exchange: Exchange::new(policy),
        }))
    }

    /// Returns the host of the service.
    pub fn host(&self) -> &str {
        self.endpoint.host_str().unwrap_or_default()
    }

    /// Connects to this address where the service's host means something only where the backend runs.
    #[must_use]
    pub fn at(self, address: Option<std::net::IpAddr>) -> Self {
        let Some(address) = address else { return self };
        let exchange = self.exchange.beside(self.endpoint.host_str().unwrap_or_default(), address);
        Self { exchange, ..self }
    }

    /// Returns whether each bucket can be used, or why the first one cannot.
    ///
    /// # Errors
    /// [`BucketError`]: which bucket, and what is in the way.
    pub async fn check(&self, instance: &str, mode: ProbeMode, missing: MissingBucket) -> Result<BucketReport, BucketError> {
        let mut report = BucketReport::default();
        let key = format!("{instance}-convexinfra-probe");
        for name in &self.buckets {
            match self.probe(name, &key, mode, self.style).await {
                Err(BucketProblem::Missing) if missing == MissingBucket::Create => {
                    self.create(name).await.map_err(|problem| BucketError::new(name, problem))?;
                    report.created.push(name.clone());
                    let removed = self.probe(name, &key, mode, self.style).await;
                    self.note_left(&mut report, name, &key, removed)?;
                }
                Err(BucketProblem::Missing) if missing == MissingBucket::Tolerate => {}
                found => {
                    let found = match found {
                        Err(problem) => Err(self.explain(name, &key, problem).await),
                        found => found,
                    };
                    self.note_left(&mut report, name, &key, found)?;
                }
            }
        }
        Ok(report)
    }

    /// Counts the objects under a prefix, or under every prefix of an instance, in each bucket.
    ///
    /// # Errors
    /// [`BucketError`] when a bucket cannot be listed.
    pub async fn leftovers(&self, instance: &str, prefix: Option<&str>) -> Result<Vec<Leftover>, BucketError> {
        let mut all = Vec::new();
        for name in &self.buckets {
            let found = self.list(name, instance, prefix).await;
            all.extend(found.map_err(|problem| BucketError::new(name, problem))?);
        }
        Ok(all)
    }

    /// Removes every object under a prefix of an instance from each bucket, and returns how many there were. Repeating it is
    /// harmless.
    ///
    /// # Errors
    /// [`BucketError`] when a bucket cannot be listed, or an object cannot be removed.
    pub async fn remove(&self, instance: &str, prefix: &str) -> Result<u64, BucketError> {
        let mut removed = 0;
        for name in &self.buckets {
            let count = self.remove_in(name, instance, prefix).await;
            removed += count.map_err(|problem| BucketError::new(name, problem))?;
        }
        Ok(removed)
    }

    /// Returns the command that removes leftover objects.
    pub fn remove_command(&self, leftover: &Leftover) -> String {
        let endpoint = if self.has_own_endpoint { format!(" --endpoint-url {}", self.endpoint_text()) } else { String::new() };
        format!("aws s3 rm --recursive s3://{}/{} --region {}{endpoint}", leftover.bucket, leftover.prefix, self.region)
    }

    /// Returns what to do about an error, as far as that is known.
    pub fn help(&self, error: &BucketError) -> Option<String> {
        let endpoint = if self.has_own_endpoint { format!(" --endpoint-url {}", self.endpoint_text()) } else { String::new() };
        error.help(&self.region, &endpoint)
    }

    fn endpoint_text(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    fn note_left(
        &self,
        report: &mut BucketReport,
        name: &str,
        key: &str,
        removed: Result<bool, BucketProblem>,
    ) -> Result<(), BucketError> {
        if !removed.map_err(|problem| BucketError::new(name, problem))? {
            report.left.push((name.to_owned(), key.to_owned()));
        }
        Ok(())
    }

    /// Says more about a problem where the other style of URLs would have none.
    async fn explain(&self, name: &str, key: &str, problem: BucketProblem) -> BucketProblem {
        let is_about_style =
            matches!(problem, BucketProblem::Missing | BucketProblem::Unreachable(_) | BucketProblem::Other { .. });
        if !is_about_style || !self.has_own_endpoint || matches!(self.style, UrlStyle::Path) {
            return problem;
        }
        match self.probe(name, key, ProbeMode::Look, UrlStyle::Path).await {
            Ok(_) => BucketProblem::PathStyle,
            Err(_) => problem,
        }
    }

    fn bucket(&self, name: &str, style: UrlStyle) -> Result<Bucket, BucketProblem> {
        Bucket::new(self.endpoint.clone(), style, name.to_owned(), self.region.clone()).map_err(|_| BucketProblem::Endpoint)
    }

    /// Returns whether nothing of the probe is left.
    async fn probe(&self, name: &str, key: &str, mode: ProbeMode, style: UrlStyle) -> Result<bool, BucketProblem> {
        let bucket = self.bucket(name, style)?;
        let credentials = Some(&self.credentials);
        let read = || self.send(Method::GET, bucket.get_object(credentials, key).sign(SIGNATURE_LIFETIME), None);
        if mode == ProbeMode::Look {
            return match read().await {
                Ok(_) => Ok(true),
                // Who may not list is not told whether a single object is there.
                Err(BucketProblem::NoSuchObject | BucketProblem::Denied { .. }) => Ok(true),
                Err(problem) => Err(problem),
            };
        }
        self.send(Method::PUT, bucket.put_object(credentials, key).sign(SIGNATURE_LIFETIME), Some(PROBE)).await?;
        let found = read().await;
        let removed = self.send(Method::DELETE, bucket.delete_object(credentials, key).sign(SIGNATURE_LIFETIME), None).await;
        if found? != PROBE {
            return Err(BucketProblem::OtherContent);
        }
        Ok(removed.is_ok())
    }

    async fn create(&self, name: &str) -> Result<(), BucketProblem> {
        let bucket = self.bucket(name, self.style)?;
        let action = bucket.create_bucket(&self.credentials);
        let body = action.body();
        match self.send(Method::PUT, action.sign(SIGNATURE_LIFETIME), Some(body.as_bytes())).await {
            Err(BucketProblem::Other { code, .. }) if code == "BucketAlreadyOwnedByYou" => Ok(()),
            done => done.map(drop),
        }
    }

    async fn list(&self, name: &str, instance: &str, prefix: Option<&str>) -> Result<Vec<Leftover>, BucketProblem> {
        let wanted = prefix.map_or_else(|| format!("{instance}-"), str::to_owned);
        let (mut counts, mut position): (BTreeMap<String, (u64, u64)>, Option<Position>) = (BTreeMap::new(), None);
        for _ in 0..PAGES_MAX {
            let page = self.page(name, &wanted, position.take()).await?;
            for object in &page.contents {
                if let Some(found) =
                    prefix_of(instance, &object.key).filter(|found| prefix.is_none_or(|prefix| prefix == *found))
                {
                    let count = counts.entry(found.to_owned()).or_default();
                    *count = (count.0 + 1, count.1.saturating_add(object.size.unwrap_or(0)));
                }
            }
            position = page.next_continuation_token.map(Position::Token);
            if position.is_none() {
                break;
            }
        }
        let is_complete = position.is_none();
        let leftover = |(prefix, (count, bytes))| Leftover { bucket: name.to_owned(), prefix, count, bytes, is_complete };
        Ok(counts.into_iter().map(leftover).collect())
    }

    async fn page(&self, name: &str, prefix: &str, position: Option<Position>) -> Result<ListObjectsV2Response, BucketProblem> {
        let bucket = self.bucket(name, self.style)?;
        let mut action = ListObjectsV2::new(&bucket, Some(&self.credentials));
        action.with_prefix(prefix.to_owned());
        match position {
            Some(Position::Token(token)) => action.with_continuation_token(token),
            Some(Position::After(key)) => action.with_start_after(key),
            None => {}
        }
        let body = self.send(Method::GET, action.sign(SIGNATURE_LIFETIME), None).await?;
        let text = std::str::from_utf8(&body).map_err(|_| BucketProblem::Malformed)?;
        ListObjectsV2::parse_response(text).map_err(|_| BucketProblem::Malformed)
    }

    /// Removes one object; false where it was not there.
    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<bool, BucketProblem> {
        let url = bucket.delete_object(Some(&self.credentials), key).sign(SIGNATURE_LIFETIME);
        match self.send(Method::DELETE, url, None).await {
            Ok(_) => Ok(true),
            Err(BucketProblem::NoSuchObject) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    async fn remove_in(&self, name: &str, instance: &str, prefix: &str) -> Result<u64, BucketProblem> {
        let bucket = self.bucket(name, self.style)?;
        let (mut removed, mut position) = (0, None);
        loop {
            let page = self.page(name, prefix, position.take()).await?;
            let last = page.contents.last().map(|object| object.key.clone());
            let keys = page.contents.into_iter().map(|object| object.key);
            // A service that lists more than what was asked for gets nothing else removed.
            let keys: Vec<String> = keys.filter(|key| prefix_of(instance, key) == Some(prefix)).collect();
            for keys in keys.chunks(PARALLEL_DELETIONS) {
                let deletions: Vec<BoxFuture<'_, _>> = keys.iter().map(|key| self.delete(&bucket, key).boxed()).collect();
                for deleted in join_all(deletions).await {
                    removed += u64::from(deleted?);
                }
            }
            // Not by its token: what it counted is not there any more.
            position = last.map(Position::After);
            if position.is_none() || page.next_continuation_token.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn send(&self, method: Method, url: Url, body: Option<&[u8]>) -> Result<Vec<u8>, BucketProblem> {
        match self.exchange.send(method, url, body.map(<[u8]>::to_vec)).await {
            Ok(Answer { status, body, .. }) if status.is_success() => Ok(body),
            Ok(answer) => Err(problem_of(&answer)),
            Err(Failure::Forbidden) => Err(BucketProblem::HostForbidden),
            Err(Failure::TooLarge) => Err(BucketProblem::Malformed),
            Err(Failure::Network(reason)) => Err(BucketProblem::Unreachable(reason)),
        }
    }
}

/// Reads the right region out of "the region 'x' is wrong; expecting 'y'".
fn expected_region(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("expecting ")?;
    let region: String =
        rest.trim_start_matches(['\'', '"']).chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    (!region.is_empty()).then_some(region)
}

/// Reads what a service says when it declines.
fn problem_of(answer: &Answer) -> BucketProblem {
    let text = String::from_utf8_lossy(&answer.body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once("</")?;
        Some(error::one_line(value))
    };
    let (code, message) = (element("Code").unwrap_or_default(), element("Message").unwrap_or_default());
    match code.as_str() {
        "NoSuchBucket" => BucketProblem::Missing,
        "NoSuchKey" => BucketProblem::NoSuchObject,
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" => {
            BucketProblem::Credentials { code, message }
        }
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint"
        | "TemporaryRedirect"
            if answer.region.is_some() || element("Region").is_some() || message.to_ascii_lowercase().contains("region") =>
        {
            let region = answer.region.clone().or_else(|| element("Region")).or_else(|| expected_region(&message));
            BucketProblem::Region { region, message }
        }
        "RequestTimeTooSkewed" => BucketProblem::Clock,
        _ if answer.status.is_redirection() => BucketProblem::Region { region: answer.region.clone(), message },
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => BucketProblem::Denied { message },
        "" if answer.status == StatusCode::NOT_FOUND => BucketProblem::Missing,
        "" if answer.status == StatusCode::FORBIDDEN => BucketProblem::Denied { message },
        _ => BucketProblem::Other { status: answer.status.as_u16(), code, message },
    }
}
