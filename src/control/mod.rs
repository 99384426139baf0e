//! The port to a control plane: what a client may ask, whoever answers.
//!
//! Must not do: decide anything, know a provider or a store, or print.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::model::{
    BackendName, BackendSpec, DatabaseDisposal, Exit, FieldPath, Finding, FingerprintKey, OperationId, ProjectName, Report,
    Revision, Secret, Snapshot, Timestamp,
};

/// A control plane. The same commands run against every implementation.
pub trait ControlPlane: Send + Sync {
    /// One project as it is now. Changes nothing; one call, however many backends there are.
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>>;

    /// The key under which secrets of this project are fingerprinted; none while the control plane is new.
    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        need: KeyNeed,
    ) -> BoxFuture<'a, Result<Option<FingerprintKey>, ControlError>>;

    /// Takes the right to change a project.
    fn acquire<'a>(&'a self, project: &'a ProjectName, holder: Holder) -> BoxFuture<'a, Result<Lease, ControlError>>;

    /// Keeps that right for another [`LEASE_SECONDS`].
    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Gives that right back.
    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Notes where the project is at home.
    fn settle<'a>(&'a self, lease: &'a Lease, origin: &'a str, claim: Claim) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Carries one operation out, from wherever an earlier attempt left it, and returns when it has ended.
    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: Request,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<Outcome, ControlError>>;

    /// Where a backend is and the key that opens it. Needs more than the right to read.
    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>>;

    /// A piece of a backend's log.
    fn logs<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        from: LogFrom,
    ) -> BoxFuture<'a, Result<LogPiece, ControlError>>;

    /// What has happened to a project, newest last, at most so many entries.
    fn history<'a>(&'a self, project: &'a ProjectName, limit: u32) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>>;

    /// Who holds the lease of a project now.
    fn holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<Holder>, ControlError>>;
}

/// How long a lease lasts without being renewed, in seconds.
pub const LEASE_SECONDS: u64 = 15;

/// Receives what a long operation has to say while it runs.
pub type Notice<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Whether a fingerprint key may be made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyNeed {
    /// Only look: planning changes nothing.
    IfThere,
    /// Make it: somebody asked for a document that has to name secrets.
    Make,
}

/// What happens to a project that already is at home somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It stays at home there.
    IfUnclaimed,
    /// It moves here.
    TakeOver,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Holder {
    /// The account.
    pub user: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub process: u32,
    /// When that process started, in the machine's own count; tells it from a later one with the same number.
    pub process_start: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// The right to change one project, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The project.
    pub project: ProjectName,
    /// Grows with every holder; a writer with an older one is turned away.
    pub fence: u64,
    /// The project's revision when the lease was taken.
    pub revision: Revision,
}

/// One piece of work that a client asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Asking again with the same key is the same piece of work.
    pub key: String,
    /// The backend.
    pub backend: BackendName,
    /// What to do to it.
    pub work: Work,
}

/// What to do to a backend.
#[derive(Debug, Clone)]
pub enum Work {
    /// Make it what the specification says.
    Put {
        /// What it should be.
        spec: Box<BackendSpec>,
        /// The values of its secrets, by field.
        secrets: BTreeMap<FieldPath, Secret>,
        /// The name that it had before.
        renamed_from: Option<BackendName>,
    },
    /// Take it away with its data. The caller has seen to it that somebody allowed that by name.
    Remove {
        /// What becomes of its database on a server of the user's own.
        database: DatabaseDisposal,
    },
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done {
        /// The operation.
        operation: OperationId,
    },
    /// It could not be done, and this is why. Asking again goes on from there.
    Failed {
        /// The operation.
        operation: OperationId,
        /// Why.
        finding: Finding,
    },
}

/// Where a backend is and the key that opens it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `CONVEX_SELF_HOSTED_URL`.
    pub url: String,
    /// The URL of its HTTP actions.
    pub site_url: String,
    /// `CONVEX_SELF_HOSTED_ADMIN_KEY`.
    pub admin_key: Secret,
}

/// Where to read a log from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFrom {
    /// The last so many lines.
    Tail(usize),
    /// From this byte on.
    Byte(u64),
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// The text.
    pub text: String,
    /// Where to go on reading.
    pub next: u64,
}

/// One line of a project's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HistoryEntry {
    /// Its number.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What happened, such as `operation_accepted`.
    pub kind: String,
    /// To which backend, where it was one.
    pub backend: Option<String>,
    /// What there is to say about it; never a secret.
    pub detail: String,
}

/// Why a control plane did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody else holds the lease.
    #[error("another apply is changing `{project}`: process {} of {} on {}, since {}", holder.process, holder.user, holder.host, holder.since)]
    LeaseHeld {
        /// The project.
        project: ProjectName,
        /// Who.
        holder: Holder,
    },
    /// The lease was lost: it expired, and somebody else may have taken it.
    #[error("the lease on `{project}` was lost, so nothing more is changed")]
    LeaseLost {
        /// The project.
        project: ProjectName,
    },
    /// There is no such backend.
    #[error("project `{project}` has no backend `{backend}`")]
    NoSuchBackend {
        /// The project.
        project: ProjectName,
        /// The name.
        backend: BackendName,
    },
    /// The backend has not been made to the end, so it has no coordinates yet.
    #[error("`{backend}` has never been ready")]
    NotReady {
        /// The name.
        backend: BackendName,
    },
    /// The control plane says no.
    #[error("{}", .0.message)]
    Refused(Finding),
    /// Its own record cannot be used.
    #[error("{}", .0.message)]
    Record(Finding),
    /// It does not answer.
    #[error("{}", .0.message)]
    Unreachable(Finding),
}

impl ControlError {
    /// The error as users see it.
    pub fn report(&self) -> Report {
        let message = self.to_string();
        let (exit, finding) = match self {
            Self::LeaseHeld { project, .. } => (
                Exit::LeaseHeld,
                Finding::new("control.lease_held", message).with_help(format!(
                    "wait until it is done, or look at it with\n    convexinfra status --project {project}"
                )),
            ),
            Self::LeaseLost { .. } => (
                Exit::LeaseHeld,
                Finding::new("control.lease_lost", message)
                    .with_help("run the same command again; it goes on where this one stopped"),
            ),
            Self::NoSuchBackend { .. } => (
                Exit::Failed,
                Finding::new("control.no_such_backend", message).with_help("list what there is with\n    convexinfra status"),
            ),
            Self::NotReady { .. } => (
                Exit::Failed,
                Finding::new("control.not_ready", message).with_help("bring it about with\n    convexinfra apply"),
            ),
            Self::Refused(finding) => (Exit::Refused, finding.clone()),
            Self::Record(finding) => (Exit::Failed, finding.clone()),
            Self::Unreachable(finding) => (Exit::Unreachable, finding.clone()),
        };
        Report::one(exit, finding)
    }
}
