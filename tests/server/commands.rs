//! The commands, from the manifest to the containers of a server and back.

use serde_json::Value;

use crate::lab::Laptop;
use crate::lab_or_skip;
use crate::rig::DASHBOARD;

#[test]
fn a_backend_on_a_server_comes_up_and_goes_away() {
    let lab = lab_or_skip!();
    let laptop = Laptop::new(lab);
    let world = &laptop.world;
    world.apply();
    world.assert_converged();
    let seen = lab.engine.inspect(&laptop.container());
    assert_eq!(seen["HostConfig"]["PortBindings"], serde_json::json!({}), "a port is published");
    assert_eq!(world.status()["backends"][0]["observation"]["state"].as_str().or(Some("running")), Some("running"));
    let (_, key) = world.coordinates(".env.local");
    assert!(!key.is_empty());
    let log = world.run_expecting(0, &["logs", "dev"]);
    assert!(!log.out.is_empty(), "{log}");

    // Nothing leads there by itself, and `forward` makes the URL of the env file true.
    let forwarded = world.run_expecting(0, &["forward", "dev", "--background", "--json"]);
    let process = forwarded.document()["process"].to_string();
    world.assert_reachable(".env.local", &format!("{}-dev", laptop.name));
    assert!(std::process::Command::new("kill").arg(&process).status().unwrap().success());
    laptop.assert_disconnected();

    lab.engine.docker(&["stop", &laptop.container()]);
    let drift = world.run_expecting(3, &["drift"]);
    assert!(drift.out.contains("container"), "{drift}");
    world.apply();
    laptop.manifest("host = \"shop\"\n", "env = { GREETING = \"hello\" }\n[backends.dev.tuning]\nmax_concurrent_queries = 8\n");
    world.apply();
    world.assert_converged();

    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(laptop.everything(), Vec::<String>::new());
    laptop.assert_disconnected();
}

#[test]
fn another_engine_behind_the_name_is_not_known_and_not_gone() {
    let lab = lab_or_skip!();
    let Some(other) =
        std::env::var("CONVEXINFRA_TEST_DOCKER").ok().and_then(|host| host.strip_prefix("unix://").map(str::to_owned))
    else {
        fixture::skipped("`CONVEXINFRA_TEST_DOCKER` names no second engine, so none was put in the place of the server's");
        return;
    };
    let laptop = Laptop::new(lab);
    laptop.world.apply();
    laptop.manifest(&format!("host = \"shop\"\nsocket = \"{other}\"\n"), "");
    let refused = laptop.world.run(&["apply", "--yes"]);
    assert!(refused.to_string().contains("another one that has nothing of it"), "{refused}");
    // The record has the way that leads there.
    let status = laptop.world.status();
    assert!(!status.to_string().contains("\"absent\""), "{status}");
    laptop.manifest("host = \"shop\"\n", "");
    laptop.world.apply();
    laptop.world.assert_converged();
}

#[test]
fn a_server_is_a_place_that_data_does_not_leave_silently() {
    let lab = lab_or_skip!();
    let laptop = Laptop::new(lab);
    laptop.world.apply();
    // Another way to the same engine changes the record alone.
    let address = lab.read("address");
    let direct = format!(
        "host = \"root@{address}\"\nidentity = \"{}\"\nhost_key = \"{}\"\n",
        lab.path("key"),
        lab.public_key("host_key")
    );
    laptop.manifest(&direct, "");
    let plan = laptop.world.plan();
    let effects: Vec<&Value> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step["changes"].as_array().unwrap())
        .map(|change| &change["effect"])
        .collect();
    assert!(!effects.is_empty() && effects.iter().all(|effect| *effect == "record"), "{plan:#}");
    let before = laptop.container();
    laptop.world.apply();
    assert_eq!(laptop.container(), before);
    laptop.world.assert_converged();
}

#[test]
fn a_dashboard_is_reached_by_what_its_user_forwards_alone() {
    let lab = lab_or_skip!();
    let laptop = Laptop::new(lab);
    let text = laptop.world.read("convex.toml").replace("server = \"shop\"\n", "server = \"shop\"\ndashboard = true\n");
    laptop.world.manifest(&format!("{text}dashboard_image = \"{DASHBOARD}\"\n"));
    laptop.world.apply();
    laptop.world.assert_converged();
    let seen = lab.engine.inspect(&lab.engine.container(&laptop.name, "dashboard"));
    assert_eq!(seen["HostConfig"]["PortBindings"], serde_json::json!({}), "a port is published");
    let port = fixture::free_ports().0.to_string();
    let forwarded = laptop.world.run_expecting(0, &["forward", "dev", "dashboard", "--port", &port, "--background", "--json"]);
    let (status, page) = fixture::get(&format!("http://127.0.0.1:{port}/"));
    let process = forwarded.document()["process"].to_string();
    assert!(std::process::Command::new("kill").arg(&process).status().unwrap().success());
    assert!(status == 200 && page.contains("NEXT_PUBLIC_DEPLOYMENT_URL="), "{page}");
}

#[test]
fn a_served_control_plane_logs_in_nowhere() {
    let lab = lab_or_skip!();
    let laptop = Laptop::new(lab);
    let manifest = laptop.world.read("convex.toml");
    let served = fixture::ProjectFixture::served(&manifest, fixture::PortBudget::Small);
    let refused = served.run(&["apply", "--yes"]);
    assert!(refused.code() != 0 && refused.to_string().contains("a served control plane reaches no servers"), "{refused}");
    assert_eq!(laptop.everything(), Vec::<String>::new());
}
