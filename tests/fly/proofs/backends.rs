//! Machines that run a backend, and the ways to it.

use std::process::Command;

use convexinfra::convex::admin_key::{InstanceSecret, KeyKind, issue};
use convexinfra::convex::deployment::{Connections, Readiness, ready};
use serde_json::{Value, json};

use super::asker::{Asker, machine, volume};
use crate::fly::Settings;
use crate::fly::standalone::Standalone;

#[tokio::test]
async fn a_machine_is_a_backend_at_the_url_of_its_app() {
    let secret = InstanceSecret::new([7; 32]);
    let asker = Asker::new(Settings::friendly().with_processes());
    asker.want(201, "POST /apps", json!({ "name": "gremlin-dev", "org_slug": "acme" })).await;
    let values = json!({ "values": { "INSTANCE_SECRET": hex::encode([7; 32]) } });
    asker.want(200, "POST /apps/gremlin-dev/secrets", values).await;
    let data = asker.want(200, "POST /apps/gremlin-dev/volumes", volume()).await;
    let made = asker.want(200, "POST /apps/gremlin-dev/machines", machine("convex", data["id"].as_str().unwrap())).await;
    let machine = format!("/apps/gremlin-dev/machines/{}", made["id"].as_str().unwrap());
    asker.want(200, &format!("GET {machine}/wait?state=settled"), Value::Null).await;
    asker.until(&format!("GET {machine}"), |shown| shown["checks"][0]["status"] == "passing").await;

    let url = "https://gremlin-dev.fly.dev/instance_name";
    let client = asker.fly.client();
    assert!(client.get(url).send().await.is_err(), "without an address there is no name");
    for kind in ["v6", "shared_v4"] {
        asker.want(200, "POST /apps/gremlin-dev/ip_assignments", json!({ "type": kind })).await;
    }
    assert_eq!(client.get(url).send().await.unwrap().text().await.unwrap(), "gremlin-dev");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "10", url]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let curl = curl.envs(asker.fly.environment()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "gremlin-dev", "{curl:?}");
    let key = issue("gremlin-dev", &secret, KeyKind::Admin { member_id: 0 }, 1, [0; 12]);
    let plain = asker.fly.app_url("gremlin-dev");
    let readiness = ready(&Connections::default(), &plain, "gremlin-dev", &key).await;
    assert!(matches!(readiness, Readiness::Ready), "{readiness:?}");

    let stop = json!({ "signal": "SIGINT", "timeout": "30s" });
    asker.want(200, &format!("POST {machine}/stop"), stop).await;
    let version = made["instance_id"].as_str().unwrap();
    asker.want(200, &format!("GET {machine}/wait?state=stopped&instance_id={version}"), Value::Null).await;
    assert_eq!(client.get(url).send().await.unwrap().status().as_u16(), 503);
}

#[tokio::test]
async fn data_outlives_machines_and_not_volumes() {
    let asker = Asker::new(Settings::friendly().with_processes());
    let (machine, volume) = asker.machine("gremlin-dev").await;
    let line = format!("GET /apps/gremlin-dev/machines/{machine}");
    asker.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;
    let directory = asker.fly.world().apps["gremlin-dev"].volumes[0].directory.clone();
    assert!(directory.join("db.sqlite3").exists());
    asker.want(200, &format!("DELETE /apps/gremlin-dev/machines/{machine}?force=true"), Value::Null).await;
    asker.until(&line, |shown| shown["state"] == "destroyed").await;
    assert!(directory.join("db.sqlite3").exists());
    let fork = json!({ "name": "data", "region": "iad", "source_volume_id": volume, "require_unique_zone": true });
    let fork = asker.want(200, "POST /apps/gremlin-dev/volumes", fork).await;
    assert_eq!(fork["state"], "hydrating");
    assert_ne!(fork["zone"], "iad-1", "a fork goes to another host");
    let directories: Vec<_> = asker.fly.world().apps["gremlin-dev"].volumes.iter().map(|v| v.directory.clone()).collect();
    assert!(directories[1].join("db.sqlite3").exists(), "a fork has the data");
}

#[tokio::test]
async fn a_program_that_ends_is_started_again() {
    let asker = Asker::new(Settings::friendly().with_processes());
    let (machine, _) = asker.machine("gremlin-dev").await;
    let line = format!("GET /apps/gremlin-dev/machines/{machine}");
    asker.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;
    crate::fly::life::kill_program(&mut asker.fly.world(), "gremlin-dev");
    asker.until(&line, |shown| shown["events"].to_string().contains("exit_event")).await;
    let shown = asker.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;
    let kinds: Vec<&str> = shown["events"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["start", "exit", "start", "launch"], "the newest event comes first");
}

/// The same in a process of its own, for commands: nothing but the environment says that this is not Fly.io.
#[tokio::test]
async fn a_standalone_one_is_told_things_over_the_wire() {
    let fly = Standalone::start();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = |path: &str| format!("{}{path}", fly.text("url"));
    let get = |path: &str| client.get(url(path)).bearer_auth(fly.text("token")).send();
    assert_eq!(get("/apps/gremlin-dev").await.unwrap().status().as_u16(), 404);
    let control = fly.text("control");
    let change = json!({ "foreign_apps": ["gremlin-dev"], "omens": { "checks_fail": true } });
    client.post(format!("{control}/world")).json(&change).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(get("/apps/gremlin-dev").await.unwrap().status().as_u16(), 403);
    let fault =
        json!({ "path": "/v1/apps/**", "times": 1, "outcome": { "answer": { "status": 502, "body": { "text": "bad" } } } });
    client.post(format!("{control}/faults")).json(&fault).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(get("/apps/gremlin-dev").await.unwrap().text().await.unwrap(), "bad");
    let wrong = client.post(format!("{control}/faults")).json(&json!({ "pth": "/" })).send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 400);
    let seen = client.get(format!("{control}/requests")).send().await.unwrap().text().await.unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    let statuses: Vec<u64> = seen.as_array().unwrap().iter().filter_map(|seen| seen["status"].as_u64()).collect();
    assert_eq!(statuses, [404, 403, 502]);
    let violations = client.get(format!("{control}/violations")).send().await.unwrap().text().await.unwrap();
    assert_eq!(violations, "[]");
}
