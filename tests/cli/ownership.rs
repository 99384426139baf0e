//! Whose a project is: a second checkout sees its backends, another repository neither takes nor gets anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::scenario::ONE;
use fixture::steps;

#[test]
fn a_second_checkout_sees_the_same_backends_and_a_project_of_its_own_does_not() {
    let world = super::new_world(ONE);
    world.git();
    let remote = ["remote", "add", "origin", "https://example.com/gremlin.git"];
    assert!(std::process::Command::new("git").args(remote).current_dir(&world.folder).status().unwrap().success());
    world.apply();
    let (url, key) = world.assert_reachable(".env.local", "gremlin-dev");
    let second = world.root().join("second");
    assert!(std::process::Command::new("cp").arg("-R").arg(&world.folder).arg(&second).status().unwrap().success());
    fs::remove_file(second.join(".env.local")).unwrap();
    let manifest = second.join("convex.toml");
    let manifest = manifest.to_str().unwrap();
    assert_eq!(steps(&world.run_expecting(0, &["plan", "--json", "--manifest", manifest]).document()), ["write:env_file.dev"]);
    world.run_expecting(0, &["apply", "--yes", "--manifest", manifest]);
    assert_eq!(fixture::coordinates(&fs::read_to_string(second.join(".env.local")).unwrap()), Some((url.clone(), key)));
    world.run_expecting(0, &["plan", "--detailed-exitcode", "--manifest", manifest]);

    world.run_expecting(0, &["apply", "--yes", "--manifest", manifest, "--project", "branch"]);
    let (other, _) = fixture::coordinates(&fs::read_to_string(second.join(".env.local")).unwrap()).unwrap();
    assert_ne!(other, url);
    world.run_expecting(0, &["plan", "--detailed-exitcode", "--manifest", manifest, "--project", "branch"]);
    assert_eq!(world.processes().len(), 2);
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--manifest", manifest, "--project", "branch"]);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
}

#[test]
fn another_repository_with_the_same_project_takes_nothing_away() {
    let world = super::new_world(&format!("{ONE}\n[backends.extra]\nprovider = \"simulated\"\n"));
    world.apply();
    let other = world.root().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("convex.toml"), ONE).unwrap();
    let manifest = other.join("convex.toml");
    let manifest = manifest.to_str().unwrap();
    let run = world.run_expecting(4, &["apply", "--yes", "--json", "--allow-destroy", "extra", "--manifest", manifest]);
    assert_eq!(run.errors(), ["plan.other_repository"], "{run}");
    assert_eq!(world.names(), ["dev", "extra"]);
    world.assert_converged();
    world.run_expecting(0, &["apply", "--yes", "--take-over", "--allow-destroy", "extra", "--manifest", manifest]);
    assert_eq!(world.names(), ["dev"]);
    world.run_expecting(0, &["plan", "--detailed-exitcode", "--manifest", manifest]);
}

#[test]
fn another_repository_is_handed_nothing_of_a_project() {
    let world = super::new_world(ONE);
    world.git();
    let remote = |words: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.arg("remote").args(words).current_dir(&world.folder);
        assert!(git.status().unwrap().success(), "{words:?}");
    };
    remote(&["add", "origin", "https://github.com/acme/shop.git"]);
    world.apply();
    remote(&["set-url", "origin", "https://github.com/acme/blog.git"]);
    let archive = world.root().join("data.zip");
    let archive = archive.to_str().unwrap();
    for words in [
        ["logs"].as_slice(),
        &["status"],
        &["drift"],
        &["log"],
        &["graph"],
        &["releases"],
        &["apply", "--yes"],
        &["logs", "dev"],
        &["wait"],
        &["wait", "dev"],
        &["env", "dev", "--show-key"],
        &["dashboard", "dev"],
        &["archive", "dev", "--out", archive],
        &["forward", "dev"],
        &["stop", "dev"],
        &["start", "dev"],
        &["key", "rotate", "dev", "--yes"],
        &["provision", "dev"],
        &["destroy", "dev", "--allow-destroy", "dev"],
    ] {
        let words = [words, &["--json"]].concat();
        let run = world.run_expecting(4, &words);
        assert_eq!(run.errors(), ["plan.other_repository"], "{words:?}: {run}");
        assert!(!run.out.contains("http://127.0.0.1"), "{words:?}: {run}");
    }
    // Snapshots are there where the control plane is.
    let listed = world.run_expecting(4, &["snapshot", "list", "--json"]).errors();
    assert_eq!(listed, [if world.server.is_none() { "plan.other_repository" } else { "control.not_here" }]);
    // A plan says why it is refused, and shows nothing else until it takes over.
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    assert_eq!(plan["refusals"][0]["code"], "plan.other_repository", "{plan}");
    assert!(plan["refusals"][0]["help"].as_str().unwrap().contains("plan --take-over"), "{plan}");
    for shown in ["steps", "drift", "lints", "at_stake"] {
        assert_eq!(plan[shown].as_array().map_or(0, Vec::len), 0, "{shown}: {plan}");
    }
    world.run_expecting(0, &["plan", "--take-over"]);
    world.run_expecting(0, &["log", "--verify"]);
    // Another spelling of the remote, and a copy without git, are the same work.
    remote(&["remove", "origin"]);
    for words in [["status"].as_slice(), &["plan"], &["drift"], &["log"], &["graph"]] {
        world.run_expecting(0, words);
    }
    remote(&["add", "origin", "git@github.com:acme/shop.git"]);
    for words in [["status"].as_slice(), &["plan", "--detailed-exitcode"], &["drift"], &["log"], &["graph"]] {
        world.run_expecting(0, words);
    }
    world.run_expecting(0, &["logs", "dev"]);
    world.run_expecting(0, &["wait", "dev"]);
    world.assert_converged();
}
