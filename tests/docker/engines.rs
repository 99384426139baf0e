//! Which engine and which build: another one than the one that is recorded is refused by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::commands::Project;
use super::findings::{ONE, applied};
use super::rig::{BACKEND, Engine, unique};
use crate::engine_or_skip;

#[test]
fn another_engine_is_refused_by_name_and_nothing_is_forgotten() {
    let engine = engine_or_skip!();
    let mut project = applied(engine, ONE);
    let id = project.container();
    let env_file = project.world.read(".env.local");
    let other = super::crash::OwnEngine::with(&[]);
    project.world.set("DOCKER_HOST", &other.engine.host);
    let world = &project.world;
    let names_the_engine = |words: &[&str]| {
        let run = world.run(words);
        let said = format!("{}{}", run.out, run.err);
        assert!(said.contains(&engine.host), "{words:?}: {run}");
        for claim in ["give it up with", "✓", "is gone now", "were removed"] {
            assert!(!said.contains(claim), "{words:?}: {claim}: {run}");
        }
        assert_eq!(world.names(), ["dev"], "{words:?}");
        run.code()
    };
    for (words, code) in [
        (&["drift"][..], 69),
        (&["plan"], 0),
        (&["apply", "--yes"], 69),
        (&["status"], 69),
        (&["destroy", "--yes", "--allow-destroy", "dev"], 4),
        (&["deprovision", "dev", "--allow-destroy", "dev"], 4),
        (&["logs", "dev"], 69),
        (&["stop", "dev"], 4),
        (&["start", "dev"], 4),
        (&["key", "rotate", "dev", "--yes"], 4),
        (&["snapshot", "create", "dev"], 4),
    ] {
        assert_eq!(names_the_engine(words), code, "{words:?}");
    }
    // A change of the manifest as well, before anything else of it is done.
    project.manifest(&format!("{ONE}[backends.dev.tuning]\nmax_concurrent_queries = 8\n"));
    assert_eq!(names_the_engine(&["plan"]), 4);
    assert_eq!(names_the_engine(&["apply", "--yes"]), 4);
    project.manifest(ONE);
    // What the record says is still handed out: it is right about the backend, wherever the engine of the moment is.
    world.run_expecting(0, &["env", "dev"]);
    assert_eq!(world.read(".env.local"), env_file);
    world.run(&["recover"]);
    assert_eq!(world.names(), ["dev"]);
    assert_eq!(other.engine.everything(&project.name), Vec::<String>::new());
    assert_eq!(engine.inspect(&id)["State"]["Running"], true);
    project.world.set("DOCKER_HOST", &engine.host);
    project.world.apply();
    project.world.assert_converged();
    assert_eq!(project.container(), id);
}

/// Makes a build of the stand-in under a commit, with the day on which it says that it was made.
fn build(engine: &Engine, repository: &str, commit: &str, created: &str) {
    let container = engine.docker(&["create", BACKEND]);
    let label = format!("LABEL org.opencontainers.image.created={created}");
    engine.docker(&["commit", "--change", &label, &container, &format!("{repository}:{commit}")]);
    engine.docker(&["rm", "-v", &container]);
}

#[test]
fn commits_are_ordered_by_what_their_images_say() {
    let engine = engine_or_skip!();
    let repository = format!("convexinfra-test/{}", unique("builds"));
    let [first, second, absent] = ["a", "b", "c"].map(|digit| digit.repeat(40));
    build(engine, &repository, &first, "2026-09-01T10:00:00Z");
    build(engine, &repository, &second, "2026-09-02T10:00:00Z");
    let manifest = |commit: &str| {
        format!(
            "[backends.dev]\nprovider = \"docker\"\nrelease = \"{commit}\"\n[backends.dev.docker]\nimage = \"{repository}\"\npull = \"never\"\n"
        )
    };
    let project = Project::new(engine, &manifest(&first));
    let world = &project.world;
    world.apply();
    // What is newer needs no word.
    project.manifest(&manifest(&second));
    world.apply();
    world.assert_converged();
    let id = project.container();
    // What is older is refused, whatever is allowed.
    project.manifest(&manifest(&first));
    for words in [&["plan"][..], &["plan", "--allow-downgrade", "dev"], &["apply", "--yes", "--allow-downgrade", "dev"]] {
        let run = world.run_expecting(4, words);
        let said = format!("{}{}", run.out, run.err);
        assert!(said.contains("plan.downgrade") && said.contains("2026-09-01"), "{run}");
    }
    // Nothing says how old one is that the engine does not have.
    project.manifest(&manifest(&absent));
    let run = world.run_expecting(4, &["plan"]);
    assert!(run.out.contains("plan.release_order_unknown") && run.out.contains("--allow-downgrade dev"), "{run}");
    world.run_expecting(2, &["plan", "--allow-downgrade", "dev", "--detailed-exitcode"]);
    assert_eq!(project.container(), id);
    project.manifest(&manifest(&second));
    world.assert_converged();
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    for commit in [&first, &second] {
        engine.docker(&["rmi", &format!("{repository}:{commit}")]);
    }
}
