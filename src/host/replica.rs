//! What the parts of one control plane tell each other, where every project has a host of its own.
//!
//! Must not do: decide what is told; the authority does.

use std::time::Duration;

use super::Host;
use crate::authority::{Introduction, Registration};
use crate::control::ControlError;
use crate::model::{ProjectName, Quota, Secret, Timestamp, TokenId};

/// How long after a sweep that could not do everything the next one is due, where every sweep costs something.
const AFTER_TROUBLE: Duration = Duration::from_secs(30);

impl Host {
    /// What a project has to know of a token that was shown.
    pub fn introduce(&self, shown: &Secret) -> Result<Introduction, ControlError> {
        let nobody = || Introduction { token: None, quota: Quota::default() };
        Ok(self.ask(|authority| authority.introduce(shown))?.unwrap_or_else(nobody))
    }

    /// Takes over what the directory says.
    pub fn learn(&self, introduction: &Introduction) -> Result<(), ControlError> {
        self.tell(|authority| authority.learn(introduction))
    }

    /// What the directory has to know of a project; none while there is no such project.
    pub fn registration(&self, project: &ProjectName) -> Result<Option<Registration>, ControlError> {
        Ok(self.ask(|authority| authority.registration(project))?.flatten())
    }

    /// Takes note of a project and its tokens.
    pub fn register(&self, registration: &Registration) -> Result<(), ControlError> {
        self.tell(|authority| authority.register(registration, self.now()))
    }

    /// The project that a token opens; none for an operator's, or one that nobody knows.
    pub fn project_of(&self, token: &TokenId) -> Result<Option<ProjectName>, ControlError> {
        Ok(self.ask(|authority| authority.project_of(token))?.flatten())
    }

    /// When [`Host::sweep`] has something to do again: at once while an operation has not ended, else when a backend's
    /// time is over or its removal is to be tried again; not at once when the last sweep could not do everything. None
    /// when there is nothing to wait for.
    pub fn next_sweep(&self) -> Result<Option<Timestamp>, ControlError> {
        let pause = if self.has_troubles() { AFTER_TROUBLE } else { super::SWEEP_EVERY };
        let soon = self.now().plus_milliseconds(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        let open = self.ask(|authority| authority.has_open_operations())?.unwrap_or_default();
        if open {
            return Ok(Some(soon));
        }
        let expiry = self.ask(|authority| authority.next_expiry())?.flatten();
        Ok(expiry.map(|time| time.max(soon)))
    }
}
