//! The history: what has happened, who did it, and whether it is as it was written.
//!
//! Must not do: change an entry.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;

use super::{Handled, document, within};
use crate::control::{ControlPlane, HistoryCheck, HistoryEntry, Reach};
use crate::model::Scope;
use crate::server::Server;
use crate::server::guard::Caller;
use crate::server::input::{Asked, InProject};
use crate::server::problem::Problem;
use crate::server::route::{Access, Key, Route, Takes, Verb};

const LIMIT: Key = Key {
    name: "limit",
    means: "How many of the last ones; 50 when left out.",
    takes: Takes::Number { least: 0, most: 1_000_000 },
};

const HEAD: Key = Key {
    name: "head",
    means: "A hash that was noted, such as `head` of an earlier check; one entry must still have it.",
    takes: Takes::Hash,
};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Project(Scope::Read);
    let of_all = "What has happened to the control plane itself.";
    vec![
        Route::new(Verb::Get, "/v1/projects/{project}/events", "listEvents", read, "What has happened to the project.")
            .asks(&[LIMIT])
            .answers::<Vec<HistoryEntry>>(200, "The entries, oldest first.")
            .by(get(list)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/events/check",
            "checkEvents",
            read,
            "Whether the project's history is as it was written.",
        )
        .asks(&[HEAD])
        .answers::<HistoryCheck>(200, "What came of the check.")
        .by(get(check)),
        Route::new(Verb::Get, "/v1/events", "listAllEvents", Access::Operator, of_all)
            .asks(&[LIMIT])
            .answers::<Vec<HistoryEntry>>(200, "The entries, oldest first.")
            .by(get(list_everywhere)),
        Route::new(
            Verb::Get,
            "/v1/events/check",
            "checkAllEvents",
            Access::Operator,
            "Whether the history of the control plane itself is as it was written.",
        )
        .asks(&[HEAD])
        .answers::<HistoryCheck>(200, "What came of the check.")
        .by(get(check_everywhere)),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    limit: Option<u64>,
}

impl Last {
    fn limit(&self) -> Result<u32, Problem> {
        Ok(u32::try_from(within(&LIMIT, self.limit, 50)?).unwrap_or(u32::MAX))
    }
}

async fn list(caller: InProject, Asked(last): Asked<Last>) -> Handled {
    document(&caller.control.history(&Reach::Project(caller.project), last.limit()?).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    head: Option<String>,
}

impl Noted {
    fn hash(&self) -> Result<Option<&str>, Problem> {
        match self.head.as_deref() {
            Some(head) if head.len() != 64 || !head.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => Err(
                Problem::bad_request("wire.query", format!("`{}` should be a hash: 64 hex digits in lower case", HEAD.name)),
            ),
            head => Ok(head),
        }
    }
}

async fn check(caller: InProject, Asked(noted): Asked<Noted>) -> Handled {
    document(&caller.control.check_history(&Reach::Project(caller.project), noted.hash()?).await?)
}

async fn list_everywhere(State(server): State<Arc<Server>>, caller: Caller, Asked(last): Asked<Last>) -> Handled {
    document(&server.host.acting_as(caller.bearer.actor()).history(&Reach::Everywhere, last.limit()?).await?)
}

async fn check_everywhere(State(server): State<Arc<Server>>, caller: Caller, Asked(noted): Asked<Noted>) -> Handled {
    document(&server.host.acting_as(caller.bearer.actor()).check_history(&Reach::Everywhere, noted.hash()?).await?)
}
