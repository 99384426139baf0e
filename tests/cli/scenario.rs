//! The main roads: what a user does from the first plan to the last destroy, on simulated backends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use serde_json::Value;

use fixture::{ProjectFixture, changes, refusals, script, steps, wait_until};

pub(super) const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";
const KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";

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
    world.run_expecting(0, &["wait", "dev", "--timeout", "2m"]);
    world.kill("gremlin-dev");
    let run = world.run_expecting(124, &["wait", "--timeout", "1s", "--json"]);
    assert_eq!(run.errors(), ["wait.timed_out"]);
    assert!(run.took.as_secs() < 60, "{run}");
    let waiting = world.spawn(&["wait", "--timeout", "5m"]);
    world.apply();
    assert_eq!(waiting.end().code(), 0);
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
