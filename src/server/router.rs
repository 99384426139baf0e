//! The router: every route behind its guard, and around all of them what every request gets.
//!
//! Must not do: listen, or know what a route does.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::access_log::access_log;
use super::auth::require_access;
use super::error_response::ErrorResponse;
use super::{ApiServer, routes};

/// Returns all routes over a server. It needs no listener.
pub fn router(server: &Arc<ApiServer>) -> Router {
    let mut router = Router::new();
    for route in routes::routes() {
        let access = from_fn_with_state((Arc::clone(server), route.endpoint.scope), require_access);
        router = router.route(route.endpoint.path, route.handler.route_layer(access));
    }
    with_layers(router, server)
}

/// Returns what is around every route.
pub(super) fn with_layers(router: Router<Arc<ApiServer>>, server: &Arc<ApiServer>) -> Router {
    router
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| on_panic(panic.as_ref())))
        .layer(from_fn_with_state(Arc::clone(server), request_timeout))
        .layer(from_fn_with_state(Arc::clone(server), access_log))
        .with_state(Arc::clone(server))
}

/// Ends requests that take too long, by the clock of the platform.
async fn request_timeout(State(server): State<Arc<ApiServer>>, request: Request, next: Next) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        () = server.host.sleep(server.limits.request * 2) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Returns a panic ends its request and nothing else. What it said is in the log already.
fn on_panic(_: &(dyn Any + Send)) -> Response {
    ErrorResponse::bug().into_response()
}
