//! Operations: one accepted piece of work and what has to happen next to it.
//!
//! The intent is in the rows before any effect is handed out, and the outcome after it. An operation that was cut off
//! anywhere is taken up again by asking for the same state: every effect looks first and repeats harmlessly.
//!
//! Must not do: carry an effect out itself; the host does that and comes back with what happened.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::{Effect, EffectEnd, EffectFailure, EnvironmentGoal, Next};
use super::{Authority, AuthorityError, allocation, database, lease};
use crate::control::{ControlError, Lease, Outcome, Request, Work};
use crate::fault;
use crate::model::{
    BackendId, BackendName, BackendSpec, DatabaseDisposal, FieldPath, Finding, Generation, OperationId, Phase, References,
    Release, Secret, Timestamp,
};
use crate::store::{BackendRow, Durability, OperationRow, Rows, Store};

/// How often another pair of ports is tried when strangers hold the chosen ones.
const PORT_TRIES: usize = 64;

/// One accepted piece of work while it runs.
#[derive(Debug)]
pub struct Operation {
    id: OperationId,
    lease: Lease,
    backend: BackendId,
    work: Stage,
    /// Ports that turned out to be held by somebody else.
    strangers: BTreeSet<u16>,
}

#[derive(Debug)]
enum Stage {
    Put,
    Remove,
    /// What is there has to go first: a removal that was cut off, or a first attempt with another provider.
    Replace(BackendName, Box<PutRequest>),
}

#[derive(Debug, Clone)]
pub(super) struct PutRequest {
    pub(super) spec: BackendSpec,
    pub(super) secrets: BTreeMap<FieldPath, Secret>,
}

impl<S: Store> Authority<S> {
    /// Accepts a piece of work: writes the intent, allocates what is missing, and says what has to happen first.
    ///
    /// # Errors
    /// [`ControlError`] when the lease is lost or the work is refused; nothing is written then.
    pub fn accept(
        &self,
        lease: &Lease,
        request: &Request,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
        let durability = if self.is_record_only(lease, request)? { Durability::Process } else { Durability::Power };
        let accepted = self.store.write(durability, |rows| {
            lease::fenced(rows, lease)?;
            if let Some(known) = rows.operation(&lease.project, &request.key)?
                && let Some(outcome) = known.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok())
            {
                return Ok((None, Next::Ended(outcome)));
            }
            match &request.work {
                Work::Put { spec, secrets, renamed_from } => {
                    let put = PutRequest { spec: (**spec).clone(), secrets: secrets.clone() };
                    self.accept_put(rows, lease, request, put, renamed_from.as_ref(), now)
                }
                Work::Remove { database } => self.accept_remove(rows, lease, request, *database, now),
            }
        })?;
        fault::point("authority.accepted");
        Ok(accepted)
    }

    /// Whether a piece of work has no effect outside the rows.
    fn is_record_only(&self, lease: &Lease, request: &Request) -> Result<bool, AuthorityError> {
        match &request.work {
            Work::Put { spec, .. } if !spec.is_record_only() => Ok(false),
            // Only who holds the lease could make it more than a record in between.
            Work::Put { .. } | Work::Remove { .. } => self.store.read(|rows| {
                let row = rows.backend(&lease.project, &request.backend)?;
                Ok::<_, AuthorityError>(row.is_none_or(|row| row.is_only_a_record()))
            }),
        }
    }

    /// Takes note of how an effect ended, and says what has to happen next.
    ///
    /// # Errors
    /// [`ControlError::LeaseLost`] when somebody else has taken the project over; nothing is written then.
    pub fn advance(&self, operation: &mut Operation, end: EffectEnd, now: Timestamp) -> Result<Next, AuthorityError> {
        let next = self.store.write(Durability::Power, |rows| {
            lease::fenced(rows, &operation.lease)?;
            let row = self.row_of(rows, operation)?;
            match end {
                EffectEnd::Failed(failure) => self.failed(rows, operation, row, failure, now),
                EffectEnd::DatabasePrepared => Ok(Next::Do(Effect::Ensure(Box::new(self.placement(&row)?)))),
                EffectEnd::Ensured(references) => {
                    let mut row = row;
                    row.references = references;
                    if row.spec.is_record_only() {
                        // It was stopped: nothing will answer.
                        return self.finished(rows, operation, row, now);
                    }
                    rows.put_backend(&row)?;
                    Ok(Next::Do(Effect::AwaitReady(Box::new(self.placement(&row)?))))
                }
                EffectEnd::Ready => self.ready(rows, operation, row, now),
                EffectEnd::EnvironmentSet => self.finished(rows, operation, row, now),
                EffectEnd::Removed if row.spec.has_own_server() => {
                    let disposal = database::disposal(&row);
                    Ok(Next::Do(Effect::ReleaseDatabase(Box::new(self.placement(&row)?), disposal)))
                }
                EffectEnd::Removed | EffectEnd::DatabaseReleased => self.removed(rows, operation, row, now),
            }
        })?;
        fault::point("authority.advanced");
        Ok(next)
    }

    fn row_of(&self, rows: &dyn Rows, operation: &Operation) -> Result<BackendRow, AuthorityError> {
        rows.backend_by_id(&operation.backend)?
            .ok_or_else(|| ControlError::LeaseLost { project: operation.lease.project.clone() }.into())
    }

    fn accept_put(
        &self,
        rows: &dyn Rows,
        lease: &Lease,
        request: &Request,
        put: PutRequest,
        renamed_from: Option<&BackendName>,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
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
        let id = accept_operation(rows, lease, request, "put", now)?;
        if let Some(row) = existing.as_ref().filter(|_| replaces) {
            let operation = Operation {
                id,
                lease: lease.clone(),
                backend: row.id.clone(),
                work: Stage::Replace(request.backend.clone(), Box::new(put)),
                strangers: BTreeSet::new(),
            };
            return Ok((Some(operation), Next::Do(Effect::Remove(Box::new(self.placement(row)?)))));
        }
        self.write_put(rows, lease, id, &request.backend, existing, put, now)
    }

    /// Writes what a backend should be, with everything allocated that it needs.
    #[allow(clippy::too_many_arguments)]
    fn write_put(
        &self,
        rows: &dyn Rows,
        lease: &Lease,
        id: OperationId,
        name: &BackendName,
        existing: Option<BackendRow>,
        put: PutRequest,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
        let mut row = match existing {
            Some(mut row) => {
                row.name = name.clone();
                row.generation = row.generation.next();
                row.phase = if row.has_been_ready { Phase::Updating } else { Phase::Creating };
                row
            }
            None => BackendRow {
                id: allocation::backend_id(self.entropy)?,
                project: lease.project.clone(),
                name: name.clone(),
                instance_name: allocation::instance_name(rows, &lease.project, name)?,
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
        row.expires_at = put.spec.ttl.map(|ttl| row.created_at.plus(ttl));
        self.seal_secrets(&mut row, &put, now)?;
        row.managed_env.extend(put.spec.env.keys().cloned());
        row.spec = put.spec;
        row.newest_release = Release::newest(row.newest_release.take(), row.spec.release.as_ref());
        if row.is_only_a_record() {
            row.phase = Phase::Ready;
            rows.put_backend(&row)?;
            let outcome = end_operation(rows, &id, Outcome::Done { operation: id.clone() }, now)?;
            Self::event(rows, &lease.project, now, "backend_recorded", Some(&row.name), "")?;
            return Ok((None, Next::Ended(outcome)));
        }
        let ports = match row.ports {
            Some(ports) => ports,
            None => allocation::ports(rows, self.first_port, &BTreeSet::new())?,
        };
        self.place(&mut row, ports);
        rows.put_backend(&row)?;
        Self::event(rows, &lease.project, now, "operation_accepted", Some(&row.name), format!("operation {id}"))?;
        let operation =
            Operation { id, lease: lease.clone(), backend: row.id.clone(), work: Stage::Put, strangers: BTreeSet::new() };
        let placement = Box::new(self.placement(&row)?);
        let first = if row.spec.has_own_server() { Effect::PrepareDatabase(placement) } else { Effect::Ensure(placement) };
        Ok((Some(operation), Next::Do(first)))
    }

    fn accept_remove(
        &self,
        rows: &dyn Rows,
        lease: &Lease,
        request: &Request,
        disposal: DatabaseDisposal,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
        let Some(mut row) = rows.backend(&lease.project, &request.backend)? else {
            // The operation belongs to a project, which may have no row yet.
            rows.put_project(&lease::project_row(rows, &lease.project, now)?)?;
            let id = accept_operation(rows, lease, request, "remove", now)?;
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
        let id = accept_operation(rows, lease, request, "remove", now)?;
        if row.is_only_a_record() {
            rows.delete_backend(&row.id)?;
            let outcome = end_operation(rows, &id, Outcome::Done { operation: id.clone() }, now)?;
            Self::event(rows, &lease.project, now, "backend_removed", Some(&row.name), "")?;
            return Ok((None, Next::Ended(outcome)));
        }
        row.phase = Phase::Removing;
        database::note_disposal(&mut row, disposal);
        rows.put_backend(&row)?;
        Self::event(rows, &lease.project, now, "removal_accepted", Some(&row.name), format!("operation {id}"))?;
        let operation =
            Operation { id, lease: lease.clone(), backend: row.id.clone(), work: Stage::Remove, strangers: BTreeSet::new() };
        Ok((Some(operation), Next::Do(Effect::Remove(Box::new(self.placement(&row)?)))))
    }

    fn ready(
        &self,
        rows: &dyn Rows,
        operation: &Operation,
        mut row: BackendRow,
        now: Timestamp,
    ) -> Result<Next, AuthorityError> {
        // From here on there is data to lose.
        row.has_been_ready = true;
        let unset: BTreeSet<String> =
            row.managed_env.iter().filter(|name| !row.spec.env.contains_key(*name)).cloned().collect();
        if row.spec.env.is_empty() && unset.is_empty() {
            return self.finished(rows, operation, row, now);
        }
        rows.put_backend(&row)?;
        let placement = self.placement(&row)?;
        let set = placement
            .secrets
            .iter()
            .filter_map(|(path, value)| path.as_str().strip_prefix("env.").map(|name| (name.to_owned(), value.clone())))
            .collect();
        Ok(Next::Do(Effect::SetEnvironment(Box::new(placement), EnvironmentGoal { set, unset })))
    }

    fn finished(
        &self,
        rows: &dyn Rows,
        operation: &Operation,
        mut row: BackendRow,
        now: Timestamp,
    ) -> Result<Next, AuthorityError> {
        row.phase = Phase::Ready;
        row.managed_env = row.spec.env.keys().cloned().collect();
        rows.put_backend(&row)?;
        let outcome = end_operation(rows, &operation.id, Outcome::Done { operation: operation.id.clone() }, now)?;
        Self::event(rows, &row.project, now, "backend_ready", Some(&row.name), format!("operation {}", operation.id))?;
        Ok(Next::Ended(outcome))
    }

    fn failed(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        mut row: BackendRow,
        failure: EffectFailure,
        now: Timestamp,
    ) -> Result<Next, AuthorityError> {
        if let Some(port) = failure.port_taken
            && !row.has_been_ready
            && matches!(operation.work, Stage::Put)
            && operation.strangers.len() < PORT_TRIES
        {
            // Nobody knows these ports yet, so others do as well.
            operation.strangers.insert(port);
            let ports = allocation::ports(rows, self.first_port, &operation.strangers)?;
            self.place(&mut row, ports);
            rows.put_backend(&row)?;
            return Ok(Next::Do(Effect::Ensure(Box::new(self.placement(&row)?))));
        }
        if matches!(operation.work, Stage::Put) && row.has_been_ready {
            row.phase = Phase::Failed;
            rows.put_backend(&row)?;
        }
        Self::event(rows, &row.project, now, "operation_failed", Some(&row.name), failure.finding.code.clone())?;
        let outcome = Outcome::Failed { operation: operation.id.clone(), finding: failure.finding };
        Ok(Next::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }

    fn removed(
        &self,
        rows: &dyn Rows,
        operation: &mut Operation,
        row: BackendRow,
        now: Timestamp,
    ) -> Result<Next, AuthorityError> {
        rows.delete_backend(&row.id)?;
        Self::event(rows, &row.project, now, "backend_removed", Some(&row.name), format!("operation {}", operation.id))?;
        if let Stage::Replace(name, put) = std::mem::replace(&mut operation.work, Stage::Put) {
            let lease = operation.lease.clone();
            let (next_operation, next) = self.write_put(rows, &lease, operation.id.clone(), &name, None, *put, now)?;
            if let Some(next_operation) = next_operation {
                *operation = next_operation;
            }
            return Ok(next);
        }
        let outcome = Outcome::Done { operation: operation.id.clone() };
        Ok(Next::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }
}

fn accept_operation(
    rows: &dyn Rows,
    lease: &Lease,
    request: &Request,
    kind: &str,
    now: Timestamp,
) -> Result<OperationId, AuthorityError> {
    if let Some(OperationRow { id: Some(id), .. }) = rows.operation(&lease.project, &request.key)? {
        return Ok(id);
    }
    Ok(rows.accept_operation(&OperationRow {
        id: None,
        project: lease.project.clone(),
        backend: request.backend.clone(),
        key: request.key.clone(),
        kind: kind.to_owned(),
        accepted_at: now,
        outcome: None,
    })?)
}

fn end_operation(rows: &dyn Rows, id: &OperationId, outcome: Outcome, now: Timestamp) -> Result<Outcome, AuthorityError> {
    let text = serde_json::to_string(&outcome).unwrap_or_default();
    rows.end_operation(id, now, &text)?;
    Ok(outcome)
}
