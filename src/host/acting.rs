//! The control plane as one actor uses it.
//!
//! Must not do: ask whether the actor may; whoever let them in has asked.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Host, perform};
use crate::authority::{Asker, Driver, Liveness, Next};
use crate::control::{
    Administration, Claim, ControlError, ControlPlane, Credentials, HistoryCheck, HistoryEntry, Holder, KeyNeed, Lease,
    LogFrom, LogPiece, Notice, Outcome, Reach, Request,
};

use crate::model::fly::APP;
use crate::model::{
    Actor, BackendName, Finding, FingerprintKey, IssuedToken, Placement, ProjectName, Quota, Snapshot, TokenId, TokenRecord,
    TokenRequest,
};
use crate::provider::{LogPosition, ProviderError};

/// The control plane as one actor uses it.
pub struct Acting {
    pub(super) host: Arc<Host>,
    pub(super) actor: Actor,
    /// Who carries out what this actor asks for.
    driver: Driver,
}

impl Acting {
    pub(super) fn embedded(host: Arc<Host>, actor: Actor) -> Self {
        Self { host, actor, driver: Driver::Holder }
    }

    pub(super) fn served(host: Arc<Host>, actor: Actor) -> Self {
        Self { host, actor, driver: Driver::ControlPlane }
    }

    /// Whether a holder of a lease still lives. A client's word that it does is not taken: only time tells. Its word
    /// that it is gone harms nobody but itself.
    fn liveness(&self, holder: &Holder) -> Liveness {
        match (self.host.platform.liveness(holder), self.driver) {
            (Liveness::Alive, Driver::ControlPlane) => Liveness::Unknown,
            (liveness, _) => liveness,
        }
    }

    /// Carries an operation out here, for as long as somebody waits for it.
    async fn carry_out(&self, lease: &Lease, request: Request, notice: Notice<'_>) -> Result<Outcome, ControlError> {
        self.host.require_possible(&request).await?;
        let accept = |authority: &crate::authority::Authority<_>| {
            authority.accept(lease, Driver::Holder, Asker::Trusted(&self.actor), &request, self.host.now())
        };
        let (mut operation, mut next) = self.host.tell(accept)?;
        loop {
            let effect = match next {
                Next::Ended(outcome) => return Ok(outcome),
                Next::Do(effect) => effect,
            };
            let end = self.host.perform(effect, notice).await;
            let Some(operation) = operation.as_mut() else {
                return Err(ControlError::Record(Finding::new(
                    "bug",
                    "an effect without an operation; this is a bug in convexinfra",
                )));
            };
            next = self.host.tell(|authority| authority.advance(operation, end, self.host.now()))?;
        }
    }

    /// Has the control plane carry an operation out, and waits for its end.
    async fn have_carried_out(&self, lease: &Lease, request: Request, notice: Notice<'_>) -> Result<Outcome, ControlError> {
        let started = self.host.begin(Asker::Trusted(&self.actor), lease, request).await?;
        let record = self.host.until_ended(&lease.project, &started.id, notice).await?;
        let operation = record.id;
        Ok(match record.error {
            None => Outcome::Done { operation },
            Some(finding) => Outcome::Failed { operation, finding },
        })
    }
}

impl ControlPlane for Acting {
    fn snapshot<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Snapshot, ControlError>> {
        Box::pin(self.host.snapshot_of(project))
    }

    fn fingerprint_key<'a>(
        &'a self,
        project: &'a ProjectName,
        need: KeyNeed,
    ) -> BoxFuture<'a, Result<Option<FingerprintKey>, ControlError>> {
        Box::pin(async move { self.host.platform.fingerprint_key(project, need) })
    }

    fn acquire<'a>(&'a self, project: &'a ProjectName, holder: Holder) -> BoxFuture<'a, Result<Lease, ControlError>> {
        Box::pin(async move {
            self.host.tell(|authority| authority.acquire(project, &holder, self.host.now(), |holder| self.liveness(holder)))
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.host.tell(|authority| authority.renew(lease, self.host.now())) })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.host.tell(|authority| authority.release(lease, self.host.now())) })
    }

    fn settle<'a>(&'a self, lease: &'a Lease, origin: &'a str, claim: Claim) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(
            async move { self.host.tell(|authority| authority.settle(lease, origin, claim, &self.actor, self.host.now())) },
        )
    }

    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        request: Request,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<Outcome, ControlError>> {
        Box::pin(async move {
            match self.driver {
                Driver::Holder => self.carry_out(lease, request, notice).await,
                Driver::ControlPlane => self.have_carried_out(lease, request, notice).await,
            }
        })
    }

    fn credentials<'a>(
        &'a self,
        project: &'a ProjectName,
        backend: &'a BackendName,
    ) -> BoxFuture<'a, Result<Credentials, ControlError>> {
        Box::pin(async move {
            let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() };
            self.host.ask(|authority| authority.credentials(project, backend))?.ok_or_else(unknown)
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
            let placement = self.host.ask(|authority| authority.place_of(project, backend))?.ok_or_else(unknown)?;
            let provider = self.host.provider(placement.spec.provider).map_err(ControlError::Refused)?;
            let from = match from {
                LogFrom::Tail(lines) => LogPosition::Tail(lines),
                LogFrom::Byte(byte) => LogPosition::Byte(byte),
            };
            let chunk = provider.logs(&placement, from).await.map_err(|error| no_log(&placement, &error))?;
            Ok(LogPiece { text: chunk.text, next: chunk.next })
        })
    }

    fn history<'a>(&'a self, reach: &'a Reach, limit: u32) -> BoxFuture<'a, Result<Vec<HistoryEntry>, ControlError>> {
        Box::pin(async move { Ok(self.host.ask(|authority| authority.history(reach, limit))?.unwrap_or_default()) })
    }

    fn check_history<'a>(
        &'a self,
        reach: &'a Reach,
        noted: Option<&'a str>,
    ) -> BoxFuture<'a, Result<HistoryCheck, ControlError>> {
        Box::pin(async move {
            let nothing = || HistoryCheck {
                breaks: noted.map(|_| "there is no history at all here, and one was noted".to_owned()).into_iter().collect(),
                ..HistoryCheck::default()
            };
            Ok(self.host.ask(|authority| authority.check_history(reach, noted))?.unwrap_or_else(nothing))
        })
    }

    fn holder<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Option<Holder>, ControlError>> {
        Box::pin(async move {
            Ok(self.host.ask(|authority| authority.holder(project, self.host.now(), |holder| self.liveness(holder)))?.flatten())
        })
    }
}

impl Administration for Acting {
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRecord>, ControlError>> {
        Box::pin(async move { Ok(self.host.ask(crate::authority::Authority::tokens)?.unwrap_or_default()) })
    }

    fn create_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<IssuedToken, ControlError>> {
        Box::pin(async move {
            self.host.tell_beside_others(|authority| authority.create_token(request, &self.actor, self.host.now()))
        })
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId) -> BoxFuture<'a, Result<TokenRecord, ControlError>> {
        Box::pin(
            async move { self.host.tell_beside_others(|authority| authority.revoke_token(id, &self.actor, self.host.now())) },
        )
    }

    fn quota<'a>(&'a self, reach: &'a Reach) -> BoxFuture<'a, Result<Quota, ControlError>> {
        Box::pin(async move { Ok(self.host.ask(|authority| authority.quota(reach))?.unwrap_or_default()) })
    }

    fn set_quota<'a>(&'a self, reach: &'a Reach, quota: &'a Quota) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.host.tell_beside_others(|authority| authority.set_quota(reach, quota, &self.actor, self.host.now()))
        })
    }
}

/// Why there is no log to show.
fn no_log(placement: &Placement, error: &ProviderError) -> ControlError {
    let finding = perform::failure(placement, error).finding;
    if finding.code != ProviderError::UNSUPPORTED {
        return ControlError::Unreachable(finding);
    }
    // No later try changes this, and whoever asked has another way to it.
    ControlError::Unsupported(match placement.references.get(APP) {
        Some(app) => finding.with_help(format!("look at it with\n    fly logs --app {app}")),
        None => finding,
    })
}
