//! What people meet in their first days: no manifest yet, a rename, a file that is gone, a reboot.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use serde_json::{Value, json};

use fixture::{CliFixture, ProjectFixture, kill_backends};

const DEV: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";

fn document(cli: &CliFixture, words: &str) -> Value {
    let mut documents = cli.documents(words);
    assert_eq!(documents.len(), 1, "`{words}`");
    documents.remove(0)
}

fn lint<'a>(plan: &'a Value, code: &str) -> &'a Value {
    plan["lints"].as_array().unwrap().iter().find(|lint| lint["code"] == code).unwrap_or_else(|| panic!("no {code}: {plan}"))
}

#[test]
fn provision_writes_the_manifest_where_there_is_none() {
    let cli = CliFixture::new("");
    fs::remove_file(cli.folder().join("convex.toml")).unwrap();
    let refused = cli.run("provision preview --provider fly --json");
    assert_eq!(refused.exit, 4, "{}", refused.out);
    assert!(!cli.folder().join("convex.toml").exists(), "a refusal writes nothing");
    let ready = document(&cli, "provision preview --provider simulated --json");
    assert_eq!(ready["state"], "ready", "{ready}");
    assert!(ready["env_file"].as_str().unwrap().ends_with("/.env.local"), "{ready}");
    assert!(cli.read("convex.toml").contains("[backends.preview]\nprovider = \"simulated\"\n"), "{}", cli.read("convex.toml"));
    assert_eq!(document(&cli, "plan --json")["steps"], json!([]));
    // The next one goes into the same manifest.
    cli.run_ok("provision second --provider simulated");
    assert!(cli.read("convex.toml").contains("[backends.second]\n"));
    assert_eq!(document(&cli, "plan --json")["steps"], json!([]));
}

#[test]
fn provision_takes_an_executable() {
    let cli = CliFixture::new("");
    fs::remove_file(cli.folder().join("convex.toml")).unwrap();
    let run = cli.run("provision dev --binary missing/convex-local-backend");
    assert_eq!(run.exit, 1, "{}", run.err);
    let plan = document(&cli, "plan --json");
    let missing = lint(&plan, "plan.binary_missing");
    let named = cli.folder().join("missing/convex-local-backend");
    assert!(missing["message"].as_str().unwrap().contains(&*named.to_string_lossy()), "{missing}");
    assert_eq!(missing["address"], "backend.dev");
}

#[test]
fn a_rename_that_is_not_declared_is_suggested_with_its_edit() {
    let cli = CliFixture::new(DEV);
    cli.run_ok("apply --yes");
    let url = document(&cli, "env dev --json")["url"].clone();
    cli.edit("[backends.dev]", "[backends.staging]");
    let plan = document(&cli, "plan --json");
    assert_eq!(plan["needs_allow_destroy"], json!(["dev"]));
    let edit = lint(&plan, "plan.rename_undeclared")["edit"].clone();
    let mut text = cli.read("convex.toml");
    let place = |key: &str| usize::try_from(edit[key].as_u64().unwrap()).unwrap();
    text.replace_range(place("start")..place("end"), edit["replacement"].as_str().unwrap());
    cli.write("convex.toml", &text);
    let plan = document(&cli, "plan --json");
    assert_eq!((&plan["summary"]["move"], &plan["summary"]["update"]), (&json!(1), &json!(0)), "{plan}");
    assert_eq!(plan["summary"]["destroy"], 0, "{plan}");
    assert!(plan.get("needs_allow_destroy").is_none(), "{plan}");
    cli.run_ok("apply --yes");
    assert_eq!(document(&cli, "env staging --json")["url"], url);
    assert_eq!(document(&cli, "plan --json")["steps"], json!([]));
}

#[test]
fn one_command_allows_everything_that_was_refused() {
    let cli = CliFixture::new(&format!(
        "{DEV}env_file = \"dev.env\"\n\n[backends.old]\nprovider = \"simulated\"\nenv_file = \"old.env\"\n"
    ));
    cli.write(".gitignore", "*.env\n");
    cli.run_ok("apply --yes");
    let refused = cli.run("destroy");
    assert_eq!(refused.exit, 4);
    let command = refused
        .err
        .lines()
        .find(|line| line.trim().starts_with("convexinfra destroy"))
        .unwrap_or_else(|| panic!("{}", refused.err));
    assert_eq!(command.trim(), "convexinfra destroy --allow-destroy dev,old");
    cli.run_ok(command.trim().strip_prefix("convexinfra ").unwrap());
    assert_eq!(document(&cli, "status --json")["backends"], json!([]));
}

#[test]
fn drift_and_status_look_at_env_files() {
    let cli = CliFixture::new(DEV);
    cli.run_ok("apply --yes");
    let status = |cli: &CliFixture| document(cli, "status --json")["env_files"][0]["status"].clone();
    assert_eq!((cli.run("drift").exit, status(&cli)), (0, json!("current")));

    let file = cli.folder().join(".env.local");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let drift = document(&cli, "drift --json");
    assert_eq!(drift["drift"][0]["address"], "env_file.dev", "{drift}");
    assert_eq!((cli.run("drift").exit, status(&cli)), (3, json!("missing")));
    cli.run_ok("apply --yes");

    fs::write(&file, text.replace("gremlin-dev|", "gremlin-dev|00")).unwrap();
    let drift = document(&cli, "drift --json");
    assert_eq!(drift["drift"][0]["path"], "CONVEX_SELF_HOSTED_ADMIN_KEY", "{drift}");
    assert!(!drift.to_string().contains("gremlin-dev|"), "no key is shown: {drift}");
    assert_eq!(status(&cli), "outdated");
    cli.run_ok("apply --yes");

    cli.write(".gitignore", "");
    assert_eq!((cli.run("drift").exit, status(&cli)), (3, json!("not_ignored")));
    cli.run_ok("apply --yes");
    assert_eq!((cli.run("drift").exit, status(&cli)), (0, json!("current")));
}

#[test]
fn what_an_edited_manifest_names_anew_is_no_drift() {
    let cli = CliFixture::new(DEV);
    cli.run_ok("apply --yes");
    cli.write("convex.toml", &format!("{DEV}env_file = [\".env.local\", \"more.env\"]\n"));
    assert_eq!(cli.run("drift").exit, 0);
}

#[test]
fn everything_of_the_machine_is_shown_and_started_again() {
    let cli = CliFixture::new(DEV);
    cli.run_ok("apply --yes");
    cli.run_ok("--project other apply --yes");
    let of = |cli: &CliFixture, project: &str| {
        let all = document(cli, "status --all --json");
        let found = all["projects"].as_array().unwrap().iter().find(|entry| entry["project"] == project).cloned();
        found.unwrap_or_else(|| panic!("{all}"))["backends"][0]["state"].clone()
    };
    assert_eq!((of(&cli, "gremlin"), of(&cli, "other")), (json!("running"), json!("running")));
    assert!(cli.run_ok("status --all").out.starts_with("PROJECT  NAME  PROVIDER"));

    kill_backends(&cli.home());
    cli.run_ok("--project other stop dev");
    assert_eq!(of(&cli, "gremlin"), "stopped");
    assert_eq!(document(&cli, "up --json")["started"], json!([{ "project": "gremlin", "name": "dev" }]));
    // What was stopped on purpose stays stopped.
    assert_eq!((of(&cli, "gremlin"), of(&cli, "other")), (json!("running"), json!("stopped")));
    assert_eq!(document(&cli, "up --json")["started"], json!([]));
    cli.run_ok("--project other destroy dev --allow-destroy dev");
}

#[test]
fn cores_come_back_as_they_were_typed() {
    let cli = CliFixture::new(DEV);
    cli.run_ok("apply --yes");
    assert_eq!(document(&cli, "quota set --cpus 8 --json")["quota"]["cpus"], 8.0);
    let status = document(&cli, "status --json");
    assert_eq!((&status["quota"]["cpus"], &status["usage"]["cpus"]), (&json!(8.0), &json!(0.0)));
}

#[test]
fn a_unit_for_the_boot_is_written_for_this_home() {
    let cli = CliFixture::new(DEV);
    let written = document(&cli, "up --on-boot --json");
    let unit = fs::read_to_string(written["unit"].as_str().unwrap()).unwrap();
    assert!(unit.contains(&format!("Environment=\"CONVEXINFRA_HOME={}\"", cli.home().display())), "{unit}");
}

#[test]
fn a_manifest_below_another_one_is_said() {
    let world = ProjectFixture::new("project = \"gremlin\"\n");
    let below = world.folder.join("apps/web");
    std::fs::create_dir_all(&below).unwrap();
    let output = world.command(&["init", "--provider", "simulated"]).current_dir(&below).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("is a manifest as well"), "{said}");
}
