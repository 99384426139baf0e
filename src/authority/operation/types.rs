//! The types of operations: their phase, and the conflicts that they have met so far.

use std::collections::BTreeSet;

use super::super::audit::AuditContext;
use super::super::effect::{AllocationConflict, SnapshotRequest};
use super::super::put_request::PutRequest;
use super::row_before::{RowBefore, Upgrade};
use crate::api::{Lease, StartMode};
use crate::model::{Actor, BackendId, BackendName, OperationId, OperationStep, ProjectName, SnapshotId, StepKey, Timestamp};
use crate::store::Compensation;

/// Limits how often another pair of ports is tried when foreign processes hold the chosen ones.
const MAX_PORT_ATTEMPTS: usize = 64;
/// Limits how often another name is tried when the chosen one belongs to a foreign app.
const MAX_APP_NAME_ATTEMPTS: u32 = 4;

/// Says who executes an operation, and so what has to hold for it to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// The holder of the lease: with the lease it loses the operation.
    LeaseHolder,
    /// The control plane itself: the operation goes on when the client that asked for it is gone.
    ControlPlane,
}

/// Holds one accepted operation while it runs.
#[derive(Debug)]
pub struct Operation {
    pub(in crate::authority) id: OperationId,
    pub(in crate::authority) project: ProjectName,
    pub(in crate::authority) backend: BackendId,
    pub(in crate::authority) step: StepKey,
    pub(in crate::authority) actor: Actor,
    /// The lease without which it may not go on; none when the control plane drives it.
    pub(in crate::authority) lease: Option<Lease>,
    pub(in crate::authority) phase: OperationPhase,
    /// The allocations that conflict with other owners.
    pub(in crate::authority) conflicts: AllocationConflicts,
    /// The furthest step that was ever begun.
    pub(in crate::authority) furthest: Option<OperationStep>,
    /// What is being undone, once a step has failed.
    pub(in crate::authority) compensation: Option<Compensation>,
}

/// Collects the allocations that conflict with other owners.
#[derive(Debug, Clone, Default)]
pub(in crate::authority) struct AllocationConflicts {
    /// Ports.
    pub(in crate::authority) ports: BTreeSet<u16>,
    /// How many names of apps.
    pub(in crate::authority) apps: u32,
}

impl AllocationConflicts {
    /// Counts one more conflict; false once another attempt makes no sense.
    pub(super) fn record(&mut self, taken: AllocationConflict) -> bool {
        match taken {
            AllocationConflict::Port(port) => {
                self.ports.insert(port);
                self.ports.len() <= MAX_PORT_ATTEMPTS
            }
            AllocationConflict::App => {
                self.apps += 1;
                self.apps <= MAX_APP_NAME_ATTEMPTS
            }
        }
    }
}

impl Operation {
    /// Returns its id.
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Returns whether it became of this step of a plan. An earlier one is returned in its stead while it is being undone.
    pub fn is_of(&self, step: &StepKey) -> bool {
        self.step == *step
    }

    /// Returns whether a step of it has failed and the ones before are being undone.
    pub fn is_being_undone(&self) -> bool {
        self.compensation.is_some()
    }

    /// Returns whether it only takes its backend away.
    pub fn is_removal(&self) -> bool {
        matches!(self.phase, OperationPhase::Remove)
    }

    /// Returns its project.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    pub(in crate::authority) fn audit_context(&self, at: Timestamp) -> AuditContext<'_> {
        AuditContext { actor: &self.actor, plan: Some(&self.step.plan), at }
    }
}

/// Names what an operation is doing to its backend.
#[derive(Debug)]
pub(in crate::authority) enum OperationPhase {
    /// Bringing a backend to its specification, or up again.
    Put,
    /// Bringing a backend with data to another release, and back where that fails.
    Upgrade(Box<Upgrade>),
    /// Taking a backend away.
    Remove,
    /// Stopping a backend on purpose.
    Stop,
    /// Setting a backend aside whose record goes.
    Forget,
    /// Deleting the data that a restore has replaced.
    DropPrevious,
    /// Taking a snapshot of its data.
    Snapshot(SnapshotRequest),
    /// Replacing its data by that of a snapshot, and its release by that of the snapshot where it is to go back to that.
    Restore(SnapshotId, StartMode, Option<Box<RowBefore>>),
    /// Moving its rows to the database of this request, which becomes its specification at the end.
    Move(Box<PutRequest>),
    /// What is there has to go first: a removal that was cut off, or a first attempt with another provider.
    Replace(BackendName, Box<PutRequest>),
}
