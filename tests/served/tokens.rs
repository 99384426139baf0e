//! What each kind of token opens from the command line, and that none of them is ever shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rstest::rstest;
use serde_json::Value;

use fixture::{CommandResult, ProjectFixture, walk};

const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";

/// Makes a token with the operator's, and leaves it in the environment.
fn become_bearer(world: &mut ProjectFixture, words: &[&str]) -> String {
    let own = world.variables["CONVEXINFRA_TOKEN"].clone();
    world.set("CONVEXINFRA_TOKEN", &world.operator.clone().unwrap());
    let run = world.run_expecting(0, &[&["token", "create"], words].concat());
    assert_eq!(run.out.lines().count(), 1, "{run}");
    let token = run.out.trim().to_owned();
    assert!(token.starts_with("cvxi_") && !run.err.contains(&token), "{run}");
    assert_ne!(token, own);
    world.set("CONVEXINFRA_TOKEN", &token);
    token
}

fn denied(world: &ProjectFixture, words: &[&str], code: &str) -> CommandResult {
    let run = world.run_expecting(77, &[words, &["--json"]].concat());
    assert_eq!(run.errors(), [code], "{run}");
    run
}

#[test]
fn each_scope_allows_its_commands_and_names_the_missing_scope() {
    let mut world: ProjectFixture = super::new_world(ONE);
    world.apply();
    become_bearer(&mut world, &["--project", "gremlin", "--scope", "read", "--note", "ci drift check"]);
    for words in
        [&["plan"][..], &["drift"], &["status"], &["graph"], &["logs", "dev"], &["log"], &["wait", "dev"], &["log", "--verify"]]
    {
        world.run_expecting(0, words);
    }
    let help = denied(&world, &["env", "dev"], "auth.scope");
    assert!(help.out.contains("--scope apply"), "{help}");
    world.manifest(&format!("{ONE}tuning = {{ max_concurrent_queries = 3 }}\n"));
    world.run_expecting(2, &["plan", "--detailed-exitcode"]);
    denied(&world, &["apply", "--yes"], "auth.scope");
    denied(&world, &["token", "list"], "auth.scope");

    become_bearer(&mut world, &["--project", "gremlin", "--scope", "apply"]);
    world.apply();
    world.run_expecting(0, &["env", "dev"]);
    let destroy = world.run(&["destroy", "dev", "--allow-destroy", "dev", "--json"]);
    assert_ne!(destroy.code(), 0, "{destroy}");
    assert!(destroy.out.contains("auth.scope") && destroy.out.contains("destroy"), "{destroy}");
    assert_eq!(world.names(), ["dev"]);
    // A preview goes by itself, and may go earlier.
    world.manifest(&format!("{ONE}[backends.preview]\nprovider = \"simulated\"\nttl = \"1h\"\nenv_file = \".env.preview\"\n"));
    world.apply();
    world.run_expecting(0, &["deprovision", "preview", "--allow-destroy", "preview"]);
    assert_eq!(world.names(), ["dev"]);

    become_bearer(&mut world, &["--project", "gremlin", "--scope", "destroy"]);
    world.run_expecting(0, &["destroy", "dev", "--allow-destroy", "dev"]);
    assert!(world.names().is_empty());
    denied(&world, &["quota", "set", "--project", "gremlin", "--backends", "9"], "auth.scope");
}

#[test]
fn tokens_of_another_project_age_or_shape_open_nothing() {
    let mut world: ProjectFixture = super::new_world(ONE);
    world.apply();
    let good = become_bearer(&mut world, &["--project", "gremlin", "--scope", "read"]);
    world.run_expecting(0, &["status"]);

    become_bearer(&mut world, &["--project", "another", "--scope", "destroy"]);
    let other = denied(&world, &["status"], "auth.project");
    assert!(other.out.contains("`another`"), "{other}");

    become_bearer(&mut world, &["--project", "gremlin", "--scope", "read", "--ttl", "1s"]);
    fixture::wait_until("it has expired", || world.run(&["status"]).code() == 77);
    denied(&world, &["status"], "auth.token_expired");

    let mut altered = good.clone();
    let last = if altered.pop() == Some('0') { '1' } else { '0' };
    altered.push(last);
    world.set("CONVEXINFRA_TOKEN", &altered);
    denied(&world, &["status"], "auth.token_malformed");
    world.set("CONVEXINFRA_TOKEN", "not a token at all");
    assert_eq!(world.run(&["status"]).code(), 77);
    world.unset("CONVEXINFRA_TOKEN");
    let none = world.run_expecting(77, &["status", "--json"]);
    assert!(none.out.contains("CONVEXINFRA_TOKEN") && none.out.contains("CONVEXINFRA_TOKEN_COMMAND"), "{none}");
    world.set("CONVEXINFRA_TOKEN_COMMAND", &format!("echo {good}"));
    world.run_expecting(0, &["status"]);
    world.unset("CONVEXINFRA_TOKEN_COMMAND");

    world.set("CONVEXINFRA_TOKEN", &world.operator.clone().unwrap());
    let list: Value = world.run_expecting(0, &["token", "list", "--json"]).document();
    let id = list["tokens"].as_array().unwrap().iter().find(|token| good.contains(token["id"].as_str().unwrap())).unwrap();
    world.run_expecting(0, &["token", "revoke", id["id"].as_str().unwrap()]);
    world.set("CONVEXINFRA_TOKEN", &good);
    denied(&world, &["status"], "auth.token_revoked");
}

#[test]
fn a_quota_is_planned_for_and_enforced_by_the_server() {
    let mut world: ProjectFixture = super::new_world(ONE);
    world.run_expecting(0, &["quota", "set", "--project", "gremlin", "--backends", "1", "--cpus", "2"]);
    world.apply();
    world.manifest(&format!("{ONE}resources = {{ cpus = 3 }}\n\n[backends.two]\nprovider = \"simulated\"\n"));
    become_bearer(&mut world, &["--project", "gremlin", "--scope", "apply"]);
    let plan = world.plan();
    let refusals = fixture::refusals(&plan);
    assert!(refusals.contains(&"plan.over_quota_backends".to_owned()), "{plan:#}");
    assert!(refusals.contains(&"plan.over_quota_cpus".to_owned()), "{plan:#}");
    assert_eq!(world.run(&["apply", "--yes"]).code(), 4);
    assert_eq!(world.names(), ["dev"]);
}

/// Everything that is written or said anywhere, searched byte for byte.
#[test]
fn no_token_is_written_anywhere() {
    let mut world: ProjectFixture = super::new_world(ONE);
    let tokens: Vec<String> = [("read", "r"), ("apply", "a"), ("destroy", "d")]
        .iter()
        .map(|(scope, note)| become_bearer(&mut world, &["--project", "gremlin", "--scope", scope, "--note", note]))
        .collect();
    let mut said = String::new();
    for words in [
        &["apply", "--yes"][..],
        &["status", "--json"],
        &["plan", "--json", "--out", "saved.json"],
        &["log", "--json"],
        &["token", "list"],
    ] {
        let run = world.run(words);
        said.push_str(&run.out);
        said.push_str(&run.err);
    }
    world.server().terminate();
    said.push_str(&world.server().log());
    let mut secrets: Vec<String> = tokens.iter().chain(&world.operator).map(|token| token[16..].to_owned()).collect();
    let (_, key) = world.coordinates(".env.local");
    secrets.push(key);
    for secret in &secrets {
        assert!(!said.contains(secret.as_str()), "a secret was said");
    }
    walk(&world.root(), &mut |path| {
        let bytes = if path.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
        for secret in &secrets {
            let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!there || path.ends_with(".env.local"), "a secret stands in {}", path.display());
        }
    });
}

#[rstest]
#[case::a_token("UPDATE tokens SET scope = 'nonsense' WHERE project = 'other'", "tokens")]
#[case::the_mark_of_the_master_key("UPDATE key_marks SET mark = 'nonsense'", "key_marks")]
#[case::the_mark_with_a_number_out_of_range("UPDATE key_marks SET mark = CAST(x'ff' AS TEXT), unbound = -1", "key_marks")]
#[case::the_name_of_a_project("UPDATE projects SET name = 'No Name' WHERE name = 'other'", "projects")]
#[case::a_lease("INSERT INTO leases VALUES ('No Name', 1, 'x', 1, NULL)", "leases")]
fn a_row_that_cannot_be_read_stops_nothing_but_itself(#[case] damage: &str, #[case] table: &str) {
    let mut world: ProjectFixture = super::new_world(ONE);
    world.apply();
    let damaged = become_bearer(&mut world, &["--project", "other", "--scope", "read"]);
    become_bearer(&mut world, &["--project", "gremlin", "--scope", "apply"]);
    world.server().kill();
    let store = rusqlite::Connection::open(world.home.join("control-plane.sqlite3")).unwrap();
    store.pragma_update(None, "foreign_keys", false).unwrap();
    assert_eq!(store.execute(damage, []).unwrap(), 1);
    drop(store);
    world.server().start_again(&[]);
    world.apply();
    let log = world.server().log();
    assert!(log.contains(&format!("of table `{table}`")) && log.contains("put the store back from a backup"), "{log}");
    if table == "tokens" {
        world.set("CONVEXINFRA_TOKEN", &damaged);
        assert_ne!(world.run(&["plan"]).status.code(), Some(0));
    }
}
