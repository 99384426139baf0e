//! Backends whose time is over: which of them go now, and when a removal that failed is tried again.
//!
//! Every attempt is an operation of its own, so the rows say how many there were and when the last one ended.

use super::operation::{Acceptance, ExecutionMode, Operation};
use super::token::Principal;
use super::{Authority, AuthorityError, Liveness, Transition, lease, removal};
use crate::api::{ControlError, Lease, LeaseHolder, OperationRequest, Work};
use crate::failpoint;
use crate::model::{Actor, BackendName, Phase, ProjectName, ReclaimPolicy, StepKey, Timestamp};
use crate::store::{BackendRow, Durability, Rows, Store};

/// The plan that removals of expired backends are a part of. No client's step may name it: one that had ended under the
/// step of an expiry would stand in for the removal.
pub const EXPIRY_PLAN: &str = "expiry";

/// How long after a failed removal the next one is tried, in milliseconds: twice as long each time, up to the longest.
const FIRST_BACKOFF_MS: i64 = 5_000;
const MAX_BACKOFF_MS: i64 = 300_000;

/// How long a removal waits for the holder of the lease, in milliseconds: renewing a lease for ever gives a backend no more
/// time than it has.
const HOLDER_GRACE_MS: i64 = 60_000;

/// A removal that was not tried yet.
#[derive(Debug)]
struct RemovalAttempt {
    step: StepKey,
    due: Timestamp,
}

impl<S: Store> Authority<S> {
    /// Returns the backends that nothing protects, whose time is over, and whose removal is to be tried now.
    pub fn expired(&self, now: Timestamp) -> Result<Vec<(ProjectName, BackendName)>, AuthorityError> {
        self.store.read(|rows| {
            let mut due = Vec::new();
            for row in rows.expired(now)? {
                if next_attempt(rows, &row)?.is_some_and(|attempt| attempt.due <= now) {
                    due.push((row.project, row.name));
                }
            }
            Ok(due)
        })
    }

    /// Returns when the next expired backend is removed, or its removal retried; none where there is no such backend, or
    /// where the removal has begun.
    pub fn next_expiry(&self) -> Result<Option<Timestamp>, AuthorityError> {
        self.store.read(|rows| {
            let mut next: Option<Timestamp> = None;
            for row in rows.expired(Timestamp(i64::MAX))? {
                if let Some(RemovalAttempt { due, .. }) = next_attempt(rows, &row)? {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            Ok(next)
        })
    }

    /// Begins the removal of a backend whose time is over. None when it has more time by now, or another attempt is to
    /// be waited for. The lease is taken and given back with the same write: if nothing begins, it was never taken.
    ///
    /// # Errors
    /// [`ControlError::LeaseHeld`] while another command is changing the project, for the first minute.
    pub fn expire(
        &self,
        project: &ProjectName,
        backend: &BackendName,
        holder: &LeaseHolder,
        now: Timestamp,
    ) -> Result<Option<(Option<Operation>, Transition)>, AuthorityError> {
        let mut random = [0; 4];
        (self.entropy)(&mut random)?;
        let begun = self.store.write(Durability::Fsync, |rows| {
            let Some(row) = rows.backend(project, backend)? else { return Ok(None) };
            let Some(RemovalAttempt { step, due }) = next_attempt(rows, &row)?.filter(|attempt| attempt.due <= now) else {
                return Ok(None);
            };
            let (lease, is_own) = match lease::acquire_in(rows, project, holder, random, now, |_| Liveness::Unknown) {
                // Its holder keeps it: what it asks for next finds a backend that is being removed, as after any drift.
                Err(AuthorityError::Control(ControlError::LeaseHeld { .. })) if now.since(due) > HOLDER_GRACE_MS => {
                    (lease::current_lease(rows, project)?, false)
                }
                taken => (taken?, true),
            };
            // There is no request here, so the policy of an earlier request holds.
            let ReclaimPolicy { volume, database } = removal::requested(&row).unwrap_or_default();
            let final_snapshot = removal::awaits_snapshot(&row.references);
            let begun = self.accept_own(rows, &lease, step, backend, Work::Remove { volume, database, final_snapshot }, now)?;
            if is_own {
                lease::release_in(rows, &lease, now)?;
            }
            Ok::<_, AuthorityError>(Some(begun))
        })?;
        failpoint::hit("authority.expired");
        Ok(begun)
    }
}

/// The plan that starts of backends whose processes ended are a part of. No client's step may name it.
pub const KEEP_RUNNING_PLAN: &str = "keep-running";

impl<S: Store> Authority<S> {
    /// Begins to start a backend that should run. None when it should not any more. The lease is taken and given back with
    /// the same write.
    ///
    /// # Errors
    /// [`ControlError::LeaseHeld`] while another command is changing the project.
    pub fn restart(
        &self,
        project: &ProjectName,
        backend: &BackendName,
        holder: &LeaseHolder,
        now: Timestamp,
    ) -> Result<Option<(Option<Operation>, Transition)>, AuthorityError> {
        let mut random = [0; 4];
        (self.entropy)(&mut random)?;
        self.store.write(Durability::Fsync, |rows| {
            let Some(row) = rows.backend(project, backend)?.filter(|row| row.phase == Phase::Ready && !row.stopped) else {
                return Ok(None);
            };
            let lease = lease::acquire_in(rows, project, holder, random, now, |_| Liveness::Unknown)?;
            let step = StepKey { plan: KEEP_RUNNING_PLAN.to_owned(), step: format!("{}:{}", row.id, now.0) };
            let begun = self.accept_own(rows, &lease, step, backend, Work::Start {}, now)?;
            lease::release_in(rows, &lease, now)?;
            Ok(Some(begun))
        })
    }

    /// Accepts what the control plane asks of itself.
    fn accept_own(
        &self,
        rows: &dyn Rows,
        lease: &Lease,
        step: StepKey,
        backend: &BackendName,
        work: Work,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let request = OperationRequest { step, backend: backend.clone(), work, origin: None };
        let actor = Actor::control_plane();
        let driver = ExecutionMode::ControlPlane;
        let acceptance = Acceptance { lease, driver, actor: &actor, request: &request, now };
        self.accept_in(rows, acceptance, Principal::Trusted(&actor))
    }
}

/// Returns the removal of a backend that is to be tried next, because of its time. None while one has not ended: it runs,
/// or is taken up again.
fn next_attempt(rows: &dyn Rows, row: &BackendRow) -> Result<Option<RemovalAttempt>, AuthorityError> {
    let Some(end) = row.expires_at.filter(|_| !row.spec.protected) else { return Ok(None) };
    let first = StepKey { plan: EXPIRY_PLAN.to_owned(), step: format!("{}:{}", row.id, end.0) };
    let Some(last) = rows.last_attempt(&row.project, &first)? else {
        return Ok(Some(RemovalAttempt { step: first, due: end }));
    };
    let Some(ended_at) = last.ended_at else { return Ok(None) };
    // The first attempt has no number.
    let number = last.step.step.strip_prefix(&first.step).and_then(|rest| rest.strip_prefix(':')?.parse::<u32>().ok());
    let failed = number.unwrap_or(0).saturating_add(1);
    // As wide as it takes for the texts to have the order of the numbers.
    let step = StepKey { step: format!("{}:{failed:010}", first.step), ..first };
    Ok(Some(RemovalAttempt { step, due: ended_at.plus_milliseconds(backoff_ms(failed)) }))
}

/// Returns how long is waited after so many failed attempts.
fn backoff_ms(failed: u32) -> i64 {
    let doublings = failed.saturating_sub(1).min(16);
    (FIRST_BACKOFF_MS << doublings).min(MAX_BACKOFF_MS)
}
