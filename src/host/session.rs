//! The control plane as one actor uses it.
//!
//! Must not do: ask whether the actor may; whoever let them in has asked.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Host, effects};
use crate::api::{
    Administration, ControlError, ControlPlane, Credentials, HistoryEntry, HistoryPage, HistoryVerification, IfMissing, Lease,
    LeaseHolder, LogChunk, LogPosition, OperationOutcome, OperationRequest, OriginPolicy, Preflight, ProgressFn, ResourceLevel,
    TokenOrigin,
};
use crate::authority::{ExecutionMode, Liveness, Principal};

use crate::model::fly::APP_KEY;
use crate::model::{
    Actor, BackendName, FingerprintKey, IssuedToken, ProjectName, Quota, ResolvedBackend, Snapshot, TokenId, TokenRecord,
    TokenRequest,
};
use crate::provider::{self, ProviderError};

/// The control plane as one actor uses it.
pub struct ControlSession {
    pub(super) host: Arc<Host>,
    pub(super) actor: Actor,
    /// The origins that tokens created in this session are bound to.
    token_origins: Vec<TokenOrigin>,
    /// Who carries out what this actor asks for.
    mode: ExecutionMode,
}

impl ControlSession {
    pub(super) fn embedded(host: Arc<Host>, actor: Actor) -> Self {
        Self { host, actor, token_origins: Vec::new(), mode: ExecutionMode::LeaseHolder }
    }

    pub(super) fn served(host: Arc<Host>, actor: Actor) -> Self {
        Self { host, actor, token_origins: Vec::new(), mode: ExecutionMode::ControlPlane }
    }

    /// Binds the tokens that are created in this session to these origins.
    pub fn with_token_origins(self, token_origins: Vec<TokenOrigin>) -> Self {
        Self { token_origins, ..self }
    }

    /// Whether a holder of a lease still lives. A client's word that it does is not taken: only time tells. Its word
    /// that it is gone harms nobody but itself.
    fn liveness(&self, holder: &LeaseHolder) -> Liveness {
        match (self.host.platform.liveness(holder), self.mode) {
            (Liveness::Alive, ExecutionMode::ControlPlane) => Liveness::Unknown,
            (liveness, _) => liveness,
        }
    }

    /// Carries an operation out here, for as long as somebody waits for it.
    async fn run_embedded(
        &self,
        lease: &Lease,
        request: OperationRequest,
        notice: ProgressFn<'_>,
    ) -> Result<OperationOutcome, ControlError> {
        self.host.check_supported(&lease.project, &request).await?;
        let accept = |authority: &crate::authority::Authority<_>| {
            authority.accept(lease, ExecutionMode::LeaseHolder, Principal::Trusted(&self.actor), &request, self.host.now())
        };
        let (operation, next) = self.host.write_rows(accept)?;
        self.host.run_here(operation, next, notice).await
    }

    /// Has the control plane carry an operation out, and waits for its end.
    async fn run_served(
        &self,
        lease: &Lease,
        request: OperationRequest,
        notice: ProgressFn<'_>,
    ) -> Result<OperationOutcome, ControlError> {
        let started = self.host.start_as(Principal::Trusted(&self.actor), lease, request).await?;
        let record = self.host.wait_until_ended(&lease.project, &started.id, notice).await?;
        let operation = record.id;
        Ok(match record.error {
            None => OperationOutcome::Done { operation },
            Some(finding) => OperationOutcome::Failed { operation, finding },
        })
    }
}

impl ControlPlane for ControlSession {
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>> {
        Box::pin(self.host.snapshot_of(project))
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<ProjectName>, ControlError>> {
        Box::pin(async move { self.host.projects() })
    }

    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        need: IfMissing,
    ) -> BoxFuture<'a, Result<Option<FingerprintKey>, ControlError>> {
        Box::pin(async move { self.host.platform.fingerprint_key(project, need) })
    }

    fn acquire_lease<'a>(
        &'a self,
        project: &'a ProjectName,
        holder: LeaseHolder,
    ) -> BoxFuture<'a, Result<Lease, ControlError>> {
        Box::pin(async move {
            self.host
                .write_rows(|authority| authority.acquire(project, &holder, self.host.now(), |holder| self.liveness(holder)))
        })
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.host.write_rows(|authority| authority.renew(lease, self.host.now())) })
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.host.write_rows(|authority| authority.release(lease, self.host.now())) })
    }

    fn set_origin<'a>(
        &'a self,
        lease: &'a Lease,
        origin: &'a str,
        claim: OriginPolicy,
    ) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.host.write_rows(|authority| authority.set_origin(lease, origin, claim, &self.actor, self.host.now()))
        })
    }

    fn preflight<'a>(
        &'a self,
        project: &'a ProjectName,
        request: &'a OperationRequest,
    ) -> BoxFuture<'a, Result<Preflight, ControlError>> {
        Box::pin(self.host.preflight(project, request))
    }

    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: OperationRequest,
        notice: ProgressFn<'a>,
    ) -> BoxFuture<'a, Result<OperationOutcome, ControlError>> {
        Box::pin(async move {
            match self.mode {
                ExecutionMode::LeaseHolder => self.run_embedded(lease, request, notice).await,
                ExecutionMode::ControlPlane => self.run_served(lease, request, notice).await,
            }
        })
    }

    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        origin: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>> {
        Box::pin(async move {
            let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
            self.host.read_rows(|authority| authority.credentials(project, backend, origin))?.ok_or_else(unknown)
        })
    }

    fn logs<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
        from: LogPosition,
    ) -> BoxFuture<'a, Result<LogChunk, ControlError>> {
        Box::pin(async move {
            let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
            let placement =
                self.host.read_rows(|authority| authority.resolve_backend(project, backend))?.ok_or_else(unknown)?;
            let provider = self.host.provider(placement.spec.provider).map_err(ControlError::Refused)?;
            let from = match from {
                LogPosition::Tail(lines) => provider::LogPosition::Tail(lines),
                LogPosition::Byte(byte) => provider::LogPosition::Byte(byte),
            };
            let chunk = provider.logs(&placement, from).await.map_err(|error| log_unavailable(&placement, &error))?;
            Ok(LogChunk { text: chunk.text, next: chunk.next })
        })
    }

    fn history<'a>(
        &'a self,
        reach: &'a ResourceLevel,
        page: HistoryPage,
    ) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>> {
        Box::pin(async move { Ok(self.host.read_rows_slowly(|authority| authority.history(reach, page))?.unwrap_or_default()) })
    }

    fn verify_history<'a>(
        &'a self,
        reach: &'a ResourceLevel,
        noted: Option<&'a str>,
    ) -> BoxFuture<'a, Result<HistoryVerification, ControlError>> {
        Box::pin(async move {
            let nothing = || HistoryVerification {
                breaks: noted.map(|_| "there is no history at all here, and one was noted".to_owned()).into_iter().collect(),
                ..HistoryVerification::default()
            };
            Ok(self.host.read_rows_slowly(|authority| authority.check_history(reach, noted))?.unwrap_or_else(nothing))
        })
    }

    fn lease_holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<LeaseHolder>, ControlError>> {
        Box::pin(async move {
            Ok(self
                .host
                .read_rows(|authority| authority.holder(project, self.host.now(), |holder| self.liveness(holder)))?
                .flatten())
        })
    }
}

impl Administration for ControlSession {
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRecord>, ControlError>> {
        Box::pin(async move { Ok(self.host.read_rows(crate::authority::Authority::tokens)?.unwrap_or_default()) })
    }

    fn create_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<IssuedToken, ControlError>> {
        Box::pin(async move {
            self.host.write_beside_server(|authority| {
                authority.create_token(request, &self.token_origins, &self.actor, self.host.now())
            })
        })
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId) -> BoxFuture<'a, Result<TokenRecord, ControlError>> {
        Box::pin(
            async move { self.host.write_beside_server(|authority| authority.revoke_token(id, &self.actor, self.host.now())) },
        )
    }

    fn quota<'a>(&'a self, reach: &'a ResourceLevel) -> BoxFuture<'a, Result<Quota, ControlError>> {
        Box::pin(async move { Ok(self.host.read_rows(|authority| authority.quota(reach))?.unwrap_or_default()) })
    }

    fn set_quota<'a>(&'a self, reach: &'a ResourceLevel, quota: &'a Quota) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.host.write_beside_server(|authority| authority.set_quota(reach, quota, &self.actor, self.host.now()))
        })
    }
}

/// Why there is no log to show.
fn log_unavailable(placement: &ResolvedBackend, error: &ProviderError) -> ControlError {
    let finding = effects::effect_failure(placement, error).finding;
    if finding.code != ProviderError::UNSUPPORTED {
        return ControlError::Unreachable(finding);
    }
    // No later try changes this, and whoever asked has another way to it.
    ControlError::Unsupported(match placement.provider_state.get(APP_KEY) {
        Some(app) => finding.with_help(format!("look at it with\n    fly logs --app {app}")),
        None => finding,
    })
}
