//! Calls of functions over HTTP: the backend's own queries are answered, everything else is told that nothing runs.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::KeyHolder;
use super::response::{ApiRejection, Query, read_json_body};
use super::state::SimulatorState;
use super::{encoding, identifier, queries};

/// How long a client waits for log lines that do not come.
const LONG_POLL: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct FunctionCall {
    path: String,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    format: ValueFormat,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueFormat {
    #[default]
    Json,
    ConvexEncodedJson,
}

/// `POST /api/query`, `POST /api/function`
pub(super) async fn query(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiRejection> {
    let call: FunctionCall = read_json_body(&headers, &body)?;
    Ok(Json(match queries::answer(&app, caller, &call.path, &call.args) {
        Ok(value) => {
            let value = match call.format {
                ValueFormat::Json => encoding::plain(value),
                ValueFormat::ConvexEncodedJson => value,
            };
            json!({ "status": "success", "value": value })
        }
        Err(message) => failure(&message),
    }))
}

/// `POST /api/mutation`, `POST /api/action`
pub(super) async fn reject_call(_caller: KeyHolder, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, ApiRejection> {
    let call: FunctionCall = read_json_body(&headers, &body)?;
    Ok(Json(failure(&format!("this simulator runs no functions, so there is no `{}`", call.path))))
}

fn failure(message: &str) -> Value {
    json!({ "status": "error", "errorMessage": frame_error(message) })
}

/// Returns an error of a function as clients expect it to look.
pub(super) fn frame_error(message: &str) -> String {
    format!("[Request ID: {}] Server Error\n{message}\n", identifier::request())
}

/// Returns everything that belongs to a push of functions.
pub(super) async fn reject_push(_caller: KeyHolder) -> ApiRejection {
    ApiRejection::bad_request(
        "SimulatorRunsNoFunctions",
        "this is a simulated deployment: it runs no functions, so none can be pushed to it",
    )
}

#[derive(Deserialize)]
pub(super) struct LogCursor {
    #[serde(default)]
    cursor: f64,
}

/// `GET /api/stream_function_logs`
pub(super) async fn logs(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Query(position): Query<LogCursor>,
) -> Result<Json<Value>, ApiRejection> {
    caller.require_read()?;
    // The first request only asks where the end is.
    if position.cursor > 0.0 {
        let _ = tokio::time::timeout(LONG_POLL, app.stopped()).await;
    }
    Ok(Json(json!({ "entries": [], "newCursor": identifier::now_ms() })))
}
