//! Every recorded request, asked again in the recorded order.

use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use convexinfra::convex::admin_key::KeyKind;
use convexinfra::convex::deployment::{CanonicalUrl, Deployment, DeploymentClient, DeploymentError, EnvironmentChange};
use convexinfra::convex::readiness::{Readiness, probe_readiness};
use convexinfra::model::Secret;
use serde_json::{Value, json};

use super::backend::{Backend, NAME, Place, SECRET, admin_key, key_of};
use super::recorded::{Row, Seen, rows};
use fixture::golden;

/// What later requests need from earlier answers.
#[derive(Default)]
struct Memory {
    token: String,
    import: String,
    export: String,
}

#[tokio::test]
async fn every_recorded_request_is_answered_as_recorded() {
    let place = Place::new();
    let backend = place.start(&place.setup()).await;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let mut memory = Memory::default();
    let mut wrong = Vec::new();
    let rows = rows();
    assert_eq!(rows.len(), 92);
    for (number, row) in rows.iter().enumerate() {
        let started = Instant::now();
        let seen = loop {
            let seen = ask(&client, &backend, row, &mut memory).await;
            // States are waited for, because they come by themselves.
            if row.state.is_none() || seen.state == row.state || started.elapsed() > fixture::DEADLINE {
                break seen;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let answered = format!("{seen:?}");
        if !row.agrees(seen) {
            wrong.push(format!("{number} {}\n  recorded {:?}\n  answered {answered}", row.label, row.seen()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn ask(client: &reqwest::Client, backend: &Backend, row: &Row, memory: &mut Memory) -> Seen {
    let port = if row.port == "site" { backend.site } else { backend.api };
    let path = match row.path.split_once("/api/export/zip/") {
        Some((_, id)) if id != "nope" => format!("/api/export/zip/{}", memory.export),
        _ => {
            let token: String = url::form_urlencoded::byte_serialize(memory.token.as_bytes()).collect();
            row.path.replace("<token>", &token)
        }
    };
    let method = reqwest::Method::from_bytes(row.method.as_bytes()).unwrap();
    let mut request = client.request(method, format!("http://127.0.0.1:{port}{path}"));
    if let Some(authorization) = &row.authorization {
        request = request.header("Authorization", authorization_of(row, authorization));
    }
    request = match &row.body {
        Value::Null => request,
        Value::String(placeholder) => {
            let (bytes, content_type) = body_of(placeholder);
            let request = request.body(bytes);
            if row.label.contains("no content type") { request } else { request.header("Content-Type", content_type) }
        }
        body => {
            let text = body.to_string().replace("\"<token>\"", &json!(memory.token).to_string());
            let text = match body.pointer("/args/importId").or_else(|| body.get("importId")).and_then(Value::as_str) {
                Some(recorded) => text.replace(recorded, &memory.import),
                None => text,
            };
            request.body(text).header("Content-Type", "application/json")
        }
    };
    let response = request.send().await.unwrap();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let (status, has_file) = (response.status().as_u16(), response.headers().contains_key("content-disposition"));
    let body = response.bytes().await.unwrap();
    let entries = if has_file { entries(&body) } else { Vec::new() };
    let text = String::from_utf8_lossy(&body);
    remember(memory, &serde_json::from_str(&text).unwrap_or_default());
    Seen::new(status, content_type, &text, entries)
}

fn remember(memory: &mut Memory, body: &Value) {
    if let Some(token) = body["uploadToken"].as_str() {
        memory.token = token.to_owned();
    }
    if let Some(id) = body["importId"].as_str() {
        memory.import = id.to_owned();
    }
    if body["value"]["requestor"] == "snapshotExport" {
        memory.export = body["value"]["_id"].as_str().unwrap().to_owned();
    }
}

fn authorization_of(row: &Row, recorded: &str) -> String {
    let secret = hex::encode(SECRET);
    let good = admin_key().expose().to_owned();
    let member_id = 0;
    let tampered = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    for (placeholder, key) in [
        ("<good key>", good),
        ("<read-only key>", key_of(NAME, &secret, KeyKind::ReadOnly { member_id }).expose().to_owned()),
        ("<system key>", key_of(NAME, &secret, KeyKind::System).expose().to_owned()),
        ("<tampered key>", tampered),
        ("<key of another instance>", key_of("other", &secret, KeyKind::Admin { member_id }).expose().to_owned()),
        ("<key under another secret>", key_of(NAME, &hex::encode([8; 32]), KeyKind::Admin { member_id }).expose().to_owned()),
    ] {
        if recorded.contains(placeholder) {
            return recorded.replace(placeholder, &key);
        }
    }
    let other = match row.label.as_str() {
        "check_admin_key garbage" => "garbage",
        "check_admin_key short" => "x",
        "check_admin_key empty key" => "",
        label => panic!("no such key in {label}: {recorded}"),
    };
    recorded.replace("<other>", other)
}

fn body_of(placeholder: &str) -> (Vec<u8>, &'static str) {
    let variables = |name: &str, value: &str| json!({ "changes": [{ "name": name, "value": value }] }).to_string().into_bytes();
    let many: Vec<Value> = (0..513).map(|number| json!({ "name": format!("V{number}"), "value": "x" })).collect();
    let json = "application/json";
    match placeholder {
        "<0 bytes>" => (Vec::new(), json),
        "<10 bytes>" => (b"{\"a\":\"b\"}\n".to_vec(), "application/octet-stream"),
        "<11 bytes>" => (b"{\"changes\":".to_vec(), json),
        "<14 bytes>" => (b"{\"changes\":[]}".to_vec(), json),
        "<189 bytes>" => (two_messages(), "application/octet-stream"),
        "<name 257>" => (variables(&"A".repeat(257), "x"), json),
        "<value 8193>" => (variables("BIG", &"x".repeat(8_193)), json),
        "<value 8192>" => (variables("BIG", &"x".repeat(8_192)), json),
        "<513 variables>" => (json!({ "changes": many }).to_string().into_bytes(), json),
        other => panic!("no such body: {other}"),
    }
}

fn two_messages() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("messages/documents.jsonl", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"{\"body\":\"one\"}\n{\"body\":\"two\"}\n").unwrap();
    zip.finish().unwrap().into_inner()
}

fn entries(bytes: &[u8]) -> Vec<String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    (0..archive.len()).map(|index| archive.by_index(index).unwrap().name().unwrap().into_owned()).collect()
}

#[tokio::test]
async fn no_request_of_the_official_client_leads_nowhere() {
    let Some(recorded) = golden("convex-client.json") else { return };
    let place = Place::new();
    let backend = place.start(&place.setup()).await;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let requests: Vec<&Value> =
        recorded.as_array().unwrap().iter().flat_map(|command| command["requests"].as_array().unwrap()).collect();
    assert!(requests.len() > 30);
    for request in requests {
        let method = reqwest::Method::from_bytes(request["method"].as_str().unwrap().as_bytes()).unwrap();
        // A log is waited for; where its end is, is answered at once.
        let path = request["path"].as_str().unwrap().split("?cursor=").next().unwrap();
        let asked = client.request(method, format!("{}{path}", backend.url()));
        let answer = asked.header("Authorization", format!("Convex {}", admin_key().expose())).send().await.unwrap();
        let (status, has_type) = (answer.status(), answer.headers().contains_key("content-type"));
        assert!(status != 405 && (status != 404 || has_type), "{path}: {status}");
    }
}

#[tokio::test]
async fn our_own_client_reads_and_changes_everything() {
    let place = Place::new();
    let mut setup = place.setup();
    setup.variables.push(("CONVEX_RELEASE_VERSION_DEV", "precompiled-2026-08-21-652b828".into()));
    let backend = place.start(&setup).await;
    let deployment = backend.deployment();
    assert_eq!(deployment.version().await.unwrap(), "precompiled-2026-08-21-652b828");
    assert!(!deployment.check_admin_key().await.unwrap().is_read_only);
    let set = |name: &str, value: &str| EnvironmentChange { name: name.into(), value: Some(Secret::new(value)) };
    deployment.change_environment(&[set("A", "it's"), set("B", "1")]).await.unwrap();
    deployment.change_environment(&[EnvironmentChange { name: "B".into(), value: None }]).await.unwrap();
    let variables = deployment.environment().await.unwrap();
    assert_eq!(variables.into_iter().collect::<Vec<_>>(), [("A".to_owned(), Secret::new("it's"))]);
    // One bad change takes the whole request back.
    let refused = deployment.change_environment(&[set("C", "1"), set("1BAD", "hunter2")]).await.unwrap_err();
    assert!(
        matches!(&refused, DeploymentError::Refused { status: 400, code: Some(code), .. } if code == "EnvironmentVariableNameInvalid")
    );
    assert!(!refused.to_string().contains("hunter2"));
    assert_eq!(deployment.environment().await.unwrap().len(), 1);
    deployment.set_canonical_url(CanonicalUrl::ConvexSite, Some("https://x.example")).await.unwrap();
    assert_eq!(deployment.canonical_urls().await.unwrap().convex_site_url, "https://x.example");
    deployment.set_canonical_url(CanonicalUrl::ConvexSite, None).await.unwrap();
    assert_eq!(deployment.canonical_urls().await.unwrap().convex_site_url, format!("http://127.0.0.1:{}", backend.site));
    deployment.pause().await.unwrap();
    deployment.unpause().await.unwrap();
}

#[tokio::test]
async fn readiness_names_the_instance_that_answers() {
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;
    let connections = DeploymentClient::default();
    let url = backend.url();
    assert!(matches!(probe_readiness(&connections, &url, NAME, &admin_key()).await, Readiness::Ready));
    let other = probe_readiness(&connections, &url, "another", &admin_key()).await;
    assert!(matches!(other, Readiness::OtherInstance { name } if name == NAME));
    let foreign = key_of(NAME, &hex::encode([9; 32]), KeyKind::Admin { member_id: 0 });
    assert!(matches!(probe_readiness(&connections, &url, NAME, &foreign).await, Readiness::KeyRefused));
    backend.interrupt();
    assert!(matches!(probe_readiness(&connections, &url, NAME, &admin_key()).await, Readiness::NotListening));
    let nowhere = Deployment::new(&connections, url, None).version().await;
    assert!(matches!(nowhere, Err(DeploymentError::NotListening { .. })));
}
