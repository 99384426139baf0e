//! What a served control plane lets a project reach, and what one project's load does to its neighbours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use fixture::{CommandResult, ProjectFixture, Server};

/// A server with more in its environment, and a client with a token of this scope for `gremlin`.
fn world_with(manifest: &str, extra: &[(&str, &str)], scope: &str) -> ProjectFixture {
    let mut world = ProjectFixture::new(manifest);
    let operator = Server::init(&world.variables);
    let mut own = world.variables.clone();
    own.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let server = Server::start(&own);
    world.set("CONVEXINFRA_CONTROL_PLANE", &server.url);
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    world.set("CONVEXINFRA_TOKEN", &operator);
    let token = world.run_expecting(0, &["token", "create", "--project", "gremlin", "--scope", scope]).out.trim().to_owned();
    world.set("CONVEXINFRA_TOKEN", &token);
    (world.server, world.operator) = (Some(server), Some(operator));
    world
}

/// A database server that hangs up, and counts who came.
struct Door {
    port: u16,
    visits: Arc<AtomicUsize>,
}

impl Door {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&visits);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, visits }
    }

    fn count(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// Who asks for a lease.
fn holder() -> serde_json::Value {
    json!({ "user": "me", "host": "here", "process": 1 })
}

const ON_A_SERVER: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nstorage = { engine = \"postgres\", url = { env = \"DATABASE\" }, tls = \"disable\" }\n";

fn applied_to(world: &mut ProjectFixture, host: &str) -> CommandResult {
    world.set("DATABASE", &format!("postgres://me:pw@{host}"));
    let run = world.run(&["apply", "--yes", "--json"]);
    assert_eq!(run.code(), 1, "{run}");
    run
}

#[test]
fn a_server_looks_around_in_its_own_network_for_nobody() {
    let door = Door::open();
    let mut world = world_with(ON_A_SERVER, &[], "apply");
    let mut said = BTreeSet::new();
    // An open port, a closed one, a name that leads there, the mapped form, link-local, private, and no host at all.
    for host in [
        &format!("127.0.0.1:{}", door.port),
        "127.0.0.1:1",
        &format!("localhost:{}", door.port),
        &format!("[::ffff:127.0.0.1]:{}", door.port),
        "169.254.169.254:80",
        "10.0.0.1:5432",
        "nowhere.invalid:5432",
    ] {
        let run = applied_to(&mut world, host);
        let end = run.events().into_iter().find(|event| event["type"] == "step_finished" && event["status"] == "failed");
        let error = end.unwrap_or_else(|| panic!("{run}"))["error"].clone();
        assert_eq!(error["code"], "database.unreachable", "{run}");
        for word in [host, "127.0.0.1", "refused", "forbidden", "timed out"] {
            assert!(!run.out.contains(word) && !run.err.contains(word), "{word}: {run}");
        }
        said.insert(error.to_string());
    }
    assert_eq!(said.len(), 1, "the answers differ: {said:?}");
    assert_eq!(door.count(), 0, "somebody looked");
    // The operator, who has the log, is told.
    let log = world.server().log();
    assert!(log.contains(&format!("connects to no database server at localhost:{}", door.port)), "{log}");
}

#[test]
fn an_operator_allows_a_host_and_no_other() {
    let door = Door::open();
    let mut world = world_with(ON_A_SERVER, &[("CONVEXINFRA_ALLOW_DATABASE_HOSTS", "localhost")], "apply");
    applied_to(&mut world, &format!("127.0.0.1:{}", door.port));
    assert_eq!(door.count(), 0, "the rule is about a name");
    applied_to(&mut world, &format!("localhost:{}", door.port));
    assert_ne!(door.count(), 0, "the allowed host was not tried");
}

/// A pipe as a file of certificates would block its reader.
#[test]
fn a_path_of_the_control_plane_is_never_taken_from_a_client() {
    let mut world = world_with(ON_A_SERVER, &[], "apply");
    let pipe = world.root().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let url = world.server().url.clone();
    let token = world.variables["CONVEXINFRA_TOKEN"].clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let lease = client.post(format!("{url}/v1/projects/gremlin/lease")).bearer_auth(&token);
        let lease: serde_json::Value = lease.json(&holder()).send().await.unwrap().json().await.unwrap();
        let fence = lease["fence"].as_u64().unwrap_or_else(|| panic!("{lease}"));
        for (number, tls) in
            [json!({ "ca": pipe }), json!({ "ca": "/etc/shadow" }), json!({ "pem": "/etc/shadow" }), json!({ "pem": "" })]
                .into_iter()
                .enumerate()
        {
            let spec = json!({ "provider": "simulated",
                "storage": { "engine": "postgres", "url": { "env": "DATABASE" }, "tls": tls } });
            let work = json!({ "kind": "put", "spec": spec, "secrets": { "storage.url": "postgres://me:pw@db.example.com" } });
            let step = json!({ "plan": format!("plan{number}"), "step": "create" });
            let body = json!({ "step": step, "backend": "dev", "work": work });
            let sent = client.post(format!("{url}/v1/projects/gremlin/operations")).bearer_auth(&token);
            let sent = sent.header("convexinfra-fence", fence.to_string());
            let answer = sent.json(&body).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert!(matches!(status, 400 | 409 | 422) && !text.contains("conflict"), "{tls}: {status} {text}");
            assert!(text.contains("tls") || text.contains("certificate"), "{tls}: {text}");
            assert!(!text.contains("root:"), "{text}");
        }
    });
    assert_eq!(world.names(), Vec::<String>::new());
}

/// The store is locked by another process, as a backup does it: who only looks is answered meanwhile, and who writes is
/// answered afterwards; above the number that may wait, at once with when to come again.
#[test]
fn writers_that_wait_for_the_store_keep_nobody_from_looking() {
    const WRITERS: usize = 48;
    // The number of requests about one project that may wait, and so many more.
    const TOO_MANY: usize = 64 - WRITERS + 40;
    let mut world = world_with(
        "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\nsimulated = { listen = false }\n",
        &[],
        "apply",
    );
    world.apply();
    let url = world.server().url.clone();
    let token = world.variables["CONVEXINFRA_TOKEN"].clone();
    let operator = world.operator.clone().unwrap();
    let mut store = rusqlite::Connection::open(world.home.join("control-plane.sqlite3")).unwrap();
    let lock = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let sent = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (client, url, token) = (client.clone(), url.clone(), token.clone());
                let sent = Arc::clone(&sent);
                tokio::spawn(async move {
                    let call = client.post(format!("{url}/v1/projects/gremlin/lease")).bearer_auth(token);
                    sent.fetch_add(1, Ordering::SeqCst);
                    call.json(&holder()).send().await.unwrap().status().as_u16()
                })
            })
            .collect();
        while sent.load(Ordering::SeqCst) < WRITERS {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            for path in ["/healthz", "/readyz", "/v1/projects/gremlin", "/v1/projects/gremlin/events"] {
                let answer = client.get(format!("{url}{path}")).bearer_auth(&token).send().await.unwrap();
                assert_eq!(answer.status().as_u16(), 200, "{path}");
            }
        }
        assert!(writers.iter().all(|writer| !writer.is_finished()), "the store is locked, and somebody wrote");
        let mut more = tokio::task::JoinSet::new();
        for _ in 0..TOO_MANY {
            let call = client.post(format!("{url}/v1/projects/gremlin/lease")).bearer_auth(&token).json(&holder());
            more.spawn(async move { call.send().await.unwrap() });
        }
        // Those that may not wait are the first to be answered.
        for _ in 0..40 {
            let answer = more.join_next().await.unwrap().unwrap();
            assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
            assert!(answer.text().await.unwrap().contains("store.busy"));
        }
        let answer = client.get(format!("{url}/v1/projects/gremlin")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "who looks is answered while as many wait as may");
        let neighbour = client.post(format!("{url}/v1/projects/neighbour/lease")).bearer_auth(&operator).json(&holder());
        let neighbour = tokio::spawn(async move { neighbour.send().await.unwrap().status().as_u16() });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!neighbour.is_finished(), "another project waits with those that may");
        lock.rollback().unwrap();
        for writer in writers {
            // One of them gets the lease.
            assert!(matches!(writer.await.unwrap(), 200 | 201 | 409 | 423), "a writer got no answer");
        }
        assert_eq!(neighbour.await.unwrap(), 201);
    });
    world.run_expecting(0, &["status"]);
}
