//! The client of a served control plane against servers that do what networks do: cut, delay, repeat, damage, answer in
//! another server's place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use convexinfra::api::client::{ClientConfig, ClientTimeouts, ControlPlaneUrl, HttpControlPlane};
use convexinfra::api::{
    Administration, ControlError, ControlPlane, IfMissing, LeaseHolder, LeaseNonce, OperationOutcome, wire,
};
use convexinfra::model::{BackendName, Diagnostic, Exit, OperationId, Revision, Scope, Timestamp, TokenRequest};
use serde_json::{Value, json};

use super::scripted_server::{
    Fixed, Reply, Seen, Server, TIMEOUTS, TOKEN, answer, client, client_with, document, ended, error, lease, notice, operation,
    project, read, removal, snapshot, stream,
};

/// The finding of an error, and the exit that follows.
fn report(error: &ControlError) -> (Exit, Diagnostic) {
    let report = error.report();
    (report.exit, report.errors[0].clone())
}

#[tokio::test]
async fn every_request_carries_its_token_and_id_over_one_connection() {
    let server = Server::new(|seen, _| Reply::Send(document(seen, "200 OK", &snapshot())));
    let client = server.client();
    let first = client.snapshot(&project()).await.unwrap();
    client.snapshot(&project()).await.unwrap();
    assert_eq!(first.revision, Revision(7));
    // Plans name the control plane as the user knows it.
    assert_eq!(first.control_plane.name, format!("http://{}", server.address));
    let seen = server.seen();
    assert_eq!(seen[0].line, "GET /v1/projects/shop");
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {TOKEN}"));
    assert_ne!(seen[0].headers["x-request-id"], seen[1].headers["x-request-id"]);
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_control_plane_that_never_answered_is_given_up_soon() {
    // Bound, so that it stays free, and never listened on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let started = Instant::now();
    let (exit, finding) = report(&client(&format!("http://{address}")).snapshot(&project()).await.unwrap_err());
    assert_eq!((exit, finding.code.as_str()), (Exit::Unreachable, "control.unreachable"));
    assert!(
        finding.message.contains(&address.to_string()) && finding.help.unwrap().contains("request cvx-"),
        "{}",
        finding.message
    );
    assert!(started.elapsed() < TIMEOUTS.reconnect, "it was waited for like one that had answered");
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_server_asks() {
    let unavailable = |seen: &Seen| {
        let (_, body) = wire::ErrorDocument::from_error(
            &ControlError::Unreachable(Diagnostic::new("server.busy", "too many requests")),
            None,
        );
        let id = &seen.headers["x-request-id"];
        answer("429 Too Many", &format!("retry-after: 1\r\nx-request-id: {id}\r\n"), &serde_json::to_string(&body).unwrap())
    };
    let server = Server::new(move |seen, number| match number {
        1 => Reply::Send(unavailable(seen)),
        _ => Reply::Send(document(seen, "200 OK", &snapshot())),
    });
    let client = server.client();
    client.snapshot(&project()).await.unwrap();
    let started = Instant::now();
    client.snapshot(&project()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_server_that_is_no_control_plane_is_named_as_that() {
    let server =
        Server::new(|_, _| Reply::Send(answer("200 OK", "content-type: text/html\r\n", "<html>Welcome to nginx</html>")));
    let (exit, finding) = report(&server.client().snapshot(&project()).await.unwrap_err());
    assert_eq!((exit, finding.code.as_str()), (Exit::Unreachable, "control.garbled"));
    assert!(finding.help.unwrap().contains("is this the URL of a convexinfra control plane"));
    assert!(!finding.message.contains("nginx"), "what came is not repeated: {}", finding.message);
    assert_eq!(server.seen().len(), 1);

    let server = Server::new(|_, _| Reply::Send(answer("404 Not Found", "", "nothing here")));
    assert_eq!(report(&server.client().snapshot(&project()).await.unwrap_err()).1.code, "control.garbled");
    let server = Server::new(|_, _| Reply::Cut(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()));
    assert_eq!(report(&server.client().snapshot(&project()).await.unwrap_err()).0, Exit::Unreachable);
    // More than any answer is not read to its end.
    let server = Server::new(|_, _| Reply::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{".to_vec()));
    assert_eq!(report(&server.client().snapshot(&project()).await.unwrap_err()).1.code, "control.garbled");
}

#[tokio::test]
async fn a_cut_or_damaged_response_is_retried() {
    let server = Server::new(|seen, number| {
        let whole = document(seen, "200 OK", &snapshot());
        match number {
            0 => Reply::Cut(Vec::new()),
            1 => Reply::Cut(whole[..whole.len() - 9].to_vec()),
            2 => Reply::Cut(whole[..20].to_vec()),
            3 => Reply::Send(answer("200 OK", "content-type: application/json\r\n", "{\"project\":\"sh")),
            _ => Reply::Send(whole),
        }
    });
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let timeouts = ClientTimeouts { first_response: fixture::DEADLINE, ..TIMEOUTS };
    let url = ControlPlaneUrl::parse(&format!("http://{}", server.address)).unwrap();
    let client = HttpControlPlane::new(ClientConfig {
        url,
        token: Box::new(Fixed(TOKEN)),
        certificates: None,
        timeouts,
        on_wait: Box::new(move |message| hears.lock().unwrap().push(message)),
    })
    .unwrap();
    assert_eq!(client.snapshot(&project()).await.unwrap().revision, Revision(7));
    assert_eq!(*heard.lock().unwrap(), ["the control plane does not answer; trying again"], "said once");
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_response_with_another_request_id_is_dropped() {
    // The first answer comes twice; the second copy arrives only when the next request is on its way.
    let late = Arc::new(Mutex::new(Vec::new()));
    let server = Server::new(move |seen, number| {
        let mut late = late.lock().unwrap();
        let holder = json!({ "holder": null });
        match number {
            0 => {
                *late = document(seen, "200 OK", &snapshot());
                Reply::Send(late.clone())
            }
            1 => Reply::Send(std::mem::take(&mut *late)),
            _ => Reply::Send(document(seen, "200 OK", &holder)),
        }
    });
    let client = server.client();
    client.snapshot(&project()).await.unwrap();
    assert_eq!(client.lease_holder(&project()).await.unwrap(), None);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let other = Server::new(|seen, _| Reply::Send(document(seen, "200 OK", &snapshot())));
    let target = format!("http://{}/v1/projects/shop", other.address);
    let location = format!("location: {target}?secret=1\r\n");
    let server = Server::new(move |_, _| Reply::Send(answer("307 Temporary Redirect", &location, "")));
    let (exit, finding) = report(&server.client().snapshot(&project()).await.unwrap_err());
    assert_eq!((exit, finding.code.as_str()), (Exit::Unreachable, "control.redirected"));
    assert!(finding.message.contains(&target) && !finding.message.contains("secret"), "{}", finding.message);
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn creating_a_token_is_not_retried() {
    let server = Server::new(|_, _| Reply::Cut(Vec::new()));
    let request = TokenRequest { project: Some(project()), scope: Scope::Read, note: String::new(), ttl: None };
    let (exit, finding) = report(&server.client().create_token(&request).await.unwrap_err());
    assert_eq!(exit, Exit::Unreachable);
    assert!(finding.help.unwrap().starts_with("a token may have been created whose text is lost"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn errors_keep_their_situation() {
    let held = LeaseHolder {
        user: "me".into(),
        host: "there".into(),
        process: 7,
        process_start: None,
        since: Timestamp(0),
        nonce: Some(LeaseNonce::new([1; 16])),
    };
    let asked = held.clone();
    let server = Server::new(move |seen, number| {
        let finding = Diagnostic::new("auth.scope", "token x has the scope `read`, and this needs `apply`");
        Reply::Send(match number {
            0 => error(seen, &ControlError::LeaseHeld { project: project(), holder: held.clone() }),
            _ => error(seen, &ControlError::NotAuthorised(finding)),
        })
    });
    let client = server.client();
    let refused = client.acquire_lease(&project(), asked).await.unwrap_err();
    assert!(
        matches!(&refused, ControlError::LeaseHeld { holder, .. } if holder.host == "there" && holder.nonce.is_none()),
        "{refused}"
    );
    // The request holds the nonce; an answer that names the holder does not.
    let body: Value = serde_json::from_str(&server.seen()[0].body).unwrap();
    assert_eq!(body["attempt"], "01".repeat(16));
    let (exit, finding) = report(&client.fingerprint_key(&project(), IfMissing::ReturnNone).await.unwrap_err());
    assert_eq!((exit, finding.code.as_str()), (Exit::NotAuthorised, ControlError::SCOPE_MISSING));
}

/// Runs one removal, and hands out what it said and how it ended.
async fn run(client: &HttpControlPlane) -> (Vec<String>, Result<OperationOutcome, ControlError>) {
    let said = Mutex::new(Vec::new());
    let outcome = client.run(&lease(), removal(), &|words| said.lock().unwrap().push(words)).await;
    (said.into_inner().unwrap(), outcome)
}

fn done() -> OperationOutcome {
    OperationOutcome::Done { operation: OperationId::new("op-1") }
}

#[tokio::test]
async fn a_cut_event_stream_resumes_after_its_last_event() {
    let server = Server::new(|seen, number| {
        let streams = seen.line.ends_with("/events");
        match number {
            0 => Reply::Send(document(seen, "202 Accepted", &operation("running"))),
            1 => Reply::Cut(stream(&format!(": hello\n\n{}{}id: 3\ndata: {{\"type\"", notice(1), notice(2)))),
            2 => Reply::Cut(Vec::new()),
            3 => Reply::Send(answer("502 Bad Gateway", "content-type: text/html\r\n", "<html>")),
            _ if streams => Reply::Cut(stream(&format!("{}{}{}{}", notice(2), notice(3), notice(3), ended(4)))),
            _ => panic!("{seen:?}"),
        }
    });
    let (said, outcome) = run(&server.client()).await;
    assert_eq!(outcome.unwrap(), done());
    assert_eq!(said, ["n1", "n2", "n3"]);
    let seen = server.seen();
    assert_eq!(seen[0].line, "POST /v1/projects/shop/operations");
    assert_eq!(
        (&*seen[0].headers["convexinfra-fence"], &*seen[0].headers["idempotency-key"]),
        ("3", "sha256:ab/destroy:backend.dev")
    );
    assert_eq!(seen[1].headers.get("last-event-id"), None);
    assert_eq!(seen[4].headers["last-event-id"], "2");
}

#[tokio::test]
async fn an_operation_is_polled_where_event_streams_do_not_come_through() {
    for silent in [true, false] {
        let server = Server::new(move |seen, number| match (number, seen.line.ends_with("/events")) {
            (0, _) => Reply::Send(document(seen, "202 Accepted", &operation("running"))),
            // Something on the way keeps the stream to itself, or makes something else of it.
            (_, true) if silent => Reply::Hang(stream("")),
            (_, true) => Reply::Send(answer("200 OK", "content-type: application/json\r\n", "{}")),
            (2 | 3, false) => Reply::Send(document(seen, "200 OK", &operation("running"))),
            (_, false) => Reply::Send(document(seen, "200 OK", &operation("done"))),
        });
        let timeouts = ClientTimeouts { stream_idle: Duration::from_millis(400), ..TIMEOUTS };
        let (_, outcome) = run(&client_with(&format!("http://{}", server.address), timeouts)).await;
        assert_eq!(outcome.unwrap(), done());
        let looks = server.seen().iter().filter(|seen| seen.line == "GET /v1/projects/shop/operations/op-1").count();
        assert_eq!(looks, 3, "silent: {silent}");
    }
}

#[tokio::test]
async fn an_earlier_operation_on_the_backend_is_waited_for() {
    let server = Server::new(|seen, number| match number {
        0 | 1 => Reply::Send(error(
            seen,
            &ControlError::OperationRunning {
                backend: BackendName::parse("dev").unwrap(),
                operation: OperationId::new("op-0"),
            },
        )),
        _ => Reply::Send(document(seen, "200 OK", &operation("done"))),
    });
    let (said, outcome) = run(&server.client()).await;
    assert_eq!(outcome.unwrap(), done());
    assert_eq!(said, ["waits for an earlier operation on `dev` to end: op-0"]);
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.body == server.seen()[0].body), "the same piece of work each time");
}

#[tokio::test]
async fn a_restarting_control_plane_is_waited_for() {
    // Two sockets at one port: the second one keeps it from everybody else while nobody listens.
    let bound = |address: SocketAddr| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket
    };
    let listening = |socket: tokio::net::TcpSocket| {
        let listener = socket.listen(16).unwrap().into_std().unwrap();
        listener.set_nonblocking(false).unwrap();
        listener
    };
    let listener = listening(bound(([127, 0, 0, 1], 0).into()));
    let address = listener.local_addr().unwrap();
    let kept = bound(address);
    let client = client(&format!("http://{address}"));
    // It answers once and is gone, and nobody listens for a while.
    let first = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let seen = read(&mut stream).unwrap();
        stream.write_all(&document(&seen, "200 OK", &snapshot())).unwrap();
    });
    client.snapshot(&project()).await.unwrap();
    first.join().unwrap();
    let again = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        Server::on(listening(kept), |seen, _| Reply::Send(document(seen, "200 OK", &operation("done"))))
    };
    // Longer than a control plane that never answered is waited for.
    let ((said, outcome), again) = tokio::join!(run(&client), again);
    assert_eq!(outcome.unwrap(), done());
    assert_eq!(said, ["the control plane does not answer; trying again"]);
    assert_eq!(again.seen().len(), 1);
}

#[tokio::test]
async fn a_token_with_a_line_break_is_never_sent() {
    let server = Server::new(|seen, _| Reply::Send(document(seen, "200 OK", &snapshot())));
    let url = ControlPlaneUrl::parse(&format!("http://{}", server.address)).unwrap();
    let token = Box::new(Fixed("cvxi_1\r\nx-evil: 1"));
    let client =
        HttpControlPlane::new(ClientConfig { url, token, certificates: None, timeouts: TIMEOUTS, on_wait: Box::new(drop) })
            .unwrap();
    let (exit, finding) = report(&client.snapshot(&project()).await.unwrap_err());
    assert_eq!((exit, finding.code.as_str()), (Exit::NotAuthorised, "auth.token_malformed"));
    assert!(!finding.message.contains("cvxi_1") && server.seen().is_empty());
}
