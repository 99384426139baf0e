//! Every integration test, in one binary.

mod env_file;
mod manifest;
mod provider;
mod simulator;
