//! Everything from end to end with a control plane that is served: the same commands, with tokens that allow more or less.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;

use fixture::{CommandResult, ProjectFixture, refusals, steps};

/// A token of a scope for the project `gremlin`.
fn token(world: &ProjectFixture, scope: &str) -> String {
    let run = world.run_expecting(0, &["token", "create", "--scope", scope, "--note", scope]);
    run.out.trim().to_owned()
}

pub(super) const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n\n[backends.dev.env]\nGREETING = \"hello\"\nTOKEN = { env = \"TOKEN\" }\n";

fn world() -> ProjectFixture {
    let mut world = ProjectFixture::new(ONE);
    world.set("TOKEN", "hunter2");
    world
}

#[test]
fn the_same_commands_do_the_same() {
    let mut world = world();
    world.start_server();
    let url = world.server().url.clone();
    assert_eq!(world.plan()["control_plane"], url);
    let run = world.apply();
    assert!(run.out.contains("`dev` is ready at http://127.0.0.1:"), "{run}");
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    world.run_expecting(0, &["wait", "dev"]);
    world.run_expecting(0, &["env", "dev"]);
    world.run_expecting(0, &["logs", "dev"]);
    world.manifest(&ONE.replace("hello", "good morning"));
    assert_eq!(steps(&world.plan()), ["update:backend.dev"]);
    world.apply();
    world.kill("gremlin-dev");
    world.run_expecting(3, &["drift"]);
    world.apply();
    world.assert_converged();
    let run = world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
    assert_eq!(world.processes().iter().filter(|(_, words)| !words.contains("serve")).count(), 0);
    // The server keeps it.
    assert!(run.err.contains("its last snapshot is `dev-"), "{run}");
    assert_eq!(std::fs::read_dir(world.home.join("snapshots/gremlin/manifests")).unwrap().count(), 1);
}

/// What a command without enough rights ends with.
fn denied(run: &CommandResult, code: &str, advice: &str) {
    assert_eq!(run.errors(), [code], "{run}");
    assert!(run.out.contains(advice), "{run}");
    assert!(!run.out.contains("cvxi_") && !run.err.contains("cvxi_"), "{run}");
}

#[test]
fn a_token_that_may_only_read_looks_and_touches_nothing() {
    let mut world = world();
    world.start_server();
    let (read, apply) = (token(&world, "read"), token(&world, "apply"));
    world.set("CONVEXINFRA_TOKEN", &read);
    // Before anything is there, and after.
    let plan = world.run_expecting(0, &["plan", "--out", "saved.json"]);
    assert!(plan.out.contains("(secret from environment variable `TOKEN`)"), "{plan}");
    denied(
        &world.run_expecting(77, &["apply", "--yes", "--json"]),
        "auth.scope",
        "token create --project gremlin --scope apply",
    );
    world.set("CONVEXINFRA_TOKEN", &apply);
    world.run_expecting(0, &["apply", "--plan", "saved.json"]);
    world.assert_converged();
    world.set("CONVEXINFRA_TOKEN", &read);
    let plan = world.plan();
    assert_eq!(steps(&plan), Vec::<String>::new());
    assert!(plan["lints"].as_array().unwrap().iter().any(|lint| lint["code"] == "plan.secret_not_compared"), "{plan:#}");
    for words in [&["drift"][..], &["status"], &["graph"], &["logs", "dev"], &["log"], &["log", "--verify"], &["wait", "dev"]] {
        world.run_expecting(0, words);
    }
    denied(&world.run_expecting(77, &["env", "dev", "--json"]), "auth.scope", "--scope apply");
    denied(&world.run_expecting(77, &["destroy", "--allow-destroy", "dev", "--json"]), "auth.scope", "--scope");
    denied(&world.run_expecting(77, &["token", "list", "--json"]), "auth.scope", "serve --init");
    // Deleting needs more than applying, even if the client allows itself more.
    world.set("CONVEXINFRA_TOKEN", &apply);
    let run = world.run_expecting(77, &["destroy", "--allow-destroy", "dev", "--json"]);
    assert!(run.out.contains("--scope destroy"), "{run}");
    // Its lines in the env file go first, so that they can still be told to be ours; applying again brings them back.
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    // A secret that differs where the saved plan could not compare it is a change that nobody has seen.
    world.set("CONVEXINFRA_TOKEN", &read);
    world.manifest(&ONE.replace("hello", "hi"));
    world.run_expecting(0, &["plan", "--out", "saved.json"]);
    world.set("CONVEXINFRA_TOKEN", &apply);
    world.set("TOKEN", "another one");
    assert_eq!(world.run_expecting(4, &["apply", "--plan", "saved.json", "--json"]).errors(), ["plan.stale"]);
    world.set("TOKEN", "hunter2");
    world.run_expecting(0, &["apply", "--plan", "saved.json"]);
    world.assert_converged();
}

#[test]
fn tokens_of_every_wrong_kind_open_nothing() {
    let mut world = world();
    let operator = world.start_server();
    world.unset("CONVEXINFRA_TOKEN");
    let run = world.run_expecting(77, &["plan", "--json"]);
    assert_eq!(run.errors(), ["auth.token_missing"]);
    assert!(run.out.contains("CONVEXINFRA_TOKEN") && run.out.contains("CONVEXINFRA_TOKEN_COMMAND"), "{run}");
    for (token, code) in [
        ("nonsense", "auth.token_malformed"),
        (&*operator.replace("cvxi_", "cvxi_0"), "auth.token_malformed"),
        (&operator[..operator.len() - 1], "auth.token_malformed"),
    ] {
        world.set("CONVEXINFRA_TOKEN", token);
        assert_eq!(world.run_expecting(77, &["plan", "--json"]).errors(), [code]);
    }
    // A command is asked where no token is given, and what it says is no secret of ours.
    world.unset("CONVEXINFRA_TOKEN");
    world.set("CONVEXINFRA_TOKEN_COMMAND", &format!("echo asked >&2; echo {}", operator));
    let run = world.run_expecting(0, &["status"]);
    assert_eq!(run.err, "asked\n");
    let run = world.run_expecting(0, &["provision", "dev"]);
    assert_eq!(run.err.matches("asked\n").count(), 1, "{run}");
    world.set("CONVEXINFRA_TOKEN_COMMAND", "exit 4");
    assert_eq!(world.run_expecting(77, &["status", "--json"]).errors(), ["auth.token_command"]);
    // A token for another project, one that was revoked, one whose time is over.
    world.set("CONVEXINFRA_TOKEN", &operator);
    let other = world.run_expecting(0, &["token", "create", "--project", "other", "--scope", "destroy"]).out;
    let issued = world.run_expecting(0, &["token", "create", "--scope", "read", "--json"]).document();
    let id = issued["record"]["id"].as_str().unwrap();
    world.run_expecting(0, &["token", "revoke", id]);
    world.run_expecting(0, &["token", "revoke", id]);
    let brief = world.run_expecting(0, &["token", "create", "--scope", "read", "--ttl", "1s"]).out;
    let list = world.run_expecting(0, &["token", "list"]);
    assert!(list.out.contains("revoked") && list.out.contains("active") && !list.out.contains("cvxi_"), "{list}");
    world.set("CONVEXINFRA_TOKEN", other.trim());
    assert_eq!(world.run_expecting(77, &["plan", "--json"]).errors(), ["auth.project"]);
    world.set("CONVEXINFRA_TOKEN", issued["token"].as_str().unwrap());
    assert_eq!(world.run_expecting(77, &["plan", "--json"]).errors(), ["auth.token_revoked"]);
    world.set("CONVEXINFRA_TOKEN", brief.trim());
    fixture::wait_until("the token's time is over", || world.run(&["status"]).code() == 77);
    assert_eq!(world.run_expecting(77, &["plan", "--json"]).errors(), ["auth.token_expired"]);
    world.set("CONVEXINFRA_TOKEN", &operator);
    assert_eq!(world.run_expecting(1, &["token", "revoke", "0000000000", "--json"]).errors(), ["control.no_such_token"]);
    assert_eq!(
        world.run_expecting(4, &["token", "create", "--scope", "operator", "--project", "gremlin", "--json"]).errors(),
        ["token.request"]
    );
}

#[test]
fn a_plan_over_quota_is_refused_before_any_step() {
    let mut world = ProjectFixture::new(
        "project = \"gremlin\"\n[backends.a]\nprovider = \"simulated\"\nsimulated = { listen = false }\nresources = { memory = \"2 GiB\" }\n",
    );
    world.start_server();
    world.run_expecting(0, &["quota", "set", "--backends", "1", "--memory", "2 GiB"]);
    world.apply();
    let show = world.run_expecting(0, &["quota", "show"]);
    assert!(show.out.contains("backends     1      1\n") && show.out.contains("memory       2 GiB  2 GiB\n"), "{show}");
    let status = world.run_expecting(0, &["status"]);
    assert!(status.out.ends_with("quota: backends 1 of 1, memory 2 GiB of 2 GiB\n"), "{status}");
    let second = "[backends.b]\nprovider = \"simulated\"\nsimulated = { listen = false }\nresources = { memory = \"1 GiB\" }\n";
    world.manifest(&format!("{}{second}", world.read("convex.toml")));
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    assert_eq!(refusals(&plan), ["plan.over_quota_backends", "plan.over_quota_memory"]);
    world.run_expecting(4, &["apply", "--yes"]);
    assert_eq!(world.names(), ["a"]);
    world.run_expecting(0, &["quota", "set", "--backends", "none", "--memory", "3 GiB"]);
    world.apply();
    // One ceiling for all who have none of their own.
    world.run_expecting(0, &["quota", "set", "--default", "--cpus", "2.5"]);
    let everybody = world.run_expecting(0, &["quota", "show", "--default", "--json"]).document();
    assert_eq!(
        (&everybody["quota"], &everybody["project"]),
        (&serde_json::json!({ "backends": 100, "cpus": 2.5 }), &Value::Null)
    );
    let own = world.run_expecting(0, &["quota", "show", "--json"]).document();
    assert_eq!(own["quota"], serde_json::json!({ "memory": "3 GiB" }));
}

#[test]
fn an_apply_outlives_its_server() {
    let mut world = ProjectFixture::new(ONE);
    world.set("TOKEN", "hunter2");
    world.manifest(&(0..6).fold(ONE.to_owned(), |text, number| {
        format!(
            "{text}\n[backends.b{number}]\nprovider = \"simulated\"\n{}",
            if number > 0 { format!("depends_on = [\"b{}\"]\n", number - 1) } else { String::new() }
        )
    }));
    world.start_server();
    let apply = world.spawn(&["apply", "--yes", "--json"]);
    fixture::wait_until("something has begun", || world.home.join("backends").exists());
    world.server().kill();
    world.server().start_again(&[]);
    let run = apply.end();
    assert_eq!(run.code(), 0, "{run}");
    assert_eq!(world.names().len(), 7);
    world.assert_converged();
}

#[test]
fn a_started_operation_continues_without_its_client() {
    let mut world = ProjectFixture::new("");
    let slow = fixture::script(&world.folder, "slow", "sleep 60");
    world.manifest(&format!(
        "project = \"gremlin\"\n[backends.dev]\nprovider = \"local\"\nlocal = {{ binary = \"{}\" }}\n",
        slow.display()
    ));
    world.start_server();
    let apply = world.spawn(&["apply", "--yes"]);
    let operations = |world: &ProjectFixture| world.status()["operations"].as_array().unwrap().clone();
    fixture::wait_until("the operation has begun", || !operations(&world).is_empty());
    let lease = world.status()["lease"].clone();
    assert_eq!(lease["process"], apply.child.id(), "{lease:#}");
    apply.interrupt();
    apply.until_said("interrupted: finishing the running steps");
    apply.interrupt();
    let run = apply.end();
    assert_eq!(run.code(), 130, "{run}");
    assert!(run.err.contains("the control plane continues what it has started, and `convexinfra status` shows it"), "{run}");
    let left = operations(&world);
    assert_eq!((left.len(), &left[0]["backend"], &left[0]["running"]), (1, &"dev".into(), &true.into()), "{left:#?}");
    assert_eq!(world.status()["lease"], Value::Null);
    let status = world.run_expecting(0, &["status"]);
    assert!(
        status.out.contains("creates or updates `dev` since") && status.out.contains("requested by first operator"),
        "{status}"
    );
    let run = world.run_expecting(124, &["wait", "dev", "--timeout", "1s", "--json"]);
    assert!(run.events()[0]["state"].as_str().unwrap().contains("creates or updates it, requested by"), "{run}");
}

#[test]
fn the_history_names_actors_and_shows_tampering() {
    let mut world =
        ProjectFixture::new("project = \"gremlin\"\n[backends.a]\nprovider = \"simulated\"\nsimulated = { listen = false }\n");
    world.start_server();
    let apply = token(&world, "apply");
    world.set("CONVEXINFRA_TOKEN", &apply);
    world.apply();
    let log = world.run_expecting(0, &["log"]);
    let line = log.out.lines().find(|line| line.contains("backend_recorded")).unwrap();
    let id = apply.strip_prefix("cvxi_").unwrap().split('_').next().unwrap();
    assert!(line.contains(&format!("apply (token {id})")) && line.contains("plan "), "{log}");
    let entries = world.run_expecting(0, &["log", "--json"]).document();
    let last = entries["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["actor"]["token"], last["plan"].as_str().unwrap().len()), (&Value::from(id), "sha256:".len() + 64));
    let verified = world.run_expecting(0, &["log", "--verify", "--json"]).document();
    assert_eq!((&verified["head"], &verified["breaks"]), (&last["hash"], &serde_json::json!([])));
    let head = verified["head"].as_str().unwrap();
    let noted = world.run_expecting(0, &["log", "--verify", "--head", head]);
    assert!(noted.out.contains("the hash that was noted is that of entry"), "{noted}");
    let other = world.run_expecting(1, &["log", "--verify", "--json", "--head", &"0".repeat(64)]);
    assert_eq!(other.errors(), ["history.broken"]);
    world.run_expecting(64, &["log", "--verify", "--head", "abc"]);
    world.server().kill();
    // An attacker who can write the rows and does not have the key.
    let store = rusqlite::Connection::open(world.home.join("control-plane.sqlite3")).unwrap();
    store.execute("DROP TRIGGER events_are_not_changed", []).unwrap();
    store.execute("UPDATE events SET detail = 'nothing to see' WHERE kind = 'backend_recorded'", []).unwrap();
    drop(store);
    world.set("CONVEXINFRA_CONTROL_PLANE", "embedded");
    let run = world.run_expecting(1, &["log", "--verify", "--json"]);
    assert!(run.errors().iter().all(|code| code == "history.broken"), "{run}");
    assert!(world.run_expecting(0, &["log", "--everywhere"]).out.contains("token_created"));
}

#[test]
fn figures_say_what_runs_and_what_a_project_may_have() {
    let manifest = "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nttl = \"7d\"\n\
                    [backends.down]\nprovider = \"simulated\"\nresources = { memory = \"1 GiB\" }\n";
    let mut world = ProjectFixture::served(manifest, fixture::PortBudget::Small);
    world.apply();
    world.run_expecting(0, &["quota", "set", "--memory", "4 GiB"]);
    world.run_expecting(0, &["stop", "down"]);
    let port = fixture::free_ports().0;
    let listen = format!("127.0.0.1:{port}");
    world.server().terminate();
    world.server().start_again(&[("CONVEXINFRA_METRICS_LISTEN", &listen)]);
    let has = |line: &str| {
        let (status, text) = fixture::get(&format!("http://{listen}/metrics"));
        status == 200 && text.lines().any(|found| found == line)
    };
    for line in [
        r#"convexinfra_backends{project="gremlin",provider="simulated"} 2"#,
        r#"convexinfra_backends_up{project="gremlin",provider="simulated"} 1"#,
        r#"convexinfra_quota_used{project="gremlin",resource="backends"} 2"#,
        r#"convexinfra_quota_used{project="gremlin",resource="memory_bytes"} 1073741824"#,
        r#"convexinfra_quota_limit{project="gremlin",resource="memory_bytes"} 4294967296"#,
        r#"convexinfra_store_up 1"#,
    ] {
        fixture::wait_until(line, || has(line));
    }
    let (_, text) = fixture::get(&format!("http://{listen}/metrics"));
    assert!(text.contains(r#"convexinfra_backend_expires_at_seconds{backend="dev",project="gremlin"} "#), "{text}");
    assert!(!text.contains(r#"backend="down""#), "{text}");
    // What goes is gone from them too.
    world.run_expecting(0, &["destroy", "down", "--allow-destroy", "down", "--yes"]);
    let line = r#"convexinfra_backends{project="gremlin",provider="simulated"} 1"#;
    fixture::wait_until(line, || has(line));
}
