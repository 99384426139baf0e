//! Backends in a real cluster, with `kubectl` as the second opinion.
//!
//! The cluster is the one that `tests/kubernetes/cluster up FOLDER` started, never one that the user works with. It has a network
//! of its own, so these tests run with `tests/kubernetes/cluster exec FOLDER cargo test --test kubernetes`, which names the
//! folder in `CONVEXINFRA_TEST_KUBERNETES`.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod changes;
mod commands;
mod control_plane;
mod crash;
mod data;
mod exposure;
mod foresight;
mod hostile;
mod import;
mod rig;
mod rights;
