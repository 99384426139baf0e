//! The env file: `.env.local` and its like, where a Convex client finds its deployment.
//!
//! Must not do: read the environment or decide what a backend's URL and key are; the caller hands both in. What
//! stands in the file and is not ours stays byte for byte, or the file is not written at all.

mod block;
mod error;
mod merge;
pub mod parse;

pub use block::{ADMIN_KEY, Block, ClientVariables, DEPLOY_KEYS, Expected, Owner, URL};
pub use error::EnvFileError;
pub use merge::{Change, Merged, merge, remove};
