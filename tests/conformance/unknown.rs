//! Questions about projects that never were leave nothing behind on the Worker, where every project has rows of its own.

use serde_json::json;

use super::conversation::{Answer, ask};
use super::worker::Worker;

#[test]
fn a_question_about_no_project_keeps_no_rows() {
    const QUESTIONS: u64 = 24;
    let Some(worker) = Worker::start(None) else { return };
    let operator = worker.initialise();
    let look = |path: &str| ask(&worker.url(), "GET", path, Some(&operator), &[], None);
    let send = |method: &str, path: &str, body: &serde_json::Value| -> Answer {
        let text = body.to_string();
        ask(&worker.url(), method, path, Some(&operator), &[("content-type", "application/json")], Some(text.as_bytes()))
    };
    // One that is kept says how large rows are.
    let before = worker.stored_bytes();
    assert_eq!(send("POST", "/v1/tokens", &json!({ "project": "kept", "scope": "read" })).status, 201);
    let kept = worker.stored_bytes() - before;
    for number in 0..QUESTIONS {
        for rest in ["", "/lease", "/events", "/backends"] {
            assert_eq!(look(&format!("/v1/projects/never-{number}{rest}")).status, 200);
        }
        assert_eq!(look(&format!("/v1/projects/never-{number}/backends/dev")).status, 404);
    }
    let left = worker.stored_bytes() - before;
    assert!(left < kept * 8, "{left} bytes after {QUESTIONS} questions, {kept} for a project that is kept");
    // What is kept stays, and a lease is something: its fence is never given again.
    assert_eq!(look("/v1/projects/kept/events").json().as_array().unwrap().len(), 1);
    let holder = json!({ "user": "ann", "host": "desk", "process": 1 });
    let first = send("POST", "/v1/projects/never-1/lease", &holder);
    assert_eq!(first.status, 201, "{}", first.text);
    let seen = look("/v1/projects/never-1/lease").json();
    assert_eq!(seen["holder"]["user"], "ann", "{seen}");
}
