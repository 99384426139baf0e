//! The main roads: what a user does from the first plan to the last destroy, on simulated backends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
