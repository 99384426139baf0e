//! Situations that users got into on real engines: what was lost, misread or not named there is kept, told apart and named
//! here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use super::commands::Project;
use super::import::composed;
use super::rig::{BACKEND, Engine, unique};
use crate::engine_or_skip;
use fixture::executable;

pub(super) const ONE: &str = "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n";

pub(super) fn applied(engine: &'static Engine, blocks: &str) -> Project {
    let project = Project::new(engine, blocks);
    project.world.apply();
    project.world.assert_converged();
    project
}

fn data_volume(engine: &Engine, container: &str) -> String {
    let mounts = engine.inspect(container)["Mounts"].clone();
    let mount = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/convex/data").unwrap().clone();
    mount["Name"].as_str().unwrap().to_owned()
}

/// Starts a container of the same image, command and variables with another volume, under the name and labels of the first.
fn recreated_on(engine: &Engine, id: &str, volume: &str) {
    let seen = engine.inspect(id);
    let name = seen["Name"].as_str().unwrap().trim_start_matches('/').to_owned();
    engine.docker(&["rm", "-f", id]);
    let mut words: Vec<String> = ["run", "-d", "--network", "none", "--name", &name].map(str::to_owned).to_vec();
    for (label, value) in seen["Config"]["Labels"].as_object().unwrap() {
        words.extend(["--label".to_owned(), format!("{label}={}", value.as_str().unwrap())]);
    }
    words.extend(["-v".to_owned(), format!("{volume}:/convex/data"), BACKEND.to_owned()]);
    engine.docker(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_container_on_another_volume_is_replaced_and_nothing_is_called_gone() {
    let engine = engine_or_skip!();
    let project = applied(engine, ONE);
    let world = &project.world;
    let before = project.container();
    engine.docker(&["exec", &before, "sh", "-c", "echo kept > /convex/data/mark"]);
    let other = unique("othervolume");
    recreated_on(engine, &before, &other);
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains("mounts") && !drift.out.contains("gone") && !drift.err.contains("destroy"), "{drift}");
    world.apply();
    world.assert_converged();
    assert_eq!(engine.docker(&["exec", &project.container(), "cat", "/convex/data/mark"]), "kept");
    // What the other container wrote is not ours to delete.
    assert!(engine.try_docker(&["volume", "inspect", &other]));
    engine.docker(&["volume", "rm", &other]);
}

#[test]
fn a_volume_that_was_restored_from_a_backup_is_taken_up_as_it_is_said() {
    let engine = engine_or_skip!();
    let project = applied(engine, ONE);
    let world = &project.world;
    let container = project.container();
    engine.docker(&["exec", &container, "sh", "-c", "echo kept > /convex/data/mark"]);
    let volume = data_volume(engine, &container);
    let backup = unique("backup");
    let copy = |from: &str, to: &str| {
        let (from, to) = (format!("{from}:/from:ro"), format!("{to}:/to"));
        engine.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "cp",
            "-v",
            &from,
            "-v",
            &to,
            BACKEND,
            "-a",
            "/from/.",
            "/to",
        ]);
    };
    engine.docker(&["stop", &container]);
    copy(&volume, &backup);
    engine.docker(&["rm", "-f", &container]);
    engine.docker(&["volume", "rm", &volume]);
    // As a backup tool makes it: of the same name, and without labels.
    engine.docker(&["volume", "create", &volume]);
    copy(&backup, &volume);
    let run = world.run_expecting(4, &["apply", "--yes"]);
    assert!(run.err.contains(&volume) && run.err.contains("convexinfra.role=data"), "{run}");
    let line = run.err.lines().find(|line| line.contains("docker volume create")).expect("no way is named");
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    engine.docker(&words);
    copy(&volume, words.last().unwrap());
    world.apply();
    world.assert_converged();
    assert_eq!(engine.docker(&["exec", &project.container(), "cat", "/convex/data/mark"]), "kept");
    engine.docker(&["volume", "rm", "-f", &volume, &backup]);
}

#[test]
fn a_second_backend_on_the_volume_is_named_and_refused() {
    let engine = engine_or_skip!();
    let project = applied(engine, ONE);
    let world = &project.world;
    let volume = data_volume(engine, &project.container());
    let second = unique("second");
    let mount = format!("{volume}:/convex/data");
    let labels = ["--label", "com.docker.compose.project=old", "--label", "com.docker.compose.service=backend"];
    engine.docker(&[&["run", "-d", "--network", "none", "--name", &second][..], &labels, &["-v", &mount, BACKEND]].concat());
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains(&second), "{drift}");
    let run = world.run_expecting(1, &["apply", "--yes"]);
    assert!(run.err.contains(&format!("docker rm -f {second}")) && run.err.contains("compose project `old`"), "{run}");
    engine.docker(&["rm", "-f", &second]);
    world.apply();
    world.assert_converged();
    // What reads a backup from it is no second backend.
    let reader = unique("reader");
    let (read_only, aside) = (format!("{volume}:/convex/data:ro"), format!("{volume}:/backup"));
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        &reader,
        "--entrypoint",
        "sleep",
        "-v",
        &read_only,
        BACKEND,
        "600",
    ]);
    world.assert_converged();
    engine.docker(&["rm", "-f", &reader]);
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        &reader,
        "--entrypoint",
        "sleep",
        "-v",
        &aside,
        BACKEND,
        "600",
    ]);
    world.assert_converged();
    // It keeps the volume, though, so that the removal says which container is in its way, and ends once that is gone.
    let destroy = ["destroy", "--yes", "--allow-destroy", "dev"];
    let run = world.run_expecting(1, &destroy);
    assert!(run.err.contains("provider.volume_in_use") && run.err.contains(&format!("docker rm -f {reader}")), "{run}");
    engine.docker(&["rm", "-f", &reader]);
    world.run_expecting(0, &destroy);
    assert!(!engine.try_docker(&["volume", "inspect", &volume]));
}

#[test]
fn a_backend_whose_record_is_lost_is_not_made_twice_and_is_recovered() {
    let engine = engine_or_skip!();
    let mut project = applied(engine, ONE);
    let container = project.container();
    engine.docker(&["exec", &container, "sh", "-c", "echo kept > /convex/data/mark"]);
    let (url, key) = project.world.coordinates(".env.local");
    let lost = project.world.home.with_file_name("another-home");
    project.world.set("CONVEXINFRA_HOME", lost.to_str().unwrap());
    project.world.home = lost;
    let world = &project.world;
    let run = world.run_expecting(4, &["apply", "--yes"]);
    assert!(run.err.contains("convexinfra recover"), "{run}");
    assert_eq!(engine.containers(&project.name, "backend").len(), 1, "a second backend was made");
    assert_eq!(world.coordinates(".env.local"), (url.clone(), key));

    let run = world.run_expecting(0, &["recover"]);
    assert!(run.out.contains("dev"), "{run}");
    world.apply();
    world.assert_converged();
    assert_eq!(world.assert_reachable(".env.local", &format!("{}-dev", project.name)).0, url);
    assert_eq!(engine.docker(&["exec", &project.container(), "cat", "/convex/data/mark"]), "kept");
    world.run_expecting(0, &["recover"]);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
}

#[test]
fn a_launch_file_that_is_gone_is_named_and_put_back_at_once() {
    let engine = engine_or_skip!();
    let project = applied(engine, ONE);
    let world = &project.world;
    let container = project.container();
    engine.docker(&["exec", &container, "sh", "-c", "rm /convex/data/credentials/launch-*"]);
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains("launch_file"), "{drift}");
    engine.try_docker(&["restart", "-t", "1", &container]);
    engine.until("it ends again and again", |engine| engine.inspect(&container)["RestartCount"].as_i64() > Some(1));
    assert!(world.run_expecting(3, &["drift"]).out.contains("launch_file"));
    world.apply();
    world.assert_converged();
    assert_eq!(project.container(), container, "there was no reason for another container");
}

#[test]
fn two_networks_of_one_name_become_one() {
    let engine = engine_or_skip!();
    let project = applied(engine, ONE);
    let world = &project.world;
    let filter = format!("label=convexinfra.project={}", project.name);
    let ids = || engine.docker(&["network", "ls", "-q", "--no-trunc", "--filter", &filter]);
    let network: serde_json::Value = serde_json::from_str(&engine.docker(&["network", "inspect", &ids()])).unwrap();
    let request = serde_json::json!({ "Name": network[0]["Name"], "Driver": "bridge", "Labels": network[0]["Labels"] });
    let socket = engine.host.trim_start_matches("unix://");
    let sent = Command::new("curl")
        .args(["-fsS", "--unix-socket", socket, "-H", "content-type: application/json", "-d", &request.to_string()])
        .arg("http://localhost/v1.41/networks/create")
        .output()
        .unwrap();
    // Newer engines have the race no more.
    if !sent.status.success() {
        return;
    }
    assert_eq!(ids().lines().count(), 2);
    engine.docker(&["rm", "-f", &project.container()]);
    world.apply();
    world.assert_converged();
    assert_eq!(ids().lines().count(), 1);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
}

#[test]
fn an_unreachable_port_of_a_healthy_container_is_told_within_seconds() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, ONE);
    // The engine's socket is reached from a network that has no ports of the engine's machine, as in a container.
    let mut command = Command::new("unshare");
    let made = project.world.command(&["apply", "--yes"]);
    command.arg("-n").arg(executable()).args(made.get_args()).current_dir(made.get_current_dir().unwrap()).env_clear();
    command.envs(made.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let began = std::time::Instant::now();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["docker.publish", "origins", "healthy"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(240), "{said}");
    // From the engine's own machine the same backend is fine.
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn logs_have_no_terminal_sequences() {
    let engine = engine_or_skip!();
    let project = applied(engine, ONE);
    let seen = engine.inspect(&project.container())["Config"]["Env"].to_string();
    assert!(seen.contains("NO_COLOR=1"), "{seen}");
    engine.docker(&["exec", &project.container(), "sh", "-c", "printf '\\033[32mgreen\\033[0m\\n' > /proc/1/fd/1"]);
    for words in [&["logs", "dev"][..], &["logs", "dev", "--json"]] {
        let run = project.world.run_expecting(0, words);
        assert!(run.out.contains("green") && !run.out.contains("[32m"), "{run}");
    }
}

#[test]
fn data_in_another_folder_is_refused_with_commands_that_work() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, ONE);
    let world = &project.world;
    let (name, volume, _) = composed(&project, &["-e", "STORAGE_DIR=/convex/data/files"]);
    let run = world.run_expecting(4, &["import", "dev", "--container", &name]);
    assert!(run.err.contains("STORAGE_DIR") && run.err.contains("cp -a /convex/data/files/. /convex/data/storage/"), "{run}");
    assert!(world.names().is_empty());
    engine.docker(&["rm", "-fv", &name]);
    engine.docker(&["volume", "rm", &volume]);
}

#[test]
fn a_container_behind_a_proxy_keeps_what_leads_to_it() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, ONE);
    let world = &project.world;
    let (name, volume, edge) = (unique("proxied"), unique("proxied-data"), unique("edge"));
    engine.docker(&["network", "create", &edge]);
    let mount = format!("{volume}:/convex/data");
    let mut words = vec!["run", "-d", "--name", &name, "--network", &edge, "--network-alias", "backend", "-v", &mount];
    // As a panel starts it: no port is published, and the proxy finds it by labels.
    for variable in
        ["CONVEX_CLOUD_ORIGIN=https://api.example.com", "CONVEX_SITE_ORIGIN=https://example.com", "RUST_BACKTRACE=1"]
    {
        words.extend(["-e", variable]);
    }
    words.extend(["--label", "traefik.enable=true", "--add-host", "sso.example.com:10.1.1.1", "--ulimit", "nofile=2048:2048"]);
    words.extend(["--shm-size", "256m", BACKEND]);
    engine.docker(&words);
    engine.until("it has made its credentials", |engine| {
        engine.try_docker(&["exec", &name, "curl", "-fsS", "http://127.0.0.1:3210/version"])
    });
    let told = world.run_expecting(0, &["import", "dev", "--container", &name, "--json"]).document();
    let notices = told["notices"].to_string();
    for words in [edge.as_str(), "ulimits", "traefik.enable", "sso.example.com", "RUST_BACKTRACE", "api_port = 3210"] {
        assert!(notices.contains(words), "{words}: {notices}");
    }
    assert!(world.run_expecting(3, &["drift"]).out.contains("ulimits"));
    let lines: Vec<&str> = told["not_kept_docker"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let origins: String = told["not_kept"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, value)| format!("{path} = {}\n", value.as_str().unwrap()))
        .collect();
    let blocks = ONE.replace("\"docker\"\n", &format!("\"docker\"\n{origins}"));
    let mut project = project;
    project.manifest(&format!("{blocks}{}\n", lines.join("\n")));
    project.world.set("RUST_BACKTRACE", "1");
    let world = &project.world;
    world.apply();
    world.assert_converged();
    let container = project.container();
    let seen = engine.inspect(&container);
    assert_eq!(seen["Config"]["Labels"]["traefik.enable"], "true");
    assert_eq!(seen["HostConfig"]["ShmSize"], 256 * 1024 * 1024);
    assert!(seen["HostConfig"]["ExtraHosts"].to_string().contains("sso.example.com:10.1.1.1"));
    assert!(seen["NetworkSettings"]["Networks"][&edge].is_object(), "{seen:#}");
    // Who knew it as `backend:3210` still does, and the variable is there without being shown.
    let url = "http://backend:3210/version";
    engine.docker(&["run", "--rm", "--network", &edge, "--entrypoint", "curl", BACKEND, "-fsS", "--max-time", "20", url]);
    assert!(!seen["Config"]["Env"].to_string().contains("RUST_BACKTRACE"));
    assert!(engine.docker(&["exec", &container, "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"]).contains("RUST_BACKTRACE=1"));
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    engine.docker(&["network", "rm", &edge]);
}

#[test]
fn two_stacks_that_call_themselves_the_same_live_in_one_home() {
    let engine = engine_or_skip!();
    let block = |name: &str| {
        format!("[backends.{name}]\nprovider = \"docker\"\nenv_file = \"{name}.env\"\n[backends.{name}.docker]\nIMAGE\n")
    };
    let project = Project::new(engine, &format!("{}{}", block("one"), block("two")));
    let world = &project.world;
    let (first, first_volume, _) = composed(&project, &[]);
    let (second, second_volume, _) = composed(&project, &[]);
    world.run_expecting(0, &["import", "one", "--container", &first]);
    world.run_expecting(0, &["import", "two", "--container", &second]);
    world.apply();
    world.assert_converged();
    for name in ["one", "two"] {
        world.assert_reachable(&format!("{name}.env"), "convex-self-hosted");
    }
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "one,two"]);
    for volume in [first_volume, second_volume] {
        assert!(!engine.try_docker(&["volume", "inspect", &volume]));
    }
}
