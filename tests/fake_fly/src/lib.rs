//! A stand-in for Fly.io: the Machines API as the facts about it say it behaves, and the way to the apps behind it.
//!
//! # How a test uses it
//!
//! ```text
//! let fly = FakeFly::start(Settings::default().with_processes().hurried(20));
//! fly.url()            // http://127.0.0.1:PORT/v1, with the token `settings::TOKEN` of the organization `acme`
//! fly.environment()    // the variables with which a command takes it for Fly.io
//! fly.order(Fault::answer_lost("POST", "/v1/apps/*/machines"));
//! fly.world().full_regions.insert("iad".into(), Shortage::NoCandidateHost);
//! ```
//!
//! It runs on a thread of its own until it is dropped, in any kind of test. Dropping it kills what runs in its machines
//! and fails the test if a request or an answer was against the API's document (`contract`, `holes`). For other
//! processes there is `self_tests/standalone.rs`, the same with a wire for faults and for the world (`control`).
//!
//! # How an app is reached
//!
//! An app's URL is `https://APP.fly.dev` here too, and a driver needs no setting for it. Three ways lead there:
//!
//! - A command gets `HTTPS_PROXY` and `SSL_CERT_FILE` from [`FakeFly::environment`]: the proxy leads every name below
//!   `fly.dev`, every hostname whose certificate is ready, `api.machines.dev`, `ghcr.io` and `api.github.com` to where
//!   they belong, with TLS.
//! - A test that cannot change its own environment uses [`FakeFly::client`], which has both built in.
//! - What can take neither (a driver with a template for URLs, workerd with an outbound service) uses
//!   [`FakeFly::app_url`], a plain loopback URL that leads to one app, or sends plain requests to the proxy's port with
//!   `Host: APP.fly.dev`.
//!
//! The registry and GitHub's commits (`registry`) are also answered on the API's own port: `/v2/…`, `/token`,
//! `…/commits/DIGITS`.
//!
//! An app without a public address has no name; one without a running machine whose checks pass answers 503.
//!
//! # What it is not
//!
//! - Machines are records, or (`Machinery::Processes`) the simulated backend over the volume's directory, or a bare
//!   page for an image with `dashboard` in its name. No image is pulled; one with `unpullable` in its name is refused.
//!   The simulator keeps SQLite, also where the environment names a database server.
//! - The API's clock is the machine's plus `World::ahead`. Rates and the `timeout` of `wait` go by `Settings::hurry`
//!   times as fast; leases and the 24 hours of deleted volumes do not, and are passed by putting the clock forward.
//! - Not modelled, and answered with 501: suspend, exec, signal, ps, memory, secret keys, custom certificates, KMS and OIDC
//!   tokens, GraphQL. A region has two hosts, `iad-1` and `iad-2`, which are full when a test says so.
//! - Invented where the facts are silent: the bodies of 429, of a stale `current_version` or `min_secrets_version`, of
//!   a stop without a body, of an app that is deleted without `force` while machines run, and of a wrong volume in an
//!   update; the 400 for an image that cannot be pulled and for an unknown region; 403 for what a token does not
//!   reach; 400 `could not find app` when a volume is deleted that
//!   its app left behind (`World::remains`). A nonce that is sent though nobody holds a
//!   lease is let pass. What is known to be unknown is a setting: `duplicate_address`, `retry_after`, `names_are_reused`.
//! - Lists lag by count, not by time: the first `Settings::list_lag` lists do not show what was just made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fake that fails fails its test")]
#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(missing_docs, unreachable_pub, reason = "a fixture is read beside its tests")]

mod addresses;
mod apps;
mod certificates;
mod checks;
mod config;
pub mod contract;
pub mod contract_gaps;
mod control;
pub mod faults;
mod leases;
pub mod life;
mod limits;
pub mod machines;
mod metadata;
mod nodes;
mod platform;
mod processes;
mod proxy;
mod registry;
pub mod reply;
mod request;
mod routes;
mod secrets;
mod server;
pub mod settings;
pub mod tokens;
pub mod volumes;
mod wait;
pub mod world;

pub use faults::Fault;
pub use reply::{Reply, Shortage};
pub use server::FakeFly;
pub use settings::Settings;

/// Brings everything to where it is now.
fn settle(world: &mut world::World) {
    life::settle(world);
    volumes::settle(world);
    apps::settle(world);
}
