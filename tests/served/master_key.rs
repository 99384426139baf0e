//! Rotation of the master key of a served control plane: while no server runs, and then everything goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fixture::ProjectFixture;

const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";

#[test]
fn a_rotation_waits_for_the_server_and_tokens_outlive_it() {
    let mut world: ProjectFixture = super::new_world(ONE);
    world.apply();
    let env_file = world.read(".env.local");
    let rotate = ["key", "rotate-master", "--yes", "--json"];
    let (nowhere, home) = (world.variables["CONVEXINFRA_HOME"].clone(), world.home.display().to_string());
    world.set("CONVEXINFRA_HOME", &home);
    assert_eq!(world.run_expecting(4, &rotate).errors(), ["home.occupied"]);
    world.server().terminate();
    world.run_expecting(0, &rotate);
    world.set("CONVEXINFRA_HOME", &nowhere);
    world.server().start_again(&[]);
    world.assert_converged();
    world.run_expecting(0, &["log", "--verify"]);
    world.run_expecting(0, &["token", "list"]);
    assert_eq!(world.read(".env.local"), env_file);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.run_expecting(0, &["key", "rotate", "dev", "--yes"]);
    world.server().terminate();
}
