//! The router: every route behind its guard, and around all of them what every request gets.
//!
//! Must not do: listen, or know what a route does.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use super::guard::guard;
use super::problem::Problem;
use super::record::record;
use super::{Server, resource};

/// All routes over a server. It needs no listener.
pub fn router(server: &Arc<Server>) -> Router {
    let mut router = Router::new();
    for route in resource::routes() {
        let guard = from_fn_with_state((Arc::clone(server), route.access), guard);
        router = router.route(route.path, route.handler.route_layer(guard));
    }
    around(router, server)
}

/// What is around every route.
pub(super) fn around(router: Router<Arc<Server>>, server: &Arc<Server>) -> Router {
    router
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| panicked(panic.as_ref())))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, server.limits.request * 2))
        .layer(from_fn_with_state(Arc::clone(server), record))
        .with_state(Arc::clone(server))
}

/// A panic ends its request and nothing else. What it said is in the log already.
fn panicked(_: &(dyn Any + Send)) -> Response {
    Problem::bug().into_response()
}
