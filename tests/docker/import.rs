//! Taking over what the official compose file started.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::commands::Project;
use super::rig::{BACKEND, COMPOSE_NETWORK, unique};
use crate::engine_or_skip;
use fixture::get;

const BLOCKS: &str = "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n";

/// Starts a container as the official compose file does, with what `more` adds, and gives its name, volume and ports.
pub(super) fn composed(project: &Project, more: &[&str]) -> (String, String, (u16, u16)) {
    let name = unique("compose");
    let volume = format!("{name}_data");
    let (api, site) = fixture::free_ports();
    let (publish_api, publish_site) = (format!("{api}:3210"), format!("{site}:3211"));
    let (cloud, sites) =
        (format!("CONVEX_CLOUD_ORIGIN=http://127.0.0.1:{api}"), format!("CONVEX_SITE_ORIGIN=http://127.0.0.1:{site}"));
    let mount = format!("{volume}:/convex/data");
    let mut words = vec![
        "run",
        "-d",
        "--network",
        COMPOSE_NETWORK,
        "--name",
        &name,
        "--stop-signal",
        "SIGINT",
        "-p",
        &publish_api,
        "-p",
        &publish_site,
    ];
    words.extend([
        "-v",
        &mount,
        "-e",
        &cloud,
        "-e",
        &sites,
        "-e",
        "DISABLE_BEACON=",
        "-e",
        "POSTGRES_URL=",
        "-e",
        "RUST_LOG=info",
    ]);
    words.extend(more);
    words.push(BACKEND);
    project.engine.docker(&words);
    project.engine.until("it answers", |_| {
        std::net::TcpStream::connect(("127.0.0.1", api)).is_ok()
            && std::panic::catch_unwind(|| get(&format!("http://127.0.0.1:{api}/version")).0 == 200).unwrap_or(false)
    });
    (name, volume, (api, site))
}

fn clear(project: &Project, name: &str, volume: &str) {
    project.engine.try_docker(&["rm", "-fv", name]);
    project.engine.try_docker(&["volume", "rm", "-f", volume]);
}

#[test]
fn a_composed_backend_is_taken_over_with_its_data() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    // Neither name nor secret is in its variables: both are in the files of its volume.
    let (name, volume, (api, _)) = composed(&project, &["-e", "INSTANCE_NAME=", "-e", "INSTANCE_SECRET="]);
    engine.docker(&["exec", &name, "sh", "-c", "echo kept > /convex/data/mark"]);
    let secret = engine.docker(&["exec", &name, "cat", "/convex/data/credentials/instance_secret"]);
    let before = engine.inspect(&name);

    let run = world.run_expecting(0, &["import", "dev", "--container", &name]);
    assert!(run.out.contains("convex-self-hosted") && run.out.contains("other machines reach its ports now"), "{run}");
    assert!(!run.out.contains(&secret) && !run.err.contains(&secret));
    assert_eq!(engine.inspect(&name)["State"]["StartedAt"], before["State"]["StartedAt"], "importing has touched it");
    assert_eq!(project.everything(), Vec::<String>::new());
    assert!(world.run_expecting(3, &["drift"]).out.contains("taken over"));
    world.run_expecting(4, &["import", "dev", "--container", &name]);
    // Forgotten before it is replaced, it is taken up again as it was the first time.
    let forgotten = world.run_expecting(0, &["forget", "dev", "--yes"]);
    assert!(forgotten.err.contains(&format!("convexinfra import dev --container {name}")), "{forgotten}");
    world.run_expecting(0, &["import", "dev", "--container", &name]);

    world.apply();
    world.assert_converged();
    let (url, _) = world.assert_reachable(".env.local", "convex-self-hosted");
    assert_eq!(url, format!("http://127.0.0.1:{api}"));
    assert!(!engine.try_docker(&["inspect", &name]), "the container that was taken over is still there");
    let container = project.container();
    assert_eq!(engine.docker(&["exec", &container, "cat", "/convex/data/mark"]), "kept");
    assert_eq!(engine.docker(&["exec", &container, "cat", "/convex/data/credentials/instance_secret"]), secret);
    assert_eq!(engine.inspect(&container)["Mounts"][0]["Name"], volume.as_str());

    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(project.everything(), Vec::<String>::new());
    assert!(!engine.try_docker(&["volume", "inspect", &volume]), "its data was to be destroyed");
    clear(&project, &name, &volume);
}

/// What a container was started with is recorded, so the plan names every difference to the manifest before anything is
/// lost, and a manifest that says the same keeps it.
#[test]
fn what_a_container_was_started_with_is_kept_or_named() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    let set = [
        "REDACT_LOGS_TO_CLIENT=true",
        "DISABLE_BEACON=true",
        "DOCUMENT_RETENTION_DELAY=604800",
        "RUST_LOG=debug",
        "APPLICATION_MAX_CONCURRENT_MUTATIONS=32",
        "HTTP_SERVER_TIMEOUT_SECONDS=60",
        "ACTIONS_USER_TIMEOUT_SECS=900",
        "CONVEX_CLOUD_ORIGIN=https://api.example.com",
    ];
    let mut more = vec!["--memory", "500m"];
    more.extend(set.iter().flat_map(|variable| ["-e", *variable]));
    let (name, volume, _) = composed(&project, &more);

    let told = world.run_expecting(0, &["import", "dev", "--container", &name, "--json"]).document();
    assert_eq!(told["inexpressible"], serde_json::json!(["ACTIONS_USER_TIMEOUT_SECS"]));
    let notices = told["notices"].to_string();
    for words in
        ["other machines reach its ports now", "ACTIONS_USER_TIMEOUT_SECS", "[backends.dev]", "tuning.redact_logs = true"]
    {
        assert!(notices.contains(words), "{words}: {notices}");
    }
    let plan = world.plan();
    let changes = plan["steps"][0]["changes"].as_array().unwrap();
    let before = |path: &str| {
        let found = changes.iter().find(|change| change["path"] == path);
        found.unwrap_or_else(|| panic!("{path}: {plan:#}"))["before"].as_str().unwrap().to_owned()
    };
    for (path, value) in [
        ("tuning.redact_logs", "true"),
        ("tuning.beacon", "false"),
        ("tuning.document_retention", "7d"),
        ("tuning.log_level", "debug"),
        ("tuning.max_concurrent_mutations", "32"),
        ("tuning.http_timeout", "1m"),
        ("resources.memory", "500 MiB"),
        ("origins.api", "https://api.example.com"),
        ("docker.publish", "0.0.0.0"),
    ] {
        assert_eq!(before(path), value, "{path}");
    }

    // The lines that it told are the ones that keep it.
    let lines: String = told["not_kept"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, value)| format!("{path} = {}\n", value.as_str().unwrap()))
        .collect();
    project.manifest(&BLOCKS.replace("\"docker\"\n", &format!("\"docker\"\n{lines}")));
    let plan = world.plan();
    let changes = plan["steps"][0]["changes"].as_array().unwrap_or_else(|| panic!("{plan:#}"));
    let left: Vec<&str> = changes.iter().map(|change| change["path"].as_str().unwrap()).collect();
    assert!(!left.iter().any(|path| path.starts_with("tuning.") || path.starts_with("resources.")), "{plan:#}");
    world.apply();
    world.assert_converged();
    let seen = engine.inspect(&project.container());
    assert_eq!(seen["HostConfig"]["Memory"], 500 * 1024 * 1024);
    let command = seen["Config"]["Cmd"].to_string();
    assert!(command.contains("--redact-logs-to-client") && command.contains("--disable-beacon"), "{command}");
    let variables = seen["Config"]["Env"].to_string();
    for variable in ["DOCUMENT_RETENTION_DELAY=604800", "RUST_LOG=debug", "APPLICATION_MAX_CONCURRENT_MUTATIONS=32"] {
        assert!(variables.contains(variable), "{variable}: {variables}");
    }
    clear(&project, &name, &volume);
}

#[test]
fn a_take_over_that_fails_leaves_the_old_one_running() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    let secret = "ab".repeat(32);
    let variables = ["-e", "INSTANCE_NAME=shop", "-e", &format!("INSTANCE_SECRET={secret}")];
    let (name, volume, (api, _)) = composed(&project, &[&variables[..], &["--restart", "always"]].concat());
    world.run_expecting(0, &["import", "dev", "--container", &name]);
    world.manifest(&world.read("convex.toml").replace("backend:one", "backend:broken"));
    let failed = world.run_expecting(1, &["apply", "--yes"]);
    assert!(failed.err.contains("the one from before runs again"), "{failed}");
    let seen = engine.inspect(&name);
    assert_eq!((&seen["State"]["Running"], &seen["HostConfig"]["RestartPolicy"]["Name"]), (&true.into(), &"always".into()));
    engine.until("it answers again", |_| {
        std::panic::catch_unwind(|| get(&format!("http://127.0.0.1:{api}/instance_name")).1 == "shop").unwrap_or(false)
    });
    project.manifest(BLOCKS);
    world.apply();
    world.assert_converged();
    world.assert_reachable(".env.local", "shop");
    clear(&project, &name, &volume);
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_reasons() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    let refused = |id: &str, words: &str| {
        let run = world.run_expecting(4, &["import", "dev", "--container", id]);
        assert!(run.err.contains(words), "{words}: {run}");
    };
    refused("no-such-container", "is not there");
    let name = unique("other");
    let plain = engine.docker(&["create", "--entrypoint", "sleep", "-v", "/tmp:/convex/data", "--name", &name, BACKEND, "1"]);
    refused(&plain, "a directory of the engine's machine");
    engine.docker(&["rm", "-fv", &plain]);
    let plain = engine.docker(&["create", "-v", &format!("{name}:/convex/data"), BACKEND]);
    refused(&plain, "does not publish its port 3210");
    engine.docker(&["rm", "-fv", &plain]);
    let ports = ["-p", "127.0.0.1:3998:3210", "-p", "127.0.0.1:3999:3211"];
    let volume = ["-v", &format!("{name}:/convex/data")];
    let plain = engine.docker(&[&["create"][..], &ports, &volume, &[BACKEND]].concat());
    refused(&plain, "has it ever run?");
    engine.docker(&["rm", "-fv", &plain]);
    let variables = ["-e", "INSTANCE_NAME=a", "-e", &format!("INSTANCE_SECRET={}", "0".repeat(64))];
    let more = ["-e", "MYSQL_URL=mysql://u:p@h:3306"];
    let plain = engine.docker(&[&["create"][..], &ports, &volume, &variables, &more, &[BACKEND]].concat());
    refused(&plain, "engine = \"mysql\"");
    engine.docker(&["rm", "-fv", &plain]);
    let plain = engine.docker(&[&["create"][..], &ports, &volume, &variables, &[BACKEND]].concat());
    refused(&plain, "does not answer");
    engine.docker(&["rm", "-fv", &plain]);
    // What ends of itself, what something else starts again, and what is reached through another container only.
    let more = ["--network", "none", "--entrypoint", "sleep"];
    let create = |flags: &[&str]| engine.docker(&[&["create"][..], &more, flags, &[BACKEND, "1"]].concat());
    let plain = create(&[&volume[..], &["--rm"]].concat());
    refused(&plain, &format!("-v {name}:/convex/data"));
    engine.docker(&["rm", "-fv", &plain]);
    let plain = create(&["--rm"]);
    refused(&plain, "docker create --name");
    engine.docker(&["rm", "-fv", &plain]);
    let plain = create(&[&volume[..], &["--label", "com.docker.swarm.service.name=shop_backend"]].concat());
    refused(&plain, "docker service scale shop_backend=0");
    engine.docker(&["rm", "-fv", &plain]);
    let side = unique("side");
    engine.docker(&["create", "--name", &side, "--entrypoint", "sleep", BACKEND, "1"]);
    let network = format!("container:{side}");
    let plain = engine.docker(&[&["create"][..], &volume, &["--network", &network, BACKEND]].concat());
    refused(&plain, "start it on a network of its own");
    engine.docker(&["rm", "-fv", &plain, &side]);
    engine.docker(&["volume", "rm", &name]);
    world.run_expecting(64, &["import", "dev"]);
    let run = world.run_expecting(4, &["import", "other", "--container", "x"]);
    assert!(run.err.contains("[backends.other]"), "{run}");
    world.apply();
    refused(&project.container(), "was made by convexinfra");
}

/// An anonymous volume goes with its container unless it is kept on purpose.
#[test]
fn a_volume_without_a_name_is_taken_over_too() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    let (api, site) = fixture::free_ports();
    let (publish_api, publish_site) = (format!("127.0.0.1:{api}:3210"), format!("127.0.0.1:{site}:3211"));
    let cloud = format!("CONVEX_CLOUD_ORIGIN=http://127.0.0.1:{api}");
    let sites = format!("CONVEX_SITE_ORIGIN=http://127.0.0.1:{site}");
    let run = ["run", "-d", "--network", COMPOSE_NETWORK, "-e", &cloud, "-e", &sites];
    let id = engine
        .docker(&[&run[..], &["-e", "INSTANCE_NAME=nameless", "-p", &publish_api, "-p", &publish_site, BACKEND]].concat());
    engine.until("it answers", |_| {
        std::panic::catch_unwind(|| get(&format!("http://127.0.0.1:{api}/version")).0 == 200).unwrap_or(false)
    });
    engine.docker(&["exec", &id, "sh", "-c", "echo kept > /convex/data/mark"]);
    world.run_expecting(0, &["import", "dev", "--container", &id]);
    world.apply();
    world.assert_converged();
    world.assert_reachable(".env.local", "nameless");
    assert_eq!(engine.docker(&["exec", &project.container(), "cat", "/convex/data/mark"]), "kept");
    let volume = engine.inspect(&project.container())["Mounts"][0]["Name"].as_str().unwrap().to_owned();
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert!(!engine.try_docker(&["volume", "inspect", &volume]), "its data was to be destroyed");
}

/// Nothing knows the ports that it was given, so they are those of a new backend until it answers there.
#[test]
fn a_backend_without_published_ports_gets_others_where_its_first_are_taken() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    let (name, volume) = (unique("exposed"), unique("exposed-data"));
    let mount = format!("{volume}:/convex/data");
    let run =
        ["run", "-d", "--name", &name, "--network", COMPOSE_NETWORK, "-v", &mount, "-e", "INSTANCE_NAME=exposed", BACKEND];
    engine.docker(&run);
    engine.until("it answers", |engine| engine.try_docker(&["exec", &name, "curl", "-fsS", "http://127.0.0.1:3210/version"]));
    let told = world.run_expecting(0, &["import", "dev", "--container", &name, "--json"]).document();
    let port: u16 = told["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let run = world.run_expecting(0, &["apply", "--yes"]);
    assert!(!run.err.contains("runs again"), "it was stopped for ports that were taken: {run}");
    world.assert_converged();
    let (url, _) = world.assert_reachable(".env.local", "exposed");
    assert!(!url.ends_with(&format!(":{port}")), "{url}");
    // From here on clients know its ports, so it keeps them.
    drop(taken);
    world.run_expecting(0, &["stop", "dev"]);
    world.run_expecting(0, &["start", "dev"]);
    assert_eq!(world.assert_reachable(".env.local", "exposed").0, url);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
}
