//! Every integration test, in one binary.

mod commands;
mod concurrency;
mod crash;
mod desk;
mod env_file;
mod examples;
mod fly;
mod fly_driver;
mod house;
mod manifest;
mod provider;
mod scenario;
mod schema;
mod simulator;
mod surroundings;
mod transcript;
mod world;
