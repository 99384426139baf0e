//! The rows of operations and of what they say, one statement each.
//!
//! Must not do: begin or end a transaction; that is the store's.

use rusqlite::{Row, params};

use super::sqlite_rows::{SqliteRows, json, project_name, text_of, unreadable};
use super::{OperationRow, StoreError};
use crate::model::{BackendName, OperationId, OperationKind, ProjectName, StepKey, Timestamp};

const COLUMNS: &str = "id, project, backend, key, kind, accepted_at, ended_at, outcome, actor, pending";

fn operation(row: &Row<'_>) -> rusqlite::Result<OperationRow> {
    let kind = match row.get_ref(4)?.as_str()? {
        "remove" => OperationKind::Remove,
        _ => OperationKind::Put,
    };
    Ok(OperationRow {
        id: Some(OperationId::new(row.get::<_, i64>(0)?.to_string())),
        project: project_name(row, 1)?,
        backend: BackendName::parse(row.get_ref(2)?.as_str()?).map_err(|error| unreadable(2, error))?,
        step: StepKey::parse(row.get_ref(3)?.as_str()?),
        kind,
        accepted_at: Timestamp(row.get(5)?),
        ended_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        outcome: row.get(7)?,
        actor: row.get::<_, Option<String>>(8)?.map(|_| json(row, 8)).transpose()?,
        pending: row.get(9)?,
    })
}

impl SqliteRows<'_> {
    pub(super) fn operation_for(&self, project: &ProjectName, step: &StepKey) -> Result<Option<OperationRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM operations WHERE project = ?1 AND key = ?2");
        self.one(&statement, params![project.as_str(), step.to_string()], operation)
    }

    pub(super) fn operation_with_id(&self, id: &OperationId) -> Result<Option<OperationRow>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM operations WHERE id = ?1"), [id.as_str()], operation)
    }

    pub(super) fn last_operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM operations WHERE project = ?1 ORDER BY id DESC LIMIT ?2");
        let mut rows = self.many(&statement, params![project.as_str(), limit], operation)?;
        rows.reverse();
        Ok(rows)
    }

    pub(super) fn operations_not_ended(&self, project: Option<&ProjectName>) -> Result<Vec<OperationRow>, StoreError> {
        match project {
            Some(project) => {
                let statement = format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL AND project = ?1 ORDER BY id");
                self.many(&statement, [project.as_str()], operation)
            }
            None => self.many(&format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL ORDER BY id"), [], operation),
        }
    }

    pub(super) fn operations_not_ended_on(
        &self,
        project: &ProjectName,
        backend: &BackendName,
    ) -> Result<Vec<OperationRow>, StoreError> {
        let statement =
            format!("SELECT {COLUMNS} FROM operations WHERE ended_at IS NULL AND project = ?1 AND backend = ?2 ORDER BY id");
        self.many(&statement, [project.as_str(), backend.as_str()], operation)
    }

    pub(super) fn insert_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError> {
        self.run(
            "INSERT INTO operations (project, backend, key, kind, accepted_at, actor) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                row.project.as_str(),
                row.backend.as_str(),
                row.step.to_string(),
                row.kind.as_str(),
                row.accepted_at.0,
                row.actor.as_ref().map(text_of),
            ],
        )?;
        Ok(OperationId::new(self.connection.last_insert_rowid().to_string()))
    }

    pub(super) fn insert_notice(&self, id: &OperationId, message: &str) -> Result<u64, StoreError> {
        let next = "SELECT coalesce(max(sequence), 0) + 1 FROM notices WHERE operation = ?1";
        let sequence: u64 = self.one(next, [id.as_str()], |row| row.get(0))?.unwrap_or(1);
        let statement = "INSERT INTO notices (operation, sequence, message) VALUES (?1, ?2, ?3)";
        self.run(statement, params![id.as_str(), sequence, message])?;
        Ok(sequence)
    }

    pub(super) fn notices_after(&self, id: &OperationId, after: u64) -> Result<Vec<(u64, String)>, StoreError> {
        let statement = "SELECT sequence, message FROM notices WHERE operation = ?1 AND sequence > ?2 ORDER BY sequence";
        // A number beyond what the store can count to is after everything.
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.many(statement, params![id.as_str(), after], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    pub(super) fn delete_notices(&self, before: Timestamp) -> Result<(), StoreError> {
        let statement = "DELETE FROM notices WHERE operation IN (SELECT id FROM operations WHERE ended_at < ?1)";
        self.run(statement, [before.0]).map(drop)
    }
}
