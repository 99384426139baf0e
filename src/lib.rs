//! Declarative infrastructure as code for self-hosted Convex backends.
//!
//! A manifest says which backends a repository needs, a plan says what would have to change and why, and an apply makes
//! it so and writes the coordinates into an env file. This page is the architecture, for whoever works on it.
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
//! and the steps that it waits for. Planning changes nothing: no store, no provider, no disk.
//!
//! **The authority does no IO of its own.** It reads and writes rows, is told the time, and hands out what has to
//! happen next; the shell around it ([`host`]) does that and comes back with what came of it. The same authority can so
//! be embedded in the command, stand behind a server, or run where there are neither threads nor files.
//!
//! **A provider only ever observes, ensures or removes**, and repeating any of the three is harmless. The intent is in
//! the store before an effect begins and the outcome after it, so a crash anywhere is healed by running the same
//! command again: look first, adopt what is ours, then act.
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
//! | [`api`] | the port to a control plane: one trait and its types | decide anything |
//! | [`authority`] | the allocation authority: accept, lease, operation, vault | carry out an effect, read a clock |
//! | [`store`] | rows, as a trait and in SQLite | know what a row means |
//! | [`provider`] | places to run backends: one folder or file each | know plans, the store or a sibling |
//! | [`database`] | databases on servers: made, claimed, entered, given back | decide whose a database is to be |
//! | [`simulator`] | a stand-in backend that answers the admin endpoints | run functions |
//! | [`host`] | an authority at home in this process, with its providers | decide what the authority decides |
//! | [`server`] | a host behind HTTP: routes, tokens, limits, logs | decide what the authority decides |
//! | [`apply`] | a pure scheduler, an executor, events | decide what the plan decides |
//! | `app` | use cases over a reporter and an approver | print, or parse arguments |
//! | `system` | files within bounds, children without our secrets | know what it reads |
//! | [`render`] | nouns → text: plan, progress, status, errors | write anywhere |
//! | [`schema`] | the schemas of all documents, made from the types | describe by hand what a type says |
//! | [`cli`] | arguments, printer, bars, one file for each command | be used by anybody |
//! | [`failpoint`] | named points where a test build can be killed | exist in a release build |
//!
//! Who may use whom is a table in `tests/house.rs`, which reads every path to `crate::…` and fails with the line of a
//! forbidden one. The same file holds the other rules of the house: what is pure stays pure, one module prints, files
//! stay short, and every module says what it must not do.
//!
//! # Without a system below
//!
//! The feature `native`, on by default, holds whatever needs files, processes, sockets or a terminal. Without it the rest
//! compiles for `wasm32-unknown-unknown`: nouns, plans, the authority over [`store::sql`], the provider
//! [`provider::fly`], [`host`] over its [`host::Platform`], and the routes of [`server`]. `worker/` puts them on
//! Cloudflare Workers, where a Durable Object is the platform.
//!
//! # Following one apply
//!
//! [`cli`] finds the manifest and reads it through [`manifest::parse`]. The [`api::ControlPlane`] gives one snapshot
//! of the project, however many backends there are. [`plan::build`] compares; [`render`] shows; somebody says yes.
//! [`apply::execute`] takes the steps in the order of the graph, as many at once as allowed, and sends each as a
//! [`api::Request`] under a lease. [`host`] has the [`authority`] accept the request as an operation, carries out
//! effect after effect through a [`provider`], and reports every outcome before it asks for the next effect. Events
//! flow to whoever listens: bars, lines or NDJSON. At the end the same plan is made once more, and it must be empty.
//!
//! Must not do: anything itself. It names the modules.

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
pub mod schema;
pub mod server;
#[cfg(feature = "native")]
pub mod simulator;
pub mod store;
#[cfg(feature = "native")]
pub mod system;
