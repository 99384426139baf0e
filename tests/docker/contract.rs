//! What the driver `docker` promises beyond the contract of all drivers (`tests/contract`), on a real engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use convexinfra::model::{ByteSize, Cpus, DataState, Generation, RunState};
use convexinfra::provider::{LogPosition, Provider, ProviderError};

use super::bench::{DockerFixture, observed_drift};
use super::rig::{BACKEND, BACKEND_TWO, BROKEN, unique};
use crate::engine_or_skip;

#[tokio::test]
async fn absent_until_ensured_and_ensured_once() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    let seen = bench.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::None));
    assert_eq!(bench.everything(), Vec::<String>::new(), "observing has made something");

    let seen = bench.ensure().await;
    assert_eq!((seen.data, seen.drift), (DataState::Present, Vec::new()));
    let id = bench.container();
    bench.ensure().await;
    bench.placement.generation = Generation(2);
    let seen = bench.ensure().await;
    assert_eq!(seen.drift, Vec::new());
    assert_eq!(bench.container(), id);
    assert_eq!(bench.everything().len(), 3, "{:?}", bench.everything());
}

#[tokio::test]
async fn another_launch_replaces_the_container_and_keeps_the_data() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.ensure().await;
    let first = bench.container();
    bench.shell("echo kept > /convex/data/mark");
    bench.placement.spec.tuning.max_concurrent_queries = Some(32);
    bench.placement.generation = Generation(2);
    let seen = bench.observe().await;
    assert_eq!(observed_drift(&seen, "variable.APPLICATION_MAX_CONCURRENT_QUERIES"), Some("(not set)"), "{seen:?}");

    let seen = bench.ensure().await;
    assert_eq!(seen.drift, Vec::new());
    assert_ne!(bench.container(), first);
    assert_eq!(bench.shell("cat /convex/data/mark"), "kept");
    assert_eq!(bench.inspect()["Config"]["Labels"]["convexinfra.generation"], "2");

    // Another build over the same data.
    bench.placement.spec.settings.docker.image = Some(BACKEND_TWO.to_owned());
    let seen = bench.observe().await;
    assert!(observed_drift(&seen, "image").is_some(), "{seen:?}");
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.inspect()["Config"]["Labels"]["build"], "two");
    assert_eq!(bench.shell("cat /convex/data/mark"), "kept");
}

#[tokio::test]
async fn limits_change_while_it_runs() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.ensure().await;
    let before = bench.inspect();
    for (memory, cpus) in [(512, 0.5), (256, 1.0)] {
        bench.placement.spec.resources.memory = Some(ByteSize::from_bytes(memory << 20));
        bench.placement.spec.resources.cpus = Cpus::from_cores(cpus);
        let seen = bench.ensure().await;
        assert_eq!(seen.drift, Vec::new());
        let after = bench.inspect();
        assert_eq!((&after["Id"], &after["State"]["StartedAt"]), (&before["Id"], &before["State"]["StartedAt"]));
        assert_eq!(after["HostConfig"]["Memory"], memory << 20);
        let limit = bench.shell("cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max");
        assert_eq!(limit, (memory << 20).to_string());
    }
    // To have none again is the one change that engines cannot make while it runs.
    bench.placement.spec.resources = Default::default();
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.inspect()["HostConfig"]["Memory"], 0);
}

#[tokio::test]
async fn a_replacement_that_never_answers_gives_way_to_the_one_before() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.ensure().await;
    let (id, references) = (bench.container(), bench.placement.provider_state.clone());
    bench.placement.spec.settings.docker.image = Some(BROKEN.to_owned());
    match bench.try_ensure().await {
        Err(ProviderError::NotReplaced { reason, log }) => {
            assert!(reason.contains("exit code 7"), "{reason}");
            assert!(log.iter().any(|line| line == "it is broken"), "{log:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.container(), id);
    assert_eq!(bench.inspect()["State"]["Running"], true);
    bench.placement.spec.settings.docker.image = Some(BACKEND.to_owned());
    bench.placement.provider_state = references;
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.container(), id);
}

#[tokio::test]
async fn data_that_a_replacement_wrote_is_not_given_to_the_build_from_before() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.ensure().await;
    bench.shell(": > /convex/data/writes; echo kept > /convex/data/mark");
    let (id, references) = (bench.container(), bench.placement.provider_state.clone());
    bench.placement.spec.settings.docker.image = Some(BROKEN.to_owned());
    // A second attempt finds the data as it was left, and the build from before no safer than it was.
    for _ in 0..2 {
        match bench.try_ensure().await {
            Err(ProviderError::NotRolledBack { reason, previous, log }) => {
                assert!(reason.contains("exit code 7") && previous.ends_with("-previous"), "{reason} {previous}");
                assert!(log.iter().any(|line| line == "it is broken"), "{log:?}");
            }
            other => panic!("{other:?}"),
        }
        let kept = bench.engine.inspect(&id);
        assert_eq!(kept["State"]["Running"], false);
    }
    // The user has the last word.
    bench.placement.spec.settings.docker.image = Some(BACKEND.to_owned());
    bench.placement.provider_state = references;
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.shell("cat /convex/data/mark"), "kept");
}

#[tokio::test]
async fn lost_data_is_never_replaced_by_none() {
    let engine = engine_or_skip!();
    let mut bench = DockerFixture::new(engine);
    bench.ensure().await;

    let volume = bench.everything().into_iter().find_map(|name| name.strip_prefix("volume ").map(str::to_owned)).unwrap();
    engine.docker(&["rm", "-f", &bench.container()]);
    let seen = bench.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::Present));
    engine.docker(&["volume", "rm", &volume]);
    let seen = bench.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::Missing));
    let refused = bench.try_ensure().await;
    assert!(matches!(&refused, Err(ProviderError::DataMissing { place, .. }) if place.contains(&volume)), "{refused:?}");
    // One of the same name that was made by hand is not the one that was lost, and one with its labels is empty.
    engine.docker(&["volume", "create", &volume]);
    assert_eq!(bench.observe().await.data, DataState::Missing);
    let refused = bench.try_ensure().await;
    assert!(
        matches!(&refused, Err(ProviderError::DataMissing { place, .. }) if place.contains("without the label")),
        "{refused:?}"
    );
    engine.docker(&["volume", "rm", &volume]);
    let label = format!("convexinfra.id={}", bench.placement.id);
    engine.docker(&["volume", "create", "--label", &label, "--label", "convexinfra.role=data", &volume]);
    let refused = bench.try_ensure().await;
    assert!(matches!(&refused, Err(ProviderError::DataMissing { place, .. }) if place.contains("db.sqlite3")), "{refused:?}");
    assert_eq!(engine.containers(bench.placement.project.as_str(), "backend"), Vec::<String>::new());
    engine.docker(&["volume", "rm", &volume]);
}

#[tokio::test]
async fn removed_means_gone() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.docker.remove(&bench.placement, &|_| {}).await.unwrap();
    bench.ensure().await;
    let id = bench.container();
    bench.docker.remove(&bench.placement, &|_| {}).await.unwrap();
    assert_eq!(bench.engine.exit_codes(&id), "0", "it did not end on its signal");
    assert_eq!(bench.everything(), Vec::<String>::new());
    bench.docker.remove(&bench.placement, &|_| {}).await.unwrap();
    bench.placement.has_been_ready = false;
    assert_eq!(bench.observe().await.state, RunState::Absent);
    bench.ensure().await;
}

#[tokio::test]
async fn the_log_is_read_and_followed() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    assert_eq!(bench.docker.logs(&bench.placement, LogPosition::Tail(10)).await.unwrap().text, "");
    bench.ensure().await;
    let tail = bench.docker.logs(&bench.placement, LogPosition::Tail(100)).await.unwrap();
    assert!(tail.text.contains("listening on 0.0.0.0:"), "{}", tail.text);
    let one = bench.docker.logs(&bench.placement, LogPosition::Tail(1)).await.unwrap();
    assert_eq!(one.text.lines().count(), 1);
    let nothing = bench.docker.logs(&bench.placement, LogPosition::Byte(tail.next)).await.unwrap();
    assert_eq!((nothing.text.as_str(), nothing.next), ("", tail.next));
    let none = bench.docker.logs(&bench.placement, LogPosition::Tail(0)).await.unwrap();
    assert_eq!((none.text.as_str(), none.next), ("", tail.next));
    bench.engine.docker(&["stop", &bench.container()]);
    let more = bench.docker.logs(&bench.placement, LogPosition::Byte(tail.next)).await.unwrap();
    assert!(more.text.contains("the simulated backend has ended") && !more.text.contains("listening on"), "{}", more.text);
    assert!(more.next > tail.next);
}

#[tokio::test]
async fn a_stranger_on_a_port_is_told() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    for port in [bench.placement.ports.api, bench.placement.ports.site] {
        let stranger = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let refused = bench.try_ensure().await;
        assert!(matches!(refused, Err(ProviderError::PortTaken { port: told, .. }) if told == port), "{refused:?}");
        let all = bench.engine.containers(bench.placement.project.as_str(), "backend");
        assert_eq!(all, Vec::<String>::new(), "a container is left that was never started");
        drop(stranger);
    }
    bench.ensure().await;
}

#[tokio::test]
async fn a_suspended_backend_is_not_absent_and_comes_back() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.ensure().await;
    let id = bench.container();
    bench.engine.docker(&["pause", &id]);
    let seen = bench.observe().await;
    assert_eq!((seen.state, seen.data), (RunState::Unready, DataState::Present));
    assert_eq!(observed_drift(&seen, "container"), Some("paused"));
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.container(), id);
    bench.engine.docker(&["pause", &id]);
    bench.docker.remove(&bench.placement, &|_| {}).await.unwrap();
    assert_eq!(bench.engine.exit_codes(&id), "0", "it was killed instead of stopped");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.placement.spec.settings.docker.image = Some(BROKEN.to_owned());
    match bench.try_ensure().await {
        Err(ProviderError::Exited { status, log }) => {
            assert_eq!(status, "exit code 7");
            assert!(log.iter().any(|line| line == "it is broken"), "{log:?}");
        }
        other => panic!("{other:?}"),
    }
    let seen = bench.observe().await;
    assert_eq!(seen.state, RunState::Stopped);
    assert!(observed_drift(&seen, "container").unwrap().contains("it is broken"), "{seen:?}");
    bench.placement.spec.settings.docker.image = Some(BACKEND.to_owned());
    assert_eq!(bench.ensure().await.drift, Vec::new());
}

#[tokio::test]
async fn nothing_secret_can_be_inspected() {
    let engine = engine_or_skip!();
    let mut bench = DockerFixture::new(engine);
    bench.ensure().await;
    let (secret, key) = (bench.placement.instance_secret.expose(), bench.placement.admin_key.expose());
    for thing in bench.everything() {
        let (kind, name) = thing.split_once(' ').unwrap();
        let text = engine.docker(&[kind, "inspect", name]);
        assert!(!text.contains(secret) && !text.contains(key), "{thing}");
    }
    // The image's own files are there, for their owner only, so that its own scripts go on working.
    assert_eq!(bench.shell("cat /convex/data/credentials/instance_secret"), secret);
    let modes = bench.shell("ls -ln /convex/data/credentials");
    assert!(modes.lines().skip(1).all(|line| line.starts_with("-rw------- 1 0 0")), "{modes}");
    let key = engine.docker(&["exec", "-w", "/convex", &bench.container(), "./generate_admin_key.sh"]);
    assert!(key.starts_with(&format!("{}|", bench.instance())), "another name");
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let engine = engine_or_skip!();
    let mut bench = DockerFixture::new(engine);
    bench.ensure().await;
    let name = bench.inspect()["Name"].as_str().unwrap().trim_start_matches('/').to_owned();
    bench.docker.remove(&bench.placement, &|_| {}).await.unwrap();
    bench.placement.has_been_ready = false;
    let stranger = engine.docker(&["create", "--name", &name, BACKEND]);
    let refused = bench.try_ensure().await;
    assert!(matches!(&refused, Err(ProviderError::Unsupported(why)) if why.contains(&name)), "{refused:?}");
    bench.docker.remove(&bench.placement, &|_| {}).await.unwrap();
    assert_eq!(engine.inspect(&stranger)["State"]["Status"], "created");
    engine.docker(&["rm", "-v", &stranger]);
    bench.ensure().await;
}

#[tokio::test]
async fn a_tag_that_moves_changes_nothing_that_runs() {
    let engine = engine_or_skip!();
    let mut bench = DockerFixture::new(engine);
    let tag = format!("convexinfra-test/moving:{}", unique("t"));
    engine.docker(&["tag", BACKEND, &tag]);
    bench.placement.spec.settings.docker.image = Some(tag.clone());
    bench.ensure().await;
    let id = bench.container();
    engine.docker(&["tag", BACKEND_TWO, &tag]);
    assert_eq!(bench.ensure().await.drift, Vec::new());
    assert_eq!(bench.container(), id);
    engine.docker(&["rmi", &tag]);
}

#[tokio::test]
async fn the_container_is_kept_as_narrow_as_it_can_be() {
    let mut bench = DockerFixture::new(engine_or_skip!());
    bench.ensure().await;
    let seen = bench.inspect();
    let host = &seen["HostConfig"];
    let port = bench.placement.ports.api.to_string();
    for (value, wanted) in [
        (&host["Privileged"], serde_json::json!(false)),
        (&host["ReadonlyRootfs"], serde_json::json!(true)),
        (&host["RestartPolicy"]["Name"], serde_json::json!("unless-stopped")),
        (&host["PidsLimit"], serde_json::json!(4096)),
        (&host["CapDrop"], serde_json::json!(["ALL"])),
        (&host["LogConfig"]["Config"]["max-size"], serde_json::json!("10m")),
        (&host["PortBindings"][format!("{port}/tcp")], serde_json::json!([{ "HostIp": "127.0.0.1", "HostPort": port }])),
        (&seen["Config"]["StopSignal"], serde_json::json!("SIGINT")),
        (&seen["Mounts"][0]["Destination"], serde_json::json!("/convex/data")),
    ] {
        assert_eq!(*value, wanted);
    }
    bench.engine.until("the container is healthy", |_| bench.inspect()["State"]["Health"]["Status"] == "healthy");
}
