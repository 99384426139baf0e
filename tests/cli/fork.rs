//! Forks: a new backend with the data of another one, which is not changed by it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fixture::ProjectFixture;

use crate::archive::import;
use crate::snapshot::documents_of;

const MANIFEST: &str = "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";

#[test]
fn a_fork_has_the_data_of_its_source_and_a_life_of_its_own() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n");
    let refused = world.run_expecting(4, &["fork", "dev", "pr-42", "--yes", "--json"]);
    assert_eq!(refused.errors(), ["fork.only_exact"]);
    let words = ["fork", "dev", "pr-42", "--exact", "--ttl", "3d", "--env-file", "pr.env", "--yes", "--json"];
    let run = world.run_expecting(0, &words);
    let document = run.document();
    assert_eq!((&document["format"], &document["state"]), (&"convexinfra.fork/1".into(), &"paused".into()), "{run}");
    assert_eq!(documents_of(&world, "pr-42"), 1);
    let ((url, key), (other_url, other_key)) = (world.coordinates(".env.local"), world.coordinates("pr.env"));
    assert!(url != other_url && key != other_key);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_reachable("pr.env", "gremlin-pr-42");
    import(&world, "messages", "{\"body\":\"two\"}\n");
    assert_eq!((documents_of(&world, "dev"), documents_of(&world, "pr-42")), (2, 1));
    world.run_expecting(0, &["resume", "pr-42"]);
    let again = world.run_expecting(4, &words);
    assert_eq!(again.errors(), ["fork.exists"]);
    world.assert_converged();
    world.run_expecting(0, &["deprovision", "pr-42", "--allow-destroy", "pr-42"]);
    assert_eq!(documents_of(&world, "dev"), 2);
    world.assert_converged();
}

#[test]
fn a_fork_of_nothing_makes_nothing() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    let refused = world.run_expecting(4, &["fork", "prod", "pr-42", "--exact", "--yes", "--json"]);
    assert_eq!(refused.errors(), ["fork.no_source"]);
    assert_eq!(world.read("convex.toml"), MANIFEST);
}
