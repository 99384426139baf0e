//! What a deployment says about itself, and the few settings that it has.
//!
//! Must not do: documents, variables or functions.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Caller;
use super::answer::{Refusal, json_body};
use super::routes::App;
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
pub(super) async fn version(State(app): State<App>) -> String {
    app.version.clone()
}

/// `GET /instance_name`
pub(super) async fn instance_name(State(app): State<App>) -> String {
    app.instance_name.clone()
}

/// `POST /echo`
pub(super) async fn echo(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<App>) -> Response {
    if app.metrics_disabled {
        return Refusal::new(StatusCode::NOT_FOUND, "MetricsDisabled", "the metrics are switched off").into_response();
    }
    "# TYPE convex_simulated_up gauge\nconvex_simulated_up 1\n".into_response()
}

/// `GET /api/check_admin_key`
pub(super) async fn check_admin_key(caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.demand_look()?;
    let is_read_only = matches!(caller, Caller::Key(KeyKind::ReadOnly { .. }));
    let operations: &[&str] = if is_read_only { &READ_ONLY_OPERATIONS } else { &[] };
    Ok(Json(json!({ "success": true, "allowedOps": operations, "isReadOnly": is_read_only })))
}

/// `GET deployment_info`
pub(super) async fn deployment_info(caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.demand_look()?;
    Ok(Json(json!({ "kind": "selfHosted" })))
}

/// `GET get_canonical_urls`
pub(super) async fn canonical_urls(State(app): State<App>, caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.demand_look()?;
    Ok(Json(json!({
        "convexCloudUrl": app.canonical_url(Destination::ConvexCloud)?,
        "convexSiteUrl": app.canonical_url(Destination::ConvexSite)?,
    })))
}

/// Which of the two canonical URLs.
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

impl App {
    /// A canonical URL: the one that was set, else the origin of the start.
    pub(super) fn canonical_url(&self, destination: Destination) -> rusqlite::Result<String> {
        let origin = match destination {
            Destination::ConvexCloud => &self.cloud_origin,
            Destination::ConvexSite => &self.site_origin,
        };
        Ok(self.data.setting(destination.setting())?.unwrap_or_else(|| origin.clone()))
    }

    /// Whether functions are stopped.
    pub(super) fn is_paused(&self) -> rusqlite::Result<bool> {
        Ok(self.data.setting(PAUSED)?.is_some())
    }
}

/// `POST update_canonical_url`
pub(super) async fn update_canonical_url(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update {
        request_destination: Destination,
        url: Option<String>,
    }
    let Update { request_destination, url } = json_body(&headers, &body)?;
    caller.demand_change("deployment:canonicalUrl:write")?;
    app.data.set(request_destination.setting(), url.as_deref())?;
    app.changed();
    Ok(())
}

/// `POST pause_deployment`
pub(super) async fn pause(State(app): State<App>, caller: Caller) -> Result<(), Refusal> {
    caller.demand_change("deployment:pause")?;
    app.data.set(PAUSED, Some("true"))?;
    app.changed();
    Ok(())
}

/// `POST unpause_deployment`
pub(super) async fn unpause(State(app): State<App>, caller: Caller) -> Result<(), Refusal> {
    caller.demand_change("deployment:unpause")?;
    app.data.set(PAUSED, None)?;
    app.changed();
    Ok(())
}

/// The OpenAPI documents: valid, and empty.
pub(super) async fn open_api() -> Json<Value> {
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "simulated Convex deployment", "version": env!("CARGO_PKG_VERSION") },
        "paths": {},
    }))
}
