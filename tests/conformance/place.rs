//! Control planes to talk to, each with its own rows in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use convexinfra::api::Administration;
use convexinfra::convex::deployment::DeploymentClient;
use convexinfra::host::{Host, HostParts, LocalBinaries, NativePlatform, Serving};
use convexinfra::model::{Actor, Scope, TokenRequest};
use convexinfra::provider::Provider;
use convexinfra::provider::simulated::Simulated;
use convexinfra::server::{ApiServer, RequestLimits, ShardRole, router};
use serde_json::Value;

use super::worker::Worker;
use fixture::executable;

/// One control plane.
pub(super) struct Place {
    pub(super) url: String,
    pub(super) operator: String,
    _life: Life,
}

/// What keeps it alive.
enum Life {
    Embedded { _runtime: tokio::runtime::Runtime, _serving: Serving, _folder: tempfile::TempDir },
    Served { _child: Ended, _folder: tempfile::TempDir },
    Worker { _worker: Box<Worker> },
}

/// A process that is killed when this goes.
pub(super) struct Ended(pub(super) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    /// The routes over an authority in this very process.
    pub(super) fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let providers: Vec<Box<dyn Provider>> = vec![Box::new(Simulated::new(home.clone(), PathBuf::from(executable())))];
        let host = Arc::new(Host::new(HostParts {
            platform: Box::new(NativePlatform::new(home, None, None)),
            name: "embedded".to_owned(),
            providers,
            connections: DeploymentClient::default(),
            local_binaries: LocalBinaries::ReleasesOnly,
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (url, operator, serving) = runtime.block_on(async {
            let serving = host.serve("here").await.unwrap();
            let request = TokenRequest { project: None, scope: Scope::Operator, note: "operator".to_owned(), ttl: None };
            let actor = Actor { token: None, name: "test".to_owned() };
            let issued = host.session_for(actor).create_token(&request).await.unwrap();
            let limits = RequestLimits { rate: None, ..RequestLimits::default() };
            let server = ApiServer::new(Arc::clone(&host), ShardRole::Projects, limits).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let routes = router(&server);
            tokio::spawn(async move { axum::serve(listener, routes).await });
            (url, issued.token.expose().to_owned(), serving)
        });
        Self { url, operator, _life: Life::Embedded { _runtime: runtime, _serving: serving, _folder: folder } }
    }

    /// `convexinfra serve`.
    pub(super) fn served() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = |words: &[&str]| {
            let mut command = Command::new(executable());
            command.env_clear().env("CONVEXINFRA_HOME", folder.path().join("home")).env("HOME", folder.path());
            command.args(words).stdin(Stdio::null()).stderr(Stdio::null());
            command
        };
        let made = command(&["serve", "--init"]).output().unwrap();
        assert!(made.status.success());
        let operator = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let words = ["serve", "--listen", "127.0.0.1:0", "--json", "--rate-limit", "0"];
        let mut child = command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let document: Value = serde_json::from_str(&line).unwrap();
        let url = document["url"].as_str().unwrap().to_owned();
        Self { url, operator, _life: Life::Served { _child: Ended(child), _folder: folder } }
    }

    /// The Worker; none where it cannot run, which is said.
    pub(super) fn worker() -> Option<Self> {
        let worker = Worker::start(None)?;
        let operator = worker.initialise();
        Some(Self { url: worker.url(), operator, _life: Life::Worker { _worker: Box::new(worker) } })
    }
}
