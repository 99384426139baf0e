//! The acceptance of a request: what an operation begins with, and its row.

use super::super::AuthorityError;
use super::super::audit::AuditContext;
use super::types::{AllocationConflicts, ExecutionMode, Operation, OperationPhase};
use crate::api::{Lease, OperationOutcome, OperationRequest};
use crate::model::{Actor, BackendId, OperationId, OperationKind, Timestamp};
use crate::store::{OperationProgress, OperationRow, Rows, StoreError};

/// One request with its lease, its executor, and who sent it when.
#[derive(Debug, Clone, Copy)]
pub(in crate::authority) struct Acceptance<'a> {
    pub(in crate::authority) lease: &'a Lease,
    pub(in crate::authority) driver: ExecutionMode,
    pub(in crate::authority) actor: &'a Actor,
    pub(in crate::authority) request: &'a OperationRequest,
    pub(in crate::authority) now: Timestamp,
}

impl Acceptance<'_> {
    pub(in crate::authority) fn audit_context(&self) -> AuditContext<'_> {
        AuditContext { actor: self.actor, plan: Some(&self.request.step.plan), at: self.now }
    }

    /// Returns the operation of this step: the one that was accepted before, or a new one.
    pub(in crate::authority) fn find_or_insert_operation(
        &self,
        rows: &dyn Rows,
        kind: OperationKind,
        digest: Option<String>,
    ) -> Result<OperationId, AuthorityError> {
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
            progress: OperationProgress::default(),
            digest,
        })?)
    }

    /// Returns the lease without which the operation may not go on.
    pub(in crate::authority) fn executing_lease(&self) -> Option<Lease> {
        (self.driver == ExecutionMode::LeaseHolder).then(|| self.lease.clone())
    }

    pub(in crate::authority) fn new_operation(&self, id: OperationId, backend: BackendId, phase: OperationPhase) -> Operation {
        Operation {
            id,
            project: self.lease.project.clone(),
            backend,
            step: self.request.step.clone(),
            actor: self.actor.clone(),
            lease: self.executing_lease(),
            phase,
            conflicts: AllocationConflicts::default(),
            furthest: None,
            compensation: None,
        }
    }
}

/// Returns the name under which the sealed part of a request is bound to its operation.
pub(in crate::authority) fn pending_name(id: &OperationId) -> String {
    format!("operation {id}")
}

/// Writes how an operation ended.
pub(in crate::authority) fn end_operation(
    rows: &dyn Rows,
    id: &OperationId,
    outcome: OperationOutcome,
    now: Timestamp,
) -> Result<OperationOutcome, AuthorityError> {
    let text = serde_json::to_string(&outcome).map_err(StoreError::Unwritable)?;
    rows.end_operation(id, now, &text)?;
    Ok(outcome)
}
