//! A container that is changed by hand: every change is found, named, and repaired.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::commands::Project;
use super::rig::{BACKEND_TWO, DASHBOARD, Engine, POSTGRES};
use crate::engine_or_skip;

const BLOCKS: &str =
    "[backends.dev]\nprovider = \"docker\"\nresources = { cpus = 1, memory = \"256 MiB\" }\n[backends.dev.docker]\nIMAGE\n";

/// Makes a container anew by hand with one thing changed, through the engine's own interface.
fn made_anew(engine: &Engine, id: &str, change: impl Fn(&mut Value)) {
    let seen = engine.inspect(id);
    let mut body = seen["Config"].clone();
    body["HostConfig"] = seen["HostConfig"].clone();
    let networks = seen["NetworkSettings"]["Networks"].as_object().unwrap();
    let (network, endpoint) = networks.iter().next().unwrap();
    let aliases: Vec<&Value> =
        endpoint["Aliases"].as_array().unwrap().iter().filter(|alias| !id.starts_with(alias.as_str().unwrap())).collect();
    body["NetworkingConfig"] = json!({ "EndpointsConfig": { network: { "Aliases": aliases } } });
    change(&mut body);
    let name = seen["Name"].as_str().unwrap().trim_start_matches('/');
    engine.docker(&["rm", "-f", id]);
    let socket = engine.host.strip_prefix("unix://").unwrap();
    let file = engine.folder.path().join(format!("{name}.json"));
    std::fs::write(&file, body.to_string()).unwrap();
    let output = std::process::Command::new("curl")
        .args(["-fsS", "--unix-socket", socket, "-H", "content-type: application/json", "--data-binary"])
        .arg(format!("@{}", file.display()))
        .arg(format!("http://docker/containers/create?name={name}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Where this runs in a sandbox itself, a privileged container cannot start; that it is there is enough.
    engine.try_docker(&["start", name]);
}

type Hand = fn(&Engine, &str);

fn off_its_network_and_stopped(engine: &Engine, id: &str) {
    let name = engine.inspect(id)["HostConfig"]["NetworkMode"].as_str().unwrap().to_owned();
    engine.docker(&["network", "disconnect", &name, id]);
    engine.docker(&["stop", id]);
}

fn never_restarted_and_stopped(engine: &Engine, id: &str) {
    engine.docker(&["update", "--restart", "no", id]);
    engine.docker(&["stop", id]);
}

const CHANGES: [(&str, &str, Hand); 43] = [
    ("another memory limit", "resources.memory", |engine, id| {
        engine.docker(&["update", "--memory", "300m", "--memory-swap", "300m", id]);
    }),
    ("fewer processors", "resources.cpus", |engine, id| {
        engine.docker(&["update", "--cpus", "0.5", id]);
    }),
    ("fewer processes", "resources.processes", |engine, id| {
        engine.docker(&["update", "--pids-limit", "100", id]);
    }),
    ("another restart policy", "restart", |engine, id| {
        engine.docker(&["update", "--restart", "no", id]);
    }),
    ("stopped", "container", |engine, id| {
        engine.docker(&["stop", id]);
    }),
    ("killed", "container", |engine, id| {
        engine.docker(&["kill", id]);
    }),
    ("paused", "container", |engine, id| {
        engine.docker(&["pause", id]);
    }),
    ("removed", "container", |engine, id| {
        engine.docker(&["rm", "-f", id]);
    }),
    ("renamed", "name", |engine, id| {
        engine.docker(&["rename", id, &format!("somebody-elses-{}", &id[..8])]);
    }),
    ("off its network", "network", |engine, id| {
        let name = engine.inspect(id)["HostConfig"]["NetworkMode"].as_str().unwrap().to_owned();
        engine.docker(&["network", "disconnect", &name, id]);
    }),
    ("on another network too", "network", |engine, id| {
        engine.docker(&["network", "connect", "convexinfra-test-other", id]);
    }),
    ("one variable more", "variable.SHOW_PII_IN_ERRORS", |engine, id| {
        made_anew(engine, id, |body| body["Env"].as_array_mut().unwrap().push("SHOW_PII_IN_ERRORS=true".into()));
    }),
    ("another value of a variable", "variable.DOCUMENT_RETENTION_DELAY", |engine, id| {
        made_anew(engine, id, |body| {
            let all = body["Env"].as_array_mut().unwrap();
            all.retain(|line| !line.as_str().unwrap().starts_with("DOCUMENT_RETENTION_DELAY="));
            all.push("DOCUMENT_RETENTION_DELAY=60".into());
        });
    }),
    ("another image", "image", |engine, id| made_anew(engine, id, |body| body["Image"] = BACKEND_TWO.into())),
    ("one mount more", "mounts", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["Binds"] = json!(["/etc/hostname:/mnt/hostname:ro"]));
    }),
    ("published to the world", "ports", |engine, id| {
        made_anew(engine, id, |body| {
            for bindings in body["HostConfig"]["PortBindings"].as_object_mut().unwrap().values_mut() {
                bindings[0]["HostIp"] = "0.0.0.0".into();
            }
        });
    }),
    ("privileged", "privileged", |engine, id| made_anew(engine, id, |body| body["HostConfig"]["Privileged"] = true.into())),
    ("a file system that can be written to", "read_only", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["ReadonlyRootfs"] = false.into());
    }),
    ("a label of ours changed", "label.convexinfra.instance", |engine, id| {
        made_anew(engine, id, |body| body["Labels"]["convexinfra.instance"] = "another".into());
    }),
    ("another command line", "command", |engine, id| {
        made_anew(engine, id, |body| body["Cmd"].as_array_mut().unwrap().insert(0, "--redact-logs-to-client".into()));
    }),
    ("another size of a directory in memory", "scratch", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["Tmpfs"]["/tmp"] = "mode=1777,size=64m".into());
    }),
    ("one directory in memory more", "mounts", |engine, id| {
        made_anew(engine, id, |body| {
            body["HostConfig"]["Mounts"].as_array_mut().unwrap().push(json!({ "Type": "tmpfs", "Target": "/mnt" }));
        });
    }),
    ("looked after less often", "health.interval", |engine, id| {
        made_anew(engine, id, |body| body["Healthcheck"]["Interval"] = 60_000_000_000_i64.into());
    }),
    ("looked after with more patience", "health.timeout", |engine, id| {
        made_anew(engine, id, |body| body["Healthcheck"]["Timeout"] = 60_000_000_000_i64.into());
    }),
    ("looked after with more tries", "health.retries", |engine, id| {
        made_anew(engine, id, |body| body["Healthcheck"]["Retries"] = 50.into());
    }),
    ("another host name", "hostname", |engine, id| made_anew(engine, id, |body| body["Hostname"] = "another".into())),
    ("the name of the backend changed", "label.convexinfra.backend", |engine, id| {
        made_anew(engine, id, |body| body["Labels"]["convexinfra.backend"] = "another".into());
    }),
    ("another control plane", "label.convexinfra.control-plane", |engine, id| {
        made_anew(engine, id, |body| body["Labels"]["convexinfra.control-plane"] = "another".into());
    }),
    ("published for datagrams", "ports", |engine, id| {
        made_anew(engine, id, |body| {
            let all = body["HostConfig"]["PortBindings"].as_object().unwrap().clone();
            let changed = all.into_iter().map(|(port, bindings)| (port.replace("/tcp", "/udp"), bindings));
            body["HostConfig"]["PortBindings"] = Value::Object(changed.collect());
        });
    }),
    ("a process of the engine before its own", "init", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["Init"] = true.into());
    }),
    ("nothing of the kernel hidden", "masked_paths", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["MaskedPaths"] = json!([]));
    }),
    ("rules for devices", "device_cgroup_rules", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["DeviceCgroupRules"] = json!(["c 1:3 mr"]));
    }),
    ("one more group", "groups", |engine, id| made_anew(engine, id, |body| body["HostConfig"]["GroupAdd"] = json!(["27"]))),
    ("all ports published", "publish_all_ports", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["PublishAllPorts"] = true.into());
    }),
    ("a parameter of the kernel", "sysctls", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["Sysctls"] = json!({ "net.ipv4.ip_forward": "0" }));
    }),
    ("on one processor", "cpuset", |engine, id| {
        engine.docker(&["update", "--cpuset-cpus", "0", id]);
    }),
    ("the machine's shared memory", "ipc_mode", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["IpcMode"] = "host".into());
    }),
    ("the machine's name", "uts_mode", |engine, id| {
        made_anew(engine, id, |body| {
            body["HostConfig"]["UTSMode"] = "host".into();
            body["Hostname"] = "".into();
        });
    }),
    ("off its network, and stopped", "network", off_its_network_and_stopped),
    ("another restart policy, and stopped", "restart", never_restarted_and_stopped),
    ("renamed, and paused", "name", |engine, id| {
        engine.docker(&["rename", id, &format!("somebody-elses-{}", &id[..8])]);
        engine.docker(&["pause", id]);
    }),
    ("fewer shares of the processors", "resources.cpu_shares", |engine, id| {
        engine.docker(&["update", "--cpu-shares", "100", id]);
    }),
    ("another name server", "dns", |engine, id| {
        made_anew(engine, id, |body| body["HostConfig"]["Dns"] = json!(["127.0.0.53"]));
    }),
];

#[test]
fn every_change_by_hand_is_found_named_and_repaired() {
    let engine = engine_or_skip!();
    engine.try_docker(&["network", "create", "convexinfra-test-other"]);
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    world.apply();
    engine.docker(&["exec", &project.container(), "sh", "-c", "echo kept > /convex/data/mark"]);
    for (what, path, change) in CHANGES {
        change(engine, &project.container());
        let found = world.run_expecting(3, &["drift", "--json"]).document();
        let paths: Vec<&str> = found["drift"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
        assert!(paths.contains(&path), "{what}: {found:#}");
        world.apply();
        world.assert_converged();
        let mark = engine.docker(&["exec", &project.container(), "cat", "/convex/data/mark"]);
        assert_eq!(mark, "kept", "{what}");
    }
    assert_eq!(project.everything().len(), 3, "{:?}", project.everything());
}

/// What is done to a dashboard and to a database server, and what is told of it.
const CHANGES_BESIDE: [(&str, &str, Hand); 8] = [
    ("a memory limit", "resources.memory", |engine, id| {
        engine.docker(&["update", "--memory", "300m", "--memory-swap", "300m", id]);
    }),
    ("a processor limit", "resources.cpus", |engine, id| {
        engine.docker(&["update", "--cpus", "0.5", id]);
    }),
    ("fewer processes", "resources.processes", |engine, id| {
        engine.docker(&["update", "--pids-limit", "100", id]);
    }),
    ("off its network, and stopped", "network", off_its_network_and_stopped),
    ("another restart policy, and stopped", "restart", never_restarted_and_stopped),
    ("renamed, and stopped", "name", |engine, id| {
        engine.docker(&["rename", id, &format!("somebody-elses-{}", &id[..8])]);
        engine.docker(&["stop", id]);
    }),
    ("paused", "container", |engine, id| {
        engine.docker(&["pause", id]);
    }),
    ("another host name", "hostname", |engine, id| made_anew(engine, id, |body| body["Hostname"] = "another".into())),
];

#[test]
fn every_change_beside_a_backend_is_found_named_and_repaired() {
    let engine = engine_or_skip!();
    let blocks = format!(
        "[backends.dev]\nprovider = \"docker\"\ndashboard = true\nstorage = {{ engine = \"postgres\", managed = true }}\n\
         [backends.dev.docker]\nIMAGE\ndashboard_image = \"{DASHBOARD}\"\ndatabase_image = \"{POSTGRES}\"\n"
    );
    let project = Project::new(engine, &blocks);
    let world = &project.world;
    world.apply();
    for role in ["dashboard", "database"] {
        for (what, path, change) in CHANGES_BESIDE {
            change(engine, &engine.container(&project.name, role));
            let found = world.run_expecting(3, &["drift", "--json"]).document();
            let paths: Vec<&str> = found["drift"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
            assert!(paths.contains(&format!("{role}.{path}").as_str()), "{role}, {what}: {found:#}");
            world.apply();
            world.assert_converged();
        }
    }
    world.assert_reachable(".env.local", &format!("{}-dev", project.name));
}

#[test]
fn a_secret_that_somebody_put_into_a_container_by_hand_is_not_shown() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    world.apply();
    let (_, key) = world.coordinates(".env.local");
    let secret = engine.docker(&["exec", &project.container(), "cat", "/convex/data/credentials/instance_secret"]);
    assert_eq!(secret.len(), 64);
    // One that is not known as such: a token for something else.
    let token = "ghp0aB1cD2eF3gH4iJ5kL6mN7";
    made_anew(engine, &project.container(), |body| {
        let command = body["Cmd"].as_array_mut().unwrap();
        command.splice(0..0, ["--instance-secret".into(), secret.clone().into()]);
        command.extend([key.clone().into(), token.into(), "hunter2".into()]);
        let variables = body["Env"].as_array_mut().unwrap();
        variables.retain(|line| !line.as_str().unwrap().starts_with("DOCUMENT_RETENTION_DELAY="));
        variables.extend([format!("DOCUMENT_RETENTION_DELAY={token}").into(), format!("MORE={key}").into()]);
        body["Labels"]["convexinfra.instance"] = format!("hunter {secret}").into();
        body["Healthcheck"]["Test"] = json!(["CMD-SHELL", format!("echo {key} {token} hunter2")]);
        let host = &mut body["HostConfig"];
        host["Binds"] = json!([format!("/etc/hostname:/mnt/{secret}:ro"), format!("/etc/hostname:/mnt/{token}:ro")]);
        host["ExtraHosts"] = json!([format!("{secret}:127.0.0.1"), format!("{token}:127.0.0.1")]);
        host["LogConfig"] = json!({ "Type": "json-file", "Config": { "tag": "hunter2", "max-size": "10m" } });
    });
    let file = world.folder.join("saved.plan");
    let file = file.to_str().unwrap();
    let mut told = Vec::new();
    for words in [&["drift"][..], &["drift", "--json"], &["plan"], &["plan", "--json"], &["plan", "--out", file], &["status"]] {
        told.push(world.run(words));
    }
    assert!(told[0].out.contains("--instance-secret (other arguments)"), "{}", told[0]);
    for path in ["command", "mounts", "hosts", "variable.DOCUMENT_RETENTION_DELAY", "label.convexinfra.instance", "logging"] {
        assert!(told[0].out.contains(path), "{path}: {}", told[0]);
    }
    told.push(world.run(&["apply", "--yes"]));
    assert_eq!(told.last().unwrap().code(), 0, "{}", told.last().unwrap());
    let saved = std::fs::read_to_string(file).unwrap();
    let key = key.rsplit('|').next().unwrap();
    for hidden in [&secret, key, token, "hunter2"] {
        for run in &told {
            assert!(!run.out.contains(hidden) && !run.err.contains(hidden), "{hidden} in {run}");
        }
        assert!(!saved.contains(hidden), "{hidden} in {saved}");
    }
    world.assert_converged();
}

#[test]
fn a_second_container_of_a_backend_is_found_and_taken_away() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    world.apply();
    let id = project.container();
    let labels = engine.inspect(&id)["Config"]["Labels"].clone();
    let mut words =
        vec!["run".to_owned(), "-d".to_owned(), "--network=none".to_owned(), "--entrypoint".to_owned(), "sleep".to_owned()];
    for (name, value) in labels.as_object().unwrap() {
        words.extend(["--label".to_owned(), format!("{name}={}", value.as_str().unwrap())]);
    }
    words.extend([BACKEND_TWO.to_owned(), "1000".to_owned()]);
    engine.docker(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains("two: also"), "{drift}");
    world.apply();
    world.assert_converged();
    assert_eq!(project.container(), id);
}

#[test]
fn a_lost_volume_is_refused_with_the_way_out() {
    let engine = engine_or_skip!();
    let project = Project::new(engine, BLOCKS);
    let world = &project.world;
    world.apply();
    let volume = project.everything().into_iter().find_map(|name| name.strip_prefix("volume ").map(str::to_owned)).unwrap();
    engine.docker(&["rm", "-f", &project.container()]);
    engine.docker(&["volume", "rm", &volume]);
    let refused = world.run_expecting(4, &["apply", "--yes"]);
    assert!(refused.err.contains("--allow-destroy dev"), "{refused}");
    assert_eq!(engine.containers(&project.name, "backend"), Vec::<String>::new());
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    world.apply();
    world.assert_converged();
}
