//! The history: every change with who made it, each entry bound to the one before it.
//!
//! An entry's hash is an HMAC over the entry and the hash before it, under a key that is derived from the master key. So
//! whoever can write the rows but does not have that key can neither change, remove nor insert an entry unnoticed; and
//! the newest hash, noted elsewhere, shows whether the end was cut off together with its count.
//!
//! Must not do: change or remove an entry, or write a secret down.

use super::{Authority, AuthorityError};
use crate::control::{HistoryCheck, HistoryEntry, Reach};
use crate::model::{Actor, BackendName, ProjectName, Timestamp};
use crate::store::{Bond, EventRow, Rows, Store, StoreError};

/// Who does something, as part of which plan, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) actor: &'a Actor,
    pub(super) plan: Option<&'a str>,
    pub(super) at: Timestamp,
}

/// How many breaks are listed; the first one says what there is to know.
const MOST_BREAKS: usize = 20;

impl<S: Store> Authority<S> {
    /// Appends one entry.
    pub(super) fn record(
        &self,
        rows: &dyn Rows,
        project: Option<&ProjectName>,
        who: Who<'_>,
        kind: &str,
        backend: Option<&BackendName>,
        detail: impl Into<String>,
    ) -> Result<(), AuthorityError> {
        let mut event = EventRow {
            sequence: 0,
            project: project.cloned(),
            at: who.at,
            kind: kind.to_owned(),
            backend: backend.map(ToString::to_string),
            detail: detail.into(),
            actor: Some(who.actor.clone()),
            plan: who.plan.map(str::to_owned),
            bond: None,
        };
        let before = rows.chain(project)?;
        let position = before.as_ref().map_or(0, |bond| bond.position) + 1;
        let hash = self.hash(&event, position, before.as_ref().map_or("", |bond| &bond.hash))?;
        event.bond = Some(Bond { position, hash });
        Ok(rows.append_event(&event)?)
    }

    fn hash(&self, event: &EventRow, position: u64, before: &str) -> Result<String, StoreError> {
        let EventRow { project, at, kind, backend, detail, actor, plan, .. } = event;
        let content = (before, position, project, at, kind, backend, detail, actor, plan);
        Ok(self.vault.bind(&serde_json::to_vec(&content).map_err(StoreError::Unwritable)?))
    }

    /// What has happened, newest last.
    pub fn history(&self, reach: &Reach, limit: u32) -> Result<Vec<HistoryEntry>, AuthorityError> {
        let events = self.store.read(|rows| Ok::<_, AuthorityError>(rows.events(reach.project(), limit)?))?;
        Ok(events
            .into_iter()
            .map(|event| HistoryEntry {
                sequence: event.sequence,
                at: event.at,
                kind: event.kind,
                backend: event.backend,
                detail: event.detail,
                actor: event.actor,
                plan: event.plan,
                hash: event.bond.map(|bond| bond.hash),
            })
            .collect())
    }

    /// Whether the history is as it was written.
    pub fn check_history(&self, reach: &Reach) -> Result<HistoryCheck, AuthorityError> {
        let project = reach.project();
        let (events, end) =
            self.store.read(|rows| Ok::<_, AuthorityError>((rows.events(project, u32::MAX)?, rows.chain(project)?)))?;
        let mut check = HistoryCheck { entries: 0, unbound: 0, head: None, breaks: Vec::new() };
        let (mut position, mut before) = (0, String::new());
        for event in &events {
            let Some(bond) = &event.bond else {
                // Only the oldest may be without one: they are from before entries were bound.
                if position > 0 {
                    check.breaks.push(format!("entry {} is not bound to the one before it", event.sequence));
                }
                check.unbound += 1;
                continue;
            };
            if bond.position != position + 1 {
                let missing =
                    format!("before entry {}: {} was expected, and {} is there", event.sequence, position + 1, bond.position);
                check.breaks.push(format!("entries are missing or out of order {missing}"));
            }
            if self.hash(event, bond.position, &before)? != bond.hash {
                check.breaks.push(format!("entry {} is not as it was written, or what stood before it is not", event.sequence));
            }
            check.entries += 1;
            position = bond.position;
            before.clone_from(&bond.hash);
        }
        let (length, head) = end.map_or((0, String::new()), |bond| (bond.position, bond.hash));
        if (position, &before) != (length, &head) {
            check
                .breaks
                .push(format!("the end is missing: {length} entries were written, and the last one here is {position}"));
        }
        check.head = (!before.is_empty()).then_some(before);
        check.breaks.truncate(MOST_BREAKS);
        Ok(check)
    }
}
