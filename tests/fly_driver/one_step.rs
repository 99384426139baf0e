//! The one-step call, against a served control plane that alone has a token for Fly.io.
//!
//! `super::scene` says what serves it: the server, and the Worker where it can run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use serde_json::{Value, json};

use super::Scene;
use fake_fly::FakeFly;
use fake_fly::settings::TOKEN;
use fixture::{ProjectFixture, RunningCommand, wait_until};

pub(crate) const EMPTY: &str = "project = \"gremlin\" # kept\n";
pub(crate) const RELEASE: &str = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";
pub(crate) const PROVISION: [&str; 9] =
    ["provision", "preview", "--provider", "fly", "--region", "iad", "--release", RELEASE, "--json"];
pub(crate) const DEPROVISION: [&str; 5] = ["deprovision", "preview", "--allow-destroy", "preview", "--json"];
const REFUSED_TOKEN: &str = "fm2_this-is-not-the-one";

/// All that a script looks at: the exit code, and the one line on stdout.
pub(crate) fn script(world: &ProjectFixture, words: &[&str]) -> (i32, Value) {
    let run = world.run(words);
    assert_eq!(run.out.lines().count(), 1, "{run}");
    (run.code(), run.document())
}

/// The codes of a report of errors.
fn codes(report: &Value) -> Vec<&str> {
    report["errors"].as_array().into_iter().flatten().filter_map(|error| error["code"].as_str()).collect()
}

/// What a client of a backend gets.
fn ask(fly: &FakeFly, url: &str, key: &str) -> u16 {
    let client = fly.client();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("{url}/api/check_admin_key");
    runtime.block_on(async {
        client.get(url).header("authorization", format!("Convex {key}")).send().await.unwrap().status().as_u16()
    })
}

fn writes(fly: &FakeFly) -> usize {
    fly.requests().iter().filter(|seen| !seen.line.starts_with("GET ")).count()
}

/// A variable of an env file.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim_matches('\'')
}

/// How many apps, machines and volumes there are.
pub(crate) fn counted(fly: &FakeFly) -> [usize; 3] {
    let world = fly.world();
    let machines = world.apps.values().flat_map(|app| &app.machines).filter(|machine| !machine.state.is_gone()).count();
    let volumes = world.apps.values().flat_map(|app| &app.volumes).filter(|volume| volume.state.is_live()).count();
    [world.apps.len(), machines, volumes]
}

fn with_token(world: &mut ProjectFixture, words: &[&str]) -> String {
    world.set("CONVEXINFRA_TOKEN", &world.operator.clone().unwrap());
    let token = world.run_expecting(0, &[&["token", "create"], words].concat()).out.trim().to_owned();
    world.set("CONVEXINFRA_TOKEN", &token);
    token
}

#[test]
fn a_script_provisions_and_deprovisions_by_exit_codes_and_json() {
    let Some(Scene { fly, mut world, mut control }) = super::scene(&[]) else { return };
    with_token(&mut world, &["--project", "gremlin", "--scope", "destroy"]);
    let (exit, made) = script(&world, &PROVISION);
    assert_eq!(
        (exit, &made["format"], &made["name"], &made["state"]),
        (0, &json!("convexinfra.provision/1"), &json!("preview"), &json!("ready"))
    );
    let url = made["url"].as_str().unwrap();
    assert!(url.starts_with("https://gremlin-preview-") && url.ends_with(".fly.dev"), "{url}");
    assert_eq!(made["site_url"], format!("{url}/http"));
    let env_file = made["env_file"].as_str().unwrap();
    let lines = std::fs::read_to_string(env_file).unwrap();
    let (written, key) = (line(&lines, "CONVEX_SELF_HOSTED_URL"), line(&lines, "CONVEX_SELF_HOSTED_ADMIN_KEY"));
    assert_eq!((written, ask(&fly, url, key)), (url, 200));
    assert!(!made.to_string().contains(key), "a key that nobody asked for");
    world.assert_converged();

    // Once more: the same words, and nothing changes.
    let (before, manifest) = (writes(&fly), world.read("convex.toml"));
    assert_eq!(script(&world, &PROVISION), (0, made.clone()));
    assert_eq!((writes(&fly), world.read("convex.toml")), (before, manifest));
    let (exit, shown) = script(&world, &[&PROVISION[..], &["--show-key"]].concat());
    assert_eq!((exit, &shown["admin_key"]), (0, &json!(key)));

    // What is there is not changed by a flag.
    let (exit, other) = script(&world, &["provision", "preview", "--provider", "fly", "--region", "fra", "--json"]);
    assert_eq!((exit, codes(&other)), (4, vec!["provision.differs"]));

    // The inverse, once it is allowed; and once more.
    let (exit, refused) = script(&world, &DEPROVISION[..2].iter().copied().chain(["--json"]).collect::<Vec<_>>());
    assert_eq!((exit, codes(&refused)), (4, vec!["apply.destruction_not_allowed"]));
    assert_eq!(fly.world().apps.len(), 1);
    for _ in 0..2 {
        let (exit, gone) = script(&world, &DEPROVISION);
        assert_eq!((exit, &gone["name"], &gone["state"]), (0, &json!("preview"), &json!("absent")));
        assert_eq!(world.read("convex.toml"), EMPTY);
        assert!(fly.world().apps.is_empty() && !Path::new(env_file).exists());
    }
    world.assert_converged();
    let log = control.end();
    assert!(!log.contains(key) && !log.contains(TOKEN), "the server's log shows a secret");
}

#[test]
fn two_that_provision_the_same_name_at_once_get_one_app_from_one_server() {
    let Some(Scene { fly, world, control: _control }) = super::scene(&[]) else { return };
    // Two checkouts of one repository.
    let folders: Vec<String> = ["one", "two"]
        .iter()
        .map(|name| {
            let folder = world.root().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("convex.toml"), EMPTY).unwrap();
            folder.join("convex.toml").display().to_string()
        })
        .collect();
    let words = |manifest: &'static str| [&PROVISION[..], &["--manifest", manifest]].concat();
    let folders: Vec<&'static str> = folders.into_iter().map(|path| &*path.leak()).collect();
    let running: Vec<RunningCommand> = folders.iter().map(|path| world.spawn(&words(path))).collect();
    for run in running.into_iter().map(RunningCommand::end) {
        match run.code() {
            0 => assert_eq!(run.document()["state"], "ready", "{run}"),
            5 => assert_eq!(run.errors(), ["control.lease_held"], "{run}"),
            _ => panic!("{run}"),
        }
    }
    assert_eq!(counted(&fly), [1, 1, 1]);
    let urls: Vec<Value> = folders
        .iter()
        .map(|path| {
            let (exit, made) = script(&world, &words(path));
            assert_eq!(exit, 0, "{made}");
            made["url"].clone()
        })
        .collect();
    assert_eq!(urls[0], urls[1]);
    assert_eq!(counted(&fly), [1, 1, 1]);
    for path in folders {
        world.run_expecting(0, &["plan", "--detailed-exitcode", "--manifest", path]);
    }
}

#[test]
fn without_a_good_token_for_the_control_plane_nothing_is_made() {
    let Some(Scene { fly, mut world, control: _control }) = super::scene(&[]) else { return };
    let refused = |world: &ProjectFixture, code: &str| {
        let (exit, report) = script(world, &PROVISION);
        assert_eq!((exit, codes(&report)), (77, vec![code]), "{report}");
        // Neither there nor here.
        assert!(fly.requests().is_empty() && world.read("convex.toml") == EMPTY);
        report.to_string()
    };
    world.unset("CONVEXINFRA_TOKEN");
    let said = refused(&world, "auth.token_missing");
    assert!(said.contains("CONVEXINFRA_TOKEN"), "{said}");

    let other = with_token(&mut world, &["--project", "another", "--scope", "destroy"]);
    let said = refused(&world, "auth.project");
    assert!(said.contains("another") && !said.contains(&other), "{said}");

    let expired = with_token(&mut world, &["--project", "gremlin", "--scope", "apply", "--ttl", "1s"]);
    wait_until("it has expired", || world.run(&["status"]).code() == 77);
    assert!(!refused(&world, "auth.token_expired").contains(&expired));

    with_token(&mut world, &["--project", "gremlin", "--scope", "read"]);
    refused(&world, "auth.scope");

    // With enough for making it, and not for taking it away.
    with_token(&mut world, &["--project", "gremlin", "--scope", "apply"]);
    assert_eq!(script(&world, &PROVISION).0, 0);
    let (exit, report) = script(&world, &DEPROVISION);
    assert_eq!((exit, codes(&report)), (77, vec!["auth.scope"]), "{report}");
    assert_eq!(counted(&fly), [1, 1, 1]);
    world.assert_converged();
}

#[test]
fn a_server_without_a_token_for_fly_says_so_before_anything_is_written() {
    let Some(Scene { fly, mut world, control: _control }) = super::scene(&[("FLY_API_TOKEN", "")]) else { return };
    // The client's own is of no use to the server, and is not sent to it.
    world.set("FLY_API_TOKEN", TOKEN);
    let (exit, report) = script(&world, &PROVISION);
    assert_eq!((exit, codes(&report)), (4, vec!["plan.provider_unavailable"]), "{report}");
    assert!(report.to_string().contains("FLY_API_TOKEN") && !report.to_string().contains(TOKEN), "{report}");
    assert!(fly.requests().is_empty() && world.read("convex.toml") == EMPTY);
    world.assert_converged();
}

#[test]
fn a_token_rejected_by_fly_is_reported_and_the_next_server_resumes() {
    let Some(Scene { fly, world, mut control }) = super::scene(&[("FLY_API_TOKEN", REFUSED_TOKEN)]) else { return };
    let run = world.run(&PROVISION);
    assert_eq!((run.code(), run.errors()), (77, vec!["fly.token".to_owned()]), "{run}");
    assert!(fly.world().apps.is_empty());
    let said = format!("{}{}{}", run.out, run.err, control.end());
    assert!(!said.contains("not-the-one") && !said.contains(TOKEN), "{said}");
    control.start_again(&[("FLY_API_TOKEN", TOKEN)]);
    let (exit, made) = script(&world, &PROVISION);
    assert_eq!((exit, &made["state"]), (0, &json!("ready")), "{made}");
    assert_eq!(counted(&fly), [1, 1, 1]);
    world.assert_converged();
}
