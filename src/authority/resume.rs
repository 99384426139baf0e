//! Resumption of interrupted operations, and their records and notices.
//!
//! Must not do: begin an operation that was not accepted.

use std::collections::{BTreeMap, BTreeSet};

use super::database::ROLE_PASSWORD;
use super::effect::Transition;
use super::operation::{AllocationConflicts, Operation, OperationPhase, end_operation, pending_name};
use super::put_request::PutRequest;
use super::view::operation_record;
use super::{Authority, AuthorityError};
use crate::api::{OperationOutcome, OperationRequest};
use crate::model::{
    Actor, BackendName, Diagnostic, FieldPath, OperationId, OperationKind, OperationRecord, OperationStep, Phase, ProjectName,
    Secret, Timestamp,
};
use crate::store::{Compensation, Durability, OperationRetention, OperationRow, Rows, Store, StoreError, UnreadableRow};

/// How many operations of a project are kept however old they are.
const OPERATIONS_KEPT: u32 = 100;
/// How many are kept at most: who may change a project makes operations without end.
const MOST_OPERATIONS: u32 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long an operation is kept after its end, but for the newest of each project.
const OPERATION_RETENTION_MS: i64 = 90 * DAY_MS;
/// How long it is kept in any case: so long its request may be sent again and is the same piece of work.
const REQUEST_RETENTION_MS: i64 = DAY_MS;

const SPEC: &str = "spec";
const FIELD: &str = "field:";
const MOVES: &str = "moves";

/// Says what a specification that waits for its operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PendingPut {
    /// It comes into the place of what goes.
    Replacement,
    /// It is what the backend becomes once its rows have moved.
    Move,
}

/// Holds an operation that is resumed: its project and backend, the operation, and its next step.
pub type Resumed = ((ProjectName, BackendName), Operation, Transition);

/// Lists the operations that are resumed, and those that cannot be.
#[derive(Debug, Default)]
pub struct Resumption {
    /// What goes on.
    pub resumed: Vec<Resumed>,
    /// The operations that cannot be resumed: their backend, and why. They stay open.
    pub failed: Vec<((ProjectName, BackendName), AuthorityError)>,
    /// The rows that cannot be read. They are skipped, and stop no other operation.
    pub unreadable: Vec<UnreadableRow>,
}

impl<S: Store> Authority<S> {
    /// Resumes every operation that was interrupted, each with its backend and its next step. Operations that run are left
    /// alone. A row that cannot be used stops only its own operation.
    ///
    /// # Errors
    /// What is open could not be read.
    pub fn resume(&self, running: &BTreeSet<OperationId>, now: Timestamp) -> Result<Resumption, AuthorityError> {
        let (open, unreadable) = self.store.read(|rows| Ok::<_, AuthorityError>(rows.all_open_operations()?))?;
        let mut resumption = Resumption { unreadable, ..Resumption::default() };
        for row in open {
            let Some(id) = row.id.clone().filter(|id| !running.contains(id)) else { continue };
            let place = (row.project.clone(), row.backend.clone());
            let taken_up = self.store.write(Durability::Fsync, |rows| {
                // It may have ended since it was listed.
                let Some(row) = rows.operation_by_id(&id)?.filter(|row| row.ended_at.is_none()) else { return Ok(None) };
                let taken_up = self.resume_one(rows, id.clone(), row, now)?;
                if taken_up.is_none() {
                    let finding = Diagnostic::new("control.superseded", "its backend is gone, so the operation was dropped");
                    end_operation(rows, &id, OperationOutcome::Failed { operation: id.clone(), finding }, now)?;
                }
                Ok::<_, AuthorityError>(taken_up)
            });
            match taken_up {
                Ok(Some((operation, next))) => resumption.resumed.push((place, operation, next)),
                Ok(None) => {}
                Err(error) => resumption.failed.push((place, error)),
            }
        }
        Ok(resumption)
    }

    pub(super) fn resume_one(
        &self,
        rows: &dyn Rows,
        id: OperationId,
        row: OperationRow,
        now: Timestamp,
    ) -> Result<Option<(Operation, Transition)>, AuthorityError> {
        let Some(backend) = rows.backend(&row.project, &row.backend)? else { return Ok(None) };
        let phase = match (row.kind, &row.pending) {
            (OperationKind::Remove, _) if backend.phase == Phase::Removing => OperationPhase::Remove,
            (OperationKind::Remove, _) => return Ok(None),
            (OperationKind::Forget, _) => OperationPhase::Forget,
            (OperationKind::Stop, _) => OperationPhase::Stop,
            (OperationKind::DropPrevious, _) => OperationPhase::DropPrevious,
            (OperationKind::Snapshot | OperationKind::Restore, None) => return Ok(None),
            (kind @ (OperationKind::Snapshot | OperationKind::Restore), Some(sealed)) => {
                self.open_data_phase(&id, kind, sealed, row.accepted_at)?
            }
            (OperationKind::Put | OperationKind::Start | OperationKind::RotateKey, Some(sealed)) => {
                match self.open_upgrade(&id, sealed)? {
                    Some(upgrade) => upgrade,
                    None => match self.open_pending(&id, sealed)? {
                        (put, PendingPut::Move) => OperationPhase::Move(Box::new(put)),
                        (put, PendingPut::Replacement) => OperationPhase::Replace(row.backend.clone(), Box::new(put)),
                    },
                }
            }
            (OperationKind::Put | OperationKind::Start | OperationKind::RotateKey, None) => OperationPhase::Put,
        };
        let actor = row.actor.unwrap_or_else(Actor::control_plane);
        let mut operation = Operation {
            id,
            project: row.project,
            backend: backend.id.clone(),
            step: row.step,
            actor,
            lease: None,
            phase,
            conflicts: AllocationConflicts::default(),
            furthest: OperationStep::from_number(row.progress.furthest),
            compensation: row.progress.compensation,
        };
        let next = match operation.compensation.take() {
            Some(Compensation { undoing, failure }) => {
                self.undo(rows, &mut operation, backend, failure, now, |step| step <= undoing)?
            }
            None => self.resumed_step(&operation, &backend)?,
        };
        Ok(Some((operation, next)))
    }

    /// Seals what a backend is to become once it has moved.
    pub(super) fn seal_move(&self, id: &OperationId, put: &PutRequest) -> Result<Vec<u8>, AuthorityError> {
        self.seal_put(id, put, PendingPut::Move)
    }

    /// Seals what comes into the place of a backend.
    pub(super) fn seal_pending(&self, id: &OperationId, put: &PutRequest) -> Result<Vec<u8>, AuthorityError> {
        self.seal_put(id, put, PendingPut::Replacement)
    }

    fn seal_put(&self, id: &OperationId, put: &PutRequest, purpose: PendingPut) -> Result<Vec<u8>, AuthorityError> {
        let mut content: BTreeMap<String, Secret> =
            put.secrets.iter().map(|(path, value)| (format!("{FIELD}{path}"), value.clone())).collect();
        let spec = serde_json::to_string(&put.spec).map_err(StoreError::Unwritable)?;
        content.insert(SPEC.to_owned(), Secret::new(spec));
        content.extend(put.role_password.clone().map(|password| (ROLE_PASSWORD.to_owned(), password)));
        if purpose == PendingPut::Move {
            content.insert(MOVES.to_owned(), Secret::new("true"));
        }
        let mut nonce = [0; 24];
        (self.entropy)(&mut nonce)?;
        Ok(self.vault.seal(&pending_name(id), &content, nonce)?)
    }

    fn open_pending(&self, id: &OperationId, sealed: &[u8]) -> Result<(PutRequest, PendingPut), AuthorityError> {
        let mut content = self.vault.open(&pending_name(id), sealed)?;
        let spec = content.remove(SPEC).and_then(|spec| serde_json::from_str(spec.expose()).ok());
        let spec = spec.ok_or_else(|| super::VaultError::Content(pending_name(id)))?;
        let purpose = if content.remove(MOVES).is_some() { PendingPut::Move } else { PendingPut::Replacement };
        let role_password = content.remove(ROLE_PASSWORD);
        let secrets = content
            .into_iter()
            .filter_map(|(slot, value)| slot.strip_prefix(FIELD).map(|path| (FieldPath::new(path), value)))
            .collect();
        // The principal is not known any more, so its scope is checked again where it matters.
        Ok((PutRequest { spec, secrets, may_adopt: false, role_password }, purpose))
    }

    /// Returns one operation as clients see it.
    pub fn operation(&self, project: &ProjectName, id: &OperationId) -> Result<Option<OperationRecord>, AuthorityError> {
        let row = self.store.read(|rows| Ok::<_, AuthorityError>(rows.operation_by_id(id)?))?;
        Ok(row.filter(|row| row.project == *project).and_then(operation_record))
    }

    /// Returns the last operations of a project, oldest first.
    pub fn operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRecord>, AuthorityError> {
        let rows = self.store.read(|rows| Ok::<_, AuthorityError>(rows.operations(project, limit)?))?;
        Ok(rows.into_iter().filter_map(operation_record).collect())
    }

    /// Returns the operations on one backend that have not ended, oldest first.
    pub fn open_operations_on(
        &self,
        project: &ProjectName,
        backend: &BackendName,
    ) -> Result<Vec<OperationRecord>, AuthorityError> {
        let rows = self.store.read(|rows| Ok::<_, AuthorityError>(rows.open_operations_on(project, backend)?))?;
        Ok(rows.into_iter().filter_map(operation_record).collect())
    }

    /// Returns the operation that a request became when it was sent before.
    ///
    /// # Errors
    /// [`ControlError::Refused`](crate::api::ControlError::Refused) when its step was sent before as another request.
    pub fn operation_for_request(
        &self,
        project: &ProjectName,
        request: &OperationRequest,
    ) -> Result<Option<OperationRecord>, AuthorityError> {
        let Some(row) = self.store.read(|rows| Ok::<_, AuthorityError>(rows.operation(project, &request.step)?))? else {
            return Ok(None);
        };
        self.check_same_request(&row, request)?;
        Ok(operation_record(row))
    }

    /// Appends a notice of an operation, and returns its number in that operation.
    pub fn append_notice(&self, id: &OperationId, message: &str) -> Result<u64, AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| Ok(rows.append_notice(id, message)?))
    }

    /// Returns the notices of an operation after a number.
    pub fn notices(&self, id: &OperationId, after: u64) -> Result<Vec<(u64, String)>, AuthorityError> {
        self.store.read(|rows| Ok(rows.notices(id, after)?))
    }

    /// Deletes the notices of operations that ended before this moment.
    pub fn prune_notices(&self, before: Timestamp) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| Ok(rows.prune_notices(before)?))
    }

    /// Deletes operations that ended long ago, but for the newest of each project, and those of a project that are too many.
    pub fn prune_operations(&self, now: Timestamp) -> Result<(), AuthorityError> {
        let kept = OperationRetention {
            before: now.plus_milliseconds(-OPERATION_RETENTION_MS),
            newest: OPERATIONS_KEPT,
            most: MOST_OPERATIONS,
            most_before: now.plus_milliseconds(-REQUEST_RETENTION_MS),
        };
        self.store.write(Durability::NoFsync, |rows| Ok(rows.prune_operations(kept)?))
    }
}
