//! An authority at home in this process: the shell that carries out its effects.
//!
//! Embedded in the command it is the default control plane; `convexinfra serve` runs the same thing behind HTTP, where
//! operations go on without their client, and so does a Durable Object. What differs between these, rows, a clock and
//! tasks, is behind [`Platform`]. Must not do: decide anything that the authority decides, or print.

mod adopt;
#[cfg(feature = "native")]
mod beside;
#[cfg(feature = "native")]
mod buckets;
#[cfg(not(feature = "native"))]
#[path = "buckets_stub.rs"]
mod buckets;
#[cfg(feature = "native")]
mod conversations;
#[cfg(feature = "native")]
mod data_version;
#[cfg(feature = "native")]
mod database;
#[cfg(not(feature = "native"))]
#[path = "database_stub.rs"]
mod database;
mod effects;
mod environment;
#[cfg(feature = "native")]
mod exchange;
mod executor;
mod findings;
#[cfg(feature = "native")]
mod home;
#[cfg(feature = "native")]
mod home_lock;
mod janitor;
mod journal;
#[cfg(feature = "native")]
mod keep_running;
#[cfg(feature = "native")]
mod key_rotation;
#[cfg(feature = "native")]
mod moves;
#[cfg(not(feature = "native"))]
#[path = "moves_stub.rs"]
mod moves;
#[cfg(feature = "native")]
mod native;
mod observe;
mod platform;
#[cfg(feature = "native")]
mod process;
mod registry;
mod request_check;
#[cfg(feature = "native")]
mod reserve;
mod sample;
#[cfg(feature = "native")]
mod serve;
mod session;
#[cfg(feature = "native")]
mod snapshots;
#[cfg(not(feature = "native"))]
#[path = "snapshots_stub.rs"]
mod snapshots;
#[cfg(feature = "native")]
mod staging;
mod storage;
mod sync;
mod write_limits;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use executor::AcceptedOperation;
#[cfg(feature = "native")]
pub use home::{Home, HomeError};
pub use janitor::SWEEP_INTERVAL;
#[cfg(feature = "native")]
pub use native::NativePlatform;
pub use platform::{HostAuthority, Platform, WriteMode};
#[cfg(feature = "native")]
pub use process::{now, own_holder};
pub use registry::Activity;
pub use sample::{BackendSample, ProjectSample};
#[cfg(feature = "native")]
pub use serve::{KeepRunning, Serving, ServingError};
pub use session::ControlSession;

use crate::api::{Capacity, ControlError, LeaseHolder, PoolUsage};
use crate::authority::{AuthenticatedToken, Authority, AuthorityError, Liveness};
use crate::convex::deployment::DeploymentClient;
use crate::model::{
    Actor, Credential, Diagnostic, Expiry, HostPolicy, OperationId, OperationRecord, ProjectName, ProviderKind,
    ResolvedBackend, Revision, RunState, Secret, Snapshot, Timestamp, Usage,
};
use crate::provider::{Provider, ProviderError};
use crate::store::UnreadableRow;
use registry::OperationRegistry;
use write_limits::WriteLimits;

/// The name that plans give to the control plane in this process.
pub const EMBEDDED: &str = crate::model::ControlPlaneInfo::EMBEDDED;

/// An authority and the providers that carry out its effects.
pub struct Host {
    platform: Box<dyn Platform>,
    name: String,
    providers: Vec<Box<dyn Provider>>,
    connections: DeploymentClient,
    local_binaries: LocalBinaries,
    #[cfg_attr(not(feature = "native"), expect(dead_code, reason = "only a native build talks to database servers"))]
    database_hosts: HostPolicy,
    registry: OperationRegistry,
    client_writes: WriteLimits,
    #[cfg(feature = "native")]
    conversations: conversations::ConversationLimits,
}

/// Describes what a host is made of.
pub struct HostParts {
    /// What it runs on.
    pub platform: Box<dyn Platform>,
    /// The name that plans give to it: [`EMBEDDED`], or a served one's address.
    pub name: String,
    /// Where backends can run.
    pub providers: Vec<Box<dyn Provider>>,
    /// Connections to deployments.
    pub connections: DeploymentClient,
    /// Which executables those who use it may name.
    pub local_binaries: LocalBinaries,
}

/// Says which executables a manifest may name in `[backends.NAME.local]`. They run with the rights of this process, which
/// is nothing new for the user of a command, and everything for the client of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalBinaries {
    /// Any on this machine.
    Any,
    /// None: only published releases run.
    ReleasesOnly,
}

impl Host {
    /// Returns a host made of these parts. Nothing is read or made yet.
    pub fn new(parts: HostParts) -> Self {
        let HostParts { platform, name, providers, connections, local_binaries } = parts;
        let (database_hosts, registry) = (HostPolicy::Any, OperationRegistry::default());
        Self {
            platform,
            name,
            providers,
            connections,
            local_binaries,
            database_hosts,
            registry,
            client_writes: WriteLimits::default(),
            #[cfg(feature = "native")]
            conversations: conversations::ConversationLimits::default(),
        }
    }

    /// Restricts which database servers it connects to.
    #[must_use]
    pub fn with_database_hosts(self, database_hosts: HostPolicy) -> Self {
        Self { database_hosts, ..self }
    }

    /// Returns the control plane as the user of this process uses it.
    pub fn embedded_session(self: &Arc<Self>) -> ControlSession {
        let here = self.platform.own_holder();
        ControlSession::embedded(Arc::clone(self), Actor { token: None, name: format!("{} on {}", here.user, here.host) })
    }

    /// Returns the control plane as the bearer of a token uses it. What the token allows is for the caller to check.
    pub fn session_for(self: &Arc<Self>, actor: Actor) -> ControlSession {
        ControlSession::served(Arc::clone(self), actor)
    }

    /// Returns whose token this is.
    ///
    /// # Errors
    /// [`ControlError::NotAuthorised`] when it opens nothing.
    pub fn authenticate(&self, token: &Secret) -> Result<AuthenticatedToken, ControlError> {
        let bearer = self.read_rows(|authority| authority.authenticate(token, self.now()))?;
        bearer.ok_or_else(|| {
            let message = "this control plane has no tokens yet";
            let help = "make the first one on its machine with\n    convexinfra serve --init";
            ControlError::NotAuthorised(Diagnostic::new("auth.token_unknown", message).with_help(help))
        })
    }

    /// Returns the names of all projects.
    pub fn projects(&self) -> Result<Vec<ProjectName>, ControlError> {
        Ok(self.read_rows(Authority::projects)?.unwrap_or_default())
    }

    /// Returns what all backends of a project ask for together.
    pub fn usage(&self, project: &ProjectName) -> Result<Usage, ControlError> {
        Ok(self.read_rows(|authority| authority.usage(project))?.unwrap_or_default())
    }

    /// Returns one operation of a project.
    pub fn operation(&self, project: &ProjectName, id: &OperationId) -> Result<Option<OperationRecord>, ControlError> {
        Ok(self.read_rows(|authority| authority.operation(project, id))?.flatten())
    }

    /// Returns the last operations of a project, oldest first.
    pub fn operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRecord>, ControlError> {
        Ok(self.read_rows(|authority| authority.operations(project, limit))?.unwrap_or_default())
    }

    /// Returns how many leases are held now.
    pub fn leases(&self) -> Result<usize, ControlError> {
        let now = self.now();
        let unknown = |_: &LeaseHolder| Liveness::Unknown;
        Ok(self.read_rows(|authority| authority.holders(now, unknown).map(|holders| holders.len()))?.unwrap_or_default())
    }

    /// Returns how much of this control plane is used.
    pub fn capacity(&self) -> Result<Capacity, ControlError> {
        let totals = self.read_rows(Authority::totals)?.unwrap_or_default();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Capacity {
            projects: count(totals.projects),
            backends: count(totals.backends),
            port_pairs: PoolUsage { used: count(totals.port_pairs_used), free: count(totals.port_pairs_free) },
            running_operations: self.activity().running,
        })
    }

    /// Whether the store answers.
    pub fn check_store(&self) -> Result<(), ControlError> {
        self.read_rows(|authority| authority.ping()).map(drop)
    }

    /// Returns the rows that are damaged. They are passed over.
    pub fn damaged_rows(&self) -> Result<Vec<UnreadableRow>, ControlError> {
        Ok(self.read_rows(Authority::damaged_rows)?.unwrap_or_default())
    }

    /// Returns how many bytes the store takes on the disk.
    pub fn store_bytes(&self) -> u64 {
        self.platform.store_bytes()
    }

    /// Returns the providers that this control plane can carry out.
    pub fn provider_kinds(&self) -> Vec<ProviderKind> {
        self.providers.iter().map(|provider| provider.kind()).collect()
    }

    /// Asks the authority something that takes long, without holding up other tasks.
    fn read_rows_slowly<T>(
        &self,
        question: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>,
    ) -> Result<Option<T>, ControlError> {
        let (mut question, mut answer) = (Some(question), None);
        self.platform.run_blocking(&mut || answer = question.take().map(|question| self.read_rows(question)));
        answer.unwrap_or(Ok(None))
    }

    /// Reads through the authority, if there is one already. Changes nothing, and waits for no writer.
    fn read_rows<T>(
        &self,
        question: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>,
    ) -> Result<Option<T>, ControlError> {
        let (mut question, mut answer) = (Some(question), None);
        self.platform.read(&mut |authority| {
            if let Some(question) = question.take() {
                answer = Some(question(authority));
            }
        })?;
        Ok(answer.transpose()?)
    }

    /// Tells the authority something that it writes down; makes it where there is none.
    fn write_rows<T>(&self, message: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>) -> Result<T, ControlError> {
        self.write_in_mode(WriteMode::Exclusive, message)
    }

    /// Writes for a request of a client, about one project or none; refused at once where too many of them wait already.
    fn write_for_client<T>(
        &self,
        mode: WriteMode,
        project: Option<&ProjectName>,
        message: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>,
    ) -> Result<T, ControlError> {
        let _permit = self.client_writes.try_acquire(project).map_err(ControlError::Unreachable)?;
        self.write_in_mode(mode, message)
    }

    fn write_in_mode<T>(
        &self,
        beside: WriteMode,
        message: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>,
    ) -> Result<T, ControlError> {
        let (mut message, mut answer) = (Some(message), None);
        self.platform.write(beside, &mut |authority| {
            if let Some(message) = message.take() {
                answer = Some(message(authority));
            }
        })?;
        match answer {
            Some(answer) => Ok(answer?),
            None => Err(ControlError::Record(Diagnostic::new("bug", "nothing was written; this is a bug in convexinfra"))),
        }
    }

    /// Returns the time.
    pub fn now(&self) -> Timestamp {
        self.platform.now()
    }

    /// Returns a time that only grows, to measure with.
    pub fn uptime(&self) -> Duration {
        self.platform.uptime()
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.platform.sleep(duration)
    }

    fn provider(&self, kind: ProviderKind) -> Result<&dyn Provider, Diagnostic> {
        self.providers.iter().find(|provider| provider.kind() == kind).map(AsRef::as_ref).ok_or_else(|| {
            let message = format!("provider `{kind}` is not available in this control plane");
            let unavailable = Diagnostic::new("control.provider_unavailable", message);
            match kind.descriptor().credential {
                Some(Credential { variable, command }) => unavailable
                    .with_help(format!("set `{variable}` for the control plane, to a token that this prints\n    {command}")),
                None => unavailable,
            }
        })
    }

    /// Returns the URL under which this machine reaches a backend, which may differ from that of its clients; its provider may have to open a way
    /// there.
    async fn internal_url(&self, placement: &ResolvedBackend) -> Result<String, ProviderError> {
        if let Ok(provider) = self.provider(placement.spec.provider)
            && let Some(url) = provider.reach(placement).await?
        {
            return Ok(url);
        }
        Ok((placement.spec.provider.descriptor().internal_url)(placement))
    }

    async fn snapshot_of(&self, project: &ProjectName) -> Result<Snapshot, ControlError> {
        let mut snapshot = Snapshot {
            project: project.clone(),
            revision: Revision(0),
            control_plane: crate::model::ControlPlaneInfo {
                name: self.name.clone(),
                providers: self.provider_kinds(),
                expiry: if self.name == EMBEDDED { Expiry::Recorded } else { Expiry::Enforced },
                scope: None,
            },
            origin: None,
            backends: Vec::new(),
            quota: crate::model::Quota::default(),
            operations: Vec::new(),
            retained: Vec::new(),
            expired: std::collections::BTreeMap::new(),
        };
        let Some((view, fingerprints)) =
            self.read_rows(|authority| Ok((authority.view(project)?, authority.vault().fingerprint_key(project))))?
        else {
            return Ok(snapshot);
        };
        snapshot.revision = view.revision;
        snapshot.origin = view.origin;
        snapshot.backends = view.backends;
        snapshot.quota = view.quota;
        snapshot.operations = view.operations;
        snapshot.retained = view.retained;
        snapshot.expired = view.expired;
        if self.name == EMBEDDED {
            for (index, placement) in &view.to_observe {
                let url = self.internal_url(placement).await.ok().filter(|url| !url.is_empty());
                if let Some(backend) = snapshot.backends.get_mut(*index) {
                    backend.internal_url = url;
                }
            }
        }
        for (index, seen) in self.observe_all(&view.to_observe, &fingerprints).await {
            if let Some(backend) = snapshot.backends.get_mut(index) {
                backend.observation = seen.observation;
                backend.unmanaged_env = seen.other_variables;
                backend.observe_error = seen.failed;
                if backend.stopped && backend.observation.state == RunState::Stopped {
                    // It is as it was asked to be.
                    backend.observation.drift.clear();
                }
            }
        }
        self.measure_data(project, &view.to_observe, &mut snapshot);
        Ok(snapshot)
    }
}

/// Returns a panic elsewhere leaves rows as the transaction left them, so what a mutex guards stays usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(feature = "native")]
mod home_tests;
#[cfg(test)]
#[cfg(feature = "native")]
mod janitor_tests;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
