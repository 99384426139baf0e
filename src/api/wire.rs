//! The contract between a client and a served control plane, version 1: paths, headers, documents, errors.
//!
//! Every path stands below [`PREFIX`]. Additions keep the number; clients pass over fields that they do not know. The
//! types of [`super`] and [`crate::model`] are used as they are; what stands here is only what HTTP adds.
//!
//! Must not do: send or receive anything, or show a secret in `Debug`.

use serde::{Deserialize, Serialize};

pub use super::secret_text::SecretText;
use super::{ControlError, Credentials, LeaseHolder, LeaseNonce};
use crate::model::{
    BackendName, Diagnostic, Exit, IssuedToken, OperationId, OperationRecord, ProjectName, Timestamp, TokenId, TokenRecord,
};

/// What every path of this version begins with.
pub const PREFIX: &str = "/v1";
/// The header that carries the fence of the lease under which something is written.
pub const FENCE: &str = "convexinfra-fence";
/// The header that repeats the key of an operation, for proxies and logs; the body has the same key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that names a request in logs on both sides.
pub const REQUEST_ID: &str = "x-request-id";

/// The health of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Health {
    /// `ok`; everything else is an error document.
    pub status: &'static str,
    /// The version of the contract, as the paths begin.
    pub contract: &'static str,
    /// The version of the program.
    pub version: &'static str,
}

/// Asks for the lease of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The account.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"))]
    pub user: String,
    /// The machine.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"))]
    pub host: String,
    /// The process on that machine.
    pub process: u32,
    /// When that process started, in the machine's own count.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process_start: Option<String>,
    /// A random text that names this wish: asked again with the same one, the answer is the same lease, so that one
    /// whose answer was lost does not stand in its own way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[serde(rename = "attempt")]
    pub nonce: Option<LeaseNonce>,
}

impl LeaseRequest {
    /// Returns the client as the holder from now on.
    pub fn into_holder(self, since: Timestamp) -> LeaseHolder {
        let Self { user, host, process, process_start, nonce: attempt } = self;
        LeaseHolder { user, host, process, process_start, since, nonce: attempt }
    }
}

impl From<LeaseHolder> for LeaseRequest {
    fn from(LeaseHolder { user, host, process, process_start, nonce: attempt, .. }: LeaseHolder) -> Self {
        Self { user, host, process, process_start, nonce: attempt }
    }
}

/// Says who holds a lease now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LeaseDocument {
    /// None when the lease is free.
    pub holder: Option<LeaseHolder>,
}

/// Notes where a project is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OriginRequest {
    /// The git remote, else the folder.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"))]
    pub origin: String,
    /// What to do when it is at home elsewhere.
    pub claim: super::OriginPolicy,
}

/// One thing that an operation has to say, as its stream of server-sent events carries it. The `id` of an event counts
/// up from 1 within its operation, so that `Last-Event-ID` goes on after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OperationEvent {
    /// It says what it is doing.
    Notice {
        /// The words.
        message: String,
    },
    /// It has ended. Nothing follows.
    Ended {
        /// The operation at its end.
        operation: Box<OperationRecord>,
    },
}

/// Says where a backend is and the key that opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CredentialsDocument {
    /// `CONVEX_SELF_HOSTED_URL`.
    pub url: String,
    /// The URL of its HTTP actions.
    pub site_url: String,
    /// `CONVEX_SELF_HOSTED_ADMIN_KEY`.
    pub admin_key: SecretText,
}

impl From<Credentials> for CredentialsDocument {
    fn from(Credentials { url, site_url, admin_key }: Credentials) -> Self {
        Self { url, site_url, admin_key: SecretText(admin_key) }
    }
}

impl From<CredentialsDocument> for Credentials {
    fn from(CredentialsDocument { url, site_url, admin_key }: CredentialsDocument) -> Self {
        Self { url, site_url, admin_key: admin_key.0 }
    }
}

/// The key under which a project's secrets are fingerprinted. It lets guesses be tried against a plan, so it needs more
/// than the scope `read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FingerprintKeyDocument {
    /// 64 hex digits.
    pub key: SecretText,
}

/// A token at the only moment at which it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IssuedTokenDocument {
    /// What is kept of it.
    pub record: TokenRecord,
    /// The token.
    pub token: SecretText,
    /// The URLs that it may be sent to; empty when it is bound to none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub origins: Vec<String>,
}

impl From<IssuedToken> for IssuedTokenDocument {
    fn from(IssuedToken { record, token, origins }: IssuedToken) -> Self {
        Self { record, token: SecretText(token), origins }
    }
}

impl From<IssuedTokenDocument> for IssuedToken {
    fn from(IssuedTokenDocument { record, token, origins }: IssuedTokenDocument) -> Self {
        Self { record, token: token.0, origins }
    }
}

/// Describes what went wrong, on every status from 400 up: the error document that the command prints, and the situation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ErrorDocument {
    /// Always `convexinfra.error/1`.
    pub format: String,
    /// The exit code that a command ends with.
    pub exit: Exit,
    /// At least one.
    pub errors: Vec<Diagnostic>,
    /// The request, as the server's log names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// Which situation it is.
    pub situation: Situation,
}

/// The situations that a client tells apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Situation {
    /// Another client holds the lease.
    LeaseHeld {
        /// The project.
        project: ProjectName,
        /// Who.
        holder: Box<LeaseHolder>,
    },
    /// The lease ran out or was taken over; nothing was changed.
    LeaseLost {
        /// The project.
        project: ProjectName,
    },
    /// There is no such backend.
    NoSuchBackend {
        /// The project.
        project: ProjectName,
        /// The name.
        backend: BackendName,
    },
    /// The backend has no coordinates yet.
    NotReady {
        /// The name.
        backend: BackendName,
    },
    /// An earlier operation on the same backend has not ended.
    OperationRunning {
        /// The backend.
        backend: BackendName,
        /// Which one.
        operation: OperationId,
    },
    /// The project has no such operation.
    NoSuchOperation {
        /// The project.
        project: ProjectName,
        /// The id.
        operation: OperationId,
    },
    /// There is no such token.
    NoSuchToken {
        /// The id.
        id: TokenId,
    },
    /// The answer is no.
    Refused,
    /// The backend's provider has no such thing.
    Unsupported,
    /// The token is missing, unknown or ended: 401.
    NotAuthenticated,
    /// The token does not allow this: 403.
    NotAuthorised,
    /// The request is not one of this version.
    BadRequest,
    /// The control plane's record cannot be used.
    Record,
    /// It cannot answer now; asking again later may work.
    Unavailable,
}

/// The code of an event stream more than a token or an operation may have.
pub const TOO_MANY_STREAMS: &str = "server.streams";

/// The code of a path that the server does not have.
pub const NO_SUCH_PATH: &str = "wire.no_such_path";

/// The start of the codes of findings about a token that opens nothing at all, as opposed to one that opens too little.
pub const NOT_AUTHENTICATED: &str = "auth.token_";

impl ErrorDocument {
    /// Returns the document of an error, and the HTTP status that goes with it.
    pub fn from_error(error: &ControlError, request_id: Option<&str>) -> (u16, Self) {
        let report = error.report();
        let (status, situation) = match error {
            ControlError::LeaseHeld { project, holder } => {
                (409, Situation::LeaseHeld { project: project.clone(), holder: Box::new(holder.clone()) })
            }
            ControlError::LeaseLost { project } => (409, Situation::LeaseLost { project: project.clone() }),
            ControlError::NoSuchBackend { project, backend } => {
                (404, Situation::NoSuchBackend { project: project.clone(), backend: backend.clone() })
            }
            ControlError::NotReady { backend } => (409, Situation::NotReady { backend: backend.clone() }),
            ControlError::OperationRunning { backend, operation } => {
                (409, Situation::OperationRunning { backend: backend.clone(), operation: operation.clone() })
            }
            ControlError::NoSuchOperation { project, operation } => {
                (404, Situation::NoSuchOperation { project: project.clone(), operation: operation.clone() })
            }
            ControlError::NoSuchToken { id } => (404, Situation::NoSuchToken { id: id.clone() }),
            ControlError::Refused(_) => (422, Situation::Refused),
            ControlError::Unsupported(_) => (422, Situation::Unsupported),
            ControlError::NotAuthorised(finding) if finding.code.starts_with(NOT_AUTHENTICATED) => {
                (401, Situation::NotAuthenticated)
            }
            ControlError::NotAuthorised(_) => (403, Situation::NotAuthorised),
            ControlError::BadRequest(_) => (400, Situation::BadRequest),
            ControlError::Record(_) => (503, Situation::Record),
            ControlError::Unreachable(_) => (503, Situation::Unavailable),
        };
        let format = "convexinfra.error/1".to_owned();
        let request_id = request_id.map(str::to_owned);
        (status, Self { format, exit: report.exit, errors: report.errors, request_id, situation })
    }

    /// Returns the error that a client makes of it.
    pub fn into_error(self) -> ControlError {
        let mut errors = self.errors;
        let mut finding = if errors.is_empty() {
            Diagnostic::new("control.unexplained", "the control plane refused without saying why")
        } else {
            errors.swap_remove(0)
        };
        if let Some(id) = self.request_id.filter(|_| matches!(self.situation, Situation::Record | Situation::BadRequest)) {
            let help = finding.help.take().map(|help| format!("{help}\n")).unwrap_or_default();
            finding.help = Some(format!("{help}the server's log has more under request {id}"));
        }
        match self.situation {
            Situation::LeaseHeld { project, holder } => ControlError::LeaseHeld { project, holder: *holder },
            Situation::LeaseLost { project } => ControlError::LeaseLost { project },
            Situation::NoSuchBackend { project, backend } => ControlError::NoSuchBackend { project, backend },
            Situation::NotReady { backend } => ControlError::NotReady { backend },
            Situation::OperationRunning { backend, operation } => ControlError::OperationRunning { backend, operation },
            Situation::NoSuchOperation { project, operation } => ControlError::NoSuchOperation { project, operation },
            Situation::NoSuchToken { id } => ControlError::NoSuchToken { id },
            Situation::Refused => ControlError::Refused(finding),
            Situation::Unsupported => ControlError::Unsupported(finding),
            Situation::NotAuthenticated | Situation::NotAuthorised => ControlError::NotAuthorised(finding),
            Situation::BadRequest if finding.code == NO_SUCH_PATH => ControlError::Unreachable(
                finding.with_help("name the control plane by the URL of its root, and see which version runs there"),
            ),
            Situation::BadRequest => ControlError::BadRequest(finding),
            Situation::Record => ControlError::Record(finding),
            Situation::Unavailable => ControlError::Unreachable(finding),
        }
    }
}
