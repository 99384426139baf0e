//! Why a control plane did not do what was asked.

use super::request::LeaseHolder;
use crate::model::{BackendName, Diagnostic, Exit, OperationId, ProjectName, Report, TokenId};

/// Says why a control plane did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another command holds the lease.
    #[error("another apply is changing `{project}`: process {} of {} on {}, since {}", holder.process, holder.user, holder.host, holder.since)]
    LeaseHeld {
        /// The project.
        project: ProjectName,
        /// Who.
        holder: LeaseHolder,
    },
    /// The lease was lost: it expired, and another command may have acquired it.
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
    Refused(Diagnostic),
    /// The backend's provider has no such thing.
    #[error("{}", .0.message)]
    Unsupported(Diagnostic),
    /// Its own record cannot be used.
    #[error("{}", .0.message)]
    Record(Diagnostic),
    /// The token is missing, unknown, ended, or does not allow this.
    #[error("{}", .0.message)]
    NotAuthorised(Diagnostic),
    /// An earlier operation on the same backend has not ended; asking again later may work.
    #[error("an earlier operation on `{backend}` is still running: {operation}")]
    OperationRunning {
        /// The backend.
        backend: BackendName,
        /// Which one.
        operation: OperationId,
    },
    /// The project has no such operation.
    #[error("project `{project}` has no operation `{operation}`")]
    NoSuchOperation {
        /// The project.
        project: ProjectName,
        /// The id.
        operation: OperationId,
    },
    /// There is no such token.
    #[error("there is no token `{id}`")]
    NoSuchToken {
        /// The id.
        id: TokenId,
    },
    /// The request is not one that a client of this version sends.
    #[error("{}", .0.message)]
    BadRequest(Diagnostic),
    /// It does not answer.
    #[error("{}", .0.message)]
    Unreachable(Diagnostic),
}

impl ControlError {
    /// The code of the finding that says that a token's scope is too small.
    pub const SCOPE_MISSING: &'static str = "auth.scope";

    /// Returns the error as users see it.
    pub fn report(&self) -> Report {
        let message = self.to_string();
        let (exit, finding) = match self {
            Self::LeaseHeld { project, .. } => (
                Exit::LeaseHeld,
                Diagnostic::new("control.lease_held", message).with_help(format!(
                    "wait until it is done, or look at it with\n    convexinfra status --project {project}"
                )),
            ),
            Self::LeaseLost { .. } => (
                Exit::LeaseHeld,
                Diagnostic::new("control.lease_lost", message)
                    .with_help("run the same command again; it goes on where this one stopped"),
            ),
            Self::NoSuchBackend { .. } => (
                Exit::Failed,
                Diagnostic::new("control.no_such_backend", message).with_help("list them with\n    convexinfra status"),
            ),
            Self::NotReady { .. } => (
                Exit::Failed,
                Diagnostic::new("control.not_ready", message).with_help("bring it about with\n    convexinfra apply"),
            ),
            Self::OperationRunning { backend, .. } => (
                Exit::LeaseHeld,
                Diagnostic::new("control.operation_running", message)
                    .with_help(format!("wait until it is done with\n    convexinfra wait {backend}")),
            ),
            Self::NoSuchOperation { .. } => (
                Exit::Failed,
                Diagnostic::new("control.no_such_operation", message)
                    .with_help("look at what runs with\n    convexinfra status"),
            ),
            Self::NoSuchToken { .. } => (
                Exit::Failed,
                Diagnostic::new("control.no_such_token", message).with_help("list them with\n    convexinfra token list"),
            ),
            Self::NotAuthorised(finding) => (Exit::NotAuthorised, finding.clone()),
            Self::BadRequest(finding) => (Exit::Bug, finding.clone()),
            Self::Refused(finding) => (Exit::Refused, finding.clone()),
            Self::Record(finding) | Self::Unsupported(finding) => (Exit::Failed, finding.clone()),
            Self::Unreachable(finding) => (Exit::Unreachable, finding.clone()),
        };
        Report::one(exit, finding)
    }
}
