//! Tokens, apps, addresses and certificates.

use serde_json::{Value, json};

use super::client::TestClient;
use fake_fly::settings::TOKEN;
use fake_fly::tokens::{Scope, Token};
use fake_fly::{Settings, reply};

const NONE: Value = Value::Null;

#[tokio::test]
async fn tokens_are_taken_with_either_scheme_and_no_other_way() {
    let mut settings = Settings::friendly();
    let token = |text: &str, org: &str, scope| Token { text: text.to_owned(), org: org.to_owned(), scope };
    settings.tokens.push(token("fm2_old", "acme", Scope::Expired));
    settings.tokens.push(token("fm2_other", "umbrella", Scope::Organization));
    let mut client = TestClient::new(settings);
    for (sent, status) in [
        (format!("Bearer {TOKEN}"), 200),
        (format!("FlyV1 {TOKEN}"), 200),
        (format!("FlyV1 fm2_unknown,{TOKEN}"), 200),
        (TOKEN.to_owned(), 401),
        (format!("Basic {TOKEN}"), 401),
        ("FlyV1 fm2_old".to_owned(), 401),
        ("FlyV1 fm2_unknown".to_owned(), 401),
        (String::new(), 401),
    ] {
        client.token.clone_from(&sent);
        let answer = client.want(status, "GET /tokens/current", NONE).await;
        match status {
            200 => assert_eq!(answer["tokens"][0]["org_slug"], "acme"),
            _ => assert_eq!(answer["error"], "Authenticate: token validation error", "{sent}"),
        }
    }
    client.token = format!("FlyV1 {TOKEN}");
    client.want(201, "POST /apps", json!({ "name": "gremlin-dev", "org_slug": "acme" })).await;
    client.want(201, "POST /apps", json!({ "name": "gremlin-two", "org_slug": "acme" })).await;
    let minted = client.want(200, "POST /apps/gremlin-dev/deploy_token", json!({ "expiry": "24h" })).await;
    client.token = minted["token"].as_str().unwrap().to_owned();
    assert!(client.token.starts_with("FlyV1 "), "what is pasted may have its scheme already");
    client
        .want_all(&[
            ("GET /apps/gremlin-dev", NONE, 200, "gremlin-dev"),
            ("GET /apps/gremlin-two", NONE, 403, ""),
            ("POST /apps", json!({ "name": "gremlin-more", "org_slug": "acme" }), 403, ""),
            ("DELETE /apps/gremlin-dev", NONE, 403, ""),
        ])
        .await;
    client.token = "FlyV1 fm2_other".to_owned();
    client.want(403, "GET /apps/gremlin-dev", NONE).await;
    client.want(403, "GET /orgs/acme/volumes", NONE).await;
}

#[tokio::test]
async fn names_of_apps_are_global_and_plain() {
    let client = TestClient::new(Settings::friendly());
    client.fly.world().foreign_apps.insert("theirs".to_owned());
    let named = |name: &str| json!({ "app_name": name, "org_slug": "acme" });
    let rule = "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes";
    let long = "x".repeat(64);
    client
        .want_all(&[
            ("POST /apps", json!({ "app_name": "gremlin" }), 400, "authorization: request doesn't contain org_slug"),
            ("POST /apps", named("Gremlin"), 422, rule),
            ("POST /apps", named(&long), 422, rule),
            ("POST /apps", named("theirs"), 422, r#""status":"name_taken""#),
            ("GET /apps/theirs", NONE, 403, ""),
            ("GET /apps/free", NONE, 404, ""),
            (
                "POST /apps",
                json!({ "name": "gremlin", "app_name": "gremlin", "org_slug": "acme", "network": "own-1" }),
                201,
                "id",
            ),
            ("POST /apps", named("gremlin"), 422, "Validation failed: Name has already been taken"),
            ("GET /apps?org_slug=acme", NONE, 200, r#""network":"own-1""#),
            ("GET /apps/gremlin", NONE, 200, r#""slug":"acme""#),
        ])
        .await;
    let race = reply::name_race();
    assert_eq!(race.body, reply::Body::Json(json!({ "error": "uniqueness constraint violated" })), "a race has no code");
}

#[tokio::test]
async fn a_new_app_is_not_seen_at_once() {
    let client = TestClient::new(Settings { app_hidden_for: 3, ..Settings::friendly() });
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let mut statuses = Vec::new();
    for line in ["GET /apps/gremlin", "GET /apps/gremlin", "GET /apps/gremlin/ip_assignments", "GET /apps/gremlin"] {
        statuses.push(client.ask(line, NONE).await.0);
    }
    assert_eq!(statuses, [404, 401, 404, 200]);
}

#[tokio::test]
async fn deleting_an_app_takes_everything_with_it_and_a_while() {
    let long = std::time::Duration::from_secs(3_600);
    let client = TestClient::new(Settings { deletion_takes: long, ..Settings::friendly() });
    let (machine, volume) = client.machine("gremlin").await;
    client.want(412, "DELETE /apps/gremlin", NONE).await;
    client.want(202, "DELETE /apps/gremlin?force=true", NONE).await;
    client.want(200, "GET /apps/gremlin", NONE).await;
    client.fly.world().ahead += long;
    client.want(404, "GET /apps/gremlin", NONE).await;
    client.want(404, &format!("GET /apps/gremlin/machines/{machine}"), NONE).await;
    client.want(404, "DELETE /apps/gremlin?force=true", NONE).await;
    let volumes = client.want(200, "GET /orgs/acme/volumes", NONE).await;
    let left = &volumes["volumes"][0];
    assert_eq!(
        (&left["id"], &left["state"], &left["app_name"]),
        (&json!(volume), &json!("pending_destroy"), &json!("gremlin"))
    );
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let reserved = TestClient::new(Settings { names_are_reused: false, ..Settings::friendly() });
    for status in [201, 422] {
        reserved.want(status, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
        if status == 201 {
            reserved.want(202, "DELETE /apps/gremlin?force=true", NONE).await;
            drop(reserved.fly.world());
        }
    }
}

#[tokio::test]
async fn an_app_has_no_address_until_it_is_given_one() {
    for (duplicate, status) in [(200, 200), (409, 409), (422, 422)] {
        let client = TestClient::new(Settings { duplicate_address: duplicate, ..Settings::friendly() });
        client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
        assert_eq!(client.want(200, "GET /apps/gremlin/ip_assignments", NONE).await, json!({ "ips": [] }));
        let v6 = client.want(200, "POST /apps/gremlin/ip_assignments", json!({ "type": "v6" })).await;
        let v4 = client.want(200, "POST /apps/gremlin/ip_assignments", json!({ "type": "shared_v4" })).await;
        assert_eq!((&v6["shared"], &v4["shared"]), (&json!(false), &json!(true)));
        client.want(status, "POST /apps/gremlin/ip_assignments", json!({ "type": "shared_v4" })).await;
        client.want(400, "POST /apps/gremlin/ip_assignments", json!({ "type": "v5" })).await;
        client.want(200, "POST /apps/gremlin/ip_assignments", json!({ "type": "private_v6", "network": "own" })).await;
        let ip = v6["ip"].as_str().unwrap();
        client.want(204, &format!("DELETE /apps/gremlin/ip_assignments/{ip}"), NONE).await;
        client.want(404, &format!("DELETE /apps/gremlin/ip_assignments/{ip}"), NONE).await;
        let listed = client.want(200, "GET /apps/gremlin/ip_assignments", NONE).await;
        let kinds: Vec<&Value> = listed["ips"].as_array().unwrap().iter().map(|ip| &ip["type"]).collect();
        assert_eq!(kinds, ["shared_v4", "private_v6"]);
    }
}

#[tokio::test]
async fn certificates_say_which_records_they_wait_for() {
    let client = TestClient::new(Settings::friendly());
    for app in ["gremlin", "other"] {
        client.want(201, "POST /apps", json!({ "name": app, "org_slug": "acme" })).await;
    }
    for kind in ["v6", "shared_v4"] {
        client.want(200, "POST /apps/gremlin/ip_assignments", json!({ "type": kind })).await;
    }
    let acme = "POST /apps/gremlin/certificates/acme";
    let made = client.want(201, acme, json!({ "hostname": "api.gremlin.dev" })).await;
    let needs = &made["dns_requirements"];
    assert_eq!((&made["status"], &made["configured"]), (&json!("Awaiting configuration"), &json!(false)));
    assert_eq!(needs["a"], json!(["66.241.124.1"]));
    assert!(needs["cname"].as_str().unwrap().ends_with(".gremlin.fly.dev"));
    assert_eq!(needs["acme_challenge"]["name"], "_acme-challenge.api.gremlin.dev");
    let taken = "Hostname has already been taken";
    client
        .want_all(&[
            (acme, json!({ "hostname": "api.gremlin.dev" }), 422, taken),
            ("POST /apps/other/certificates/acme", json!({ "hostname": "api.gremlin.dev" }), 422, taken),
            (acme, json!({ "hostname": "https://x" }), 422, "not a hostname"),
            ("POST /apps/gremlin/certificates/api.gremlin.dev/check", NONE, 200, r#""configured":false"#),
        ])
        .await;
    let both = ["a", "aaaa"].into_iter().map(|kind| needs[kind][0].as_str().unwrap().to_owned()).collect();
    client.fly.world().dns.insert("api.gremlin.dev".to_owned(), both);
    client
        .want_all(&[
            ("GET /apps/gremlin/certificates/api.gremlin.dev", NONE, 200, r#""configured":false"#),
            ("POST /apps/gremlin/certificates/api.gremlin.dev/check", NONE, 200, r#""status":"Ready""#),
            ("GET /apps/gremlin/certificates", NONE, 200, r#""has_fly_certificate":true"#),
            ("DELETE /apps/gremlin/certificates/api.gremlin.dev", NONE, 204, ""),
            ("GET /apps/gremlin/certificates/api.gremlin.dev", NONE, 404, ""),
        ])
        .await;
    client.want(201, acme, json!({ "hostname": "api.gremlin.dev" })).await;
    let target = vec![needs["cname"].as_str().unwrap().to_owned()];
    client.fly.world().dns.insert("api.gremlin.dev".to_owned(), target);
    client.want_all(&[("POST /apps/gremlin/certificates/api.gremlin.dev/check", NONE, 200, r#""status":"Ready""#)]).await;
}

#[tokio::test]
async fn rates_are_limited_by_kind_of_request() {
    let client = TestClient::new(Settings { retry_after: Some("2".to_owned()), rates_limited: true, ..Settings::friendly() });
    // A machine that is busy with others takes its time, and regains allowance meanwhile.
    let until_refused = async |line: &str| {
        let (began, mut let_through) = (std::time::Instant::now(), 0);
        while client.ask(line, NONE).await.0 == 404 {
            let_through += 1;
        }
        (f64::from(let_through), began.elapsed().as_secs_f64())
    };
    let (volumes, seconds) = until_refused("GET /apps/gremlin/volumes").await;
    assert!((3.0..=3.0 + seconds).contains(&volumes), "three at once, then one in a second: {volumes} in {seconds} s");
    let (status, _) = client.ask("GET /apps/gremlin/secrets", NONE).await;
    assert_eq!(status, 404, "each kind of request has an allowance of its own");
    client.want(404, "GET /apps/other/volumes", NONE).await;
    let (machines, seconds) = until_refused("GET /apps/gremlin/machines/1").await;
    let most = 10.0 + 5.0 * seconds;
    assert!((10.0..=most).contains(&machines), "ten at once, then five in a second: {machines} in {seconds} s");
    let fast = TestClient::new(Settings { rates_limited: true, ..Settings::friendly().hurried(1_000) });
    for _ in 0..8 {
        fast.want(404, "GET /apps/gremlin/volumes", NONE).await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_hundred_apps_go_in_a_minute() {
    let client = TestClient::new(Settings::friendly());
    for number in 0..101 {
        let name = format!("gremlin-{number}");
        client.want(201, "POST /apps", json!({ "name": name, "org_slug": "acme" })).await;
        client.want(if number < 100 { 202 } else { 429 }, &format!("DELETE /apps/{name}?force=true"), NONE).await;
    }
    client.fly.world().ahead += std::time::Duration::from_secs(60);
    client.want(202, "DELETE /apps/gremlin-100?force=true", NONE).await;
}
