//! The document: what is against it is found, and each known hole is one.

use serde_json::{Value, json};

use super::client::{TestClient, machine, volume};
use fake_fly::Settings;
use fake_fly::contract::Contract;
use fake_fly::contract_gaps::{ExchangePart, HOLES};

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_violation_of_the_contract_is_named_exactly() {
    if Contract::at_hand().is_none() {
        return;
    }
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme", "netwrk": "x" })).await;
    let mut misspelt = machine("convex", "none");
    misspelt["config"].as_object_mut().unwrap().remove("mounts");
    misspelt["config"]["guest"]["memory"] = json!(256);
    misspelt["config"]["metadata"]["count"] = json!(5);
    client.want(200, "POST /apps/gremlin/machines", misspelt).await;
    client.ask("GET /apps/gremlin/machines?sumary=true", NONE).await;
    client.ask("GET /app/gremlin", NONE).await;
    let found = client.fly.take_violations().join("\n");
    for wanted in [
        "POST /apps (request) at `/netwrk`: the field `netwrk` is not documented",
        "POST /apps/{app_name}/machines (request) at `/config/guest/memory`: the field `memory` is not documented",
        "POST /apps/{app_name}/machines (request) at `/config/metadata/count`: it breaks the rule `type`",
        "POST /apps/{app_name}/machines (reply 200) at `/config/guest/memory`",
        "GET /apps/{app_name}/machines (request) at `?sumary`: the parameter `sumary=true` is not documented",
        "`GET /v1/app/gremlin` is not in the document",
    ] {
        assert!(found.contains(wanted), "`{wanted}` is not in\n{found}");
    }
}

/// A hole has to be one: without it, what really happens would be against the document.
#[tokio::test]
async fn every_gap_in_working_exchanges_is_needed() {
    let Some(contract) = Contract::at_hand() else { return };
    let client = TestClient::new(Settings::friendly());
    let (id, data) = client.machine("gremlin").await;
    let line = format!("/apps/gremlin/machines/{id}");
    let lease = client.want(201, &format!("POST {line}/lease?ttl=60"), NONE).await;
    let nonce = lease["data"]["nonce"].as_str().unwrap();
    for (ask, body) in [
        ("GET /apps/gremlin/machines?include_leases=true&metadata.managed_by=convexinfra".to_owned(), NONE),
        (format!("GET {line}"), NONE),
        (format!("GET {line}/lease"), NONE),
        (format!("GET {line}/versions"), NONE),
        (format!("POST {line}/cordon"), NONE),
        (format!("POST {line}/uncordon"), NONE),
        (format!("POST {line}/stop"), json!({})),
        (format!("POST {line}/start"), NONE),
        (format!("POST {line}/restart?force_stop=true"), NONE),
        (format!("POST {line}"), json!({ "config": machine("convex", &data)["config"] })),
        (format!("DELETE {line}/lease"), NONE),
        (format!("DELETE {line}?kill=true"), NONE),
        ("POST /apps/gremlin/ip_assignments".to_owned(), json!({ "type": "v6" })),
        ("GET /apps/gremlin/ip_assignments".to_owned(), NONE),
        ("POST /apps/gremlin/secrets".to_owned(), json!({ "values": { "A": null } })),
        ("POST /apps/gremlin/volumes".to_owned(), volume()),
        ("POST /apps?wait=true".to_owned(), json!({ "name": "other", "org_slug": "acme" })),
    ] {
        let (status, answer) = client.ask_with(nonce, &ask, body).await;
        assert!((200..300).contains(&status), "{ask}: {status} {answer}");
        client.ask(&format!("GET {line}/wait?state=settled,destroyed"), NONE).await;
    }
    client.want(202, "DELETE /apps/gremlin?force=true", NONE).await;
    let used = contract.used();
    let unused: Vec<_> = HOLES
        .iter()
        .enumerate()
        .filter(|(at, hole)| !used.contains(at) && matches!(hole.place, ExchangePart::Request | ExchangePart::Reply(200..300)))
        .map(|(_, hole)| hole)
        .collect();
    assert!(unused.is_empty(), "needs no exception any more: {unused:#?}");
}

#[test]
fn every_gap_in_failing_exchanges_is_needed() {
    let Some(contract) = Contract::at_hand() else { return };
    for hole in HOLES.iter().filter(|hole| hole.at == "(status)") {
        assert!(contract.lacks_status(hole), "needs no exception any more: {hole:#?}");
    }
}

#[test]
fn no_hole_is_named_twice_and_each_says_why() {
    for (at, hole) in HOLES.iter().enumerate() {
        assert!(hole.why.len() > 20, "{hole:?}");
        let same = |other: &&fake_fly::contract_gaps::ContractGap| {
            (other.operation, other.place, other.at) == (hole.operation, hole.place, hole.at)
        };
        assert!(!HOLES[at + 1..].iter().any(|other| same(&other)), "{hole:?} is named twice");
    }
}
