//! Backends on a real Docker engine.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod address;
mod allowed;
mod bench;
mod changes;
mod commands;
mod compose;
mod contract;
mod crash;
mod database;
mod engines;
mod findings;
mod import;
mod moves;
mod podman;
#[path = "../provider/world.rs"]
#[allow(dead_code, reason = "the tests of process providers use all of it")]
mod provider_world;
mod registry;
mod restart;
mod restore;
mod rig;
mod snapshot;
mod stack_list;
mod stacks;
