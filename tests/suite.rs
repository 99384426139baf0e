//! Every integration test, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::duplicate_mod, reason = "the same stories are told of an embedded control plane and of a served one")]

mod attacker;
mod bad_environment;
mod certificates;
mod cli_fixture;
mod client;
mod commands;
mod concurrency;
mod conformance;
mod crash;
mod database;
mod docker;
mod env_file;
mod examples;
mod fly;
mod fly_driver;
mod listening;
mod manifest;
mod provider;
mod scenario;
mod schema;
mod served;
mod simulator;
mod transcript;
mod trust;
mod world;

/// A world whose control plane is embedded in each command; the same stories run against a server in `served`.
fn new_world(manifest: &str) -> world::ProjectFixture {
    world::ProjectFixture::new(manifest)
}

/// The same with ports enough for a crowd.
fn crowded_world(manifest: &str) -> world::ProjectFixture {
    world::ProjectFixture::with(manifest, world::PortBudget::Large)
}
