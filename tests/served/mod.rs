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

use crate::world::{Room, World};

/// A world whose control plane is a server.
fn new_world(manifest: &str) -> World {
    World::served(manifest, Room::Story)
}

/// The same with ports enough for a crowd.
fn crowded_world(manifest: &str) -> World {
    World::served(manifest, Room::Crowd)
}
