//! A control plane behind HTTP: the same port, so that commands cannot tell it from the embedded one.
//!
//! What is safe to repeat is repeated until the control plane answers: reading, whatever carries a key or a fence, and
//! whatever ends in the same state however often it arrives. What is not, making a token, is sent once.
//!
//! Must not do: decide anything that the control plane decides, follow a redirect, or let the token out of the header
//! that it belongs in.

mod admin;
mod backoff;
mod connection;
mod event_stream;
mod follow;
mod response;
mod retrying_client;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Method;

pub use connection::{ControlPlaneUrl, ControlPlaneUrlError};

use super::wire::{CredentialsDocument, FingerprintKeyDocument, LeaseDocument, LeaseRequest, OriginRequest};
use super::{
    ControlError, ControlPlane, Credentials, HistoryEntry, HistoryVerification, IfMissing, Lease, LeaseHolder, LogChunk,
    LogPosition, OperationOutcome, OriginPolicy, ProgressFn, Request, ResourceLevel,
};
use crate::model::{BackendName, FingerprintKey, ProjectName, Secret, Snapshot};
use connection::Connection;
use retrying_client::{ClientRequest, RetryingClient, discard_body, json};

/// Where the token comes from. It is asked once, when something is first sent.
pub trait TokenSource: Send + Sync {
    /// The token.
    fn token(&self) -> BoxFuture<'_, Result<Secret, ControlError>>;
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// For a control plane that has not answered yet: who mistyped its URL should hear of it soon.
    pub first_response: Duration,
    /// For one that has answered and does not any more: it may be starting anew, and what was begun should end.
    pub reconnect: Duration,
    /// For a connection.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub read: Duration,
    /// For the next byte of an event stream, which has a heartbeat; after that it is taken for broken on the way.
    pub stream_idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            first_response: Duration::from_secs(5),
            reconnect: Duration::from_secs(90),
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            stream_idle: Duration::from_secs(25),
        }
    }
}

/// What a client is made of.
pub struct ClientConfig {
    /// Where the control plane is.
    pub url: ControlPlaneUrl,
    /// Where the token comes from.
    pub token: Box<dyn TokenSource>,
    /// Certificates to trust besides the system's, as PEM.
    pub certificates: Option<Vec<u8>>,
    /// How long to wait for what.
    pub timeouts: ClientTimeouts,
    /// Hears that an answer is a long time coming, where no operation is there to hear it.
    pub on_wait: Box<dyn Fn(String) + Send + Sync>,
}

/// A control plane behind HTTP.
pub struct HttpControlPlane {
    exchange: RetryingClient,
    keys: Mutex<BTreeMap<ProjectName, FingerprintKey>>,
}

impl HttpControlPlane {
    /// A client for a control plane. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ControlError::Unreachable`] when the certificates cannot be used.
    pub fn new(parts: ClientConfig) -> Result<Self, ControlError> {
        let connection = Connection::new(parts.url, parts.certificates, parts.timeouts)?;
        Ok(Self { exchange: RetryingClient::new(connection, parts.token, parts.on_wait), keys: Mutex::default() })
    }
}

/// A path below one project.
fn project_path<'a>(project: &'a ProjectName, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["projects", project.as_str()];
    path.extend_from_slice(rest);
    path
}

/// A path below one project, or below the control plane as a whole.
fn level_path<'a>(reach: &'a ResourceLevel, rest: &[&'a str]) -> Vec<&'a str> {
    reach.project().map_or_else(|| rest.to_vec(), |project| project_path(project, rest))
}

impl ControlPlane for HttpControlPlane {
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>> {
        Box::pin(async move {
            let mut snapshot: Snapshot = self.exchange.send(&ClientRequest::get(&project_path(project, &[])), json).await?;
            // Plans name it as the user did.
            snapshot.control_plane.name = self.exchange.url().to_string();
            Ok(snapshot)
        })
    }

    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        _: IfMissing,
    ) -> BoxFuture<'a, Result<Option<FingerprintKey>, ControlError>> {
        Box::pin(async move {
            let known = || self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = known().get(project) {
                return Ok(Some(key.clone()));
            }
            let read = |body: &[u8]| {
                let document: FingerprintKeyDocument = json(body)?;
                let key = FingerprintKey::from_hex(document.key.0.expose());
                key.ok_or_else(|| "the fingerprint key is not 64 hex digits".to_owned())
            };
            let key = self.exchange.send(&ClientRequest::get(&project_path(project, &["fingerprint-key"])), read).await?;
            known().insert(project.clone(), key.clone());
            Ok(Some(key))
        })
    }

    fn acquire_lease<'a>(
        &'a self,
        project: &'a ProjectName,
        holder: LeaseHolder,
    ) -> BoxFuture<'a, Result<Lease, ControlError>> {
        Box::pin(async move {
            // The attempt in it makes this the same wish however often it arrives.
            let body = LeaseRequest::from(holder);
            self.exchange
                .send(&ClientRequest::new(Method::POST, &project_path(project, &["lease"])).with_body(&body), json)
                .await
        })
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let call = ClientRequest::new(Method::PUT, &project_path(&lease.project, &["lease"])).under(lease);
            self.exchange.send(&call, discard_body).await
        })
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let call = ClientRequest::new(Method::DELETE, &project_path(&lease.project, &["lease"])).under(lease).brief();
            self.exchange.send(&call, discard_body).await
        })
    }

    fn set_origin<'a>(
        &'a self,
        lease: &'a Lease,
        origin: &'a str,
        claim: OriginPolicy,
    ) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let body = OriginRequest { origin: origin.to_owned(), claim };
            let call =
                ClientRequest::new(Method::PUT, &project_path(&lease.project, &["origin"])).under(lease).with_body(&body);
            self.exchange.send(&call, discard_body).await
        })
    }

    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: Request,
        notice: ProgressFn<'a>,
    ) -> BoxFuture<'a, Result<OperationOutcome, ControlError>> {
        Box::pin(follow::run(&self.exchange, lease, request, notice))
    }

    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>> {
        Box::pin(async move {
            let path = project_path(project, &["backends", backend.as_str(), "credentials"]);
            let call = ClientRequest::get(&path);
            let call = if let Some(origin) = origin { call.with_query("origin", origin) } else { call };
            let document: CredentialsDocument = self.exchange.send(&call, json).await?;
            Ok(document.into())
        })
    }

    fn logs<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        from: LogPosition,
    ) -> BoxFuture<'a, Result<LogChunk, ControlError>> {
        Box::pin(async move {
            let path = project_path(project, &["backends", backend.as_str(), "logs"]);
            let call = match from {
                LogPosition::Tail(lines) => ClientRequest::get(&path).with_query("tail", lines),
                LogPosition::Byte(byte) => ClientRequest::get(&path).with_query("from", byte),
            };
            self.exchange.send(&call, json).await
        })
    }

    fn history<'a>(&'a self, reach: &'a ResourceLevel, limit: u32) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>> {
        Box::pin(async move {
            self.exchange.send(&ClientRequest::get(&level_path(reach, &["events"])).with_query("limit", limit), json).await
        })
    }

    fn verify_history<'a>(
        &'a self,
        reach: &'a ResourceLevel,
        noted: Option<&'a str>,
    ) -> BoxFuture<'a, Result<HistoryVerification, ControlError>> {
        Box::pin(async move {
            let path = level_path(reach, &["events", "check"]);
            let call = ClientRequest::get(&path);
            let call = match noted {
                Some(hash) => call.with_query("head", hash),
                None => call,
            };
            self.exchange.send(&call, json).await
        })
    }

    fn lease_holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<LeaseHolder>, ControlError>> {
        Box::pin(async move {
            let document: LeaseDocument =
                self.exchange.send(&ClientRequest::get(&project_path(project, &["lease"])), json).await?;
            Ok(document.holder)
        })
    }
}
