//! One hostile tenant beside ten good ones: whatever its tokens let it send, in whatever number, the others go on and see no
//! failure of the server. What is asserted is that they end well, not how fast.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Target;
use super::policy_rules::RECORD;
use super::raw::{RawRequest, RawResponse};
use super::raw_project::{Project, lowered, manifest};

/// How many tenants work.
const GOOD: usize = 10;
/// How often each of them creates, looks at, changes and removes a backend.
const ROUNDS: usize = 3;
/// How long the hostile tenant goes on at most.
const LIMIT: Duration = Duration::from_secs(120);
/// The address of the hostile tenant, which has none in common with the others.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));
/// How many of its requests are under way at once, of each kind.
const WRITERS: usize = 160;
const READERS: usize = 24;
const STREAMS: usize = 16;
const CONNECTIONS: usize = 8;
const STALLED: usize = 40;

/// A backend that exists as a record, so that its operations end at once, with these fields changed.
fn record(fields: &Value) -> Value {
    let mut spec = lowered(&manifest("tenant", RECORD, ""));
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "kind": "put", "spec": spec, "secrets": {} })
}

/// Fails where an answer is not what the contract says; what the hostile tenant does is no excuse.
fn expect(what: &str, answer: &RawResponse, statuses: &[u16]) {
    assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
}

/// One good tenant's work.
fn work(project: &Project<'_>, target: &Target, name: &str) {
    let get = |rest: &str| {
        let path = format!("/v1/projects/{name}{rest}");
        RawRequest::new("GET", &path).token(Some(&project.apply)).send(target.address)
    };
    for round in 0..ROUNDS {
        for lines in [json!({}), json!({ "dashboard": true })] {
            expect("put", &project.operate(&project.apply, "dev", None, &record(&lines)), &[200, 202]);
            project.settle();
            project.renew();
        }
        expect("snapshot", &get(""), &[200]);
        expect("history", &get("/events?limit=20"), &[200]);
        expect("quota", &get("/quota"), &[200]);
        let recorded = project.recorded();
        assert_eq!(recorded[0][2], "ready", "{name} in round {round}: {recorded}");
        let remove = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
        expect("remove", &project.operate(&project.destroy, "dev", None, &remove), &[200, 202]);
        project.settle();
        assert_eq!(project.recorded(), json!([]), "{name} in round {round}");
        project.renew();
    }
}

/// What the hostile tenant does, until it is told to stop.
struct Hostile {
    address: SocketAddr,
    apply: String,
    fence: u64,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    started: Instant,
}

impl Hostile {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let hostile = Arc::new(self);
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            let connections: Vec<_> = (0..CONNECTIONS).map(|_| Self::connection()).collect();
            for (number, client) in (0..WRITERS + READERS + STREAMS).zip(connections.iter().cycle()) {
                let (hostile, client) = (Arc::clone(&hostile), client.clone());
                tasks.spawn(async move { hostile.press(&client, number).await });
            }
            while tasks.join_next().await.is_some() {}
        });
    }

    /// A connection with many requests in it.
    fn connection() -> reqwest::Client {
        let client = reqwest::Client::builder().no_proxy().local_address(ELSEWHERE).http2_prior_knowledge();
        client.timeout(Duration::from_secs(20)).build().unwrap()
    }

    async fn press(&self, client: &reqwest::Client, number: usize) {
        let base = format!("http://{}/v1/projects/hostile", self.address);
        let long = "x".repeat(8000);
        let mut round = 0;
        while !self.stop.load(Ordering::SeqCst) && self.started.elapsed() < LIMIT {
            round += 1;
            let request = if number < WRITERS {
                match (number + round) % 4 {
                    0 => client.post(format!("{base}/lease")).json(&json!({ "user": "m", "host": "m", "process": round })),
                    1 => client.put(format!("{base}/lease")),
                    2 => client.put(format!("{base}/origin")).json(&json!({ "origin": long, "claim": "take_over" })),
                    _ => {
                        let lines = json!({ "env": { "A": { "literal": format!("{long}{round}") } } });
                        let step = json!({ "plan": format!("h{number}"), "step": format!("s{round}") });
                        let backend = format!("b{}", number % 50);
                        client
                            .post(format!("{base}/operations"))
                            .json(&json!({ "step": step, "backend": backend, "work": record(&lines) }))
                    }
                }
            } else if number < WRITERS + READERS {
                let rest = ["", "/events/check", "/events?limit=1000", "/operations?limit=1000", "/backends"][round % 5];
                client.get(format!("{base}{rest}"))
            } else {
                client.get(format!("{base}/operations/{}/events", number % 60 + 1))
            };
            let request = request.bearer_auth(&self.apply).header("convexinfra-fence", self.fence);
            self.sent.fetch_add(1, Ordering::SeqCst);
            if let Ok(answer) = request.send().await {
                let _ = answer.bytes().await;
            }
        }
    }

    /// Announces bodies that never come.
    fn stall(address: SocketAddr, token: &str) -> Vec<TcpStream> {
        let head = format!(
            "POST /v1/projects/hostile/operations HTTP/1.1\r\nHost: control.test\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{{"
        );
        let open = |_| {
            let mut stream = TcpStream::connect(address).ok()?;
            std::io::Write::write_all(&mut stream, head.as_bytes()).ok()?;
            Some(stream)
        };
        (0..STALLED).filter_map(open).collect()
    }
}

#[test]
fn one_hostile_tenant_keeps_ten_good_ones_from_nothing() {
    let target = Target::new();
    let names: Vec<String> = (0..GOOD).map(|number| format!("good-{number}")).collect();
    let mallory = Project::new(&target, "hostile".to_owned());
    let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let hostile = Hostile {
        address: target.address,
        apply: mallory.apply.clone(),
        fence: mallory.fence(),
        sent: Arc::clone(&sent),
        stop: Arc::clone(&stop),
        started: Instant::now(),
    };
    let stalled = Hostile::stall(target.address, &mallory.apply);
    let attack = std::thread::spawn(move || hostile.run());
    fixture::wait_until("the attack has begun", || sent.load(Ordering::SeqCst) > WRITERS);
    let ended = std::thread::scope(|scope| {
        let target = &target;
        let tenants: Vec<_> = names
            .iter()
            .map(|name| {
                scope.spawn(move || {
                    let project = Project::new(target, name.clone());
                    work(&project, target, name);
                    target.assert_healthy();
                })
            })
            .collect();
        tenants.into_iter().map(std::thread::ScopedJoinHandle::join).filter(Result::is_ok).count()
    });
    stop.store(true, Ordering::SeqCst);
    attack.join().unwrap();
    drop(stalled);
    assert_eq!(ended, GOOD, "good tenants ended beside {} hostile requests", sent.load(Ordering::SeqCst));
    target.assert_well();
}
