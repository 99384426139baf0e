//! The env file: `.env.local` and its like, where a Convex client finds its deployment.
//!
//! What stands in the file and is not ours stays byte for byte, or the file is not written at all; what has to make room for our
//! block is turned off and given back. URLs and keys are handed in by the caller.
//!
//! [`inspect`] looks while planning, [`diff::preview`] shows what would change, [`upsert_block`] and [`remove_block`] do it,
//! [`Inventory`] remembers it.

mod block;
mod bounded;
pub mod detect;
pub mod diff;
mod error;
pub mod format;
mod git;
mod ignore;
mod inspect;
mod inventory;
mod managed_block;
mod merge;
mod notes;
pub mod parse;
mod repository;
mod resolved_file;
mod staging;
mod workspace;
mod write;

pub use block::{ADMIN_KEY, Block, BlockOwner, ClientVariables, DEPLOY_KEYS, ExpectedBlock, ExpectedClient, URL};
pub use bounded::read_text;
pub use error::EnvFileError;
pub use git::{TrackedState, tracked};
pub use ignore::{IgnoreOutcome, IgnoreStatus, ensure_ignored, ignore_status};
pub use inspect::inspect;
pub use inventory::{Inventory, WrittenFile};
pub use managed_block::{UpsertOutcome, has_block, read, remove_block, upsert_block};
pub use merge::{EnvFileEdit, Merged, merge, without_block};
pub use repository::{Boundary, common_folder, main_folder};
pub use staging::{StagedFile, sweep};
pub use workspace::{Package, Workspace, inspect_workspace};
