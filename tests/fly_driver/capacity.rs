//! No room: in a region, on a host, within a quota. Another region only where the manifest allows it, and never without
//! the data.

#![allow(clippy::unwrap_used, clippy::panic)]

use convexinfra::provider::fly::FlyError;

use super::fixture::Fixture;
use fake_fly::{Fault, Shortage};

#[tokio::test]
async fn a_full_region_is_refused_unless_others_are_allowed() {
    for capacity in [Shortage::NoCandidateHost, Shortage::NoCapacity, Shortage::VolumeNoCapacity, Shortage::Quota] {
        let mut shore = Fixture::friendly();
        shore.fly.world().full_regions.insert("iad".to_owned(), capacity);
        let error = shore.refusal().await;
        match capacity {
            Shortage::Quota => assert!(matches!(error, FlyError::Quota { .. }), "{capacity:?}: {error:?}"),
            _ => assert!(
                matches!(&error, FlyError::NoCapacity { regions, .. } if *regions == ["iad"]),
                "{capacity:?}: {error:?}"
            ),
        }
        assert!(error.help().is_some());
        assert_eq!(shore.volumes(), Vec::<String>::new(), "{capacity:?}: a volume that nobody uses is left");

        shore.placement.spec.settings.fly.fallback_regions = vec!["fra".to_owned(), "ams".to_owned()];
        shore.ensure().await;
        assert_eq!(shore.region(), "fra");
        assert_eq!(shore.placement.provider_state["region"], "fra");
        assert!(shore.said().contains("trying fra"), "{}", shore.said());
        shore.one_of_each();
        assert_eq!(shore.drift().await, Vec::<String>::new(), "where it was allowed to be is no drift");
    }
}

#[tokio::test]
async fn an_empty_volume_on_a_full_host_is_made_anew_on_another() {
    for capacity in
        [Shortage::VolumeHost, Shortage::HostCpus, Shortage::HostAddresses, Shortage::Governor, Shortage::DeploysDisabled]
    {
        let mut shore = Fixture::friendly();
        shore.fly.order(Fault::shortage("POST", "/v1/apps/*/machines", capacity));
        shore.ensure().await;
        assert!(shore.fly.outstanding().is_empty());
        shore.one_of_each();
        assert_eq!(shore.region(), "iad");
    }
}

#[tokio::test]
async fn data_on_a_full_host_moves_as_a_copy() {
    let mut shore = Fixture::friendly();
    shore.ensure().await;
    let (machine, volume, host) = (shore.machines()[0].clone(), shore.volumes()[0].clone(), shore.host());
    let directory = shore.fly.world().apps[&shore.app()].volumes[0].directory.clone();
    std::fs::write(directory.join("mark"), "kept").unwrap();
    shore.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), serde_json::Value::Null).await;
    shore.fly.world().full_hosts.insert(host.clone(), Shortage::VolumeHost);
    shore.ensure().await;
    assert_ne!(shore.host(), host);
    assert_ne!(shore.volumes(), [volume]);
    shore.one_of_each();
    let world = shore.fly.world();
    let copy = world.apps[&shore.placement.provider_state["app"]].volumes.iter().find(|volume| volume.state.is_live()).unwrap();
    assert!(copy.directory.join("mark").exists(), "the data did not come along");
    assert_eq!(copy.id, shore.placement.provider_state["volume"]);
}

#[tokio::test]
async fn a_machine_that_cannot_start_on_its_host_any_more_moves_with_its_data() {
    let mut shore = Fixture::friendly();
    shore.ensure().await;
    let (machine, host) = (shore.machines()[0].clone(), shore.host());
    let directory = shore.fly.world().apps[&shore.app()].volumes[0].directory.clone();
    std::fs::write(directory.join("mark"), "kept").unwrap();
    shore.meddle("POST", &format!("/apps/APP/machines/{machine}/stop"), serde_json::json!({})).await;
    while shore.observe().await.state != convexinfra::model::RunState::Stopped {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    shore.fly.world().full_hosts.insert(host.clone(), Shortage::HostCpus);
    shore.ensure().await;
    assert_ne!(shore.host(), host);
    let world = shore.fly.world();
    let copy = world.apps[&shore.placement.provider_state["app"]].volumes.iter().find(|volume| volume.state.is_live()).unwrap();
    assert!(copy.directory.join("mark").exists());
}

#[tokio::test]
async fn a_machine_that_runs_is_not_taken_down_for_lack_of_room() {
    let mut shore = Fixture::friendly();
    shore.ensure().await;
    let (machines, host) = (shore.machines(), shore.host());
    shore.fly.world().full_hosts.insert(host, Shortage::HostCpus);
    shore.placement.spec.tuning.max_concurrent_queries = Some(8);
    assert!(matches!(shore.refusal().await, FlyError::NoCapacity { .. }));
    assert_eq!(shore.machines(), machines);
    assert_eq!(shore.observe().await.state, convexinfra::model::RunState::Running);
}
