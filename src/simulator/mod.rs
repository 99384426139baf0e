//! A stand-in for `convex-local-backend`: the same command line, the same administrative endpoints, no functions.
//!
//! It exists so that everything around a backend (planning, starting, waiting, keys, variables, exports, crashes)
//! can be tried on any machine in milliseconds. It answers as the real backend was recorded to answer.
//!
//! Its limits:
//! - It runs no functions: every call of one, and every push, gets an error that says so.
//! - On a PostgreSQL or MySQL server it has tables of its own (`simulated_rows`, `leases`), holds all rows in memory as
//!   well, and has one connection instead of a pool. `mysql-v5-multitenant` is refused.
//! - A database of the real backend on SQLite is shown and never written: changes are in memory and end with the process.
//! - With `--s3-storage` it wants the variables that S3 needs, and keeps the bytes in its own database all the same.
//! - Files (`_storage`), components, indexes and schemas of a snapshot are passed over by an import.
//! - Documents are kept as plain JSON; `$integer` and `$bytes` are carried along but not understood.
//! - The metrics are one line, the OpenAPI documents are stubs, and no beacon is ever sent.
//! - A failed start says why in other words than the real one; exit codes and error codes are the same.

mod auth;
mod cli;
mod convex_data;
mod data;
mod documents;
mod encoding;
mod environment;
mod export;
mod functions;
mod identifier;
mod import;
mod import_format;
mod info;
mod log;
mod queries;
mod response;
mod router;
mod row_store;
mod start;
mod state;
mod state_gate;
mod sync;
mod write_through;

use std::ffi::OsString;

/// Runs the stand-in with a command line whose first word is the program's name, until it is told to stop.
/// Returns the exit code: 2 for wrong usage, 1 for a start that failed, 0 for an orderly end.
pub fn main_with(words: impl IntoIterator<Item = OsString>) -> u8 {
    start::main_with(words)
}
