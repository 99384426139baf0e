//! Accepting a piece of work: the intent is written, and everything allocated that it needs, before anything happens.
//!
//! Must not do: trust what a client says about itself; protection and quotas are looked up in the rows.

use std::collections::{BTreeMap, BTreeSet};

use super::audit::Who;
use super::effect::{Effect, Next};
use super::operation::{Driver, Operation, PutRequest, Stage, Strangers, end_operation};
use super::{Authority, AuthorityError, allocation, dependency, lease, quota, removal};
use crate::control::{ControlError, Lease, Outcome, Request};
use crate::model::{
    Actor, BackendId, BackendName, Finding, Generation, OperationId, OperationKind, Phase, Placement, References, Release,
    Removal, Timestamp,
};
use crate::store::{BackendRow, OperationRow, Rows, Store};

/// One request with everything that was said beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acceptance<'a> {
    pub(super) lease: &'a Lease,
    pub(super) driver: Driver,
    pub(super) actor: &'a Actor,
    pub(super) request: &'a Request,
    pub(super) now: Timestamp,
}

impl Acceptance<'_> {
    fn who(&self) -> Who<'_> {
        Who { actor: self.actor, plan: Some(&self.request.step.plan), at: self.now }
    }

    /// The operation of this step: the one that was accepted before, or a new one.
    fn operation(&self, rows: &dyn Rows, kind: OperationKind) -> Result<OperationId, AuthorityError> {
        let Self { lease, request, .. } = self;
        if let Some(OperationRow { id: Some(id), .. }) = rows.operation(&lease.project, &request.step)? {
            return Ok(id);
        }
        Ok(rows.accept_operation(&OperationRow {
            id: None,
            project: lease.project.clone(),
            backend: request.backend.clone(),
            step: request.step.clone(),
            kind,
            actor: Some(self.actor.clone()),
            accepted_at: self.now,
            ended_at: None,
            outcome: None,
            pending: None,
        })?)
    }

    fn begun(&self, id: OperationId, backend: BackendId, work: Stage) -> Operation {
        Operation {
            id,
            project: self.lease.project.clone(),
            backend,
            step: self.request.step.clone(),
            actor: self.actor.clone(),
            lease: (self.driver == Driver::Holder).then(|| self.lease.clone()),
            work,
            strangers: Strangers::default(),
        }
    }
}

impl<S: Store> Authority<S> {
    pub(super) fn accept_put(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        put: PutRequest,
        renamed_from: Option<&BackendName>,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
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
        if let Some(row) = &existing
            && !replaces
            && row.spec.provider != put.spec.provider
        {
            let message =
                format!("`{}` cannot move from provider `{}` to `{}`", request.backend, row.spec.provider, put.spec.provider);
            return Err(ControlError::Refused(Finding::new("control.moves_data", message)).into());
        }
        if acceptance.driver == Driver::ControlPlane {
            // A plan has no circle; what comes over the wire need not come from one.
            dependency::check(rows, &lease.project, &request.backend, existing.as_ref(), &put.spec)?;
        }
        quota::check(rows, &lease.project, existing.as_ref(), &put.spec)?;
        let id = acceptance.operation(rows, OperationKind::Put)?;
        if let Some(mut row) = existing.clone().filter(|_| replaces) {
            if row.phase != Phase::Removing && row.spec.settings.fly.app.is_some() {
                // Nobody allowed that anything is destroyed, and an app that the manifest named may hold data from before.
                removal::keep_volume(&mut row);
                rows.put_backend(&row)?;
            }
            let pending = self.seal_pending(&id, &put)?;
            rows.put_pending(&id, Some(&pending))?;
            let work = Stage::Replace(request.backend.clone(), Box::new(put));
            let operation = acceptance.begun(id, row.id.clone(), work);
            return Ok((Some(operation), Next::Do(Effect::Remove(Box::new(self.placement(&row)?)))));
        }
        let mut operation = acceptance.begun(id, BackendId::new(""), Stage::Put);
        match self.write_put(rows, &mut operation, &request.backend, existing, put, now)? {
            Next::Ended(outcome) => Ok((None, Next::Ended(outcome))),
            next => Ok((Some(operation), next)),
        }
    }

    /// Writes what a backend should be, with everything allocated that it needs.
    pub(super) fn write_put(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        name: &BackendName,
        existing: Option<BackendRow>,
        put: PutRequest,
        now: Timestamp,
    ) -> Result<Next, AuthorityError> {
        let mut row = match existing {
            Some(mut row) => {
                row.name = name.clone();
                row.generation = row.generation.next();
                row.phase = if row.has_been_ready { Phase::Updating } else { Phase::Creating };
                row
            }
            None => BackendRow {
                id: allocation::backend_id(self.entropy)?,
                project: operation.project.clone(),
                name: name.clone(),
                instance_name: allocation::instance_name(rows, &operation.project, name)?,
                phase: Phase::Creating,
                generation: Generation(1),
                spec: put.spec.clone(),
                fingerprints: BTreeMap::new(),
                managed_env: BTreeSet::new(),
                endpoints: None,
                admin_key: None,
                ports: None,
                references: References::new(),
                newest_release: None,
                has_been_ready: false,
                created_at: now,
                expires_at: None,
                sealed: Vec::new(),
            },
        };
        operation.backend = row.id.clone();
        row.expires_at = put.spec.ttl.map(|ttl| row.created_at.plus(ttl));
        self.seal_secrets(&mut row, &put, now)?;
        row.managed_env.extend(put.spec.env.keys().cloned());
        row.spec = put.spec;
        row.newest_release = Release::newest(row.newest_release.take(), row.spec.release.as_ref());
        if row.is_only_a_record() {
            row.phase = Phase::Ready;
            rows.put_backend(&row)?;
            self.record(rows, Some(&row.project), operation.who(now), "backend_recorded", Some(&row.name), "")?;
            let outcome = Outcome::Done { operation: operation.id.clone() };
            return Ok(Next::Ended(end_operation(rows, &operation.id, outcome, now)?));
        }
        self.place(rows, &mut row, &Strangers::default())?;
        rows.put_backend(&row)?;
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.who(now), "operation_accepted", Some(&row.name), detail)?;
        Ok(Next::Do(first_effect(self.placement(&row)?)))
    }

    pub(super) fn accept_remove(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        removal: Removal,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
        let Acceptance { lease, request, now, .. } = acceptance;
        let Some(mut row) = rows.backend(&lease.project, &request.backend)? else {
            // The operation belongs to a project, which may have no row yet.
            rows.put_project(&lease::project_row(rows, &lease.project, now)?)?;
            let id = acceptance.operation(rows, OperationKind::Remove)?;
            let outcome = end_operation(rows, &id, Outcome::Done { operation: id.clone() }, now)?;
            return Ok((None, Next::Ended(outcome)));
        };
        if row.spec.protected && row.phase != Phase::Removing {
            let message = format!("`{}` is protected", row.name);
            return Err(ControlError::Refused(Finding::new("control.protected", message)).into());
        }
        let mut project = lease::project_row(rows, &lease.project, now)?;
        project.revision = project.revision.next();
        rows.put_project(&project)?;
        let id = acceptance.operation(rows, OperationKind::Remove)?;
        if row.is_only_a_record() {
            rows.delete_backend(&row.id)?;
            let outcome = end_operation(rows, &id, Outcome::Done { operation: id.clone() }, now)?;
            self.record(rows, Some(&lease.project), acceptance.who(), "backend_removed", Some(&row.name), "")?;
            return Ok((None, Next::Ended(outcome)));
        }
        removal::begin(&mut row, removal);
        rows.put_backend(&row)?;
        let detail = format!("operation {id}");
        self.record(rows, Some(&lease.project), acceptance.who(), "removal_accepted", Some(&row.name), detail)?;
        let operation = acceptance.begun(id, row.id.clone(), Stage::Remove);
        Ok((Some(operation), Next::Do(Effect::Remove(Box::new(self.placement(&row)?)))))
    }
}

/// What has to happen first to a backend that is to be brought up.
pub(super) fn first_effect(placement: Placement) -> Effect {
    let placement = Box::new(placement);
    if placement.spec.has_own_server() { Effect::PrepareDatabase(placement) } else { Effect::Ensure(placement) }
}
