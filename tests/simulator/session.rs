//! The web socket: the recorded sessions again, and what was not recorded.

use convexinfra::convex::deployment::EnvironmentChange;
use convexinfra::model::Secret;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::backend::{Backend, Place, admin_key};
use super::recorded::{dialogues, shape};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(backend: &Backend) -> Self {
        let url = format!("ws://127.0.0.1:{}/api/1.48.0/sync", backend.api);
        Self(connect_async(url).await.unwrap().0)
    }

    async fn send(&mut self, message: &Value) {
        let text = message.to_string().replace("<admin key>", admin_key().expose());
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message of text, or nothing once the other side has closed.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let frame = tokio::time::timeout(fixture::DEADLINE, self.0.next()).await.unwrap();
            match frame {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }
}

fn connect() -> Value {
    json!({ "type": "Connect", "sessionId": "s", "connectionCount": 0, "lastCloseReason": "InitialConnect", "clientTs": 1 })
}

fn authenticate(key: &str) -> Value {
    json!({ "type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": key })
}

fn add(path: &str, args: Value) -> Value {
    let query = json!({ "type": "Add", "queryId": 0, "udfPath": path, "args": [args] });
    json!({ "type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [query] })
}

#[tokio::test]
async fn the_recorded_sessions_go_as_recorded() {
    let place = Place::new();
    let backend = place.start(&place.setup()).await;
    let change = EnvironmentChange { name: "A".into(), value: Some(Secret::new("b")) };
    backend.deployment().change_environment(&[change]).await.unwrap();
    let dialogues = dialogues();
    assert_eq!(dialogues.len(), 3);
    for dialogue in dialogues {
        let mut socket = Socket::open(&backend).await;
        for message in &dialogue.client {
            socket.send(message).await;
        }
        let (mut told, mut last) = (Vec::new(), json!({ "querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA=" }));
        while told.len() < dialogue.server.len() {
            let message = socket.next().await.unwrap();
            assert_eq!(message["startVersion"], last, "each transition begins where the one before ended");
            last = message["endVersion"].clone();
            told.push(shape(&message));
        }
        assert_eq!(told, dialogue.server);
    }
}

#[tokio::test]
async fn a_change_reaches_subscribers() {
    let place = Place::new();
    let backend = place.start(&place.setup()).await;
    let mut socket = Socket::open(&backend).await;
    socket.send(&connect()).await;
    socket.send(&authenticate("<admin key>")).await;
    socket.send(&add("_system/cli/queryEnvironmentVariables:get", json!({ "name": "A" }))).await;
    assert_eq!(socket.next().await.unwrap()["modifications"], json!([]));
    assert_eq!(socket.next().await.unwrap()["modifications"][0]["value"], Value::Null);
    let change = EnvironmentChange { name: "A".into(), value: Some(Secret::new("b")) };
    backend.deployment().change_environment(&[change]).await.unwrap();
    assert_eq!(socket.next().await.unwrap()["modifications"][0]["value"], json!({ "name": "A", "value": "b" }));
}

#[tokio::test]
async fn failed_sessions_and_requests_are_reported() {
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;

    let mut socket = Socket::open(&backend).await;
    socket.send(&connect()).await;
    socket.send(&authenticate("gold-backend|01ff")).await;
    assert_eq!(socket.next().await.unwrap()["type"], "AuthError");
    assert_eq!(socket.next().await, None, "a session with a bad key ends");

    let mut socket = Socket::open(&backend).await;
    socket.send(&add("messages:list", json!({}))).await;
    let failed = socket.next().await.unwrap()["modifications"][0].clone();
    assert_eq!(failed["type"], "QueryFailed");
    assert!(failed["errorMessage"].as_str().unwrap().contains("messages:list"));
    socket.send(&json!({ "type": "Event", "eventType": "x", "event": { "y": 1 } })).await;
    for (asked, answered) in [("Mutation", "MutationResponse"), ("Action", "ActionResponse")] {
        socket.send(&json!({ "type": asked, "requestId": 5, "udfPath": "messages:send", "args": [{}] })).await;
        let answer = socket.next().await.unwrap();
        assert_eq!((&answer["type"], &answer["success"], &answer["requestId"]), (&json!(answered), &json!(false), &json!(5)));
    }
    socket.send(&json!({ "type": "Nonsense" })).await;
    assert_eq!(socket.next().await.unwrap()["type"], "FatalError");
    assert_eq!(socket.next().await, None);

    let _open = Socket::open(&backend).await;
    assert_eq!(backend.interrupt().code(), Some(0), "an open socket does not hold up the end");
}
