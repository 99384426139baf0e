//! Commands that are killed in the middle: the next command repairs what is left.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Stdio};
use std::time::Duration;

use convexinfra::model::ProviderState;
use convexinfra::provider::fly::{ApiEndpoints, Fly, FlyConfig as FlySettings, ReqwestTransport};
use convexinfra::provider::{Provider, StateJournal};

use super::fixture::{Fixture, placement, timeouts};
use fake_fly::settings::TOKEN;
#[cfg(debug_assertions)]
use fake_fly::{FakeFly, Settings};
#[cfg(debug_assertions)]
use fixture::{CliFixture, crash::CrashPoint};

const URL: &str = "CONVEXINFRA_TEST_FLY";
const VERB: &str = "CONVEXINFRA_TEST_VERB";
const NOTES: &str = "CONVEXINFRA_TEST_NOTES";
const JOURNAL: &str = "CONVEXINFRA_TEST_JOURNAL";

/// Keeps what is recorded in a file, as a control plane does in its rows.
struct FileJournal(std::path::PathBuf);

impl FileJournal {
    fn state(&self) -> ProviderState {
        std::fs::read(&self.0).map_or_else(|_| ProviderState::new(), |text| serde_json::from_slice(&text).unwrap())
    }
}

impl StateJournal for FileJournal {
    fn record(&self, key: &str, value: Option<&str>) {
        let mut state = self.state();
        match value {
            Some(value) => state.insert(key.to_owned(), value.to_owned()),
            None => state.remove(key),
        };
        std::fs::write(&self.0, serde_json::to_string(&state).unwrap()).unwrap();
    }
}

/// Not a test but the command that the tests below kill: this test binary, started once more.
#[tokio::test]
async fn command() {
    let Ok(url) = std::env::var(URL) else { return };
    let nowhere = "http://127.0.0.1:1".to_owned();
    let places = ApiEndpoints { machines: url, registry: nowhere.clone(), commits: nowhere };
    let port = std::sync::Arc::new(ReqwestTransport::new(&convexinfra::model::Secret::new(TOKEN), places));
    let fly = Fly::new(port, FlySettings::default()).with_timeouts(timeouts());
    let mut placement = placement();
    if let Ok(notes) = std::env::var(NOTES) {
        placement.provider_state = serde_json::from_str::<ProviderState>(&notes).unwrap();
        placement.has_been_ready = true;
    }
    match std::env::var(VERB).unwrap().as_str() {
        "update" => {
            placement.spec.tuning.max_concurrent_queries = Some(8);
            fly.ensure(&placement, &|_| {}).await.map(drop).unwrap();
        }
        "recorded update" => {
            placement.spec.tuning.max_concurrent_queries = Some(8);
            let journal = FileJournal(std::env::var(JOURNAL).unwrap().into());
            fly.ensure_recorded(&placement, &|_| {}, &journal).await.map(drop).unwrap();
        }
        "ensure" => fly.ensure(&placement, &|_| {}).await.map(drop).unwrap(),
        "remove" => fly.remove(&placement, &|_| {}).await.unwrap(),
        other => panic!("{other}"),
    }
}

/// Runs a verb in a process of its own that is killed at a point; whether it came there.
fn killed_at(fixture: &Fixture, verb: &str, fault: &str) -> bool {
    killed_recording(fixture, verb, fault, std::path::Path::new(""))
}

/// Does the same with a file for what the verb records.
fn killed_recording(fixture: &Fixture, verb: &str, fault: &str, journal: &std::path::Path) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::command", "--nocapture"])
        .env(URL, fixture.fly.host_url())
        .env(VERB, verb)
        .env(JOURNAL, journal)
        .env("CONVEXINFRA_FAULT", fault)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if fixture.placement.has_been_ready {
        command.env(NOTES, serde_json::to_string(&fixture.placement.provider_state).unwrap());
    }
    !command.status().unwrap().success()
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn leftovers_of_a_killed_command_are_adopted_by_the_next() {
    const POINTS: [&str; 6] =
        ["app_created:1", "address_assigned:1", "address_assigned:2", "secrets_set:1", "volume_created:1", "machine_created:1"];
    for point in POINTS {
        let mut fixture = Fixture::new();
        assert!(killed_at(&fixture, "ensure", &format!("provider.fly.{point}")), "{point} was not passed");
        fixture.ensure().await;
        fixture.one_of_each();
        assert_eq!(fixture.drift().await, Vec::<String>::new(), "{point}");
        fixture.remove().await;
        assert!(fixture.fly.world().apps.is_empty(), "{point}");
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_killed_update_is_taken_up_again_and_its_lease_runs_out() {
    for point in ["leased:1", "machine_updated:1"] {
        let mut fixture = Fixture::new();
        fixture.ensure().await;
        let machines = fixture.machines();
        assert!(killed_at(&fixture, "update", &format!("provider.fly.{point}")), "{point} was not passed");
        fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
        // Nobody gives a dead command's lease back.
        fixture.fly.world().ahead += timeouts().lease + Duration::from_secs(1);
        fixture.ensure().await;
        assert_eq!(fixture.machines(), machines);
        assert_eq!(fixture.config()["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "8");
        assert_eq!(fixture.drift().await, Vec::<String>::new(), "{point}");
    }
}

/// Each kill leaves a lease that lasts longer than anybody here waits, and each repetition takes it up.
#[cfg(debug_assertions)]
#[tokio::test]
async fn endless_kills_under_a_lease_do_not_stall_an_update() {
    const KILLS: usize = 25;
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let folder = tempfile::tempdir().unwrap();
    let journal = FileJournal(folder.path().join("journal"));
    let state = fixture.placement.provider_state.clone();
    for kill in 1..=KILLS {
        let killed = killed_recording(&fixture, "recorded update", "provider.fly.lease_recorded:1", &journal.0);
        assert!(killed, "kill {kill}: it did not get the lease");
        assert!(fixture.fly.world().apps[&fixture.app()].machines[0].lease.is_some(), "{kill}");
        fixture.placement.provider_state = state.clone();
        fixture.placement.provider_state.extend(journal.state());
    }
    assert_eq!(fixture.fly.count("POST", "/v1/apps/*/machines/*/lease"), KILLS, "a lease was asked for again and again");
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    let notice = |text: String| panic!("{text}");
    fixture.placement.provider_state = fixture.provider.ensure_recorded(&fixture.placement, &notice, &journal).await.unwrap();
    assert_eq!((journal.state(), fixture.drift().await), (ProviderState::new(), Vec::new()));
    assert!(fixture.fly.world().apps[&fixture.app()].machines[0].lease.is_none(), "the lease was kept");
    // What was recorded of a lease that ran out keeps no operation waiting.
    fixture.placement.provider_state.insert(format!("lease.{}", fixture.machines()[0]), "000000000000".to_owned());
    fixture.placement.spec.tuning.max_concurrent_queries = Some(9);
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_killed_removal_is_finished_by_the_next() {
    for point in ["machine_deleted:1", "volume_deleted:1", "app_deleted:1"] {
        let mut fixture = Fixture::new();
        fixture.ensure().await;
        assert!(killed_at(&fixture, "remove", &format!("provider.fly.{point}")), "{point} was not passed");
        fixture.fly.world().ahead += timeouts().lease + Duration::from_secs(1);
        fixture.remove().await;
        assert!(fixture.fly.world().apps.is_empty(), "{point}");
    }
}

#[cfg(debug_assertions)]
const MANIFEST: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"fly\"\nregion = \"iad\"\n\
                        release = \"652b828b5129e6cdbcaa3c20efa8d116d09ff3bf\"\n";

/// A backend that is there with its volume, and the command that takes it away and keeps the volume.
#[cfg(debug_assertions)]
fn kept_scene() -> (FakeFly, CliFixture, String, String) {
    let fly = FakeFly::start(Settings::friendly().with_processes().hurried(50));
    let cli = CliFixture::new(MANIFEST).with_variables(fly.environment());
    cli.run_ok("apply --yes");
    let (app, volume) = {
        let world = fly.world();
        let (name, app) = world.apps.iter().next().unwrap();
        (name.clone(), app.volumes[0].id.clone())
    };
    (fly, cli, app, volume)
}

#[cfg(debug_assertions)]
const KEEPING: &str = "destroy dev --keep-data --allow-destroy dev";

/// Every point that the removal passes, each as often as it passes it.
#[cfg(debug_assertions)]
fn points_of_keeping() -> Vec<CrashPoint> {
    let (_fly, cli, _, _) = kept_scene();
    let trace = cli.folder().join("trace");
    let ran = cli.command(KEEPING).env("CONVEXINFRA_FAULT_TRACE", &trace).output().unwrap();
    assert!(ran.status.success());
    CrashPoint::of_trace(&cli.read("trace"))
}

#[cfg(debug_assertions)]
#[test]
fn a_killed_removal_that_keeps_data_keeps_it_however_it_is_finished() {
    let points = points_of_keeping();
    let mut finished = 0;
    for (number, point) in points.iter().enumerate() {
        let (fly, cli, app, volume) = kept_scene();
        let kept = || fly.world().apps[&app].volumes.iter().any(|found| found.id == volume && found.state.is_live());
        let machines = |app: &str| fly.world().apps[app].machines.iter().filter(|machine| !machine.state.is_gone()).count();
        let killed = cli.command(KEEPING).env("CONVEXINFRA_FAULT", point.to_string()).output().unwrap();
        assert_eq!(killed.status.code(), None, "{point} was not passed");
        // Nobody gives a dead command's lease back.
        fly.world().ahead += Duration::from_secs(300);
        let status: serde_json::Value = serde_json::from_str(&cli.run_ok("status --json").out).unwrap();
        assert!(kept(), "{point}");
        match status["backends"][0]["phase"].as_str() {
            // It had not begun, or it had ended.
            Some("ready") | None => continue,
            phase => assert_eq!(phase, Some("removing"), "{point}"),
        }
        finished += 1;
        if number % 2 == 0 {
            cli.write("convex.toml", "project = \"gremlin\"\n");
            let plan = cli.run_ok("plan");
            assert!(plan.out.contains("its data is kept"), "{point}: {}", plan.out);
            cli.run_ok("apply --yes --allow-destroy dev");
            assert_eq!(fly.world().apps.len(), 1, "{point}");
        } else {
            // It is wanted again: another one is made beside what is kept.
            let plan = cli.run_ok("plan");
            assert!(plan.out.contains("plan.kept_apart"), "{point}: {}", plan.out);
            cli.run_ok("apply --yes");
            assert_eq!(fly.world().apps.len(), 2, "{point}");
        }
        assert!(kept(), "{point}: the data is gone");
        assert_eq!(machines(&app), 0, "{point}");
        cli.run_ok("plan --detailed-exitcode");
    }
    assert!(finished >= 5, "{points:?}");
}

#[cfg(debug_assertions)]
#[test]
fn a_destroy_that_does_not_keep_the_data_says_so_and_ends_a_removal_that_was_to() {
    let (fly, cli, _, _) = kept_scene();
    let killed = cli.command(KEEPING).env("CONVEXINFRA_FAULT", "provider.fly.machine_deleted:1").output().unwrap();
    assert_eq!(killed.status.code(), None);
    fly.world().ahead += Duration::from_secs(300);
    let refused = cli.run("destroy dev");
    let said = format!("{}{}", refused.out, refused.err);
    assert!(refused.exit == 4 && said.contains("its data is lost") && said.contains("plan.kept_no_more"), "{said}");
    cli.run_ok("destroy dev --allow-destroy dev");
    assert!(fly.world().apps.is_empty());
    cli.write("convex.toml", "project = \"gremlin\"\n");
    cli.run_ok("plan --detailed-exitcode");
}
