//! The allocation authority: it alone decides who may change a project, which name, ports and secrets a backend
//! gets, and what has to happen next to an accepted operation.
//!
//! Must not do: IO beyond its rows, async, clocks, randomness. The time and the entropy are handed in, effects are handed
//! out as data, and the executor reports their results. So the same authority runs in the command, behind HTTP and in a
//! Durable Object.

mod accept;
mod adopt;
mod allocation;
mod audit;
mod database;
mod dependency;
mod effect;
mod expiry;
mod key_check;
mod key_rotation;
mod lease;
mod operation;
mod origins;
mod policy_check;
mod preview;
mod put_request;
mod quota;
mod removal;
mod resolve;
mod resume;
mod retained;
mod retired_keys;
mod sync;
mod token;
mod vault;
mod view;

pub use adopt::{Adoption, AdoptionProof};
pub use effect::{
    AllocationConflict, DataMove, DatabaseState, Effect, EffectFailure, EffectResult, EnvironmentTarget, MoveStep,
    SnapshotPurpose, SnapshotRequest, Transition,
};
pub use expiry::{EXPIRY_PLAN, KEEP_RUNNING_PLAN};
pub use lease::Liveness;
pub use operation::{ExecutionMode, Operation};
use operation::{StepTable, steps_of};
pub use preview::{preview_id, preview_without_store};
pub use removal::{awaits_snapshot, volume_disposal};
pub use resume::{Resumed, Resumption};
pub use sync::{ProjectSync, TokenLookup, TokenReplica};
pub use token::{AuthenticatedToken, Principal, require_token_shape, unknown_token};
pub use vault::{MasterKey, Vault, VaultError};
pub use view::{ProjectView, RecordedPlace, Totals};

use std::sync::atomic::AtomicBool;

use crate::api::ControlError;
use crate::convex::admin_key::KeyError;
use crate::model::{Diagnostic, error_chain};
use crate::store::{Store, StoreError};

/// Fills bytes with randomness; the authority has none of its own.
pub type Entropy = fn(&mut [u8]) -> Result<(), EntropyError>;

/// There is no randomness to be had.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers, so no secret can be made")]
pub struct EntropyError;

/// The allocation authority over one store.
pub struct Authority<S> {
    store: S,
    vault: Vault,
    entropy: Entropy,
    first_port: u16,
    /// The table of steps; tests bring their own.
    steps: StepTable,
    /// Whether rows of before are believed that are bound to less than today's: until all were bound anew.
    accepts_legacy: AtomicBool,
    /// Whether tokens are believed that were written before tokens were bound. A home without a mark had none then.
    accepts_unbound_tokens: AtomicBool,
}

impl<S: Store> Authority<S> {
    /// Returns an authority over these rows.
    pub fn new(store: S, vault: Vault, entropy: Entropy) -> Self {
        Self {
            store,
            vault,
            entropy,
            first_port: allocation::FIRST_PORT,
            steps: steps_of,
            accepts_legacy: AtomicBool::new(true),
            accepts_unbound_tokens: AtomicBool::new(true),
        }
    }

    /// Returns the same, handing out ports from this one on: two authorities on one machine do not know of each other.
    #[must_use]
    pub fn with_first_port(self, first_port: u16) -> Self {
        Self { first_port, ..self }
    }

    /// Returns the vault that seals this store's secrets.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }
}

/// Says why the authority did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// An admin key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The answer is no, for a reason that clients know.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<AuthorityError> for ControlError {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Control(error) => error,
            AuthorityError::Store(error) => Self::Record(store_diagnostic(&error)),
            AuthorityError::Vault(error @ VaultError::Damaged(_)) => Self::Record(
                Diagnostic::new("store.sealed", error.to_string())
                    .with_help("put the store back from a backup, or destroy and create that backend again"),
            ),
            AuthorityError::Vault(error) => Self::Record(
                Diagnostic::new("store.sealed", error.to_string())
                    .with_help("use the key that this store was made with: `CONVEXINFRA_MASTER_KEY`, or the file `master.key` beside the store"),
            ),
            AuthorityError::Key(error) => {
                Self::Record(Diagnostic::new("bug", format!("{error}; this is a bug in convexinfra")))
            }
            AuthorityError::Entropy(error) => Self::Record(Diagnostic::new("store.entropy", error.to_string())),
        }
    }
}

/// Returns what a store's error means to a user.
pub fn store_diagnostic(error: &StoreError) -> Diagnostic {
    let message = error_chain(error);
    let (code, help) = match error {
        StoreError::Newer { .. } => ("store.newer", "update convexinfra; the store was left as it is"),
        StoreError::Damaged { .. } => (
            "store.damaged",
            "the file was left as it is; restore it from a backup, or move it away together with its `-wal` file: the backends' data \
             stays where it is, but their secrets and ports are only in the store",
        ),
        StoreError::Full { .. } => ("store.full", "make room and run the same command again; nothing was changed"),
        StoreError::Denied { .. } => {
            ("store.denied", "check who owns the directory, or choose another one with `CONVEXINFRA_HOME`")
        }
        StoreError::Busy { .. } => ("store.busy", "wait for the other process, or look for one that hangs"),
        StoreError::Row { .. } => (
            "store.row",
            "the store was changed by something else, or this is a bug in convexinfra: put it back from a backup, or repair that row",
        ),
        StoreError::Sql { .. } => ("store.sql", "if the disk is sound, this is a bug in convexinfra"),
        StoreError::NotRun | StoreError::Unwritable(_) => ("bug", "this is a bug in convexinfra"),
    };
    Diagnostic::new(code, message).with_help(help)
}

#[cfg(test)]
mod acceptance_tests;
#[cfg(test)]
mod allocation_tests;
#[cfg(test)]
mod app_tests;
#[cfg(test)]
mod compensation_tests;
#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod database_tests;
#[cfg(test)]
mod expiry_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod key_check_tests;
#[cfg(test)]
mod key_rotation_tests;
#[cfg(test)]
mod move_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod right_tests;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
