//! What broke the drivers of others, done here as they did it: each trap is set, and each has its way out.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{TestClient, machine, volume};
use fake_fly::{Fault, Reply, Settings, Shortage};

const NONE: Value = Value::Null;

/// The state of a driver lost the volume's identifier, and a start made an empty volume over live data.
#[tokio::test]
async fn a_lookup_that_fails_or_lags_looks_like_nothing_there() {
    let client = TestClient::new(Settings { list_lag: 1, ..Settings::friendly() });
    let (_, volume) = client.machine("gremlin").await;
    assert_eq!(client.want(200, "GET /apps/gremlin/volumes", NONE).await, json!([]), "once empty is no proof");
    client.fly.order(Fault::answer("GET", "/v1/apps/gremlin/volumes", Reply::text(503, "upstream connect error")));
    assert_eq!(client.ask("GET /apps/gremlin/volumes", NONE).await.0, 503, "a failure is no proof either");
    assert_eq!(client.want(200, "GET /apps/gremlin/volumes", NONE).await[0]["id"], volume);
}

/// A create that was answered with 408 was done all the same: a retry under another name makes a second one.
#[tokio::test]
async fn an_ambiguous_create_is_found_by_its_fixed_name() {
    let client = TestClient::new(Settings { list_lag: 1, ..Settings::friendly() });
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let made = client.want(200, "POST /apps/gremlin/volumes", volume()).await;
    let body = machine("convex", made["id"].as_str().unwrap());
    let timeout = Reply::error(408, "deadline_exceeded: request timed out");
    client.fly.order(Fault::answer("POST", "/v1/apps/*/machines", timeout).after_the_effect());
    client.want(408, "POST /apps/gremlin/machines", body.clone()).await;
    assert_eq!(client.want(200, "GET /apps/gremlin/machines", NONE).await, json!([]), "once empty is no proof");
    let refused = client.want(409, "POST /apps/gremlin/machines", body).await;
    let listed = client.want(200, "GET /apps/gremlin/machines?metadata.managed_by=convexinfra", NONE).await;
    assert!(refused["error"].as_str().unwrap().contains(listed[0]["id"].as_str().unwrap()));
}

/// Destroy was stuck for ever: the volume's identifier was known, the machine's was lost.
#[tokio::test]
async fn a_lost_machine_is_found_through_its_volume() {
    let client = TestClient::new(Settings { binding_lingers: Duration::from_secs(60), ..Settings::friendly() });
    let (_, volume) = client.machine("gremlin").await;
    let line = format!("/apps/gremlin/volumes/{volume}");
    client.want(412, &format!("DELETE {line}"), NONE).await;
    let attached = client.want(200, &format!("GET {line}"), NONE).await["attached_machine_id"].as_str().unwrap().to_owned();
    client.want(200, &format!("DELETE /apps/gremlin/machines/{attached}?force=true"), NONE).await;
    client.want(200, &format!("GET /apps/gremlin/machines/{attached}/wait?state=destroyed"), NONE).await;
    client.want(412, &format!("DELETE {line}"), NONE).await;
    client.fly.world().ahead += Duration::from_secs(60);
    client.want(200, &format!("DELETE {line}"), NONE).await;
}

/// The old volume was not removed and was used again; a deleted one still stands in the list under its name.
#[tokio::test]
async fn a_dying_volume_has_the_name_of_the_living() {
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let old = client.want(200, "POST /apps/gremlin/volumes", volume()).await;
    client.want(200, &format!("DELETE /apps/gremlin/volumes/{}", old["id"].as_str().unwrap()), NONE).await;
    client.want(200, "POST /apps/gremlin/volumes", volume()).await;
    let listed = client.want(200, "GET /apps/gremlin/volumes", NONE).await;
    let states: Vec<&Value> = listed.as_array().unwrap().iter().map(|volume| &volume["state"]).collect();
    assert_eq!(states, ["pending_destroy", "created"], "the first of that name is the wrong one");
    let stale = machine("convex", old["id"].as_str().unwrap());
    assert_eq!(client.want(400, "POST /apps/gremlin/machines", stale).await["error"], "volume not found");
}

/// A full host: the volume is pinned, so its data has to be copied to another one before a machine can run.
#[tokio::test]
async fn data_on_a_full_host_is_forked_away() {
    let client = TestClient::new(Settings::friendly());
    let (id, volume) = client.machine("gremlin").await;
    client.want(200, &format!("DELETE /apps/gremlin/machines/{id}?force=true"), NONE).await;
    client.fly.world().full_hosts.insert("iad-1".to_owned(), Shortage::HostCpus);
    client.want(412, "POST /apps/gremlin/machines", machine("convex", &volume)).await;
    let fork = json!({
        "name": "data", "region": "iad", "source_volume_id": volume, "require_unique_zone": true,
        "compute": { "cpu_kind": "shared", "cpus": 4, "memory_mb": 1_024 },
    });
    let fork = client.want(200, "POST /apps/gremlin/volumes", fork).await;
    let line = format!("GET /apps/gremlin/volumes/{}", fork["id"].as_str().unwrap());
    client.until(&line, |volume| volume["state"] == "created").await;
    client.want(200, "POST /apps/gremlin/machines", machine("convex", fork["id"].as_str().unwrap())).await;
}

/// Eternal drift: what comes back is not what was sent, though nothing has changed.
#[tokio::test]
async fn normalized_config_differs_from_the_request() {
    let client = TestClient::new(Settings::friendly());
    let (id, volume) = client.machine("gremlin").await;
    let sent = machine("convex", &volume)["config"].clone();
    let shown = client.want(200, &format!("GET /apps/gremlin/machines/{id}"), NONE).await["config"].clone();
    assert_ne!(shown, sent);
    assert_eq!(shown["mounts"][0]["volume"], sent["mounts"][0]["volume"], "mounts do come back");
    assert_eq!((&shown["mounts"][0]["size_gb"], &shown["dns"]), (&json!(3), &json!({})));
    assert_eq!(shown["services"][0]["checks"][0]["grace_period"], "1m0s");
}

/// `started` is not ready: checks come later, and an empty list of them passes nothing.
#[tokio::test]
async fn started_is_not_ready() {
    let client = TestClient::new(Settings::friendly());
    client.fly.world().omens.checks_missing = true;
    let (id, _) = client.machine("gremlin").await;
    let shown = client.want(200, &format!("GET /apps/gremlin/machines/{id}"), NONE).await;
    assert_eq!((&shown["state"], &shown["checks"]), (&json!("started"), &json!([])));
}
