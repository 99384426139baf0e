//! The running stand-in: a thread with a server of its own, so that commands which block may be run beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::contract::{Contract, Side};
use super::faults::{Effect, Fault, Faults, Outcome};
use super::limits::Limits;
use super::proxy::{self, Authority, RouteMap};
use super::reply::{Body, Reply};
use super::request::Request;
use super::settings::{Settings, TOKEN};
use super::world::World;
use super::{checks, control, nodes, registry, routes};

const TICK: Duration = Duration::from_millis(3);
const LOOK: Duration = Duration::from_millis(20);

/// What every request sees.
pub struct Shared {
    pub world: Arc<Mutex<World>>,
    pub faults: Mutex<Faults>,
    pub requests: Mutex<Vec<RecordedRequest>>,
    /// What was said against the document, each with the exact difference.
    pub violations: Mutex<Vec<String>>,
    limits: Mutex<Limits>,
    root: PathBuf,
    contract: Option<&'static Contract>,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// The method and the path.
    pub line: String,
    pub request: Request,
    /// The status, or 0 where the connection ended without one.
    pub status: u16,
}

/// A stand-in that runs until it is dropped. Dropping it fails the test where the document was violated.
pub struct FakeFly {
    shared: Arc<Shared>,
    map: Arc<RouteMap>,
    api: SocketAddr,
    edge: SocketAddr,
    doors: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl FakeFly {
    pub fn start(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            world: Arc::new(Mutex::new(World::new(settings))),
            faults: Mutex::default(),
            requests: Mutex::default(),
            violations: Mutex::default(),
            limits: Mutex::default(),
            root: folder.path().to_owned(),
            contract: Contract::at_hand(),
        });
        let authority = Authority::new();
        std::fs::write(folder.path().join("authority.pem"), &authority.pem).unwrap();
        let (told, tell) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let inside = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(inside, authority, told, stopped));
            runtime.shutdown_background();
        });
        let (map, api, edge, doors) = tell.recv().unwrap();
        Self { shared, map, api, edge, doors, stop: Some(stop), thread: Some(thread), folder }
    }

    /// The base of the API, with its `/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.host_url())
    }

    /// The same without `/v1`, as `FLY_FLAPS_BASE_URL` has it.
    pub fn host_url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The proxy through which `https://APP.fly.dev` is reached.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.edge)
    }

    /// The certificate of the authority that vouches for every name behind the proxy.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// What a command has to find in its environment to take this for Fly.io.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("FLY_API_TOKEN", TOKEN.to_owned()),
            ("FLY_FLAPS_BASE_URL", self.host_url()),
            ("HTTPS_PROXY", self.proxy_url()),
            ("SSL_CERT_FILE", self.authority().display().to_string()),
        ]
    }

    /// A client that reaches `https://APP.fly.dev`, for tests that cannot change their own environment.
    pub fn client(&self) -> reqwest::Client {
        let authority = reqwest::Certificate::from_pem(self.map.authority.pem.as_bytes()).unwrap();
        let proxy = reqwest::Proxy::https(self.proxy_url()).unwrap();
        reqwest::Client::builder().proxy(proxy).tls_certs_only([authority]).pool_max_idle_per_host(0).build().unwrap()
    }

    /// A plain loopback URL that leads to one app and nowhere else, as long as the stand-in runs.
    pub fn app_url(&self, app: &str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (map, host) = (Arc::clone(&self.map), format!("{app}.fly.dev"));
        self.doors.spawn(async move {
            proxy::serve_one(TcpListener::from_std(listener).unwrap(), map, host).await;
        });
        format!("http://{address}")
    }

    /// The world, to look at and to change.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.shared.world.lock().unwrap();
        // Programs are started inside the server's runtime.
        let _guard = self.doors.enter();
        super::settle(&mut world);
        world
    }

    /// Orders a fault.
    pub fn order(&self, fault: Fault) {
        self.shared.faults.lock().unwrap().order(fault);
    }

    /// Takes back the faults that have not happened.
    pub fn clear_faults(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Faults that were ordered and never happened: a test that leaves some has tested nothing.
    pub fn outstanding(&self) -> Vec<Fault> {
        self.shared.faults.lock().unwrap().outstanding()
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests of this method went to this path, which may have `*` for a part.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|seen| super::faults::fits(method, path, &seen.request)).count()
    }

    /// Takes what was said against the document, which then no longer fails the test.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.violations.lock().unwrap())
    }
}

impl Drop for FakeFly {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Programs end with their machines.
        self.shared.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner).apps.clear();
        let violations = self.shared.violations.lock().map(|found| found.clone()).unwrap_or_default();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "{} against the API's document:\n{}", violations.len(), violations.join("\n"));
        }
    }
}

type Told = (Arc<RouteMap>, SocketAddr, SocketAddr, tokio::runtime::Handle);

async fn run(shared: Arc<Shared>, authority: Authority, told: mpsc::Sender<Told>, stopped: oneshot::Receiver<()>) {
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (api_address, edge_address) = (api.local_addr().unwrap(), outside.local_addr().unwrap());
    let map = Arc::new(RouteMap { world: Arc::clone(&shared.world), authority, api: api_address.port() });
    told.send((Arc::clone(&map), api_address, edge_address, tokio::runtime::Handle::current())).unwrap();
    tokio::spawn(proxy::serve(outside, map));
    let ticking = Arc::clone(&shared.world);
    tokio::spawn(async move {
        loop {
            super::settle(&mut ticking.lock().unwrap());
            tokio::time::sleep(TICK).await;
        }
    });
    let looking = Arc::clone(&shared.world);
    tokio::spawn(async move {
        loop {
            checks::look(&looking).await;
            tokio::time::sleep(LOOK).await;
        }
    });
    let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let shared = Arc::clone(&shared);
        async move { serve(&shared, &Request::new(&method, &uri, &headers, &body)).await }
    });
    tokio::select! {
        _ = axum::serve(api, router) => {}
        _ = stopped => {}
    }
}

async fn serve(shared: &Shared, request: &Request) -> Response {
    if request.path.starts_with(control::PREFIX) {
        return response(control::answer(shared, request), 0);
    }
    if let Some(reply) = registry::answer(request) {
        return response(reply, 0);
    }
    note(shared, request, Side::Request);
    let at = {
        let mut requests = shared.requests.lock().unwrap();
        let line = format!("{} {}", request.method, request.path);
        requests.push(RecordedRequest { line, request: request.clone(), status: 0 });
        requests.len() - 1
    };
    let fault = shared.faults.lock().unwrap().strike(&request.method, &request.path);
    let reply = match &fault {
        Some(fault) => suffer(shared, request, fault).await,
        None => rightly(shared, request).await,
    };
    shared.requests.lock().unwrap()[at].status = reply.status;
    response(reply, at)
}

async fn rightly(shared: &Shared, request: &Request) -> Reply {
    let (node, refusal) = nodes::refuse(&mut shared.world.lock().unwrap(), request);
    let reply = match refusal {
        Some(refusal) => refusal,
        None => routes::answer(&shared.world, &shared.limits, Path::new(&shared.root), request).await,
    };
    let reply = nodes::answered(&mut shared.world.lock().unwrap(), request, node, reply);
    note(shared, request, Side::Reply(&reply));
    reply
}

async fn suffer(shared: &Shared, request: &Request, fault: &Fault) -> Reply {
    let is_done = fault.effect == Effect::Done || fault.outcome == Outcome::Late;
    let right = if is_done { Some(rightly(shared, request).await) } else { None };
    tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    match (fault.reply(), right) {
        (Some(ordered), _) => ordered,
        (None, Some(right)) if fault.outcome == Outcome::Late => right,
        // Ends the task of this connection, and with it the connection, without a word on the screen.
        _ => std::panic::resume_unwind(Box::new("a connection that ends without an answer")),
    }
}

fn note(shared: &Shared, request: &Request, side: Side<'_>) {
    if let Some(contract) = shared.contract {
        shared.violations.lock().unwrap().extend(contract.differences(request, side));
    }
}

fn response(reply: Reply, number: usize) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap();
    let mut response = match reply.body {
        Body::Empty => status.into_response(),
        Body::Text(text) => (status, text).into_response(),
        Body::Json(value) => (status, axum::Json(value)).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert("fly-request-id", HeaderValue::from_str(&format!("01STANDIN{number:08}-iad")).unwrap());
    for (name, value) in reply.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
    }
    response
}
