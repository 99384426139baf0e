//! The env file: `.env.local` and its like, where a Convex client finds its deployment.
//!
//! Must not do: read the environment or decide what a backend's URL and key are; the caller hands both in. What
//! stands in the file and is not ours stays byte for byte, or the file is not written at all.
//!
//! [`inspect`] looks while planning, [`diff::preview`] shows what would change, [`upsert_block`] and [`remove_block`] do it.

mod block;
pub mod detect;
pub mod diff;
mod error;
pub mod format;
mod git;
mod inspect;
mod managed_block;
mod merge;
pub mod parse;
mod resolved_file;
mod write;

pub use block::{ADMIN_KEY, Block, BlockOwner, ClientVariables, DEPLOY_KEYS, ExpectedBlock, URL};
pub use error::EnvFileError;
pub use git::{IgnoreOutcome, TrackedState, ensure_ignored, tracked};
pub use inspect::inspect;
pub use managed_block::{UpsertOutcome, read, remove_block, upsert_block};
pub use merge::{EnvFileEdit, Merged, merge, without_block};
pub use write::write;
