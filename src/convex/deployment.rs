//! A deployment's own HTTP API, as far as provisioning needs it.

use std::collections::BTreeMap;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};

pub use super::deployment_error::DeploymentError;
pub use super::transport::{DeploymentClient, HttpRequest, HttpResponse, Transport, TransportError};
use crate::model::Secret;

/// The largest answer is the list of all variables, half a MiB before JSON escapes it.
const RESPONSE_LIMIT: usize = 8 << 20;

/// One deployment, spoken to with one key.
#[derive(Debug, Clone)]
pub struct Deployment {
    connections: DeploymentClient,
    url: String,
    key: Option<Secret>,
}

/// Describes what a deployment says about a key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReport {
    /// What it allows; empty for everything.
    #[serde(default)]
    pub allowed_ops: Vec<String>,
    /// Whether it may only look.
    #[serde(default)]
    pub is_read_only: bool,
}

/// The URLs that functions see as the deployment's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanonicalUrls {
    /// Of the API.
    pub convex_cloud_url: String,
    /// Of the HTTP actions.
    pub convex_site_url: String,
}

/// One change of one environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentChange {
    /// The variable.
    pub name: String,
    /// Its new value, or none to remove it.
    pub value: Option<Secret>,
}

/// Says which of the two canonical URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CanonicalUrl {
    /// Of the API.
    ConvexCloud,
    /// Of the HTTP actions.
    ConvexSite,
}

impl Deployment {
    /// Returns a deployment at a URL without a trailing slash.
    pub fn new(connections: &DeploymentClient, url: impl Into<String>, key: Option<Secret>) -> Self {
        Self { connections: connections.clone(), url: url.into(), key }
    }

    /// Returns which build it says it is; `unknown` where it was not told.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn version(&self) -> Result<String, DeploymentError> {
        self.text("/version").await
    }

    /// Returns what it calls itself.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn instance_name(&self) -> Result<String, DeploymentError> {
        self.text("/instance_name").await
    }

    /// Returns what it says about our key.
    ///
    /// # Errors
    /// [`DeploymentError::Refused`] with status 401 or 403 when the key is not one of its own.
    pub async fn check_admin_key(&self) -> Result<KeyReport, DeploymentError> {
        let path = "/api/check_admin_key";
        self.json(path, self.send(Method::GET, path, None).await?)
    }

    /// Returns its environment variables. Builds from before August 2025 have no list of them, and are asked as the
    /// official client asks.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn environment(&self) -> Result<BTreeMap<String, Secret>, DeploymentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Listed {
            environment_variables: BTreeMap<String, String>,
        }
        let path = "/api/v1/list_environment_variables";
        let listed: BTreeMap<String, String> = match self.send(Method::GET, path, None).await {
            Ok(body) => self.json::<Listed>(path, body)?.environment_variables,
            Err(DeploymentError::Refused { status: 404, .. }) => self.environment_by_query().await?,
            Err(error) => return Err(error),
        };
        Ok(listed.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    async fn environment_by_query(&self) -> Result<BTreeMap<String, String>, DeploymentError> {
        #[derive(Deserialize)]
        struct Variable {
            name: String,
            value: String,
        }
        let query = br#"{"path":"_system/cli/queryEnvironmentVariables","format":"json","args":{}}"#;
        let listed: Vec<Variable> = self.query(query).await?;
        Ok(listed.into_iter().map(|variable| (variable.name, variable.value)).collect())
    }

    /// Runs a query of the deployment's own, given as its document, and returns its value.
    pub(super) async fn query<T: serde::de::DeserializeOwned>(&self, query: &[u8]) -> Result<T, DeploymentError> {
        #[derive(Deserialize)]
        struct Answer<T> {
            value: T,
        }
        let path = "/api/query";
        self.json::<Answer<T>>(path, self.send(Method::POST, path, Some(query.to_vec())).await?).map(|answer| answer.value)
    }

    /// Changes environment variables, all of them or none.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn change_environment(&self, changes: &[EnvironmentChange]) -> Result<(), DeploymentError> {
        #[derive(Serialize)]
        struct Change<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            changes: Vec<Change<'a>>,
        }
        let sent: Vec<&Secret> = changes.iter().filter_map(|one| one.value.as_ref()).collect();
        let changes =
            changes.iter().map(|one| Change { name: &one.name, value: one.value.as_ref().map(Secret::expose) }).collect();
        self.post("/api/update_environment_variables", &Body { changes }, &sent).await
    }

    /// Returns the URLs that its functions see.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn canonical_urls(&self) -> Result<CanonicalUrls, DeploymentError> {
        let path = "/api/v1/get_canonical_urls";
        self.json(path, self.send(Method::GET, path, None).await?)
    }

    /// Overrides one of these URLs, or with none goes back to the origin that it was started with. The deployment
    /// checks nothing about the URL.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn set_canonical_url(&self, which: CanonicalUrl, url: Option<&str>) -> Result<(), DeploymentError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            request_destination: CanonicalUrl,
            #[serde(skip_serializing_if = "Option::is_none")]
            url: Option<&'a str>,
        }
        self.post("/api/v1/update_canonical_url", &Body { request_destination: which, url }, &[]).await
    }

    /// Stops it from running functions.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn pause(&self) -> Result<(), DeploymentError> {
        self.send(Method::POST, "/api/v1/pause_deployment", None).await.map(drop)
    }

    /// Lets it run functions again.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn unpause(&self) -> Result<(), DeploymentError> {
        self.send(Method::POST, "/api/v1/unpause_deployment", None).await.map(drop)
    }

    async fn text(&self, path: &'static str) -> Result<String, DeploymentError> {
        let body = self.send(Method::GET, path, None).await?;
        // Names and versions are short words. Anything else is the web page of another service.
        let text = String::from_utf8(body).map_err(|_| self.not_convex(path))?;
        if text.len() > 256 || text.contains(char::is_control) { Err(self.not_convex(path)) } else { Ok(text) }
    }

    /// Sends a document; `sent` are the secrets in it.
    async fn post(&self, path: &'static str, body: &impl Serialize, sent: &[&Secret]) -> Result<(), DeploymentError> {
        let body = serde_json::to_vec(body).map_err(|_| self.not_convex(path))?;
        self.send_secrets(Method::POST, path, Some(body), sent).await.map(drop)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &'static str, body: Vec<u8>) -> Result<T, DeploymentError> {
        serde_json::from_slice(&body).map_err(|_| self.not_convex(path))
    }

    fn not_convex(&self, path: &'static str) -> DeploymentError {
        DeploymentError::NotConvex { url: self.url.clone(), path }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, DeploymentError> {
        self.send_to(method, path, "", body).await
    }

    /// Sends a request to `path` with a last segment that is not known beforehand.
    pub(super) async fn send_to(
        &self,
        method: Method,
        path: &'static str,
        segment: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, DeploymentError> {
        let request = self.request(method, path, segment, body)?;
        let answer = self.connections.send(request, RESPONSE_LIMIT).await.map_err(|error| self.failed(path, error))?;
        self.success(path, answer, &[])
    }

    async fn send_secrets(
        &self,
        method: Method,
        path: &'static str,
        body: Option<Vec<u8>>,
        sent: &[&Secret],
    ) -> Result<Vec<u8>, DeploymentError> {
        let request = self.request(method, path, "", body)?;
        let answer = self.connections.send(request, RESPONSE_LIMIT).await.map_err(|error| self.failed(path, error))?;
        self.success(path, answer, sent)
    }

    /// Reads an answer of any length piece by piece, and returns its length.
    pub(super) async fn stream(
        &self,
        path: &'static str,
        segment: &str,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<u64, DeploymentError> {
        let request = self.request(Method::GET, path, segment, None)?;
        let mut length = 0;
        let mut counted = |piece: &[u8]| {
            length += piece.len() as u64;
            sink(piece)
        };
        let answer =
            self.connections.stream(request, RESPONSE_LIMIT, &mut counted).await.map_err(|error| self.failed(path, error))?;
        self.success(path, answer, &[]).map(|_| length)
    }

    fn success(&self, path: &'static str, answer: HttpResponse, sent: &[&Secret]) -> Result<Vec<u8>, DeploymentError> {
        let (status, body) = (answer.status(), answer.into_body());
        if status.is_success() {
            return Ok(body);
        }
        // A deployment may repeat what it was sent; no secret must travel on with its words.
        let secrets = self.key.iter().chain(sent.iter().copied());
        Err(DeploymentError::refused(self.url.clone(), path, (status.as_u16(), &body), secrets))
    }

    fn failed(&self, path: &'static str, source: TransportError) -> DeploymentError {
        DeploymentError::from_transport(self.url.clone(), path, source)
    }

    fn request(
        &self,
        method: Method,
        path: &'static str,
        segment: &str,
        body: Option<Vec<u8>>,
    ) -> Result<HttpRequest, DeploymentError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}{segment}", self.url))
            .header("Convex-Client", concat!("convexinfra-", env!("CARGO_PKG_VERSION")));
        if let Some(key) = self.key.as_ref().filter(|_| path.starts_with("/api/")) {
            // A key that is no header value is no key either; the deployment will say so.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Convex {}", key.expose())) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(body.unwrap_or_default()).map_err(|error| self.failed(path, TransportError::NotSent(Box::new(error))))
    }
}
