//! What does not fit, and hosts that do not answer.

use serde_json::{Value, json};

use super::client::{TestClient, machine, volume};
use fake_fly::{Settings, Shortage};

const NONE: Value = Value::Null;

#[test]
fn every_refusal_has_the_status_and_the_words_of_the_facts() {
    let rows = [
        (Shortage::NoCandidateHost, 422, "insufficient_capacity", "could not find a candidate host"),
        (Shortage::NoCapacity, 409, "", "aborted: no capacity"),
        (Shortage::VolumeNoCapacity, 400, "", "no capacity"),
        (Shortage::Quota, 403, "", "which is over the allowed quota"),
        (
            Shortage::VolumeHost,
            412,
            "volume_placement_capacity",
            "insufficient resources to create new machine with existing volume",
        ),
        (Shortage::HostCpus, 409, "", "aborted: could not reserve resource for machine: insufficient CPUs"),
        (Shortage::HostAddresses, 409, "", "insufficient IPs available"),
        (Shortage::Governor, 409, "", "governor policy blocked start"),
        (Shortage::DeploysDisabled, 409, "", "deploys to this host are temporarily disabled"),
    ];
    for (capacity, status, code, text) in rows {
        let reply = capacity.reply("dfw");
        let fake_fly::reply::Body::Json(body) = &reply.body else { panic!("{capacity:?}: not JSON") };
        assert_eq!(reply.status, status, "{capacity:?}");
        assert_eq!(body["status"].as_str().unwrap_or_default(), code, "{capacity:?}");
        assert!(body["error"].as_str().unwrap().contains(text), "{capacity:?}: {body}");
    }
}

#[tokio::test]
async fn a_full_region_refuses_and_another_one_takes() {
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    let mut plain = machine("convex", "none");
    plain["config"].as_object_mut().unwrap().remove("mounts");
    for (capacity, status, of_volume) in
        [(Shortage::NoCandidateHost, 422, 400), (Shortage::NoCapacity, 409, 400), (Shortage::Quota, 403, 403)]
    {
        client.fly.world().full_regions.insert("iad".to_owned(), capacity);
        client.want(status, "POST /apps/gremlin/machines", plain.clone()).await;
        client.want(of_volume, "POST /apps/gremlin/volumes", volume()).await;
    }
    let room = |region: &str| json!({ "org_slug": "acme", "region": region, "count": 1 });
    assert_eq!(client.want(200, "POST /platform/placements", room("iad")).await["regions"], json!([]));
    let elsewhere = client.want(200, "POST /platform/placements", room("iad,ewr")).await;
    assert_eq!(elsewhere["regions"][0]["region"], "ewr");
    plain["region"] = json!("iad,ewr");
    assert_eq!(client.want(200, "POST /apps/gremlin/machines", plain).await["region"], "ewr");
    assert_eq!(client.want(200, "GET /platform/regions", NONE).await["regions"].as_array().unwrap().len(), 18);
}

/// The main cause of trouble: a volume that was made without saying what will run there.
#[tokio::test]
async fn without_a_hint_a_volume_lands_where_no_machine_fits() {
    let client = TestClient::new(Settings::friendly());
    client.want(201, "POST /apps", json!({ "name": "gremlin", "org_slug": "acme" })).await;
    client.fly.world().full_hosts.insert("iad-1".to_owned(), Shortage::HostCpus);
    let mut careless = volume();
    careless.as_object_mut().unwrap().remove("compute");
    let careless = client.want(200, "POST /apps/gremlin/volumes", careless).await;
    let id = careless["id"].as_str().unwrap();
    let refused = client.want(412, "POST /apps/gremlin/machines", machine("convex", id)).await;
    assert_eq!(refused["status"], "volume_placement_capacity");
    let careful = client.want(200, "POST /apps/gremlin/volumes", volume()).await;
    let made = client.want(200, "POST /apps/gremlin/machines", machine("convex", careful["id"].as_str().unwrap())).await;
    // The host fills up: what is stopped cannot come back, and what runs cannot be changed.
    client.fly.world().full_hosts.insert("iad-2".to_owned(), Shortage::HostCpus);
    let line = format!("/apps/gremlin/machines/{}", made["id"].as_str().unwrap());
    let version = made["instance_id"].as_str().unwrap();
    client
        .want_all(&[
            (&format!("GET {line}/wait?state=started"), NONE, 200, ""),
            (&format!("POST {line}"), json!({ "config": made["config"] }), 409, "could not reserve resource for machine"),
            (&format!("POST {line}/stop"), json!({}), 200, ""),
            (&format!("GET {line}/wait?state=stopped&version={version}"), NONE, 200, ""),
            (&format!("POST {line}/start"), NONE, 409, "could not reserve resource for machine"),
            ("POST /apps/gremlin/volumes", volume(), 400, "no capacity"),
        ])
        .await;
}

#[tokio::test]
async fn a_host_that_does_not_answer_shows_half_a_machine() {
    for (times_out, status) in [(false, 200), (true, 408)] {
        let client = TestClient::new(Settings { unreachable_times_out: times_out, ..Settings::friendly() });
        let (id, volume) = client.machine("gremlin").await;
        client.fly.world().unreachable_hosts.insert("iad-1".to_owned());
        let line = format!("/apps/gremlin/machines/{id}");
        let shown = client.want(status, &format!("GET {line}"), NONE).await;
        if status == 200 {
            assert_eq!(shown["host_status"], "unreachable");
            assert!(shown.get("config").is_none() && shown["incomplete_config"].get("mounts").is_none());
        }
        let data = client.want(200, &format!("GET /apps/gremlin/volumes/{volume}"), NONE).await;
        assert_eq!(data["host_status"], "unreachable");
        for change in [format!("POST {line}/start"), format!("DELETE {line}?force=true")] {
            client.want_all(&[(&change, NONE, 408, "deadline_exceeded")]).await;
        }
    }
}
