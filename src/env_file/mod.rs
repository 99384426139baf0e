//! The env file: `.env.local` and its like, where a Convex client finds its deployment.
//!
//! Must not do: read the environment or decide what a backend's URL and key are; the caller hands both in. What
//! stands in the file and is not ours stays byte for byte, or the file is not written at all.
//!
//! [`inspect`] looks while planning, [`diff::preview`] shows what would change, [`put`] and [`take_out`] do it.

mod block;
pub mod detect;
pub mod diff;
mod error;
pub mod format;
mod git;
mod inspect;
mod keep;
mod merge;
pub mod parse;
mod target;
mod write;

pub use block::{ADMIN_KEY, Block, ClientVariables, DEPLOY_KEYS, Expected, Owner, URL};
pub use error::EnvFileError;
pub use git::{Ignored, Tracked, ensure_ignored, tracked};
pub use inspect::inspect;
pub use keep::{Written, put, read, take_out};
pub use merge::{Change, Merged, merge, remove};
pub use write::write;
