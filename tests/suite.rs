//! Every integration test, in one binary.

mod client;
mod commands;
mod concurrency;
mod crash;
mod desk;
mod env_file;
mod examples;
mod house;
mod listening;
mod manifest;
mod provider;
mod scenario;
mod schema;
mod served;
mod simulator;
mod surroundings;
mod transcript;
mod world;
