//! A served control plane whose disk is full: it is looked at, backends are removed, and nothing is added until there is room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use fixture::{ProjectFixture, Server, Tmpfs};

const TWO: &str =
    "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n\n[backends.app]\nprovider = \"simulated\"\n";

#[test]
fn a_full_disk_of_a_server_does_not_keep_backends_from_being_destroyed() {
    let mut world = ProjectFixture::new(TWO);
    let Some(mount) = Tmpfs::mount(&world.root().join("mounted"), "size=4m") else {
        return println!("served: no full disk, because nothing can be mounted here");
    };
    world.home = mount.path().join("home");
    world.set("CONVEXINFRA_HOME", world.home.clone().to_str().unwrap());
    let operator = Server::init(&world.variables);
    let server = Server::start(&world.variables);
    world.set("CONVEXINFRA_CONTROL_PLANE", &server.url);
    world.set("CONVEXINFRA_TOKEN", &operator);
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    (world.server, world.operator) = (Some(server), Some(operator));
    world.apply();
    mount.fill();
    for words in [&["status"][..], &["env", "dev"], &["log"]] {
        world.run_expecting(0, words);
    }
    world.manifest(&format!("{TWO}tuning = {{ max_concurrent_queries = 3 }}\n"));
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert!(run.out.contains("store.full"), "{run}");
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev", "dev"]);
    assert_eq!(world.names(), ["app"]);
    // As well after a restart on what is left of it.
    world.server().terminate();
    world.server().start_again(&[]);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "app", "app"]);
    assert_eq!(world.names(), Vec::<String>::new());
    mount.make_room();
    world.apply();
    world.assert_converged();
    assert!(world.home.join("reserve").exists(), "the next time there is something to give up");
    drop(world);
    drop(mount);
}
