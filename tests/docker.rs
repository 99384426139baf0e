//! Backends on a real Docker engine.

mod address;
mod bench;
mod changes;
mod commands;
mod compose;
mod contract;
mod crash;
mod database;
mod findings;
mod import;
mod registry;
mod restart;
pub mod rig;
