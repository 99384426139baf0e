//! The same stories against a served control plane: every command over HTTP, with a server of each world's own.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod boundaries;
mod commands;
#[path = "../cli/concurrency.rs"]
mod concurrency;
mod concurrent_clients;
mod crash;
mod disk;
mod encrypted;
mod expiry;
mod listening;
mod master_key;
mod network;
#[path = "../cli/ownership.rs"]
mod ownership;
mod proxy;
#[path = "../cli/refusal.rs"]
mod refusal;
#[path = "../cli/scenario.rs"]
mod scenario;
mod tokens;
mod unreliable_network;

use fixture::{PortBudget, ProjectFixture};

/// A project whose control plane is a server.
fn new_world(manifest: &str) -> ProjectFixture {
    ProjectFixture::served(manifest, PortBudget::Small)
}

/// A project with ports for many backends.
fn large_world(manifest: &str) -> ProjectFixture {
    ProjectFixture::served(manifest, PortBudget::Large)
}
