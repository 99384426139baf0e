//! The command line as people and programs see it: whole transcripts, kept beside this file and reviewed by eye.
//!
//! After a change of words: `INSTA_UPDATE=always cargo test transcript`, then read the difference aloud.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use fixture::{CliFixture, kill_backends};

/// A session at a desk, as it would stand on a screen: what was typed, what came, and how it ended.
struct Transcript {
    desk: CliFixture,
    text: String,
}

impl Transcript {
    fn new(manifest: &str) -> Self {
        Self { desk: CliFixture::new(manifest), text: String::new() }
    }

    /// Runs a command; standard output first, then what was said on standard error.
    fn run(&mut self, words: &str) {
        let ran = self.desk.run(words);
        self.text.push_str(&format!("$ convexinfra {words}\n{}", ran.out));
        if !ran.err.is_empty() {
            self.text.push_str(&format!("--- stderr\n{}", ran.err));
        }
        self.text.push_str(&format!("--- exit {}\n\n", ran.exit));
    }

    /// The same, with JSON drawn out so that a difference can be read.
    fn run_json(&mut self, words: &str) {
        let ran = self.desk.run(words);
        self.text.push_str(&format!("$ convexinfra {words}\n"));
        for line in ran.out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            self.text.push_str(&format!("{value:#}\n"));
        }
        self.text.push_str(&format!("{}--- exit {}\n\n", ran.err, ran.exit));
    }

    /// Everything so far, without what is different on every machine and in every run.
    fn end(self) -> String {
        redact(&self.text, &self.desk.folder(), &self.desk.home())
    }
}

fn redact(text: &str, folder: &Path, home: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "[FOLDER]").replace(&home.display().to_string(), "[HOME]");
    let text = cut(&text, "127.0.0.1:", |c| c.is_ascii_digit(), 4, "[PORT]");
    let text = cut(&text, "hmac:", |c| c.is_ascii_hexdigit(), 16, "[FINGERPRINT]");
    let text = cut(&text, "sha256:", |c| c.is_ascii_hexdigit(), 64, "[DIGEST]");
    let text = cut(&text, "|", |c| c.is_ascii_hexdigit(), 40, "[KEY]");
    let text = cut(&text, "plan ", |c| c.is_ascii_hexdigit(), 12, "[PLAN]");
    let text = cut(&text, "operation ", |c| c.is_ascii_digit(), 1, "[NUMBER]");
    let text = without_tokens(&text);
    // Afterwards: a short name may stand in a token.
    let text = text.replace(&rustix::system::uname().nodename().to_string_lossy().into_owned(), "[HOST]");
    let text = cut(&text, "\"milliseconds\": ", |c| c.is_ascii_digit(), 1, "[TIME]");
    let mut lines = String::new();
    for line in text.lines() {
        let line = match line.rsplit_once(" (") {
            Some((before, _)) if line.starts_with("  ✓") => format!("{before} ([TIME])"),
            _ => line.to_owned(),
        };
        let words = line.split(' ').map(|word| if is_time(word) { "[WHEN]" } else { word });
        lines.push_str(words.collect::<Vec<_>>().join(" ").trim_end());
        lines.push('\n');
    }
    lines
}

/// Puts `instead` in the place of what follows a marker, where there is enough of it.
fn cut(text: &str, marker: &str, belongs: impl Fn(char) -> bool, least: usize, instead: &str) -> String {
    let mut parts = text.split(marker);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(marker);
        let length = part.chars().take_while(|c| belongs(*c)).count();
        if length >= least {
            kept.push_str(instead);
            kept.push_str(&part[length..]);
        } else {
            kept.push_str(part);
        }
    }
    kept
}

/// Tokens, and the public part of them wherever it stands.
fn without_tokens(text: &str) -> String {
    let ids: Vec<String> = text.split("cvxi_").skip(1).map(|rest| rest.chars().take(10).collect()).collect();
    let text = cut(text, "cvxi_", |c| c.is_ascii_alphanumeric() || c == '_', 80, "[TOKEN]");
    ids.iter()
        .filter(|id| id.chars().all(|c| c.is_ascii_alphanumeric()))
        .fold(text, |text, id| text.replace(id.as_str(), "[ID]"))
}

/// `2026-08-21T10:11:12.345Z`
fn is_time(word: &str) -> bool {
    word.len() == 24 && word.ends_with('Z') && word.as_bytes()[10] == b'T'
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
    session.run("--help");
    session.run("plan -h");
    session.run("apply -h");
    insta::assert_snapshot!(session.end());
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
    insta::assert_snapshot!(session.end());
}

#[test]
fn changes() {
    let mut session = Transcript::new(SHOP);
    session.desk.run_ok("apply --yes");
    session.desk.edit("\"hello\"", "\"good morning\"");
    session
        .desk
        .edit("env_file = \".env.local\"", "env_file = \".env.local\"\nttl = \"7d\"\ntuning = { max_concurrent_queries = 32 }");
    session.run("plan --detailed-exitcode");
    session.run("plan --markdown");
    session.run("plan --out saved.json");
    session.run("apply --plan saved.json");
    session.run("apply --plan saved.json");
    session.desk.edit("[backends.test]\nprovider = \"simulated\"", "[backends.trial]\nprovider = \"simulated\"");
    session.run("plan");
    session.desk.edit("[backends.trial]", "[[moved]]\nfrom = \"test\"\nto = \"trial\"\n\n[backends.trial]");
    session.run("plan");
    session.run("apply --yes");
    insta::assert_snapshot!(session.end());
}

#[test]
fn refusals() {
    let mut session = Transcript::new(SHOP);
    session.desk.edit(
        "listen = false }",
        "listen = false }\nprotected = true\nresources = { disk = \"2 GiB\" }\nrelease = \"precompiled-2026-08-22-652b828\"",
    );
    session.desk.run_ok("apply --yes");
    session.desk.edit("disk = \"2 GiB\"", "disk = \"1 GiB\", memory = \"8 GiB\"");
    session.desk.edit("precompiled-2026-08-22-652b828", "precompiled-2026-08-01-0123456");
    session.desk.edit(
        "env_file = \".env.local\"",
        "env_file = \".env.local\"\nregion = \"iad\"\nstorage = { engine = \"postgres\", managed = true }",
    );
    session.desk.edit("project = \"shop\"", "project = \"shop\"\nbudget = { memory = \"4 GiB\" }");
    session.run("plan");
    session.run("apply --yes");
    // Taken out of the manifest without a word.
    session.desk.write("convex.toml", "project = \"shop\"\n");
    session.run("apply --yes");
    session.run("destroy test --allow-destroy test");
    session.desk.write(
        "convex.toml",
        "project = \"shop\"\n[backends.test]\nprovider = \"simulated\"\n[backends.dev]\nprovider = \"fly\"\n",
    );
    session.run("plan --project other");
    session.desk.write("convex.toml", &format!("{SHOP}protected = false\n"));
    session.desk.edit(
        "[backends.test]",
        "[backends.test]\nresources = { disk = \"2 GiB\" }\nrelease = \"precompiled-2026-08-22-652b828\"",
    );
    session.desk.run_ok("apply --yes");
    insta::assert_snapshot!(session.end());
}

#[test]
fn drift() {
    let mut session = Transcript::new(SHOP);
    session.desk.run_ok("apply --yes");
    kill_backends(&session.desk.home());
    session.run("drift");
    session.run("status");
    session.run("plan --detailed-exitcode");
    session.run("plan --markdown");
    session.run("apply --yes");
    session.desk.write(".env.local", "CONVEX_SELF_HOSTED_URL=http://example.com\nOWN=1\n");
    session.run("plan");
    session.run("apply --yes");
    session.run("drift");
    insta::assert_snapshot!(session.end());
}

#[test]
fn graphs() {
    let mut session = Transcript::new(SHOP);
    session.run("graph");
    session.run("graph --format mermaid");
    insta::assert_snapshot!(session.end());
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
    session.desk.write("convex.toml", "project = \"shop\"\n[backends.dev\nprovider: docker\n");
    session.run("plan");
    session.run("plan --manifest elsewhere.toml");
    assert!(!session.text.contains("hunter2"), "a password was shown:\n{}", session.text);
    insta::assert_snapshot!(session.end());
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
    insta::assert_snapshot!(session.end());
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
    insta::assert_snapshot!(session.end());
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
    insta::assert_snapshot!(session.end());
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
    insta::assert_snapshot!(session.end());
}

#[test]
fn redaction_leaves_what_is_the_same_everywhere() {
    let text = "a http://127.0.0.1:4210 hmac:0123456789abcdef 'x|0123456789012345678901234567890123456789ab' | b\n  ✓ created backend.dev (12 ms)\n";
    assert_eq!(
        redact(text, Path::new("/app"), Path::new("/home")),
        "a http://127.0.0.1:[PORT] hmac:[FINGERPRINT] 'x|[KEY]' | b\n  ✓ created backend.dev ([TIME])\n"
    );
    assert!(is_time("2026-08-21T10:11:12.345Z") && !is_time("precompiled-2026-08-21-6"));
}
