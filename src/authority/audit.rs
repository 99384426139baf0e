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
/// How many entries are in memory at a time while all of them are checked.
const PAGE: u32 = 1000;

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
        self.check_history_by(reach, PAGE)
    }

    /// The same with so many entries in memory at a time, all of them seen as they are at one moment.
    pub(super) fn check_history_by(&self, reach: &Reach, page: u32) -> Result<HistoryCheck, AuthorityError> {
        let project = reach.project();
        self.store.read(|rows| {
            let mut walk = Walk::default();
            let mut last = 0;
            loop {
                let events = rows.events_after(project, last, page)?;
                let Some(event) = events.last() else { break };
                last = event.sequence;
                for event in &events {
                    walk.enter(event, |position, before| self.hash(event, position, before))?;
                }
            }
            Ok(walk.end(rows.chain(project)?))
        })
    }
}

/// A walk along a history, from its beginning.
#[derive(Default)]
struct Walk {
    entries: u64,
    unbound: u64,
    breaks: Vec<String>,
    /// Of the last bound entry.
    position: u64,
    hash: String,
}

impl Walk {
    fn broken(&mut self, what: String) {
        if self.breaks.len() < MOST_BREAKS {
            self.breaks.push(what);
        }
    }

    fn enter(
        &mut self,
        event: &EventRow,
        hash: impl FnOnce(u64, &str) -> Result<String, StoreError>,
    ) -> Result<(), StoreError> {
        let Some(bond) = &event.bond else {
            // Only the oldest may be without one: they are from before entries were bound.
            if self.position > 0 {
                self.broken(format!("entry {} is not bound to the one before it", event.sequence));
            }
            self.unbound += 1;
            return Ok(());
        };
        if bond.position != self.position + 1 {
            let missing =
                format!("before entry {}: {} was expected, and {} is there", event.sequence, self.position + 1, bond.position);
            self.broken(format!("entries are missing or out of order {missing}"));
        }
        if hash(bond.position, &self.hash)? != bond.hash {
            self.broken(format!("entry {} is not as it was written, or what stood before it is not", event.sequence));
        }
        self.entries += 1;
        self.position = bond.position;
        self.hash.clone_from(&bond.hash);
        Ok(())
    }

    /// What came of it, held against what was noted of the newest entry.
    fn end(mut self, newest: Option<Bond>) -> HistoryCheck {
        let (length, head) = newest.map_or((0, String::new()), |bond| (bond.position, bond.hash));
        if (self.position, &self.hash) != (length, &head) {
            let last = self.position;
            self.broken(format!("the end is missing: {length} entries were written, and the last one here is {last}"));
        }
        let Self { entries, unbound, breaks, hash, .. } = self;
        HistoryCheck { entries, unbound, head: (!hash.is_empty()).then_some(hash), breaks }
    }
}
