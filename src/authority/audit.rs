//! The history, or audit log: every change with who made it, each entry bound to the one before it.
//!
//! An entry's hash is an HMAC over the entry and the hash before it, under a key that is derived from the master key. So
//! write access to the rows without that key does not suffice to change, remove or insert an entry unnoticed. How long a
//! history is and what it ends with is sealed under that key as well. What is left is to put all rows back to what they
//! once were; the newest hash, noted elsewhere, shows that.
//!
//! The beginning of a long history is pruned, once it has been verified: where it ended is sealed with the rest.
//!
//! Must not do: change an entry, or write a secret down.

use super::key_check::UnchainedEntries;
use super::retired_keys::RetiredKeys;
use super::vault::chain_hash_under;
use super::{Authority, AuthorityError};
use crate::api::{HistoryEntry, HistoryPage, HistoryVerification, ResourceLevel};
use crate::model::{Actor, BackendName, ProjectName, Timestamp};
use crate::store::{ChainLink, ChainRow, Durability, EventRow, Rows, Store, StoreError};

/// Says who does something, as part of which plan, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct AuditContext<'a> {
    pub(super) actor: &'a Actor,
    pub(super) plan: Option<&'a str>,
    pub(super) at: Timestamp,
}

/// How many entries are looked at in one go.
const PAGE_SIZE: u32 = 1000;

/// How many entries of a history are kept: who may change a project makes entries without end.
const HISTORY_KEPT: u64 = 100_000;

/// How many more there may be until they are pruned.
const HISTORY_SLACK: u64 = 10_000;

/// Limits how many breaks are listed; the first one says most.
const MAX_BREAKS: usize = 20;

impl<S: Store> Authority<S> {
    /// Appends one entry.
    pub(super) fn record(
        &self,
        rows: &dyn Rows,
        project: Option<&ProjectName>,
        who: AuditContext<'_>,
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
            link: None,
        };
        let nothing = || ChainRow::empty(project.cloned());
        let end = match rows.chain(project)? {
            Some(end) if self.is_chain_sealed(rows, &end)? => end,
            None if self.is_new(rows, project)? => nothing(),
            // The end was removed or replaced without the key, and a gap keeps showing that.
            other => {
                let end = other.unwrap_or_else(nothing);
                ChainRow { length: end.length.saturating_add(1), ..end }
            }
        };
        let position = end.length + 1;
        let hash = self.hash(&event, position, &end.head)?;
        event.link = Some(ChainLink { position, hash: hash.clone() });
        rows.append_event(&event)?;
        Ok(rows.put_chain(&self.seal_chain(ChainRow { length: position, head: hash, ..end }))?)
    }

    /// Returns whether nothing can have happened to a project yet. The control plane itself has a history since its home
    /// was marked.
    fn is_new(&self, rows: &dyn Rows, project: Option<&ProjectName>) -> Result<bool, AuthorityError> {
        let Some(name) = project else { return Ok(!matches!(self.unchained_entries(rows)?, UnchainedEntries::Sealed(_))) };
        // The change that is being recorded is counted already.
        let is_first = rows.project(name)?.is_none_or(|row| row.revision.0 <= 1);
        Ok(is_first && rows.events_after(project, None, 1)?.is_empty())
    }

    pub(super) fn hash(&self, event: &EventRow, position: u64, before: &str) -> Result<String, StoreError> {
        Ok(self.vault.chain_hash(&chained_content(event, position, before)?))
    }

    /// Returns whether a hash chains an event, under the key of today or one of before. What is older than a rotation cannot be
    /// rewritten with the key of that time: the first entry after it, or the sealed end, is bound to the last one of before.
    fn is_chained(&self, retired: &RetiredKeys, event: &EventRow, link: &ChainLink, before: &str) -> Result<bool, StoreError> {
        let content = chained_content(event, link.position, before)?;
        Ok(self.vault.chain_hash(&content) == link.hash
            || retired.history_keys().any(|key| chain_hash_under(&key, &content) == link.hash))
    }

    /// Returns one page of the history, newest entry last. Entries are numbered within their history: the number among all
    /// entries would say what other projects do.
    pub fn history(&self, level: &ResourceLevel, page: HistoryPage) -> Result<Vec<HistoryEntry>, AuthorityError> {
        let HistoryPage { limit, before } = page;
        let project = level.project();
        let events = self.store.read(|rows| {
            let unbound = rows.unbound_events(project)?;
            let before = before.unwrap_or(u64::MAX);
            let mut numbered = Vec::new();
            if let Some(before) = before.checked_sub(unbound).filter(|before| *before > 1) {
                for event in rows.last_bound_events(project, before, limit)? {
                    let position = event.link.as_ref().map_or(0, |link| link.position);
                    numbered.push((unbound.saturating_add(position), event));
                }
            }
            // What is older than bonds comes before everything else.
            let left = limit.saturating_sub(u32::try_from(numbered.len()).unwrap_or(u32::MAX));
            let until = before.saturating_sub(1).min(unbound);
            if left > 0 && until > 0 {
                let older = rows.last_unbound_events(project, unbound - until, left)?;
                let first = (until + 1).saturating_sub(older.len() as u64);
                numbered.splice(0..0, (first..).zip(older));
            }
            Ok::<_, AuthorityError>(numbered)
        })?;
        Ok(events
            .into_iter()
            .map(|(number, event)| HistoryEntry {
                sequence: number,
                at: event.at,
                kind: event.kind,
                backend: event.backend,
                detail: event.detail,
                actor: event.actor,
                plan: event.plan,
                hash: event.link.map(|bond| bond.hash),
            })
            .collect())
    }

    /// Returns whether the history is as it was written and, where a hash of it was noted elsewhere, still contains that.
    pub fn check_history(&self, reach: &ResourceLevel, noted: Option<&str>) -> Result<HistoryVerification, AuthorityError> {
        let project = reach.project();
        self.store.read(|rows| {
            let unbound = self.unchained_entries(rows)?;
            let retired = self.retired_keys(rows)?;
            let end = rows.chain(project)?;
            let mut course = ChainVerifier::new(unbound, noted, end.as_ref());
            let mut after = None;
            loop {
                let events = rows.events_after(project, after, PAGE_SIZE)?;
                let Some(last) = events.last() else { break };
                if after.is_some_and(|after| last.sequence <= after) {
                    course.report_break("reading on finds older entries: the index of the history is damaged".to_owned());
                    break;
                }
                after = Some(last.sequence);
                for event in &events {
                    course.verify_entry(event, |link, before| self.is_chained(&retired, event, link, before))?;
                }
            }
            match end {
                Some(end) => {
                    if !self.is_chain_sealed(rows, &end)? {
                        course
                            .report_break("what says how long the history is was not written by this control plane".to_owned());
                    }
                    course.verify_end(end.length, &end.head);
                }
                None => {
                    let expected =
                        course.position > 0 || matches!(unbound, UnchainedEntries::Sealed(_)) && has_activity(rows, project)?;
                    if expected {
                        course
                            .report_break("what says how long the history is has been removed, though there is one".to_owned());
                    }
                }
            }
            Ok(course.finish())
        })
    }
}

impl<S: Store> Authority<S> {
    /// Forgets the beginnings of histories that are longer than what is kept. A beginning that is not as it was written
    /// stays: it is what shows that.
    pub fn prune_histories(&self) -> Result<(), AuthorityError> {
        let long = self.store.read(|rows| Ok::<_, AuthorityError>(rows.long_chains(HISTORY_KEPT + HISTORY_SLACK)?))?;
        // One that cannot be read keeps no other from being pruned.
        let mut all = Ok(());
        for project in long {
            all = all.and(self.prune_history(project.as_ref(), HISTORY_KEPT));
        }
        all
    }

    /// Forgets all but the newest entries of one history.
    pub(super) fn prune_history(&self, project: Option<&ProjectName>, kept: u64) -> Result<(), AuthorityError> {
        self.store.write(Durability::NoFsync, |rows| {
            let Some(end) = rows.chain(project)? else { return Ok(()) };
            let last = end.length.saturating_sub(kept);
            if last <= end.pruned || !self.is_chain_sealed(rows, &end)? {
                return Ok(());
            }
            let retired = self.retired_keys(rows)?;
            let mut course = ChainVerifier::new(self.unchained_entries(rows)?, None, Some(&end));
            while course.position < last {
                let limit = u32::try_from(last - course.position).unwrap_or(u32::MAX).min(PAGE_SIZE);
                let events = rows.bound_events_after(project, course.position, limit)?;
                if events.is_empty() {
                    return Ok(());
                }
                for event in &events {
                    course.verify_entry(event, |link, before| self.is_chained(&retired, event, link, before))?;
                }
                if !course.check.breaks.is_empty() {
                    return Ok(());
                }
            }
            let (pruned, pruned_head) = (course.position, course.before.clone());
            rows.put_chain(&self.seal_chain(ChainRow { pruned, pruned_head, ..end }))?;
            Ok(rows.delete_events(project, pruned)?)
        })
    }
}

/// Returns what the hash of an event is made over.
fn chained_content(event: &EventRow, position: u64, before: &str) -> Result<Vec<u8>, StoreError> {
    let EventRow { project, at, kind, backend, detail, actor, plan, .. } = event;
    let content = (before, position, project, at, kind, backend, detail, actor, plan);
    serde_json::to_vec(&content).map_err(StoreError::Unwritable)
}

/// Returns whether something is there that is never made without an entry.
fn has_activity(rows: &dyn Rows, project: Option<&ProjectName>) -> Result<bool, AuthorityError> {
    // The control plane's own history has an end since its home was marked, be it that of no entry.
    let Some(name) = project else { return Ok(true) };
    let row = rows.project(name)?;
    Ok(row.is_some_and(|row| row.revision.0 > 0 || row.origin.is_some())
        || !rows.backends(name)?.is_empty()
        || rows.quota(project)?.is_some()
        || rows.readable_tokens()?.0.iter().any(|token| token.record.project.as_ref() == project))
}

/// A history while it is followed from its beginning.
struct ChainVerifier<'a> {
    unchained: UnchainedEntries,
    expected_head: Option<&'a str>,
    /// The number of the entry within its history.
    number: u64,
    /// The position from which on entries are kept.
    start: u64,
    position: u64,
    before: String,
    check: HistoryVerification,
}

impl<'a> ChainVerifier<'a> {
    fn new(unbound: UnchainedEntries, noted: Option<&'a str>, end: Option<&ChainRow>) -> Self {
        let (start, before) = end.map_or((0, String::new()), |end| (end.pruned, end.pruned_head.clone()));
        let mut course = Self {
            unchained: unbound,
            expected_head: noted,
            number: start,
            start,
            position: start,
            check: HistoryVerification { pruned: start, ..HistoryVerification::default() },
            before,
        };
        if start > 0 && noted == Some(course.before.as_str()) {
            course.check.noted = Some(start);
        }
        if unbound == UnchainedEntries::Unknown {
            course.report_break(
                "what says since when entries are bound was removed or changed, so that entries that are not may be anybody's"
                    .to_owned(),
            );
        }
        course
    }

    fn report_break(&mut self, what: String) {
        if self.check.breaks.len() < MAX_BREAKS {
            self.check.breaks.push(what);
        }
    }

    fn verify_entry(
        &mut self,
        event: &EventRow,
        is_chained: impl Fn(&ChainLink, &str) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.number += 1;
        let number = self.number;
        let Some(bond) = &event.link else {
            let is_older = match self.unchained {
                UnchainedEntries::Sealed(last) | UnchainedEntries::Legacy(last) => (1..=last).contains(&event.sequence),
                UnchainedEntries::Unknown => false,
            };
            // Who did something is written down since entries are bound.
            if !is_older || self.position > self.start || event.actor.is_some() || event.plan.is_some() {
                self.report_break(format!("entry {number} is not bound to the one before it, so anybody may have written it"));
            }
            self.check.unbound += 1;
            return Ok(());
        };
        let expected = self.position + 1;
        if bond.position != expected {
            let missing = format!("before entry {number}: {expected} was expected, and {} is there", bond.position);
            self.report_break(format!("entries are missing or out of order {missing}"));
        }
        if !is_chained(bond, &self.before)? {
            self.report_break(format!("entry {number} is not as it was written, or what stood before it is not"));
        }
        self.check.entries += 1;
        self.position = bond.position;
        self.before.clone_from(&bond.hash);
        if self.expected_head == Some(&bond.hash) {
            self.check.noted = Some(bond.position);
        }
        Ok(())
    }

    fn verify_end(&mut self, length: u64, head: &str) {
        if (self.position, self.before.as_str()) != (length, head) {
            let position = self.position;
            self.report_break(format!(
                "the end is missing: {length} entries were written, and the last one here is {position}"
            ));
        }
    }

    fn finish(mut self) -> HistoryVerification {
        if self.expected_head.is_some() && self.check.noted.is_none() {
            let pruned = match self.start {
                0 => String::new(),
                start => format!("; it may be that of one of the first {start} entries, which are not kept any more"),
            };
            self.report_break(format!(
                "no entry has the hash that was noted: the history was truncated before it, rewritten, or is another one{pruned}"
            ));
        }
        self.check.head = (!self.before.is_empty()).then_some(self.before);
        self.check
    }
}
