//! The port to a control plane: what a client may request of every implementation.
//!
//! Must not do: decide anything, know a provider or a store, or print.

mod catalog;
#[cfg(feature = "native")]
pub mod client;
pub mod endpoint;
pub mod endpoints;
mod error;
mod request;
mod secret_text;
mod token;
pub mod wire;

use async_trait::async_trait;
pub use catalog::{Capacity, PoolUsage, ProviderCatalog, ProviderOffer, SizePrice};
pub use error::ControlError;
pub use request::{
    Credentials, HistoryEntry, HistoryPage, HistoryVerification, IfMissing, LEASE_SECONDS, Lease, LeaseHolder, LeaseNonce,
    LogChunk, LogPosition, MAX_NAME_BYTES, MAX_NOTE_BYTES, MAX_ORIGIN_BYTES, OperationOutcome, OperationRequest, OriginPolicy,
    Preflight, ProgressFn, ResourceLevel, StartMode, Work, is_single_line, truncate,
};
pub use token::{
    MAX_TOKEN_ORIGINS, OriginMatch, TOKEN_ID_LENGTH, TOKEN_PREFIX, TOKEN_SECRET_BYTES, TokenOrigin, TokenParts, format_token,
    match_origin,
};

use crate::model::{
    BackendName, FingerprintKey, IssuedToken, ProjectName, Quota, Snapshot, TokenId, TokenRecord, TokenRequest,
};

/// A control plane. The same commands run against every implementation.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Returns the snapshot of one project. Changes nothing; one call, however many backends there are.
    async fn snapshot(&self, project: &ProjectName) -> Result<Snapshot, ControlError>;

    /// Returns the names of the projects that the caller may look at: all of them for an operator.
    async fn projects(&self) -> Result<Vec<ProjectName>, ControlError>;

    /// Returns the key under which secrets of this project are fingerprinted; none while the control plane is new.
    async fn fingerprint_key(&self, project: &ProjectName, need: IfMissing) -> Result<Option<FingerprintKey>, ControlError>;

    /// Acquires the lease of a project.
    async fn acquire_lease(&self, project: &ProjectName, holder: LeaseHolder) -> Result<Lease, ControlError>;

    /// Renews a lease for another [`LEASE_SECONDS`].
    async fn renew_lease(&self, lease: &Lease) -> Result<(), ControlError>;

    /// Releases a lease.
    async fn release_lease(&self, lease: &Lease) -> Result<(), ControlError>;

    /// Records the origin of a project.
    async fn set_origin(&self, lease: &Lease, origin: &str, claim: OriginPolicy) -> Result<(), ControlError>;

    /// Looks at what a request depends on, such as databases and buckets. Changes nothing.
    async fn preflight(&self, project: &ProjectName, request: &OperationRequest) -> Result<Preflight, ControlError>;

    /// Runs one operation, resuming an earlier attempt, and returns once it has ended.
    async fn run(
        &self,
        lease: &Lease,
        request: OperationRequest,
        notice: ProgressFn<'_>,
    ) -> Result<OperationOutcome, ControlError>;

    /// Returns the URL of a backend and its admin key. Needs more than the scope `read`. Refused when the project belongs to
    /// another repository than `origin`.
    async fn credentials(
        &self,
        project: &ProjectName,
        backend: &BackendName,
        origin: Option<&str>,
    ) -> Result<Credentials, ControlError>;

    /// Returns a chunk of a backend's log.
    async fn logs(&self, project: &ProjectName, backend: &BackendName, from: LogPosition) -> Result<LogChunk, ControlError>;

    /// Returns the entries of one page of the history, newest last.
    async fn history(&self, level: &ResourceLevel, page: HistoryPage) -> Result<Vec<HistoryEntry>, ControlError>;

    /// Verifies that the history is as it was written: every entry is bound to the one before it under a key of the control
    /// plane. Where the hash of an entry was noted elsewhere, one entry must still have it.
    async fn verify_history(&self, reach: &ResourceLevel, noted: Option<&str>) -> Result<HistoryVerification, ControlError>;

    /// Returns the holder of the lease of a project.
    async fn lease_holder(&self, project: &ProjectName) -> Result<Option<LeaseHolder>, ControlError>;
}

/// What only an operator of a control plane may do.
#[async_trait]
pub trait Administration: Send + Sync {
    /// Returns every token, ended ones included, oldest first.
    async fn tokens(&self) -> Result<Vec<TokenRecord>, ControlError>;

    /// Creates a token.
    async fn create_token(&self, request: &TokenRequest) -> Result<IssuedToken, ControlError>;

    /// Revokes a token. Revoking it again changes nothing.
    async fn revoke_token(&self, id: &TokenId) -> Result<TokenRecord, ControlError>;

    /// Returns the quota of a project, or that of every project that has none of its own.
    async fn quota(&self, reach: &ResourceLevel) -> Result<Quota, ControlError>;

    /// Sets that quota.
    async fn set_quota(&self, reach: &ResourceLevel, quota: &Quota) -> Result<(), ControlError>;
}
