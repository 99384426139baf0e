//! What single commands promise to programs and people: one outcome, one document, nothing half done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use fixture::{ProjectFixture, RunningCommand, script, wait_until};

pub(super) const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]   # the first\nprovider = \"simulated\"\n";

#[test]
fn nothing_is_destroyed_where_the_manifest_cannot_be_written() {
    let world = ProjectFixture::new(&format!("{ONE}\n[backends.other]\nprovider = \"simulated\"\n"));
    world.apply();
    let words = ["deprovision", "dev", "--allow-destroy", "dev", "--json"];
    fs::set_permissions(&world.folder, fs::Permissions::from_mode(0o555)).unwrap();
    let run = RunningCommand::new(without_privileges(world.command(&words)), &words).end();
    fs::set_permissions(&world.folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!((run.code(), run.errors()), (65, vec!["manifest.not_edited".to_owned()]), "{run}");
    world.assert_converged();
}

/// The same command where modes count: root may write in any folder, unless that right is taken from it.
fn without_privileges(command: Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        return command;
    }
    let mut bound = Command::new("setpriv");
    bound.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(command.get_program()).args(command.get_args()).env_clear();
    bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// A command that is told twice to stop while its one backend starts and does not get ready.
fn interrupted_twice(words: &[&str]) -> fixture::CommandResult {
    let world = ProjectFixture::new("");
    let slow = script(&world.folder, "slow", "sleep 60");
    world.manifest(&format!(
        "project = \"gremlin\"\n[backends.dev]\nprovider = \"local\"\nlocal = {{ binary = \"{}\" }}\n",
        slow.display()
    ));
    // Standard error says when it has heard, so documents go elsewhere.
    let documents = world.root().join("documents");
    let words: Vec<&str> = words.iter().copied().chain(["--json-into", documents.to_str().unwrap()]).collect();
    let run = world.spawn(&words);
    wait_until("the backend is begun", || world.home.join("backends").exists());
    run.interrupt();
    run.until_said("interrupted: finishing the running steps");
    run.interrupt();
    let run = run.end();
    assert_eq!(run.code(), 130, "{run}");
    fixture::CommandResult { out: fs::read_to_string(documents).unwrap(), ..run }
}

#[test]
fn interrupted_twice_accounts_for_every_step() {
    let run = interrupted_twice(&["apply", "--yes"]);
    let events = run.events();
    let end = |id: &str| events.iter().find(|event| event["type"] == "step_finished" && event["id"] == id).unwrap();
    assert_eq!(end("create:backend.dev")["status"], "interrupted", "{run}");
    assert_eq!(end("write:env_file.dev")["status"], "not_started", "{run}");
    let last = events.last().unwrap();
    assert_eq!((&last["interrupted"], &last["not_started"]), (&1.into(), &1.into()), "{run}");
    let run = interrupted_twice(&["provision", "dev"]);
    assert_eq!(run.errors(), ["apply.interrupted"], "{run}");
}

#[test]
fn waiting_is_never_longer_than_was_said() {
    let world = ProjectFixture::new(ONE);
    let run = world.run_expecting(124, &["wait", "--timeout", "1s", "--json"]);
    assert_eq!(run.errors(), ["wait.timed_out"]);
    assert_eq!(run.events()[0]["state"], "not applied yet");
    assert_eq!(world.run_expecting(1, &["wait", "nobody", "--json"]).errors(), ["control.no_such_backend"]);
    let waiting = world.spawn(&["wait", "--timeout", "5m", "--json"]);
    world.apply();
    let run = waiting.end();
    assert_eq!(run.code(), 0, "{run}");
    assert_eq!(run.events().last().unwrap()["backends"][0]["url"], world.url("dev"));
    // It is there and answers nobody.
    let pid = world.pid("gremlin-dev").unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let took = || world.run_expecting(124, &["wait", "--timeout", "1s", "--json"]).took;
    // A look at it takes three seconds. A busy machine may take as long to start the command, but not every time.
    let is_bounded = (0..20).any(|_| took().as_millis() < 2500);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(is_bounded, "it waits for as long as a look takes");
}

#[test]
fn a_project_is_destroyed_by_its_name_alone() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    fs::remove_file(world.folder.join("convex.toml")).unwrap();
    assert_eq!(world.run_expecting(65, &["destroy", "--allow-destroy", "dev", "--json"]).errors(), ["manifest.not_found"]);
    assert_eq!(world.run_expecting(65, &["apply", "--project", "gremlin", "--json"]).errors(), ["manifest.not_found"]);
    world.run_expecting(0, &["destroy", "--project", "gremlin", "--allow-destroy", "dev"]);
    assert_eq!(world.processes(), Vec::new());
}

#[test]
fn a_variable_that_says_nothing_is_no_word() {
    let mut world = ProjectFixture::new(ONE);
    let names =
        ["MANIFEST", "PROJECT", "HOME", "JSON_INTO", "COLOR", "OUT", "FORMAT", "TIMEOUT", "PARALLELISM", "TAIL", "PLAN"];
    for name in names.into_iter().filter(|name| *name != "HOME") {
        world.set(&format!("CONVEXINFRA_{name}"), "");
    }
    world.set("CONVEXINFRA_JSON", "n");
    world.run_expecting(0, &["plan"]);
    world.run_expecting(0, &["plan", "--markdown"]);
    world.apply();
    world.run_expecting(0, &["wait"]);
    world.set("CONVEXINFRA_JSON", "1");
    // What is typed wins.
    assert!(world.run_expecting(0, &["plan", "--markdown"]).out.starts_with("###"));
    assert_eq!(world.run_expecting(64, &["plan", "--markdown", "--json"]).errors(), ["usage"]);
    world.set("CONVEXINFRA_JSON", "No");
    assert_eq!(world.run_expecting(64, &["aply"]).out, "");
    world.set("CONVEXINFRA_FORMAT", "shell");
    world.run_expecting(0, &["env", "dev", "--write", "other.env"]);
    world.run_expecting(64, &["env", "dev", "--write", "other.env", "--format", "shell"]);
    world.set("CONVEXINFRA_INSTANCE_SECRET", &"0".repeat(64));
    world.set("CONVEXINFRA_READ_ONLY", "0");
    world.run_expecting(0, &["key", "issue", "--instance-name", "x", "--system"]);
    // Help names a variable even where it is set to nothing.
    assert!(world.run_expecting(0, &["logs", "--help"]).out.contains("CONVEXINFRA_TAIL"));
    world.set("CONVEXINFRA_FORMAT", "nonsense");
    world.run_expecting(64, &["env", "dev"]);
}

#[test]
fn every_command_has_one_document() {
    let world = ProjectFixture::new(ONE);
    let run = world.run_expecting(1, &["plan", "--json", "--out", "/nonexistent/x"]);
    assert_eq!(run.errors(), ["plan.not_saved"], "{run}");
    let events = world.run_expecting(0, &["apply", "--yes", "--json"]).events();
    assert!(events[0]["lints"].is_array(), "{events:#?}");
    assert_eq!(events.last().unwrap()["backends"][0]["url"], world.url("dev"));
    for (words, format) in [
        (&["env", "--json"][..], "convexinfra.env/1"),
        (&["graph", "--json"], "convexinfra.graph/1"),
        (&["skill", "show", "--json"], "convexinfra.skill/1"),
    ] {
        assert_eq!(world.run_expecting(0, words).document()["format"], format);
    }
    let env = world.run_expecting(0, &["env", "--json", "--show-key"]).document();
    let (url, key) = world.assert_reachable(".env.local", "gremlin-dev");
    assert_eq!(
        (env["CONVEX_SELF_HOSTED_URL"].as_str(), env["CONVEX_SELF_HOSTED_ADMIN_KEY"].as_str()),
        (Some(&*url), Some(&*key))
    );
    let logs = world.run_expecting(0, &["logs", "--json"]);
    assert!(!logs.out.is_empty(), "{logs}");
    for line in logs.out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["format"] == "convexinfra.log_line/1" && line["line"].is_string(), "{logs}");
    }
    let log = world.run_expecting(0, &["log", "--json"]).document();
    assert!(log["entries"][0]["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{log:#}");
    let run = world.run_expecting(64, &["--project", "gremlin", "simulate-backend", "--json"]);
    assert_eq!(run.errors(), ["usage.simulate_backend"], "{run}");
}

#[test]
fn a_key_is_shown_only_where_it_was_asked_for() {
    let mut world = ProjectFixture::new(ONE);
    world.apply();
    let (url, key) = world.coordinates(".env.local");
    for words in [
        &["env", "--json"][..],
        &["env", "--format", "json"],
        &["env", "--format", "url"],
        &["env", "--format", "url", "--json"],
        &["status", "--json"],
        &["provision", "dev", "--json"],
    ] {
        let run = world.run_expecting(0, words);
        assert!(run.out.contains(&url) && !run.out.contains(&key) && !run.err.contains(&key), "{run}");
    }
    assert_eq!(world.run_expecting(0, &["env", "--format", "url"]).out, format!("{url}\n"));
    // No variable takes the guards away.
    world.set("CONVEXINFRA_SHOW_KEY", "1");
    world.set("CONVEXINFRA_ALLOW_DESTROY", "dev");
    assert!(!world.run_expecting(0, &["provision", "dev", "--json"]).out.contains(&key));
    world.run_expecting(4, &["destroy", "dev", "--yes"]);
    // A runner hides the value in its log only once it was told to.
    world.set("GITHUB_ACTIONS", "true");
    for words in [
        &["env", "--format", "github"][..],
        &["env"],
        &["env", "--format", "shell"],
        &["env", "--format", "json", "--show-key"],
        &["env", "--json", "--show-key"],
        &["provision", "dev", "--json", "--show-key"],
    ] {
        let run = world.run_expecting(0, words);
        assert!(run.out.contains(&key) && run.err == format!("::add-mask::{key}\n"), "{run}");
    }
    for words in [&["env", "--format", "url"][..], &["env", "--json"], &["status"], &["provision", "dev", "--json"]] {
        assert!(!world.run_expecting(0, words).err.contains(&key), "what is not shown needs no mask");
    }
    world.unset("GITHUB_ACTIONS");
    assert_eq!(world.run_expecting(0, &["env", "--format", "github"]).err, "");
}

#[test]
fn applies_that_wait_for_each_other_all_end_well() {
    let world = ProjectFixture::new(ONE);
    let words = ["apply", "--yes", "--wait-for-lock", "60s"];
    let running: Vec<_> = (0..4).map(|_| world.spawn(&words)).collect();
    for run in running {
        let run = run.end();
        assert_eq!(run.code(), 0, "{run}");
    }
    world.assert_converged();
}

#[test]
fn logs_have_no_terminal_sequences_where_nothing_shows_them() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    for words in [&["logs", "dev"][..], &["logs", "dev", "--json"], &["logs", "dev", "--all"]] {
        let run = world.run_expecting(0, words);
        assert!(!run.out.is_empty() && !run.out.contains('\u{1b}') && !run.out.contains("\\u001b"), "{run}");
    }
}

#[test]
fn mistakes_that_have_an_edit_are_corrected() {
    let world = ProjectFixture::new("project = \"gremlin\"\n\n[backends.dev]   # the first\nprovder = \"simulatd\"\n");
    world.run_expecting(65, &["validate"]);
    world.run_expecting(0, &["validate", "--fix"]);
    assert_eq!(world.read("convex.toml"), ONE);
    world.run_expecting(0, &["validate"]);
}

#[test]
fn a_manifest_and_a_plan_are_read_within_limits() {
    let world = ProjectFixture::new(ONE);
    world.write("large.toml", &format!("# {}\n", "x".repeat(5 << 20)));
    assert_eq!(world.run_expecting(65, &["plan", "--json", "--manifest", "large.toml"]).errors(), ["manifest.too_large"]);
    for endless in ["/dev/zero", "/dev/stdin"] {
        world.run_expecting(65, &["plan", "--manifest", endless]);
        world.run_expecting(4, &["apply", "--yes", "--plan", endless]);
    }
    let made = std::process::Command::new("mkfifo").arg(world.folder.join("pipe")).status().unwrap();
    assert!(made.success());
    world.run_expecting(65, &["plan", "--manifest", "pipe"]);
    world.run_expecting(4, &["apply", "--yes", "--plan", "pipe"]);
    std::os::unix::fs::symlink("/dev/zero", world.folder.join("package.json")).unwrap();
    world.run_expecting(0, &["plan"]);
}

#[test]
fn a_backend_that_is_stopped_stays_stopped_and_is_not_forgotten_unasked() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    let coordinates = world.coordinates(".env.local");
    world.run_expecting(0, &["stop", "dev"]);
    assert!(world.pid("gremlin-dev").is_none());
    assert_eq!(world.status()["backends"][0]["state"], "stopped");
    let status = world.run_expecting(0, &["status"]);
    assert!(status.out.contains("convexinfra start dev") && !status.out.contains("convexinfra apply"), "{status}");
    world.run_expecting(0, &["start", "dev"]);
    world.run_expecting(0, &["wait", "dev"]);
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), coordinates);
    world.assert_converged();
    // It is not forgotten unasked.
    assert_eq!(world.run_expecting(64, &["forget", "dev", "--json"]).errors(), ["usage.not_confirmed"]);
    world.assert_converged();
}

#[test]
fn without_a_command_there_is_help() {
    let world = ProjectFixture::new(ONE);
    let run = world.run_expecting(0, &[]);
    assert!(run.out.contains("Usage: convexinfra") && run.err.is_empty(), "{run}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_write_to_standard_output_is_an_error() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    for words in [&["env"][..], &["status", "--json"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = world.command(words).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("standard output could not be written"), "{output:?}");
    }
    // A reader that has gone away is nobody to tell.
    let mut gone = world.command(&["schema"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(gone.stdout.take());
    assert_eq!(gone.wait().unwrap().code(), Some(0));
}

#[test]
fn following_a_log_ends_with_its_reader() {
    let world = ProjectFixture::new("project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n");
    world.apply();
    let mut following = world.command(&["logs", "--follow"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    std::io::Read::read_exact(following.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(following.stdout.take());
    // Only a write shows that the pipe has no reader.
    world.kill("gremlin-dev");
    world.apply();
    let mut status = None;
    fixture::wait_until("the command ends by itself", || {
        status = following.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

/// On a terminal, which `script` makes.
#[test]
fn a_destruction_is_shown_before_its_name_is_asked_for() {
    let world = ProjectFixture::new(ONE);
    world.apply();
    let destroy = |answer: &str| {
        let line = format!("{} destroy dev", fixture::executable());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env_clear().envs(&world.variables).current_dir(&world.folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (answer, code) in [("no\n", 4), ("dev\n", 0)] {
        let (ended, text) = destroy(answer);
        assert_eq!(ended, Some(code), "{text}");
        let (shown, asked) = (text.find("asked for by `destroy`"), text.find("type its name to confirm"));
        assert!(shown.is_some() && shown < asked, "{text}");
        assert_eq!(text.matches("asked for by `destroy`").count(), 1, "{text}");
    }
    assert!(world.names().is_empty());
}
