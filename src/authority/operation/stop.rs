//! Acceptance of stop, start, forget and the rotation of keys.

use super::super::audit::AuditContext;
use super::super::effect::Transition;
use super::super::{Authority, AuthorityError, lease, policy_check};
use super::acceptance::{Acceptance, end_operation};
use super::types::{Operation, OperationPhase};
use crate::api::{ControlError, OperationOutcome};
use crate::model::{Diagnostic, Location, OperationId, OperationKind, Phase};
use crate::store::{BackendRow, Rows, Store};

/// Pairs the operation of an accepted request with its first transition.
pub(in crate::authority) type Accepted = (Option<Operation>, Transition);

/// Returns the backend that a request is about.
pub(super) fn existing(rows: &dyn Rows, acceptance: &Acceptance<'_>) -> Result<BackendRow, AuthorityError> {
    let (project, backend) = (&acceptance.lease.project, &acceptance.request.backend);
    let row = rows.backend(project, backend)?;
    row.ok_or_else(|| ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() }.into())
}

pub(super) fn refuse_while_removing(row: &BackendRow) -> Result<(), AuthorityError> {
    if row.phase != Phase::Removing {
        return Ok(());
    }
    let name = &row.name;
    let message = format!("`{name}` is being removed, so it is neither stopped nor started");
    let finding = Diagnostic::new("control.removing", message)
        .with_help(format!("finish that with\n    convexinfra destroy {name} --allow-destroy {name}"));
    Err(ControlError::Refused(finding).into())
}

/// Refuses to rotate the key of what does not run: nothing could tell whether the new one opens it.
fn refuse_rotation(row: &BackendRow) -> Result<(), AuthorityError> {
    let name = &row.name;
    let finding = if row.is_only_a_record() {
        Diagnostic::new("control.no_key", format!("`{name}` is only a record, so there is no key to rotate"))
    } else if row.stopped {
        Diagnostic::new("control.stopped", format!("`{name}` is stopped, and a key is rotated while its backend runs"))
            .with_help(format!("start it first with\n    convexinfra start {name}"))
    } else {
        return Ok(());
    };
    Err(ControlError::Refused(finding).into())
}

impl<S: Store> Authority<S> {
    /// Records whether a backend is to run, and returns the operation that stops it or starts it as it was last asked for.
    pub(in crate::authority) fn accept_stop_or_start(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
    ) -> Result<Accepted, AuthorityError> {
        let kind = acceptance.request.work.kind();
        let mut row = existing(rows, &acceptance)?;
        refuse_while_removing(&row)?;
        let id = acceptance.find_or_insert_operation(rows, kind, None)?;
        row.stopped = kind == OperationKind::Stop;
        rows.put_backend(&row)?;
        if row.is_only_a_record() {
            let outcome = OperationOutcome::Done { operation: id.clone() };
            return Ok((None, Transition::Ended(end_operation(rows, &id, outcome, acceptance.now)?)));
        }
        let event = if row.stopped { "stop_accepted" } else { "start_accepted" };
        let detail = format!("operation {id}");
        self.record(rows, Some(&row.project), acceptance.audit_context(), event, Some(&row.name), detail)?;
        let phase = if row.stopped { OperationPhase::Stop } else { OperationPhase::Put };
        let next = self.first_step(&phase, &row)?;
        Ok((Some(acceptance.new_operation(id, row.id.clone(), phase)), next))
    }

    /// Drops the record of a backend. Its data, its database and its ports stay as they are. What runs as a process of this
    /// machine is stopped and set aside first, since its place belongs to the control plane.
    pub(in crate::authority) fn accept_forget(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
    ) -> Result<Accepted, AuthorityError> {
        let row = existing(rows, &acceptance)?;
        policy_check::check_forget(&row)?;
        let id = acceptance.find_or_insert_operation(rows, OperationKind::Forget, None)?;
        let is_in_home = row.spec.provider.descriptor().location == Location::Process && !row.is_only_a_record();
        if !is_in_home {
            return Ok((None, Transition::Ended(self.drop_record(rows, &row, &id, acceptance.audit_context())?)));
        }
        let detail = format!("operation {id}");
        self.record(rows, Some(&row.project), acceptance.audit_context(), "forget_accepted", Some(&row.name), detail)?;
        let next = self.first_step(&OperationPhase::Forget, &row)?;
        Ok((Some(acceptance.new_operation(id, row.id.clone(), OperationPhase::Forget)), next))
    }

    /// Drops the record of a backend, and ends the operation that asked for it.
    pub(super) fn drop_record(
        &self,
        rows: &dyn Rows,
        row: &BackendRow,
        id: &OperationId,
        who: AuditContext<'_>,
    ) -> Result<OperationOutcome, AuthorityError> {
        let now = who.at;
        let mut project = lease::project_row(rows, &row.project, now)?;
        project.revision = project.revision.next();
        rows.put_project(&project)?;
        rows.delete_backend(&row.id)?;
        let detail = format!("operation {id}, id {}", row.id);
        self.record(rows, Some(&row.project), who, "backend_forgotten", Some(&row.name), detail)?;
        end_operation(rows, id, OperationOutcome::Done { operation: id.clone() }, now)
    }

    /// Gives a backend another instance secret and admin key, and returns the operation that restarts it under them.
    pub(in crate::authority) fn accept_key_rotation(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
    ) -> Result<Accepted, AuthorityError> {
        let mut row = existing(rows, &acceptance)?;
        refuse_while_removing(&row)?;
        refuse_rotation(&row)?;
        // The same request again goes on with the secret that it made.
        let is_repeated = rows.operation(&row.project, &acceptance.request.step)?.is_some();
        let id = acceptance.find_or_insert_operation(rows, OperationKind::RotateKey, None)?;
        if !is_repeated {
            self.rotate_credentials(&mut row, acceptance.now)?;
            row.generation = row.generation.next();
            if row.has_been_ready {
                row.phase = Phase::Updating;
            }
            rows.put_backend(&row)?;
            let detail = format!("operation {id}");
            self.record(rows, Some(&row.project), acceptance.audit_context(), "key_rotated", Some(&row.name), detail)?;
        }
        let next = self.first_step(&OperationPhase::Put, &row)?;
        Ok((Some(acceptance.new_operation(id, row.id.clone(), OperationPhase::Put)), next))
    }
}
