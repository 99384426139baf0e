//! The simulated backend, held against what the real one was recorded to do.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
// Clippy knows test functions, but not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod backend;
mod client;
mod hostile;
mod http;
mod launched;
mod process;
pub(crate) mod recorded;
mod session;
