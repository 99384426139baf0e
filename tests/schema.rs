//! The schemas are fresh, and what real runs print keeps to them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use convexinfra::schema::{Document, text};
use jsonschema::Validator;
use serde_json::Value;

use crate::desk::Desk;

fn path(document: Document) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(document.file())
}

/// A validator made of the file in the repository, which is what others use.
fn validator(document: Document) -> Validator {
    let schema = serde_json::from_str(&fs::read_to_string(path(document)).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{}: {error}", document.file()))
}

#[test]
fn the_files_are_fresh() {
    for document in Document::ALL {
        let fresh = text(document);
        if std::env::var_os("CONVEXINFRA_UPDATE").is_some() {
            fs::write(path(document), &fresh).unwrap();
        }
        let there = fs::read_to_string(path(document)).unwrap_or_default();
        assert!(there == fresh, "schema/{} is stale; run `CONVEXINFRA_UPDATE=1 cargo test`", document.file());
    }
}

#[test]
fn every_schema_is_printed_by_the_command() {
    let desk = Desk::new("");
    let words = ["manifest", "plan", "events", "error", "status", "log", "token", "tokens", "quota", "control-plane"];
    for (word, document) in words.into_iter().zip(Document::ALL) {
        assert_eq!(desk.done(&format!("schema {word}")).out, text(document), "{word}");
    }
}

struct Schemas(Vec<(Document, Validator)>);

impl Schemas {
    /// Every document of a run keeps to its schema.
    fn hold(&self, document: Document, desk: &Desk, words: &str) -> Vec<Value> {
        let documents = desk.documents(words);
        let (_, validator) = self.0.iter().find(|(found, _)| *found == document).unwrap();
        for value in &documents {
            let errors: Vec<String> =
                validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "`{words}`: {errors:#?}\n{value:#}");
        }
        documents
    }
}

const MANIFEST: &str = r#"
project = "schemas"

[backends.dev]
provider = "simulated"
ttl = "7d"
client_vars = true

[backends.dev.env]
SITE_URL = "https://example.com"

[backends.record]
provider = "simulated"
depends_on = ["dev"]
simulated = { listen = false }
"#;

#[test]
fn what_real_runs_print_keeps_to_the_schemas() {
    let schemas =
        Schemas(Document::ALL.into_iter().filter(|it| *it != Document::ControlPlane).map(|it| (it, validator(it))).collect());
    let desk = Desk::new(MANIFEST);
    // A file that two backends could write has to be named.
    desk.edit("client_vars = true", "client_vars = true\nenv_file = \".env.local\"");

    schemas.hold(Document::Status, &desk, "status --json");
    let plan = schemas.hold(Document::Plan, &desk, "plan --json");
    assert_eq!(plan[0]["summary"]["create"], 2);
    let events = schemas.hold(Document::Events, &desk, "apply --yes --json");
    assert_eq!(events.last().unwrap()["converged"], true, "{events:#?}");
    schemas.hold(Document::Events, &desk, "apply --yes --json");
    let status = schemas.hold(Document::Status, &desk, "status --json");
    assert_eq!(status[0]["backends"].as_array().unwrap().len(), 2);
    schemas.hold(Document::Events, &desk, "wait dev --json");
    let log = schemas.hold(Document::Log, &desk, "log --json");
    assert!(log[0]["entries"].as_array().unwrap().iter().any(|entry| entry["actor"]["name"].is_string()), "{log:#?}");
    schemas.hold(Document::Log, &desk, "log --everywhere --json");
    schemas.hold(Document::Quota, &desk, "quota set --memory 8GiB --monthly-usd 12.5 --json");
    schemas.hold(Document::Quota, &desk, "quota show --json");
    schemas.hold(Document::Quota, &desk, "quota show --default --json");
    schemas.hold(Document::Token, &desk, "token create --scope read --ttl 30d --note CI --json");
    schemas.hold(Document::Tokens, &desk, "token list --json");
    schemas.hold(Document::Status, &desk, "status --json");

    // Changes, lints, refusals and drift.
    desk.edit("ttl = \"7d\"", "ttl = \"8d\"\nstorage = { engine = \"postgres\", managed = true }");
    let refused = schemas.hold(Document::Plan, &desk, "plan --json");
    assert_eq!(refused[0]["refusals"][0]["code"], "plan.moves_data");
    schemas.hold(Document::Error, &desk, "apply --yes --json");
    desk.edit("storage = { engine = \"postgres\", managed = true }", "");
    desk.write(".env.local", "A=b\n");
    schemas.hold(Document::Plan, &desk, "plan --json");
    schemas.hold(Document::Events, &desk, "apply --yes --json");
    assert!(desk.read(".env.local").starts_with("A=b\n"));

    // Errors of every kind.
    schemas.hold(Document::Error, &desk, "destroy --json");
    schemas.hold(Document::Error, &desk, "plan --json --manifest nowhere.toml");
    schemas.hold(Document::Error, &desk, "plan --json --jsn");
    schemas.hold(Document::Error, &desk, "env nobody --json");
    schemas.hold(Document::Events, &desk, "destroy --json --allow-destroy dev,record");
    desk.write("convex.toml", "project = \"schemas\"\n[backends.dev]\nprovder = \"simulated\"\n");
    let errors = schemas.hold(Document::Error, &desk, "validate --json");
    assert!(errors[0]["errors"].as_array().unwrap().iter().any(|error| !error["edit"].is_null()), "{errors:#?}");
}

#[test]
fn every_other_document_starts_with_its_format_too() {
    let desk = Desk::new("project = \"formats\"\n[backends.dev]\nprovider = \"simulated\"\n");
    for words in [
        "validate --json",
        "provision dev --json",
        "provision dev --json --show-key",
        "provision other --provider simulated --json",
        "drift --json",
        "log --json",
        "deprovision other --allow-destroy other --json",
        "env dev --write .env.other --json",
        "skill install --json",
        "init --manifest other.toml --json",
    ] {
        desk.documents(words);
    }
}
