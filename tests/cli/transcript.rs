//! The command line as people and programs see it: whole transcripts, kept beside this file and reviewed by eye.
//!
//! After a change of words: `INSTA_UPDATE=always cargo test transcript`, then read the difference aloud.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use fixture::{CliFixture, CommandOutput, kill_backends};

/// A session as it stands on a screen: what was typed, what came, and how it ended.
struct Transcript {
    cli: CliFixture,
    text: String,
}

impl Transcript {
    fn new(manifest: &str) -> Self {
        Self { cli: CliFixture::new(manifest), text: String::new() }
    }

    /// Runs a command; standard output first, then what was said on standard error.
    fn run(&mut self, words: &str) {
        let ran = self.cli.run(words);
        self.add(words, &ran);
    }

    /// Runs a command that shows the values of variables, without the home: lines would break by the length of its path.
    fn run_without_home(&mut self, words: &str) {
        let ran = CliFixture::ran(words, &self.cli.command(words).env_remove("CONVEXINFRA_HOME").output().unwrap());
        self.add(words, &ran);
    }

    fn add(&mut self, words: &str, ran: &CommandOutput) {
        self.text.push_str(&format!("$ convexinfra {words}\n{}", ran.out));
        if !ran.err.is_empty() {
            self.text.push_str(&format!("--- stderr\n{}", ran.err));
        }
        self.text.push_str(&format!("--- exit {}\n\n", ran.exit));
    }

    /// Runs a command and draws its JSON out, so that a difference can be read.
    fn run_json(&mut self, words: &str) {
        let ran = self.cli.run(words);
        self.text.push_str(&format!("$ convexinfra {words}\n"));
        for line in ran.out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            self.text.push_str(&format!("{value:#}\n"));
        }
        self.text.push_str(&format!("{}--- exit {}\n\n", ran.err, ran.exit));
    }

    /// Compares the session with its snapshot, without what differs on every machine and in every run.
    fn assert_unchanged(self, name: &str) {
        let path = |path: &Path| regex::escape(&path.display().to_string());
        let host = format!(r"\b{}\b", regex::escape(&rustix::system::uname().nodename().to_string_lossy()));
        let mut filters = vec![
            (path(&self.cli.folder()), "[FOLDER]"),
            (path(&self.cli.home()), "[HOME]"),
            (r"127\.0\.0\.1:\d{4,}".to_owned(), "127.0.0.1:[PORT]"),
            (r"\bdev-\d{8}t\d{6}-[0-9a-f]{6}`, of \d+ KiB".to_owned(), "[SNAPSHOT]`, of [SIZE]"),
            (r"hmac:[[:xdigit:]]{16,}".to_owned(), "hmac:[FINGERPRINT]"),
            (r"sha256:[[:xdigit:]]{64,}".to_owned(), "sha256:[DIGEST]"),
            (r"\|[[:xdigit:]]{40,}".to_owned(), "|[KEY]"),
            (r"plan [[:xdigit:]]{12,}".to_owned(), "plan [PLAN]"),
            (r"operation \d+".to_owned(), "operation [NUMBER]"),
            (r"cvxi_\w{80,}".to_owned(), "cvxi_[TOKEN]"),
            (host, "[HOST]"),
            (r#""milliseconds": \d+"#.to_owned(), r#""milliseconds": [TIME]"#),
            (r"(?m)^(  ✓.*) \(.*$".to_owned(), "$1 ([TIME])"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z".to_owned(), "[WHEN]"),
            (r"database of [\d.]+ [KMG]iB".to_owned(), "database of [SIZE]"),
            (r"(?m) +$".to_owned(), ""),
        ];
        // The public part of a token, wherever it stands.
        filters.extend(self.text.split("cvxi_").skip(1).filter_map(|token| Some((token.get(..10)?.to_owned(), "[ID]"))));
        let mut settings = insta::Settings::clone_current();
        filters.iter().for_each(|(pattern, instead)| settings.add_filter(pattern, *instead));
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

const SHOP: &str = r#"project = "shop"

[backends.dev]
provider = "simulated"
env_file = ".env.local"

[backends.dev.env]
GREETING = "hello"

[backends.test]
provider = "simulated"
depends_on = ["dev"]
simulated = { listen = false }
"#;

#[test]
fn help() {
    let mut session = Transcript::new(SHOP);
    session.run_without_home("--help");
    session.run_without_home("plan -h");
    session.run_without_home("apply -h");
    session.assert_unchanged("help");
}

#[test]
fn from_nothing_to_nothing() {
    let mut session = Transcript::new(SHOP);
    session.run("validate");
    session.run("plan");
    session.run("apply");
    session.run("apply --yes");
    session.run("apply --yes");
    session.run("plan --detailed-exitcode");
    session.run("status");
    session.run("drift");
    session.run("env dev");
    session.run("env dev --format shell");
    session.run("wait dev");
    session.run("log");
    session.run("dashboard dev");
    session.run("destroy");
    session.run("destroy --allow-destroy dev --allow-destroy test");
    session.run("destroy");
    session.assert_unchanged("from_nothing_to_nothing");
}

#[test]
fn changes() {
    let mut session = Transcript::new(SHOP);
    session.cli.run_ok("apply --yes");
    session.cli.edit("\"hello\"", "\"good morning\"");
    session
        .cli
        .edit("env_file = \".env.local\"", "env_file = \".env.local\"\nttl = \"7d\"\ntuning = { max_concurrent_queries = 32 }");
    session.run("plan --detailed-exitcode");
    session.run("plan --markdown");
    session.run("plan --out saved.json");
    session.run("apply --plan saved.json");
    session.run("apply --plan saved.json");
    session.cli.edit("[backends.test]\nprovider = \"simulated\"", "[backends.trial]\nprovider = \"simulated\"");
    session.run("plan");
    session.cli.edit("[backends.trial]", "[[moved]]\nfrom = \"test\"\nto = \"trial\"\n\n[backends.trial]");
    session.run("plan");
    session.run("apply --yes");
    session.assert_unchanged("changes");
}

#[test]
fn refusals() {
    let mut session = Transcript::new(SHOP);
    session.cli.edit(
        "listen = false }",
        "listen = false }\nprotected = true\nresources = { disk = \"2 GiB\" }\nrelease = \"precompiled-2026-08-22-652b828\"",
    );
    session.cli.run_ok("apply --yes");
    session.cli.edit("disk = \"2 GiB\"", "disk = \"1 GiB\", memory = \"8 GiB\"");
    session.cli.edit("precompiled-2026-08-22-652b828", "precompiled-2026-08-01-0123456");
    session.cli.edit(
        "env_file = \".env.local\"",
        "env_file = \".env.local\"\nregion = \"iad\"\nstorage = { engine = \"postgres\", managed = true }",
    );
    session.cli.edit("project = \"shop\"", "project = \"shop\"\nbudget = { memory = \"4 GiB\" }");
    session.run("plan");
    session.run("apply --yes");
    // Taken out of the manifest without a word.
    session.cli.write("convex.toml", "project = \"shop\"\n");
    session.run("apply --yes");
    session.run("destroy test --allow-destroy test");
    session.cli.write(
        "convex.toml",
        "project = \"shop\"\n[backends.test]\nprovider = \"simulated\"\n[backends.dev]\nprovider = \"fly\"\n",
    );
    session.run("plan --project other");
    session.cli.write("convex.toml", &format!("{SHOP}protected = false\n"));
    session.cli.edit(
        "[backends.test]",
        "[backends.test]\nresources = { disk = \"2 GiB\" }\nrelease = \"precompiled-2026-08-22-652b828\"",
    );
    session.cli.run_ok("apply --yes");
    session.assert_unchanged("refusals");
}

#[test]
fn drift() {
    let mut session = Transcript::new(SHOP);
    session.cli.run_ok("apply --yes");
    kill_backends(&session.cli.home());
    session.run("drift");
    session.run("status");
    session.run("plan --detailed-exitcode");
    session.run("plan --markdown");
    session.run("apply --yes");
    session.cli.write(".env.local", "CONVEX_SELF_HOSTED_URL=http://example.com\nOWN=1\n");
    session.run("plan");
    session.run("apply --yes");
    session.run("drift");
    session.assert_unchanged("drift");
}

#[test]
fn graphs() {
    let mut session = Transcript::new(SHOP);
    session.run("graph");
    session.run("graph --format mermaid");
    session.assert_unchanged("graphs");
}

#[test]
fn mistakes_in_the_manifest() {
    let mut session = Transcript::new(
        r#"project = "Shop"

[backends.dev]
provder = "simulated"
depends_on = ["test"]
storage = { engine = "postgress", url = "postgres://me:hunter2@db.example.com" }

[backends.test]
provider = "docker"
depends_on = ["dev"]
resources = { memory = "2 gigs" }
"#,
    );
    session.run("validate");
    session.run_json("validate --json");
    session.cli.write("convex.toml", "project = \"shop\"\n[backends.dev\nprovider: docker\n");
    session.run("plan");
    session.run("plan --manifest elsewhere.toml");
    assert!(!session.text.contains("hunter2"), "a password was shown:\n{}", session.text);
    session.assert_unchanged("mistakes_in_the_manifest");
}

#[test]
fn wrong_usage() {
    let mut session = Transcript::new(SHOP);
    session.run("frobnicate");
    session.run("plan --jsn");
    session.run("wait dev --timeout soon");
    session.run("apply --allow-destroy Dev");
    session.run_json("plan --jsn --json");
    session.run("env nobody");
    session.run("destroy nobody");
    session.run("import dev --container abc");
    session.run("init");
    session.assert_unchanged("wrong_usage");
}

#[test]
fn documents() {
    let mut session = Transcript::new("project = \"shop\"\n[backends.dev]\nprovider = \"simulated\"\n");
    session.run_json("plan --json");
    session.run_json("apply --yes --json");
    session.run_json("apply --yes --json");
    session.run_json("drift --json");
    session.run_json("destroy --json");
    session.run_json("deprovision dev --allow-destroy dev --json");
    session.assert_unchanged("documents");
}

#[test]
fn tokens_and_quotas() {
    let mut session = Transcript::new(SHOP);
    session.run("quota show");
    session.run("quota set --backends 1 --memory 4GiB");
    session.run("plan");
    session.run("quota set --backends many");
    session.run("quota set");
    session.run("quota set --backends none");
    session.run("quota show --default");
    session.run("status");
    session.run("token list");
    session.run("token create --scope read --note CI");
    session.run("serve --init");
    session.run("token create --scope write");
    session.run("token create --scope read --note CI");
    session.run("token create --scope operator --project shop");
    session.run("token list");
    session.run("token revoke 0000000000");
    session.run("token revoke not-an-id");
    session.run("log");
    session.run("log --everywhere");
    session.assert_unchanged("tokens_and_quotas");
}

#[test]
fn a_control_plane_elsewhere() {
    let mut session = Transcript::new(SHOP);
    session.run("plan --control-plane control.example.com");
    session.run("plan --control-plane https://me:hunter2@control.example.com");
    session.run("plan --control-plane http://control.example.com");
    session.run("plan --control-plane https://control.example.com --control-plane-ca nowhere.pem");
    session.run("plan --control-plane https://control.example.com");
    session.run_json("status --json --control-plane https://control.example.com");
    assert_eq!(session.text.matches("hunter2").count(), 1, "what was typed is not repeated:\n{}", session.text);
    session.assert_unchanged("a_control_plane_elsewhere");
}
