//! The command as users run it, with the control plane embedded in each command.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod archive;
mod bad_environment;
mod bad_store;
mod checkouts;
mod client;
mod commands;
mod completion;
mod concurrency;
mod crash;
mod env_file;
mod env_file_repository;
mod every_command;
mod examples;
mod fork;
mod home;
mod last_snapshot;
mod manifest;
mod master_key;
mod network;
mod newcomer;
mod ownership;
mod provision;
mod recover;
mod refusal;
mod scenario;
mod schema;
mod scripted_server;
mod secrecy;
mod snapshot;
mod transcript;
mod trust;
mod upgrade;
mod variables;

use fixture::{PortBudget, ProjectFixture};

/// A project whose control plane is embedded in each command; the same scenarios run against a server in `tests/served`.
fn new_world(manifest: &str) -> ProjectFixture {
    ProjectFixture::new(manifest)
}

/// A project with ports for many backends.
fn large_world(manifest: &str) -> ProjectFixture {
    ProjectFixture::with(manifest, PortBudget::Large)
}
