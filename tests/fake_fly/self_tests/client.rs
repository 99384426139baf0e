//! Who asks in these tests.

use std::time::Duration;

use serde_json::{Value, json};

use fake_fly::settings::TOKEN;
use fake_fly::{FakeFly, Settings};

/// A stand-in and the means to ask it.
pub(super) struct TestClient {
    pub(super) fly: FakeFly,
    client: reqwest::Client,
    pub(super) token: String,
}

/// An answer: its status and its body, which is `null` where there is none.
pub(super) type Answer = (u16, Value);

impl TestClient {
    pub(super) fn new(settings: Settings) -> Self {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { fly: FakeFly::start(settings), client, token: format!("FlyV1 {TOKEN}") }
    }

    pub(super) async fn ask(&self, line: &str, body: Value) -> Answer {
        self.try_to_ask(line, body, None).await.unwrap()
    }

    pub(super) async fn try_to_ask(&self, line: &str, body: Value, nonce: Option<&str>) -> reqwest::Result<Answer> {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.fly.url()));
        request = request.timeout(Duration::from_secs(20));
        if !self.token.is_empty() {
            request = request.header("authorization", &self.token);
        }
        if let Some(nonce) = nonce {
            request = request.header("fly-machine-lease-nonce", nonce);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        assert!(answer.headers().contains_key("fly-request-id"), "support asks for it");
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(if text.is_empty() { Value::Null } else { json!(text) })))
    }

    /// Asks under a lease.
    pub(super) async fn ask_with(&self, nonce: &str, line: &str, body: Value) -> Answer {
        self.try_to_ask(line, body, Some(nonce)).await.unwrap()
    }

    /// Asks one after the other, and wants each status and each text in the answer.
    pub(super) async fn want_all(&self, rows: &[(&str, Value, u16, &str)]) {
        for (line, body, status, text) in rows {
            let answer = self.want(*status, line, body.clone()).await;
            let answer = answer.to_string();
            assert!(
                answer.contains(&text.replace('"', "\\\"")) || answer.contains(text),
                "{line}: `{text}` is not in {answer}"
            );
        }
    }

    /// Asks, and wants this status.
    pub(super) async fn want(&self, status: u16, line: &str, body: Value) -> Value {
        let (found, answer) = self.ask(line, body).await;
        assert_eq!(found, status, "{line}: {answer:#}");
        answer
    }

    /// Asks again and again until the answer is as wanted.
    pub(super) async fn until(&self, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..2_000 {
            let answer = self.want(200, line, Value::Null).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{line}: never as wanted")
    }

    /// An app with its volume and its machine.
    pub(super) async fn machine(&self, app: &str) -> (String, String) {
        self.want(201, "POST /apps", json!({ "app_name": app, "org_slug": "acme", "network": app })).await;
        let volume = self.want(200, &format!("POST /apps/{app}/volumes"), volume()).await;
        let volume = volume["id"].as_str().unwrap().to_owned();
        let machine = self.want(200, &format!("POST /apps/{app}/machines"), machine("convex", &volume)).await;
        let machine = machine["id"].as_str().unwrap().to_owned();
        self.want(200, &format!("GET /apps/{app}/machines/{machine}/wait?state=settled"), Value::Null).await;
        (machine, volume)
    }
}

pub(super) fn volume() -> Value {
    json!({
        "name": "data", "region": "iad", "size_gb": 3, "encrypted": true, "snapshot_retention": 5,
        "auto_backup_enabled": true, "require_unique_zone": false,
        "compute": { "cpu_kind": "shared", "cpus": 4, "memory_mb": 1_024 },
    })
}

pub(super) fn machine(name: &str, volume: &str) -> Value {
    json!({
        "name": name,
        "region": "iad",
        "config": {
            "image": "ghcr.io/get-convex/convex-backend@sha256:1111111111111111111111111111111111111111111111111111111111111111",
            "env": { "INSTANCE_NAME": "gremlin-dev" },
            "guest": { "cpu_kind": "shared", "cpus": 4, "memory_mb": 1_024 },
            "mounts": [{ "volume": volume, "path": "/convex/data" }],
            "services": [{
                "protocol": "tcp", "internal_port": 3210, "autostart": true, "autostop": false,
                "concurrency": { "type": "connections", "soft_limit": 1_000, "hard_limit": 2_000 },
                "ports": [
                    { "port": 80, "handlers": ["http"], "force_https": true },
                    { "port": 443, "handlers": ["tls", "http"] },
                ],
                "checks": [{
                    "type": "http", "port": 3210, "method": "GET", "path": "/version",
                    "interval": "5s", "timeout": "30s", "grace_period": "60s",
                }],
            }],
            "restart": { "policy": "on-failure", "max_retries": 10 },
            "stop_config": { "signal": "SIGINT", "timeout": "30s" },
            "metadata": { "managed_by": "convexinfra", "project_id": "gremlin" },
        },
    })
}
