//! Backends: what there is, how to reach one, what one has logged.
//!
//! Must not do: change a backend; operations do.

use axum::routing::get;
use serde::Deserialize;

use super::{Handled, document, within};
use crate::control::wire::CredentialsDocument;
use crate::control::{ControlError, ControlPlane, LogFrom, LogPiece};
use crate::model::{ActualBackend, BackendName, Scope};
use crate::server::input::{Asked, InPath, InProject, Nothing};
use crate::server::problem::Problem;
use crate::server::route::{Access, Key, Route, Takes, Verb};

const TAIL: Key = Key {
    name: "tail",
    means: "The last so many lines; 100 when nothing is said.",
    takes: Takes::Number { least: 0, most: 100_000 },
};
const FROM: Key = Key {
    name: "from",
    means: "From this byte on, as `next` of an earlier piece said.",
    takes: Takes::Number { least: 0, most: i64::MAX as u64 },
};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Project(Scope::Read);
    vec![
        Route::new(Verb::Get, "/v1/projects/{project}/backends", "listBackends", read, "The backends of the project.")
            .answers::<Vec<ActualBackend>>(200, "The backends as they are now.")
            .by(get(list)),
        Route::new(Verb::Get, "/v1/projects/{project}/backends/{backend}", "getBackend", read, "One backend.")
            .answers::<ActualBackend>(200, "The backend as it is now.")
            .may_fail(&[404])
            .by(get(show)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/backends/{backend}/credentials",
            "getCredentials",
            Access::Project(Scope::Apply),
            "Where a backend is and the key that opens it.",
        )
        .answers::<CredentialsDocument>(200, "Its URLs and its admin key.")
        .may_fail(&[404, 409])
        .by(get(credentials)),
        Route::new(
            Verb::Get,
            "/v1/projects/{project}/backends/{backend}/logs",
            "readLogs",
            read,
            "A piece of a backend's log.",
        )
        .asks(&[TAIL, FROM])
        .answers::<LogPiece>(200, "The piece, and where to go on.")
        .may_fail(&[404, 422])
        .by(get(logs)),
    ]
}

async fn list(caller: InProject, _: Asked<Nothing>) -> Handled {
    document(&caller.control.snapshot(&caller.project).await?.backends)
}

async fn show(caller: InProject, InPath(name): InPath<BackendName>, _: Asked<Nothing>) -> Handled {
    let snapshot = caller.control.snapshot(&caller.project).await?;
    let found = snapshot.backends.iter().find(|backend| backend.name == name);
    document(found.ok_or(ControlError::NoSuchBackend { project: caller.project, backend: name })?)
}

async fn credentials(caller: InProject, InPath(name): InPath<BackendName>, _: Asked<Nothing>) -> Handled {
    document(&CredentialsDocument::from(caller.control.credentials(&caller.project, &name).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    tail: Option<u64>,
    from: Option<u64>,
}

async fn logs(caller: InProject, InPath(name): InPath<BackendName>, Asked(piece): Asked<Piece>) -> Handled {
    let from = match (piece.tail, piece.from) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("wire.query", "a log is read by its `tail` or `from` a byte, not both"));
        }
        (tail, None) => LogFrom::Tail(usize::try_from(within(&TAIL, tail, 100)?).unwrap_or(usize::MAX)),
        (None, from) => LogFrom::Byte(within(&FROM, from, 0)?),
    };
    document(&caller.control.logs(&caller.project, &name, from).await?)
}
