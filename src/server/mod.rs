//! The control plane behind HTTP: routes, tokens, limits, logs and figures over a [`Host`].
//!
//! [`crate::api::endpoints`] says for each path who may ask, what is read and what can come back; the router, the access
//! checks and the OpenAPI document are made of it.
//!
//! Must not do: decide anything that the authority decides, or let a secret into a log, a metric or an error.

mod access_log;
mod auth;
#[cfg(feature = "native")]
mod connection;
#[cfg(feature = "native")]
mod connections;
mod error_response;
mod extract;
mod fleet_metrics;
mod ingress;
#[cfg(feature = "native")]
mod listen;
#[cfg(feature = "native")]
mod logging;
mod metrics;
mod openapi;
mod origin;
mod path_param;
mod rate_limits;
mod refusal_limiter;
#[cfg(feature = "native")]
mod response_body;
mod router;
mod routes;
#[cfg(feature = "native")]
mod tls;
mod unique_keys;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};

pub use access_log::request_id;
pub use auth::bearer_token;
pub use ingress::{Shard, belongs_to, is_known_path, shard};
#[cfg(feature = "native")]
pub use listen::{BoundListener, ListenError, ListenOptions, serve_metrics};
#[cfg(feature = "native")]
pub use logging::{LogFormat, start as start_logging};
pub use openapi::document as openapi;
pub use refusal_limiter::RefusalLimiter;
pub use router::router;
pub use routes::health;
#[cfg(feature = "native")]
pub use tls::{Certificate, TlsError};

use crate::api::{ControlError, TokenOrigin};
use crate::host::{Host, ProjectSample};
use crate::model::{Diagnostic, ProjectName, TokenId};
use error_response::ErrorResponse;
use metrics::Metrics;
use rate_limits::{KeyedLimiter, KnownTokens, OpenStreams};

/// The number of refused tokens that one address may show at once.
const REFUSALS_AT_ONCE: f64 = 64.0;
/// The number of refused tokens that one address may show per second after that.
const REFUSALS_PER_SECOND: f64 = 16.0;
/// How long what runs is not sampled again: some providers are asked over the network.
const SAMPLE_AGE: Duration = Duration::from_secs(30);

/// The number of seconds of its rate that a token may use at once.
const BURST_FACTOR: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Describes what one client may ask of a server.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// How large the body of a request may be, in bytes.
    pub body: usize,
    /// How long a request may take, from its head to the head of its answer, and its body to arrive.
    pub request: Duration,
    /// How many requests a second one token may send; twice as many at once. Without the feature `native` there is no clock
    /// to count by, and the gateway in front limits.
    pub rate: Option<NonZeroU32>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { body: 4 << 20, request: Duration::from_secs(30), rate: NonZeroU32::new(1000) }
    }
}

/// Says where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerPhase {
    /// It takes work.
    Serving,
    /// It takes no more work, and finishes what runs.
    Draining,
    /// It closes what is still open.
    Closing,
}

/// Says which projects have their rows where a server looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardRole {
    /// All of them, or the one that requests are sent here for.
    Projects,
    /// None: this shard has all tokens and the default ceilings, and every project has a shard of its own.
    Directory,
}

/// Describes what runs, at a moment.
struct Samples {
    taken_at: Duration,
    projects: Vec<ProjectSample>,
}

/// A host with what its routes need beside it.
pub struct ApiServer {
    host: Arc<Host>,
    shard_role: ShardRole,
    limits: RequestLimits,
    /// The origins that tokens issued here are bound to; empty to bind them to the one that the request came to.
    public_origins: Vec<TokenOrigin>,
    /// The rate of requests of each token.
    rate_limiter: Option<KeyedLimiter<TokenId>>,
    /// The rate at which each address shows tokens that are not known to be good.
    refusal_limiter: Option<std::sync::Mutex<RefusalLimiter>>,
    known_tokens: KnownTokens,
    streams: Arc<OpenStreams>,
    /// Histories are verified one after another: each takes a core for a while.
    verifications: Semaphore,
    metrics: Metrics,
    /// What runs, as it was last sampled, and when that was.
    samples: Mutex<Option<Samples>>,
    phase: watch::Sender<ServerPhase>,
}

impl ApiServer {
    /// Returns a server over this host. It does not listen yet.
    ///
    /// # Errors
    /// Its figures cannot be registered, which would be a bug.
    pub fn new(host: Arc<Host>, shard_role: ShardRole, limits: RequestLimits) -> Result<Arc<Self>, prometheus::Error> {
        Self::with_origins(host, shard_role, limits, Vec::new())
    }

    /// Makes a server whose tokens are bound to these origins, the URLs that clients know it by.
    ///
    /// # Errors
    /// Its metrics cannot be registered, which would be a bug.
    pub fn with_origins(
        host: Arc<Host>,
        shard_role: ShardRole,
        limits: RequestLimits,
        public_origins: Vec<TokenOrigin>,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let burst = |rate: NonZeroU32| rate.saturating_mul(BURST_FACTOR);
        let rate_limiter = limits.rate.map(|rate| KeyedLimiter::new(rate, burst(rate), &host));
        let refusal_limiter =
            limits.rate.map(|_| std::sync::Mutex::new(RefusalLimiter::new(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)));
        Ok(Arc::new(Self {
            host,
            shard_role,
            limits,
            public_origins,
            rate_limiter,
            refusal_limiter,
            known_tokens: KnownTokens::default(),
            streams: Arc::default(),
            verifications: Semaphore::new(1),
            metrics: Metrics::new()?,
            samples: Mutex::default(),
            phase: watch::Sender::new(ServerPhase::Serving),
        }))
    }

    /// Waits until a history may be verified.
    async fn verification_permit(&self) -> Result<SemaphorePermit<'_>, ErrorResponse> {
        self.verifications.acquire().await.map_err(|_| ErrorResponse::bug())
    }

    /// Refuses a request about a project of another shard. The gateway routes requests, so this is a bug.
    fn check_shard(&self, project: Option<&ProjectName>) -> Result<(), ErrorResponse> {
        match (self.shard_role, project) {
            (ShardRole::Projects, _) | (ShardRole::Directory, None) => Ok(()),
            (ShardRole::Directory, Some(project)) => {
                let message = format!("a request about `{project}` came to the directory; this is a bug in convexinfra");
                Err(ControlError::Record(Diagnostic::new("bug", message)).into())
            }
        }
    }

    /// Returns where it is in its life.
    pub fn phase(&self) -> ServerPhase {
        *self.phase.borrow()
    }

    /// Goes on to the next part of its life; never back.
    pub fn set_phase(&self, phase: ServerPhase) {
        self.phase.send_replace(phase);
    }

    /// Samples what runs, unless that was done a moment ago.
    pub async fn refresh_samples(&self) {
        let mut samples = self.samples.lock().await;
        let now = self.host.uptime();
        if samples.as_ref().is_some_and(|found| now.saturating_sub(found.taken_at) < SAMPLE_AGE) {
            return;
        }
        if let Ok(projects) = self.host.sample().await {
            *samples = Some(Samples { taken_at: now, projects });
        }
    }

    /// Returns its figures, in the text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        let samples = self.samples.try_lock();
        let projects = samples.ok().and_then(|samples| samples.as_ref().map(|found| found.projects.clone()));
        self.metrics.render(&self.host, projects.as_deref())
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod connection_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod scope_tests;
#[cfg(test)]
mod tests;
