//! From the manifest to a backend that answers at `https://APP.fly.dev`, and back to nothing: the command itself.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Stdio;

use serde_json::{Value, json};

use fake_fly::{FakeFly, Fault, Reply, Settings, Shortage};
use fixture::{CliFixture, CommandOutput};

const RELEASE: &str = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";

fn manifest() -> String {
    format!("project = \"gremlin\"\n\n[backends.dev]\nprovider = \"fly\"\nregion = \"iad\"\nrelease = \"{RELEASE}\"\n")
}

/// A stand-in whose machines are backends, and a command line that takes it for Fly.io.
fn scene(manifest: &str) -> (FakeFly, CliFixture) {
    let fly = FakeFly::start(Settings::default().with_processes().hurried(50));
    let cli = CliFixture::new(manifest).with_variables(fly.environment());
    (fly, cli)
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let value =
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim_matches('\'')
}

/// What a client of the backend gets.
fn ask(fly: &FakeFly, url: &str, key: Option<&str>) -> (u16, String) {
    let client = fly.client();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = client.get(url);
        let request = match key {
            Some(key) => request.header("authorization", format!("Convex {key}")),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

fn document(ran: &CommandOutput) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", ran.out, ran.err))
}

#[test]
fn apply_ends_with_a_backend_that_answers_and_destroy_with_nothing() {
    let (fly, cli) = scene(&manifest());
    let plan = cli.run_ok("plan");
    assert!(
        plan.out.contains("cost a month: $0.00 → $8.53 (fly prices of 2026-08-05; without traffic, volume snapshots)"),
        "{}",
        plan.out
    );
    assert_eq!(fly.requests().len(), 0, "a plan of something new asked Fly");

    cli.run_ok("apply --yes");
    let file = cli.read(".env.local");
    let (url, key) = (line(&file, "CONVEX_SELF_HOSTED_URL"), line(&file, "CONVEX_SELF_HOSTED_ADMIN_KEY"));
    assert!(url.starts_with("https://gremlin-dev-") && url.ends_with(".fly.dev"), "{url}");
    assert_eq!(ask(&fly, &format!("{url}/instance_name"), None), (200, "gremlin-dev".to_owned()));
    assert_eq!(ask(&fly, &format!("{url}/api/check_admin_key"), Some(key)).0, 200);
    assert_eq!(ask(&fly, &format!("{url}/version"), None).1, RELEASE);

    // Planning again finds nothing.
    let again = cli.run_ok("plan --detailed-exitcode");
    assert_eq!(again.out.lines().count(), 1, "{}", again.out);
    cli.run_ok("drift");

    // What others change is drift, with its name, and apply puts it right.
    let app = fly.world().apps.keys().next().unwrap().clone();
    {
        let mut world = fly.world();
        let machine = &mut world.apps.get_mut(&app).unwrap().machines[0];
        machine.config.value["guest"]["memory_mb"] = json!(2048);
    }
    let drift = cli.run("drift");
    assert_eq!(drift.exit, 3);
    assert!(drift.out.contains("guest.memory_mb: applied 1024, seen 2048"), "{}", drift.out);
    cli.run_ok("apply --yes");
    cli.run_ok("plan --detailed-exitcode");

    // Nothing goes without its name.
    assert_eq!(cli.run("destroy dev").exit, 4);
    cli.run_ok("destroy dev --allow-destroy dev");
    assert!(fly.world().apps.is_empty());
    assert!(!cli.folder().join(".env.local").exists(), "coordinates of nothing are left");
    assert!(!fly.requests().iter().any(|seen| seen.request.query.iter().any(|(_, value)| value.contains("fm2_"))));
}

#[test]
fn a_release_that_does_not_start_leaves_the_one_that_ran() {
    let (fly, cli) = scene(&manifest());
    cli.run_ok("apply --yes");
    fly.world().omens.launches_fail = true;
    cli.edit("region = \"iad\"", "region = \"iad\"\ntuning = { max_concurrent_queries = 4 }");
    let failed = cli.run("apply --yes");
    assert_eq!(failed.exit, 1, "{}", failed.err);
    assert!(failed.err.contains("previous configuration was put back"), "{}", failed.err);
    fly.world().omens.launches_fail = false;
    cli.run_ok("apply --yes");
    cli.run_ok("plan --detailed-exitcode");
}

#[test]
fn provision_is_one_step_and_one_object() {
    let (fly, cli) = scene("project = \"gremlin\" # kept\n");
    let words = format!("provision preview --provider fly --region iad --release {RELEASE} --json");
    let first = cli.run_ok(&words);
    assert_eq!(first.out.lines().count(), 1, "{}", first.out);
    let made = document(&first);
    let url = made["url"].as_str().unwrap();
    assert_eq!((&made["name"], &made["state"]), (&json!("preview"), &json!("ready")));
    assert_eq!(made["site_url"], format!("{url}/http"));
    assert!(std::path::Path::new(made["env_file"].as_str().unwrap()).exists());
    assert!(!first.out.contains("gremlin-preview|") && !first.err.contains("gremlin-preview|"), "a key that nobody asked for");
    let text = cli.read("convex.toml");
    assert!(text.starts_with("project = \"gremlin\" # kept") && text.contains("region = \"iad\""), "{text}");

    let writes = |fly: &FakeFly| fly.requests().iter().filter(|seen| !seen.line.starts_with("GET ")).count();
    let before = writes(&fly);
    let again = cli.run_ok(&words);
    assert_eq!((document(&again), writes(&fly)), (made.clone(), before));
    assert_eq!(cli.read("convex.toml"), text);
    let with_key = document(&cli.run_ok(&format!("{words} --show-key")));
    let key = with_key["admin_key"].as_str().unwrap();
    assert_eq!(ask(&fly, &format!("{url}/api/check_admin_key"), Some(key)).0, 200);

    let refused = cli.run("deprovision preview --json");
    assert_eq!(refused.exit, 4, "{}", refused.out);
    let gone = document(&cli.run_ok("deprovision preview --allow-destroy preview --json"));
    assert_eq!((&gone["name"], &gone["state"]), (&json!("preview"), &json!("absent")));
    assert!(fly.world().apps.is_empty() && !cli.read("convex.toml").contains("preview"));
}

#[test]
fn two_that_provision_the_same_name_at_once_get_one_app() {
    let (fly, cli) = scene(&manifest());
    let words = "provision dev --json";
    let children: Vec<_> =
        (0..2).map(|_| cli.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).collect();
    let ends: Vec<CommandOutput> =
        children.into_iter().map(|child| CliFixture::ran(words, &child.wait_with_output().unwrap())).collect();
    // The other one is told who is at it.
    assert!(ends.iter().any(|ran| ran.exit == 0), "{} {}", ends[0].err, ends[1].err);
    assert!(ends.iter().all(|ran| ran.exit == 0 || ran.exit == 5), "{} {}", ends[0].exit, ends[1].exit);
    let url = document(&cli.run_ok(words))["url"].clone();
    assert_eq!(fly.world().apps.len(), 1);
    assert_eq!(fly.world().apps.values().next().unwrap().machines.len(), 1);
    assert!(ends.iter().filter(|ran| ran.exit == 0).all(|ran| document(ran)["url"] == url));
}

#[test]
fn a_missing_token_is_named() {
    let cli = CliFixture::new(&manifest());
    let plan = cli.run("plan");
    assert_eq!(plan.exit, 4);
    let all = format!("{}{}", plan.out, plan.err);
    assert!(all.contains("FLY_API_TOKEN") && all.contains("plan.provider_unavailable"), "{all}");
    assert!(!cli.home().exists());
}

#[test]
fn a_token_that_is_no_good_is_refused_and_never_shown() {
    let (fly, cli) = scene(&manifest());
    let cli = cli.with_variables([("FLY_API_TOKEN", "fm2_this-is-not-the-one".to_owned())]);
    let failed = cli.run("apply --yes --json");
    assert_eq!(failed.exit, 77);
    let all = format!("{}{}", failed.out, failed.err);
    assert!(all.contains("fly.token") && !all.contains("not-the-one"), "{all}");
    assert!(fly.world().apps.is_empty());
}

#[test]
fn an_unobserved_backend_is_not_called_ready_and_says_why() {
    let (fly, cli) = scene(&manifest());
    assert_eq!(document(&cli.run_ok("provision dev --json"))["state"], "ready");
    let bad = || [("FLY_API_TOKEN", "fm2_this-is-not-the-one".to_owned())];
    let cli = cli.with_variables(bad());
    let run = |words: &str| {
        let ran = cli.run(words);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(all.contains("Fly does not take the token"), "`{words}` keeps the reason to itself: {all}");
        assert!(!all.contains("not-the-one"), "{all}");
        ran
    };
    let provision = run("provision dev --json");
    assert_eq!((provision.exit, provision.out.lines().count()), (77, 1), "{}", provision.out);
    let error = document(&provision)["errors"][0].clone();
    assert_eq!(error["code"], "fly.token");
    assert!(error["help"].as_str().unwrap().contains("fly tokens create org"), "{error}");
    assert_eq!((run("drift").exit, run("status").exit, run("plan").exit), (77, 77, 0));
    assert_eq!((run("plan --detailed-exitcode").exit, run("apply --yes").exit), (77, 77));
    let applied = run("apply --yes --json");
    let lines: Vec<Value> = applied.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((applied.exit, &lines[0]["type"], &lines[0]["converged"]), (77, &json!("finished"), &Value::Null));
    assert_eq!((lines.len(), &lines[1]["errors"][0]["code"]), (2, &json!("fly.token")), "{}", applied.out);
    let drift = document(&run("drift --json"));
    assert_eq!(
        (&drift["unknown"], &drift["unseen"][0]["address"], &drift["unseen"][0]["code"]),
        (&json!(["backend.dev"]), &json!("backend.dev"), &json!("fly.token"))
    );
    assert_eq!(document(&run("status --json"))["backends"][0]["unseen"]["code"], "fly.token");
    let plan = document(&run("plan --json"));
    assert_eq!(plan["lints"][0]["code"], "plan.not_observed");
    assert_eq!(run("wait --timeout 60s").exit, 77, "no waiting makes a token good");
    let waited = run("wait --timeout 3s --json");
    let first: Value = serde_json::from_str(waited.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["unseen"]["code"], "fly.token");
    // So that the folder can be cleared.
    drop(cli.with_variables(fly.environment()));
}

#[test]
fn what_programs_ask_for_says_what_they_have_to_know() {
    let (fly, cli) = scene(&manifest());
    cli.run_ok("provision dev --json");
    let app = fly.world().apps.keys().next().unwrap().clone();

    // The log is where Fly has it, and no later try changes that.
    let logs = cli.run("logs dev --json");
    let error = document(&logs)["errors"][0].clone();
    assert_eq!((logs.exit, &error["code"]), (1, &json!("provider.unsupported")));
    assert!(error["help"].as_str().unwrap().ends_with(&format!("\n    fly logs --app {app}")), "{error}");

    // One file names one backend, so a second one has none unless it is given one.
    let second = cli.run_ok("provision preview --provider simulated --json");
    let made = document(&second);
    assert_eq!((&made["state"], &made["env_file"]), (&json!("ready"), &json!(null)));
    assert!(made["help"].as_str().unwrap().contains("convexinfra env preview --write PATH"), "{made}");
    let said = cli.run_ok("provision preview");
    assert!(said.out.contains("no env file points to `preview`"), "{}", said.out);
    cli.run_ok("env preview --write .env.preview");

    // What stays and costs money is named where the record of it goes.
    let gone = document(&cli.run_ok("deprovision dev --keep-data --allow-destroy dev --json"));
    let notices = gone["notices"].as_array().unwrap();
    let volume = fly.world().apps[&app].volumes[0].id.clone();
    let kept = notices.iter().filter_map(Value::as_str).find(|notice| notice.starts_with("kept: ")).unwrap();
    assert!(kept.contains(&app) && kept.contains(&volume), "{gone}");
}

#[test]
fn a_taken_app_name_is_replaced() {
    let (fly, cli) = scene(&manifest());
    // The name that is chosen first turns out to be taken.
    fly.order(Fault::answer("GET", "/v1/apps/*", Reply::error(403, "unauthorized")));
    cli.run_ok("apply --yes");
    assert!(fly.outstanding().is_empty());
    let url = line(&cli.read(".env.local"), "CONVEX_SELF_HOSTED_URL").to_owned();
    let app = fly.world().apps.keys().next().unwrap().clone();
    assert_eq!(url, format!("https://{app}.fly.dev"));
    let asked: Vec<String> =
        fly.requests().iter().map(|seen| seen.line.clone()).filter(|line| line.starts_with("GET /v1/apps/gremlin")).collect();
    assert!(!asked[0].ends_with(&app), "the first name was free");
    assert_eq!(ask(&fly, &format!("{url}/instance_name"), None).0, 200);
}

#[test]
fn data_stays_when_that_is_asked_for() {
    let (fly, cli) = scene(&manifest());
    cli.run_ok("apply --yes");
    let plan = cli.run("destroy dev --keep-data");
    assert!(plan.exit == 4 && plan.err.contains("its data is kept"), "{} {}", plan.out, plan.err);
    let gone = cli.run_ok("destroy dev --keep-data --allow-destroy dev");
    let app = fly.world().apps.keys().next().unwrap().clone();
    assert!(gone.err.contains(&app) || gone.out.contains(&app), "{} {}", gone.out, gone.err);
    let world = fly.world();
    assert!(world.apps[&app].volumes.iter().any(|volume| volume.state.is_live()));
    assert!(world.apps[&app].machines.iter().all(|machine| machine.state.is_gone()));
}

#[test]
fn settings_that_fly_does_not_have_are_refused_while_planning() {
    let (fly, cli) =
        scene("project = \"gremlin\"\n[backends.dev]\nprovider = \"fly\"\nresources = { cpus = 3, memory = \"2 GiB\" }\n");
    let plan = cli.run("plan --json");
    assert_eq!(plan.exit, 4);
    let codes = |ran: &CommandOutput| -> Vec<String> {
        let refusals = document(ran)["refusals"].as_array().unwrap().clone();
        refusals.iter().map(|refusal| refusal["code"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(codes(&plan), ["plan.region_missing", "plan.unknown_size"]);
    cli.edit("provider = \"fly\"", "provider = \"fly\"\nregion = \"xyz\"");
    cli.edit("cpus = 3", "cpus = 2");
    assert_eq!(codes(&cli.run("plan --json")), ["plan.unknown_region"]);
    assert_eq!(fly.requests().len(), 0);
}

#[test]
fn a_budget_in_dollars_is_kept() {
    let (_fly, cli) = scene(&format!("{}\n[budget]\nmonthly_usd = 8\n", manifest()));
    let plan = cli.run("plan --json");
    assert_eq!(plan.exit, 4);
    let plan = document(&plan);
    assert_eq!(plan["refusals"][0]["code"], "plan.over_budget_monthly_usd");
    assert!(plan["refusals"][0]["message"].as_str().unwrap().contains("$8.53"), "{plan}");
    assert_eq!(plan["cost"]["after"]["usd"], 8.53);
    assert_eq!(plan["cost"]["prices"][0]["as_of"], "2026-08-05");
    cli.edit("monthly_usd = 8", "monthly_usd = 9");
    let markdown = cli.run_ok("plan --markdown");
    assert!(markdown.out.contains("| `dev` | - | $8.53 |"), "{}", markdown.out);
}

#[test]
fn a_full_region_is_reported_and_the_next_allowed_one_taken() {
    let (fly, cli) = scene(&manifest());
    fly.world().full_regions.insert("iad".to_owned(), Shortage::NoCandidateHost);
    let failed = cli.run("apply --yes");
    assert_eq!(failed.exit, 1);
    assert!(failed.err.contains("no room in iad") && failed.err.contains("fallback_regions"), "{}", failed.err);
    cli.edit("region = \"iad\"", "region = \"iad\"\nfly = { fallback_regions = [\"fra\"] }");
    // What it costs depends on where there is room, until it is somewhere.
    let plan = cli.run_ok("plan");
    assert!(plan.out.contains("→ $8.53 to $9.73 by region"), "{}", plan.out);
    cli.run_ok("apply --yes");
    cli.run_ok("plan --detailed-exitcode");
    assert_eq!(fly.world().apps.values().next().unwrap().machines[0].region, "fra");
    let cost = document(&cli.run_ok("plan --json"))["cost"].clone();
    assert_eq!((&cost["before"], &cost["after"]), (&json!({ "usd": 9.73 }), &json!({ "usd": 9.73 })));
}

#[test]
fn a_host_of_ones_own_is_awaited_with_the_records_that_it_needs() {
    let (fly, cli) = scene(&manifest());
    cli.edit(
        "region = \"iad\"",
        "region = \"iad\"\norigins = { api = \"https://api.gremlin.dev\", site = \"https://api.gremlin.dev/http\" }",
    );
    let applied = cli.run_ok("apply --yes");
    assert!(applied.err.contains("api.gremlin.dev. CNAME "), "{}", applied.err);
    assert_eq!(line(&cli.read(".env.local"), "CONVEX_SELF_HOSTED_URL"), "https://api.gremlin.dev");
    // Nothing is left to do here; what is left is elsewhere.
    cli.run_ok("plan --detailed-exitcode");
    let status = cli.run_ok("status");
    assert!(status.out.contains("waiting for its host") && status.out.contains("CNAME"), "{}", status.out);
    let provisioned = document(&cli.run_ok("provision dev --json"));
    assert_eq!((&provisioned["state"], &provisioned["url"]), (&json!("waiting_for_host"), &json!("https://api.gremlin.dev")));
    let records = provisioned["dns"].as_array().unwrap();
    assert!(records.iter().any(|record| record.as_str().unwrap().contains("api.gremlin.dev. CNAME ")), "{provisioned}");
    // A command that waits says for what, and ends with what to do.
    let wait = cli.run("wait --timeout 3s");
    assert_eq!((wait.exit, wait.err.matches(" api.gremlin.dev. CNAME ").count()), (124, 2), "{}", wait.err);
    let wait = cli.run("wait --timeout 3s --json");
    let said: Vec<Value> = wait.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((wait.exit, &said[0]["notes"]), (124, &provisioned["dns"]), "{}", wait.out);
    let help = said.last().unwrap()["errors"][0]["help"].as_str().unwrap();
    assert!(help.contains("api.gremlin.dev. CNAME "), "{help}");
    let target = status.out.split("api.gremlin.dev. CNAME ").nth(1).unwrap().split_whitespace().next().unwrap();
    fly.world().dns.insert("api.gremlin.dev".to_owned(), vec![target.trim_end_matches('.').to_owned()]);
    cli.run_ok("wait --timeout 2m");
    assert_eq!(ask(&fly, "https://api.gremlin.dev/instance_name", None), (200, "gremlin-dev".to_owned()));
}
