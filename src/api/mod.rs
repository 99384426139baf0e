//! The port to a control plane: what a client may ask, whoever answers.
//!
//! Must not do: decide anything, know a provider or a store, or print.

mod catalog;
#[cfg(feature = "native")]
pub mod client;
pub mod endpoint;
pub mod endpoints;
mod error;
mod request;
mod token;
pub mod wire;

use futures_util::future::BoxFuture;

pub use catalog::{Capacity, PoolUsage, ProviderCatalog, ProviderOffer, SizePrice};
pub use error::ControlError;
pub use request::{
    Credentials, HistoryEntry, HistoryPage, HistoryVerification, IfMissing, LEASE_SECONDS, Lease, LeaseHolder, LeaseNonce,
    LogChunk, LogPosition, MAX_NAME_BYTES, MAX_ORIGIN_BYTES, OperationOutcome, OperationRequest, OriginPolicy, Preflight,
    ProgressFn, ResourceLevel, Work, is_single_line, truncate,
};
pub use token::{
    MAX_TOKEN_ORIGINS, OriginMatch, TOKEN_ID_LENGTH, TOKEN_PREFIX, TOKEN_SECRET_BYTES, TokenOrigin, TokenParts, format_token,
    match_origin,
};

use crate::model::{
    BackendName, FingerprintKey, IssuedToken, ProjectName, Quota, Snapshot, TokenId, TokenRecord, TokenRequest,
};

/// A control plane. The same commands run against every implementation.
pub trait ControlPlane: Send + Sync {
    /// One project as it is now. Changes nothing; one call, however many backends there are.
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>>;

    /// Returns the names of the projects that the caller may look at: all of them for an operator.
    fn projects(&self) -> BoxFuture<'_, Result<Vec<ProjectName>, ControlError>>;

    /// The key under which secrets of this project are fingerprinted; none while the control plane is new.
    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        need: IfMissing,
    ) -> BoxFuture<'a, Result<Option<FingerprintKey>, ControlError>>;

    /// Takes the right to change a project.
    fn acquire_lease<'a>(&'a self, project: &'a ProjectName, holder: LeaseHolder)
    -> BoxFuture<'a, Result<Lease, ControlError>>;

    /// Keeps that right for another [`LEASE_SECONDS`].
    fn renew_lease<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Gives that right back.
    fn release_lease<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Notes where the project is at home.
    fn set_origin<'a>(
        &'a self,
        lease: &'a Lease,
        origin: &'a str,
        claim: OriginPolicy,
    ) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Looks at what a request depends on, such as databases and buckets. Changes nothing.
    fn preflight<'a>(
        &'a self,
        project: &'a ProjectName,
        request: &'a OperationRequest,
    ) -> BoxFuture<'a, Result<Preflight, ControlError>>;

    /// Carries one operation out, from wherever an earlier attempt left it, and returns when it has ended.
    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: OperationRequest,
        notice: ProgressFn<'a>,
    ) -> BoxFuture<'a, Result<OperationOutcome, ControlError>>;

    /// Where a backend is and the key that opens it. Needs more than the right to read. Refused when the project is at home
    /// in another repository than `origin`.
    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>>;

    /// A piece of a backend's log.
    fn logs<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        from: LogPosition,
    ) -> BoxFuture<'a, Result<LogChunk, ControlError>>;

    /// Returns the entries of one page of the history, newest last.
    fn history<'a>(
        &'a self,
        level: &'a ResourceLevel,
        page: HistoryPage,
    ) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>>;

    /// Whether the history is as it was written: every entry is bound to the one before it under a key of the control
    /// plane. Where the hash of an entry was noted elsewhere, one entry must still have it.
    fn verify_history<'a>(
        &'a self,
        reach: &'a ResourceLevel,
        noted: Option<&'a str>,
    ) -> BoxFuture<'a, Result<HistoryVerification, ControlError>>;

    /// Who holds the lease of a project now.
    fn lease_holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<LeaseHolder>, ControlError>>;
}

/// What only an operator of a control plane may do.
pub trait Administration: Send + Sync {
    /// Every token, ended ones included, oldest first.
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRecord>, ControlError>>;

    /// Makes a token.
    fn create_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<IssuedToken, ControlError>>;

    /// Ends a token. Ending it again changes nothing.
    fn revoke_token<'a>(&'a self, id: &'a TokenId) -> BoxFuture<'a, Result<TokenRecord, ControlError>>;

    /// The ceilings of a project, or those of every project that has none of its own.
    fn quota<'a>(&'a self, reach: &'a ResourceLevel) -> BoxFuture<'a, Result<Quota, ControlError>>;

    /// Sets those ceilings.
    fn set_quota<'a>(&'a self, reach: &'a ResourceLevel, quota: &'a Quota) -> BoxFuture<'a, Result<(), ControlError>>;
}
