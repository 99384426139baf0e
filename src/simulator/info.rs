//! What a deployment says about itself, and the few settings that it has.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::KeyHolder;
use super::response::{ApiRejection, read_json_body};
use super::state::SimulatorState;
use crate::convex::admin_key::KeyKind;

/// What a key that may only look allows, as it was recorded.
const READ_ONLY_OPERATIONS: [&str; 12] = [
    "ViewEnvironmentVariables",
    "ViewLogs",
    "ViewMetrics",
    "ViewIntegrations",
    "ViewData",
    "ViewBackups",
    "DownloadBackups",
    "RunInternalQueries",
    "RunTestQuery",
    "ViewAuditLog",
    "ViewUsageLimits",
    "ViewUsage",
];

const PAUSED: &str = "paused";

/// `GET /`
pub(super) async fn root() -> &'static str {
    "This is a simulated Convex deployment of convexinfra: it answers administrative requests and runs no functions."
}

/// `GET /version`, `GET /instance_version`
pub(super) async fn version(State(app): State<SimulatorState>) -> String {
    app.version.clone()
}

/// `GET /instance_name`
pub(super) async fn instance_name(State(app): State<SimulatorState>) -> String {
    app.instance_name.clone()
}

/// `POST /echo`
pub(super) async fn echo(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<SimulatorState>) -> Response {
    if app.metrics_disabled {
        return ApiRejection::new(StatusCode::NOT_FOUND, "MetricsDisabled", "the metrics are switched off").into_response();
    }
    "# TYPE convex_simulated_up gauge\nconvex_simulated_up 1\n".into_response()
}

/// `GET /api/check_admin_key`
pub(super) async fn check_admin_key(caller: KeyHolder) -> Result<Json<Value>, ApiRejection> {
    caller.require_read()?;
    let is_read_only = matches!(caller, KeyHolder::Key(KeyKind::ReadOnly { .. }));
    let operations: &[&str] = if is_read_only { &READ_ONLY_OPERATIONS } else { &[] };
    Ok(Json(json!({ "success": true, "allowedOps": operations, "isReadOnly": is_read_only })))
}

/// `GET deployment_info`
pub(super) async fn deployment_info(caller: KeyHolder) -> Result<Json<Value>, ApiRejection> {
    caller.require_read()?;
    Ok(Json(json!({ "kind": "selfHosted" })))
}

/// `GET get_canonical_urls`
pub(super) async fn canonical_urls(State(app): State<SimulatorState>, caller: KeyHolder) -> Result<Json<Value>, ApiRejection> {
    caller.require_read()?;
    Ok(Json(json!({
        "convexCloudUrl": app.canonical_url(Destination::ConvexCloud)?,
        "convexSiteUrl": app.canonical_url(Destination::ConvexSite)?,
    })))
}

/// Says which of the two canonical URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Destination {
    ConvexCloud,
    ConvexSite,
}

impl Destination {
    fn setting(self) -> &'static str {
        match self {
            Self::ConvexCloud => "canonical_cloud_url",
            Self::ConvexSite => "canonical_site_url",
        }
    }
}

impl SimulatorState {
    /// Returns a canonical URL: the one that was set, else the origin of the start.
    pub(super) fn canonical_url(&self, destination: Destination) -> rusqlite::Result<String> {
        let origin = match destination {
            Destination::ConvexCloud => &self.cloud_origin,
            Destination::ConvexSite => &self.site_origin,
        };
        Ok(self.data.setting(destination.setting())?.unwrap_or_else(|| origin.clone()))
    }

    /// Returns whether functions are stopped.
    pub(super) fn is_paused(&self) -> rusqlite::Result<bool> {
        Ok(self.data.setting(PAUSED)?.is_some())
    }
}

/// `POST update_canonical_url`
pub(super) async fn update_canonical_url(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), ApiRejection> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update {
        request_destination: Destination,
        url: Option<String>,
    }
    let Update { request_destination, url } = read_json_body(&headers, &body)?;
    caller.require_write("deployment:canonicalUrl:write")?;
    app.data.set(request_destination.setting(), url.as_deref())?;
    app.notify_changed();
    Ok(())
}

/// `POST pause_deployment`
pub(super) async fn pause(State(app): State<SimulatorState>, caller: KeyHolder) -> Result<(), ApiRejection> {
    caller.require_write("deployment:pause")?;
    app.data.set(PAUSED, Some("true"))?;
    app.notify_changed();
    Ok(())
}

/// `POST unpause_deployment`
pub(super) async fn unpause(State(app): State<SimulatorState>, caller: KeyHolder) -> Result<(), ApiRejection> {
    caller.require_write("deployment:unpause")?;
    app.data.set(PAUSED, None)?;
    app.notify_changed();
    Ok(())
}

/// Returns the OpenAPI documents: valid, and empty.
pub(super) async fn open_api() -> Json<Value> {
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "simulated Convex deployment", "version": env!("CARGO_PKG_VERSION") },
        "paths": {},
    }))
}
