//! The world outside a workerd: every name that it asks for leads to the stand-in for Fly.io.
//!
//! A service outside of workerd is one address for all names, with connections that are kept, so that something has to
//! look at every request and send it where its name leads.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use fake_fly::FakeFly;

/// What leads outside, as long as this lives.
pub(super) struct Outside {
    pub(super) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

struct Ways {
    api: String,
    apps: reqwest::Client,
    plain: reqwest::Client,
}

impl Outside {
    pub(super) fn start(fly: &FakeFly) -> Self {
        let plain = reqwest::Client::builder().no_proxy().build().unwrap();
        let ways = Arc::new(Ways { api: fly.host_url(), apps: fly.client(), plain });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let address = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new().fallback(pass).with_state(ways);
            tokio::spawn(async move { axum::serve(listener, router).await });
            address
        });
        Self { address, _runtime: runtime }
    }
}

async fn pass(State(ways): State<Arc<Ways>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let (client, base) = match host.as_str() {
        "api.machines.dev" => (&ways.plain, ways.api.clone()),
        // The stand-in knows its apps and the registry, and nothing else.
        name => (&ways.apps, format!("https://{name}")),
    };
    let mut headers = parts.headers;
    for name in ["host", "content-length", "transfer-encoding", "connection"] {
        headers.remove(name);
    }
    let body = to_bytes(body, 1 << 24).await.unwrap_or_default();
    let sent = client.request(parts.method, format!("{base}{path}")).headers(headers).body(body).send().await;
    let Ok(answer) = sent else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in ["content-length", "transfer-encoding", "connection"] {
        headers.remove(name);
    }
    (status, headers, Body::from(answer.bytes().await.unwrap_or_default())).into_response()
}
