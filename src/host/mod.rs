//! An authority at home in this process: the shell that carries out its effects on this machine.
//!
//! Embedded in the command it is the default control plane; a server runs the same thing behind HTTP. Must not do:
//! decide anything that the authority decides, or print.

mod database;
mod environment;
mod home;
mod observe;
mod perform;
mod process;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

pub use home::{Home, HomeError};
pub use process::here;

use crate::authority::{Authority, EntropyError, Next, Vault, store_finding};
use crate::control::{
    Claim, ControlError, ControlPlane, Credentials, HistoryEntry, Holder, KeyNeed, Lease, LogFrom, LogPiece, Notice, Outcome,
    Request,
};
use crate::convex::deployment::Connections;
use crate::model::{
    BackendName, Finding, FingerprintKey, Placement, ProjectName, ProviderKind, Revision, Secret, Snapshot, Timestamp,
};
use crate::provider::{LogPosition, Provider};
use crate::store::SqliteStore;

/// The name that plans give to the control plane in this process.
pub const EMBEDDED: &str = "embedded";

/// An authority and the providers that carry out its effects.
pub struct Host {
    home: Home,
    providers: Vec<Box<dyn Provider>>,
    connections: Connections,
    first_port: Option<u16>,
    /// Opened when first needed: to read where there is something to read, to write where something is written.
    authority: Mutex<Opened>,
}

#[derive(Default)]
enum Opened {
    #[default]
    No,
    ToRead(Box<Authority<SqliteStore>>),
    ToWrite(Box<Authority<SqliteStore>>),
}

/// What a host is made of.
pub struct HostParts {
    /// Its directory.
    pub directory: PathBuf,
    /// The master key from outside, instead of the one in the directory.
    pub master_key: Option<Secret>,
    /// Where backends can run.
    pub providers: Vec<Box<dyn Provider>>,
    /// Connections to deployments.
    pub connections: Connections,
    /// The first port to hand out, where it should not be the usual one.
    pub first_port: Option<u16>,
}

impl Host {
    /// A host over a directory. Nothing is read or made yet.
    pub fn new(parts: HostParts) -> Self {
        Self {
            home: Home::new(parts.directory, parts.master_key),
            providers: parts.providers,
            connections: parts.connections,
            first_port: parts.first_port,
            authority: Mutex::default(),
        }
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Opened> {
        // A panic elsewhere leaves rows as the transaction left them, so the guard stays usable.
        self.authority.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the authority, if there is one already.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Authority<SqliteStore>) -> Result<T, crate::authority::AuthorityError>,
    ) -> Result<Option<T>, ControlError> {
        let mut opened = self.opened();
        if matches!(*opened, Opened::No) {
            let store =
                SqliteStore::open_to_read(&self.home.store()).map_err(|error| ControlError::Record(store_finding(&error)))?;
            let Some(store) = store else { return Ok(None) };
            let key = self.home.existing_master_key()?.ok_or_else(|| self.home.key_missing())?;
            *opened = Opened::ToRead(Box::new(Authority::new(store, Vault::new(key), entropy)));
        }
        match &*opened {
            Opened::No => Ok(None),
            Opened::ToRead(authority) | Opened::ToWrite(authority) => Ok(question(authority).map(Some)?),
        }
    }

    /// Tells the authority something that it writes down; makes it where there is none.
    fn tell<T>(
        &self,
        message: impl FnOnce(&Authority<SqliteStore>) -> Result<T, crate::authority::AuthorityError>,
    ) -> Result<T, ControlError> {
        let mut opened = self.opened();
        if !matches!(*opened, Opened::ToWrite(_)) {
            self.home.create()?;
            let key = self.home.master_key(self.home.store().exists())?;
            let store = SqliteStore::open(&self.home.store()).map_err(|error| ControlError::Record(store_finding(&error)))?;
            let authority = Authority::new(store, Vault::new(key), entropy);
            *opened = Opened::ToWrite(Box::new(match self.first_port {
                Some(port) => authority.with_first_port(port),
                None => authority,
            }));
        }
        match &*opened {
            Opened::ToWrite(authority) => Ok(message(authority)?),
            Opened::No | Opened::ToRead(_) => {
                Err(ControlError::Record(Finding::new("bug", "the store was not opened; this is a bug in convexinfra")))
            }
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
            ProviderKind::Docker | ProviderKind::Fly | ProviderKind::Kubernetes => placement.endpoints.url.clone(),
        }
    }

    async fn snapshot_of(&self, project: &ProjectName) -> Result<Snapshot, ControlError> {
        let mut snapshot = Snapshot {
            project: project.clone(),
            revision: Revision(0),
            control_plane: crate::model::ControlPlane {
                name: EMBEDDED.to_owned(),
                providers: self.providers.iter().map(|provider| provider.kind()).collect(),
            },
            origin: None,
            backends: Vec::new(),
        };
        let Some((view, fingerprints)) =
            self.ask(|authority| Ok((authority.view(project)?, authority.vault().fingerprint_key(project))))?
        else {
            return Ok(snapshot);
        };
        snapshot.revision = view.revision;
        snapshot.origin = view.origin;
        snapshot.backends = view.backends;
        for (index, observation, other_variables) in self.observe_all(&view.to_observe, &fingerprints).await {
            if let Some(backend) = snapshot.backends.get_mut(index) {
                backend.observation = observation;
                backend.other_variables = other_variables;
            }
        }
        Ok(snapshot)
    }

    async fn run_operation(&self, lease: &Lease, request: Request, notice: Notice<'_>) -> Result<Outcome, ControlError> {
        let (mut operation, mut next) = self.tell(|authority| authority.accept(lease, &request, now()))?;
        loop {
            let effect = match next {
                Next::Ended(outcome) => return Ok(outcome),
                Next::Do(effect) => effect,
            };
            let end = self.perform(effect, notice).await;
            let Some(operation) = operation.as_mut() else {
                return Err(ControlError::Record(Finding::new(
                    "bug",
                    "an effect without an operation; this is a bug in convexinfra",
                )));
            };
            next = self.tell(|authority| authority.advance(operation, end, now()))?;
        }
    }
}

impl ControlPlane for Host {
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>> {
        Box::pin(self.snapshot_of(project))
    }

    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        need: KeyNeed,
    ) -> BoxFuture<'a, Result<Option<FingerprintKey>, ControlError>> {
        Box::pin(async move {
            let key = match (self.home.existing_master_key()?, need) {
                (None, KeyNeed::IfThere) => return Ok(None),
                (Some(key), _) => key,
                (None, KeyNeed::Make) => {
                    self.home.create()?;
                    self.home.master_key(self.home.store().exists())?
                }
            };
            Ok(Some(Vault::new(key).fingerprint_key(project)))
        })
    }

    fn acquire<'a>(&'a self, project: &'a ProjectName, holder: Holder) -> BoxFuture<'a, Result<Lease, ControlError>> {
        Box::pin(async move { self.tell(|authority| authority.acquire(project, &holder, now(), process::liveness)) })
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.tell(|authority| authority.renew(lease, now())) })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.tell(|authority| authority.release(lease, now())) })
    }

    fn settle<'a>(&'a self, lease: &'a Lease, origin: &'a str, claim: Claim) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.tell(|authority| authority.settle(lease, origin, claim, now())) })
    }

    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: Request,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<Outcome, ControlError>> {
        Box::pin(self.run_operation(lease, request, notice))
    }

    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>> {
        Box::pin(async move {
            let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
            self.ask(|authority| authority.credentials(project, backend))?.ok_or_else(unknown)
        })
    }

    fn logs<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        from: LogFrom,
    ) -> BoxFuture<'a, Result<LogPiece, ControlError>> {
        Box::pin(async move {
            let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
            let placement = self.ask(|authority| authority.place_of(project, backend))?.ok_or_else(unknown)?;
            let provider = self.provider(placement.spec.provider).map_err(ControlError::Refused)?;
            let from = match from {
                LogFrom::Tail(lines) => LogPosition::Tail(lines),
                LogFrom::Byte(byte) => LogPosition::Byte(byte),
            };
            let chunk = provider
                .logs(&placement, from)
                .await
                .map_err(|error| ControlError::Unreachable(perform::failure(&placement, &error).finding))?;
            Ok(LogPiece { text: chunk.text, next: chunk.next })
        })
    }

    fn history<'a>(&'a self, project: &'a ProjectName, limit: u32) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>> {
        Box::pin(async move { Ok(self.ask(|authority| authority.history(project, limit))?.unwrap_or_default()) })
    }

    fn holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<Holder>, ControlError>> {
        Box::pin(async move { Ok(self.ask(|authority| authority.holder(project, now(), process::liveness))?.flatten()) })
    }
}

/// The time now, as this machine has it.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|_| EntropyError)
}
