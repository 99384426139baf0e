//! What a backend keeps its data in besides its own place, databases and buckets: looked at before work is accepted,
//! prepared before the backend starts, released when it is gone. The place itself is asked what it would refuse.
//!
//! Must not do: decide whether data is kept or dropped.

use std::time::Duration;

use super::findings::Findings;
use super::{Host, buckets, database};
use crate::api::{ControlError, OperationRequest, Preflight, ProgressFn, Work};
use crate::authority::{DatabaseState, EffectResult, preview_without_store};
use crate::model::{Address, DatabaseReclaim, Diagnostic, MOVE_LOCK, ProjectName, ResolvedBackend};
use crate::provider::PlaceFindings;

/// Limits how long a look at storage may take.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(25);

impl Host {
    /// Looks at what a request depends on outside of this control plane. Changes nothing.
    ///
    /// # Errors
    /// [`ControlError`] when the request would be refused by what is recorded.
    pub async fn preflight(&self, project: &ProjectName, request: &OperationRequest) -> Result<Preflight, ControlError> {
        let placement = match self.read_rows(|authority| authority.preview(project, request))? {
            Some(placement) => placement,
            None => preview_without_store(project, request)?,
        };
        match placement {
            Some(placement) => match self.check_reach(project, request).await {
                Err(ControlError::Refused(finding) | ControlError::Unsupported(finding)) => {
                    let mut findings = Findings::default();
                    findings.refuse(&placement, finding);
                    Ok(findings.preflight)
                }
                _ => Ok(self.look_ahead(project, &placement, &request.work).await),
            },
            None => Ok(Preflight::default()),
        }
    }

    /// Refuses what may not be looked at, or is elsewhere.
    async fn check_reach(&self, project: &ProjectName, request: &OperationRequest) -> Result<(), ControlError> {
        self.check_authorized(project, request).await?;
        self.check_place(project, request).await
    }

    /// Looks at what a backend keeps its data in, and at what its place says.
    async fn look_ahead(&self, project: &ProjectName, placement: &ResolvedBackend, work: &Work) -> Preflight {
        let mut found = self.look_at_storage(placement, work).await;
        if matches!(work, Work::Put { .. }) {
            let place = self.look_at_place(project, placement).await;
            found.refusals.extend(place.refusals);
            found.notes.extend(place.notes);
            found.release_order = place.release_order;
            found.room = place.room;
        }
        found
    }

    /// Asks a provider what it, or the place of a backend, would refuse. What does not answer in time is a note.
    async fn look_at_place(&self, project: &ProjectName, placement: &ResolvedBackend) -> Preflight {
        let mut findings = Findings::default();
        let look = async {
            // One that looks ahead asks its place all of it at once.
            if !placement.spec.provider.descriptor().looks_ahead {
                self.check_with_provider(project, &placement.name, &placement.spec).await?;
            }
            match self.provider(placement.spec.provider) {
                Ok(provider) => Ok(provider.preflight(placement).await),
                Err(_) => Ok(PlaceFindings::default()),
            }
        };
        let seen = tokio::select! {
            seen = look => seen,
            () = self.platform.sleep(PREFLIGHT_TIMEOUT) => {
                let message = format!("its place could not be looked at within {} s", PREFLIGHT_TIMEOUT.as_secs());
                findings.note(placement, Diagnostic::new("plan.place_unseen", message));
                return findings.preflight;
            }
        };
        match seen {
            Ok(seen) => {
                seen.refusals.into_iter().for_each(|finding| findings.refuse(placement, finding));
                seen.notes.into_iter().for_each(|finding| findings.note(placement, finding));
                findings.preflight.release_order = seen.release_order;
                findings.preflight.room = seen.room;
            }
            Err(ControlError::Refused(finding) | ControlError::Unsupported(finding)) => findings.refuse(placement, finding),
            Err(_) => {}
        }
        findings.preflight
    }

    async fn look_at_storage(&self, placement: &ResolvedBackend, work: &Work) -> Preflight {
        let mut findings = Findings::default();
        if !needs_look(placement, work) {
            return findings.preflight;
        }
        let look = async {
            // One project's servers, however slow they are, hold up no other's.
            let Some(_turn) = database::permit(self, placement).await else { return false };
            if let Work::Remove { database, .. } = work {
                buckets::look_at_leftovers(self, placement, *database, &mut findings).await;
            } else {
                buckets::look(self, placement, &mut findings).await;
                database::look(self, placement, &mut findings).await;
            }
            true
        };
        let is_done = tokio::select! {
            is_done = look => is_done,
            () = self.platform.sleep(PREFLIGHT_TIMEOUT) => false,
        };
        if !is_done {
            let message = format!("its storage could not be looked at within {} s", PREFLIGHT_TIMEOUT.as_secs());
            findings.note(placement, Diagnostic::new("plan.storage_unseen", message));
        }
        findings.preflight
    }

    /// Refuses a request that a plan would refuse, in its words, and one whose storage or place is seen not to work, before it
    /// replaces anything that does.
    pub(super) async fn check_put(&self, project: &ProjectName, request: &OperationRequest) -> Result<(), ControlError> {
        // A record has neither storage nor place, and accepting it refuses the rest.
        if matches!(&request.work, Work::Put { spec, .. } if spec.is_record_only()) {
            return Ok(());
        }
        let placement = self.read_rows(|authority| authority.preview(project, request))?.flatten();
        // A new backend has nothing to replace: its storage is tried when it is prepared, and its place when it is made.
        let Some(placement) = placement.filter(|placement| placement.has_been_ready) else { return Ok(()) };
        let mut found = self.look_at_storage(&placement, &request.work).await;
        // What a provider can never do is asked when the request is accepted, unless it looks ahead at all of it at once.
        if placement.spec.provider.descriptor().looks_ahead {
            found.refusals.extend(self.look_at_place(project, &placement).await.refusals);
        } else if let Ok(provider) = self.provider(placement.spec.provider) {
            let about = |finding: Diagnostic| finding.about(Address::backend(&placement.name));
            found.refusals.extend(provider.preflight(&placement).await.refusals.into_iter().map(about));
        }
        match found.refusals.into_iter().next() {
            Some(refusal) => Err(ControlError::Refused(refusal)),
            None => Ok(()),
        }
    }
}

fn needs_look(placement: &ResolvedBackend, work: &Work) -> bool {
    let (has_buckets, has_server) = (placement.spec.has_buckets(), placement.spec.has_own_server());
    match work {
        Work::Put { .. } => has_buckets || has_server,
        // With a database that stays, its objects are in use.
        Work::Remove { database, .. } => has_buckets && !(has_server && *database == DatabaseReclaim::Retain),
        Work::Stop {}
        | Work::Start {}
        | Work::Forget {}
        | Work::RotateKey {}
        | Work::DropPrevious {}
        | Work::Snapshot { .. }
        | Work::Restore { .. } => false,
    }
}

/// Prepares the buckets and the database of a backend.
pub(super) async fn prepare(host: &Host, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> EffectResult {
    if placement.provider_state.contains_key(MOVE_LOCK)
        && let Err(failure) = host.release_move_lock(placement).await
    {
        return EffectResult::Failed(failure);
    }
    if placement.spec.has_buckets()
        && let Err(finding) = buckets::prepare(host, placement, notice).await
    {
        return EffectResult::failed(finding);
    }
    if placement.spec.has_own_server() {
        return database::prepare(host, placement, notice).await;
    }
    EffectResult::StoragePrepared
}

/// Releases, retains or drops the database of a backend that is gone, and names what stays of it in buckets.
pub(super) async fn release(
    host: &Host,
    placement: &ResolvedBackend,
    reclaim: DatabaseReclaim,
    notice: ProgressFn<'_>,
) -> EffectResult {
    let (end, prefix) = if placement.spec.has_own_server() {
        database::release(host, placement, reclaim, notice).await
    } else {
        (EffectResult::StorageReleased(DatabaseState::Gone), None)
    };
    // With a database that stays, its objects are in use.
    if placement.spec.has_buckets() && matches!(end, EffectResult::StorageReleased(DatabaseState::Gone)) {
        buckets::name_leftovers(host, placement, prefix.as_deref(), notice).await;
    }
    end
}
