//! The control plane as one actor uses it.
//!
//! Must not do: authorize the actor; `server::auth` has.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Host, WriteMode, effects};
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

    /// Returns the snapshots of a project; none while this control plane has never been used.
    ///
    /// # Errors
    /// The rows or the master key cannot be read.
    #[cfg(feature = "native")]
    pub fn snapshots(&self, project: &ProjectName) -> Result<Option<crate::snapshot::SnapshotStore>, ControlError> {
        self.host.snapshots(project)
    }

    /// Returns whether a holder of a lease still lives. A client's word that it does is not taken: only time tells. Its
    /// word that it is gone harms only itself.
    fn liveness(&self, holder: &LeaseHolder) -> Liveness {
        match (self.host.platform.liveness(holder), self.mode) {
            (Liveness::Alive, ExecutionMode::ControlPlane) => Liveness::Unknown,
            (liveness, _) => liveness,
        }
    }

    /// Executes an operation here, while the caller waits for it.
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
        loop {
            let (operation, next) = self.host.write_rows(accept)?;
            // An earlier operation that is still being undone ends first.
            let is_earlier = operation.as_ref().is_some_and(|operation| !operation.is_of(&request.step));
            let outcome = self.host.run_here(operation, next, notice).await?;
            if !is_earlier {
                return Ok(outcome);
            }
        }
    }

    /// Starts an operation in the control plane, and waits for its end.
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

#[async_trait]
impl ControlPlane for ControlSession {
    async fn snapshot(&self, project: &ProjectName) -> Result<Snapshot, ControlError> {
        self.host.snapshot_of(project).await
    }

    async fn projects(&self) -> Result<Vec<ProjectName>, ControlError> {
        self.host.projects()
    }

    async fn fingerprint_key(&self, project: &ProjectName, need: IfMissing) -> Result<Option<FingerprintKey>, ControlError> {
        self.host.platform.fingerprint_key(project, need)
    }

    async fn acquire_lease(&self, project: &ProjectName, holder: LeaseHolder) -> Result<Lease, ControlError> {
        // A command knows what it will do; here it may be a removal.
        if self.mode == ExecutionMode::ControlPlane {
            self.host.platform.release_reserve();
        }
        self.host.write_for_client(WriteMode::Exclusive, Some(project), |authority| {
            authority.acquire(project, &holder, self.host.now(), |holder| self.liveness(holder))
        })
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<(), ControlError> {
        let project = Some(&lease.project);
        self.host.write_for_client(WriteMode::Exclusive, project, |authority| authority.renew(lease, self.host.now()))
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), ControlError> {
        let project = Some(&lease.project);
        self.host.write_for_client(WriteMode::Exclusive, project, |authority| authority.release(lease, self.host.now()))
    }

    async fn set_origin(&self, lease: &Lease, origin: &str, claim: OriginPolicy) -> Result<(), ControlError> {
        self.host.write_for_client(WriteMode::Exclusive, Some(&lease.project), |authority| {
            authority.set_origin(lease, origin, claim, &self.actor, self.host.now())
        })
    }

    async fn preflight(&self, project: &ProjectName, request: &OperationRequest) -> Result<Preflight, ControlError> {
        self.host.preflight(project, request).await
    }

    async fn run(
        &self,
        lease: &Lease,
        request: OperationRequest,
        notice: ProgressFn<'_>,
    ) -> Result<OperationOutcome, ControlError> {
        match self.mode {
            ExecutionMode::LeaseHolder => self.run_embedded(lease, request, notice).await,
            ExecutionMode::ControlPlane => self.run_served(lease, request, notice).await,
        }
    }

    async fn credentials(
        &self,
        project: &ProjectName,
        backend: &BackendName,
        origin: Option<&str>,
    ) -> Result<Credentials, ControlError> {
        let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
        self.host.read_rows(|authority| authority.credentials(project, backend, origin))?.ok_or_else(unknown)
    }

    async fn logs(&self, project: &ProjectName, backend: &BackendName, from: LogPosition) -> Result<LogChunk, ControlError> {
        let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
        let placement = self.host.read_rows(|authority| authority.resolve_backend(project, backend))?.ok_or_else(unknown)?;
        let provider = self.host.provider(placement.spec.provider).map_err(ControlError::Refused)?;
        let from = match from {
            LogPosition::Tail(lines) => provider::LogPosition::Tail(lines),
            LogPosition::Byte(byte) => provider::LogPosition::Byte(byte),
        };
        let chunk = provider.logs(&placement, from).await.map_err(|error| log_unavailable(&placement, &error))?;
        Ok(LogChunk { text: chunk.text, next: chunk.next })
    }

    async fn history(&self, reach: &ResourceLevel, page: HistoryPage) -> Result<Vec<HistoryEntry>, ControlError> {
        Ok(self.host.read_rows_slowly(|authority| authority.history(reach, page))?.unwrap_or_default())
    }

    async fn verify_history(&self, reach: &ResourceLevel, noted: Option<&str>) -> Result<HistoryVerification, ControlError> {
        let nothing = || HistoryVerification {
            breaks: noted.map(|_| "there is no history at all here, and one was noted".to_owned()).into_iter().collect(),
            ..HistoryVerification::default()
        };
        Ok(self.host.read_rows_slowly(|authority| authority.check_history(reach, noted))?.unwrap_or_else(nothing))
    }

    async fn lease_holder(&self, project: &ProjectName) -> Result<Option<LeaseHolder>, ControlError> {
        Ok(self
            .host
            .read_rows(|authority| authority.holder(project, self.host.now(), |holder| self.liveness(holder)))?
            .flatten())
    }
}

#[async_trait]
impl Administration for ControlSession {
    async fn tokens(&self) -> Result<Vec<TokenRecord>, ControlError> {
        Ok(self.host.read_rows(crate::authority::Authority::tokens)?.unwrap_or_default())
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<IssuedToken, ControlError> {
        self.host.write_for_client(WriteMode::BesideServer, None, |authority| {
            authority.create_token(request, &self.token_origins, &self.actor, self.host.now())
        })
    }

    async fn revoke_token(&self, id: &TokenId) -> Result<TokenRecord, ControlError> {
        self.host.write_for_client(WriteMode::BesideServer, None, |authority| {
            authority.revoke_token(id, &self.actor, self.host.now())
        })
    }

    async fn quota(&self, reach: &ResourceLevel) -> Result<Quota, ControlError> {
        Ok(self.host.read_rows(|authority| authority.quota(reach))?.unwrap_or_default())
    }

    async fn set_quota(&self, reach: &ResourceLevel, quota: &Quota) -> Result<(), ControlError> {
        self.host.write_for_client(WriteMode::BesideServer, None, |authority| {
            authority.set_quota(reach, quota, &self.actor, self.host.now())
        })
    }
}

/// Returns why there is no log to show.
fn log_unavailable(placement: &ResolvedBackend, error: &ProviderError) -> ControlError {
    let finding = effects::effect_failure(placement, error).finding;
    if finding.code != ProviderError::UNSUPPORTED {
        return ControlError::Unreachable(finding);
    }
    // No retry changes this, and the user has another way to it.
    ControlError::Unsupported(match placement.provider_state.get(APP_KEY) {
        Some(app) => finding.with_help(format!("look at it with\n    fly logs --app {app}")),
        None => finding,
    })
}
