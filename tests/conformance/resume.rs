//! A Worker that is killed again and again while it makes backends on Fly: each is made once, and none is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use convexinfra::manifest;
use serde_json::{Value, json};

use super::conversation::{Answer, ask, try_ask};
use super::outside::Outside;
use super::worker::{Reach, Worker};
use fake_fly::settings::TOKEN;
use fake_fly::{FakeFly, Settings};

const PROJECT: &str = "/v1/projects/gremlin";
/// Longer than anything here takes, even on a machine that has much else to do.
const DEADLINE: Duration = Duration::from_secs(600);

/// How many backends are made; more of them with `CONVEXINFRA_WORKER_PROVISIONS`.
fn count() -> usize {
    std::env::var("CONVEXINFRA_WORKER_PROVISIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

fn put(index: usize) -> Value {
    let image = format!("ghcr.io/get-convex/convex-backend@sha256:{}", "ab".repeat(32));
    let text = format!(
        "project = \"gremlin\"\n[backends.b{index}]\nprovider = \"fly\"\nregion = \"iad\"\nfly = {{ org = \"acme\", image = \"{image}\" }}\n"
    );
    let parsed = manifest::parse(&text, None).unwrap_or_else(|problems| panic!("{problems:?}"));
    let spec = &parsed.desired.backends.values().next().unwrap().spec;
    json!({
        "step": { "plan": "p1", "step": format!("s{index}") },
        "backend": format!("b{index}"),
        "work": { "kind": "put", "spec": spec, "secrets": {} },
    })
}

/// Draws pauses that are the same in every run.
struct Dice(u64);

impl Dice {
    fn pause(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(150 + (self.0 >> 33) % 900)
    }
}

/// A client that retries until it is answered.
struct Client<'a> {
    worker: &'a mut Worker,
    token: String,
    fence: String,
}

impl Client<'_> {
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Answer> {
        let text = body.map(|body| serde_json::to_vec(body).unwrap());
        let headers = [("content-type", "application/json"), ("convexinfra-fence", self.fence.as_str())];
        let answer = try_ask(&self.worker.url(), method, path, Some(&self.token), &headers, text.as_deref()).ok()?;
        (answer.status < 500).then_some(answer)
    }

    /// Takes the lease, or keeps it.
    fn hold(&mut self) {
        if self.send("PUT", &format!("{PROJECT}/lease"), None).is_some_and(|answer| answer.status == 204) {
            return;
        }
        let holder = json!({ "user": "ann", "host": "desk", "process": 1 });
        if let Some(answer) =
            self.send("POST", &format!("{PROJECT}/lease"), Some(&holder)).filter(|answer| answer.status == 201)
        {
            self.fence = answer.json()["fence"].to_string();
        }
    }
}

#[test]
fn killed_again_and_again_it_makes_every_backend_once() {
    let fly = FakeFly::start(Settings::friendly().with_processes().hurried(20));
    let outside = Outside::start(&fly);
    let reach = Reach { address: outside.address, token: TOKEN };
    let Some(mut worker) = Worker::start(Some(&reach)) else { return };
    let operator = worker.initialise();
    let request = json!({ "project": "gremlin", "scope": "destroy" });
    let issued = ask(
        &worker.url(),
        "POST",
        "/v1/tokens",
        Some(&operator),
        &[("content-type", "application/json")],
        Some(request.to_string().as_bytes()),
    );
    let token = issued.json()["token"].as_str().unwrap().to_owned();
    let mut client = Client { worker: &mut worker, token, fence: "0".to_owned() };
    let (mut dice, mut kills, began) = (Dice(7), 0, Instant::now());
    let mut accepted = BTreeSet::new();
    let mut next = began + dice.pause();
    let done = loop {
        assert!(began.elapsed() < DEADLINE, "{}", client.worker.log());
        if Instant::now() >= next && kills < 2 * count() {
            client.worker.kill();
            client.worker.run();
            kills += 1;
            next = Instant::now() + dice.pause();
        }
        client.hold();
        for index in 0..count() {
            if !accepted.contains(&index)
                && let Some(answer) = client.send("POST", &format!("{PROJECT}/operations"), Some(&put(index)))
                && [200, 202].contains(&answer.status)
            {
                accepted.insert(index);
            }
        }
        if accepted.len() == count()
            && let Some(answer) = client.send("GET", &format!("{PROJECT}/operations?limit=500"), None)
        {
            let operations = answer.json();
            let operations = operations.as_array().unwrap().clone();
            assert!(operations.iter().all(|one| one["state"] != "failed"), "{operations:?}\n{}", client.worker.log());
            if operations.iter().all(|one| one["state"] == "done") {
                break operations;
            }
        }
    };
    assert_eq!(done.len(), count(), "an operation for each, none twice");
    assert!(kills > 0);
    {
        let world = fly.world();
        assert_eq!(world.apps.len(), count(), "{:?}", world.apps.keys());
        for app in world.apps.values() {
            assert_eq!((app.machines.len(), app.volumes.len()), (1, 1), "{}", app.name);
        }
    }
    let project = client.send("GET", PROJECT, None).unwrap().json();
    let running = project["backends"].as_array().unwrap().iter().filter(|one| one["phase"] == "ready").count();
    assert_eq!(running, count(), "{project}");
    let check = client.send("GET", &format!("{PROJECT}/events/check"), None).unwrap().json();
    assert_eq!(check["breaks"], json!([]));
}
