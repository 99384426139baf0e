//! Acceptance of put and remove: the intent is written, and everything allocated that it needs, before any effect.
//!
//! Must not do: trust what a client says about itself; protection and quotas are looked up in the rows.

use super::effect::Transition;
use super::operation::{Acceptance, AllocationConflicts, ExecutionMode, Operation, OperationPhase, end_operation};
use super::policy_check::PutChange;
use super::put_request::PutRequest;
use super::retained::{self, NEVER_ENSURED};
use super::{Authority, AuthorityError, EXPIRY_PLAN, dependency, lease, policy_check, quota, removal};
use crate::api::OperationOutcome;
use crate::model::fly::ADOPT_APP_KEY;
use crate::model::{
    BackendId, BackendName, NEWEST_BEFORE, OperationKind, Phase, ReclaimPolicy, Release, SnapshotId, Timestamp,
};
use crate::store::{BackendRow, Rows, Store};

impl<S: Store> Authority<S> {
    pub(super) fn accept_put(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        put: PutRequest,
        renamed_from: Option<&BackendName>,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let Acceptance { lease, request, now, .. } = acceptance;
        let mut project = lease::project_row(rows, &lease.project, now)?;
        project.revision = project.revision.next();
        rows.put_project(&project)?;
        let existing = match rows.backend(&lease.project, &request.backend)? {
            None => renamed_from.map(|old| rows.backend(&lease.project, old)).transpose()?.flatten(),
            found => found,
        };
        let replaces = existing
            .as_ref()
            .is_some_and(|row| row.phase == Phase::Removing || (!row.has_been_ready && row.spec.provider != put.spec.provider));
        let change = self.check_put(rows, &lease.project, request, existing.as_ref(), &put)?;
        if !put.may_adopt {
            retained::check_app(rows, &lease.project, &put.spec)?;
        }
        if acceptance.driver == ExecutionMode::ControlPlane {
            // A plan has no circle; what comes over the wire need not come from one.
            dependency::refuse_cycle(rows, &lease.project, &request.backend, existing.as_ref(), &put.spec)?;
        }
        quota::enforce(rows, &lease.project, existing.as_ref(), &put.spec)?;
        let id = acceptance.find_or_insert_operation(rows, OperationKind::Put, Some(self.digest_of(request)?))?;
        if let Some(mut row) = existing.clone().filter(|_| replaces) {
            if row.phase != Phase::Removing && row.spec.named_place().is_some() {
                // No destruction was allowed, and an app that the manifest named may hold data from before.
                removal::keep_volume(&mut row);
                rows.put_backend(&row)?;
            }
            let pending = self.seal_pending(&id, &put)?;
            rows.put_pending(&id, Some(&pending))?;
            let phase = OperationPhase::Replace(request.backend.clone(), Box::new(put));
            let next = self.first_step(&phase, &row)?;
            return Ok((Some(acceptance.new_operation(id, row.id.clone(), phase)), next));
        }
        if let (PutChange::Move, Some(row)) = (change, &existing) {
            return self.accept_move(rows, acceptance, id, row.clone(), put);
        }
        let upgrade = match &existing {
            Some(row) => self.begin_upgrade(rows, &id, row, &put, now)?,
            None => None,
        };
        let phase = upgrade.map_or(OperationPhase::Put, |upgrade| OperationPhase::Upgrade(Box::new(upgrade)));
        let mut operation = acceptance.new_operation(id, BackendId::new(""), phase);
        match self.write_put(rows, &mut operation, &request.backend, existing, put, now)? {
            Transition::Ended(outcome) => Ok((None, Transition::Ended(outcome))),
            next => Ok((Some(operation), next)),
        }
    }

    /// Writes the specification of a backend, with everything allocated that it needs.
    pub(super) fn write_put(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        name: &BackendName,
        existing: Option<BackendRow>,
        put: PutRequest,
        now: Timestamp,
    ) -> Result<Transition, AuthorityError> {
        let mut row = match existing {
            Some(mut row) => {
                row.name = name.clone();
                row.generation = row.generation.next();
                row.phase = if row.has_been_ready { Phase::Updating } else { Phase::Creating };
                row
            }
            None => self.new_row(rows, &operation.project, name, &put, now)?,
        };
        operation.backend = row.id.clone();
        rows.put_expired(&row.project, &row.name, None)?;
        let may_adopt = put.may_adopt;
        self.write_spec(&mut row, put, now)?;
        if row.is_only_a_record() {
            row.phase = Phase::Ready;
            row.references.remove(NEVER_ENSURED);
            rows.put_backend(&row)?;
            self.record(rows, Some(&row.project), operation.audit_context(now), "backend_recorded", Some(&row.name), "")?;
            let outcome = OperationOutcome::Done { operation: operation.id.clone() };
            return Ok(Transition::Ended(end_operation(rows, &operation.id, outcome, now)?));
        }
        self.allocate(rows, &mut row, &AllocationConflicts::default())?;
        if row.spec.named_place().is_some() && may_adopt && !row.has_been_ready {
            row.references.insert(ADOPT_APP_KEY.to_owned(), "true".to_owned());
        }
        rows.put_backend(&row)?;
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.audit_context(now), "operation_accepted", Some(&row.name), detail)?;
        self.first_step(&operation.phase, &row)
    }

    /// Writes what a request asks for into the row of a backend, with its secrets.
    pub(super) fn write_spec(&self, row: &mut BackendRow, put: PutRequest, now: Timestamp) -> Result<(), AuthorityError> {
        row.stopped = false;
        row.expires_at = put.spec.ttl.map(|ttl| row.created_at.plus(ttl));
        self.seal_secrets(row, &put, now)?;
        row.managed_env.extend(put.spec.env.keys().cloned());
        row.spec = put.spec;
        row.spec.storage.take_certificates();
        let newest = Release::newest(row.newest_release.clone(), row.spec.release.as_ref());
        if let Some(before) = row.newest_release.take().filter(|before| row.has_been_ready && newest.as_ref() != Some(before)) {
            row.references.entry(NEWEST_BEFORE.to_owned()).or_insert_with(|| before.to_string());
        }
        row.newest_release = newest;
        Ok(())
    }

    pub(super) fn accept_remove(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        removal: ReclaimPolicy,
        final_snapshot: bool,
    ) -> Result<(Option<Operation>, Transition), AuthorityError> {
        let Acceptance { lease, request, now, .. } = acceptance;
        let Some(mut row) = rows.backend(&lease.project, &request.backend)? else {
            // The operation belongs to a project, which may have no row yet.
            rows.put_project(&lease::project_row(rows, &lease.project, now)?)?;
            let id = acceptance.find_or_insert_operation(rows, OperationKind::Remove, Some(self.digest_of(request)?))?;
            let outcome = end_operation(rows, &id, OperationOutcome::Done { operation: id.clone() }, now)?;
            return Ok((None, Transition::Ended(outcome)));
        };
        policy_check::check_removal(request, &row)?;
        // One that was never ready has nothing that would be kept.
        let removal = if row.has_been_ready { removal.completed(&row.spec) } else { removal };
        let mut project = lease::project_row(rows, &lease.project, now)?;
        project.revision = project.revision.next();
        rows.put_project(&project)?;
        let id = acceptance.find_or_insert_operation(rows, OperationKind::Remove, Some(self.digest_of(request)?))?;
        // Nothing of it can be anywhere where its provider was never reached.
        let never_existed = !row.has_been_ready && row.references.contains_key(NEVER_ENSURED);
        if row.is_only_a_record() || never_existed {
            rows.delete_backend(&row.id)?;
            if request.step.plan == EXPIRY_PLAN {
                rows.put_expired(&row.project, &row.name, row.expires_at.or(Some(now)))?;
            }
            let outcome = end_operation(rows, &id, OperationOutcome::Done { operation: id.clone() }, now)?;
            self.record(rows, Some(&lease.project), acceptance.audit_context(), "backend_removed", Some(&row.name), "")?;
            return Ok((None, Transition::Ended(outcome)));
        }
        if final_snapshot && row.has_been_ready {
            let mut random = [0; 3];
            (self.entropy)(&mut random)?;
            if let Ok(snapshot) = SnapshotId::of(&row.name, now, random) {
                removal::await_snapshot(&mut row, snapshot, now)?;
            }
        } else {
            removal::snapshot_done(&mut row);
        }
        removal::start(&mut row, removal);
        rows.put_backend(&row)?;
        let detail = format!("operation {id}");
        self.record(rows, Some(&lease.project), acceptance.audit_context(), "removal_accepted", Some(&row.name), detail)?;
        let next = self.first_step(&OperationPhase::Remove, &row)?;
        Ok((Some(acceptance.new_operation(id, row.id.clone(), OperationPhase::Remove)), next))
    }
}
