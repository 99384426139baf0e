//! How machines turn out when the world is told to be unkind.

use serde_json::{Value, json};

use super::client::{TestClient, machine};
use fake_fly::{Settings, life::State};

const NONE: Value = Value::Null;

#[tokio::test]
async fn omens_come_true() {
    let mut settings = Settings::friendly().hurried(20);
    settings.compatibility_check = true;
    let asker = TestClient::new(settings);
    asker.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let make = async |name: &str| {
        let mut body = machine(name, "none");
        body["config"].as_object_mut().unwrap().remove("mounts");
        let made = asker.want(200, "POST /apps/gremlin/machines", body).await;
        format!("/apps/gremlin/machines/{}", made["id"].as_str().unwrap())
    };
    asker.fly.world().omens.launches_hang = true;
    let hanging = make("hanging").await;
    let waited = asker.want(408, &format!("GET {hanging}/wait?state=settled&timeout=2"), NONE).await;
    assert!(waited["error"].as_str().unwrap().ends_with("currently starting"), "{waited}");
    asker.fly.world().omens.launches_hang = false;
    asker.fly.world().omens.launches_fail = true;
    let failed = make("failed").await;
    assert_eq!(asker.want(200, &format!("GET {failed}/wait?state=settled"), NONE).await["state"], "failed");
    asker.fly.world().omens.launches_fail = false;
    asker.fly.world().omens.programs_end = true;
    let ended = make("ended").await;
    asker.want(200, &format!("GET {ended}/wait?state=settled"), NONE).await;
    let events = asker.want(200, &format!("GET {ended}/events"), NONE).await;
    assert_eq!(events[0]["request"]["exit_event"], json!({ "exit_code": 1 }), "what is zero is left out");
    asker.fly.world().omens.programs_end = false;
    let sound = make("sound").await;
    asker.want(200, &format!("GET {sound}/wait?state=settled"), NONE).await;
    let status = async || {
        let checks = asker.want(200, &format!("GET {sound}"), NONE).await["checks"].clone();
        checks.as_array().unwrap().iter().filter_map(|check| check["status"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(status().await, ["passing", "warning"], "one that nobody configured is listed too");
    asker.fly.world().omens.checks_fail = true;
    assert_eq!(status().await, ["critical", "warning"]);
    asker.fly.world().omens.checks_missing = true;
    assert_eq!(status().await, [""; 0], "an empty list passes nothing");
    asker.fly.world().omens.destruction_hangs = true;
    asker.want(200, &format!("DELETE {sound}?force=true"), NONE).await;
    let waited = asker.want(408, &format!("GET {sound}/wait?state=destroyed&timeout=1"), NONE).await;
    assert!(waited["error"].as_str().unwrap().ends_with("currently destroying"), "{waited}");
    let gone = asker.fly.world().apps["gremlin"].machines.iter().filter(|machine| machine.state == State::Destroying).count();
    assert_eq!(gone, 1);
}
