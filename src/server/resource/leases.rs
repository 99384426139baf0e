//! Leases: the right to change a project, taken, kept and given back.
//!
//! Must not do: believe a client's clock.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};

use super::{Handled, document};
use crate::control::wire::{LeaseDocument, LeaseRequest};
use crate::control::{ControlPlane, LONGEST_NAME, Lease, is_one_line};
use crate::model::Scope;
use crate::server::input::{Asked, Fence, InProject, Nothing, Read};
use crate::server::problem::Problem;
use crate::server::route::{Access, Route, Verb};
use crate::server::{Phase, Server};

const PATH: &str = "/v1/projects/{project}/lease";

pub(super) fn routes() -> Vec<Route> {
    let (read, apply) = (Access::Project(Scope::Read), Access::Project(Scope::Apply));
    vec![
        Route::new(Verb::Get, PATH, "getLease", read, "Who holds the lease of the project.")
            .answers::<LeaseDocument>(200, "Who, if anybody.")
            .by(get(show)),
        Route::new(Verb::Post, PATH, "acquireLease", apply, "Takes the right to change the project.")
            .reads::<LeaseRequest>()
            .answers::<Lease>(201, "The lease. It lasts 15 s, unless it is renewed.")
            .may_fail(&[409])
            .by(post(acquire)),
        Route::new(Verb::Put, PATH, "renewLease", apply, "Keeps that right for another 15 s.")
            .fenced()
            .answers_nothing("It is kept.")
            .by(put(renew)),
        Route::new(Verb::Delete, PATH, "releaseLease", apply, "Gives that right back.")
            .fenced()
            .answers_nothing("It is given back, or was lost before.")
            .by(delete(release)),
    ]
}

/// What there is to say when there is nothing to say.
pub(super) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Refuses what is not one line of at most so many bytes: it stands in the history and in answers to others.
pub(super) fn one_line(what: &str, text: &str, longest: usize) -> Result<(), Problem> {
    if !is_one_line(text, longest) {
        let message = format!("`{what}` should be one line of 1 to {longest} bytes, without control characters");
        return Err(Problem::bad_request("wire.text", message));
    }
    Ok(())
}

async fn show(caller: InProject, _: Asked<Nothing>) -> Handled {
    document(&LeaseDocument { holder: caller.control.holder(&caller.project).await? })
}

async fn acquire(
    State(server): State<Arc<Server>>,
    caller: InProject,
    _: Asked<Nothing>,
    Read(request): Read<LeaseRequest>,
) -> Handled {
    if server.phase() != Phase::Serving {
        return Err(Problem::draining());
    }
    one_line("user", &request.user, LONGEST_NAME)?;
    one_line("host", &request.host, LONGEST_NAME)?;
    if let Some(start) = &request.process_start {
        one_line("process_start", start, LONGEST_NAME)?;
    }
    if let Some(attempt) = &request.attempt {
        one_line("attempt", attempt.as_str(), LONGEST_NAME)?;
    }
    let lease = caller.control.acquire(&caller.project, request.into_holder(server.host.now())).await?;
    Ok((StatusCode::CREATED, Json(lease)).into_response())
}

async fn renew(caller: InProject, fence: Fence, _: Asked<Nothing>) -> Handled {
    caller.control.renew(&fence.lease(&caller.project)).await?;
    Ok(done())
}

async fn release(caller: InProject, fence: Fence, _: Asked<Nothing>) -> Handled {
    caller.control.release(&fence.lease(&caller.project)).await?;
    Ok(done())
}
