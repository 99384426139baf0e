//! The rows of events and of the chain that binds them, one statement each.
//!
//! Must not do: begin or end a transaction, change an event, or make a hash or a seal; the authority does.

use super::columns::{project_key, to_json};
use super::connection::{ColumnError, Columns, Connection};
use super::sql_rows::SqlRows;
use crate::model::ProjectName;
use crate::store::{ChainLink, ChainRow, EventRow, HistoryRows, StoreError};

/// Returns a number as SQL has it.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const EVENT_COLUMNS: &str = "sequence, project, at, kind, backend, detail, actor, plan, position, hash";

fn event(row: &dyn Columns) -> Result<EventRow, ColumnError> {
    let bond: (Option<u64>, Option<String>) = (row.optional_number(8)?, row.optional_string(9)?);
    Ok(EventRow {
        sequence: row.number(0)?,
        project: if row.string(1)?.is_empty() { None } else { Some(row.project_name(1)?) },
        at: row.time(2)?,
        kind: row.string(3)?.to_owned(),
        backend: row.optional_string(4)?,
        detail: row.string(5)?.to_owned(),
        actor: row.optional_json(6)?,
        plan: row.optional_string(7)?,
        link: bond.0.zip(bond.1).map(|(position, hash)| ChainLink { position, hash }),
    })
}

impl<C: Connection> HistoryRows for SqlRows<'_, C> {
    fn chain(&self, project: Option<&ProjectName>) -> Result<Option<ChainRow>, StoreError> {
        self.one(
            "SELECT length, head, seal, pruned, pruned_head FROM chains WHERE project = ?1",
            &[project_key(project).into()],
            |row| {
                Ok(ChainRow {
                    project: project.cloned(),
                    length: row.number(0)?,
                    head: row.string(1)?.to_owned(),
                    seal: row.optional_string(2)?,
                    pruned: row.number(3)?,
                    pruned_head: row.string(4)?.to_owned(),
                })
            },
        )
    }

    fn has_chains(&self) -> Result<bool, StoreError> {
        self.one("SELECT 1 FROM chains LIMIT 1", &[], |_| Ok(())).map(|found| found.is_some())
    }

    fn put_chain(&self, row: &ChainRow) -> Result<(), StoreError> {
        let project = project_key(row.project.as_ref());
        self.run(
            "INSERT INTO chains (project, length, head, seal, pruned, pruned_head) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (project) DO UPDATE SET length = ?2, head = ?3, seal = ?4, pruned = ?5, pruned_head = ?6",
            &[
                project.into(),
                row.length.into(),
                (&row.head).into(),
                row.seal.as_ref().into(),
                row.pruned.into(),
                (&row.pruned_head).into(),
            ],
        )
    }

    fn append_event(&self, event: &EventRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO events (project, at, kind, backend, detail, actor, plan, position, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            &[
                project_key(event.project.as_ref()).into(),
                event.at.0.into(),
                (&event.kind).into(),
                event.backend.as_ref().into(),
                (&event.detail).into(),
                event.actor.as_ref().map(to_json).transpose()?.into(),
                event.plan.as_ref().into(),
                event.link.as_ref().map(|bond| bond.position).into(),
                event.link.as_ref().map(|bond| &bond.hash).into(),
            ],
        )
    }

    fn last_unchained(&self) -> Result<u64, StoreError> {
        let last = self.one(
            "SELECT coalesce((SELECT min(sequence) - 1 FROM events WHERE hash IS NOT NULL), (SELECT max(sequence) FROM events), 0)",
            &[],
            |row| row.number(0),
        )?;
        Ok(last.unwrap_or_default())
    }

    fn long_chains(&self, longer: u64) -> Result<Vec<Option<ProjectName>>, StoreError> {
        let statement = "SELECT project FROM chains WHERE length - pruned > ?1 ORDER BY project";
        let project = |row: &dyn Columns| if row.string(0)?.is_empty() { Ok(None) } else { row.project_name(0).map(Some) };
        Ok(self.many_readable(statement, &[longer.into()], "chains", project)?.0)
    }

    fn unbound_events(&self, project: Option<&ProjectName>) -> Result<u64, StoreError> {
        let statement = "SELECT count(*) FROM events WHERE project = ?1 AND position IS NULL";
        Ok(self.one(statement, &[project_key(project).into()], |row| row.number(0))?.unwrap_or_default())
    }

    fn last_bound_events(&self, project: Option<&ProjectName>, before: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let statement = format!(
            "SELECT {EVENT_COLUMNS} FROM events WHERE project = ?1 AND position < ?2 ORDER BY position DESC, sequence DESC LIMIT ?3"
        );
        let mut events = self.many(&statement, &[project_key(project).into(), integer(before).into(), limit.into()], event)?;
        events.reverse();
        Ok(events)
    }

    fn bound_events_after(&self, project: Option<&ProjectName>, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let statement = format!(
            "SELECT {EVENT_COLUMNS} FROM events WHERE project = ?1 AND position > ?2 ORDER BY position, sequence LIMIT ?3"
        );
        self.many(&statement, &[project_key(project).into(), integer(after).into(), limit.into()], event)
    }

    fn last_unbound_events(
        &self,
        project: Option<&ProjectName>,
        skipped: u64,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        let statement = format!(
            "SELECT {EVENT_COLUMNS} FROM events WHERE project = ?1 AND position IS NULL ORDER BY sequence DESC LIMIT ?2 OFFSET ?3"
        );
        let mut events = self.many(&statement, &[project_key(project).into(), limit.into(), integer(skipped).into()], event)?;
        events.reverse();
        Ok(events)
    }

    fn delete_events(&self, project: Option<&ProjectName>, until: u64) -> Result<(), StoreError> {
        let key = [project_key(project).into(), integer(until).into()];
        self.run("DELETE FROM events WHERE project = ?1 AND position <= ?2", &key)
    }

    fn events_after(&self, project: Option<&ProjectName>, after: Option<u64>, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        // Only a forged event has a number below one, and it has to be seen.
        let after = after.map_or(i64::MIN, |number| i64::try_from(number).unwrap_or(i64::MAX));
        let statement =
            format!("SELECT {EVENT_COLUMNS} FROM events WHERE project = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3");
        self.many(&statement, &[project_key(project).into(), after.into(), limit.into()], event)
    }
}
