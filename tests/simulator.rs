//! The simulated backend, held against what the real one was recorded to do.

pub(crate) mod backend;
mod client;
mod http;
mod process;
mod recorded;
mod session;
