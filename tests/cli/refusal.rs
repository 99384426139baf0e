//! What is refused before anything is done: a stale plan, what policy rules out, a secret that is missing, wrong usage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use serde_json::Value;

use super::scenario::ONE;
use fixture::{ProjectFixture, steps};

#[test]
fn a_stale_saved_plan_is_refused() {
    let mut world = super::new_world(&format!("{ONE}\n[backends.dev.env]\nTOKEN = {{ env = \"TOKEN\" }}\n"));
    world.set("TOKEN", "first");
    let save = |world: &ProjectFixture| drop(world.run_expecting(0, &["plan", "--out", "saved.json"]));
    let stale = |world: &ProjectFixture| {
        let run = world.run_expecting(4, &["apply", "--plan", "saved.json", "--json"]);
        assert_eq!(run.errors(), ["plan.stale"], "{run}");
    };
    save(&world);
    world.run_expecting(0, &["apply", "--plan", "saved.json"]);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    // It has been carried out.
    stale(&world);

    world.set("TOKEN", "second");
    save(&world);
    world.set("TOKEN", "third");
    stale(&world);
    world.set("TOKEN", "second");
    let manifest = world.read("convex.toml");
    world.manifest(&format!("{manifest}# a comment\n"));
    stale(&world);
    world.manifest(
        &manifest.replace("[backends.dev.env]", "[backends.dev.tuning]\nmax_concurrent_queries = 3\n\n[backends.dev.env]"),
    );
    stale(&world);
    world.manifest(&manifest);
    fs::write(world.folder.join(".env.local"), "# emptied\n").unwrap();
    stale(&world);
    save(&world);
    let text = world.read("saved.json");
    assert!(!text.contains("second") && !text.contains("third"), "{text}");
    world.write("saved.json", &text.replace("\"live\"", "\"record\""));
    assert_eq!(world.run_expecting(4, &["apply", "--plan", "saved.json", "--json"]).errors(), ["plan.unreadable"]);
    world.write("saved.json", "{}");
    assert_eq!(world.run_expecting(4, &["apply", "--plan", "saved.json", "--json"]).errors(), ["plan.unreadable"]);
    world.write("saved.json", &text);
    world.run_expecting(0, &["apply", "--plan", "saved.json"]);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();

    world.set("TOKEN", "fourth");
    save(&world);
    world.apply();
    stale(&world);
    world.assert_converged();
}

#[test]
fn one_refusal_refuses_the_whole_apply() {
    let manifest = "project = \"gremlin\"\n\n[backends.kept]\nprovider = \"simulated\"\nprotected = true\nrelease = \"precompiled-2026-08-21-652b828\"\n\n[backends.other]\nprovider = \"simulated\"\n";
    let world = super::new_world(manifest);
    world.apply();
    let refused = |text: &str, words: &[&str], codes: &[&str]| {
        world.manifest(text);
        let pids = (world.pid("gremlin-kept"), world.pid("gremlin-other"));
        let run = world.run_expecting(4, words);
        assert_eq!(run.errors(), codes, "{run}");
        assert_eq!((world.pid("gremlin-kept"), world.pid("gremlin-other")), pids);
        world.manifest(manifest);
        world.assert_converged();
    };
    let apply: &[&str] = &["apply", "--yes", "--json"];
    let only_other = "project = \"gremlin\"\n[backends.other]\nprovider = \"simulated\"\n";
    refused(only_other, &["apply", "--yes", "--json", "--allow-destroy", "kept"], &["plan.protected"]);
    refused(only_other, apply, &["plan.protected"]);
    refused(manifest, &["destroy", "--allow-destroy", "kept,other", "--json"], &["plan.protected"]);
    // What is protected is not asked to be allowed as well.
    refused(manifest, &["destroy", "--json"], &["plan.protected", "apply.destruction_not_allowed"]);
    refused(
        &format!("{manifest}\n[budget]\ncpus = 1\n\n[backends.big]\nprovider = \"simulated\"\nresources = {{ cpus = 2 }}\n"),
        apply,
        &["plan.over_budget_cpus"],
    );
    refused(
        &format!(
            "{manifest}\n[backends.far]\nprovider = \"fly\"\nregion = \"iad\"\nrelease = \"652b828b5129e6cdbcaa3c20efa8d116d09ff3bf\"\n"
        ),
        apply,
        &["plan.provider_unavailable"],
    );
    refused(&manifest.replace("\"simulated\"\nprotected", "\"local\"\nprotected"), apply, &["plan.moves_data"]);
    refused(&manifest.replace("2026-08-21-652b828", "2026-07-21-1234567"), apply, &["plan.downgrade"]);
    // Everything at once is listed at once.
    refused(
        &format!(
            "{}\n[budget]\ncpus = 1\n\n[backends.big]\nprovider = \"simulated\"\nresources = {{ cpus = 2 }}\n",
            manifest.replace("2026-08-21-652b828", "2026-07-21-1234567")
        ),
        apply,
        &["plan.downgrade", "plan.over_budget_cpus"],
    );
    // Without protection and with its name it goes.
    world.manifest(&manifest.replace("protected = true\n", ""));
    world.apply();
    world.manifest(only_other);
    world.run_expecting(0, &["apply", "--yes", "--allow-destroy", "kept"]);
    assert_eq!(world.names(), ["other"]);
    world.assert_converged();
}

#[test]
fn a_missing_secret_is_named_and_a_known_one_is_a_fingerprint() {
    let mut world = super::new_world(&format!(
        "{ONE}\n[backends.dev.env]\nTOKEN = {{ env = \"TOKEN\" }}\nOTHER = {{ file = \"other.txt\" }}\n"
    ));
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors(), ["secret.missing", "secret.missing"]);
    assert!(run.out.contains("`TOKEN`") && run.out.contains("other.txt"), "{run}");
    assert_eq!(world.processes(), Vec::new());
    world.set("TOKEN", "a-token-nobody-knows");
    world.write("other.txt", "another-secret\n");
    world.apply();
    world.assert_converged();
    // Where the secrets are not at hand they are not compared, and that is said.
    world.unset("TOKEN");
    fs::remove_file(world.folder.join("other.txt")).unwrap();
    let plan = world.plan();
    assert_eq!(steps(&plan), Vec::<String>::new());
    assert!(plan["lints"].to_string().contains("not compared"), "{plan:#}");
    world.assert_converged();
    // An update that needs no new value goes on without.
    world.manifest(
        &world
            .read("convex.toml")
            .replace("[backends.dev.env]", "[backends.dev.tuning]\nmax_concurrent_queries = 3\n\n[backends.dev.env]"),
    );
    world.apply();
    world.assert_converged();
    world.set("TOKEN", "changed");
    let plan = world.plan();
    let change = &plan["steps"][0]["changes"][0];
    assert_eq!((&change["path"], &change["effect"]), (&"env.TOKEN".into(), &"live".into()));
    for side in ["before", "after"] {
        assert!(change[side].as_str().unwrap().starts_with("hmac:"), "{plan:#}");
    }
    world.apply();
    world.assert_converged();
}

#[test]
fn a_secret_that_cannot_be_read_is_no_missing_one() {
    let world = super::new_world(
        "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\n[backends.dev.env]\nA = { file = \"a.txt\" }\n\
         [backends.other]\nprovider = \"simulated\"\n",
    );
    world.write("a.txt", "first\n");
    world.apply();
    fs::remove_file(world.folder.join("a.txt")).unwrap();
    world.apply();
    // There is a value, and it may be another one: an apply must not leave the old one in force without a word.
    fs::write(world.folder.join("a.txt"), b"second\xff").unwrap();
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors(), ["secret.unreadable"], "{run}");
    assert!(run.out.contains("backend.dev needs `env.A`, and file `a.txt` is not UTF-8 text"), "{run}");
    let plan = world.run_expecting(0, &["plan"]);
    assert!(plan.out.contains("`env.A` is not compared here, because file `a.txt` is not UTF-8 text"), "{plan}");
    // It is in the way of nothing else.
    world.run_expecting(0, &["provision", "other"]);
    world.run_expecting(0, &["destroy", "dev", "--allow-destroy", "dev"]);
    world.run_expecting(1, &["apply", "--yes"]);
    assert_eq!(world.names(), ["other"]);
}

#[test]
fn a_secret_that_a_new_variable_needs_is_asked_for_before_anything_is_done() {
    let world = super::new_world(ONE);
    world.apply();
    let before = world.status();
    world.manifest(&format!("{ONE}env = {{ TOKEN = {{ env = \"NOT_SET\" }} }}\n"));
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors(), ["secret.missing"], "{run}");
    assert_eq!(world.status(), before);
    world.manifest(ONE);
    world.assert_converged();
}

#[test]
fn wrong_usage_is_64_and_every_error_is_a_document() {
    let world = super::new_world(ONE);
    for words in [
        &["aply", "--json"][..],
        &["plan", "--jsn", "--json"],
        &["wait", "--timeout", "soon", "--json"],
        &["env", "Not A Name", "--json"],
    ] {
        assert_eq!(world.run_expecting(64, words).errors(), ["usage"]);
    }
    // Without a command there is help.
    world.run_expecting(0, &[]);
    // Nobody is there to say yes.
    assert_eq!(world.run_expecting(64, &["apply", "--json"]).errors(), ["usage.not_confirmed"]);
    assert_eq!(world.processes(), Vec::new());
    world.manifest("project = \"gremlin\"\n[backends.dev]\nprovider = \"simulatd\"\nnonsense = 1\n");
    let run = world.run_expecting(65, &["validate", "--json"]);
    assert_eq!(run.errors().len(), 2, "{run}");
    fs::remove_file(world.folder.join("convex.toml")).unwrap();
    assert_eq!(world.run_expecting(65, &["plan", "--json"]).errors(), ["manifest.not_found"]);
    world.manifest(ONE);
    let run = world.run_expecting(0, &["apply", "--yes", "--json-into", "events.json"]);
    assert!(run.out.contains("is ready at"), "{run}");
    assert!(
        world
            .read("events.json")
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).unwrap()["format"] == "convexinfra.events/1")
    );
    world.assert_converged();
}
