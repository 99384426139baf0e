//! Event streams of one token: so many and no more, and room for others.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use super::Target;
use super::raw::{RawRequest, read_head};
use super::raw_project::Project;
use fixture::wait_until;

/// How many streams one token may have, and how many one operation.
const PER_TOKEN: usize = 64;
const PER_OPERATION: usize = 32;

#[test]
fn a_token_has_a_number_of_streams_and_leaves_room_for_others() {
    let target = Target::with(&[("CONVEXINFRA_ALLOW_DATABASE_HOSTS", "127.0.0.1")]);
    let project = Project::new(&target, "demo".to_owned());
    // Accepts connections and says nothing, so that operations that wait for it go on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me:pw@{}", listener.local_addr().unwrap());
    let spec = json!({ "provider": "simulated", "storage": { "engine": "postgres", "url": { "env": "U" }, "tls": "disable" } });
    let work = json!({ "kind": "put", "spec": spec, "secrets": { "storage.url": url } });
    let operations: Vec<String> = ["a", "b", "c"]
        .map(|backend| project.operate(&project.apply, backend, None, &work).json()["id"].as_str().unwrap().to_owned())
        .into();
    let open = |holder: &str, operation: &str| {
        let path = format!("/v1/projects/demo/operations/{operation}/events");
        let request = RawRequest::new("GET", &path).token(Some(&target.tokens[holder]));
        let mut stream = TcpStream::connect(target.address).unwrap();
        stream.write_all(&request.to_bytes()).unwrap();
        let status = read_head(&mut stream);
        (status, stream)
    };
    let mut streams = Vec::new();
    let mut hold = |holder: &str, operation: usize, count: usize| {
        for number in 0..count {
            let (status, stream) = open(holder, &operations[operation]);
            assert_eq!(status, 200, "stream {number} of {holder} on {operation}");
            streams.push(stream);
        }
    };
    hold("read", 0, PER_OPERATION);
    assert_eq!(open("read", &operations[0]).0, 429, "an operation has as many as it may have");
    hold("read", 1, PER_TOKEN - PER_OPERATION);
    assert_eq!(open("read", &operations[2]).0, 429, "a token has as many as it may have");
    // Others have their own, and looking at the operation itself goes on.
    hold("destroy", 2, 1);
    let path = format!("/v1/projects/demo/operations/{}", operations[0]);
    assert_eq!(target.send("read", RawRequest::new("GET", &path)).status, 200);
    // What is given up is free again.
    drop(streams);
    wait_until("a stream is free again", || open("read", &operations[2]).0 == 200);
    target.assert_well();
}
