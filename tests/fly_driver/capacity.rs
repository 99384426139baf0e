//! No room: in a region, on a host, within a quota. Another region only where the manifest allows it, and never without
//! the data.

#![allow(clippy::unwrap_used, clippy::panic)]

use convexinfra::provider::fly::FlyError;

use super::fixture::Fixture;
use fake_fly::{Fault, Shortage};

#[tokio::test]
async fn a_full_region_is_refused_unless_others_are_allowed() {
    for capacity in [Shortage::NoCandidateHost, Shortage::NoCapacity, Shortage::VolumeNoCapacity, Shortage::Quota] {
        let mut fixture = Fixture::friendly();
        fixture.fly.world().full_regions.insert("iad".to_owned(), capacity);
        let error = fixture.refusal().await;
        match capacity {
            Shortage::Quota => assert!(matches!(error, FlyError::Quota { .. }), "{capacity:?}: {error:?}"),
            _ => assert!(
                matches!(&error, FlyError::NoCapacity { regions, .. } if *regions == ["iad"]),
                "{capacity:?}: {error:?}"
            ),
        }
        assert!(error.help().is_some());
        assert_eq!(fixture.volumes(), Vec::<String>::new(), "{capacity:?}: a volume that nobody uses is left");

        fixture.placement.spec.settings.fly.fallback_regions = vec!["fra".to_owned(), "ams".to_owned()];
        fixture.ensure().await;
        assert_eq!(fixture.region(), "fra");
        assert_eq!(fixture.placement.provider_state["region"], "fra");
        assert!(fixture.said().contains("trying fra"), "{}", fixture.said());
        fixture.one_of_each();
        assert_eq!(fixture.drift().await, Vec::<String>::new(), "where it was allowed to be is no drift");
    }
}

#[tokio::test]
async fn an_empty_volume_on_a_full_host_is_made_anew_on_another() {
    for capacity in
        [Shortage::VolumeHost, Shortage::HostCpus, Shortage::HostAddresses, Shortage::Governor, Shortage::DeploysDisabled]
    {
        let mut fixture = Fixture::friendly();
        fixture.fly.order(Fault::shortage("POST", "/v1/apps/*/machines", capacity));
        fixture.ensure().await;
        assert!(fixture.fly.outstanding().is_empty());
        fixture.one_of_each();
        assert_eq!(fixture.region(), "iad");
    }
}

#[tokio::test]
async fn data_on_a_full_host_moves_as_a_copy() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let (machine, volume, host) = (fixture.machines()[0].clone(), fixture.volumes()[0].clone(), fixture.host());
    let directory = fixture.fly.world().apps[&fixture.app()].volumes[0].directory.clone();
    std::fs::write(directory.join("mark"), "kept").unwrap();
    fixture.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), serde_json::Value::Null).await;
    fixture.fly.world().full_hosts.insert(host.clone(), Shortage::VolumeHost);
    fixture.ensure().await;
    assert_ne!(fixture.host(), host);
    assert_ne!(fixture.volumes(), [volume]);
    fixture.one_of_each();
    let world = fixture.fly.world();
    let copy =
        world.apps[&fixture.placement.provider_state["app"]].volumes.iter().find(|volume| volume.state.is_live()).unwrap();
    assert!(copy.directory.join("mark").exists(), "the data did not come along");
    assert_eq!(copy.id, fixture.placement.provider_state["volume"]);
}

#[tokio::test]
async fn a_machine_that_cannot_start_on_its_host_any_more_moves_with_its_data() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let (machine, host) = (fixture.machines()[0].clone(), fixture.host());
    let directory = fixture.fly.world().apps[&fixture.app()].volumes[0].directory.clone();
    std::fs::write(directory.join("mark"), "kept").unwrap();
    fixture.meddle("POST", &format!("/apps/APP/machines/{machine}/stop"), serde_json::json!({})).await;
    while fixture.observe().await.state != convexinfra::model::RunState::Stopped {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    fixture.fly.world().full_hosts.insert(host.clone(), Shortage::HostCpus);
    fixture.ensure().await;
    assert_ne!(fixture.host(), host);
    let world = fixture.fly.world();
    let copy =
        world.apps[&fixture.placement.provider_state["app"]].volumes.iter().find(|volume| volume.state.is_live()).unwrap();
    assert!(copy.directory.join("mark").exists());
}

#[tokio::test]
async fn a_machine_that_runs_is_not_taken_down_for_lack_of_room() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let (machines, host) = (fixture.machines(), fixture.host());
    fixture.fly.world().full_hosts.insert(host, Shortage::HostCpus);
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    assert!(matches!(fixture.refusal().await, FlyError::NoCapacity { .. }));
    assert_eq!(fixture.machines(), machines);
    assert_eq!(fixture.observe().await.state, convexinfra::model::RunState::Running);
}
