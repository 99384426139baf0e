//! The types of operations: what one is in the middle of, and what it has found out so far.

use std::collections::{BTreeMap, BTreeSet};

use super::super::audit::AuditContext;
use super::super::effect::{AllocationConflict, Step};
use crate::api::Lease;
use crate::model::{
    Actor, BackendId, BackendName, BackendSpec, FieldPath, OperationId, ProjectName, Secret, StepKey, Timestamp,
};

/// How often another pair of ports is tried when strangers hold the chosen ones.
const MAX_PORT_ATTEMPTS: usize = 64;
/// How often another name is tried when somebody else has an app of the chosen one.
const MAX_APP_NAME_ATTEMPTS: u32 = 4;

/// Who carries an operation out, and so what has to hold for it to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// Whoever holds the lease: with the lease it loses the operation.
    LeaseHolder,
    /// The control plane itself: the operation goes on when the client that asked for it is gone.
    ControlPlane,
}

/// One accepted piece of work while it runs.
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
    /// What turned out to be somebody else's.
    pub(in crate::authority) conflicts: AllocationConflicts,
    /// The furthest step that was ever begun.
    pub(in crate::authority) furthest: Option<Step>,
}

/// What was allocated and turned out to be somebody else's.
#[derive(Debug, Clone, Default)]
pub(in crate::authority) struct AllocationConflicts {
    /// Ports.
    pub(in crate::authority) ports: BTreeSet<u16>,
    /// How many names of apps.
    pub(in crate::authority) apps: u32,
}

impl AllocationConflicts {
    /// Takes note of one more. False once there were so many that another try makes no sense.
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
    /// Its id.
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Returns whether it only takes its backend away.
    pub fn is_removal(&self) -> bool {
        matches!(self.phase, OperationPhase::Remove)
    }

    /// Its project.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    pub(in crate::authority) fn audit_context(&self, at: Timestamp) -> AuditContext<'_> {
        AuditContext { actor: &self.actor, plan: Some(&self.step.plan), at }
    }
}

/// What an operation is in the middle of.
#[derive(Debug)]
pub(in crate::authority) enum OperationPhase {
    /// Bringing a backend to its specification, or up again.
    Put,
    /// Taking a backend away.
    Remove,
    /// Stopping a backend on purpose.
    Stop,
    /// What is there has to go first: a removal that was cut off, or a first attempt with another provider.
    Replace(BackendName, Box<PutRequest>),
}

/// A specification with the values of its secrets.
#[derive(Debug, Clone)]
pub(in crate::authority) struct PutRequest {
    pub(in crate::authority) spec: BackendSpec,
    pub(in crate::authority) secrets: BTreeMap<FieldPath, Secret>,
    /// Whether the principal may take up what nothing proves to be the project's.
    pub(in crate::authority) may_adopt: bool,
}
