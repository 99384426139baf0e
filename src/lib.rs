//! Declarative infrastructure as code for self-hosted Convex backends.
//!
//! A manifest declares the backends that a repository needs, a plan says what would change and why, and an apply makes the
//! changes and writes URL and admin key into an env file. `ARCHITECTURE.md` has the life of an operation and a map of files.
//!
//! ```text
//! convex.toml ──manifest──▶ Desired ─┐
//!                                    ├─ plan::build ─▶ Plan ── render ─▶ text, JSON, Markdown, graph
//! control plane ──snapshot─▶ Actual ─┘      │
//!                                           └─ apply ─▶ operations ─▶ authority ─▶ provider ─▶ the world
//!                                                 │ events                └─▶ store (intent first, result after)
//!                                                 └─▶ env_file ─▶ .env.local
//! ```
//!
//! # Three ideas
//!
//! **A plan is data, and apply decides nothing.** [`plan::build`] is pure: the same manifest and the same snapshot give
//! the same plan, byte for byte. Each step has an address, an action, a reason, what changes (secrets as fingerprints)
//! and its predecessors. Planning changes nothing: no store, no provider, no disk.
//!
//! **The authority is sans-IO.** It reads and writes rows, is told the time, and returns the next effect; the executor in
//! [`host`] performs it and reports the outcome. So the same authority is embedded in the command, runs behind a server, or
//! runs where there are neither threads nor files.
//!
//! **A provider only observes, ensures or removes**, and repeating any of the three is harmless. The intent is in the store
//! before an effect begins and the outcome after it, so a crash anywhere is repaired by running the same command again:
//! observe, adopt what is ours, then act.
//!
//! # The modules
//!
//! | module | is | must not |
//! |---|---|---|
//! | [`model`] | the nouns: names, sizes, specifications, secrets, fingerprints | do IO, wait, or know a terminal |
//! | [`manifest`] | text → `Desired`, or every mistake in it at once | read files or resolve secrets |
//! | [`plan`] | `Desired` × `Actual` → `Plan`: differences, graph, policy, lints | do IO, ask the time, change its mind |
//! | [`policy`] | rules about data and specifications, for plans and for the authority | do IO, or know who asks |
//! | [`convex`] | what Convex itself demands: keys, releases, launch, the deployment's API | know plans or providers |
//! | [`env_file`] | `.env.local`: parse, merge, inspect, write | touch a byte that is not ours |
//! | [`api`] | the contract of a control plane: a trait, its types, the client | decide anything |
//! | [`authority`] | the allocation authority: accept, lease, operation, vault | carry out an effect, read a clock |
//! | [`store`] | rows, as a trait and in SQLite | know what a row means |
//! | [`provider`] | drivers for the places where backends run: one folder or file each | know plans, the store or a sibling |
//! | [`database`] | databases on servers: created, claimed, entered, dropped | decide who owns a database |
//! | [`s3`] | buckets of S3 services: looked at, tried, counted | touch an object of a backend |
//! | [`snapshot`] | complete copies of the data of a backend: written, read again, verified, unpacked | stop or start a backend |
//! | [`simulator`] | the simulated backend, which answers the admin endpoints | run functions |
//! | [`host`] | the executor of operations, with its providers, janitor and platform | decide what the authority decides |
//! | [`server`] | a host behind HTTP: routes, tokens, limits, logs | decide what the authority decides |
//! | [`apply`] | a pure scheduler, an executor, events | decide what the plan decides |
//! | `app` | use cases over a reporter and an approver | print, or parse arguments |
//! | `system` | bounded file reads, child processes without our secrets | know what it reads |
//! | [`render`] | nouns → text: plan, progress, status, errors | write anywhere |
//! | [`schema`] | the schemas of all documents, made from the types | describe by hand what a type says |
//! | [`cli`] | arguments, printer, progress, one file for each command | be imported by another module |
//! | [`failpoint`] | failpoints at which a test build can be killed | exist in a release build |
//!
//! Who may import whom is a table in `tests/architecture`, which reads every path to `crate::…` and fails with the line
//! of a forbidden one. It also holds what is pure, who prints, and how long a file may be.
//!
//! # Portability
//!
//! The feature `native`, on by default, holds everything that needs files, processes, sockets or a terminal. Without it the rest
//! compiles for `wasm32-unknown-unknown`: nouns, plans, the authority over [`store::sql`], the provider
//! [`provider::fly`], [`host`] over its [`host::Platform`], and the routes of [`server`]. `worker/` puts them on
//! Cloudflare Workers, where a Durable Object is the platform.
//!
//! # Following one apply
//!
//! [`cli`] finds the manifest and reads it through [`manifest::parse`]. The [`api::ControlPlane`] gives one snapshot
//! of the project, however many backends there are. [`plan::build`] compares; [`render`] shows; the user approves.
//! [`apply::execute`] takes the steps in the order of the graph, as many at once as allowed, and sends each as a
//! [`api::OperationRequest`] under a lease. [`host`] has the [`authority`] accept the request as an operation, carries out
//! effect after effect through a [`provider`], and reports every outcome before it asks for the next effect. Events
//! flow to the reporter: progress bars, lines or NDJSON. At the end the same plan is built once more, and it must be empty.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves"))]

pub mod api;
#[cfg(feature = "native")]
pub(crate) mod app;
#[cfg(feature = "native")]
pub mod apply;
pub mod authority;
#[cfg(feature = "native")]
pub mod cli;
pub mod convex;
#[cfg(feature = "native")]
pub mod database;
#[cfg(feature = "native")]
pub mod env_file;
pub mod failpoint;
pub mod host;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod policy;
pub mod provider;
#[cfg(feature = "native")]
pub mod render;
#[cfg(feature = "native")]
pub mod s3;
#[cfg(feature = "native")]
pub mod schema;
pub mod server;
#[cfg(feature = "native")]
pub mod simulator;
#[cfg(feature = "native")]
pub mod snapshot;
pub mod store;
#[cfg(feature = "native")]
pub mod system;
