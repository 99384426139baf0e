//! The control plane on Cloudflare Workers: the same authority, host and routes as `convexinfra serve`, over Durable
//! Objects.
//!
//! ```text
//! client ──▶ entry ──▶ Catalog: tokens, the ceilings of everybody, which projects there are
//!              └─────▶ Project, one for each: its rows, its lease, its operations, its history
//! ```
//!
//! A Durable Object is the only writer of its SQLite, so every project has one authority by construction. What a
//! request begins goes on by the object's alarm, with or without a listener.

mod catalog;
mod directory;
mod entry;
mod fetch;
mod log;
mod object;
mod platform;
mod project;
mod record_only;
mod reply;
mod sql;

pub use catalog::Catalog;
pub use project::Project;
