//! Machines that run a backend, and the ways to it.

use std::process::Command;

use convexinfra::convex::admin_key::{InstanceSecret, KeyKind, issue};
use convexinfra::convex::deployment::DeploymentClient;
use convexinfra::convex::readiness::{Readiness, probe_readiness};
use serde_json::{Value, json};

use super::client::{TestClient, machine, volume};
use crate::standalone::Standalone;
use fake_fly::Settings;

#[tokio::test]
async fn a_machine_is_a_backend_at_the_url_of_its_app() {
    let secret = InstanceSecret::new([7; 32]);
    let client = TestClient::new(Settings::friendly().with_processes());
    client.want(201, "POST /apps", json!({ "name": "gremlin-dev", "org_slug": "acme" })).await;
    let values = json!({ "values": { "INSTANCE_SECRET": hex::encode([7; 32]) } });
    client.want(200, "POST /apps/gremlin-dev/secrets", values).await;
    let data = client.want(200, "POST /apps/gremlin-dev/volumes", volume()).await;
    let made = client.want(200, "POST /apps/gremlin-dev/machines", machine("convex", data["id"].as_str().unwrap())).await;
    let machine = format!("/apps/gremlin-dev/machines/{}", made["id"].as_str().unwrap());
    client.want(200, &format!("GET {machine}/wait?state=settled"), Value::Null).await;
    client.until(&format!("GET {machine}"), |shown| shown["checks"][0]["status"] == "passing").await;

    let url = "https://gremlin-dev.fly.dev/instance_name";
    let http = client.fly.client();
    assert!(http.get(url).send().await.is_err(), "without an address there is no name");
    for kind in ["v6", "shared_v4"] {
        client.want(200, "POST /apps/gremlin-dev/ip_assignments", json!({ "type": kind })).await;
    }
    assert_eq!(http.get(url).send().await.unwrap().text().await.unwrap(), "gremlin-dev");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "10", url]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let curl = curl.envs(client.fly.environment()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "gremlin-dev", "{curl:?}");
    let key = issue("gremlin-dev", &secret, KeyKind::Admin { member_id: 0 }, 1, [0; 12]).unwrap();
    let plain = client.fly.app_url("gremlin-dev");
    let readiness = probe_readiness(&DeploymentClient::default(), &plain, "gremlin-dev", &key).await;
    assert!(matches!(readiness, Readiness::Ready), "{readiness:?}");

    let stop = json!({ "signal": "SIGINT", "timeout": "30s" });
    client.want(200, &format!("POST {machine}/stop"), stop).await;
    let version = made["instance_id"].as_str().unwrap();
    client.want(200, &format!("GET {machine}/wait?state=stopped&instance_id={version}"), Value::Null).await;
    assert_eq!(http.get(url).send().await.unwrap().status().as_u16(), 503);
}

#[tokio::test]
async fn an_image_of_the_dashboard_is_a_page_and_a_hostname_of_ones_own_leads_to_it() {
    let client = TestClient::new(Settings::friendly().with_processes());
    client.want(201, "POST /apps", json!({ "name": "gremlin-dash", "org_slug": "acme" })).await;
    client.want(200, "POST /apps/gremlin-dash/ip_assignments", json!({ "type": "shared_v4" })).await;
    let mut body = machine("dashboard", "none");
    body["config"].as_object_mut().unwrap().remove("mounts");
    body["config"]["image"] = json!("ghcr.io/get-convex/convex-dashboard:latest");
    let service = &mut body["config"]["services"][0];
    (service["internal_port"], service["checks"][0]["port"]) = (json!(6791), json!(6791));
    service["checks"][0]["path"] = json!("/");
    let made = client.want(200, "POST /apps/gremlin-dash/machines", body).await;
    let line = format!("GET /apps/gremlin-dash/machines/{}", made["id"].as_str().unwrap());
    client.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;

    let http = client.fly.client();
    let url = "https://dash.gremlin.dev/";
    let acme = client.want(201, "POST /apps/gremlin-dash/certificates/acme", json!({ "hostname": "dash.gremlin.dev" })).await;
    assert!(http.get(url).send().await.is_err(), "nothing is there before the records are");
    let target = vec![acme["dns_requirements"]["cname"].as_str().unwrap().to_owned()];
    client.fly.world().dns.insert("dash.gremlin.dev".to_owned(), target);
    client.want(200, "POST /apps/gremlin-dash/certificates/dash.gremlin.dev/check", Value::Null).await;
    for url in [url, "https://gremlin-dash.fly.dev/"] {
        assert_eq!(http.get(url).send().await.unwrap().text().await.unwrap(), "the dashboard");
    }
    client.want(200, &format!("{}/cordon", line.replace("GET", "POST")), Value::Null).await;
    assert_eq!(http.get(url).send().await.unwrap().status().as_u16(), 503, "a cordoned machine is not led to");
    let elsewhere = http.get("https://gremlin-dash.fly.dev:3211/").send().await.unwrap();
    assert_eq!(elsewhere.status().as_u16(), 503, "no service has this port");
}

/// What is asked about images and releases on the way to a machine.
#[tokio::test]
async fn tags_have_digests_and_releases_have_commits() {
    let client = TestClient::new(Settings::friendly());
    let http = client.fly.client();
    let host = "https://ghcr.io";
    let pass: Value =
        serde_json::from_str(&http.get(format!("{host}/token")).send().await.unwrap().text().await.unwrap()).unwrap();
    let manifest = |repository: &str| http.get(format!("{host}/v2/{repository}/manifests/latest"));
    let token = pass["token"].as_str().unwrap();
    let found = manifest("get-convex/convex-backend").bearer_auth(token).send().await.unwrap();
    let digest = found.headers()["docker-content-digest"].to_str().unwrap().to_owned();
    assert_eq!(manifest("get-convex/convex-backend").send().await.unwrap().status().as_u16(), 401);
    assert_eq!(manifest("acme/unpullable").bearer_auth(token).send().await.unwrap().status().as_u16(), 404);
    let commits = "https://api.github.com/repos/get-convex/convex-backend/commits/652b828";
    let commit = http.get(commits).send().await.unwrap().text().await.unwrap();
    assert!(commit.starts_with("652b828") && commit.len() == 40);
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let mut body = machine("convex", "none");
    body["config"].as_object_mut().unwrap().remove("mounts");
    body["config"]["image"] = json!("ghcr.io/get-convex/convex-backend:latest");
    let made = client.want(200, "POST /apps/gremlin/machines", body).await;
    assert_eq!(made["image_ref"]["digest"], digest, "Fly finds the same");
}

#[tokio::test]
async fn data_outlives_machines_and_not_volumes() {
    let client = TestClient::new(Settings::friendly().with_processes());
    let (machine, volume) = client.machine("gremlin-dev").await;
    let line = format!("GET /apps/gremlin-dev/machines/{machine}");
    client.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;
    let directory = client.fly.world().apps["gremlin-dev"].volumes[0].directory.clone();
    assert!(directory.join("db.sqlite3").exists());
    client.want(200, &format!("DELETE /apps/gremlin-dev/machines/{machine}?force=true"), Value::Null).await;
    client.until(&line, |shown| shown["state"] == "destroyed").await;
    assert!(directory.join("db.sqlite3").exists());
    let fork = json!({ "name": "data", "region": "iad", "source_volume_id": volume, "require_unique_zone": true });
    let fork = client.want(200, "POST /apps/gremlin-dev/volumes", fork).await;
    assert_eq!(fork["state"], "hydrating");
    assert_ne!(fork["zone"], "iad-1", "a fork goes to another host");
    let directories: Vec<_> = client.fly.world().apps["gremlin-dev"].volumes.iter().map(|v| v.directory.clone()).collect();
    assert!(directories[1].join("db.sqlite3").exists(), "a fork has the data");
}

#[tokio::test]
async fn a_program_that_ends_is_started_again() {
    let client = TestClient::new(Settings::friendly().with_processes());
    let (machine, _) = client.machine("gremlin-dev").await;
    let line = format!("GET /apps/gremlin-dev/machines/{machine}");
    client.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;
    fake_fly::life::kill_program(&mut client.fly.world(), "gremlin-dev");
    client.until(&line, |shown| shown["events"].to_string().contains("exit_event")).await;
    let shown = client.until(&line, |shown| shown["checks"][0]["status"] == "passing").await;
    let kinds: Vec<&str> = shown["events"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["start", "exit", "start", "launch"], "the newest event comes first");
}

/// The same in a process of its own, for commands: nothing but the environment says that this is not Fly.io.
#[tokio::test]
async fn a_standalone_fake_is_controlled_over_http() {
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
