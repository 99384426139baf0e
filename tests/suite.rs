//! Every integration test, in one binary.

mod desk;
mod env_file;
mod examples;
mod house;
mod manifest;
mod provider;
mod schema;
mod simulator;
mod transcript;
