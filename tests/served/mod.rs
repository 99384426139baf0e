//! The same stories against a served control plane: every command over HTTP, with a server of each world's own.

mod between;
mod commands;
#[path = "../concurrency.rs"]
mod concurrency;
mod crash;
mod crowd;
mod encrypted;
mod expiry;
mod network;
#[path = "../scenario.rs"]
mod scenario;
pub mod server;
mod tokens;

use crate::world::{PortBudget, ProjectFixture};

/// A world whose control plane is a server.
fn new_world(manifest: &str) -> ProjectFixture {
    ProjectFixture::served(manifest, PortBudget::Small)
}

/// The same with ports enough for a crowd.
fn crowded_world(manifest: &str) -> ProjectFixture {
    ProjectFixture::served(manifest, PortBudget::Large)
}
