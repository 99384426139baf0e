//! Backends on real database servers and a real S3 server, started here on ports and in directories of their own and ended with the tests:
//! PostgreSQL as Debian packages it, MySQL as `tests/database/mysql-server` fetches it, and MariaDB, which is refused.
//!
//! With `CONVEXINFRA_REQUIRE_DATABASES=1` a server that is not installed is an error; otherwise one line says what was
//! not run.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../simulator/backend.rs"]
#[allow(dead_code, reason = "the simulator's own tests use all of it")]
mod backend;
mod buckets;
mod crash;
mod large_rows;
mod moves;
mod refusals;
mod retained;
mod rows;
mod s3;
mod simulator;
mod story;
