//! One backend in one step, and away again: `provision` and `deprovision`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::commands::ONE;
use fixture::{ProjectFixture, script};

#[test]
fn a_provision_that_fails_says_why_in_its_one_document() {
    let world = ProjectFixture::new("");
    let broken = script(&world.folder, "broken", "echo this cannot work >&2\nexit 3");
    world.manifest(&format!(
        "project = \"gremlin\"\n[backends.dev]\nprovider = \"local\"\nlocal = {{ binary = \"{}\" }}\n",
        broken.display()
    ));
    let run = world.run_expecting(1, &["provision", "dev", "--json"]);
    let document = run.document();
    assert_eq!((&document["format"], &document["exit"]), (&"convexinfra.error/1".into(), &1.into()), "{run}");
    assert!(document["errors"][0]["message"].as_str().unwrap().starts_with("backend.dev: "), "{run}");
    // In words too, and nothing is said to be where it is not.
    let run = world.run_expecting(1, &["apply", "--yes"]);
    assert!(!run.out.contains("points to") && !run.out.contains("ready"), "{run}");
    fs::write(world.folder.join(".env.local"), "OWN=1\n").unwrap();
    let run = world.run_expecting(1, &["provision", "dev"]);
    assert!(run.err.contains("error: backend.dev: ") && run.out.is_empty(), "{run}");
}

#[test]
fn a_refused_provision_leaves_the_manifest_alone() {
    let world = ProjectFixture::new(&format!("{ONE}\n[budget]\ncpus = 1\n\n[defaults]\nresources = {{ cpus = 1 }}\n"));
    world.apply();
    let before = world.read("convex.toml");
    let run = world.run_expecting(4, &["provision", "second", "--provider", "simulated", "--json"]);
    assert_eq!(run.errors(), ["plan.over_budget_cpus"], "{run}");
    assert_eq!(world.read("convex.toml"), before);
    assert_eq!(world.names(), ["dev"]);
    world.assert_converged();
}

#[test]
fn a_second_backend_takes_no_env_file_from_the_first() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    world.run_expecting(0, &["provision", "second", "--provider", "simulated", "--env-file", "second.env"]);
    let manifest = world.read("convex.toml");
    assert!(manifest.starts_with(&format!("{ONE}env_file = \".env.local\"\n")), "{manifest}");
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_reachable("second.env", "gremlin-second");
    world.assert_converged();
}

#[test]
fn provision_says_where_it_is_every_time_and_passes_over_no_flag() {
    let world = ProjectFixture::new(ONE);
    for _ in 0..2 {
        let run = world.run_expecting(0, &["provision", "dev"]);
        let lines: Vec<&str> = run.out.lines().collect();
        assert_eq!(lines, [&*format!("`dev` is ready at {}", world.url("dev")), "`.env.local` points to `dev`"], "{run}");
    }
    world.run_expecting(0, &["provision", "dev", "--provider", "simulated", "--env-file", ".env.local"]);
    let run = world.run_expecting(4, &["provision", "dev", "--provider", "local", "--ttl", "7d", "--json"]);
    assert_eq!(run.errors(), ["provision.differs", "provision.differs"], "{run}");
    world.assert_converged();
}

#[test]
fn provision_creates_dependencies_and_deprovision_removes_them() {
    let world = ProjectFixture::new(
        "project = \"gremlin\"\n[backends.a]\nprovider = \"simulated\"\n[backends.b]\nprovider = \"simulated\"\ndepends_on = [\"a\"]\n\
         [backends.c]\nprovider = \"simulated\"\ndepends_on = [\"b\"]\n[backends.d]\nprovider = \"simulated\"\n",
    );
    world.run_expecting(0, &["provision", "c", "--json"]);
    assert_eq!(world.names(), ["a", "b", "c"]);
    let run = world.run_expecting(4, &["deprovision", "a", "--allow-destroy", "a", "--json"]);
    assert_eq!(run.errors(), ["deprovision.depended_on"]);
    assert!(run.out.contains("`b`"), "{run}");
    assert_eq!(world.names(), ["a", "b", "c"]);
    world.run_expecting(0, &["deprovision", "c", "--allow-destroy", "c"]);
    assert_eq!(world.names(), ["a", "b"]);
}

#[test]
fn a_deprovision_leaves_no_block_behind_from_which_it_would_come_back() {
    let world = ProjectFixture::new("project = \"gremlin\"\n[backends.old]\nprovider = \"simulated\"\n");
    world.apply();
    let other = "[backends.other]\nprovider = \"simulated\"\n";
    world.manifest(&format!(
        "project = \"gremlin\"\n\n[[moved]]\nfrom = \"old\"\nto = \"dev\"\n\n[backends.dev]\nprovider = \"simulated\"\n\n{other}"
    ));
    world.apply();
    assert_eq!(world.names(), ["dev", "other"]);
    world.run_expecting(0, &["deprovision", "dev", "--allow-destroy", "dev"]);
    assert_eq!(world.read("convex.toml"), format!("project = \"gremlin\"\n\n{other}"));
    assert_eq!(world.names(), ["other"]);
    world.apply();
    world.assert_converged();
}
