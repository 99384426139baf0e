//! The schemas are fresh, and what real runs print keeps to them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use convexinfra::schema::{SchemaDocument, schema_text};
use jsonschema::Validator;
use serde_json::Value;

use fixture::CliFixture;

fn path(document: SchemaDocument) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(document.file())
}

/// A validator made of the file in the repository, which is what others use.
fn validator(document: SchemaDocument) -> Validator {
    let schema = serde_json::from_str(&fs::read_to_string(path(document)).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{}: {error}", document.file()))
}

#[test]
fn the_files_are_fresh() {
    for document in SchemaDocument::ALL {
        let fresh = schema_text(document);
        if std::env::var_os("CONVEXINFRA_UPDATE").is_some() {
            fs::write(path(document), &fresh).unwrap();
        }
        let there = fs::read_to_string(path(document)).unwrap_or_default();
        assert!(there == fresh, "schema/{} is stale; run `CONVEXINFRA_UPDATE=1 cargo test`", document.file());
    }
}

#[test]
fn every_schema_is_printed_by_the_command() {
    let cli = CliFixture::new("");
    for document in SchemaDocument::ALL {
        let word = document.file().split('.').next().unwrap();
        let word = if word == "convex" { "manifest" } else { word };
        assert_eq!(cli.run_ok(&format!("schema {word}")).out, schema_text(document), "{word}");
    }
}

struct Schemas(Vec<(SchemaDocument, Validator)>);

impl Schemas {
    /// Every document of a run keeps to its schema.
    fn hold(&self, document: SchemaDocument, cli: &CliFixture, words: &str) -> Vec<Value> {
        let documents = cli.documents(words);
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
fn documents_of_real_runs_match_their_schemas() {
    let schemas = Schemas(
        SchemaDocument::ALL
            .into_iter()
            .filter(|it| *it != SchemaDocument::ControlPlane)
            .map(|it| (it, validator(it)))
            .collect(),
    );
    let cli = CliFixture::new(MANIFEST);
    // A file that two backends could write has to be named.
    cli.edit("client_vars = true", "client_vars = true\nenv_file = \".env.local\"");

    schemas.hold(SchemaDocument::Status, &cli, "status --json");
    let plan = schemas.hold(SchemaDocument::Plan, &cli, "plan --json");
    assert_eq!(plan[0]["summary"]["create"], 2);
    let events = schemas.hold(SchemaDocument::Events, &cli, "apply --yes --json");
    assert_eq!(events.last().unwrap()["converged"], true, "{events:#?}");
    schemas.hold(SchemaDocument::Events, &cli, "apply --yes --json");
    let status = schemas.hold(SchemaDocument::Status, &cli, "status --json");
    assert_eq!(status[0]["backends"].as_array().unwrap().len(), 2);
    schemas.hold(SchemaDocument::Events, &cli, "wait dev --json");
    let log = schemas.hold(SchemaDocument::Log, &cli, "log --json");
    assert!(log[0]["entries"].as_array().unwrap().iter().any(|entry| entry["actor"]["name"].is_string()), "{log:#?}");
    schemas.hold(SchemaDocument::Log, &cli, "log --everywhere --json");
    schemas.hold(SchemaDocument::Quota, &cli, "quota set --memory 8GiB --monthly-usd 12.5 --json");
    schemas.hold(SchemaDocument::Quota, &cli, "quota show --json");
    schemas.hold(SchemaDocument::Quota, &cli, "quota show --default --json");
    // A home that is served to nobody makes no tokens.
    cli.run_ok("serve --init");
    schemas.hold(SchemaDocument::Token, &cli, "token create --scope read --ttl 30d --note CI --json");
    schemas.hold(SchemaDocument::Tokens, &cli, "token list --json");
    schemas.hold(SchemaDocument::Status, &cli, "status --json");

    // Changes, lints, refusals and drift.
    cli.edit("ttl = \"7d\"", "ttl = \"8d\"\nstorage = { engine = \"postgres\", managed = true }");
    let refused = schemas.hold(SchemaDocument::Plan, &cli, "plan --json");
    assert_eq!(refused[0]["refusals"][0]["code"], "plan.moves_data");
    schemas.hold(SchemaDocument::Error, &cli, "apply --yes --json");
    cli.edit("storage = { engine = \"postgres\", managed = true }", "");
    cli.write(".env.local", "A=b\n");
    schemas.hold(SchemaDocument::Plan, &cli, "plan --json");
    schemas.hold(SchemaDocument::Events, &cli, "apply --yes --json");
    assert!(cli.read(".env.local").starts_with("A=b\n"));

    // Errors of every kind.
    schemas.hold(SchemaDocument::Error, &cli, "destroy --json");
    schemas.hold(SchemaDocument::Error, &cli, "plan --json --manifest nowhere.toml");
    schemas.hold(SchemaDocument::Error, &cli, "plan --json --jsn");
    schemas.hold(SchemaDocument::Error, &cli, "env nobody --json");
    schemas.hold(SchemaDocument::Events, &cli, "destroy --json --allow-destroy dev,record");
    cli.write("convex.toml", "project = \"schemas\"\n[backends.dev]\nprovder = \"simulated\"\n");
    let errors = schemas.hold(SchemaDocument::Error, &cli, "validate --json");
    assert!(errors[0]["errors"].as_array().unwrap().iter().any(|error| !error["edit"].is_null()), "{errors:#?}");
}

#[test]
fn every_other_document_starts_with_its_format_too() {
    let cli = CliFixture::new("project = \"formats\"\n[backends.dev]\nprovider = \"simulated\"\n");
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
        cli.documents(words);
    }
}
