//! The rows of events and of the chain that binds them, one statement each.
//!
//! Must not do: begin or end a transaction, change an event, or make a hash; the authority does.

use super::columns::{project_key, text_of};
use super::connection::{Columns, Connection, Unreadable};
use super::rows::SqlRows;
use crate::model::ProjectName;
use crate::store::{Bond, EventRow, StoreError};

const COLUMNS: &str = "sequence, project, at, kind, backend, detail, actor, plan, position, hash";

fn event(row: &dyn Columns) -> Result<EventRow, Unreadable> {
    let bond: (Option<u64>, Option<String>) = (row.optional_number(8)?, row.optional_words(9)?);
    Ok(EventRow {
        sequence: row.number(0)?,
        project: if row.words(1)?.is_empty() { None } else { Some(row.project_name(1)?) },
        at: row.time(2)?,
        kind: row.words(3)?.to_owned(),
        backend: row.optional_words(4)?,
        detail: row.words(5)?.to_owned(),
        actor: row.optional_json(6)?,
        plan: row.optional_words(7)?,
        bond: bond.0.zip(bond.1).map(|(position, hash)| Bond { position, hash }),
    })
}

impl<C: Connection> SqlRows<'_, C> {
    pub(super) fn chain_of(&self, project: Option<&ProjectName>) -> Result<Option<Bond>, StoreError> {
        self.one("SELECT length, head FROM chains WHERE project = ?1", &[project_key(project).into()], |row| {
            Ok(Bond { position: row.number(0)?, hash: row.words(1)?.to_owned() })
        })
    }

    pub(super) fn insert_event(&self, event: &EventRow) -> Result<(), StoreError> {
        let project = project_key(event.project.as_ref());
        self.run(
            "INSERT INTO events (project, at, kind, backend, detail, actor, plan, position, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            &[
                project.into(),
                event.at.0.into(),
                (&event.kind).into(),
                event.backend.as_ref().into(),
                (&event.detail).into(),
                event.actor.as_ref().map(text_of).transpose()?.into(),
                event.plan.as_ref().into(),
                event.bond.as_ref().map(|bond| bond.position).into(),
                event.bond.as_ref().map(|bond| &bond.hash).into(),
            ],
        )?;
        let Some(bond) = &event.bond else { return Ok(()) };
        self.run(
            "INSERT INTO chains (project, length, head) VALUES (?1, ?2, ?3)
             ON CONFLICT (project) DO UPDATE SET length = ?2, head = ?3",
            &[project.into(), bond.position.into(), (&bond.hash).into()],
        )
        .map(drop)
    }

    pub(super) fn last_events(&self, project: Option<&ProjectName>, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM events WHERE project = ?1 ORDER BY sequence DESC LIMIT ?2");
        let mut events = self.many(&statement, &[project_key(project).into(), limit.into()], event)?;
        events.reverse();
        Ok(events)
    }

    pub(super) fn first_events_after(
        &self,
        project: Option<&ProjectName>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM events WHERE project = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3");
        self.many(&statement, &[project_key(project).into(), after.into(), limit.into()], event)
    }
}
