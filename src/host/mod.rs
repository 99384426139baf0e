//! An authority at home in this process: the shell that carries out its effects on this machine.
//!
//! Embedded in the command it is the default control plane; `convexinfra serve` runs the same thing behind HTTP, where
//! operations go on without their client. Must not do: decide anything that the authority decides, or print.

mod acting;
mod adopt;
mod database;
mod drive;
mod environment;
mod home;
mod observe;
mod occupancy;
mod perform;
mod process;
mod serve;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use acting::Acting;
pub use drive::{Activity, Started};
pub use home::{Home, HomeError};
pub use process::here;
pub use serve::{Serving, ServingError};

use crate::authority::{Authority, AuthorityError, Bearer, EntropyError, Vault, store_finding};
use crate::control::{Capacity, ControlError, Used};
use crate::convex::deployment::Connections;
use crate::model::{
    Actor, Expiry, Finding, OperationId, OperationRecord, Placement, ProjectName, ProviderKind, REACH, Revision, Secret,
    Snapshot, Timestamp, Usage,
};
use crate::provider::Provider;
use crate::store::SqliteStore;
use drive::Drivers;
use occupancy::Occupancy;

/// The name that plans give to the control plane in this process.
pub const EMBEDDED: &str = crate::model::ControlPlane::EMBEDDED;

/// How many connections to the store are kept for reading.
const MOST_READERS: usize = 16;

/// An authority and the providers that carry out its effects.
pub struct Host {
    home: Home,
    name: String,
    providers: Vec<Box<dyn Provider>>,
    connections: Connections,
    first_port: Option<u16>,
    local_binaries: LocalBinaries,
    /// Opened when something is first written.
    writer: Mutex<Option<Authority<SqliteStore>>>,
    /// Opened when something is read and all others are in use; readers do not wait for a writer.
    readers: Mutex<Vec<Authority<SqliteStore>>>,
    /// Who else may write in this home, held from the first write on.
    occupancy: OnceLock<Occupancy>,
    drivers: Drivers,
}

/// What a host is made of.
pub struct HostParts {
    /// Its directory.
    pub directory: PathBuf,
    /// The name that plans give to it: [`EMBEDDED`], or a served one's address.
    pub name: String,
    /// The master key from outside, instead of the one in the directory.
    pub master_key: Option<Secret>,
    /// Where backends can run.
    pub providers: Vec<Box<dyn Provider>>,
    /// Connections to deployments.
    pub connections: Connections,
    /// The first port to hand out, where it should not be the usual one.
    pub first_port: Option<u16>,
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
    /// A host over a directory. Nothing is read or made yet.
    pub fn new(parts: HostParts) -> Self {
        Self {
            home: Home::new(parts.directory, parts.master_key),
            name: parts.name,
            providers: parts.providers,
            connections: parts.connections,
            first_port: parts.first_port,
            local_binaries: parts.local_binaries,
            writer: Mutex::default(),
            readers: Mutex::default(),
            occupancy: OnceLock::new(),
            drivers: Drivers::default(),
        }
    }

    /// The control plane as somebody uses it from this very process.
    pub fn embedded(self: &Arc<Self>) -> Acting {
        let here = here();
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
        let bearer = self.ask(|authority| authority.authenticate(token, now()))?;
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
        Ok(self
            .ask(|authority| authority.holders(now(), |_| crate::authority::Liveness::Unknown).map(|holders| holders.len()))?
            .unwrap_or_default())
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

    /// How many bytes the store takes on the disk.
    pub fn store_bytes(&self) -> u64 {
        self.home.store_bytes()
    }

    /// The providers that this control plane can carry out.
    pub fn provider_kinds(&self) -> Vec<ProviderKind> {
        self.providers.iter().map(|provider| provider.kind()).collect()
    }

    /// Asks the authority, if there is one already. Changes nothing, and waits for nobody who writes.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Authority<SqliteStore>) -> Result<T, AuthorityError>,
    ) -> Result<Option<T>, ControlError> {
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => {
                let store = SqliteStore::open_to_read(&self.home.store())
                    .map_err(|error| ControlError::Record(store_finding(&error)))?;
                let Some(store) = store else { return Ok(None) };
                let key = self.home.existing_master_key()?.ok_or_else(|| self.home.key_missing())?;
                Authority::new(store, Vault::new(key), entropy)
            }
        };
        let answer = question(&reader);
        let mut readers = lock(&self.readers);
        if readers.len() < MOST_READERS {
            readers.push(reader);
        }
        Ok(answer.map(Some)?)
    }

    /// Tells the authority something that it writes down; makes it where there is none.
    fn tell<T>(&self, message: impl FnOnce(&Authority<SqliteStore>) -> Result<T, AuthorityError>) -> Result<T, ControlError> {
        self.home.create()?;
        if self.occupancy.get().is_none() {
            // Should two threads come here at once, one of the two shares is given back at once.
            let _ = self.occupancy.set(self.home.share()?);
        }
        self.tell_beside_others(message)
    }

    /// The same for what does no harm beside a server that has this home: tokens and quotas are read anew every time.
    fn tell_beside_others<T>(
        &self,
        message: impl FnOnce(&Authority<SqliteStore>) -> Result<T, AuthorityError>,
    ) -> Result<T, ControlError> {
        let mut writer = lock(&self.writer);
        if writer.is_none() {
            self.home.create()?;
            let key = self.home.master_key(self.home.store().exists())?;
            let store = SqliteStore::open(&self.home.store()).map_err(|error| ControlError::Record(store_finding(&error)))?;
            let authority = Authority::new(store, Vault::new(key), entropy);
            *writer = Some(match self.first_port {
                Some(port) => authority.with_first_port(port),
                None => authority,
            });
            // A reader of an older schema saw a copy of it.
            lock(&self.readers).clear();
        }
        match &*writer {
            Some(authority) => Ok(message(authority)?),
            None => Err(ControlError::Record(Finding::new("bug", "the store was not opened; this is a bug in convexinfra"))),
        }
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
        for (index, observation, other_variables) in self.observe_all(&view.to_observe, &fingerprints).await {
            if let Some(backend) = snapshot.backends.get_mut(index) {
                backend.observation = observation;
                backend.other_variables = other_variables;
            }
        }
        Ok(snapshot)
    }
}

/// A panic elsewhere leaves rows as the transaction left them, so what a mutex guards stays usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time now, as this machine has it.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|_| EntropyError)
}
