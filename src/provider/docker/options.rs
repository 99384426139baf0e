//! What is different in a test, or on an operator's machine.

use std::ffi::OsString;
use std::time::Duration;

use super::{AllowList, Docker};

impl Docker {
    /// Gives containers another time to end by themselves than ten seconds.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Gives a replacement another time to answer than five minutes.
    #[must_use]
    pub fn with_ready_within(self, ready_within: Duration) -> Self {
        Self { ready_within, ..self }
    }

    /// Watches a first container for an early end longer or shorter than a second and a half, unless it answers before.
    #[must_use]
    pub fn with_watched_for(self, watched_for: Duration) -> Self {
        Self { watched_for, ..self }
    }

    /// Asks another server than the official one for the commit of a `precompiled-…` tag.
    #[must_use]
    pub fn with_commits(self, commits: String) -> Self {
        Self { commits, ..self }
    }

    /// Allows only what is listed.
    #[must_use]
    pub fn with_allow_list(self, allowed: AllowList) -> Self {
        Self { allowed, ..self }
    }

    /// Starts another program than the `ssh` on the `PATH`.
    #[must_use]
    pub fn with_ssh(mut self, program: OsString) -> Self {
        self.servers.program = program;
        self
    }
}
