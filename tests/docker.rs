//! Backends on a real Docker engine.

mod commands;
pub mod rig;
