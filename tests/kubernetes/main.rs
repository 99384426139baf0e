//! Backends in a real cluster, with `kubectl` as the second opinion.
//!
//! The cluster is the one that `tests/kubernetes/cluster up FOLDER` started, whose folder is in `CONVEXINFRA_TEST_KUBERNETES`:
//! never one that the user works with.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod changes;
mod commands;
mod crash;
mod data;
mod rig;
