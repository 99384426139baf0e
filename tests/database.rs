//! Backends on real database servers, started here on ports and in directories of their own and ended with the tests:
//! PostgreSQL as Debian packages it, MySQL as `tests/database/mysql-server` fetches it, and MariaDB, which is refused.
//!
//! With `CONVEXINFRA_REQUIRE_DATABASES=1` a server that is not installed is an error; otherwise one line says what was
//! not run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod refusals;
mod retained;
pub(crate) mod server;
mod simulator;
mod story;
