//! Commands that are killed in the middle: whatever is left, the next command makes it right.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Stdio};
use std::time::Duration;

use convexinfra::model::References;
use convexinfra::provider::Provider;
use convexinfra::provider::fly::{Fly, Native, Places, Settings as FlySettings};

use super::shore::{Shore, patience, placement};
use crate::fly::settings::TOKEN;

const URL: &str = "CONVEXINFRA_TEST_FLY";
const VERB: &str = "CONVEXINFRA_TEST_VERB";
const NOTES: &str = "CONVEXINFRA_TEST_NOTES";

/// Not a test but the command that the tests below kill: this test binary, started once more.
#[tokio::test]
async fn command() {
    let Ok(url) = std::env::var(URL) else { return };
    let nowhere = "http://127.0.0.1:1".to_owned();
    let places = Places { machines: url, registry: nowhere.clone(), commits: nowhere };
    let port = std::sync::Arc::new(Native::new(&convexinfra::model::Secret::new(TOKEN), places));
    let fly = Fly::new(port, FlySettings::default()).with_patience(patience());
    let mut placement = placement();
    if let Ok(notes) = std::env::var(NOTES) {
        placement.references = serde_json::from_str::<References>(&notes).unwrap();
        placement.has_been_ready = true;
    }
    match std::env::var(VERB).unwrap().as_str() {
        "update" => {
            placement.spec.tuning.max_concurrent_queries = Some(8);
            fly.ensure(&placement, &|_| {}).await.map(drop).unwrap();
        }
        "ensure" => fly.ensure(&placement, &|_| {}).await.map(drop).unwrap(),
        "remove" => fly.remove(&placement).await.unwrap(),
        other => panic!("{other}"),
    }
}

/// Runs a verb in a process of its own that is killed at a point; whether it came there.
fn killed_at(shore: &Shore, verb: &str, fault: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fly_driver::crash::command", "--nocapture"])
        .env(URL, shore.fly.host_url())
        .env(VERB, verb)
        .env("CONVEXINFRA_FAULT", fault)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if shore.placement.has_been_ready {
        command.env(NOTES, serde_json::to_string(&shore.placement.references).unwrap());
    }
    !command.status().unwrap().success()
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn whatever_a_killed_command_left_is_adopted_by_the_next() {
    const POINTS: [&str; 6] =
        ["app_created:1", "address_assigned:1", "address_assigned:2", "secrets_set:1", "volume_created:1", "machine_created:1"];
    for point in POINTS {
        let mut shore = Shore::new();
        assert!(killed_at(&shore, "ensure", &format!("provider.fly.{point}")), "{point} was not passed");
        shore.ensure().await;
        shore.one_of_each();
        assert_eq!(shore.drift().await, Vec::<String>::new(), "{point}");
        shore.remove().await;
        assert!(shore.fly.world().apps.is_empty(), "{point}");
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_killed_update_is_taken_up_again_and_its_lease_runs_out() {
    for point in ["leased:1", "machine_updated:1"] {
        let mut shore = Shore::new();
        shore.ensure().await;
        let machines = shore.machines();
        assert!(killed_at(&shore, "update", &format!("provider.fly.{point}")), "{point} was not passed");
        shore.placement.spec.tuning.max_concurrent_queries = Some(8);
        // Nobody gives a dead command's lease back.
        shore.fly.world().ahead += patience().lease + Duration::from_secs(1);
        shore.ensure().await;
        assert_eq!(shore.machines(), machines);
        assert_eq!(shore.config()["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "8");
        assert_eq!(shore.drift().await, Vec::<String>::new(), "{point}");
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_killed_removal_is_finished_by_the_next() {
    for point in ["machine_deleted:1", "volume_deleted:1", "app_deleted:1"] {
        let mut shore = Shore::new();
        shore.ensure().await;
        assert!(killed_at(&shore, "remove", &format!("provider.fly.{point}")), "{point} was not passed");
        shore.fly.world().ahead += patience().lease + Duration::from_secs(1);
        shore.remove().await;
        assert!(shore.fly.world().apps.is_empty(), "{point}");
    }
}
