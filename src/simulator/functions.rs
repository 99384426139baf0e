//! Calls of functions over HTTP: the backend's own queries are answered, everything else is told that nothing runs.
//!
//! Must not do: run anything.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Caller;
use super::answer::{Query, Refusal, json_body};
use super::routes::App;
use super::{identifier, queries, values};

/// How long a client waits for log lines that do not come.
const LONG_POLL: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Call {
    path: String,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    ConvexEncodedJson,
}

/// `POST /api/query`, `POST /api/function`
pub(super) async fn query(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let call: Call = json_body(&headers, &body)?;
    Ok(Json(match queries::answer(&app, caller, &call.path, &call.args) {
        Ok(value) => {
            let value = match call.format {
                Format::Json => values::plain(value),
                Format::ConvexEncodedJson => value,
            };
            json!({ "status": "success", "value": value })
        }
        Err(message) => failure(&message),
    }))
}

/// `POST /api/mutation`, `POST /api/action`
pub(super) async fn other(_caller: Caller, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Refusal> {
    let call: Call = json_body(&headers, &body)?;
    Ok(Json(failure(&format!("this simulator runs no functions, so there is no `{}`", call.path))))
}

fn failure(message: &str) -> Value {
    json!({ "status": "error", "errorMessage": framed(message) })
}

/// An error of a function as clients expect it to look.
pub(super) fn framed(message: &str) -> String {
    format!("[Request ID: {}] Server Error\n{message}\n", identifier::request())
}

/// Everything that belongs to a push of functions.
pub(super) async fn push(_caller: Caller) -> Refusal {
    Refusal::bad(
        "SimulatorRunsNoFunctions",
        "this is a simulated deployment: it runs no functions, so none can be pushed to it",
    )
}

#[derive(Deserialize)]
pub(super) struct Position {
    #[serde(default)]
    cursor: f64,
}

/// `GET /api/stream_function_logs`
pub(super) async fn logs(
    State(app): State<App>,
    caller: Caller,
    Query(position): Query<Position>,
) -> Result<Json<Value>, Refusal> {
    caller.demand_look()?;
    // The first request only asks where the end is.
    if position.cursor > 0.0 {
        let _ = tokio::time::timeout(LONG_POLL, app.stopped()).await;
    }
    Ok(Json(json!({ "entries": [], "newCursor": identifier::now_ms() })))
}
