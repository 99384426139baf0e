//! Quotas: the ceilings of a project, and those of every project that has none of its own.
//!
//! Must not do: enforce them; the authority does.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, put};

use super::leases::done;
use super::{Handled, document};
use crate::control::{Administration, Reach};
use crate::model::{Quota, Scope};
use crate::server::Server;
use crate::server::guard::Caller;
use crate::server::input::{Asked, InProject, Nothing, Read};
use crate::server::problem::Problem;
use crate::server::route::{Access, Route, Verb};

const OWN: &str = "/v1/projects/{project}/quota";
const EVERYBODYS: &str = "/v1/quota";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Verb::Get, OWN, "getQuota", Access::Project(Scope::Read), "The ceilings that hold for the project.")
            .answers::<Quota>(200, "Its own, else those of every project that has none.")
            .by(get(show)),
        Route::new(Verb::Put, OWN, "putQuota", Access::Project(Scope::Operator), "Gives the project ceilings of its own.")
            .reads::<Quota>()
            .answers_nothing("They hold from now on.")
            .by(put(set)),
        Route::new(Verb::Get, EVERYBODYS, "getDefaultQuota", Access::Operator, "The ceilings of projects without their own.")
            .answers::<Quota>(200, "The ceilings.")
            .by(get(show_default)),
        Route::new(
            Verb::Put,
            EVERYBODYS,
            "putDefaultQuota",
            Access::Operator,
            "Sets the ceilings of projects without their own.",
        )
        .reads::<Quota>()
        .answers_nothing("They hold from now on.")
        .by(put(set_default)),
    ]
}

/// Refuses a price that is not one.
fn sound(quota: &Quota) -> Result<(), Problem> {
    if quota.monthly_usd.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
        return Err(Problem::bad_request("wire.quota", "`monthly_usd` should be zero or more"));
    }
    Ok(())
}

async fn show(caller: InProject, _: Asked<Nothing>) -> Handled {
    document(&caller.control.quota(&Reach::Project(caller.project)).await?)
}

async fn set(caller: InProject, _: Asked<Nothing>, Read(quota): Read<Quota>) -> Handled {
    sound(&quota)?;
    caller.control.set_quota(&Reach::Project(caller.project), &quota).await?;
    Ok(done())
}

async fn show_default(State(server): State<Arc<Server>>, caller: Caller, _: Asked<Nothing>) -> Handled {
    document(&server.host.acting_as(caller.bearer.actor()).quota(&Reach::Everywhere).await?)
}

async fn set_default(
    State(server): State<Arc<Server>>,
    caller: Caller,
    _: Asked<Nothing>,
    Read(quota): Read<Quota>,
) -> Handled {
    sound(&quota)?;
    server.host.acting_as(caller.bearer.actor()).set_quota(&Reach::Everywhere, &quota).await?;
    Ok(done())
}
