//! The rows of events and of the chain that binds them, one statement each.
//!
//! Must not do: begin or end a transaction, change an event, or make a hash; the authority does.

use rusqlite::params;

use super::sqlite_rows::{SqliteRows, json, project_key, project_name, text_of};
use super::{Bond, EventRow, StoreError};
use crate::model::{ProjectName, Timestamp};

impl SqliteRows<'_> {
    pub(super) fn chain_of(&self, project: Option<&ProjectName>) -> Result<Option<Bond>, StoreError> {
        self.one("SELECT length, head FROM chains WHERE project = ?1", [project_key(project)], |row| {
            Ok(Bond { position: row.get(0)?, hash: row.get(1)? })
        })
    }

    pub(super) fn insert_event(&self, event: &EventRow) -> Result<(), StoreError> {
        let project = project_key(event.project.as_ref());
        self.run(
            "INSERT INTO events (project, at, kind, backend, detail, actor, plan, position, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                project,
                event.at.0,
                event.kind,
                event.backend,
                event.detail,
                event.actor.as_ref().map(text_of),
                event.plan,
                event.bond.as_ref().map(|bond| bond.position),
                event.bond.as_ref().map(|bond| &bond.hash),
            ],
        )?;
        let Some(bond) = &event.bond else { return Ok(()) };
        self.run(
            "INSERT INTO chains (project, length, head) VALUES (?1, ?2, ?3)
             ON CONFLICT (project) DO UPDATE SET length = ?2, head = ?3",
            params![project, bond.position, bond.hash],
        )
        .map(drop)
    }

    pub(super) fn last_events(&self, project: Option<&ProjectName>, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let mut events = self.many(
            "SELECT sequence, project, at, kind, backend, detail, actor, plan, position, hash FROM events WHERE project = ?1
             ORDER BY sequence DESC LIMIT ?2",
            params![project_key(project), limit],
            |row| {
                let bond: (Option<u64>, Option<String>) = (row.get(8)?, row.get(9)?);
                Ok(EventRow {
                    sequence: row.get(0)?,
                    project: if row.get_ref(1)?.as_str()?.is_empty() { None } else { Some(project_name(row, 1)?) },
                    at: Timestamp(row.get(2)?),
                    kind: row.get(3)?,
                    backend: row.get(4)?,
                    detail: row.get(5)?,
                    actor: row.get::<_, Option<String>>(6)?.map(|_| json(row, 6)).transpose()?,
                    plan: row.get(7)?,
                    bond: bond.0.zip(bond.1).map(|(position, hash)| Bond { position, hash }),
                })
            },
        )?;
        events.reverse();
        Ok(events)
    }
}
