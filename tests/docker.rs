//! Backends on a real Docker engine.

mod bench;
mod changes;
mod commands;
mod contract;
pub mod rig;
