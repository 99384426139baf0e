//! A control plane behind HTTP: the same port, so that commands cannot tell it from the embedded one.
//!
//! What is safe to repeat is repeated until the control plane answers: reading, whatever carries a key or a fence, and
//! whatever ends in the same state however often it arrives. What is not, making a token, is sent once.
//!
//! Must not do: decide anything that the control plane decides, follow a redirect, or let the token out of the header
//! that it belongs in.

mod administration;
mod answer;
mod backoff;
mod connection;
mod event_stream;
mod exchange;
mod follow;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Method;

pub use connection::{ControlPlaneUrl, ControlPlaneUrlError};

use super::wire::{CredentialsDocument, FingerprintKeyDocument, LeaseDocument, LeaseRequest, OriginRequest};
use super::{
    Claim, ControlError, ControlPlane, Credentials, HistoryCheck, HistoryEntry, Holder, KeyNeed, Lease, LogFrom, LogPiece,
    Notice, Outcome, Reach, Request,
};
use crate::model::{BackendName, FingerprintKey, ProjectName, Secret, Snapshot};
use connection::Connection;
use exchange::{Call, Exchange, ignored, json};

/// Where the token comes from. It is asked once, when something is first sent.
pub trait TokenSource: Send + Sync {
    /// The token.
    fn token(&self) -> BoxFuture<'_, Result<Secret, ControlError>>;
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For a control plane that has not answered yet: who mistyped its URL should hear of it soon.
    pub first_answer: Duration,
    /// For one that has answered and does not any more: it may be starting anew, and what was begun should end.
    pub return_to_work: Duration,
    /// For a connection.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub read: Duration,
    /// For the next byte of an event stream, which has a heartbeat; after that it is taken for broken on the way.
    pub silence: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            first_answer: Duration::from_secs(5),
            return_to_work: Duration::from_secs(90),
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            silence: Duration::from_secs(25),
        }
    }
}

/// What a client is made of.
pub struct HttpParts {
    /// Where the control plane is.
    pub url: ControlPlaneUrl,
    /// Where the token comes from.
    pub token: Box<dyn TokenSource>,
    /// Certificates to trust besides the system's, as PEM.
    pub certificates: Option<Vec<u8>>,
    /// How long to wait for what.
    pub waits: Waits,
    /// Hears that an answer is a long time coming, where no operation is there to hear it.
    pub waiting: Box<dyn Fn(String) + Send + Sync>,
}

/// A control plane behind HTTP.
pub struct HttpControlPlane {
    exchange: Exchange,
    keys: Mutex<BTreeMap<ProjectName, FingerprintKey>>,
}

impl HttpControlPlane {
    /// A client for a control plane. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ControlError::Unreachable`] when the certificates cannot be used.
    pub fn new(parts: HttpParts) -> Result<Self, ControlError> {
        let connection = Connection::new(parts.url, parts.certificates, parts.waits)?;
        Ok(Self { exchange: Exchange::new(connection, parts.token, parts.waiting), keys: Mutex::default() })
    }
}

/// A path below one project.
fn of_project<'a>(project: &'a ProjectName, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["projects", project.as_str()];
    path.extend_from_slice(rest);
    path
}

/// A path below one project, or below the control plane as a whole.
fn within<'a>(reach: &'a Reach, rest: &[&'a str]) -> Vec<&'a str> {
    reach.project().map_or_else(|| rest.to_vec(), |project| of_project(project, rest))
}

impl ControlPlane for HttpControlPlane {
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>> {
        Box::pin(async move {
            let mut snapshot: Snapshot = self.exchange.send(&Call::get(&of_project(project, &[])), json).await?;
            // Plans name it as the user did.
            snapshot.control_plane.name = self.exchange.url().to_string();
            Ok(snapshot)
        })
    }

    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        _: KeyNeed,
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
            let key = self.exchange.send(&Call::get(&of_project(project, &["fingerprint-key"])), read).await?;
            known().insert(project.clone(), key.clone());
            Ok(Some(key))
        })
    }

    fn acquire<'a>(&'a self, project: &'a ProjectName, holder: Holder) -> BoxFuture<'a, Result<Lease, ControlError>> {
        Box::pin(async move {
            // The attempt in it makes this the same wish however often it arrives.
            let body = LeaseRequest::from(holder);
            self.exchange.send(&Call::new(Method::POST, &of_project(project, &["lease"])).with_body(&body), json).await
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let call = Call::new(Method::PUT, &of_project(&lease.project, &["lease"])).under(lease);
            self.exchange.send(&call, ignored).await
        })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let call = Call::new(Method::DELETE, &of_project(&lease.project, &["lease"])).under(lease).not_worth_waiting_for();
            self.exchange.send(&call, ignored).await
        })
    }

    fn settle<'a>(&'a self, lease: &'a Lease, origin: &'a str, claim: Claim) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let body = OriginRequest { origin: origin.to_owned(), claim };
            let call = Call::new(Method::PUT, &of_project(&lease.project, &["origin"])).under(lease).with_body(&body);
            self.exchange.send(&call, ignored).await
        })
    }

    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: Request,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<Outcome, ControlError>> {
        Box::pin(follow::run(&self.exchange, lease, request, notice))
    }

    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>> {
        Box::pin(async move {
            let path = of_project(project, &["backends", backend.as_str(), "credentials"]);
            let document: CredentialsDocument = self.exchange.send(&Call::get(&path), json).await?;
            Ok(document.into())
        })
    }

    fn logs<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        from: LogFrom,
    ) -> BoxFuture<'a, Result<LogPiece, ControlError>> {
        Box::pin(async move {
            let path = of_project(project, &["backends", backend.as_str(), "logs"]);
            let call = match from {
                LogFrom::Tail(lines) => Call::get(&path).with_query("tail", lines),
                LogFrom::Byte(byte) => Call::get(&path).with_query("from", byte),
            };
            self.exchange.send(&call, json).await
        })
    }

    fn history<'a>(&'a self, reach: &'a Reach, limit: u32) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>> {
        Box::pin(
            async move { self.exchange.send(&Call::get(&within(reach, &["events"])).with_query("limit", limit), json).await },
        )
    }

    fn check_history<'a>(
        &'a self,
        reach: &'a Reach,
        noted: Option<&'a str>,
    ) -> BoxFuture<'a, Result<HistoryCheck, ControlError>> {
        Box::pin(async move {
            let path = within(reach, &["events", "check"]);
            let call = Call::get(&path);
            let call = match noted {
                Some(hash) => call.with_query("head", hash),
                None => call,
            };
            self.exchange.send(&call, json).await
        })
    }

    fn holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<Holder>, ControlError>> {
        Box::pin(async move {
            let document: LeaseDocument = self.exchange.send(&Call::get(&of_project(project, &["lease"])), json).await?;
            Ok(document.holder)
        })
    }
}
