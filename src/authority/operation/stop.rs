//! Acceptance of stop, start and forget.

use super::super::effect::Transition;
use super::super::{Authority, AuthorityError, lease, policy_check};
use super::acceptance::{Acceptance, end_operation};
use super::types::{Operation, OperationPhase};
use crate::api::{ControlError, OperationOutcome};
use crate::model::{Diagnostic, OperationKind, Phase};
use crate::store::{BackendRow, Rows, Store};

/// Pairs the operation of an accepted request with its first transition.
pub(in crate::authority) type Accepted = (Option<Operation>, Transition);

/// Returns the backend that a request is about.
fn existing(rows: &dyn Rows, acceptance: &Acceptance<'_>) -> Result<BackendRow, AuthorityError> {
    let (project, backend) = (&acceptance.lease.project, &acceptance.request.backend);
    let row = rows.backend(project, backend)?;
    row.ok_or_else(|| ControlError::NoSuchBackend { project: project.clone(), backend: backend.clone() }.into())
}

fn refuse_while_removing(row: &BackendRow) -> Result<(), AuthorityError> {
    if row.phase != Phase::Removing {
        return Ok(());
    }
    let name = &row.name;
    let message = format!("`{name}` is being removed, so it is neither stopped nor started");
    let finding = Diagnostic::new("control.removing", message)
        .with_help(format!("finish that with\n    convexinfra destroy {name} --allow-destroy {name}"));
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

    /// Drops the record of a backend. What runs, its data, its database and its ports stay as they are.
    pub(in crate::authority) fn accept_forget(
        &self,
        rows: &dyn Rows,
        acceptance: Acceptance<'_>,
    ) -> Result<Accepted, AuthorityError> {
        let row = existing(rows, &acceptance)?;
        policy_check::check_forget(&row)?;
        let mut project = lease::project_row(rows, &row.project, acceptance.now)?;
        project.revision = project.revision.next();
        rows.put_project(&project)?;
        let id = acceptance.find_or_insert_operation(rows, OperationKind::Forget, None)?;
        rows.delete_backend(&row.id)?;
        let detail = format!("operation {id}, id {}", row.id);
        self.record(rows, Some(&row.project), acceptance.audit_context(), "backend_forgotten", Some(&row.name), detail)?;
        let outcome = OperationOutcome::Done { operation: id.clone() };
        Ok((None, Transition::Ended(end_operation(rows, &id, outcome, acceptance.now)?)))
    }
}
