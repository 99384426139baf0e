//! Rows in any SQLite: the statements and the schema, over a port that runs one statement at a time.
//!
//! A file on this machine and the storage of a Durable Object both speak SQLite's SQL, so all statements are here once.
//! Must not do: begin or end a transaction, or know which engine runs the statements.

mod backends;
mod columns;
mod connection;
mod events;
mod operations;
mod rows;
mod schema;
mod sql_rows;
mod tokens;

pub use connection::{ColumnError, Columns, Connection, Parameter};
#[cfg(all(test, feature = "native"))]
pub(super) use schema::SCHEMA;
pub use schema::{MIGRATIONS, migrate};
pub use sql_rows::SqlRows;
