//! The exit codes that users and CI rely on.

use serde::{Deserialize, Serialize};

/// Why the process ended, as its exit code. The numbers are a promise: they never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(into = "u8", try_from = "u8")]
#[schemars(with = "u8")]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Something could not be done; the report says what was and what was not.
    Failed = 1,
    /// Changes are pending (`plan --detailed-exitcode` only).
    ChangesPending = 2,
    /// Drift was found.
    Drift = 3,
    /// Refused: destruction not allowed, protected, stale plan, over budget, downgrade.
    Refused = 4,
    /// Another apply holds the lease.
    LeaseHeld = 5,
    /// Wrong usage.
    Usage = 64,
    /// The manifest has problems.
    Manifest = 65,
    /// Control plane or provider unreachable.
    Unreachable = 69,
    /// A bug in convexinfra.
    Bug = 70,
    /// Not authorised.
    NotAuthorised = 77,
    /// Waited too long.
    TimedOut = 124,
    /// Interrupted; what is done is done, and running again resumes.
    Interrupted = 130,
}

impl Exit {
    /// Every exit code.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Failed,
        Self::ChangesPending,
        Self::Drift,
        Self::Refused,
        Self::LeaseHeld,
        Self::Usage,
        Self::Manifest,
        Self::Unreachable,
        Self::Bug,
        Self::NotAuthorised,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// Returns the meaning, as help and documentation show it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Failed => "something could not be done; the report says what was and what was not",
            Self::ChangesPending => "changes are pending (`plan --detailed-exitcode` only)",
            Self::Drift => "drift found (`drift`; `plan --detailed-exitcode` when nothing but drift is pending)",
            Self::Refused => "refused: destruction not allowed, protected, stale plan, over budget, downgrade",
            Self::LeaseHeld => "another apply holds the lease",
            Self::Usage => "wrong usage",
            Self::Manifest => "the manifest has problems",
            Self::Unreachable => "control plane or provider unreachable",
            Self::Bug => "a bug in convexinfra",
            Self::NotAuthorised => "not authorised",
            Self::TimedOut => "waited too long",
            Self::Interrupted => "interrupted; what is done is done, and running again resumes",
        }
    }

    /// Returns the number that the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> u8 {
        exit.code()
    }
}

impl TryFrom<u8> for Exit {
    type Error = String;
    fn try_from(code: u8) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|exit| exit.code() == code)
            .ok_or_else(|| format!("{code} is not an exit code of convexinfra"))
    }
}
