//! The rows of operations and of what they say, one statement each.

use super::columns::to_json;
use super::connection::{ColumnError, Columns, Connection};
use super::sql_rows::SqlRows;
use crate::model::{BackendName, OperationId, OperationKind, ProjectName, StepKey, Timestamp};
use crate::store::{OperationProgress, OperationRetention, OperationRow, StoreError, UnreadableRow};

const COLUMNS: &str = "id, project, backend, key, kind, accepted_at, ended_at, outcome, actor, pending, furthest, attempts, seen, digest, compensation";

fn operation(row: &dyn Columns) -> Result<OperationRow, ColumnError> {
    let word = row.string(4)?;
    let kind = OperationKind::parse(word).ok_or_else(|| ColumnError::new(4, format!("`{word}` is no kind of operation")))?;
    Ok(OperationRow {
        id: Some(OperationId::new(row.number::<i64>(0)?.to_string())),
        project: row.project_name(1)?,
        backend: row.backend_name(2)?,
        step: StepKey::parse(row.string(3)?),
        kind,
        accepted_at: row.time(5)?,
        ended_at: row.optional_time(6)?,
        outcome: row.optional_string(7)?,
        actor: row.optional_json(8)?,
        pending: row.bytes(9)?.map(<[u8]>::to_vec),
        progress: OperationProgress {
            furthest: row.number(10)?,
            attempts: row.number(11)?,
            seen: row.optional_string(12)?,
            compensation: row.optional_json(14)?,
        },
        digest: row.optional_string(13)?,
    })
}

impl<C: Connection> SqlRows<'_, C> {
    pub(super) fn operation_for(&self, project: &ProjectName, step: &StepKey) -> Result<Option<OperationRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM operations WHERE project = ?1 AND key = ?2");
        self.one(&statement, &[project.as_str().into(), step.to_string().into()], operation)
    }

    pub(super) fn last_attempt_row(&self, project: &ProjectName, first: &StepKey) -> Result<Option<OperationRow>, StoreError> {
        // After the colon comes the semicolon, so this is one stretch of the index.
        let statement = format!(
            "SELECT {COLUMNS} FROM operations WHERE project = ?1 AND key >= ?2 AND key < ?2 || ';'
             AND (key = ?2 OR key > ?2 || ':') ORDER BY key DESC LIMIT 1"
        );
        self.one(&statement, &[project.as_str().into(), first.to_string().into()], operation)
    }

    pub(super) fn operation_with_id(&self, id: &OperationId) -> Result<Option<OperationRow>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM operations WHERE id = ?1"), &[id.as_str().into()], operation)
    }

    pub(super) fn last_operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM operations WHERE project = ?1 ORDER BY id DESC LIMIT ?2");
        let mut rows = self.many(&statement, &[project.as_str().into(), limit.into()], operation)?;
        rows.reverse();
        Ok(rows)
    }

    pub(super) fn open_operation_rows(&self, project: Option<&ProjectName>) -> Result<Vec<OperationRow>, StoreError> {
        match project {
            Some(project) => {
                let statement = format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL AND project = ?1 ORDER BY id");
                self.many(&statement, &[project.as_str().into()], operation)
            }
            None => self.many(&format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL ORDER BY id"), &[], operation),
        }
    }

    /// Returns the operations that have not ended, and which rows of them cannot be read.
    pub(super) fn all_open_operations(&self) -> Result<(Vec<OperationRow>, Vec<UnreadableRow>), StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL ORDER BY id");
        self.many_readable(&statement, &[], "operations", operation)
    }

    pub(super) fn write_progress(&self, id: &OperationId, progress: &OperationProgress) -> Result<(), StoreError> {
        let OperationProgress { furthest, attempts, seen, compensation } = progress;
        let compensation = compensation.as_ref().map(to_json).transpose()?;
        let (furthest, attempts) = (u32::from(*furthest), *attempts);
        let values = [id.as_str().into(), furthest.into(), attempts.into(), seen.as_ref().into(), compensation.as_ref().into()];
        self.run("UPDATE operations SET furthest = ?2, attempts = ?3, seen = ?4, compensation = ?5 WHERE id = ?1", &values)
    }

    /// Deletes operations that have ended and are not kept.
    pub(super) fn delete_operations(&self, kept: OperationRetention) -> Result<(), StoreError> {
        let OperationRetention { before, newest, most, most_before } = kept;
        self.run(
            "DELETE FROM operations WHERE id NOT IN (SELECT operation FROM notices) AND id IN (
                SELECT id FROM (
                    SELECT id, ended_at, row_number() OVER (PARTITION BY project ORDER BY id DESC) AS number FROM operations
                ) WHERE number > ?1 AND ended_at < ?2 OR number > ?3 AND ended_at < ?4
             )",
            &[newest.into(), before.0.into(), most.into(), most_before.0.into()],
        )
    }

    pub(super) fn open_operation_rows_on(
        &self,
        project: &ProjectName,
        backend: &BackendName,
    ) -> Result<Vec<OperationRow>, StoreError> {
        let statement =
            format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL AND project = ?1 AND backend = ?2 ORDER BY id");
        self.many(&statement, &[project.as_str().into(), backend.as_str().into()], operation)
    }

    /// Inserts an operation under a number that grows, and that follows from the time: counted over all projects, it would
    /// say what the others do.
    pub(super) fn insert_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError> {
        let id = self.one(
            "INSERT INTO operations (id, project, backend, key, kind, accepted_at, actor, digest)
             VALUES (max(?5 * 1000 + abs(random() % 1000), (SELECT coalesce(max(id), 0) + 1 FROM operations)),
                     ?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id",
            &[
                row.project.as_str().into(),
                row.backend.as_str().into(),
                row.step.to_string().into(),
                row.kind.as_str().into(),
                row.accepted_at.0.into(),
                row.actor.as_ref().map(to_json).transpose()?.into(),
                row.digest.as_ref().into(),
            ],
            |row| row.number::<i64>(0),
        )?;
        Ok(OperationId::new(id.ok_or(StoreError::NotRun)?.to_string()))
    }

    pub(super) fn insert_notice(&self, id: &OperationId, message: &str) -> Result<u64, StoreError> {
        let next = "SELECT coalesce(max(sequence), 0) + 1 FROM notices WHERE operation = ?1";
        let sequence: u64 = self.one(next, &[id.as_str().into()], |row| row.number(0))?.unwrap_or(1);
        let statement = "INSERT INTO notices (operation, sequence, message) VALUES (?1, ?2, ?3)";
        self.run(statement, &[id.as_str().into(), sequence.into(), message.into()])?;
        Ok(sequence)
    }

    pub(super) fn notices_after(&self, id: &OperationId, after: u64) -> Result<Vec<(u64, String)>, StoreError> {
        let statement = "SELECT sequence, message FROM notices WHERE operation = ?1 AND sequence > ?2 ORDER BY sequence";
        self.many(statement, &[id.as_str().into(), after.into()], |row| Ok((row.number(0)?, row.string(1)?.to_owned())))
    }

    pub(super) fn delete_notices(&self, before: Timestamp) -> Result<(), StoreError> {
        let statement = "DELETE FROM notices WHERE operation IN (SELECT id FROM operations WHERE ended_at < ?1)";
        self.run(statement, &[before.0.into()]).map(drop)
    }
}
