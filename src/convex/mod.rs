//! What Convex itself demands: its keys, its releases, its command line, its HTTP API and its limits.
//!
//! Must not do: decide what a backend should be, start processes, or know any provider. Everything but
//! [`deployment`] is pure.

pub mod admin_key;
#[cfg(feature = "native")]
pub mod archive;
pub(crate) mod buckets;
pub mod client_range;
pub mod database_url;
pub mod deployment;
mod deployment_error;
pub mod environment;
pub mod export;
pub mod image;
mod key_payload;
pub mod launch;
pub mod persistence;
pub mod readiness;
pub mod release;
#[cfg(feature = "native")]
mod reqwest_transport;
mod transport;
pub mod tuning;

pub use database_url::{DatabaseUrlError, server_url};
