//! Backends on real database servers: PostgreSQL and MariaDB as Debian packages them, started here on ports and in
//! directories of their own, and ended with the tests.
//!
//! With `CONVEXINFRA_REQUIRE_DATABASES=1` a server that is not installed is an error; otherwise one line says what was
//! not run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod refusals;
pub(crate) mod server;
mod simulator;
mod story;
