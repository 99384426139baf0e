//! Volumes: bound, softly deleted, grown, copied.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{TestClient, machine, volume};
use fake_fly::Settings;

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_bound_volume_stays_and_a_deleted_one_is_seen_for_a_day() {
    let lingers = Duration::from_secs(60);
    let client = TestClient::new(Settings { binding_lingers: lingers, ..Settings::friendly() });
    let (id, volume) = client.machine("gremlin").await;
    let machine_line = format!("/apps/gremlin/machines/{id}");
    let line = format!("/apps/gremlin/volumes/{volume}");
    let bound = format!("failed_precondition: volume is currently bound to machine: {id}");
    let version = client.want(200, &format!("GET {machine_line}"), NONE).await["instance_id"].as_str().unwrap().to_owned();
    client
        .want_all(&[
            (&format!("DELETE {line}"), NONE, 412, &bound),
            (&format!("POST {machine_line}/stop"), json!({}), 200, ""),
            (&format!("GET {machine_line}/wait?state=stopped&version={version}"), NONE, 200, "stopped"),
            (&format!("DELETE {line}"), NONE, 412, &bound),
            (&format!("DELETE {machine_line}"), NONE, 200, ""),
            (&format!("GET {machine_line}/wait?state=destroyed"), NONE, 200, "destroyed"),
            (&format!("DELETE {line}"), NONE, 412, &bound),
        ])
        .await;
    client.fly.world().ahead += lingers;
    client
        .want_all(&[
            (&format!("GET {line}"), NONE, 200, r#""attached_machine_id":"""#),
            (&format!("DELETE {line}"), NONE, 200, "pending_destroy"),
            (&format!("GET {line}"), NONE, 200, "pending_destroy"),
            ("GET /apps/gremlin/volumes", NONE, 200, "pending_destroy"),
            ("GET /orgs/acme/volumes", NONE, 200, "pending_destroy"),
            ("POST /apps/gremlin/machines", machine("again", &volume), 400, "volume not found"),
        ])
        .await;
    client.fly.world().ahead += Duration::from_secs(24 * 3_600);
    client.want(404, &format!("GET {line}"), NONE).await;
    assert_eq!(client.want(200, "GET /apps/gremlin/volumes", NONE).await, json!([]));
}

#[tokio::test]
async fn volumes_grow_are_copied_and_have_no_unique_names() {
    let client = TestClient::new(Settings { list_lag: 1, ..Settings::friendly() });
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let made = client.want(200, "POST /apps/gremlin/volumes", volume()).await;
    assert_eq!(made["state"], "creating");
    assert_eq!(client.want(200, "GET /apps/gremlin/volumes", NONE).await, json!([]), "lists are late");
    let line = format!("/apps/gremlin/volumes/{}", made["id"].as_str().unwrap());
    let snapshots = format!("{line}/snapshots");
    client
        .want_all(&[
            (&format!("PUT {line}/extend"), json!({ "size_gb": 5 }), 200, r#""needs_restart":false"#),
            (&format!("PUT {line}/extend"), json!({ "size_gb": 4 }), 400, "between 5 and 500"),
            (&format!("PUT {line}/extend"), json!({ "size_gb": 501 }), 400, "between 5 and 500"),
            (&format!("PUT {line}"), json!({ "snapshot_retention": 60, "auto_backup_enabled": false }), 200, "60"),
            (&format!("PUT {line}"), json!({ "snapshot_retention": 61 }), 400, "[1, 60]"),
            (&format!("GET {snapshots}"), NONE, 200, "[]"),
            (&format!("POST {snapshots}"), NONE, 200, ""),
            ("POST /apps/gremlin/volumes", volume(), 200, "creating"),
            ("POST /apps/gremlin/volumes", json!({ "name": "data", "region": "xyz" }), 400, "target region xyz not found"),
            ("POST /apps/gremlin/volumes", json!({ "name": "my-data", "region": "iad" }), 400, "underscores"),
            ("POST /apps/gremlin/volumes", json!({ "name": "data", "region": "cdg,eu" }), 200, r#""region":"cdg""#),
        ])
        .await;
    let taken = client.want(200, &format!("GET {snapshots}"), NONE).await;
    let restored = json!({ "name": "data", "region": "iad", "snapshot_id": taken[0]["id"] });
    let restored = client.want(200, "POST /apps/gremlin/volumes", restored).await;
    assert_eq!((&restored["state"], &restored["size_gb"]), (&json!("restoring"), &json!(5)));
    client.until(&format!("GET /apps/gremlin/volumes/{}", restored["id"].as_str().unwrap()), |v| v["state"] == "created").await;
}

#[tokio::test]
async fn a_volume_that_grew_may_want_a_restart() {
    let client = TestClient::new(Settings::friendly());
    let (_, volume) = client.machine("gremlin").await;
    client.fly.world().omens.extension_needs_restart = true;
    let line = format!("PUT /apps/gremlin/volumes/{volume}/extend");
    assert_eq!(client.want(200, &line, json!({ "size_gb": 5 })).await["needs_restart"], true);
}
