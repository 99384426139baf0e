//! Requests, answers, and what of them has to be the same everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::place::Place;

/// One answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content: String,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }
}

/// Sends one request, and reads its answer to the end.
pub(super) fn ask(
    url: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Answer {
    let asked = || try_ask(url, method, path, token, headers, body);
    // What is too large may be answered, and the connection closed, before all of it is sent: then the answer can be lost.
    let is_large = body.is_some_and(|body| body.len() > 64 << 10);
    let lost = |asked: &Result<Answer, reqwest::Error>| is_large && asked.as_ref().is_err_and(reqwest::Error::is_request);
    let mut answer = asked();
    for _ in 0..4 {
        if lost(&answer) {
            answer = asked();
        }
    }
    answer.unwrap()
}

/// The same where the other side may be gone.
pub(super) fn try_ask(
    url: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Answer, reqwest::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = client.request(method, format!("{url}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_vec());
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let content = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        Ok(Answer { status, content, text: answer.text().await? })
    })
}

/// A conversation with one control plane, and its record.
pub(super) struct Conversation<'a> {
    place: &'a Place,
    pub(super) record: Vec<String>,
    /// What differs from place to place, and the word that stands for it.
    words: BTreeMap<String, String>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(place: &'a Place) -> Self {
        let mut words = BTreeMap::new();
        words.insert(place.url.clone(), "<url>".to_owned());
        let id = place.operator.split('_').nth(1).unwrap().to_owned();
        words.insert(id, "<operator>".to_owned());
        // How the first token came about differs: who made it, and what is written beside it.
        let first = &ask(&place.url, "GET", "/v1/events", Some(&place.operator), &[], None).json()[0];
        words.insert(first["actor"].to_string(), "<maker>".to_owned());
        let token = &ask(&place.url, "GET", "/v1/tokens", Some(&place.operator), &[], None).json()[0];
        words.insert(format!("\"name\":{}", token["note"]), "<operator>".to_owned());
        Self { place, record: Vec::new(), words }
    }

    pub(super) fn operator(&self) -> String {
        self.place.operator.clone()
    }

    /// From now on this stands in the record for that.
    pub(super) fn call(&mut self, text: &str, word: &str) {
        self.words.insert(text.to_owned(), word.to_owned());
    }

    /// Asks with a JSON document, expects a status, and notes the exchange.
    pub(super) fn send(&mut self, status: u16, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Value {
        self.send_with(status, method, path, token, &[], body)
    }

    /// The same with more headers.
    pub(super) fn send_with(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Value {
        let text = body.map(|body| serde_json::to_vec(body).unwrap());
        let mut headers = headers.to_vec();
        if text.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let answer = self.exchange(status, method, path, token, &headers, text.as_deref());
        match answer.text.is_empty() {
            true => Value::Null,
            false => answer.json(),
        }
    }

    /// Asks with bytes as they are.
    pub(super) fn exchange(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let answer = ask(&self.place.url, method, path, token, headers, body);
        assert_eq!(answer.status, status, "{method} {path} at {}: {}", self.place.url, answer.text);
        let text = match serde_json::from_str::<Value>(&answer.text) {
            Ok(mut document) => {
                steady(&mut document);
                document.to_string()
            }
            Err(_) => steady_events(&answer.text),
        };
        let mut line = format!("{method} {} -> {} {} {text}", without_operation(path), answer.status, answer.content);
        for (text, word) in &self.words {
            line = line.replace(text, word);
        }
        let line = without_moments(&line);
        self.record.push(line);
        answer
    }

    /// Asks without noting it, for what comes in its own time.
    pub(super) fn look(&self, path: &str, token: &str) -> Answer {
        ask(&self.place.url, "GET", path, Some(token), &[], None)
    }
}

/// A path without the id of its operation, which follows from the time.
fn without_operation(path: &str) -> String {
    let Some((before, rest)) = path.split_once("/operations/") else { return path.to_owned() };
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if after.len() == rest.len() { path.to_owned() } else { format!("{before}/operations/<id>{after}") }
}

/// What no two control planes have alike: moments, ids that are drawn, hashes.
const UNSTEADY: &[&str] = &[
    "request_id",
    "since",
    "at",
    "created_at",
    "accepted_at",
    "ended_at",
    "expires_at",
    "revoked_at",
    "hash",
    "head",
    "key",
    "token",
    "fence",
    // The events themselves are compared; a server that was just initialised has one more.
    "entries",
];

fn steady(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Which providers there are and what it is called differs by nature.
            fields.remove("control_plane");
            // Entries are counted in all projects together where these share their rows.
            fields.remove("sequence");
            // The Worker reads less of a request for a token: an isolate has little memory.
            if fields.get("code").is_some_and(|code| code == "wire.too_large") {
                fields.insert("message".to_owned(), "<limit>".into());
            }
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if UNSTEADY.contains(&name.as_str()) => *text = format!("<{name}>"),
                    Value::Number(_) if UNSTEADY.contains(&name.as_str()) => *value = format!("<{name}>").into(),
                    Value::Array(_) if name == "origins" => *value = "<origins>".into(),
                    // The identity of a backend; an operation's is a number.
                    Value::String(text) if name == "id" && text.len() == 16 => *text = "<id>".to_owned(),
                    other => steady(other),
                }
            }
        }
        Value::Array(items) => {
            // `serve --init` sets the default quota that a new server has.
            items.retain(|item| item["kind"] != "quota_set" || item["detail"] != r#"{"backends":100}"#);
            items.iter_mut().for_each(steady);
        }
        _ => {}
    }
}

/// Server-sent events: the documents in them.
fn steady_events(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("data:").and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        Some(mut document) => {
            steady(&mut document);
            format!("data: {document}")
        }
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A line without the moments that are named in its words.
fn without_moments(line: &str) -> String {
    let is_part = |character: char| character.is_ascii_digit() || "TZ:.-".contains(character);
    let moment = |word: &str| word.len() >= 20 && word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    let (mut kept, mut word) = (String::new(), String::new());
    for character in line.chars().chain(['\n']) {
        if is_part(character) {
            word.push(character);
            continue;
        }
        kept.push_str(if moment(&word) { "<moment>" } else { &word });
        word.clear();
        kept.push(character);
    }
    kept.trim_end().to_owned()
}
