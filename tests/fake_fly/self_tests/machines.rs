//! Machines: names, versions, states, waits, what is refused, and what comes back in other words.

use serde_json::{Value, json};

use super::client::{TestClient, machine};
use fake_fly::Settings;
use fake_fly::contract::Contract;

const NONE: Value = Value::Null;

/// An app without anything in it.
async fn app() -> TestClient {
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    client
}

/// A machine without a volume.
fn plain() -> Value {
    let mut body = machine("convex", "none");
    body["config"].as_object_mut().unwrap().remove("mounts");
    body
}

#[tokio::test]
async fn names_of_machines_are_unique_until_they_are_gone() {
    let client = app().await;
    let made = client.want(200, "POST /apps/gremlin/machines", plain()).await;
    let id = made["id"].as_str().unwrap();
    let refused = client.want(409, "POST /apps/gremlin/machines", plain()).await;
    let message = format!("already_exists: unique machine name violation, machine ID {id} already exists with name \"convex\"");
    assert_eq!(refused["error"], message);
    client.want(200, &format!("DELETE /apps/gremlin/machines/{id}?force=true"), NONE).await;
    client.want(200, "POST /apps/gremlin/machines", plain()).await;
    assert_eq!(client.want(200, &format!("GET /apps/gremlin/machines/{id}"), NONE).await["state"], "destroyed");
    client.want(404, &format!("POST /apps/gremlin/machines/{id}/start"), NONE).await;
    client.want(404, &format!("DELETE /apps/gremlin/machines/{id}?force=true"), NONE).await;
    let lists = [("", 1), ("?include_deleted=true", 2), ("?metadata.managed_by=convexinfra", 1), ("?metadata.managed_by=x", 0)];
    for (query, count) in lists {
        let listed = client.want(200, &format!("GET /apps/gremlin/machines{query}"), NONE).await;
        assert_eq!(listed.as_array().unwrap().len(), count, "{query}");
    }
    client.fly.world().ahead += std::time::Duration::from_secs(61);
    client.want(404, &format!("GET /apps/gremlin/machines/{id}"), NONE).await;
}

#[tokio::test]
async fn lists_are_filtered_shortened_and_late() {
    let client = TestClient::new(Settings { list_lag: 2, machine_hidden_for: 1, ..Settings::friendly() });
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let made = client.want(200, "POST /apps/gremlin/machines", plain()).await;
    let wait = format!("GET /apps/gremlin/machines/{}/wait?state=started", made["id"].as_str().unwrap());
    client.want(404, &wait, NONE).await;
    client.want(200, &wait, NONE).await;
    for count in [0, 0, 1] {
        let listed = client.want(200, "GET /apps/gremlin/machines", NONE).await;
        assert_eq!(listed.as_array().unwrap().len(), count);
    }
    let filters = [
        ("state=started", 1),
        ("state=stopped", 0),
        ("state=stopped,started", 1),
        ("region=iad", 1),
        ("region=ams", 0),
        ("metadata.managed_by=convexinfra&metadata.project_id=gremlin", 1),
        ("metadata.managed_by=convexinfra&metadata.project_id=other", 0),
    ];
    for (filter, count) in filters {
        let listed = client.want(200, &format!("GET /apps/gremlin/machines?{filter}"), NONE).await;
        assert_eq!(listed.as_array().unwrap().len(), count, "{filter}");
    }
    let summary = client.want(200, "GET /apps/gremlin/machines?summary=true", NONE).await;
    for left_out in ["config", "checks", "host_status"] {
        assert!(summary[0].get(left_out).is_none(), "a summary has no {left_out}");
    }
    let whole = client.want(200, "GET /orgs/acme/machines?limit=1", NONE).await;
    assert_eq!(whole["machines"][0]["app_name"], "gremlin");
}

#[tokio::test]
async fn impossible_machine_configs_are_refused() {
    let client = app().await;
    let changed = |pointer: &str, value: Value| {
        let mut body = plain();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let guest = |kind: &str, cpus: u64, memory: u64| {
        changed("/config/guest", json!({ "cpu_kind": kind, "cpus": cpus, "memory_mb": memory }))
    };
    let rows = [
        (guest("performance", 2, 1_024), "invalid config.guest.memory_mb, minimum required 4096 MiB"),
        (guest("shared", 1, 300), "multiple of 256"),
        (guest("shared", 1, 4_096), "up to 2048 MiB"),
        (guest("performance", 1, 2_560), "multiple of 1024"),
        (guest("shared", 3, 1_024), "config.guest.cpus"),
        (guest("tiny", 1, 256), "cpu_kind"),
        (changed("/config/services/0/autostart", json!("yes")), "autostart"),
        (changed("/config/services/0/autostop", json!("maybe")), "autostop"),
        (changed("/config/stop_config/timeout", json!("301s")), "5m0s"),
        (changed("/config/services/0/checks/0/interval", json!("soon")), "duration"),
        (changed("/config/image", json!("ghcr.io/acme/unpullable:1")), "failed to get manifest"),
        (changed("/region", json!("xyz")), "target region xyz not found"),
        (json!({ "name": "convex" }), "config"),
    ];
    for (body, text) in rows {
        client.want_all(&[("POST /apps/gremlin/machines", body, 400, text)]).await;
    }
    // These are not as the document wants them either.
    let broken = client.fly.take_violations();
    let expected = usize::from(Contract::at_hand().is_some());
    assert_eq!(broken.len(), expected, "{broken:#?}");
    assert!(broken.iter().all(|violation| violation.contains("/config/services/0/autostart")), "{broken:#?}");
}

#[tokio::test]
async fn a_configuration_comes_back_in_other_words() {
    let client = app().await;
    let mut body = plain();
    body["config"]["services"][0]["autostop"] = json!("off");
    body["config"]["services"][0]["checks"][0]["grace_period"] = json!("90s");
    body["config"].as_object_mut().unwrap().remove("restart");
    let made = client.want(200, "POST /apps/gremlin/machines", body).await;
    assert_eq!(made["state"], "starting");
    let config = &made["config"];
    assert_eq!(config["services"][0]["autostop"], false);
    assert_eq!(config["services"][0]["checks"][0]["grace_period"], "1m30s");
    assert_eq!(config["init"], json!({}));
    assert_eq!(config["restart"], json!({ "policy": "on-failure", "max_retries": 10 }));
    assert_eq!(made["image_ref"]["digest"].as_str().unwrap().len(), 71);
    let checks = client
        .until(&format!("GET /apps/gremlin/machines/{}", made["id"].as_str().unwrap()), |m| m["state"] == "started")
        .await;
    assert!(checks["checks"][0]["name"].as_str().unwrap().starts_with("servicecheck-"));
}

#[tokio::test]
async fn an_update_replaces_everything_and_makes_a_version() {
    let client = app().await;
    let made = client.want(200, "POST /apps/gremlin/machines", plain()).await;
    let line = format!("/apps/gremlin/machines/{}", made["id"].as_str().unwrap());
    let (post, first) = (format!("POST {line}"), &made["instance_id"]);
    let mut body = json!({ "config": plain()["config"], "current_version": first });
    body["config"].as_object_mut().unwrap().remove("env");
    let updated = client.want(200, &post, body.clone()).await;
    assert_ne!(updated["instance_id"], *first);
    assert!(updated["config"].get("env").is_none(), "nothing is merged");
    client.want(412, &post, body.clone()).await;
    body.as_object_mut().unwrap().remove("current_version");
    for (key, value) in [("name", "other"), ("region", "ams")] {
        let mut other = body.clone();
        other[key] = json!(value);
        client.want(400, &post, other).await;
    }
    body["config"]["mounts"] = json!([{ "volume": "vol_other", "path": "/convex/data" }]);
    client.want(400, &post, body).await;
    let versions = client.want(200, &format!("GET {line}/versions"), NONE).await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
    let events = client.want(200, &format!("GET {line}/events?limit=1"), NONE).await;
    assert_eq!(events.as_array().unwrap().len(), 1);
    client.want(400, &format!("GET {line}/events?limit=51"), NONE).await;
}

#[tokio::test]
async fn metadata_changes_without_a_version() {
    let client = app().await;
    let made = client.want(200, "POST /apps/gremlin/machines", plain()).await;
    let line = format!("/apps/gremlin/machines/{}", made["id"].as_str().unwrap());
    client.want(204, &format!("POST {line}/metadata/color"), json!({ "value": "red" })).await;
    client.want(200, &format!("GET {line}/metadata/color"), NONE).await;
    let wrong = json!({ "metadata": { "color": "blue" }, "machine_version": "another" });
    client.want(412, &format!("PATCH {line}/metadata"), wrong).await;
    let right = json!({ "metadata": { "size": "s" }, "machine_version": made["instance_id"] });
    client.want(204, &format!("PATCH {line}/metadata"), right).await;
    client.want(204, &format!("DELETE {line}/metadata/color"), NONE).await;
    client.want(404, &format!("GET {line}/metadata/color"), NONE).await;
    let all = client.want(200, &format!("GET {line}/metadata"), NONE).await;
    assert_eq!((&all["size"], &all["managed_by"]), (&json!("s"), &json!("convexinfra")));
    let shown = client.want(200, &format!("GET {line}"), NONE).await;
    assert_eq!(shown["instance_id"], made["instance_id"]);
    client.want(204, &format!("PUT {line}/metadata"), json!({ "metadata": {} })).await;
    assert_eq!(client.want(200, &format!("GET {line}/metadata"), NONE).await, json!({}));
}

#[tokio::test]
async fn states_follow_one_another_and_are_waited_for() {
    let mut settings = Settings::friendly().hurried(20);
    settings.step = std::time::Duration::from_millis(10);
    let client = TestClient::new(settings);
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let mut body = plain();
    body["skip_launch"] = json!(true);
    let made = client.want(200, "POST /apps/gremlin/machines", body).await;
    assert_eq!(made["state"], "created");
    let line = format!("/apps/gremlin/machines/{}", made["id"].as_str().unwrap());
    let version = made["instance_id"].as_str().unwrap();
    let wait = |query: &str| format!("GET {line}/wait?{query}");
    let (stopped, stop) =
        (format!("state=stopped&version={version}&timeout=60"), json!({ "signal": "SIGINT", "timeout": "30s" }));
    let destroyed = "unable to destroy machine, not currently stopped or suspended";
    client
        .want_all(&[
            (
                &format!("POST {line}/start"),
                NONE,
                412,
                "failed_precondition: unable to start machine from current state: 'created'",
            ),
            (&wait("timeout=90"), NONE, 400, "value must be inside range [1s, 1m0s]"),
            (&wait("state=asleep"), NONE, 400, "invalid_argument"),
            (&wait("state=stopped"), NONE, 400, "version"),
            (&wait("state=started&timeout=1"), NONE, 408, "machine failed to reach desired state, started, currently created"),
            (&format!("POST {line}"), json!({ "config": plain()["config"] }), 200, "starting"),
        ])
        .await;
    let version = client.want(200, &format!("GET {line}"), NONE).await["instance_id"].as_str().unwrap().to_owned();
    let now_stopped = stopped.replace(&made["instance_id"].as_str().unwrap().to_owned(), &version);
    client
        .want_all(&[
            (&wait("state=stopped,settled&version=none&timeout=1"), NONE, 408, "deadline_exceeded"),
            (&wait("state=settled"), NONE, 200, r#""state":"started""#),
            (&format!("DELETE {line}"), NONE, 412, destroyed),
            (&format!("POST {line}/cordon"), NONE, 200, "ok"),
            (&format!("GET {line}"), NONE, 200, r#""cordoned":true"#),
            (&format!("POST {line}/uncordon"), NONE, 200, "ok"),
            (&format!("POST {line}/stop"), NONE, 400, "invalid_argument"),
            (&format!("POST {line}/stop"), stop, 200, "ok"),
            (&wait(&now_stopped), NONE, 200, r#""state":"stopped""#),
            (&format!("POST {line}/start"), NONE, 200, r#""previous_state":"stopped""#),
            (&wait("state=started&state=failed"), NONE, 200, "event_id"),
            (&format!("POST {line}/restart?timeout=1s"), NONE, 200, "ok"),
            (&wait("state=started"), NONE, 200, "started"),
            (&format!("DELETE {line}?force=true"), NONE, 200, r#""ok":true"#),
            (&wait("state=destroyed"), NONE, 200, "destroyed"),
            (&wait("state=started"), NONE, 404, "not_found"),
        ])
        .await;
    let events = client.want(200, &format!("GET {line}/events"), NONE).await;
    assert_eq!(events.as_array().unwrap().iter().filter(|event| event["type"] == "exit").count(), 2);
}
