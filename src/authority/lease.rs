//! Leases: who may change a project, for how long, and how a dead holder makes room.

use serde::{Deserialize, Serialize};

use super::audit::AuditContext;
use super::{Authority, AuthorityError};
use crate::api::{ControlError, LEASE_SECONDS, Lease, LeaseHolder, LeaseNonce, OriginPolicy};
use crate::model::{Actor, ProjectName, Revision, Timestamp};
use crate::policy::{self, OtherOrigin};
use crate::store::{Durability, LeaseRow, ProjectRow, Rows, Store, StoreError};

/// Says what is known about whether a holder still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Its process runs.
    Alive,
    /// Its process is gone, so its lease is not waited for.
    Dead,
    /// It is somewhere else; only time tells.
    Unknown,
}

impl<S: Store> Authority<S> {
    /// Acquires the lease of a project. A request with the nonce of the current lease gets the same lease: the first answer
    /// was lost, or the request came twice.
    ///
    /// # Errors
    /// [`ControlError::LeaseHeld`] when another command has it.
    pub fn acquire(
        &self,
        project: &ProjectName,
        holder: &LeaseHolder,
        now: Timestamp,
        liveness: impl Fn(&LeaseHolder) -> Liveness,
    ) -> Result<Lease, AuthorityError> {
        let mut random = [0; 4];
        (self.entropy)(&mut random)?;
        self.store.write(Durability::NoFsync, |rows| acquire_in(rows, project, holder, random, now, liveness))
    }

    /// Keeps a lease.
    ///
    /// # Errors
    /// [`ControlError::LeaseLost`] when another command has taken it since.
    pub fn renew(&self, lease: &Lease, now: Timestamp) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| {
            let mut row = check_fence(rows, lease)?;
            row.renewed_at = now;
            Ok(rows.put_lease(&row)?)
        })
    }

    /// Gives a lease back. Giving back what was lost is no error.
    pub fn release(&self, lease: &Lease, now: Timestamp) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| release_in(rows, lease, now))
    }

    /// Returns who holds the lease of a project now.
    pub fn holder(
        &self,
        project: &ProjectName,
        now: Timestamp,
        liveness: impl Fn(&LeaseHolder) -> Liveness,
    ) -> Result<Option<LeaseHolder>, AuthorityError> {
        self.store.read(|rows| Ok(rows.lease(project)?.and_then(|row| current_holder(&row, now, &liveness))))
    }

    /// Returns every project that is being changed now, and by whom.
    pub fn holders(
        &self,
        now: Timestamp,
        liveness: impl Fn(&LeaseHolder) -> Liveness,
    ) -> Result<Vec<(ProjectName, LeaseHolder)>, AuthorityError> {
        let rows = self.store.read(|rows| Ok::<_, AuthorityError>(rows.leases()?))?;
        let held = |row: LeaseRow| current_holder(&row, now, &liveness).map(|holder| (row.project, holder));
        Ok(rows.into_iter().filter_map(held).collect())
    }

    /// Notes where a project is at home.
    pub fn set_origin(
        &self,
        lease: &Lease,
        origin: &str,
        claim: OriginPolicy,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| {
            check_fence(rows, lease)?;
            let mut project = project_row(rows, &lease.project, now)?;
            let free = project.origin.is_none() || claim == OriginPolicy::TakeOver;
            if free && project.origin.as_deref() != Some(origin) {
                project.origin = Some(origin.to_owned());
                rows.put_project(&project)?;
                let who = AuditContext { actor, plan: None, at: now };
                self.record(rows, Some(&lease.project), who, "origin_set", None, origin)?;
            }
            Ok(())
        })
    }
}

/// Takes the lease within a transaction.
pub(super) fn acquire_in(
    rows: &dyn Rows,
    project: &ProjectName,
    holder: &LeaseHolder,
    random: [u8; 4],
    now: Timestamp,
    liveness: impl Fn(&LeaseHolder) -> Liveness,
) -> Result<Lease, AuthorityError> {
    let row = rows.lease(project)?;
    // The same request that arrives once more after its lease was given back takes nothing.
    let released = row.as_ref().and_then(|row| row.released.clone());
    if released.is_some() && released.as_deref() == holder.nonce.as_ref().map(LeaseNonce::as_str) {
        return Err(ControlError::LeaseLost { project: project.clone() }.into());
    }
    let asked_before = row
        .as_ref()
        .is_some_and(|row| holder.nonce.is_some() && stored_holder(row).is_some_and(|held| held.attempt == holder.nonce));
    if let Some(row) = row.as_ref().filter(|_| !asked_before)
        && let Some(current) = current_holder(row, now, &liveness)
    {
        return Err(ControlError::LeaseHeld { project: project.clone(), holder: current }.into());
    }
    let before = row.map_or(0, |row| row.fence);
    let fence = if asked_before { before } else { next_fence(before, random) };
    let held = StoredHolder { holder: holder.clone(), attempt: holder.nonce.clone() };
    rows.put_lease(&LeaseRow {
        project: project.clone(),
        fence,
        holder: Some(serde_json::to_string(&held).map_err(StoreError::Unwritable)?),
        renewed_at: now,
        released,
    })?;
    let revision = rows.project(project)?.map_or(Revision(0), |row| row.revision);
    Ok(Lease { project: project.clone(), fence, revision })
}

/// How many low bits of a fence are random.
const RANDOM_BITS: u32 = 31;

/// Returns a fence that is larger than the one before and that only its holder knows: every write under a lease shows its
/// fence. It stays below 2^53, which every reader of JSON can hold.
fn next_fence(before: u64, random: [u8; 4]) -> u64 {
    let count = (before >> RANDOM_BITS) + 1;
    (count << RANDOM_BITS) | u64::from(u32::from_be_bytes(random) >> (32 - RANDOM_BITS))
}

/// Returns the lease with its current holder.
pub(super) fn current_lease(rows: &dyn Rows, project: &ProjectName) -> Result<Lease, AuthorityError> {
    let fence = rows.lease(project)?.map_or(0, |row| row.fence);
    let revision = rows.project(project)?.map_or(Revision(0), |row| row.revision);
    Ok(Lease { project: project.clone(), fence, revision })
}

/// Gives it back within a transaction.
pub(super) fn release_in(rows: &dyn Rows, lease: &Lease, now: Timestamp) -> Result<(), AuthorityError> {
    if let Some(mut row) = rows.lease(&lease.project)?.filter(|row| row.fence == lease.fence) {
        row.released = stored_holder(&row).and_then(|held| Some(held.attempt?.as_str().to_owned()));
        row.holder = None;
        row.renewed_at = now;
        rows.put_lease(&row)?;
    }
    Ok(())
}

/// Returns the row of a lease that is still held. Every write checks this first.
pub(super) fn check_fence(rows: &dyn Rows, lease: &Lease) -> Result<LeaseRow, AuthorityError> {
    rows.lease(&lease.project)?
        .filter(|row| row.fence == lease.fence && row.holder.is_some())
        .ok_or_else(|| ControlError::LeaseLost { project: lease.project.clone() }.into())
}

/// Returns the project's row, new where there is none.
pub(super) fn project_row(rows: &dyn Rows, project: &ProjectName, now: Timestamp) -> Result<ProjectRow, AuthorityError> {
    Ok(rows.project(project)?.unwrap_or_else(|| ProjectRow {
        name: project.clone(),
        revision: Revision(0),
        origin: None,
        created_at: now,
    }))
}

/// A holder in the rows, with what it asked with.
#[derive(Serialize, Deserialize)]
struct StoredHolder {
    #[serde(flatten)]
    holder: LeaseHolder,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    attempt: Option<LeaseNonce>,
}

fn stored_holder(row: &LeaseRow) -> Option<StoredHolder> {
    serde_json::from_str(row.holder.as_deref()?).ok()
}

fn current_holder(row: &LeaseRow, now: Timestamp, liveness: &impl Fn(&LeaseHolder) -> Liveness) -> Option<LeaseHolder> {
    let StoredHolder { holder, .. } = stored_holder(row)?;
    match liveness(&holder) {
        Liveness::Alive => Some(holder),
        Liveness::Dead => None,
        Liveness::Unknown => {
            // A clock that went backwards makes the renewal lie in the future. By more than a lease it says nothing
            // any more, and the fence keeps the old holder from writing.
            let lease = i64::try_from(LEASE_SECONDS * 1000).unwrap_or(i64::MAX);
            (-lease..=lease).contains(&now.since(row.renewed_at)).then_some(holder)
        }
    }
}

/// Refuses work on a project that is managed from another repository than the one of the client.
pub(super) fn check_origin(rows: &dyn Rows, project: &ProjectName, here: Option<&str>) -> Result<(), AuthorityError> {
    let Some(here) = here else { return Ok(()) };
    let recorded = rows.project(project)?.and_then(|row| row.origin);
    match policy::other_repository(project, recorded.as_deref(), here) {
        Some(OtherOrigin { refusal, is_other_remote: true }) => Err(ControlError::Refused(refusal).into()),
        _ => Ok(()),
    }
}
