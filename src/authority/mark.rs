//! The mark of a home: by what its master key is known again, and up to which entry its history is older than the bonds
//! between entries.
//!
//! A home is marked when it is made, or when it is first written by a convexinfra that knows such marks. Homes from
//! before have either no mark or one of another kind, which nobody can put in place of the other without the key. So
//! whoever takes a mark away cannot make entries pass for old ones that were never bound, unless the secrets of all
//! backends go with it.
//!
//! Must not do: mark a home a second time.

use super::{Authority, AuthorityError, VaultError};
use crate::store::{ChainRow, Durability, KeyMarkRow, Rows, Store};

/// What is known about the entries of a home that are not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unbound {
    /// A mark under the key says so: those up to this number are.
    Marked(u64),
    /// The home was not written since there are marks: those up to this number are.
    Before(u64),
    /// The mark is gone, or is not as it was written.
    Unknown,
}

impl<S: Store> Authority<S> {
    /// Checks that these rows are written under this master key, as far as that was noted.
    ///
    /// # Errors
    /// [`VaultError::Locked`] under another one: what is sealed would not open, and what is written would break histories.
    pub fn check_key(&self) -> Result<(), AuthorityError> {
        self.store.read(|rows| self.is_marked(rows)).map(drop)
    }

    /// The same, and marks the home where that was not done.
    ///
    /// # Errors
    /// As [`Authority::check_key`].
    pub fn claim_key(&self) -> Result<(), AuthorityError> {
        if self.store.read(|rows| self.is_marked(rows))? {
            return Ok(());
        }
        self.store.write(Durability::Power, |rows| {
            // Somebody else may have been first.
            if self.is_marked(rows)? { Ok(()) } else { self.mark(rows) }
        })
    }

    /// Whether there is a mark of today's kind; one under another key is refused.
    fn is_marked(&self, rows: &dyn Rows) -> Result<bool, AuthorityError> {
        match rows.key_mark()? {
            None => Ok(false),
            Some(row) if row.mark == self.vault.mark() => Ok(true),
            Some(row) if row.mark == self.vault.mark_before_seals() => Ok(false),
            Some(_) => Err(VaultError::Locked.into()),
        }
    }

    fn mark(&self, rows: &dyn Rows) -> Result<(), AuthorityError> {
        let unbound = match self.unbound(rows)? {
            Unbound::Before(last) => Some(last),
            // The rows speak of a mark that is not there. What it said is not made up, so every check says so.
            Unbound::Unknown | Unbound::Marked(_) => None,
        };
        let seal = unbound.map(|last| self.seal_of_mark(last));
        let is_sealed = seal.is_some();
        rows.put_key_mark(&KeyMarkRow { mark: self.vault.mark(), unbound, seal })?;
        if !is_sealed {
            return Ok(());
        }
        // From now on a history without an end is one whose end was taken away.
        let mut projects: Vec<_> = rows.projects()?.into_iter().map(Some).collect();
        projects.push(None);
        for project in projects {
            let chain = rows.chain(project.as_ref())?;
            let chain = chain.unwrap_or(ChainRow { project, length: 0, head: String::new(), seal: None });
            rows.put_chain(&self.sealed(chain))?;
        }
        Ok(())
    }

    /// Which entries are rightly without a bond.
    pub(super) fn unbound(&self, rows: &dyn Rows) -> Result<Unbound, AuthorityError> {
        Ok(match rows.key_mark()? {
            Some(KeyMarkRow { mark, unbound, seal }) if mark == self.vault.mark() => match unbound {
                Some(last) if seal.as_ref() == Some(&self.seal_of_mark(last)) => Unbound::Marked(last),
                _ => Unbound::Unknown,
            },
            Some(_) => Unbound::Before(rows.unbound_until()?),
            // The oldest homes have no mark, and nothing that came with it or after it.
            None if rows.has_chains()? || !rows.tokens()?.is_empty() || self.has_later_secrets(rows)? => Unbound::Unknown,
            None => Unbound::Before(rows.unbound_until()?),
        })
    }

    /// Whether secrets were sealed since homes are marked, which nobody without the key can make undone but by losing them.
    fn has_later_secrets(&self, rows: &dyn Rows) -> Result<bool, AuthorityError> {
        for project in rows.projects()? {
            let backends = rows.backends(&project)?;
            if backends.iter().any(|row| self.vault.is_of_marked_home(row.id.as_str(), &row.sealed)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn seal_of_mark(&self, unbound: u64) -> String {
        self.vault.attest(&serde_json::to_vec(&("unbound", unbound)).unwrap_or_default())
    }

    /// Whether the end of a history is as it was sealed, or from before that was done.
    pub(super) fn is_sealed(&self, rows: &dyn Rows, end: &ChainRow) -> Result<bool, AuthorityError> {
        Ok(self.sealed(end.clone()).seal == end.seal || end.seal.is_none() && matches!(self.unbound(rows)?, Unbound::Before(_)))
    }

    /// The end of a history under the key.
    pub(super) fn sealed(&self, chain: ChainRow) -> ChainRow {
        let ChainRow { project, length, head, .. } = &chain;
        let content = serde_json::to_vec(&("chain", project, length, head)).unwrap_or_default();
        ChainRow { seal: Some(self.vault.attest(&content)), ..chain }
    }
}
