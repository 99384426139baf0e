//! Holds every request and every answer against the API's own document, where that document is at hand.
//!
//! The document allows everything it does not name; here what it does not name is a difference, so that no name can be
//! misspelt. Where it is known to be wrong or to have gaps, `holes` says so, one by one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value, json};

use super::contract_gaps::{ContractGap, ExchangePart, HOLES};
use super::reply::{Body, Reply};
use super::request::Request;
use fixture::shared_text;

/// What is held against the document.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    Request,
    Reply(&'a Reply),
}

/// The document, ready to be held against.
pub struct Contract {
    operations: Vec<Operation>,
    components: Value,
    /// Made when first needed: there are many, and a test needs few.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
    used: Mutex<BTreeSet<usize>>,
}

struct Operation {
    /// As in `GET /apps/{app_name}`.
    name: String,
    method: String,
    parts: Vec<String>,
    description: Value,
}

impl Contract {
    /// The document where it is at hand, read once.
    pub fn at_hand() -> Option<&'static Self> {
        static CONTRACT: OnceLock<Option<Contract>> = OnceLock::new();
        CONTRACT.get_or_init(|| shared_text("fly/machines-openapi.json").map(|text| Self::read(&text))).as_ref()
    }

    fn read(text: &str) -> Self {
        let mut document: Value = serde_json::from_str(text).unwrap();
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, description) in methods.as_object().unwrap() {
                let method = method.to_uppercase();
                operations.push(Operation {
                    name: format!("{method} {path}"),
                    method,
                    parts: path.split('/').skip(1).map(str::to_owned).collect(),
                    description: description.clone(),
                });
            }
        }
        // A path with a fixed word comes before one with a parameter in its place.
        operations.sort_by_key(|operation| operation.parts.iter().filter(|part| part.starts_with('{')).count());
        let mut components = document["components"].take();
        close(&mut components);
        Self { operations, components, validators: Mutex::default(), used: Mutex::default() }
    }

    /// What is different from the document, in full sentences; nothing where it keeps to it.
    pub fn differences(&self, request: &Request, side: Side<'_>) -> Vec<String> {
        let segments = request.segments();
        let fits = |operation: &&Operation| {
            operation.method == request.method
                && operation.parts.len() == segments.len()
                && operation.parts.iter().zip(&segments).all(|(part, found)| part.starts_with('{') || part == found)
        };
        let Some(operation) = self.operations.iter().find(fits) else {
            return vec![format!("`{} {}` is not in the document", request.method, request.path)];
        };
        let found = match side {
            Side::Request => self.in_request(operation, request),
            Side::Reply(reply) => self.in_reply(operation, reply),
        };
        found
            .into_iter()
            .filter(|difference| !self.is_known(operation, difference))
            .map(|found| found.said(operation))
            .collect()
    }

    /// The holes that were met so far.
    pub fn used(&self) -> BTreeSet<usize> {
        self.used.lock().unwrap().clone()
    }

    /// Whether an operation that a hole is about does not document its status.
    pub fn lacks_status(&self, hole: &ContractGap) -> bool {
        let ExchangePart::Reply(status) = hole.place else { return false };
        let covered = self.operations.iter().filter(|operation| hole.covers(&operation.name, hole.place, hole.at));
        let mut responses = covered.map(|operation| &operation.description["responses"][status.to_string()]);
        responses.any(Value::is_null)
    }

    fn is_known(&self, operation: &Operation, difference: &Difference) -> bool {
        let at = HOLES.iter().position(|hole| hole.covers(&operation.name, difference.place, &difference.at));
        if let Some(at) = at {
            self.used.lock().unwrap().insert(at);
        }
        at.is_some()
    }

    fn in_request(&self, operation: &Operation, request: &Request) -> Vec<Difference> {
        let place = ExchangePart::Request;
        let parameters = operation.description["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let is_documented =
            |name: &str| parameters.iter().any(|parameter| parameter["in"] == "query" && parameter["name"] == name);
        let mut found: Vec<Difference> = Vec::new();
        for (name, value) in request.query.iter().filter(|(name, _)| !is_documented(name)) {
            found.push(Difference::new(place, format!("?{name}"), format!("the parameter `{name}={value}` is not documented")));
        }
        let content = &operation.description["requestBody"]["content"];
        match content.as_object().and_then(|kinds| kinds.values().next()) {
            Some(kind) if !request.body.is_null() => found.extend(self.against(&kind["schema"], &request.body, place)),
            None if !request.body.is_null() && request.body != json!({}) => {
                found.push(Difference::new(place, "(body)", "there is a body, and none is documented"));
            }
            _ => {}
        }
        if request.is_garbled {
            found.push(Difference::new(place, "(body)", "the body is not JSON"));
        }
        let is_json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if !request.body.is_null() && !is_json {
            found.push(Difference::new(place, "(content-type)", "a JSON body is not announced as `application/json`"));
        }
        found
    }

    fn in_reply(&self, operation: &Operation, reply: &Reply) -> Vec<Difference> {
        let place = ExchangePart::Reply(reply.status);
        let documented = &operation.description["responses"][reply.status.to_string()];
        let mut found = Vec::new();
        if documented.is_null() {
            found.push(Difference::new(place, "(status)", format!("the status {} is not documented", reply.status)));
        }
        let kinds = documented["content"].as_object();
        let schema = match kinds.and_then(|kinds| kinds.get("application/json")) {
            Some(kind) => kind["schema"].clone(),
            None if reply.status >= 400 => json!({ "$ref": "#/components/schemas/ErrorResponse" }),
            None => Value::Null,
        };
        match (&reply.body, schema) {
            (Body::Empty, Value::Null) => {}
            (Body::Empty, _) => found.push(Difference::new(place, "(body)", "there is no body, and one is documented")),
            (Body::Text(_), _) => found.push(Difference::new(place, "(body)", "the body is not JSON")),
            (Body::Json(_), Value::Null) => {
                found.push(Difference::new(place, "(body)", "there is a body, and none is documented"));
            }
            (Body::Json(body), schema) => found.extend(self.against(&schema, body, place)),
        }
        found
    }

    fn against(&self, schema: &Value, value: &Value, place: ExchangePart) -> Vec<Difference> {
        let mut found = Vec::new();
        for error in self.validator(schema).iter_errors(value) {
            let at = error.instance_path().to_string();
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    found.extend(unexpected.iter().map(|name| {
                        Difference::new(place, format!("{at}/{name}"), format!("the field `{name}` is not documented"))
                    }));
                }
                // Values may be secrets; what is wrong with them is said without them.
                kind => found.push(Difference::new(place, at, format!("it breaks the rule `{}`", kind.keyword()))),
            }
        }
        found
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(schema.to_string()).or_insert_with(|| {
            let mut whole = schema.as_object().cloned().unwrap_or_default();
            whole.insert("components".to_owned(), self.components.clone());
            Arc::new(jsonschema::validator_for(&Value::Object(whole)).unwrap())
        });
        Arc::clone(validator)
    }
}

/// One difference from the document.
#[derive(Debug, Clone)]
struct Difference {
    place: ExchangePart,
    at: String,
    what: String,
}

impl Difference {
    fn new(place: ExchangePart, at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place, at: at.into(), what: what.into() }
    }

    fn said(&self, operation: &Operation) -> String {
        let side = match self.place {
            ExchangePart::Request => "request".to_owned(),
            ExchangePart::Reply(status) => format!("reply {status}"),
        };
        format!("{} ({side}) at `{}`: {}", operation.name, self.at, self.what)
    }
}

impl ContractGap {
    fn covers(&self, operation: &str, place: ExchangePart, at: &str) -> bool {
        let named = match self.operation.strip_suffix('*') {
            Some(start) => operation.starts_with(start),
            None => operation == self.operation,
        };
        named && self.place == place && points(self.at, at)
    }
}

/// Whether a pointer has this shape: `*` stands for one part of it.
fn points(pattern: &str, at: &str) -> bool {
    let (wanted, found): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), at.split('/').collect());
    let fits = |(wanted, found): (&&str, &&str)| {
        *wanted == "*" || wanted == found || wanted.strip_suffix('*').is_some_and(|start| found.starts_with(start))
    };
    wanted.len() == found.len() && wanted.iter().zip(&found).all(fits)
}

/// Lets no object have other fields than those that are named, where any are.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(is_properties) && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(entries) => entries.iter_mut().for_each(close),
        _ => {}
    }
}

/// A schema may have a field that is called `properties` itself.
fn is_properties(value: &Value) -> bool {
    value.as_object().is_some_and(|fields: &Map<String, Value>| fields.values().all(Value::is_object))
}
