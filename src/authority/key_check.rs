//! The mark of a home: by what its master key is known again, and up to which entry its history is older than the bonds
//! between entries.
//!
//! A home is marked when it is made, or when it is first written by a convexinfra that knows such marks. Homes from before
//! have either no mark or one of another kind, which cannot replace each other without the key. So removing a mark does not
//! make entries pass for old ones that were never bound, unless the secrets of all backends go with it.

use std::sync::atomic::Ordering;

use super::{Authority, AuthorityError, VaultError};
use crate::model::BackendId;
use crate::store::{ChainRow, Durability, KeyCheckRow, Rows, Store, UnreadableRow};

/// Describes what is known about the entries of a home that are not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnchainedEntries {
    /// A mark under the key says so: those up to this number are.
    Sealed(u64),
    /// The home was not written since there are marks: those up to this number are.
    Legacy(u64),
    /// The mark is gone, or is not as it was written.
    Unknown,
}

/// Describes the mark of a home as it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyCheck {
    /// It is of today's kind, under this master key.
    Current,
    /// It is of an earlier kind, under this master key. Only with such a mark do rows rightly lack what came later.
    Legacy,
    /// There is none: the home is new, very old, or was robbed of it.
    Absent,
    /// No key has made it, and the end of the control plane's history is under this master key.
    Damaged,
}

impl<S: Store> Authority<S> {
    /// Checks that these rows are written under this master key, as far as that was noted.
    ///
    /// # Errors
    /// [`VaultError::Locked`] under another one: what is sealed would not open, and what is written would break histories.
    pub fn check_key(&self) -> Result<(), AuthorityError> {
        self.store.read(|rows| self.find_key_check(rows)).map(drop)
    }

    /// The same, and marks the home where that was not done.
    ///
    /// # Errors
    /// As [`Authority::check_key`].
    pub fn record_key_check(&self) -> Result<(), AuthorityError> {
        if self.store.read(|rows| self.find_key_check(rows))? != KeyCheck::Current {
            self.store.write(Durability::Fsync, |rows| {
                // Another process may have been first.
                let found = self.find_key_check(rows)?;
                if found == KeyCheck::Current {
                    return Ok(());
                }
                self.write_key_check(rows, found)?;
                self.bind_rows(rows)
            })?;
        }
        self.accept_unbound(KeyCheck::Current);
        Ok(())
    }

    /// Returns what a start finds damaged, each with what is wrong. It is passed over, and stops nothing else.
    pub fn damaged_rows(&self) -> Result<Vec<UnreadableRow>, AuthorityError> {
        self.store.read(|rows| {
            let mut found = rows.unreadable_rows()?;
            let reason = match self.find_key_check(rows)? {
                KeyCheck::Damaged => {
                    "which does not match this master key, although that sealed the history, and is written again"
                }
                KeyCheck::Current if self.unchained_entries(rows)? == UnchainedEntries::Unknown => {
                    "which does not say any more since when the entries of histories are bound"
                }
                KeyCheck::Current | KeyCheck::Legacy | KeyCheck::Absent => return Ok(found),
            };
            found.push(UnreadableRow { table: "key_marks", key: "mark".to_owned(), reason: reason.to_owned() });
            Ok(found)
        })
    }

    /// Binds the secrets of every backend to its project and its instance, and every token to the master key. A row that
    /// does not open, or that this control plane did not write, is left as it is: it opens no more than before.
    fn bind_rows(&self, rows: &dyn Rows) -> Result<(), AuthorityError> {
        for id in rows.backend_ids()? {
            let Ok(Some(mut row)) = rows.backend_by_id(&BackendId::new(id)) else { continue };
            let Ok(secrets) = self.open_secrets(&row) else { continue };
            if !row.sealed.is_empty() {
                row.sealed = self.seal_for(&row, &secrets)?;
                rows.put_backend(&row)?;
            }
        }
        for row in rows.readable_tokens()?.0.into_iter().filter(|row| self.is_own_token(row)) {
            rows.put_token(&self.token_row(row.record, row.hash)?)?;
        }
        Ok(())
    }

    /// Returns what the mark of the home says; one under another key is refused.
    fn find_key_check(&self, rows: &dyn Rows) -> Result<KeyCheck, AuthorityError> {
        let found = match rows.key_check()? {
            None => KeyCheck::Absent,
            Some(row) if row.value == self.vault.key_check_value() => KeyCheck::Current,
            Some(row) if self.vault.wrote(&row.value) => KeyCheck::Legacy,
            // With another key every mark looks like a damaged one. What the key sealed tells them apart, and a rotation
            // seals this row anew together with the mark.
            Some(_) if self.sealed_own_history(rows) => KeyCheck::Damaged,
            Some(_) => return Err(VaultError::Locked.into()),
        };
        self.accept_unbound(found);
        Ok(found)
    }

    /// Accepts rows that are bound to less than today's only where the home may be that old.
    fn accept_unbound(&self, found: KeyCheck) {
        self.accepts_legacy.store(matches!(found, KeyCheck::Legacy | KeyCheck::Absent), Ordering::Relaxed);
        self.accepts_unbound_tokens.store(found == KeyCheck::Legacy, Ordering::Relaxed);
    }

    /// Returns whether the end of the control plane's own history is sealed under this master key.
    fn sealed_own_history(&self, rows: &dyn Rows) -> bool {
        let end = rows.chain(None).ok().flatten();
        end.is_some_and(|end| end.seal.is_some() && self.seal_chain(end.clone()).seal == end.seal)
    }

    /// Returns whether a value is of a home that seals its histories: today's, or of before rows were bound.
    fn is_sealed_value(&self, value: &str) -> bool {
        value == self.vault.key_check_value() || value == self.vault.sealed_key_check_value()
    }

    fn write_key_check(&self, rows: &dyn Rows, found: KeyCheck) -> Result<(), AuthorityError> {
        // What a damaged mark says beside its value is kept: it holds with its own seal only.
        let is_kept = |row: &KeyCheckRow| found == KeyCheck::Damaged || self.is_sealed_value(&row.value);
        if let Some(row) = rows.key_check()?.filter(is_kept) {
            return Ok(rows.put_key_check(&KeyCheckRow { value: self.vault.key_check_value(), ..row })?);
        }
        let unbound = match self.unchained_entries(rows)? {
            UnchainedEntries::Legacy(last) => Some(last),
            // The rows speak of a mark that is not there. What it said is not made up, so every check says so.
            UnchainedEntries::Unknown | UnchainedEntries::Sealed(_) => None,
        };
        let seal = unbound.map(|last| self.seal_of_key_check(last));
        let is_sealed = seal.is_some();
        rows.put_key_check(&KeyCheckRow { value: self.vault.key_check_value(), unchained: unbound, seal, retired: None })?;
        if !is_sealed {
            return Ok(());
        }
        // From now on a history without an end is one whose end was taken away.
        let mut projects: Vec<_> = rows.projects()?.into_iter().map(Some).collect();
        projects.push(None);
        for project in projects {
            // One that cannot be read is named by the look at its history.
            let Ok(chain) = rows.chain(project.as_ref()) else { continue };
            let chain = chain.unwrap_or_else(|| ChainRow::empty(project));
            rows.put_chain(&self.seal_chain(chain))?;
        }
        Ok(())
    }

    /// Returns which entries are rightly without a bond.
    pub(super) fn unchained_entries(&self, rows: &dyn Rows) -> Result<UnchainedEntries, AuthorityError> {
        Ok(match rows.key_check()? {
            Some(row) if row.value == self.vault.legacy_key_check_value() => UnchainedEntries::Legacy(rows.last_unchained()?),
            Some(KeyCheckRow { unchained, seal, .. }) => match unchained {
                Some(last) if seal.as_ref() == Some(&self.seal_of_key_check(last)) => UnchainedEntries::Sealed(last),
                _ => UnchainedEntries::Unknown,
            },
            // The oldest homes have no mark, and nothing that came with it or after it.
            None if rows.has_chains()? || has_tokens(rows)? || self.has_secrets_sealed_since_key_check(rows)? => {
                UnchainedEntries::Unknown
            }
            None => UnchainedEntries::Legacy(rows.last_unchained()?),
        })
    }

    /// Returns whether secrets were sealed since homes have marks, which can be undone without the key only by losing them.
    fn has_secrets_sealed_since_key_check(&self, rows: &dyn Rows) -> Result<bool, AuthorityError> {
        let row_of = |id| rows.backend_by_id(&BackendId::new(id)).ok().flatten();
        Ok(rows.backend_ids()?.into_iter().filter_map(row_of).any(|row| self.is_sealed_with_key_check(&row)))
    }

    pub(super) fn seal_of_key_check(&self, unbound: u64) -> String {
        self.vault.compute_mac(&serde_json::to_vec(&("unbound", unbound)).unwrap_or_default())
    }

    /// Returns whether the end of a history is as it was sealed, or from before that was done.
    pub(super) fn is_chain_sealed(&self, rows: &dyn Rows, end: &ChainRow) -> Result<bool, AuthorityError> {
        Ok(self.seal_chain(end.clone()).seal == end.seal
            || end.seal.is_none() && matches!(self.unchained_entries(rows)?, UnchainedEntries::Legacy(_)))
    }

    /// Returns the end of a history under the key.
    pub(super) fn seal_chain(&self, chain: ChainRow) -> ChainRow {
        let ChainRow { project, length, head, pruned, pruned_head, .. } = &chain;
        // As it was before anything was pruned, so that what was sealed then holds.
        let content = match pruned {
            0 => serde_json::to_vec(&("chain", project, length, head)),
            _ => serde_json::to_vec(&("chain", project, length, head, pruned, pruned_head)),
        };
        let content = content.unwrap_or_default();
        ChainRow { seal: Some(self.vault.compute_mac(&content)), ..chain }
    }
}

/// Returns whether there are tokens, be they ones that cannot be read.
fn has_tokens(rows: &dyn Rows) -> Result<bool, AuthorityError> {
    let (tokens, unreadable) = rows.readable_tokens()?;
    Ok(!tokens.is_empty() || !unreadable.is_empty())
}
