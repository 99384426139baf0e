//! Projects: which there are, and one of them as it is now.
//!
//! Must not do: change anything.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;

use super::{Handled, document};
use crate::control::wire::{FingerprintKeyDocument, OriginRequest, SecretText};
use crate::control::{ControlPlane, KeyNeed, LONGEST_ORIGIN};
use crate::model::{ProjectName, Scope, Snapshot};
use crate::server::Server;
use crate::server::guard::Caller;
use crate::server::input::{Asked, Fence, InProject, Nothing, Read};
use crate::server::problem::Problem;
use crate::server::route::{Access, Route, Verb};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Project(Scope::Read);
    let apply = Access::Project(Scope::Apply);
    vec![
        Route::new(Verb::Get, "/v1/projects", "listProjects", Access::Token, "The projects that the token opens.")
            .answers::<Vec<ProjectName>>(200, "Their names: all of them for an operator, else the token's own.")
            .by(get(list)),
        Route::new(Verb::Get, "/v1/projects/{project}", "getProject", read, "One project as it is now: all that a plan needs.")
            .answers::<Snapshot>(200, "The project. One that is not known yet has no backends.")
            .by(get(snapshot)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/fingerprint-key",
            "getFingerprintKey",
            apply,
            "The key under which secrets of the project are fingerprinted.",
        )
        .answers::<FingerprintKeyDocument>(200, "The key. Whoever has it can try guesses against a plan.")
        .by(get(fingerprint_key)),
        Route::new(Verb::Put, "/v1/projects/{project}/origin", "putOrigin", apply, "Notes where the project is at home.")
            .fenced()
            .reads::<OriginRequest>()
            .answers_nothing("It is noted, or is at home elsewhere and stays there.")
            .by(axum::routing::put(settle)),
    ]
}

async fn list(State(server): State<Arc<Server>>, caller: Caller, _: Asked<Nothing>) -> Handled {
    let record = caller.bearer.record();
    match (&record.project, record.scope) {
        (_, Scope::Operator) => document(&server.host.projects()?),
        (own, _) => document(&own.iter().collect::<Vec<_>>()),
    }
}

async fn snapshot(caller: InProject, _: Asked<Nothing>) -> Handled {
    let mut snapshot = caller.control.snapshot(&caller.project).await?;
    snapshot.control_plane.scope = Some(caller.bearer.record().scope);
    document(&snapshot)
}

async fn fingerprint_key(caller: InProject, _: Asked<Nothing>) -> Handled {
    // There are tokens, so there is a store, and with it a key.
    let key = caller.control.fingerprint_key(&caller.project, KeyNeed::IfThere).await?.ok_or_else(Problem::bug)?;
    document(&FingerprintKeyDocument { key: SecretText(key.to_hex()) })
}

async fn settle(caller: InProject, fence: Fence, _: Asked<Nothing>, Read(request): Read<OriginRequest>) -> Handled {
    super::leases::one_line("origin", &request.origin, LONGEST_ORIGIN)?;
    caller.control.settle(&fence.lease(&caller.project), &request.origin, request.claim).await?;
    Ok(super::leases::done())
}
