//! Operations: one accepted piece of work and what has to happen next to it.
//!
//! The intent is in the rows before any effect is handed out, and the outcome after it. An operation that was cut off
//! anywhere is taken up again by asking for the same state, or by the control plane itself when it starts anew: every
//! effect looks first and repeats harmlessly.
//!
//! Must not do: carry an effect out itself; the host does that and comes back with what happened.

use std::collections::{BTreeMap, BTreeSet};

use super::accept::Acceptance;
use super::audit::Who;
use super::effect::{Effect, EffectEnd, EffectFailure, EnvironmentGoal, Next, Taken};
use super::token::Asker;
use super::{Authority, AuthorityError, lease, removal};
use crate::control::{ControlError, Lease, Outcome, Request, Work};
use crate::fault;
use crate::model::{
    Actor, BackendId, BackendName, BackendSpec, FieldPath, Finding, OperationId, OperationKind, Phase, ProjectName, Removal,
    Scope, Secret, StepKey, Timestamp,
};
use crate::store::{BackendRow, Durability, OperationRow, Rows, Store, StoreError};

/// How often another pair of ports is tried when strangers hold the chosen ones.
const PORT_TRIES: usize = 64;
/// How often another name is tried when somebody else has an app of the chosen one.
const APP_TRIES: u32 = 4;

/// Who carries an operation out, and so what has to hold for it to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Whoever holds the lease: with the lease it loses the operation.
    Holder,
    /// The control plane itself: the operation goes on when the client that asked for it is gone.
    ControlPlane,
}

/// One accepted piece of work while it runs.
#[derive(Debug)]
pub struct Operation {
    pub(super) id: OperationId,
    pub(super) project: ProjectName,
    pub(super) backend: BackendId,
    pub(super) step: StepKey,
    pub(super) actor: Actor,
    /// The lease without which it may not go on; none when the control plane drives it.
    pub(super) lease: Option<Lease>,
    pub(super) work: Stage,
    /// What turned out to be somebody else's.
    pub(super) strangers: Strangers,
}

/// What was allocated and turned out to be somebody else's.
#[derive(Debug, Clone, Default)]
pub(super) struct Strangers {
    /// Ports.
    pub(super) ports: BTreeSet<u16>,
    /// How many names of apps.
    pub(super) apps: u32,
}

impl Strangers {
    /// Takes note of one more. False once there were so many that another try makes no sense.
    fn note(&mut self, taken: Taken) -> bool {
        match taken {
            Taken::Port(port) => {
                self.ports.insert(port);
                self.ports.len() <= PORT_TRIES
            }
            Taken::App => {
                self.apps += 1;
                self.apps <= APP_TRIES
            }
        }
    }
}

impl Operation {
    /// Its id.
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    pub(super) fn who(&self, at: Timestamp) -> Who<'_> {
        Who { actor: &self.actor, plan: Some(&self.step.plan), at }
    }
}

#[derive(Debug)]
pub(super) enum Stage {
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
    /// [`ControlError`] when the lease is lost, the asker may not have this done, or the work is refused; nothing is
    /// written then.
    pub fn accept(
        &self,
        lease: &Lease,
        driver: Driver,
        asker: Asker<'_>,
        request: &Request,
        now: Timestamp,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
        let durability = if self.is_record_only(lease, request)? { Durability::Process } else { Durability::Power };
        let actor = asker.actor();
        let accepted = self
            .store
            .write(durability, |rows| self.accept_in(rows, Acceptance { lease, driver, actor: &actor, request, now }, asker))?;
        fault::point("authority.accepted");
        Ok(accepted)
    }

    /// The same within a transaction.
    pub(super) fn accept_in(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
        asker: Asker<'_>,
    ) -> Result<(Option<Operation>, Next), AuthorityError> {
        let Acceptance { lease, request, now, .. } = acceptance;
        lease::fenced(rows, lease)?;
        if let Some(known) = rows.operation(&lease.project, &request.step)? {
            same_work(&known.backend, known.kind, request)?;
            if let Some(outcome) = known.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
                return Ok((None, Next::Ended(outcome)));
            }
        }
        // Here and not before: what the name means may have changed since the request came.
        if takes_away(rows, &lease.project, request)? {
            asker.may(Scope::Destroy, &lease.project)?;
        }
        supersede(rows, lease, request, now)?;
        match &request.work {
            Work::Put { spec, secrets, renamed_from } => {
                let put = PutRequest { spec: (**spec).clone(), secrets: secrets.clone() };
                self.accept_put(rows, acceptance, put, renamed_from.as_ref())
            }
            Work::Remove { volume, database } => {
                self.accept_remove(rows, acceptance, Removal { volume: *volume, database: *database })
            }
        }
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
            may_go_on(rows, operation)?;
            let row = row_of(rows, operation)?;
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
                    let disposal = removal::database_disposal(&row);
                    Ok(Next::Do(Effect::ReleaseDatabase(Box::new(self.placement(&row)?), disposal)))
                }
                EffectEnd::Removed | EffectEnd::DatabaseReleased => self.removed(rows, operation, row, now),
            }
        })?;
        fault::point("authority.advanced");
        Ok(next)
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
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.who(now), "backend_ready", Some(&row.name), detail)?;
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
        if let Some(taken) = failure.taken
            && !row.has_been_ready
            && matches!(operation.work, Stage::Put)
            && operation.strangers.note(taken)
        {
            // Nobody knows these ports or this name yet, so others do as well.
            self.place(rows, &mut row, &operation.strangers)?;
            rows.put_backend(&row)?;
            return Ok(Next::Do(Effect::Ensure(Box::new(self.placement(&row)?))));
        }
        if matches!(operation.work, Stage::Put) && row.has_been_ready {
            row.phase = Phase::Failed;
            rows.put_backend(&row)?;
        }
        let detail = format!("operation {}: {}", operation.id, failure.finding.code);
        self.record(rows, Some(&row.project), operation.who(now), "operation_failed", Some(&row.name), detail)?;
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
        let detail = format!("operation {}", operation.id);
        self.record(rows, Some(&row.project), operation.who(now), "backend_removed", Some(&row.name), detail)?;
        if let Stage::Replace(name, put) = std::mem::replace(&mut operation.work, Stage::Put) {
            rows.put_pending(&operation.id, None)?;
            return self.write_put(rows, operation, &name, None, *put, now);
        }
        let outcome = Outcome::Done { operation: operation.id.clone() };
        Ok(Next::Ended(end_operation(rows, &operation.id, outcome, now)?))
    }
}

/// Whether whoever carries an operation out may still do so.
fn may_go_on(rows: &dyn Rows, operation: &Operation) -> Result<(), AuthorityError> {
    match &operation.lease {
        Some(lease) => lease::fenced(rows, lease).map(drop),
        // Once it has ended, by whomever, nothing more is done in its name.
        None => match rows.operation_by_id(&operation.id)? {
            Some(OperationRow { ended_at: None, .. }) => Ok(()),
            _ => Err(ControlError::LeaseLost { project: operation.project.clone() }.into()),
        },
    }
}

fn row_of(rows: &dyn Rows, operation: &Operation) -> Result<BackendRow, AuthorityError> {
    rows.backend_by_id(&operation.backend)?.ok_or_else(|| ControlError::LeaseLost { project: operation.project.clone() }.into())
}

/// Ends what an earlier holder of the lease left open on the same backend: this request takes its place.
fn supersede(rows: &dyn Rows, lease: &Lease, request: &Request, now: Timestamp) -> Result<(), AuthorityError> {
    for open in rows.open_operations_on(&lease.project, &request.backend)? {
        if let Some(id) = open.id.filter(|_| open.step != request.step) {
            let finding = Finding::new("control.superseded", "a later operation on the same backend took its place");
            end_operation(rows, &id, Outcome::Failed { operation: id.clone(), finding }, now)?;
        }
    }
    Ok(())
}

pub(super) fn end_operation(
    rows: &dyn Rows,
    id: &OperationId,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Outcome, AuthorityError> {
    let text = serde_json::to_string(&outcome).map_err(StoreError::Unwritable)?;
    rows.end_operation(id, now, &text)?;
    Ok(outcome)
}

/// Refuses a step that was sent before as other work, or for another backend: whoever sent it would take the end of that
/// for the end of this.
///
/// # Errors
/// [`ControlError::Refused`].
pub fn same_work(backend: &BackendName, kind: OperationKind, request: &Request) -> Result<(), ControlError> {
    let asked = match request.work {
        Work::Put { .. } => OperationKind::Put,
        Work::Remove { .. } => OperationKind::Remove,
    };
    if *backend == request.backend && kind == asked {
        return Ok(());
    }
    let message = format!("the step `{}` was sent before as another piece of work", request.step);
    Err(ControlError::Refused(Finding::new("control.step_reused", message)))
}

/// Whether this work takes a backend away, or has one with data removed by itself sooner than it would be now: whoever
/// may not do the one may not do the other either.
fn takes_away(rows: &dyn Rows, project: &ProjectName, request: &Request) -> Result<bool, AuthorityError> {
    let Work::Put { spec, renamed_from, .. } = &request.work else { return Ok(true) };
    let row = match (rows.backend(project, &request.backend)?, renamed_from) {
        (None, Some(old)) => rows.backend(project, old)?,
        (row, _) => row,
    };
    let Some(row) = row.filter(|row| row.has_been_ready) else { return Ok(false) };
    let end = |protected: bool, end: Option<Timestamp>| end.filter(|_| !protected).map_or(i64::MAX, |end| end.0);
    let before = end(row.spec.protected, row.expires_at);
    Ok(end(spec.protected, spec.ttl.map(|ttl| row.created_at.plus(ttl))) < before)
}
