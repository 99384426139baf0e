//! Every integration test, in one binary.

mod concurrency;
mod crash;
mod env_file;
mod manifest;
mod provider;
mod scenario;
mod simulator;
mod surroundings;
mod world;
