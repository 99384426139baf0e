//! Secrets by versions.

use serde_json::{Value, json};

use super::client::{TestClient, machine};
use fake_fly::Settings;

const NONE: Value = Value::Null;

#[tokio::test]
async fn every_change_makes_a_version_and_no_list_shows_a_value() {
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let line = "POST /apps/gremlin/secrets";
    let set = client.want(200, line, json!({ "values": { "A": "hunter2", "B": "x" } })).await;
    assert_eq!(set["version"], 1);
    let digest = set["secrets"][0]["digest"].clone();
    let one = client.want(201, "POST /apps/gremlin/secrets/A", json!({ "value": "hunter3" })).await;
    assert_eq!(one["version"], 2);
    assert_ne!(one["digest"], digest, "another value has another digest");
    let gone = client.want(200, line, json!({ "values": { "A": "hunter2", "B": null } })).await;
    assert_eq!((&gone["version"], gone["secrets"].as_array().unwrap().len()), (&json!(3), 1));
    assert_eq!(gone["secrets"][0]["digest"], digest, "the same value has the same digest");
    let listed = client.want(200, "GET /apps/gremlin/secrets", NONE).await;
    assert!(!listed.to_string().contains("hunter"));
    client
        .want_all(&[
            ("GET /apps/gremlin/secrets?show_secrets=true", NONE, 200, "hunter2"),
            ("GET /apps/gremlin/secrets/A", NONE, 200, "digest"),
            ("DELETE /apps/gremlin/secrets/A", NONE, 200, r#""version":4"#),
            ("DELETE /apps/gremlin/secrets/A", NONE, 404, ""),
            (line, json!({}), 400, "values"),
        ])
        .await;
}

#[tokio::test]
async fn a_machine_may_start_with_the_vault_of_before() {
    let client = TestClient::new(Settings { vault_lags: true, ..Settings::friendly() });
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    client.want(200, "POST /apps/gremlin/secrets", json!({ "values": { "A": "1" } })).await;
    let sees = |client: &TestClient, name: &str| {
        let world = client.fly.world();
        let machine = world.apps["gremlin"].machines.iter().find(|machine| machine.name == name).unwrap();
        machine.secrets.get("A").cloned()
    };
    let plain = |name: &str| {
        let mut body = machine(name, "none");
        body["config"].as_object_mut().unwrap().remove("mounts");
        body
    };
    client.want(200, "POST /apps/gremlin/machines", plain("careless")).await;
    assert_eq!(sees(&client, "careless"), None);
    let mut careful = plain("careful");
    careful["min_secrets_version"] = json!(2);
    client.want(412, "POST /apps/gremlin/machines", careful.clone()).await;
    careful["min_secrets_version"] = json!(1);
    let made = client.want(200, "POST /apps/gremlin/machines", careful).await;
    assert_eq!(sees(&client, "careful").as_deref(), Some("1"));
    client.want(200, "POST /apps/gremlin/secrets", json!({ "values": { "A": "2" } })).await;
    assert_eq!(sees(&client, "careful").as_deref(), Some("1"), "a machine that is there sees new secrets with an update");
    let update = json!({ "config": plain("careful")["config"], "min_secrets_version": 2 });
    client.want(200, &format!("POST /apps/gremlin/machines/{}", made["id"].as_str().unwrap()), update).await;
    assert_eq!(sees(&client, "careful").as_deref(), Some("2"));
}
