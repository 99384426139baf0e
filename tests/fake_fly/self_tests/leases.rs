//! Leases: wrapped, exclusive, prolonged by their holder, and over by themselves.

use serde_json::{Value, json};

use super::client::{TestClient, machine};
use fake_fly::Settings;

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_held_lease_refuses_others_with_its_expiry() {
    let client = TestClient::new(Settings::friendly());
    let (id, _) = client.machine("gremlin").await;
    let line = format!("/apps/gremlin/machines/{id}");
    let (post, lease) = (format!("POST {line}/lease"), json!({ "ttl": 120, "description": "convexinfra" }));
    let held = client.want(201, &post, lease.clone()).await;
    assert_eq!(held["status"], "success", "the answer is wrapped");
    let nonce = held["data"]["nonce"].as_str().unwrap();
    assert_eq!(held["data"]["version"], client.want(200, &format!("GET {line}"), NONE).await["instance_id"]);
    let refused = client.want(409, &post, lease.clone()).await;
    let refused = refused["error"].as_str().unwrap();
    assert!(
        refused.starts_with(&format!("aborted: machine ID {id} lease currently held by ")) && refused.contains(", expires at ")
    );

    let config = machine("convex", client.fly.world().apps["gremlin"].volumes[0].id.as_str())["config"].clone();
    let changes = [
        (format!("POST {line}"), json!({ "config": config })),
        (format!("POST {line}/stop"), json!({})),
        (format!("POST {line}/restart"), NONE),
        (format!("POST {line}/start"), NONE),
        (format!("POST {line}/cordon"), NONE),
        (format!("POST {line}/uncordon"), NONE),
        (format!("POST {line}/metadata/color"), json!({ "value": "red" })),
        (format!("DELETE {line}/lease"), NONE),
    ];
    for (change, body) in &changes[..7] {
        let (status, refused) = client.ask(change, body.clone()).await;
        assert_eq!(status, 409, "{change} without the nonce blocks oneself: {refused}");
        let (status, _) = client.ask_with(nonce, change, body.clone()).await;
        assert!((200..300).contains(&status), "{change} with the nonce: {status}");
        client.ask(&format!("GET {line}/wait?state=settled"), NONE).await;
    }
    assert_eq!(client.ask_with("wrong", &format!("DELETE {line}/lease"), NONE).await.0, 409);
    let listed = client.want(200, "GET /apps/gremlin/machines?include_leases=true", NONE).await;
    assert_eq!(listed[0]["lease"]["nonce"], nonce);
    let shown = client.want(200, &format!("GET {line}/lease"), NONE).await;
    assert!(shown["data"].get("nonce").is_none(), "only its holder knows the nonce");
    let before = held["data"]["expires_at"].as_i64().unwrap();
    let (status, longer) = client.ask_with(nonce, &post, json!({ "ttl": 600 })).await;
    assert_eq!((status, longer["data"]["nonce"].as_str()), (201, Some(nonce)));
    assert!(longer["data"]["expires_at"].as_i64().unwrap() > before + 400);
    let (changed, _) = &changes[7];
    assert_eq!(client.ask_with(nonce, changed, NONE).await.0, 200);
    client.want_all(&[(changed, NONE, 404, "lease not found"), (&format!("GET {line}/lease"), NONE, 404, "")]).await;

    client.want(201, &format!("{post}?ttl=120"), NONE).await;
    client.want(409, &post, lease.clone()).await;
    client.fly.world().ahead += std::time::Duration::from_secs(121);
    client.want(201, &post, lease).await;
}

#[tokio::test]
async fn a_machine_can_be_made_under_a_lease() {
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let mut body = machine("convex", "none");
    body["config"].as_object_mut().unwrap().remove("mounts");
    body["lease_ttl"] = json!(60);
    let made = client.want(200, "POST /apps/gremlin/machines", body).await;
    let delete = format!("DELETE /apps/gremlin/machines/{}?force=true", made["id"].as_str().unwrap());
    client.want(409, &delete, NONE).await;
    assert_eq!(client.ask_with(made["nonce"].as_str().unwrap(), &delete, NONE).await.0, 200);
}
