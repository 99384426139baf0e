//! Rows in any SQLite: the statements and the schema, over a port that runs one statement at a time.
//!
//! A file on this machine and the storage of a Durable Object both speak SQLite's SQL, so everything that is said in it
//! stands here once. Must not do: begin or end a transaction, or know who runs the statements.

mod backends;
mod columns;
mod connection;
mod events;
mod operations;
mod rows;
mod schema;
mod tokens;

pub use connection::{ColumnError, Columns, Connection, Parameter};
pub use rows::SqlRows;
pub use schema::{MIGRATIONS, migrate};
