//! How machines turn out when the world is told to be unkind.

use serde_json::{Value, json};

use super::client::{TestClient, machine};
use fake_fly::{Settings, life::State};

const NONE: Value = Value::Null;

#[tokio::test]
async fn omens_come_true() {
    let mut settings = Settings::friendly().hurried(20);
    settings.compatibility_check = true;
    let client = TestClient::new(settings);
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let make = async |name: &str| {
        let mut body = machine(name, "none");
        body["config"].as_object_mut().unwrap().remove("mounts");
        let made = client.want(200, "POST /apps/gremlin/machines", body).await;
        format!("/apps/gremlin/machines/{}", made["id"].as_str().unwrap())
    };
    client.fly.world().omens.launches_hang = true;
    let hanging = make("hanging").await;
    let waited = client.want(408, &format!("GET {hanging}/wait?state=settled&timeout=2"), NONE).await;
    assert!(waited["error"].as_str().unwrap().ends_with("currently starting"), "{waited}");
    client.fly.world().omens.launches_hang = false;
    client.fly.world().omens.launches_fail = true;
    let failed = make("failed").await;
    assert_eq!(client.want(200, &format!("GET {failed}/wait?state=settled"), NONE).await["state"], "failed");
    client.fly.world().omens.launches_fail = false;
    client.fly.world().omens.programs_end = true;
    let ended = make("ended").await;
    client.want(200, &format!("GET {ended}/wait?state=settled"), NONE).await;
    let events = client.want(200, &format!("GET {ended}/events"), NONE).await;
    assert_eq!(events[0]["request"]["exit_event"], json!({ "exit_code": 1 }), "what is zero is left out");
    client.fly.world().omens.programs_end = false;
    let sound = make("sound").await;
    client.want(200, &format!("GET {sound}/wait?state=settled"), NONE).await;
    let status = async || {
        let checks = client.want(200, &format!("GET {sound}"), NONE).await["checks"].clone();
        checks.as_array().unwrap().iter().filter_map(|check| check["status"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(status().await, ["passing", "warning"], "one that nobody configured is listed too");
    client.fly.world().omens.checks_fail = true;
    assert_eq!(status().await, ["critical", "warning"]);
    client.fly.world().omens.checks_missing = true;
    assert_eq!(status().await, [""; 0], "an empty list passes nothing");
    client.fly.world().omens.destruction_hangs = true;
    client.want(200, &format!("DELETE {sound}?force=true"), NONE).await;
    let waited = client.want(408, &format!("GET {sound}/wait?state=destroyed&timeout=1"), NONE).await;
    assert!(waited["error"].as_str().unwrap().ends_with("currently destroying"), "{waited}");
    let gone = client.fly.world().apps["gremlin"].machines.iter().filter(|machine| machine.state == State::Destroying).count();
    assert_eq!(gone, 1);
}
