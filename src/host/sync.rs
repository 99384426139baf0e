//! What the parts of one control plane tell each other, where every project has a host of its own.

use std::time::Duration;

use super::Host;
use crate::api::ControlError;
use crate::authority::{ProjectSync, TokenLookup};
use crate::model::{ProjectName, Quota, Secret, Timestamp, TokenId};

/// How long after a sweep that could not do everything the next one is due, where every sweep costs something.
const PAUSE_AFTER_ERRORS: Duration = Duration::from_secs(30);

impl Host {
    /// Returns what a project has to know of a token that was shown.
    pub fn lookup_token(&self, shown: &Secret) -> Result<TokenLookup, ControlError> {
        let unknown = || TokenLookup { token: None, quota: Quota::default() };
        Ok(self.read_rows(|authority| authority.lookup_token(shown))?.unwrap_or_else(unknown))
    }

    /// Takes over what the directory says.
    pub fn apply_lookup(&self, introduction: &TokenLookup) -> Result<(), ControlError> {
        self.write_rows(|authority| authority.apply_lookup(introduction))
    }

    /// Returns what the directory has to know of a project; none while there is no such project.
    pub fn project_sync(&self, project: &ProjectName) -> Result<Option<ProjectSync>, ControlError> {
        Ok(self.read_rows(|authority| authority.project_sync(project))?.flatten())
    }

    /// Returns whether nothing is kept here of any project.
    pub fn is_blank(&self) -> Result<bool, ControlError> {
        Ok(self.read_rows(|authority| authority.is_blank())?.unwrap_or(true))
    }

    /// Takes note of a project and its tokens.
    pub fn apply_project_sync(&self, registration: &ProjectSync) -> Result<(), ControlError> {
        self.write_rows(|authority| authority.apply_project_sync(registration, self.now()))
    }

    /// Returns the project that a token opens; none for an operator's, or an unknown one.
    pub fn project_of_token(&self, token: &TokenId) -> Result<Option<ProjectName>, ControlError> {
        Ok(self.read_rows(|authority| authority.project_of_token(token))?.flatten())
    }

    /// Returns when [`Host::sweep`] has something to do again: at once while an operation has not ended, else when a
    /// backend's time is over or its removal is to be tried again; not at once when the last sweep could not do everything.
    /// None when there is nothing to wait for.
    pub fn next_sweep(&self) -> Result<Option<Timestamp>, ControlError> {
        let pause = if self.has_sweep_errors() { PAUSE_AFTER_ERRORS } else { super::SWEEP_INTERVAL };
        let soon = self.now().plus_milliseconds(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        let open = self.read_rows(|authority| authority.has_open_operations())?.unwrap_or_default();
        if open {
            return Ok(Some(soon));
        }
        let expiry = self.read_rows(|authority| authority.next_expiry())?.flatten();
        Ok(expiry.map(|time| time.max(soon)))
    }
}
