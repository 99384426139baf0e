//! Conversation with one API server: what is asked of it about objects, and what its answers mean.
//!
//! Must not do: know what a backend is.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::error::KubernetesError;
use super::kind::Kind;
use super::labels::MANAGER;
use super::session::Session;
use super::transport::{self, Call, Failure};

/// How long a read is retried while the API server does not answer.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// How long a write is retried while the API server does not answer: it restarts within that.
const CHANGE_FOR: Duration = Duration::from_secs(60);
/// How many items one page of a list has.
const PAGE: usize = 500;
/// How many pages are read before a list is called endless.
const MAX_PAGES: usize = 200;

/// One API server, with the credentials for it.
#[derive(Clone)]
pub(super) struct Cluster {
    session: Arc<Session>,
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
        session: Arc<Session>,
        server: String,
        default_namespace: String,
        plugin: Option<String>,
        is_inside: bool,
    ) -> Self {
        Self { session, server, default_namespace, plugin, is_inside, patience: LOOK_FOR }
    }

    /// Returns a client whose credentials hold.
    pub(super) async fn client(&self) -> Result<Client, KubernetesError> {
        self.session.client().await
    }

    /// Returns the same cluster with the retries of writes.
    pub(super) fn patient(&self) -> Self {
        Self { patience: CHANGE_FOR, ..self.clone() }
    }

    /// Reads one object; none where the server says that there is none.
    pub(super) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>, KubernetesError> {
        let verb = format!("get {} `{name}`", kind.noun());
        let call = Call::get(kind.path(namespace, Some(name)), kind.noun().to_owned());
        match self.send(&call).await {
            Err(failure) if failure.is_not_found() => Ok(None),
            answer => answer.map(Some).map_err(|failure| self.error(failure, verb, kind, namespace)),
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
            let call = Call::get(uri, format!("{}List", kind.noun()));
            let mut page = self.send(&call).await.map_err(|failure| self.error(failure, verb.clone(), kind, namespace))?;
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
        let call = Call::change(Method::PATCH, uri, object, "application/apply-patch+yaml").answered_by(kind.noun());
        self.send(&call).await.map_err(|failure| self.error(failure, verb, kind, namespace))
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
        // Lists of containers are merged by name.
        let format =
            if subresource.is_some() { "application/strategic-merge-patch+json" } else { "application/merge-patch+json" };
        let call = Call::change(Method::PATCH, uri, patch, format).answered_by(kind.noun());
        self.send(&call).await.map_err(|failure| self.error(failure, verb, kind, namespace))
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
        let call = Call::change(Method::DELETE, kind.path(namespace, Some(name)), &body, "application/json");
        match self.send(&call).await {
            Ok(_) => Ok(()),
            // Gone, or another one by now.
            Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
            Err(failure) => Err(self.error(failure, verb, kind, namespace)),
        }
    }

    /// Posts an object that is stored nowhere: a review, or a dry run.
    pub(super) async fn post(&self, kind: Kind, namespace: &str, body: &Value, run: Run) -> Result<Value, KubernetesError> {
        let dry = if run == Run::Dry { "?dryRun=All" } else { "" };
        let uri = format!("{}{dry}", kind.path(namespace, None));
        let call = Call::change(Method::POST, uri, body, "application/json").answered_by(kind.noun());
        let verb = format!("create {}", kind.noun());
        self.send(&call).await.map_err(|failure| self.error(failure, verb, kind, namespace))
    }

    /// Reads a text, such as a log; none where the server says that there is none.
    pub(super) async fn text(&self, uri: &str, verb: &str, namespace: &str) -> Result<Option<String>, KubernetesError> {
        match transport::text(&self.client().await?, uri).await {
            Ok(text) => Ok(Some(text)),
            Err(failure) if failure.is_not_found() || failure.is_bad_request() => Ok(None),
            Err(failure) => Err(self.error(failure, verb.to_owned(), Kind::Pod, namespace)),
        }
    }

    async fn send(&self, call: &Call) -> Result<Value, Failure> {
        let client = self.client().await.map_err(|error| Failure::Other(error.to_string()))?;
        transport::send(&client, call, self.patience).await
    }

    fn error(&self, failure: Failure, verb: String, kind: Kind, namespace: &str) -> KubernetesError {
        let unreachable =
            |reason: String| KubernetesError::Unreachable { server: self.server.clone(), verb: verb.clone(), reason };
        let words = failure.words();
        let status = match failure {
            // Where the API has no such kind at all, what answers is no status.
            Failure::NotApi { code: 404, .. } if !kind.is_built_in() => {
                let reason = "the API server does not know this kind of object, because its definitions are not installed";
                return KubernetesError::Refused { verb, reason: reason.to_owned() };
            }
            Failure::Status { status, .. } => status,
            _ => return unreachable(words),
        };
        let about_namespace = status.details.as_ref().is_some_and(|details| details.kind == "namespaces");
        let is_missing = status.is_not_found() && about_namespace && !namespace.is_empty();
        let reason = status.message.trim().to_owned();
        match status.code {
            404 if is_missing => KubernetesError::NamespaceMissing { namespace: namespace.to_owned() },
            401 => unreachable(format!("the credentials are not accepted ({reason})")),
            // Quotas, Pod Security, webhooks and namespaces that end answer with the same status as missing rights.
            403 if reason.contains("cannot ") && reason.contains(" resource ") => {
                KubernetesError::Forbidden { verb, reason, namespace: namespace.to_owned() }
            }
            // What was asked for is the reason then, and not how the server is.
            500 if transport::is_about_webhook(&status) || transport::is_about_schema(&status) => {
                KubernetesError::Refused { verb, reason }
            }
            429 | 500 | 502 | 503 | 504 => unreachable(words),
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
