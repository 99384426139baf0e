//! The web socket that the official client asks its queries through.
//!
//! A session has an identity, a set of queries, and a version of each; every message that changes one of them is
//! answered with the transition from the old version to the new one, and so is every change of the data that
//! changes a result.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{KeyHolder, authenticate_key};
use super::encoding::timestamp;
use super::functions::frame_error;
use super::state::SimulatorState;
use super::{identifier, queries};

const PING_EVERY: Duration = Duration::from_secs(15);
const MESSAGE_MAX: usize = 16 << 20;

/// `GET /api/{version}/sync`
pub(super) async fn open(State(app): State<SimulatorState>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_MAX).on_upgrade(move |socket| serve(app, socket))
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum ClientMessage {
    #[serde(rename_all = "camelCase")]
    Connect {
        #[serde(default)]
        client_ts: Option<f64>,
    },
    #[serde(rename_all = "camelCase")]
    Authenticate {
        base_version: u64,
        token_type: String,
        #[serde(default)]
        value: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    ModifyQuerySet {
        base_version: u64,
        new_version: u64,
        modifications: Vec<Modification>,
    },
    #[serde(rename_all = "camelCase")]
    Mutation {
        request_id: u64,
        udf_path: String,
    },
    #[serde(rename_all = "camelCase")]
    Action {
        request_id: u64,
        udf_path: String,
    },
    Event {},
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Modification {
    #[serde(rename_all = "camelCase")]
    Add {
        query_id: u64,
        udf_path: String,
        #[serde(default)]
        args: Value,
    },
    #[serde(rename_all = "camelCase")]
    Remove { query_id: u64 },
}

struct Subscription {
    path: String,
    args: Value,
    result: Option<Result<Value, String>>,
}

/// Describes what the session has last been told.
#[derive(Clone, Copy)]
struct SessionVersion {
    query_set: u64,
    identity: u64,
    ts: u64,
}

impl SessionVersion {
    fn json(self) -> Value {
        json!({ "querySet": self.query_set, "identity": self.identity, "ts": timestamp(self.ts) })
    }
}

struct SyncSession {
    app: SimulatorState,
    caller: KeyHolder,
    version: SessionVersion,
    queries: BTreeMap<u64, Subscription>,
    clock_skew: i64,
}

/// Describes what to do after a message.
enum SyncReply {
    Send(Vec<Value>),
    Close(Value),
}

async fn serve(app: SimulatorState, mut socket: WebSocket) {
    let mut changes = app.changes();
    let stopped = app.clone();
    let version = SessionVersion { query_set: 0, identity: 0, ts: 0 };
    let mut session = SyncSession { app, caller: KeyHolder::Anonymous, version, queries: BTreeMap::new(), clock_skew: 0 };
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    if socket.send(Message::Ping(Vec::new().into())).await.is_err() {
        return;
    }
    loop {
        let next = tokio::select! {
            () = stopped.stopped() => break,
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => session.take(&text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
            changed = changes.changed() => match changed {
                Ok(()) => SyncReply::Send(session.refresh()),
                Err(_) => break,
            },
            _ = ping.tick() => SyncReply::Send(vec![json!({ "type": "Ping" })]),
        };
        let (messages, is_last) = match next {
            SyncReply::Send(messages) => (messages, false),
            SyncReply::Close(message) => (vec![message], true),
        };
        for message in messages {
            if socket.send(Message::Text(message.to_string().into())).await.is_err() {
                return;
            }
        }
        if is_last {
            break;
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

impl SyncSession {
    fn take(&mut self, text: &str) -> SyncReply {
        let message: ClientMessage = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => return fatal(&format!("the message cannot be read: {error}")),
        };
        match message {
            ClientMessage::Connect { client_ts } => {
                self.clock_skew = client_ts.map_or(0, |sent| (identifier::now_ms() - sent) as i64);
                SyncReply::Send(Vec::new())
            }
            ClientMessage::Authenticate { base_version, token_type, value } => {
                self.authenticate(base_version, &token_type, value.as_deref())
            }
            ClientMessage::ModifyQuerySet { base_version, new_version, modifications } => {
                self.modify(base_version, new_version, modifications)
            }
            ClientMessage::Mutation { request_id, udf_path } => {
                SyncReply::Send(vec![refusal("MutationResponse", request_id, &udf_path)])
            }
            ClientMessage::Action { request_id, udf_path } => {
                SyncReply::Send(vec![refusal("ActionResponse", request_id, &udf_path)])
            }
            ClientMessage::Event {} => SyncReply::Send(Vec::new()),
        }
    }

    fn authenticate(&mut self, base_version: u64, token_type: &str, value: Option<&str>) -> SyncReply {
        if base_version != self.version.identity {
            return fatal("the version of the identity is not the current one");
        }
        let caller = match (token_type, value) {
            ("None", _) => Ok(KeyHolder::Anonymous),
            ("Admin", Some(key)) => authenticate_key(&self.app, key).map_err(|refusal| refusal.message),
            _ => Err("this simulator knows no users".to_owned()),
        };
        match caller {
            Ok(caller) => {
                self.caller = caller;
                let identity = self.version.identity + 1;
                let next = SessionVersion { identity, ts: self.app.changed_at(), ..self.version };
                let modifications = self.evaluate();
                SyncReply::Send(vec![self.transition(next, modifications)])
            }
            Err(error) => SyncReply::Close(json!({
                "type": "AuthError",
                "error": error,
                "baseVersion": base_version,
                "authUpdateAttempted": true,
            })),
        }
    }

    fn modify(&mut self, base_version: u64, new_version: u64, modifications: Vec<Modification>) -> SyncReply {
        if base_version != self.version.query_set || new_version <= base_version {
            return fatal("the version of the query set is not the current one");
        }
        let mut answers = Vec::new();
        for modification in modifications {
            match modification {
                Modification::Add { query_id, udf_path, args } => {
                    self.queries.insert(query_id, Subscription { path: udf_path, args, result: None });
                }
                Modification::Remove { query_id } => {
                    self.queries.remove(&query_id);
                    answers.push(json!({ "type": "QueryRemoved", "queryId": query_id }));
                }
            }
        }
        answers.extend(self.evaluate());
        let next = SessionVersion { query_set: new_version, ts: self.app.changed_at(), ..self.version };
        SyncReply::Send(vec![self.transition(next, answers)])
    }

    /// Returns what the data's last change means for the queries of this session.
    fn refresh(&mut self) -> Vec<Value> {
        let modifications = self.evaluate();
        if modifications.is_empty() {
            return Vec::new();
        }
        let next = SessionVersion { ts: self.app.changed_at(), ..self.version };
        vec![self.transition(next, modifications)]
    }

    /// Asks every query again, and says what differs from what was last said.
    fn evaluate(&mut self) -> Vec<Value> {
        let mut modifications = Vec::new();
        for (id, query) in &mut self.queries {
            let result = queries::answer(&self.app, self.caller, &query.path, &query.args);
            if query.result.as_ref() == Some(&result) {
                continue;
            }
            modifications.push(match &result {
                Ok(value) => json!({ "type": "QueryUpdated", "queryId": id, "value": value, "logLines": [], "journal": null }),
                Err(message) => json!({
                    "type": "QueryFailed", "queryId": id, "errorMessage": frame_error(message), "logLines": [], "journal": null,
                }),
            });
            query.result = Some(result);
        }
        modifications
    }

    fn transition(&mut self, next: SessionVersion, modifications: Vec<Value>) -> Value {
        let start = std::mem::replace(&mut self.version, next);
        json!({
            "type": "Transition",
            "startVersion": start.json(),
            "endVersion": next.json(),
            "modifications": modifications,
            "clientClockSkew": self.clock_skew,
            "serverTs": identifier::now_ns(),
        })
    }
}

fn fatal(error: &str) -> SyncReply {
    SyncReply::Close(json!({ "type": "FatalError", "error": error }))
}

fn refusal(kind: &str, request_id: u64, path: &str) -> Value {
    let message = frame_error(&format!("this simulator runs no functions, so there is no `{path}`"));
    json!({ "type": kind, "requestId": request_id, "success": false, "result": message, "logLines": [] })
}
