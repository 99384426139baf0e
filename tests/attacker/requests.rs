//! Heads and bodies that lie, stop half way, or are too large, against every endpoint.

use std::io::Write;
use std::net::TcpStream;

use convexinfra::api::endpoint::HttpMethod;
use convexinfra::api::endpoints::ALL;
use serde_json::json;

use super::raw::{RawRequest, read_response};
use super::{Target, path_of};

#[test]
fn headers_that_are_there_twice_are_refused() {
    let target = Target::new();
    for endpoint in ALL {
        let request = || RawRequest::new(endpoint.method.as_str(), &path_of(endpoint));
        if endpoint.error_statuses().contains(&401) {
            let twice = request().token(Some(&target.tokens["stranger"]));
            let response = target.send("operator", twice);
            assert_eq!(
                (response.status, response.code().as_str()),
                (401, "auth.token_missing"),
                "{}: {response:?}",
                endpoint.id
            );
        }
        if endpoint.fenced {
            let response = target.send("operator", request().header("convexinfra-fence", "1").header("convexinfra-fence", "2"));
            assert_eq!(response.status, 400, "{}: {response:?}", endpoint.id);
        }
        for headers in [("Content-Length: 2", "Content-Length: 3"), ("Content-Length: 2", "Transfer-Encoding: chunked")] {
            let ((first, first_value), (second, second_value)) =
                (headers.0.split_once(": ").unwrap(), headers.1.split_once(": ").unwrap());
            let smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
            let response =
                target.send("operator", request().header(first, first_value).header(second, second_value).bytes(smuggled));
            let closes = response.header("connection").is_some_and(|value| value.contains("close"));
            assert!(response.status == 400 || closes, "{}: {response:?}", endpoint.id);
        }
    }
    target.assert_well();
}

#[test]
fn bodies_that_are_too_large_or_of_another_kind_are_refused_before_they_are_read() {
    let target = Target::new();
    for endpoint in ALL.into_iter().filter(|endpoint| endpoint.body.is_some()) {
        let request = || {
            let request = RawRequest::new(endpoint.method.as_str(), &path_of(endpoint));
            let request = request.header("Content-Type", "application/json");
            if endpoint.fenced { request.header("convexinfra-fence", "1") } else { request }
        };
        let large = request().header("Content-Length", &(65 << 10).to_string()).bytes(&vec![b' '; 65 << 10]);
        let response = target.send("operator", large);
        assert_eq!((response.status, response.code().as_str()), (413, "wire.too_large"), "{}: {response:?}", endpoint.id);
        // Without a length it is counted while it comes.
        let chunks = "1000\r\n".to_owned() + &" ".repeat(0x1000) + "\r\n";
        let chunked = request().header("Transfer-Encoding", "chunked").bytes(chunks.repeat(40).as_bytes());
        let response = target.send("operator", chunked);
        assert_eq!((response.status, response.code().as_str()), (413, "wire.too_large"), "{}: {response:?}", endpoint.id);
        let huge = request().header("Content-Length", "9000000000000000000").bytes(b"{");
        assert_eq!(target.send("operator", huge).status, 413, "{}", endpoint.id);
        for (body, status) in
            [("[]", 400), ("null", 400), ("{", 400), ("{} {}", 400), ("{\"surprise\":1}", 400), ("\u{0}", 400)]
        {
            let sent = request().header("Content-Length", &body.len().to_string()).bytes(body.as_bytes());
            let response = target.send("operator", sent);
            // Without its fence, or for a lease that is not there, it may be refused earlier.
            assert_eq!(response.status, status, "{} with {body:?}: {response:?}", endpoint.id);
        }
        let form = RawRequest::new(endpoint.method.as_str(), &path_of(endpoint)).header("convexinfra-fence", "1");
        let form = form.header("Content-Type", "application/x-www-form-urlencoded").header("Content-Length", "3").bytes(b"a=1");
        assert_eq!(target.send("operator", form).status, 415, "{}", endpoint.id);
    }
    target.assert_well();
}

/// A refusal that comes before the body was read says that the connection ends, or reads on.
#[test]
fn a_refusal_before_the_body_says_that_the_connection_closes() {
    let target = Target::new();
    for endpoint in
        ALL.into_iter().filter(|endpoint| endpoint.method != HttpMethod::Get && endpoint.error_statuses().contains(&401))
    {
        let request =
            RawRequest::new(endpoint.method.as_str(), &path_of(endpoint)).header("Content-Length", "1000").bytes(b"{");
        let response = target.send("malformed", request);
        assert_eq!((response.status, response.header("connection")), (401, Some("close")), "{}: {response:?}", endpoint.id);
    }
    // A body that was read leaves the connection open for the next request.
    let mut stream = TcpStream::connect(target.address).unwrap();
    for _ in 0..3 {
        let body = json!({ "scope": "read" }).to_string();
        let head = format!(
            "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            target.tokens["operator"],
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, 422);
    }
}

#[test]
fn bodies_that_stop_half_way_are_not_waited_for() {
    let target = Target::with(&[("CONVEXINFRA_REQUEST_TIMEOUT", "4s")]);
    let mut open = Vec::new();
    for endpoint in ALL.into_iter().filter(|endpoint| endpoint.body.is_some()) {
        let mut stream = TcpStream::connect(target.address).unwrap();
        let fence = if endpoint.fenced { "convexinfra-fence: 1\r\n" } else { "" };
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{fence}Content-Length: 100\r\n\r\n{{",
            endpoint.method.as_str(),
            path_of(endpoint),
            target.tokens["operator"],
        );
        stream.write_all(head.as_bytes()).unwrap();
        open.push((endpoint, stream));
    }
    target.assert_well();
    for (endpoint, mut stream) in open {
        let response = read_response(&mut stream);
        assert_eq!((response.status, response.code().as_str()), (408, "server.timeout"), "{}: {response:?}", endpoint.id);
    }
    target.assert_well();
}

#[test]
fn a_body_that_readers_take_in_two_ways_is_refused() {
    let target = Target::new();
    let operation = |spec: &str, secrets: &str| {
        format!(
            r#"{{"step":{{"plan":"p","step":"s"}},"backend":"dev","work":{{"kind":"put","spec":{{"provider":"simulated",{spec}}},"secrets":{{{secrets}}}}}}}"#
        )
    };
    let listen = r#""settings":{"simulated":{"listen":false}}"#;
    let plain = operation(listen, "");
    let env = operation(&format!(r#"{listen},"env":{{"A":{{"literal":"1"}},"A":{{"literal":"2"}}}}"#), r#""env.A":"1""#);
    let escaped = operation(&format!(r#"{listen},"env":{{"A":{{"literal":"1"}}}}"#), r#""env.A":"1","env.\u0041":"2""#);
    let json = "application/json";
    for (what, body, kind, encoding, status, code) in [
        ("a variable twice", &env, json, None, 400, "wire.body"),
        ("a secret twice, once escaped", &escaped, json, None, 400, "wire.body"),
        ("another charset", &plain, "application/json; charset=utf-16", None, 415, "wire.content_type"),
        ("another parameter", &plain, "application/json; boundary=x", None, 415, "wire.content_type"),
        ("compressed", &plain, json, Some("gzip"), 415, "wire.content_encoding"),
        ("as it is", &plain, "Application/JSON; charset=\"UTF-8\"", Some("identity"), 409, "control.lease_lost"),
    ] {
        let request = RawRequest::new("POST", "/v1/projects/demo/operations").header("convexinfra-fence", "1");
        let request = request.header("Content-Type", kind).header("Content-Length", &body.len().to_string());
        let request = encoding.into_iter().fold(request, |request, encoding| request.header("Content-Encoding", encoding));
        let response = target.send("apply", request.bytes(body.as_bytes()));
        assert_eq!((response.status, response.code().as_str()), (status, code), "{what}: {response:?}");
    }
    target.assert_well();
}

#[test]
fn secrets_in_the_wrong_place_are_not_repeated() {
    let target = Target::new();
    let canary = "hunter2-canary";
    for endpoint in ALL {
        for request in [
            RawRequest::new(endpoint.method.as_str(), &format!("{}?{canary}={canary}", path_of(endpoint))),
            RawRequest::new(endpoint.method.as_str(), &path_of(endpoint))
                .header("X-Canary", canary)
                .header("convexinfra-fence", canary),
            RawRequest::new(endpoint.method.as_str(), &path_of(endpoint))
                .header("convexinfra-fence", "1")
                .json(&json!({ canary: canary, "work": canary, "step": canary })),
        ] {
            let response = target.send("operator", request);
            // The name of a key is not its value.
            let is_a_name = response.code() == "wire.body" || response.code() == "wire.query" || response.status < 400;
            assert!(!response.body.contains(canary) || is_a_name, "{}: {response:?}", endpoint.id);
        }
    }
    assert!(!target.server.log().contains(canary), "{}", target.server.log());
    target.assert_well();
}
