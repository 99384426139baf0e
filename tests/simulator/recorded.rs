//! What was recorded from the real backend, reduced to what may be kept here: no words of its own, only the shape.
//!
//! The reduced tables are proven against the recordings where those are at hand, and written from them with
//! `CONVEXINFRA_BLESS=1`.

use std::path::{Path, PathBuf};

use fixture::golden;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One recorded request, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) port: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) code: Option<String>,
    /// The keys of a JSON body and the types of its values, at every depth.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) shape: Option<Value>,
    /// Whether a query succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) outcome: Option<String>,
    /// The state of the import or export in the answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) state: Option<String>,
    /// Whether the recording breaks off in the middle of the body, so that its shape is only a beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) cut: bool,
    /// The names in a zip file.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) entries: Vec<String>,
}

/// What an answer is compared by.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) shape: Option<Value>,
    pub(crate) outcome: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) entries: Vec<String>,
}

impl Seen {
    pub(crate) fn new(status: u16, content_type: Option<String>, body: &str, entries: Vec<String>) -> Self {
        let is_json = content_type.as_deref() == Some("application/json");
        let body = if is_json { serde_json::from_str::<Value>(&mended(body)).unwrap() } else { Value::Null };
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            status,
            content_type,
            code: text("/code"),
            shape: is_json.then(|| shape(&body)),
            outcome: text("/status"),
            state: text("/value/state/state").or_else(|| text("/value/state")),
            entries,
        }
    }
}

impl Row {
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            status: self.status,
            content_type: self.content_type.clone(),
            code: self.code.clone(),
            shape: self.shape.clone(),
            outcome: self.outcome.clone(),
            state: self.state.clone(),
            entries: self.entries.clone(),
        }
    }

    /// Whether an answer is the recorded one as far as the recording goes.
    pub(crate) fn agrees(&self, mut seen: Seen) -> bool {
        let keys = |shape: &Option<Value>| match shape {
            Some(Value::Object(fields)) => fields.keys().cloned().collect(),
            _ => Vec::new(),
        };
        if self.cut {
            let there = keys(&seen.shape);
            if !keys(&self.shape).iter().all(|key| there.contains(key)) {
                return false;
            }
            seen.shape = self.shape.clone();
        }
        seen == self.seen()
    }
}

/// Ends JSON that breaks off in the middle.
fn mended(text: &str) -> String {
    let (mut open, mut in_text, mut escaped) = (Vec::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            _ if in_text => {}
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
    }
    let end: String = in_text.then_some('"').into_iter().chain(open.into_iter().rev()).collect();
    text.to_owned() + &end
}

/// The keys of objects and the types of everything else. Of an array only the first element counts.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(values) => Value::Array(values.iter().take(1).map(shape).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect::<Map<_, _>>())
        }
    }
}

/// One recorded web-socket session: what the client said, and the shape of what it was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dialogue {
    pub(crate) client: Vec<Value>,
    pub(crate) server: Vec<Value>,
}

fn tables() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulator")
}

pub(crate) fn rows() -> Vec<Row> {
    serde_json::from_str(&std::fs::read_to_string(tables().join("recorded.json")).unwrap()).unwrap()
}

pub(crate) fn dialogues() -> Vec<Dialogue> {
    serde_json::from_str(&std::fs::read_to_string(tables().join("recorded_sync.json")).unwrap()).unwrap()
}

pub(crate) fn reduce(golden: &Value) -> Vec<Row> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |record: &Value| {
        let (request, response) = (&record["request"], &record["response"]);
        let entries: Vec<String> =
            response["entries"].as_array().into_iter().flatten().map(|entry| text(&entry[0]).unwrap()).collect();
        let status = response["status"].as_u64().unwrap() as u16;
        let body = response["body"].as_str().unwrap_or_default();
        let is_json = response["content_type"] == "application/json";
        let seen = Seen::new(status, text(&response["content_type"]), body, entries);
        Row {
            label: text(&record["label"]).unwrap(),
            method: text(&request["method"]).unwrap(),
            path: text(&request["path"]).unwrap(),
            port: text(&request["port"]).unwrap(),
            authorization: text(&request["authorization"]),
            body: request["body"].clone(),
            status,
            content_type: seen.content_type,
            code: seen.code,
            shape: seen.shape,
            outcome: seen.outcome,
            state: seen.state,
            cut: is_json && mended(body) != body,
            entries: seen.entries,
        }
    };
    golden.as_array().unwrap().iter().map(row).collect()
}

pub(crate) fn reduce_sync(golden: &Value) -> Vec<Dialogue> {
    let mut dialogues: Vec<Dialogue> = Vec::new();
    for frame in golden.as_array().unwrap() {
        let is_client = frame["from"] == "client";
        if is_client && frame.get("handshake").is_some() {
            dialogues.push(Dialogue { client: Vec::new(), server: Vec::new() });
        }
        let (Some(text), Some(dialogue)) = (frame.get("text"), dialogues.last_mut()) else { continue };
        match is_client {
            true => dialogue.client.push(text.clone()),
            false => dialogue.server.push(shape(text)),
        }
    }
    dialogues
}

fn agree(name: &str, reduced: &impl Serialize) {
    let path = tables().join(name);
    let fresh = serde_json::to_string_pretty(reduced).unwrap() + "\n";
    if std::env::var("CONVEXINFRA_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, &fresh).unwrap();
    }
    assert!(fresh == std::fs::read_to_string(&path).unwrap(), "`{name}` is not what the recording reduces to");
}

#[test]
fn the_reduced_tables_are_what_the_recordings_say() {
    if let Some(recorded) = golden("convex-http.json") {
        agree("recorded.json", &reduce(&recorded));
    }
    if let Some(recorded) = golden("convex-sync.json") {
        agree("recorded_sync.json", &reduce_sync(&recorded));
    }
}
