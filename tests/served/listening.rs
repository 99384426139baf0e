//! A served control plane as a process: what it prints, who can reach it, what hostile bytes come to, how it stops.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A home, and the server that serves it.
struct Home {
    folder: tempfile::TempDir,
    ports: fixture::PortRange,
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.path().join("backends").exists() {
            fixture::kill_backends(&self.path());
        }
    }
}

/// A server that runs.
struct Running {
    child: Child,
    url: String,
    /// Where its figures are, if it was asked for them.
    metrics: Option<String>,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), ports: fixture::PortRange::take(fixture::PortBudget::Small) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convexinfra"));
        command.args(words.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("CONVEXINFRA_HOME", self.path()).env("HOME", self.folder.path());
        command
            .env("CONVEXINFRA_FIRST_PORT", self.ports.range.start.to_string())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    fn token(&self) -> String {
        let made = self.run("serve --init --again");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
    }

    fn serve(&self, words: &str) -> Running {
        let log = self.folder.path().join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(&format!("serve --listen 127.0.0.1:0 --json --log-format json {words}"));
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let serving: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{line}{}", std::fs::read_to_string(&log).unwrap_or_default()));
        assert_eq!(serving["format"], "convexinfra.serving/1");
        let text = |key: &str| serving[key].as_str().map(str::to_owned);
        Running { child, url: text("url").unwrap(), metrics: text("metrics_url"), log }
    }
}

impl Running {
    fn address(&self) -> SocketAddr {
        self.url.rsplit('/').next().unwrap().parse().unwrap()
    }

    /// What comes back for hostile bytes until the server closes, or has been silent for a while: nothing is an answer too.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        self.exchange_within(bytes, Duration::from_millis(700))
    }

    fn exchange_within(&self, bytes: &[u8], silence: Duration) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(silence)).unwrap();
        // It may close before it has read everything.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn ask_to_stop(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    }
}

fn answers(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).matches("HTTP/1.1 ").count()
}

#[test]
fn the_first_token_is_printed_once() {
    let home = Home::new();
    let made = home.run("serve --init");
    let token = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && token.starts_with("cvxi_") && token.lines().count() == 1, "{token}");
    assert!(!String::from_utf8(made.stderr).unwrap().contains(token.trim_end()));
    let refused = home.run("serve --init");
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(4), 0));
    assert!(words.contains("serve --init --again"), "{words}");
    let again = home.run("serve --init --again --json");
    let document: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(document["format"], "convexinfra.token/1");
    let other = document["token"].as_str().unwrap();
    assert_ne!(other, token.trim_end());
    for file in std::fs::read_dir(home.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in [token.trim_end(), other] {
            let hidden = secret.split('_').nth(2).unwrap().as_bytes();
            assert!(!bytes.windows(hidden.len()).any(|part| part == hidden), "{} holds a token", path.display());
        }
    }
}

#[test]
fn plain_http_is_refused_beyond_loopback() {
    let home = Home::new();
    for (words, exit, code) in [
        ("serve --listen 0.0.0.0:0 --json", 4, "serve.in_clear"),
        ("serve --listen [::]:0 --json", 4, "serve.in_clear"),
        ("serve --listen somewhere --json", 64, "usage"),
        ("serve --tls-cert a.pem --json", 64, "usage"),
        ("serve --tls-cert a.pem --tls-key b.pem --json", 64, "serve.tls"),
        ("serve --again --json", 64, "usage"),
    ] {
        let ran = home.run(words);
        let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(
            (ran.status.code(), document["errors"][0]["code"].as_str()),
            (Some(exit), Some(code)),
            "{words}: {document}"
        );
    }
    // Nothing was made for nothing.
    assert!(!home.path().exists());
    let running = home.serve("");
    let taken = home.run(&format!("serve --json --listen {}", running.address()));
    let document: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!(document["errors"][0]["code"], "serve.address");
    let second = home.run("serve --json --listen 127.0.0.1:0");
    let document: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!((second.status.code(), document["errors"][0]["code"].as_str()), (Some(4), Some("home.occupied")), "{document}");
}

#[test]
fn hostile_bytes_get_a_clean_no_and_the_server_goes_on() {
    let home = Home::new();
    let token = home.token();
    let running = home.serve("");
    let head = "POST /v1/tokens HTTP/1.1\r\nHost: x\r\n";
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let texts = [
        "\r\n\r\n\r\n".to_owned(),
        "GET /\r\n".to_owned(),
        "GET / HTTP/0.9\r\n\r\n".to_owned(),
        "GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: x\r\nA: a\0b\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: x\r\nA: 1\r\n folded\r\n\r\n".to_owned(),
        "GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n".to_owned(),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(64 << 10)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 << 10)),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: 1\r\n".repeat(80)),
        format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!{smuggled}"),
        format!("{head}Content-Length: 5, 6\r\n\r\nhello!{smuggled}"),
        format!("{head}Content-Length: +5\r\n\r\nhello{smuggled}"),
        format!("{head}Content-Length: -1\r\n\r\n{smuggled}"),
        format!("{head}Content-Length: 99999999999999999999999\r\n\r\n{smuggled}"),
        format!("{head}Content-Length : 5\r\n\r\nhello{smuggled}"),
        format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{smuggled}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{smuggled}"),
        format!("{head}Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 50000000\r\n\r\n{{"),
    ];
    for text in &texts {
        let answer = running.exchange(text.as_bytes());
        let shown = String::from_utf8_lossy(&answer);
        let start: String = text.chars().take(160).collect();
        assert!(answer.is_empty() || shown.starts_with("HTTP/1.1 4"), "{start:?}: {shown}");
        assert!(answers(&answer) <= 1, "{start:?} is two requests: {shown}");
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\xff\xfe\xfd\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let answer = running.exchange(bytes);
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 2"), "{bytes:?}");
    }
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let well = running.exchange_within(request, fixture::DEADLINE);
    assert!(String::from_utf8_lossy(&well).starts_with("HTTP/1.1 200 OK\r\n"));
    let log = std::fs::read_to_string(&running.log).unwrap();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == "INFO")), "{log}");
    assert!(!log.contains(token.split('_').nth(2).unwrap()), "the log holds the token");
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().timeout(fixture::DEADLINE)
}

#[tokio::test]
async fn work_outlives_the_server_that_took_it() {
    let home = Home::new();
    let token = home.token();
    let client = client().build().unwrap();
    let running = home.serve("--shutdown-grace 1s");
    let project = format!("{}/v1/projects/demo", running.url);
    let holder = json!({ "user": "u", "host": "h", "process": 1 });
    let lease: Value =
        client.post(format!("{project}/lease")).bearer_auth(&token).json(&holder).send().await.unwrap().json().await.unwrap();
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        let work = json!({ "kind": "put", "spec": { "provider": "simulated" }, "secrets": {} });
        let request = json!({ "step": { "plan": "p", "step": name }, "backend": name, "work": work });
        let sent = client.post(format!("{project}/operations")).bearer_auth(&token).json(&request);
        let accepted = sent.header("convexinfra-fence", lease["fence"].as_u64().unwrap()).send().await.unwrap();
        assert_eq!(accepted.status(), 202);
        ids.push(accepted.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned());
    }
    running.ask_to_stop();
    let mut running = running;
    assert!(running.child.wait().unwrap().success());
    let running = home.serve("");
    for id in ids {
        let url = format!("{}/v1/projects/demo/operations/{id}/events", running.url);
        let events = client.get(url).bearer_auth(&token).send().await.unwrap().text().await.unwrap();
        assert!(events.contains(r#""type":"ended""#) && events.contains(r#""state":"done""#), "{events}");
    }
    let url = format!("{}/v1/projects/demo/backends", running.url);
    let backends: Value = client.get(url).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    let states: Vec<_> = backends.as_array().unwrap().iter().map(|backend| &backend["observation"]["state"]).collect();
    assert_eq!(states, ["running"; 3], "{backends}");
}

fn certificate(folder: &Path) -> (PathBuf, PathBuf, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key, made.cert.pem())
}

#[tokio::test]
async fn with_a_certificate_it_talks_tls_and_http_2() {
    let home = Home::new();
    let (certificate, key, pem) = certificate(home.folder.path());
    let words = format!("--tls-cert {} --tls-key {}", certificate.display(), key.display());
    let running = home.serve(&words);
    assert!(running.url.starts_with("https://"), "{}", running.url);
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let trusting = client().tls_certs_only([root]).build().unwrap();
    let answer = trusting.get(format!("{}/healthz", running.url)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert!(client().build().unwrap().get(format!("{}/healthz", running.url)).send().await.is_err(), "nobody vouches for it");
    let clear = running.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answers(&clear), 0, "{clear:?}");
    // A key that is none is not quoted.
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n").unwrap();
    let refused = home.run(&format!("serve --listen 127.0.0.1:0 {words}"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(64) && said.contains("key.pem") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn figures_have_a_listener_of_their_own() {
    let home = Home::new();
    let running = home.serve("--metrics-listen 127.0.0.1:0");
    let client = client().build().unwrap();
    let here = client.get(format!("{}/metrics", running.url)).send().await.unwrap();
    assert_eq!(here.status(), 404, "not where clients are");
    let figures = client.get(running.metrics.as_ref().unwrap()).send().await.unwrap().text().await.unwrap();
    let line = r#"convexinfra_requests_total{method="GET",route="unknown",status="404"} 1"#;
    assert!(figures.lines().any(|found| found == line), "{figures}");
}

/// The words behind `serve` in a file for operators, without the quotes and dashes of lists around them.
fn words_for_serve(text: &str) -> String {
    let code: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    // Compose puts the default of `${NAME:-default}` there.
    let mut code = code.join("\n");
    while let Some((before, rest)) = code.split_once("${") {
        let (variable, after) = rest.split_once('}').unwrap();
        let default = variable.split_once(":-").map_or("", |(_, default)| default);
        code = format!("{before}{default}{after}");
    }
    let plain = code.replace(['"', ',', '[', ']'], " ").replace("- --", "--");
    let (_, behind) = plain.split_once(" serve").unwrap();
    let mut words = behind.split_whitespace().peekable();
    let mut flags = Vec::new();
    while let Some(flag) = words.next_if(|word| word.starts_with("--")) {
        flags.push(flag);
        flags.extend(
            words.next_if(|word| !word.starts_with("--") && !word.contains(['=', ':']) || word.starts_with(char::is_numeric)),
        );
    }
    flags.join(" ")
}

#[test]
fn the_service_files_parse_with_the_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/server");
    let home = Home::new();
    for name in ["convexinfra.service", "Containerfile", "compose.yaml"] {
        let words = words_for_serve(&std::fs::read_to_string(folder.join(name)).unwrap());
        assert!(words.contains("--behind-proxy"), "{name}: {words}");
        let ran = home.run(&format!("serve {words} --help"));
        assert!(ran.status.success(), "{name}: {words}\n{}", String::from_utf8_lossy(&ran.stderr));
    }
    // Where there is no systemd, there is nobody to ask about its unit.
    let unit = std::fs::read_to_string(folder.join("convexinfra.service")).unwrap();
    let unit =
        unit.replace("ExecStart=/usr/local/bin/convexinfra", &format!("ExecStart={}", env!("CARGO_BIN_EXE_convexinfra")));
    let copy = home.folder.path().join("convexinfra.service");
    std::fs::write(&copy, unit).unwrap();
    if let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&copy).output() {
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && !said.contains("convexinfra.service:"), "{said}");
    }
}
