//! The main roads: what a user does from the first plan to the last destroy, on simulated backends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use serde_json::Value;

use fixture::{ProjectFixture, refusals, script, steps, wait_until};

const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";
const KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";

fn changes(plan: &Value, step: &str) -> Vec<(String, String)> {
    let step = plan["steps"].as_array().unwrap().iter().find(|found| found["id"] == step).unwrap_or_else(|| panic!("{plan:#}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    step["changes"].as_array().unwrap().iter().map(|change| (text(&change["path"]), text(&change["effect"]))).collect()
}

/// Runs a command that must neither change a file nor end otherwise.
fn changes_nothing(world: &ProjectFixture, code: i32, words: &[&str]) {
    let before = world.file_contents();
    world.run_expecting(code, words);
    let after = world.file_contents();
    for (name, content) in &before {
        assert_eq!(after.get(name), Some(content), "`{}` changed {name}", words.join(" "));
    }
    assert_eq!(after.len(), before.len(), "`{}` made something", words.join(" "));
}

#[test]
fn looking_changes_nothing() {
    let mut world = super::new_world(&format!("{ONE}\n[backends.dev.env]\nTOKEN = {{ env = \"TOKEN\" }}\n"));
    world.git();
    world.set("TOKEN", "token");
    let look = |world: &ProjectFixture, drift: i32| {
        changes_nothing(world, 0, &["plan"]);
        changes_nothing(world, 0, &["plan", "--json"]);
        changes_nothing(world, 0, &["plan", "--markdown"]);
        changes_nothing(world, drift, &["drift"]);
        changes_nothing(world, 0, &["status"]);
        changes_nothing(world, 0, &["validate"]);
        changes_nothing(world, 0, &["graph"]);
        changes_nothing(world, 0, &["graph", "--format", "mermaid"]);
        changes_nothing(world, 0, &["log"]);
    };
    look(&world, 0);
    assert!(!Path::new(&world.variables["CONVEXINFRA_HOME"]).exists());
    world.apply();
    look(&world, 0);
    world.manifest(&ONE.replace("gremlin\"\n", "gremlin\"\n# edited\n"));
    look(&world, 0);
    world.kill("gremlin-dev");
    look(&world, 3);
}

#[test]
fn from_nothing_to_a_backend_that_answers_and_back() {
    let world = super::new_world(ONE);
    let plan = world.plan();
    assert_eq!(steps(&plan), ["create:backend.dev", "write:env_file.dev"]);
    world.run_expecting(2, &["plan", "--detailed-exitcode"]);
    let applied = world.apply();
    assert!(applied.out.contains("`dev` is ready at http://127.0.0.1:"), "{applied}");
    let (url, key) = world.assert_reachable(".env.local", "gremlin-dev");
    assert_eq!(world.url("dev"), url);
    world.assert_converged();

    let again = world.run_expecting(0, &["apply", "--yes", "--json"]);
    assert_eq!(again.events().len(), 1, "{again}");
    assert_eq!((&again.events()[0]["type"], &again.events()[0]["done"]), (&"finished".into(), &0.into()));

    world.manifest(&format!("{ONE}tuning = {{ max_concurrent_queries = 4 }}\n"));
    let plan = world.run_expecting(2, &["plan", "--json", "--detailed-exitcode"]).document();
    assert_eq!(steps(&plan), ["update:backend.dev"]);
    assert_eq!(changes(&plan, "update:backend.dev"), [("tuning.max_concurrent_queries".to_owned(), "restart".to_owned())]);
    let pid = world.pid("gremlin-dev").unwrap();
    world.apply();
    assert_ne!(world.pid("gremlin-dev").unwrap(), pid);
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), (url.clone(), key.clone()));
    world.assert_converged();

    for (line, field, effect) in [
        ("ttl = \"7d\"", "ttl", "record"),
        ("resources = { cpus = 2 }", "resources.cpus", "record"),
        ("env = { A = \"b\" }", "env.A", "live"),
    ] {
        world.manifest(&format!("{ONE}tuning = {{ max_concurrent_queries = 4 }}\n{line}\n"));
        let plan = world.run_expecting(2, &["plan", "--json", "--detailed-exitcode"]).document();
        assert_eq!(changes(&plan, "update:backend.dev").first(), Some(&(field.to_owned(), effect.to_owned())), "{plan:#}");
        let pid = world.pid("gremlin-dev").unwrap();
        world.apply();
        assert_eq!(world.pid("gremlin-dev").unwrap(), pid, "{field} is no reason to restart");
        world.assert_converged();
    }

    let refused = world.run_expecting(4, &["destroy", "--json"]);
    assert_eq!(refused.errors(), ["apply.destruction_not_allowed"]);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.run_expecting(0, &["destroy", "dev", "--allow-destroy", "dev"]);
    assert_eq!((world.processes(), world.names()), (Vec::new(), Vec::new()));
    assert!(!world.folder.join(".env.local").exists());
    assert_eq!(fs::read_dir(world.home.join("backends")).unwrap().count(), 0);
    assert_eq!(steps(&world.plan()).len(), 2);
    world.apply();
    assert_ne!(world.assert_reachable(".env.local", "gremlin-dev").1, key, "a new backend has a new secret");
    world.assert_converged();
}

#[test]
fn a_killed_backend_is_drift_and_comes_back_as_it_was() {
    let world = super::new_world(&format!("{ONE}env = {{ A = \"b\" }}\n"));
    world.apply();
    let before = world.assert_reachable(".env.local", "gremlin-dev");
    world.kill("gremlin-dev");
    let drift = world.run_expecting(3, &["drift", "--json"]).document();
    assert_eq!(drift["drift"][0]["address"], "backend.dev");
    let plan = world.run_expecting(3, &["plan", "--json", "--detailed-exitcode"]).document();
    assert_eq!(steps(&plan), ["update:backend.dev"]);
    assert_eq!(plan["steps"][0]["reason"], "drift");
    world.apply();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), before);
    world.assert_converged();
}

#[test]
fn a_rename_keeps_the_backend() {
    let world = super::new_world(ONE);
    world.apply();
    let before = world.assert_reachable(".env.local", "gremlin-dev");
    let pid = world.pid("gremlin-dev");
    world.manifest(&format!("{}\n[[moved]]\nfrom = \"dev\"\nto = \"main\"\n", ONE.replace("backends.dev", "backends.main")));
    let plan = world.plan();
    assert!(steps(&plan).contains(&"update:backend.main".to_owned()), "{plan:#}");
    assert!(!steps(&plan).iter().any(|step| step.starts_with("destroy") || step.starts_with("create")), "{plan:#}");
    world.apply();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), before);
    assert_eq!((world.pid("gremlin-dev"), world.names()), (pid, vec!["main".to_owned()]));
    assert!(world.read(".env.local").contains("backend main of gremlin"));
    world.assert_converged();
}

#[test]
fn lost_data_is_refused_with_the_way_out() {
    let world = super::new_world(ONE);
    world.apply();
    world.kill("gremlin-dev");
    let backend = fs::read_dir(world.home.join("backends")).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
    fs::remove_dir_all(backend.path().join("data")).unwrap();
    assert_eq!(refusals(&world.plan()), ["plan.data_missing"]);
    let refused = world.run_expecting(4, &["apply", "--yes", "--json"]);
    assert_eq!(refused.errors(), ["plan.data_missing"]);
    assert!(refused.out.contains("convexinfra destroy dev --allow-destroy dev"), "{refused}");
    // There is no step, and yet nobody is told that all is well.
    let refused = world.run_expecting(4, &["apply", "--yes"]);
    assert!(!refused.err.contains("nothing to do") && refused.err.contains("nothing was done"), "{refused}");
    assert_eq!(world.processes(), Vec::new());
    // The whole directory is no different.
    fs::remove_dir_all(backend.path()).unwrap();
    assert_eq!(refusals(&world.plan()), ["plan.data_missing"]);
    world.run_expecting(3, &["drift"]);
    world.run_expecting(0, &["destroy", "dev", "--allow-destroy", "dev"]);
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
}

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
    refused(only_other, apply, &["plan.protected", "apply.destruction_not_allowed"]);
    refused(manifest, &["destroy", "--allow-destroy", "kept,other", "--json"], &["plan.protected"]);
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
fn dependents_wait_and_a_failure_skips_only_them() {
    let world = super::new_world("");
    let broken = script(&world.folder, "broken", "echo this cannot work >&2\nexit 3");
    let manifest = |binary: &Path| {
        format!(
            "project = \"gremlin\"\n\n[backends.free]\nprovider = \"simulated\"\nenv_file = \"free.env\"\n\n[backends.broken]\nprovider = \"local\"\nenv_file = \"broken.env\"\n\n\
             [backends.broken.local]\nbinary = \"{}\"\n\n[backends.above]\nprovider = \"simulated\"\ndepends_on = [\"broken\"]\nenv_file = \"above.env\"\n\n\
             [backends.top]\nprovider = \"simulated\"\ndepends_on = [\"above\"]\n",
            binary.display()
        )
    };
    world.manifest(&manifest(&broken));
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    let events = run.events();
    let end = |id: &str| {
        let found = events.iter().find(|event| event["type"] == "step_finished" && event["id"] == id);
        found.unwrap_or_else(|| panic!("{id}: {run}")).clone()
    };
    assert_eq!(end("create:backend.free")["status"], "done");
    assert_eq!(end("write:env_file.free")["status"], "done");
    assert_eq!(end("create:backend.broken")["status"], "failed");
    assert!(
        end("create:backend.broken")["error"]["help"].as_str().is_some_and(|help| help.contains("this cannot work")),
        "{run}"
    );
    for id in ["create:backend.above", "create:backend.top", "write:env_file.broken", "write:env_file.above"] {
        assert_eq!((&end(id)["status"], &end(id)["because"]), (&"not_started".into(), &"backend.broken failed".into()));
    }
    let last = events.last().unwrap();
    assert_eq!(
        (&last["done"], &last["failed"], &last["not_started"], &last["exit"]),
        (&2.into(), &1.into(), &4.into(), &1.into())
    );
    world.assert_reachable("free.env", "gremlin-free");
    assert!(!world.folder.join("broken.env").exists());
    assert_eq!(world.processes().len(), 1);

    let works = script(&world.folder, "works", &format!("exec '{}' simulate-backend \"$@\"", fixture::executable()));
    world.manifest(&manifest(&works));
    let run = world.run_expecting(0, &["apply", "--yes", "--json"]);
    let started =
        |id: &str| run.events().iter().position(|event| event["type"] == "step_started" && event["id"] == id).unwrap();
    let finished =
        |id: &str| run.events().iter().position(|event| event["type"] == "step_finished" && event["id"] == id).unwrap();
    assert!(finished("create:backend.broken") < started("create:backend.above"));
    assert!(finished("create:backend.above") < started("create:backend.top"));
    world.assert_converged();

    let run = world.run_expecting(0, &["destroy", "--allow-destroy", "free,broken,above,top", "--json"]);
    let finished =
        |id: &str| run.events().iter().position(|event| event["type"] == "step_finished" && event["id"] == id).unwrap();
    assert!(finished("destroy:backend.top") < finished("destroy:backend.above"));
    assert!(finished("destroy:backend.above") < finished("destroy:backend.broken"));
    assert_eq!(world.processes(), Vec::new());
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

#[test]
fn one_backend_in_one_step() {
    let world = super::new_world("project = \"gremlin\"\n");
    let run = world.run_expecting(0, &["provision", "ci", "--provider", "simulated", "--env-file", "ci.env", "--json"]);
    let document = run.document();
    let (url, key) = world.assert_reachable("ci.env", "gremlin-ci");
    assert_eq!((document["url"].as_str(), &document["state"]), (Some(url.as_str()), &"ready".into()));
    assert!(!run.out.contains(&key));
    assert_eq!(
        world.run_expecting(0, &["provision", "ci", "--json", "--show-key"]).document()["admin_key"].as_str(),
        Some(key.as_str())
    );
    world.assert_converged();
    // A program that goes by the answer must not be led to another backend.
    let before = world.read("convex.toml");
    for taken in ["ci.env", "./ci.env"] {
        let refused =
            world.run_expecting(4, &["provision", "second", "--provider", "simulated", "--env-file", taken, "--json"]);
        assert_eq!(refused.errors(), ["provision.env_file_taken"]);
    }
    assert_eq!((world.read("convex.toml"), world.names()), (before, vec!["ci".to_owned()]));
    world.write("ci.env", &format!("CONVEX_DEPLOY_KEY=prod:x|y\n{}", world.read("ci.env")));
    let warned = world.run_expecting(0, &["provision", "ci", "--json"]).document();
    assert!(warned["warnings"][0]["message"].as_str().unwrap().contains("CONVEX_DEPLOY_KEY"), "{warned}");
    assert_eq!(world.run_expecting(4, &["deprovision", "ci", "--json"]).errors(), ["apply.destruction_not_allowed"]);
    world.assert_reachable("ci.env", "gremlin-ci");
    assert_eq!(world.run_expecting(0, &["deprovision", "ci", "--allow-destroy", "ci", "--json"]).document()["state"], "absent");
    assert!(!world.read("convex.toml").contains("ci"));
    assert_eq!(world.processes(), Vec::new());
    world.assert_converged();
    world.run_expecting(0, &["deprovision", "ci", "--allow-destroy", "ci"]);
    // One file cannot name two backends.
    world.manifest("project = \"gremlin\"\n\n[defaults]\nprovider = \"simulated\"\n\n[backends.a]\nenv_file = \"one.env\"\n\n[backends.b]\nenv_file = \"one.env\"\n");
    assert_eq!(world.run_expecting(65, &["provision", "a", "--json"]).errors(), ["manifest.shared_env_file"]);
}

#[test]
fn coordinates_in_every_form() {
    let world = super::new_world(ONE);
    world.apply();
    let (url, key) = world.coordinates(".env.local");
    let form = |form: &str| world.run_expecting(0, &["env", "--format", form]).out;
    assert_eq!(fixture::coordinates(&form("dotenv")), Some((url.clone(), key.clone())));
    let json: Value = serde_json::from_str(&world.run_expecting(0, &["env", "--format", "json", "--show-key"]).out).unwrap();
    assert_eq!(
        (json["CONVEX_SELF_HOSTED_URL"].as_str(), json[KEY].as_str()),
        (Some(url.as_str()), Some(key.as_str())),
        "{json:#}"
    );
    let shell =
        std::process::Command::new("sh").args(["-c", &format!("{}\nprintf %s \"${KEY}\"", form("shell"))]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&shell.stdout), key);
    assert!(form("github").contains(&key));
    world.run_expecting(0, &["env", "dev", "--write", "elsewhere.env"]);
    assert_eq!(world.coordinates("elsewhere.env"), (url, key));
    assert_eq!(world.run_expecting(1, &["env", "nobody", "--json"]).errors(), ["control.no_such_backend"]);
    world.assert_converged();
}

#[test]
fn waiting_ends_when_it_answers_or_when_time_is_up() {
    let world = super::new_world(ONE);
    assert_eq!(world.run_expecting(1, &["wait", "nobody", "--json"]).errors(), ["control.no_such_backend"]);
    world.apply();
    world.run_expecting(0, &["wait", "dev", "--timeout", "5s"]);
    world.kill("gremlin-dev");
    let run = world.run_expecting(124, &["wait", "--timeout", "1s", "--json"]);
    assert_eq!(run.errors(), ["wait.timed_out"]);
    assert!(run.took.as_secs() < 10, "{run}");
    let waiting = world.spawn(&["wait", "--timeout", "60s"]);
    world.apply();
    assert_eq!(waiting.end().code(), 0);
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

#[test]
fn an_interrupted_apply_finishes_running_steps_and_skips_the_rest() {
    let world = super::new_world(&(0..6).fold("project = \"gremlin\"\n".to_owned(), |text, number| {
        let depends = if number > 0 { format!("depends_on = [\"b{}\"]\n", number - 1) } else { String::new() };
        format!("{text}[backends.b{number}]\nprovider = \"simulated\"\n{depends}")
    }));
    let run = world.spawn(&["apply", "--yes", "--json"]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.child.id()).unwrap()).unwrap();
    wait_until("the first backend is there", || world.home.join("backends").exists());
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = run.end();
    assert_eq!(run.code(), 130, "{run}");
    let last = run.events().pop().unwrap();
    assert!(last["not_started"].as_u64().unwrap() > 0 && last["failed"] == 0, "{run}");
    world.apply();
    assert_eq!(world.processes().len(), 6);
    world.assert_converged();
}

#[test]
fn a_block_that_is_removed_leaves_no_coordinates_behind() {
    let world = super::new_world(ONE);
    world.write(".env.local", "OWN=1\n");
    world.apply();
    world.manifest("project = \"gremlin\"\n");
    world.run_expecting(4, &["apply", "--yes"]);
    world.assert_reachable(".env.local", "gremlin-dev");
    world.run_expecting(0, &["apply", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(world.read(".env.local"), "OWN=1\n");
    assert!(world.processes().is_empty());
    world.assert_converged();
}

#[test]
fn a_stopped_backend_keeps_its_data_and_starts_again() {
    let world = super::new_world(ONE);
    world.apply();
    let before = world.assert_reachable(".env.local", "gremlin-dev");
    world.manifest(&format!("{ONE}\n[backends.dev.simulated]\nlisten = false\n"));
    world.apply();
    assert!(world.processes().is_empty());
    assert!(!world.root().join(".env.local").exists());
    world.assert_converged();
    world.manifest(ONE);
    world.apply();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), before);
    world.assert_converged();
    world.manifest(&format!("{ONE}\n[backends.dev.simulated]\nlisten = false\n"));
    world.apply();
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
    assert!(std::fs::read_dir(world.home.join("backends")).unwrap().next().is_none());
}

#[test]
fn unmanaged_variables_are_shown_and_left_alone() {
    use convexinfra::convex::deployment::{Deployment, DeploymentClient, EnvironmentChange};
    use convexinfra::model::Secret;

    let world = ProjectFixture::new(&format!("{ONE}env = {{ OURS = \"1\" }}\n"));
    world.apply();
    let (url, key) = world.coordinates(".env.local");
    let deployment = Deployment::new(&DeploymentClient::default(), url, Some(Secret::new(key)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let theirs = EnvironmentChange { name: "THEIRS".to_owned(), value: Some(Secret::new("their-own-value")) };
    runtime.block_on(deployment.change_environment(&[theirs])).unwrap();

    world.assert_converged();
    let plan = world.run_expecting(0, &["plan", "--json"]).document();
    assert_eq!(plan["lints"][0]["code"], "plan.other_variables", "{plan:#}");
    assert_eq!(world.status()["backends"][0]["other_variables"], serde_json::json!(["THEIRS"]));
    for words in [["plan"], ["status"], ["drift"]] {
        let run = world.run_expecting(0, &words);
        assert!(run.out.contains("THEIRS") && !run.out.contains("their-own-value") && !run.out.contains("OURS"), "{run}");
    }
    world.manifest(&format!("{ONE}env = {{ OURS = \"2\", ALSO = \"3\" }}\n"));
    world.apply();
    let names: Vec<String> = runtime.block_on(deployment.environment()).unwrap().into_keys().collect();
    assert_eq!(names, ["ALSO", "OURS", "THEIRS"]);
    // Once it is named it is ours, and goes with its name.
    world.manifest(&format!("{ONE}env = {{ THEIRS = \"4\" }}\n"));
    world.apply();
    world.manifest(&format!("{ONE}env = {{ OURS = \"5\" }}\n"));
    world.apply();
    let names: Vec<String> = runtime.block_on(deployment.environment()).unwrap().into_keys().collect();
    assert_eq!(names, ["OURS"]);
    world.assert_converged();
}

#[test]
fn values_that_convex_would_not_take_are_refused_before_anything_is_begun() {
    let mut world = ProjectFixture::new(&format!("{ONE}env = {{ LARGE = {{ env = \"LARGE\" }} }}\n"));
    world.set("LARGE", &"x".repeat(8_193));
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    assert_eq!(refusals(&plan), ["plan.value_unusable"]);
    assert!(plan["refusals"][0]["message"].as_str().unwrap().contains("8193 bytes, and 8192 are allowed"), "{plan:#}");
    world.run_expecting(4, &["apply", "--yes"]);
    assert!(world.names().is_empty());
    world.set("LARGE", &"x".repeat(8_192));
    world.apply();
    world.assert_converged();

    let many: String = (0..70).map(|number| format!("V{number} = {{ env = \"LARGE\" }}\n")).collect();
    world.manifest(&format!("{ONE}\n[backends.dev.env]\n{many}"));
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    assert_eq!(refusals(&plan), ["plan.value_unusable"]);
    assert!(plan["refusals"][0]["message"].as_str().unwrap().contains("524288 are allowed"), "{plan:#}");
}

#[test]
fn files_in_s3_come_with_all_their_variables_and_stay_there() {
    let s3 = "files = { engine = \"s3\", bucket_prefix = \"gremlin\", region = \"auto\", endpoint = { env = \"ENDPOINT\" }, \
              path_style = true, access_key_id = { env = \"KEY_ID\" }, secret_access_key = { env = \"KEY\" } }\n";
    let mut world = ProjectFixture::new(&format!("{ONE}{s3}"));
    world.set("ENDPOINT", "https://s3.example.com");
    world.set("KEY_ID", "key-id");
    world.set("KEY", "secret-access-key");
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    #[cfg(target_os = "linux")]
    {
        let pid = world.pid("gremlin-dev").unwrap().as_raw_nonzero();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let set: std::collections::BTreeSet<&str> =
            environment.split('\0').filter(|line| line.contains("S3_") || line.contains("AWS_")).collect();
        let expected = [
            "AWS_ACCESS_KEY_ID=key-id",
            "AWS_REGION=auto",
            "AWS_S3_FORCE_PATH_STYLE=true",
            "AWS_SECRET_ACCESS_KEY=secret-access-key",
            "S3_ENDPOINT_URL=https://s3.example.com",
            "S3_STORAGE_EXPORTS_BUCKET=gremlin-exports",
            "S3_STORAGE_FILES_BUCKET=gremlin-files",
            "S3_STORAGE_MODULES_BUCKET=gremlin-modules",
            "S3_STORAGE_SEARCH_BUCKET=gremlin-search",
            "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET=gremlin-snapshot-imports",
        ];
        assert_eq!(set, expected.into());
    }
    // Other credentials are a restart; another place is refused, and so is a folder.
    world.set("KEY", "another-access-key");
    assert_eq!(changes(&world.plan(), "update:backend.dev"), [("files.secret_access_key".to_owned(), "restart".to_owned())]);
    world.apply();
    world.assert_converged();
    world.set("ENDPOINT", "https://elsewhere.example.com");
    assert_eq!(refusals(&world.plan()), ["plan.moves_data"]);
    world.manifest(ONE);
    assert_eq!(refusals(&world.plan()), ["plan.moves_data"]);
    // Without credentials the machine's role counts, and nothing is left of the old ones.
    world.set("ENDPOINT", "https://s3.example.com");
    let by_role =
        "files = { engine = \"s3\", bucket_prefix = \"gremlin\", region = \"auto\", endpoint = { env = \"ENDPOINT\" } }\n";
    world.manifest(&format!("{ONE}{by_role}"));
    world.apply();
    world.assert_converged();

    let local = ProjectFixture::new(ONE);
    local.apply();
    local.manifest(&format!("{ONE}files = {{ engine = \"s3\", bucket = \"gremlin\", region = \"auto\" }}\n"));
    assert_eq!(refusals(&local.plan()), ["plan.moves_data"]);
}

#[test]
fn a_replacement_at_the_quota_takes_the_old_one_away_first() {
    let old = "project = \"gremlin\"\n\n[backends.old]\nprovider = \"simulated\"\n";
    let world = super::new_world(old);
    world.apply();
    world.run_expecting(0, &["quota", "set", "--backends", "1"]);
    world.manifest(&old.replace("backends.old", "backends.new"));
    let plan = world.run_expecting(2, &["plan", "--json", "--detailed-exitcode"]).document();
    let create = plan["steps"].as_array().unwrap().iter().find(|step| step["id"] == "create:backend.new").unwrap();
    assert_eq!(create["after"], serde_json::json!(["destroy:backend.old"]));
    world.run_expecting(0, &["apply", "--yes", "--allow-destroy", "old"]);
    world.run_expecting(0, &["plan", "--detailed-exitcode"]);
}
