//! The routes of a backend.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::state::SimulatorState;
use super::{environment, export, functions, import, info, sync};

/// The largest body: what an echo takes, and more than a part of an upload has.
const BODY_MAX: usize = 128 << 20;

/// Returns the API's port.
pub(super) fn api(app: SimulatorState) -> Router {
    let versioned = Router::new()
        .route("/list_environment_variables", get(environment::list))
        .route("/update_environment_variables", post(environment::update))
        .route("/get_canonical_urls", get(info::canonical_urls))
        .route("/update_canonical_url", post(info::update_canonical_url));
    let newer = versioned
        .clone()
        .route("/deployment_info", get(info::deployment_info))
        .route("/pause_deployment", post(info::pause))
        .route("/unpause_deployment", post(info::unpause))
        .route("/openapi.json", get(info::open_api));
    let api = versioned
        .route("/check_admin_key", get(info::check_admin_key))
        .route("/public_openapi.json", get(info::open_api))
        .route("/dashboard_openapi.json", get(info::open_api))
        .route("/query", post(functions::query))
        .route("/function", post(functions::query))
        .route("/mutation", post(functions::reject_call))
        .route("/action", post(functions::reject_call))
        .route("/stream_function_logs", get(functions::logs))
        .route("/app_metrics/stream_function_logs", get(functions::logs))
        .route("/get_config_hashes", post(functions::reject_push))
        .route("/push_config", post(functions::reject_push))
        .route("/deploy2/{step}", post(functions::reject_push))
        .route("/import", post(import::direct))
        .route("/import/start_upload", post(import::start_upload))
        .route("/import/upload_part", post(import::upload_part))
        .route("/import/finish_upload", post(import::finish_upload))
        .route("/perform_import", post(import::perform))
        .route("/cancel_import", post(import::cancel))
        .route("/export/request/zip", post(export::request))
        .route("/export/cancel/{id}", post(export::cancel))
        .route("/export/set_expiration/{id}", post(export::set_expiration))
        .route("/export/zip/{id}", get(export::download))
        .route("/sync", get(sync::open))
        .route("/{version}/sync", get(sync::open))
        .nest("/v1", newer);
    Router::new()
        .route("/", get(info::root))
        .route("/version", get(info::version))
        .route("/instance_version", get(info::version))
        .route("/instance_name", get(info::instance_name))
        .route("/metrics", get(info::metrics))
        .route("/echo", post(info::echo))
        .nest("/api", api)
        .route("/http", get(no_http_actions))
        .route("/http/{*path}", axum::routing::any(no_http_actions))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(allow_any_origin))
        .with_state(app)
}

/// Returns the port of the HTTP actions, of which there are none.
pub(super) fn site(app: SimulatorState) -> Router {
    Router::new()
        .route("/version", get(|| async { "unknown" }))
        .route("/metrics", get(info::metrics))
        .fallback(no_http_actions)
        .with_state(app)
}

async fn no_http_actions() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "this is a simulated Convex deployment, which has no HTTP actions")
}

/// Lets any web page in, which is what lets a dashboard live on any host. The key is what keeps strangers out.
async fn allow_any_origin(request: Request, next: Next) -> Response {
    let [origin, method, names] =
        [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS]
            .map(|name| request.headers().get(name).cloned());
    let is_preflight = request.method() == Method::OPTIONS && origin.is_some() && method.is_some();
    let mut response = if is_preflight { StatusCode::OK.into_response() } else { next.run(request).await };
    let headers: &mut HeaderMap = response.headers_mut();
    let vary = "origin, access-control-request-method, access-control-request-headers";
    headers.insert(header::VARY, HeaderValue::from_static(vary));
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    let mirrored = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (header::ACCESS_CONTROL_ALLOW_METHODS, method.filter(|_| is_preflight)),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, names.filter(|_| is_preflight)),
    ];
    for (name, value) in mirrored {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    response
}
