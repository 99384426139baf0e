//! Declarative infrastructure as code for self-hosted Convex backends.

pub mod apply;
pub mod authority;
pub mod cli;
pub mod control;
pub mod convex;
pub mod env_file;
pub mod fault;
pub mod host;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod provider;
pub mod render;
pub mod schema;
pub mod simulator;
pub mod store;
