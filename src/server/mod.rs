//! The control plane behind HTTP: routes, tokens, limits, logs and figures over a [`Host`].
//!
//! One table of routes says for each path who may ask, what is read and what can come back; the router, the guard and
//! the OpenAPI document are all made of it.
//!
//! Must not do: decide anything that the authority decides, or let a secret into a log, a figure or an error.

mod guard;
mod input;
#[cfg(feature = "native")]
mod listen;
#[cfg(feature = "native")]
mod logging;
mod metrics;
mod openapi;
mod problem;
mod record;
mod resource;
mod route;
mod router;
#[cfg(feature = "native")]
mod tls;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

#[cfg(feature = "native")]
pub use listen::{Bound, Listen, ListenError, serve_metrics};
#[cfg(feature = "native")]
pub use logging::{LogFormat, start as start_logging};
pub use openapi::document as openapi;
pub use router::router;
#[cfg(feature = "native")]
pub use tls::{Certificate, TlsError};

use crate::control::ControlError;
use crate::host::Host;
use crate::model::{Finding, ProjectName};
use guard::Rates;
use metrics::Metrics;
use problem::Problem;

/// What one client may ask of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How large the body of a request may be, in bytes.
    pub body: usize,
    /// How long a request may take, from its head to the head of its answer, and its body to arrive.
    pub request: Duration,
    /// How many requests a second one token may send; twice as many at once. Without the feature `native` there is no
    /// clock to count by, and whoever stands in front limits.
    pub rate: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 4 << 20, request: Duration::from_secs(30), rate: NonZeroU32::new(1000) }
    }
}

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes work.
    Serving,
    /// It takes no more work, and finishes what runs.
    Draining,
    /// It closes what is still open.
    Closing,
}

/// Which projects have their rows where a server looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Territory {
    /// All of them, or the one that requests are sent here for.
    Projects,
    /// None: here are the tokens and the ceilings of everybody, and every project has rows of its own elsewhere.
    Directory,
}

/// A host with what its routes need beside it.
pub struct Server {
    host: Arc<Host>,
    territory: Territory,
    limits: Limits,
    rates: Option<Rates>,
    metrics: Metrics,
    phase: watch::Sender<Phase>,
}

impl Server {
    /// A server over this host. It listens to nobody yet.
    ///
    /// # Errors
    /// Its figures cannot be registered, which would be a bug.
    pub fn new(host: Arc<Host>, territory: Territory, limits: Limits) -> Result<Arc<Self>, prometheus::Error> {
        let rates = limits.rate.map(|rate| guard::rates(rate, Arc::clone(&host)));
        let phase = watch::Sender::new(Phase::Serving);
        Ok(Arc::new(Self { host, territory, limits, rates, metrics: Metrics::new()?, phase }))
    }

    /// Refuses what is about a project whose rows are elsewhere: two places would say what is so. Whoever sends requests
    /// on has to know better, so this is a bug.
    fn has_rows_of(&self, project: Option<&ProjectName>) -> Result<(), Problem> {
        match (self.territory, project) {
            (Territory::Projects, _) | (Territory::Directory, None) => Ok(()),
            (Territory::Directory, Some(project)) => {
                let message = format!("a request about `{project}` came to the directory; this is a bug in convexinfra");
                Err(ControlError::Record(Finding::new("bug", message)).into())
            }
        }
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to the next part of its life; never back.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Its figures, in the text format of Prometheus.
    pub fn figures(&self) -> String {
        self.metrics.text(&self.host)
    }
}

#[cfg(test)]
mod tests;
