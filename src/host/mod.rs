//! An authority at home in this process: the shell that carries out its effects.
//!
//! Embedded in the command it is the default control plane; `convexinfra serve` runs the same thing behind HTTP, where
//! operations go on without their client, and so does a Durable Object. What differs between these, rows, a clock and
//! tasks, is behind [`Platform`]. Must not do: decide anything that the authority decides, or print.

mod acting;
mod adopt;
#[cfg(feature = "native")]
mod database;
#[cfg(not(feature = "native"))]
#[path = "database_unreached.rs"]
mod database;
mod drive;
mod environment;
#[cfg(feature = "native")]
mod home;
#[cfg(feature = "native")]
mod machine;
mod observe;
#[cfg(feature = "native")]
mod occupancy;
mod perform;
mod platform;
#[cfg(feature = "native")]
mod process;
mod replica;
#[cfg(feature = "native")]
mod serve;
mod sweep;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use acting::Acting;
pub use drive::{Activity, Started};
#[cfg(feature = "native")]
pub use home::{Home, HomeError};
#[cfg(feature = "native")]
pub use machine::{Machine, now};
pub use platform::{Beside, HostAuthority, Platform};
#[cfg(feature = "native")]
pub use process::here;
#[cfg(feature = "native")]
pub use serve::{Serving, ServingError};
pub use sweep::SWEEP_EVERY;

use crate::authority::{Authority, AuthorityError, Bearer, Liveness};
use crate::control::{Capacity, ControlError, Holder, Used};
use crate::convex::deployment::Connections;
use crate::model::{
    Actor, Expiry, Finding, OperationId, OperationRecord, Placement, ProjectName, ProviderKind, REACH, Revision, Secret,
    Snapshot, Timestamp, Usage,
};
use crate::provider::Provider;
use drive::Drivers;

/// The name that plans give to the control plane in this process.
pub const EMBEDDED: &str = crate::model::ControlPlane::EMBEDDED;

/// An authority and the providers that carry out its effects.
pub struct Host {
    platform: Box<dyn Platform>,
    name: String,
    providers: Vec<Box<dyn Provider>>,
    connections: Connections,
    local_binaries: LocalBinaries,
    drivers: Drivers,
}

/// What a host is made of.
pub struct HostParts {
    /// What it runs on.
    pub platform: Box<dyn Platform>,
    /// The name that plans give to it: [`EMBEDDED`], or a served one's address.
    pub name: String,
    /// Where backends can run.
    pub providers: Vec<Box<dyn Provider>>,
    /// Connections to deployments.
    pub connections: Connections,
    /// Which executables those who use it may name.
    pub local_binaries: LocalBinaries,
}

/// Which executables a manifest may name in `[backends.NAME.local]`. Whoever may name one runs it with the rights of this
/// process, which is nothing new for the user of a command, and everything for the client of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalBinaries {
    /// Any on this machine.
    Any,
    /// None: only published releases run.
    ReleasesOnly,
}

impl Host {
    /// A host made of these parts. Nothing is read or made yet.
    pub fn new(parts: HostParts) -> Self {
        let HostParts { platform, name, providers, connections, local_binaries } = parts;
        Self { platform, name, providers, connections, local_binaries, drivers: Drivers::default() }
    }

    /// The control plane as somebody uses it from this very process.
    pub fn embedded(self: &Arc<Self>) -> Acting {
        let here = self.platform.here();
        Acting::embedded(Arc::clone(self), Actor { token: None, name: format!("{} on {}", here.user, here.host) })
    }

    /// The control plane as the bearer of a token uses it. What the token allows is for the caller to check.
    pub fn acting_as(self: &Arc<Self>, actor: Actor) -> Acting {
        Acting::served(Arc::clone(self), actor)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// [`ControlError::NotAuthorised`] when it opens nothing.
    pub fn authenticate(&self, token: &Secret) -> Result<Bearer, ControlError> {
        let bearer = self.ask(|authority| authority.authenticate(token, self.now()))?;
        bearer.ok_or_else(|| {
            let message = "this control plane has no tokens yet";
            let help = "make the first one on its machine with\n    convexinfra serve --init";
            ControlError::NotAuthorised(Finding::new("auth.token_unknown", message).with_help(help))
        })
    }

    /// The names of all projects.
    pub fn projects(&self) -> Result<Vec<ProjectName>, ControlError> {
        Ok(self.ask(Authority::projects)?.unwrap_or_default())
    }

    /// What all backends of a project ask for together.
    pub fn usage(&self, project: &ProjectName) -> Result<Usage, ControlError> {
        Ok(self.ask(|authority| authority.usage(project))?.unwrap_or_default())
    }

    /// One operation of a project.
    pub fn operation(&self, project: &ProjectName, id: &OperationId) -> Result<Option<OperationRecord>, ControlError> {
        Ok(self.ask(|authority| authority.operation(project, id))?.flatten())
    }

    /// The last operations of a project, oldest first.
    pub fn operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRecord>, ControlError> {
        Ok(self.ask(|authority| authority.operations(project, limit))?.unwrap_or_default())
    }

    /// How many projects somebody is changing now.
    pub fn leases(&self) -> Result<usize, ControlError> {
        let now = self.now();
        let unknown = |_: &Holder| Liveness::Unknown;
        Ok(self.ask(|authority| authority.holders(now, unknown).map(|holders| holders.len()))?.unwrap_or_default())
    }

    /// How much of this control plane is used.
    pub fn capacity(&self) -> Result<Capacity, ControlError> {
        let totals = self.ask(Authority::totals)?.unwrap_or_default();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Capacity {
            projects: count(totals.projects),
            backends: count(totals.backends),
            port_pairs: Used { used: count(totals.port_pairs_used), free: count(totals.port_pairs_free) },
            running_operations: self.activity().running,
        })
    }

    /// Whether the store answers.
    pub fn check(&self) -> Result<(), ControlError> {
        self.ask(|authority| authority.projects().map(drop)).map(drop)
    }

    /// How many bytes the store takes on the disk.
    pub fn store_bytes(&self) -> u64 {
        self.platform.store_bytes()
    }

    /// The providers that this control plane can carry out.
    pub fn provider_kinds(&self) -> Vec<ProviderKind> {
        self.providers.iter().map(|provider| provider.kind()).collect()
    }

    /// Asks the authority, if there is one already. Changes nothing, and waits for nobody who writes.
    fn ask<T>(&self, question: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>) -> Result<Option<T>, ControlError> {
        let (mut question, mut answer) = (Some(question), None);
        self.platform.ask(&mut |authority| {
            if let Some(question) = question.take() {
                answer = Some(question(authority));
            }
        })?;
        Ok(answer.transpose()?)
    }

    /// Tells the authority something that it writes down; makes it where there is none.
    fn tell<T>(&self, message: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>) -> Result<T, ControlError> {
        self.write(Beside::Commands, message)
    }

    /// The same for what does no harm beside a server that has this home: tokens and quotas are read anew every time.
    fn tell_beside_others<T>(
        &self,
        message: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>,
    ) -> Result<T, ControlError> {
        self.write(Beside::Anybody, message)
    }

    fn write<T>(
        &self,
        beside: Beside,
        message: impl FnOnce(&HostAuthority) -> Result<T, AuthorityError>,
    ) -> Result<T, ControlError> {
        let (mut message, mut answer) = (Some(message), None);
        self.platform.tell(beside, &mut |authority| {
            if let Some(message) = message.take() {
                answer = Some(message(authority));
            }
        })?;
        match answer {
            Some(answer) => Ok(answer?),
            None => Err(ControlError::Record(Finding::new("bug", "nothing was written; this is a bug in convexinfra"))),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.platform.now()
    }

    /// A time that only grows, to measure with.
    pub fn uptime(&self) -> Duration {
        self.platform.uptime()
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.platform.sleep(duration)
    }

    fn provider(&self, kind: ProviderKind) -> Result<&dyn Provider, Finding> {
        self.providers.iter().find(|provider| provider.kind() == kind).map(AsRef::as_ref).ok_or_else(|| {
            Finding::new("control.provider_unavailable", format!("provider `{kind}` is not available in this control plane"))
        })
    }

    /// The URL under which this machine reaches a backend, whatever its clients use.
    fn reach(placement: &Placement) -> String {
        match placement.spec.provider {
            ProviderKind::Simulated | ProviderKind::Local => format!("http://127.0.0.1:{}", placement.ports.api),
            ProviderKind::Docker | ProviderKind::Fly | ProviderKind::Kubernetes => {
                placement.references.get(REACH).unwrap_or(&placement.endpoints.url).clone()
            }
        }
    }

    async fn snapshot_of(&self, project: &ProjectName) -> Result<Snapshot, ControlError> {
        let mut snapshot = Snapshot {
            project: project.clone(),
            revision: Revision(0),
            control_plane: crate::model::ControlPlane {
                name: self.name.clone(),
                providers: self.provider_kinds(),
                expiry: if self.name == EMBEDDED { Expiry::Recorded } else { Expiry::Enforced },
                scope: None,
            },
            origin: None,
            backends: Vec::new(),
            quota: crate::model::Quota::default(),
            operations: Vec::new(),
        };
        let Some((view, fingerprints)) =
            self.ask(|authority| Ok((authority.view(project)?, authority.vault().fingerprint_key(project))))?
        else {
            return Ok(snapshot);
        };
        snapshot.revision = view.revision;
        snapshot.origin = view.origin;
        snapshot.backends = view.backends;
        snapshot.quota = view.quota;
        snapshot.operations = view.operations;
        for (index, seen) in self.observe_all(&view.to_observe, &fingerprints).await {
            if let Some(backend) = snapshot.backends.get_mut(index) {
                backend.observation = seen.observation;
                backend.other_variables = seen.other_variables;
                backend.unseen = seen.failed;
            }
        }
        Ok(snapshot)
    }
}

/// A panic elsewhere leaves rows as the transaction left them, so what a mutex guards stays usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
