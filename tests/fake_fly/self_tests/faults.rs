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
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    client
}

async fn count(client: &TestClient) -> usize {
    client.want(200, "GET /apps/gremlin/machines", NONE).await.as_array().unwrap().len()
}

#[tokio::test]
async fn an_answer_can_be_another_one_before_and_after_the_effect() {
    let client = app().await;
    client.fly.order(Fault::answer("POST", MACHINES, Reply::error(408, "deadline_exceeded: request timed out")));
    client.want(408, "POST /apps/gremlin/machines", plain()).await;
    assert_eq!(count(&client).await, 0);
    client.fly.order(Fault::answer("POST", MACHINES, Reply::text(502, "<html>Bad Gateway</html>")).after_the_effect());
    assert_eq!(client.want(502, "POST /apps/gremlin/machines", plain()).await, "<html>Bad Gateway</html>");
    assert_eq!(count(&client).await, 1, "the machine is there all the same");
    client.want(409, "POST /apps/gremlin/machines", plain()).await;
}

#[tokio::test]
async fn a_connection_can_end_before_and_after_the_effect() {
    let client = app().await;
    client.fly.order(Fault::dropped("POST", MACHINES));
    assert!(client.try_to_ask("POST /apps/gremlin/machines", plain(), None).await.is_err());
    assert_eq!(count(&client).await, 0);
    client.fly.order(Fault::answer_lost("POST", MACHINES));
    assert!(client.try_to_ask("POST /apps/gremlin/machines", plain(), None).await.is_err());
    assert_eq!(count(&client).await, 1);
    let statuses: Vec<u16> = client.fly.requests().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [201, 0, 200, 0, 200]);
}

#[tokio::test]
async fn rules_fit_paths_skip_and_end() {
    let client = app().await;
    client.fly.order(Fault::shortage("GET", "/v1/apps/*/volumes", Shortage::NoCapacity).after(1).times(2));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.ask("GET /apps/gremlin/volumes", NONE).await.0);
    }
    assert_eq!(statuses, [200, 409, 409, 200]);
    assert!(client.fly.outstanding().is_empty());
    client.fly.order(Fault::answer("GET", "/v1/apps/**", Reply::empty(500)).always());
    client.want(500, "GET /apps/gremlin/machines/1/wait", NONE).await;
    client.want(200, "GET /tokens/current", NONE).await;
    client.fly.order(Fault::answer("POST", "/v1/apps/other/machines", Reply::empty(500)));
    assert_eq!(client.fly.outstanding().len(), 1, "what never happened is found");
    assert_eq!(client.fly.count("GET", "/v1/apps/*/volumes"), 4);
}

#[tokio::test]
async fn an_answer_can_be_late() {
    let client = app().await;
    let delay = Duration::from_millis(80);
    client.fly.order(Fault::late("GET", "/v1/apps/gremlin", delay));
    let began = Instant::now();
    client.want(200, "GET /apps/gremlin", NONE).await;
    assert!(began.elapsed() >= delay);
}
