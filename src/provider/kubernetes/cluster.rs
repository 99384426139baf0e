//! Conversation with one API server: requests as data, answers as JSON, each with a deadline and retries of our own.
//!
//! Every request may be repeated: reads, server-side applies, deletions of one very object, and dry runs. Must not do: know
//! what a backend is.

use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::error::KubernetesError;
use super::kind::Kind;
use super::labels::MANAGER;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long a read is retried while the API server does not answer.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// How long a write is retried while the API server does not answer: it restarts within that.
const CHANGE_FOR: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// How many items one page of a list has.
const PAGE: usize = 500;
/// How many pages are read before a list is called endless.
const MAX_PAGES: usize = 200;

/// One API server, with the credentials for it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    /// Its address.
    pub(super) server: String,
    /// The namespace of the context.
    pub(super) default_namespace: String,
    /// The program that hands out credentials, where the kubeconfig names one.
    pub(super) plugin: Option<String>,
    /// Whether this process runs in the cluster itself.
    pub(super) is_inside: bool,
    /// How long a request is retried while the API server does not answer.
    pub(super) patience: Duration,
}

/// Whether a request is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// It is.
    Real,
    /// The server says what would come of it.
    Dry,
}

impl Cluster {
    pub(super) fn new(
        client: Client,
        server: String,
        default_namespace: String,
        plugin: Option<String>,
        is_inside: bool,
    ) -> Self {
        Self { client, server, default_namespace, plugin, is_inside, patience: LOOK_FOR }
    }

    /// Returns the same cluster with the retries of writes.
    pub(super) fn patient(&self) -> Self {
        Self { patience: CHANGE_FOR, ..self.clone() }
    }

    /// Reads one object; none where the server says that there is none.
    pub(super) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>, KubernetesError> {
        let verb = format!("get {} `{name}`", kind.noun());
        let request = Call { method: Method::GET, uri: kind.path(namespace, Some(name)), body: Value::Null };
        match self.send(&request).await {
            Err(Failure::Status(status)) if status.is_not_found() => Ok(None),
            answer => answer.map(Some).map_err(|failure| self.error(failure, verb, namespace)),
        }
    }

    /// Lists the objects of a kind with these labels, all pages of them.
    pub(super) async fn list(&self, kind: Kind, namespace: &str, selector: &str) -> Result<Vec<Value>, KubernetesError> {
        self.list_by(kind, namespace, &[("labelSelector", selector)]).await
    }

    /// Lists the objects of a kind by any selector.
    pub(super) async fn list_by(
        &self,
        kind: Kind,
        namespace: &str,
        selectors: &[(&str, &str)],
    ) -> Result<Vec<Value>, KubernetesError> {
        let verb = format!("list {}", kind.plural());
        let (mut all, mut after) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let uri = format!("{}?{}", kind.path(namespace, None), page_query(selectors, &after));
            let call = Call { method: Method::GET, uri, body: Value::Null };
            let mut page = self.send(&call).await.map_err(|failure| self.error(failure, verb.clone(), namespace))?;
            if let Some(items) = page["items"].as_array_mut() {
                all.append(items);
            }
            after = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if after.is_empty() {
                return Ok(all);
            }
        }
        Err(KubernetesError::Unreachable { server: self.server.clone(), verb, reason: "the list does not end".to_owned() })
    }

    /// Applies an object and returns it as the server has it then. What it sets is ours, also where another manager set it before.
    pub(super) async fn apply(&self, object: &Value, run: Run) -> Result<Value, KubernetesError> {
        let kind = Kind::of(object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let verb = format!("apply {} `{name}`", kind.noun());
        let dry = if run == Run::Dry { "&dryRun=All" } else { "" };
        let uri = format!("{}?fieldManager={MANAGER}&force=true{dry}", kind.path(namespace, Some(name)));
        let call = Call { method: Method::PATCH, uri, body: object.clone() };
        self.send_as(&call, "application/apply-patch+yaml").await.map_err(|failure| self.error(failure, verb, namespace))
    }

    /// Changes single fields of an object.
    pub(super) async fn merge(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<Value, KubernetesError> {
        let verb = format!("change {} `{name}`", kind.noun());
        let below = subresource.map(|part| format!("/{part}")).unwrap_or_default();
        let uri = format!("{}{below}?fieldManager={MANAGER}", kind.path(namespace, Some(name)));
        let call = Call { method: Method::PATCH, uri, body: patch.clone() };
        // Lists of containers are merged by name.
        let format =
            if subresource.is_some() { "application/strategic-merge-patch+json" } else { "application/merge-patch+json" };
        self.send_as(&call, format).await.map_err(|failure| self.error(failure, verb, namespace))
    }

    /// Deletes this very object, and not one that has its name by then. Succeeds when it is gone.
    pub(super) async fn delete(&self, kind: Kind, object: &Value) -> Result<(), KubernetesError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let verb = format!("delete {} `{name}`", kind.noun());
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": object["metadata"]["uid"] },
            "propagationPolicy": "Background",
        });
        let call = Call { method: Method::DELETE, uri: kind.path(namespace, Some(name)), body };
        match self.send(&call).await {
            Ok(_) => Ok(()),
            // Gone, or another one by now.
            Err(Failure::Status(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(failure) => Err(self.error(failure, verb, namespace)),
        }
    }

    /// Posts an object that is stored nowhere: a review, or a dry run.
    pub(super) async fn post(&self, kind: Kind, namespace: &str, body: &Value, run: Run) -> Result<Value, KubernetesError> {
        let dry = if run == Run::Dry { "?dryRun=All" } else { "" };
        let call = Call { method: Method::POST, uri: format!("{}{dry}", kind.path(namespace, None)), body: body.clone() };
        let verb = format!("create {}", kind.noun());
        self.send(&call).await.map_err(|failure| self.error(failure, verb, namespace))
    }

    /// Reads a text, such as a log; none where the server says that there is none.
    pub(super) async fn text(&self, uri: &str, verb: &str, namespace: &str) -> Result<Option<String>, KubernetesError> {
        let call = Call { method: Method::GET, uri: uri.to_owned(), body: Value::Null };
        let request = call.request("application/json").map_err(|failure| self.error(failure, verb.to_owned(), namespace))?;
        match timeout(ANSWER_WITHIN, self.client.request_text(request)).await {
            Ok(Ok(text)) => Ok(Some(text)),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.code == 400 => Ok(None),
            Ok(Err(error)) => Err(self.error(Failure::of(error), verb.to_owned(), namespace)),
            Err(_) => Err(self.error(Failure::Silent, verb.to_owned(), namespace)),
        }
    }

    async fn send(&self, call: &Call) -> Result<Value, Failure> {
        self.send_as(call, "application/json").await
    }

    /// Sends a request, again and again while the server is overloaded or does not answer.
    async fn send_as(&self, call: &Call, content_type: &str) -> Result<Value, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let request = call.request(content_type)?;
            let failure = match timeout(ANSWER_WITHIN, self.client.request::<Value>(request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::of(error),
                Err(_) => Failure::Silent,
            };
            if !failure.may_pass() || Instant::now() + pause > deadline {
                return Err(failure);
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn error(&self, failure: Failure, verb: String, namespace: &str) -> KubernetesError {
        let unreachable =
            |reason: String| KubernetesError::Unreachable { server: self.server.clone(), verb: verb.clone(), reason };
        let status = match failure {
            Failure::Status(status) => status,
            Failure::Silent => return unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
            Failure::Other(reason) => return unreachable(reason),
        };
        let about_namespace = status.details.as_ref().is_some_and(|details| details.kind == "namespaces");
        let is_missing = status.is_not_found() && about_namespace && !namespace.is_empty();
        let reason = status.message.trim().to_owned();
        match status.code {
            // Where the API has no such kind at all, what answers is no status.
            404 if status.details.is_none() => {
                let reason = "the API server does not know this kind of object, because its definitions are not installed";
                KubernetesError::Refused { verb, reason: reason.to_owned() }
            }
            404 if is_missing => KubernetesError::NamespaceMissing { namespace: namespace.to_owned() },
            401 => unreachable(format!("the credentials are not accepted ({reason})")),
            // Quotas, Pod Security, webhooks and namespaces that end answer with the same status as missing rights.
            403 if reason.contains("cannot ") && reason.contains(" resource ") => {
                KubernetesError::Forbidden { verb, reason, namespace: namespace.to_owned() }
            }
            429 | 502 | 503 | 504 => unreachable(reason),
            _ => KubernetesError::Refused { verb, reason },
        }
    }
}

/// Returns the parameters of one page of a list.
fn page_query(selectors: &[(&str, &str)], after: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &PAGE.to_string());
    for (name, value) in selectors.iter().chain(&[("continue", after)]).filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    query.finish()
}

/// One request.
struct Call {
    method: Method,
    uri: String,
    body: Value,
}

impl Call {
    fn request(&self, content_type: &str) -> Result<Request<Vec<u8>>, Failure> {
        let body = if self.body.is_null() { Vec::new() } else { self.body.to_string().into_bytes() };
        let request = Request::builder().method(self.method.clone()).uri(&self.uri);
        let request = request.header("content-type", content_type).header("accept", "application/json");
        request.body(body).map_err(|error| Failure::Other(error.to_string()))
    }
}

/// Why there is no answer.
enum Failure {
    Status(Box<kube::core::Status>),
    Silent,
    Other(String),
}

impl Failure {
    fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status),
            other => Self::Other(crate::model::error_chain(&other)),
        }
    }

    /// Whether the same request may be answered a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => {
                // A webhook that is down for a moment answers with 500.
                matches!(status.code, 429 | 502 | 503 | 504) || status.message.contains("the object has been modified")
            }
            Self::Silent | Self::Other(_) => true,
        }
    }
}
