//! Backends on a real Docker engine.

mod bench;
mod changes;
mod commands;
mod contract;
mod crash;
mod import;
mod registry;
pub mod rig;
