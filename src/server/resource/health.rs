//! Health: whether the process answers, whether it can work, and what its contract is. Nobody needs a token for these.
//!
//! Must not do: say anything about projects.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use serde::Serialize;

use super::{Handled, document};
use crate::control::wire::PREFIX;
use crate::server::problem::Problem;
use crate::server::route::{Access, Route, Verb};
use crate::server::{Phase, Server, openapi};

/// How a server is.
#[derive(Serialize, schemars::JsonSchema)]
struct Health {
    /// `ok`; everything else is an error document.
    status: &'static str,
    /// The version of the contract, as the paths begin.
    contract: &'static str,
    /// The version of the program.
    version: &'static str,
}

const OK: Health = Health { status: "ok", contract: PREFIX, version: env!("CARGO_PKG_VERSION") };

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Verb::Get, "/healthz", "getHealth", Access::Anybody, "Whether the process answers.")
            .answers::<Health>(200, "It does.")
            .by(get(healthy)),
        Route::new(Verb::Get, "/readyz", "getReadiness", Access::Anybody, "Whether it can work.")
            .answers::<Health>(200, "It can. While it shuts down, or when its store does not answer, it cannot: 503.")
            .by(get(ready)),
        Route::new(Verb::Get, "/openapi.json", "getContract", Access::Anybody, "This very document.")
            .answers::<serde_json::Map<String, serde_json::Value>>(200, "The OpenAPI document.")
            .by(get(contract)),
    ]
}

async fn healthy() -> Handled {
    document(&OK)
}

async fn ready(State(server): State<Arc<Server>>) -> Handled {
    if server.phase() != Phase::Serving {
        return Err(Problem::draining());
    }
    server.host.check()?;
    document(&OK)
}

async fn contract() -> Handled {
    document(&openapi())
}
