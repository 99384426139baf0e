//! Faults that were ordered: which requests they hit, and what is left afterwards.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{TestClient, machine};
use fake_fly::{Fault, Reply, Settings, Shortage};

const NONE: Value = Value::Null;
const MACHINES: &str = "/v1/apps/*/machines";

fn plain() -> Value {
    let mut body = machine("convex", "none");
    body["config"].as_object_mut().unwrap().remove("mounts");
    body
}

async fn app() -> TestClient {
    let asker = TestClient::new(Settings::friendly());
    asker.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    asker
}

async fn count(asker: &TestClient) -> usize {
    asker.want(200, "GET /apps/gremlin/machines", NONE).await.as_array().unwrap().len()
}

#[tokio::test]
async fn an_answer_can_be_another_one_before_and_after_the_effect() {
    let asker = app().await;
    asker.fly.order(Fault::answer("POST", MACHINES, Reply::error(408, "deadline_exceeded: request timed out")));
    asker.want(408, "POST /apps/gremlin/machines", plain()).await;
    assert_eq!(count(&asker).await, 0);
    asker.fly.order(Fault::answer("POST", MACHINES, Reply::text(502, "<html>Bad Gateway</html>")).after_the_effect());
    assert_eq!(asker.want(502, "POST /apps/gremlin/machines", plain()).await, "<html>Bad Gateway</html>");
    assert_eq!(count(&asker).await, 1, "the machine is there all the same");
    asker.want(409, "POST /apps/gremlin/machines", plain()).await;
}

#[tokio::test]
async fn a_connection_can_end_before_and_after_the_effect() {
    let asker = app().await;
    asker.fly.order(Fault::dropped("POST", MACHINES));
    assert!(asker.try_to_ask("POST /apps/gremlin/machines", plain(), None).await.is_err());
    assert_eq!(count(&asker).await, 0);
    asker.fly.order(Fault::answer_lost("POST", MACHINES));
    assert!(asker.try_to_ask("POST /apps/gremlin/machines", plain(), None).await.is_err());
    assert_eq!(count(&asker).await, 1);
    let statuses: Vec<u16> = asker.fly.requests().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [201, 0, 200, 0, 200]);
}

#[tokio::test]
async fn rules_fit_paths_skip_and_end() {
    let asker = app().await;
    asker.fly.order(Fault::shortage("GET", "/v1/apps/*/volumes", Shortage::NoCapacity).after(1).times(2));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(asker.ask("GET /apps/gremlin/volumes", NONE).await.0);
    }
    assert_eq!(statuses, [200, 409, 409, 200]);
    assert!(asker.fly.outstanding().is_empty());
    asker.fly.order(Fault::answer("GET", "/v1/apps/**", Reply::empty(500)).always());
    asker.want(500, "GET /apps/gremlin/machines/1/wait", NONE).await;
    asker.want(200, "GET /tokens/current", NONE).await;
    asker.fly.order(Fault::answer("POST", "/v1/apps/other/machines", Reply::empty(500)));
    assert_eq!(asker.fly.outstanding().len(), 1, "what never happened is found");
    assert_eq!(asker.fly.count("GET", "/v1/apps/*/volumes"), 4);
}

#[tokio::test]
async fn an_answer_can_be_late() {
    let asker = app().await;
    let delay = Duration::from_millis(80);
    asker.fly.order(Fault::late("GET", "/v1/apps/gremlin", delay));
    let began = Instant::now();
    asker.want(200, "GET /apps/gremlin", NONE).await;
    assert!(began.elapsed() >= delay);
}
