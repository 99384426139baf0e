//! A control plane behind HTTP: the same port, so that commands cannot tell it from the embedded one.
//!
//! What is safe to repeat is repeated until the control plane answers: reading, requests with a key or a fence, and
//! requests that end in the same state however often they arrive. What is not, making a token, is sent once.
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

use async_trait::async_trait;

pub use connection::{ControlPlaneUrl, ControlPlaneUrlError};

use super::wire::{CredentialsDocument, FingerprintKeyDocument, LeaseDocument, LeaseRequest, OriginRequest};
use super::{
    ControlError, ControlPlane, Credentials, HistoryEntry, HistoryPage, HistoryVerification, IfMissing, Lease, LeaseHolder,
    LogChunk, LogPosition, OperationOutcome, OperationRequest, OriginPolicy, Preflight, ProgressFn, ResourceLevel, endpoints,
};
use crate::model::{BackendName, FingerprintKey, ProjectName, Secret, Snapshot};
use connection::Connection;
use retrying_client::{ClientRequest, RetryingClient, discard_body, json};

/// Where the token comes from. It is asked once, when something is first sent.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// Returns the token.
    async fn token(&self) -> Result<Secret, ControlError>;
}

/// Says how long to wait for what.
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

/// Describes what a client is made of.
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
    /// Returns a client for a control plane. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ControlError::Unreachable`] when the certificates cannot be used.
    pub fn new(parts: ClientConfig) -> Result<Self, ControlError> {
        let connection = Connection::new(parts.url, parts.certificates, parts.timeouts)?;
        Ok(Self { exchange: RetryingClient::new(connection, parts.token, parts.on_wait), keys: Mutex::default() })
    }
}

#[async_trait]
impl ControlPlane for HttpControlPlane {
    async fn snapshot(&self, project: &ProjectName) -> Result<Snapshot, ControlError> {
        let mut snapshot: Snapshot =
            self.exchange.send(&ClientRequest::new(&endpoints::GET_PROJECT, &[project.as_str()]), json).await?;
        // Plans name it as the user did.
        snapshot.control_plane.name = self.exchange.url().to_string();
        Ok(snapshot)
    }

    async fn projects(&self) -> Result<Vec<ProjectName>, ControlError> {
        self.exchange.send(&ClientRequest::new(&endpoints::LIST_PROJECTS, &[]), json).await
    }

    async fn fingerprint_key(&self, project: &ProjectName, _: IfMissing) -> Result<Option<FingerprintKey>, ControlError> {
        let known = || self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known().get(project) {
            return Ok(Some(key.clone()));
        }
        let read = |body: &[u8]| {
            let document: FingerprintKeyDocument = json(body)?;
            let key = FingerprintKey::from_hex(document.key.0.expose());
            key.ok_or_else(|| "the fingerprint key is not 64 hex digits".to_owned())
        };
        let key = self.exchange.send(&ClientRequest::new(&endpoints::GET_FINGERPRINT_KEY, &[project.as_str()]), read).await?;
        known().insert(project.clone(), key.clone());
        Ok(Some(key))
    }

    async fn acquire_lease(&self, project: &ProjectName, holder: LeaseHolder) -> Result<Lease, ControlError> {
        // The attempt in it makes this the same wish however often it arrives.
        let body = LeaseRequest::from(holder);
        self.exchange.send(&ClientRequest::new(&endpoints::ACQUIRE_LEASE, &[project.as_str()]).with_body(&body), json).await
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<(), ControlError> {
        let call = ClientRequest::new(&endpoints::RENEW_LEASE, &[lease.project.as_str()]).under(lease);
        self.exchange.send(&call, discard_body).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), ControlError> {
        let call = ClientRequest::new(&endpoints::RELEASE_LEASE, &[lease.project.as_str()]).under(lease).brief();
        self.exchange.send(&call, discard_body).await
    }

    async fn set_origin(&self, lease: &Lease, origin: &str, claim: OriginPolicy) -> Result<(), ControlError> {
        let body = OriginRequest { origin: origin.to_owned(), claim };
        let call = ClientRequest::new(&endpoints::PUT_ORIGIN, &[lease.project.as_str()]).under(lease).with_body(&body);
        self.exchange.send(&call, discard_body).await
    }

    async fn preflight(&self, project: &ProjectName, request: &OperationRequest) -> Result<Preflight, ControlError> {
        let call = ClientRequest::new(&endpoints::PREFLIGHT, &[project.as_str()]);
        self.exchange.send(&call.with_body(request), json).await
    }

    async fn run(
        &self,
        lease: &Lease,
        request: OperationRequest,
        notice: ProgressFn<'_>,
    ) -> Result<OperationOutcome, ControlError> {
        follow::run(&self.exchange, lease, request, notice).await
    }

    async fn credentials(
        &self,
        project: &ProjectName,
        backend: &BackendName,
        origin: Option<&str>,
    ) -> Result<Credentials, ControlError> {
        let call = ClientRequest::new(&endpoints::GET_CREDENTIALS, &[project.as_str(), backend.as_str()]);
        let call = if let Some(origin) = origin { call.with_query(&endpoints::ORIGIN, origin) } else { call };
        let document: CredentialsDocument = self.exchange.send(&call, json).await?;
        Ok(document.into())
    }

    async fn logs(&self, project: &ProjectName, backend: &BackendName, from: LogPosition) -> Result<LogChunk, ControlError> {
        let request = ClientRequest::new(&endpoints::READ_LOGS, &[project.as_str(), backend.as_str()]);
        let call = match from {
            LogPosition::Tail(lines) => request.with_query(&endpoints::TAIL, lines),
            LogPosition::Byte(byte) => request.with_query(&endpoints::FROM, byte),
        };
        self.exchange.send(&call, json).await
    }

    async fn history(&self, level: &ResourceLevel, page: HistoryPage) -> Result<Vec<HistoryEntry>, ControlError> {
        let HistoryPage { limit, mut before } = page;
        let (mut entries, mut left) = (Vec::new(), u64::from(limit));
        while left > 0 {
            let asked = left.min(endpoints::MAX_PAGE);
            let call = ClientRequest::at_level(level, &endpoints::LIST_EVENTS, &endpoints::LIST_ALL_EVENTS);
            let call = call.with_query(&endpoints::EVENT_LIMIT, asked);
            let call = match before {
                Some(before) => call.with_query(&endpoints::EVENT_BEFORE, before),
                None => call,
            };
            let mut earlier: Vec<HistoryEntry> = self.exchange.send(&call, json).await?;
            let count = earlier.len() as u64;
            // A server of an earlier release answers with its last entries again.
            let is_new = earlier.first().is_some_and(|first| before.is_none_or(|before| first.sequence < before));
            if !is_new {
                break;
            }
            before = earlier.first().map(|entry| entry.sequence);
            earlier.append(&mut entries);
            entries = earlier;
            left = if count < asked { 0 } else { left.saturating_sub(count) };
        }
        Ok(entries)
    }

    async fn verify_history(&self, reach: &ResourceLevel, noted: Option<&str>) -> Result<HistoryVerification, ControlError> {
        let call = ClientRequest::at_level(reach, &endpoints::CHECK_EVENTS, &endpoints::CHECK_ALL_EVENTS);
        let call = match noted {
            Some(hash) => call.with_query(&endpoints::EVENT_HEAD, hash),
            None => call,
        };
        self.exchange.send(&call, json).await
    }

    async fn lease_holder(&self, project: &ProjectName) -> Result<Option<LeaseHolder>, ControlError> {
        let document: LeaseDocument =
            self.exchange.send(&ClientRequest::new(&endpoints::GET_LEASE, &[project.as_str()]), json).await?;
        Ok(document.holder)
    }
}
