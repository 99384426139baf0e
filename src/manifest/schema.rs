//! The JSON schema of a manifest, made of the same table of keys that the reader checks against.

use serde_json::{Map, Value, json};

use super::formats::{self, TextFormat};
use super::schema_table::{
    BACKEND, DEFAULTS, ENV_FILE, Key, Kind, PINNED_RELEASE, PROVIDERS, ROOT, ROUTE_TLS, SECRET, TLS, TLS_MODES, Table,
};
use crate::model::RouteTls;

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let mut root = table(&ROOT);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "`convex.toml`: the self-hosted Convex backends that a repository needs.",
        "required": ["project"],
        // Every backend has a provider: its own, or the one of `[defaults]`.
        "anyOf": [
            { "required": ["defaults"], "properties": { "defaults": { "required": ["provider"] } } },
            { "properties": { "backends": { "additionalProperties": { "required": ["provider"] } } } },
        ],
        "$defs": {
            "secret": secret(),
            "defaults": backend(&DEFAULTS),
            "backend": backend(&BACKEND),
        },
    });
    extend(&mut root, head);
    root
}

fn extend(schema: &mut Value, more: Value) {
    if let (Value::Object(schema), Value::Object(more)) = (schema, more) {
        schema.extend(more);
    }
}

fn table(spec: &Table) -> Value {
    let properties: Map<String, Value> = spec.keys().map(|key| (key.name.to_owned(), property(key))).collect();
    json!({ "title": spec.title, "type": "object", "properties": properties, "additionalProperties": false })
}

fn property(key: &Key) -> Value {
    let mut schema = kind(key.kind);
    extend(&mut schema, json!({ "description": key.doc }));
    schema
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(most) => json!({ "type": "integer", "minimum": 1, "maximum": most }),
        Kind::Cores => json!({ "type": "number", "minimum": 0.001, "maximum": 1024, "examples": [0.5, 2] }),
        Kind::Money => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000_000 }),
        Kind::Size => json!({
            "type": "string", "examples": ["2 GiB", "512 MB"],
            "pattern": "^(?=.*[1-9])\\s*[0-9]+(\\.[0-9]+)?\\s*([KkMmGgTt][Ii]?)?[Bb]\\s*$",
        }),
        Kind::Duration => json!({
            "type": "string", "examples": ["7d", "2d12h", "30m"],
            "pattern": "^(?=.*[1-9])\\s*([0-9]+\\s*w\\s*)?([0-9]+\\s*d\\s*)?([0-9]+\\s*h\\s*)?([0-9]+\\s*m\\s*)?([0-9]+\\s*s\\s*)?$",
        }),
        Kind::Word(_, _, words) => json!({ "type": "string", "enum": words }),
        Kind::Text(shape) => text(shape),
        Kind::Release => {
            let mut pinned = table(&PINNED_RELEASE);
            extend(&mut pinned, json!({ "required": ["tag", "sha256"] }));
            json!({ "oneOf": [text(&formats::RELEASE), pinned] })
        }
        Kind::Secret => json!({ "$ref": "#/$defs/secret" }),
        Kind::TextOrSecret(shape) => json!({ "oneOf": [text(shape), { "$ref": "#/$defs/secret" }] }),
        Kind::Tls => {
            let mut file = table(&TLS);
            extend(&mut file, json!({ "required": ["ca"] }));
            json!({ "oneOf": [{ "type": "string", "enum": TLS_MODES }, file] })
        }
        Kind::RouteTls => {
            let mut source = table(&ROUTE_TLS);
            let pair = json!({ "required": ["cert", "key"], "not": { "anyOf": [{ "required": ["acme"] }, { "required": ["root"] }] } });
            let authority =
                json!({ "required": ["acme"], "not": { "anyOf": [{ "required": ["cert"] }, { "required": ["key"] }] } });
            extend(&mut source, json!({ "oneOf": [pair, authority] }));
            json!({ "oneOf": [{ "type": "string", "enum": RouteTls::WORDS }, source] })
        }
        Kind::EnvFiles => {
            let mut file = table(&ENV_FILE);
            extend(&mut file, json!({ "required": ["path"] }));
            let one = json!([text(&formats::PATH), file]);
            json!({ "oneOf": [one[0], one[1], { "type": "array", "items": { "oneOf": one }, "minItems": 1, "maxItems": 32 }] })
        }
        Kind::Names => json!({ "type": "array", "items": text(&formats::NAME), "uniqueItems": true }),
        Kind::Texts(shape) => json!({ "type": "array", "items": text(shape) }),
        Kind::Table(spec) if std::ptr::eq(spec, &raw const DEFAULTS) => json!({ "$ref": "#/$defs/defaults" }),
        Kind::Table(spec) => constrained(spec),
        Kind::Backends(_) => json!({
            "type": "object",
            "propertyNames": { "pattern": formats::NAME.pattern, "maxLength": formats::NAME.longest },
            "additionalProperties": { "$ref": "#/$defs/backend" },
        }),
        Kind::Servers(spec) => {
            let mut server = table(spec);
            extend(&mut server, json!({ "required": ["host"] }));
            json!({
                "type": "object",
                "propertyNames": { "pattern": formats::NAME.pattern, "maxLength": formats::NAME.longest },
                "additionalProperties": server,
            })
        }
        Kind::Labels => json!({
            "type": "object",
            "propertyNames": { "not": { "pattern": "^(convexinfra|com\\.docker\\.compose)\\." } },
            "additionalProperties": text(&formats::LINE),
        }),
        Kind::Variables => variables(),
        Kind::Tables(spec) => {
            let mut item = table(spec);
            let keys: Vec<&str> = spec.keys().map(|key| key.name).collect();
            extend(&mut item, json!({ "required": keys }));
            json!({ "type": "array", "items": item })
        }
    }
}

fn text(shape: &TextFormat) -> Value {
    let mut schema = json!({ "type": "string", "pattern": shape.pattern, "examples": [shape.example] });
    if let Some(longest) = shape.longest {
        extend(&mut schema, json!({ "maxLength": longest }));
    }
    schema
}

fn secret() -> Value {
    let mut schema = table(&SECRET);
    extend(&mut schema, json!({ "minProperties": 1, "maxProperties": 1 }));
    schema
}

/// A table whose keys say something about one another. The engine may come from `[defaults]`, so only what is wrong
/// with the engine that is written here is refused.
fn constrained(spec: &'static Table) -> Value {
    let mut schema = table(spec);
    let Some(engine) = spec.key("engine") else {
        if spec.key("site").is_some() {
            extend(&mut schema, json!({ "dependentRequired": { "api": ["site"], "site": ["api"] } }));
        }
        return schema;
    };
    let Kind::Word(_, _, [plain, ..]) = engine.kind else { return schema };
    let others: Map<String, Value> =
        spec.keys().filter(|key| key.name != "engine").map(|key| (key.name.to_owned(), Value::Bool(false))).collect();
    let mut all = vec![json!({
        "if": { "required": ["engine"], "properties": { "engine": { "const": plain } } },
        "then": { "properties": others },
    })];
    if spec.key("bucket").is_some() {
        all.push(json!({ "not": { "required": ["bucket", "bucket_prefix"] } }));
    } else {
        // A server that the provider runs is entered as the provider has it.
        for key in ["url", "role"] {
            all.push(json!({ "not": { "required": [key, "managed"], "properties": { "managed": { "const": true } } } }));
        }
    }
    extend(&mut schema, json!({ "allOf": all }));
    schema
}

/// A table of a backend: the tables of other providers than the one written here are refused.
fn backend(spec: &'static Table) -> Value {
    let mut schema = table(spec);
    if !spec.shared {
        let all: Vec<Value> = PROVIDERS
            .iter()
            .map(|chosen| {
                let others: Map<String, Value> = PROVIDERS
                    .iter()
                    .filter(|other| *other != chosen)
                    .map(|other| ((*other).to_owned(), Value::Bool(false)))
                    .collect();
                json!({
                    "if": { "required": ["provider"], "properties": { "provider": { "const": chosen } } },
                    "then": { "properties": others },
                })
            })
            .collect();
        extend(&mut schema, json!({ "allOf": all }));
    }
    schema
}

fn variables() -> Value {
    json!({
        "type": "object",
        "maxProperties": 512,
        "propertyNames": {
            "pattern": formats::CONVEX_VARIABLE.pattern,
            "maxLength": formats::CONVEX_VARIABLE.longest,
            "not": { "enum": ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"] },
        },
        // A name that says that it holds a secret takes a reference only.
        "patternProperties": {
            "^(?!.*(PUBLIC|PUBLISHABLE))(.*_)?(KEYS?|APIKEY|SECRETS?|TOKENS?|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIALS?)$":
                { "$ref": "#/$defs/secret" },
        },
        "additionalProperties": {
            "oneOf": [
                {
                    "type": "string", "maxLength": 8192,
                    "not": { "pattern": "://[^/?#@\\s]*:[^@\\s]+@" },
                },
                { "$ref": "#/$defs/secret" },
            ],
        },
    })
}
