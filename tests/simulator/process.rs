//! Every recorded start and stop that has to do with SQLite, done again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use convexinfra::convex::admin_key::{InstanceSecret, KeyKind, check};
use convexinfra::convex::deployment::{Deployment, DeploymentClient, DeploymentError, EnvironmentChange};
use convexinfra::model::Secret;
use rustix::process::Signal;

use super::backend::{NAME, PROGRAM, Place, SECRET, admin_key, key_of};
use fixture::{golden, golden_text};

/// The recorded starts that fail, and how.
const FAILURES: [(&str, i32); 13] = [
    ("no secret", 2),
    ("short secret", 1),
    ("secret not hex", 1),
    ("origin without site", 2),
    ("origin without scheme", 1),
    ("DISABLE_BEACON empty", 2),
    ("port taken", 1),
    ("s3 flag on local data", 1),
    ("postgres url with path", 1),
    ("postgres url without user", 1),
    ("postgres without database", 1),
    ("postgres server down", 1),
    ("postgres ssl required, server without", 1),
];

/// The recorded starts that work.
const STARTS: [&str; 8] = [
    "DISABLE_BEACON false",
    "metrics disabled",
    "metrics disabled=1",
    "version label",
    "other secret on same data",
    "other name on same data",
    "name with pipe",
    "other local storage dir",
];

#[test]
fn the_cases_are_the_recorded_ones() {
    let Some(golden) = golden("convex-process.json") else { return };
    let exit_of = |case: &str| {
        let record = golden.as_array().unwrap().iter().find(|record| record["case"] == case);
        record.unwrap_or_else(|| panic!("`{case}` was not recorded"))["exit"].as_i64()
    };
    for (case, exit) in FAILURES {
        assert_eq!(exit_of(case), Some(i64::from(exit)), "{case}");
    }
    for case in STARTS.into_iter().chain(["SIGINT", "keygen admin-key"]) {
        assert_eq!(exit_of(case), Some(0), "{case}");
    }
    assert_eq!(exit_of("SIGTERM"), Some(-15));
    // What is left out needs a database server.
    let known = FAILURES.len() + STARTS.len() + 3;
    let left_out = golden.as_array().unwrap().iter().filter_map(|record| record["case"].as_str());
    let left_out: Vec<&str> =
        left_out.filter(|case| case.starts_with("postgres") && !FAILURES.iter().any(|(known, _)| known == case)).collect();
    assert_eq!(golden.as_array().unwrap().len(), known + left_out.len(), "besides {left_out:?}");
}

#[tokio::test]
async fn recorded_failures_have_the_same_exit_code() {
    for (case, exit) in FAILURES {
        let place = Place::new();
        let mut setup = place.setup();
        let mut held = None;
        let postgres = |url: &str| vec!["--db".into(), "postgres-v5".into(), url.into()];
        match case {
            "no secret" => setup.without("--instance-secret"),
            "short secret" => setup.flag("--instance-secret", "abcd"),
            "secret not hex" => setup.flag("--instance-secret", "z".repeat(64)),
            "origin without site" => setup.without("--convex-site"),
            "origin without scheme" => setup.flag("--convex-origin", "127.0.0.1:4310"),
            "DISABLE_BEACON empty" => setup.variables.push(("DISABLE_BEACON", String::new())),
            "port taken" => held = Some(TcpListener::bind(("127.0.0.1", setup.api)).unwrap()),
            "s3 flag on local data" => {
                place.start(&setup).await.interrupt();
                setup.without("--local-storage");
                setup.arguments.insert(0, "--s3-storage".into());
            }
            server => {
                setup.arguments.pop();
                setup.arguments.extend(postgres(match server {
                    "postgres url with path" => "postgres://me:hunter2@127.0.0.1:1/x",
                    "postgres url without user" => "postgres://127.0.0.1:1",
                    _ => "postgres://me:hunter2@127.0.0.1:1",
                }));
            }
        }
        assert_eq!(place.failure(&setup), exit, "{case}: {}", place.text());
        assert!(!place.text().is_empty(), "{case} says nothing");
        assert!(!place.text().contains("hunter2") && !place.text().contains(&hex::encode(SECRET)), "{case} says too much");
        drop(held);
    }
}

#[tokio::test]
async fn recorded_starts_start_and_respond_as_recorded() {
    for case in STARTS {
        let place = Place::new();
        let mut setup = place.setup();
        match case {
            "DISABLE_BEACON false" => setup.variables.push(("DISABLE_BEACON", "false".into())),
            "metrics disabled" => setup.variables.push(("DISABLE_METRICS_ENDPOINT", "true".into())),
            "metrics disabled=1" => setup.variables.push(("DISABLE_METRICS_ENDPOINT", "1".into())),
            "version label" => setup.variables.push(("CONVEX_RELEASE_VERSION_DEV", "a-label".into())),
            "name with pipe" => setup.flag("--instance-name", "a|b"),
            _ => {
                place.start(&setup).await.interrupt();
                match case {
                    "other secret on same data" => setup.flag("--instance-secret", hex::encode([8; 32])),
                    "other name on same data" => setup.flag("--instance-name", "renamed"),
                    _ => setup.flag("--local-storage", place.folder.path().join("elsewhere")),
                }
            }
        }
        let mut backend = place.start(&setup).await;
        let old_key = backend.deployment().check_admin_key().await;
        let deployment = Deployment::new(&DeploymentClient::default(), backend.url(), None);
        let metrics = reqwest::get(format!("{}/metrics", backend.url())).await.unwrap().status().as_u16();
        assert_eq!(metrics, if case == "metrics disabled" { 404 } else { 200 }, "{case}");
        let label = if case == "version label" { "a-label" } else { "unknown" };
        assert_eq!(deployment.version().await.unwrap(), label, "{case}");
        assert_eq!(deployment.instance_name().await.unwrap(), setup.value("--instance-name"), "{case}");
        let is_voided = matches!(case, "other secret on same data" | "other name on same data" | "name with pipe");
        match old_key {
            Ok(_) => assert!(!is_voided, "{case}"),
            Err(error) => {
                assert!(is_voided, "{case}: {error}");
                assert!(
                    matches!(&error, DeploymentError::Refused { status: 401, code: Some(code), .. } if code == "BadAdminKey")
                );
            }
        }
        assert_eq!(backend.interrupt().code(), Some(0), "{case}");
    }
}

#[tokio::test]
async fn interrupts_stop_it_and_the_other_signal_kills_it() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;
    assert_eq!(backend.interrupt().code(), Some(0));
    let mut backend = place.start(&place.setup()).await;
    backend.signal(Signal::TERM);
    assert_eq!(backend.wait().signal(), Some(15));
}

#[tokio::test]
async fn a_long_poll_is_cut_short_by_an_interrupt() {
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;
    let mut stream = half_a_request(
        backend.api,
        &format!(
            "GET /api/stream_function_logs?cursor=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Convex {}\r\n\r\n",
            admin_key().expose()
        ),
    );
    assert_eq!(backend.interrupt().code(), Some(0));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"entries\":[]"), "{answer}");
}

#[tokio::test]
async fn a_second_interrupt_does_not_wait() {
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;
    let stream = half_a_request(backend.api, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    backend.signal(Signal::INT);
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", backend.api)).is_ok() {
        assert!(started.elapsed() < fixture::DEADLINE, "it still listens");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(backend.is_running(), "it waits for the request under way");
    assert_eq!(backend.interrupt().code(), Some(0));
    drop(stream);
}

/// Sends a request that keeps the backend busy, after one whole request, so that the connection is known to be served.
fn half_a_request(port: u16, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(fixture::DEADLINE)).unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"unknown") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    stream.write_all(request.as_bytes()).unwrap();
    // The request has arrived once another connection, opened later, has been answered.
    let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
    other.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    other.read_to_end(&mut answer).unwrap();
    stream
}

#[tokio::test]
async fn variables_survive_a_kill() {
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;
    let change = EnvironmentChange { name: "A".into(), value: Some(Secret::new("b")) };
    backend.deployment().change_environment(&[change]).await.unwrap();
    backend.signal(Signal::KILL);
    backend.wait();
    let backend = place.start(&place.setup()).await;
    assert_eq!(backend.deployment().environment().await.unwrap()["A"].expose(), "b");
}

#[tokio::test]
async fn the_secret_may_come_from_the_environment() {
    let place = Place::new();
    let mut setup = place.setup();
    let secret = setup.value("--instance-secret");
    setup.without("--instance-secret");
    setup.variables.push(("INSTANCE_SECRET", secret.clone()));
    let key = key_of(NAME, &secret, KeyKind::Admin { member_id: 0 });
    place.start_with(&setup, NAME, &key).await;
}

#[tokio::test]
async fn files_in_s3_need_all_of_their_variables_and_stay_there() {
    let place = Place::new();
    let mut setup = place.setup();
    let local = setup.clone();
    setup.without("--local-storage");
    setup.arguments.insert(0, "--s3-storage".into());
    for name in [
        "AWS_REGION",
        "S3_STORAGE_EXPORTS_BUCKET",
        "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET",
        "S3_STORAGE_MODULES_BUCKET",
        "S3_STORAGE_FILES_BUCKET",
        "S3_STORAGE_SEARCH_BUCKET",
    ] {
        assert_eq!(place.failure(&setup), 1, "without {name}");
        assert!(place.text().contains(name));
        setup.variables.push((name, "x".into()));
    }
    assert_eq!(place.start(&setup).await.interrupt().code(), Some(0));
    assert_eq!(place.failure(&local), 1, "data begun with S3 does not start with a directory");
}

#[test]
fn keys_are_made_and_printed_alone() {
    let made = Command::new(PROGRAM)
        .args(["simulate-backend", "keygen", "admin-key", "--instance-name", "n", "--instance-secret", &hex::encode(SECRET)])
        .output()
        .unwrap();
    assert!(made.status.success() && made.stderr.is_empty());
    let text = String::from_utf8(made.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.starts_with("n|01"));
    let claims = check(text.trim(), "n", &InstanceSecret::new(SECRET)).unwrap();
    assert_eq!(claims.kind, KeyKind::Admin { member_id: 0 });
}

#[test]
fn every_recorded_flag_is_in_the_help() {
    let help = Command::new(PROGRAM).args(["simulate-backend", "--help"]).output().unwrap();
    assert!(help.status.success());
    let ours = flags(&String::from_utf8(help.stdout).unwrap());
    for flag in ["--db", "--interface", "--port", "--instance-secret", "--local-storage", "--s3-storage", "--disable-beacon"] {
        assert!(ours.contains(flag), "{flag}");
    }
    let Some(recorded) = golden_text("convex-local-backend-help.txt") else { return };
    assert_eq!(ours, flags(&recorded));
}

/// The options that stand at the beginning of a line, short and long.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help.lines().filter(|line| line.trim_start().starts_with('-'));
    lines.flat_map(|line| line.split([' ', ',']).filter(|word| word.starts_with('-')).map(str::to_owned)).collect()
}
