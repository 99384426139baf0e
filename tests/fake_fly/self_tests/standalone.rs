//! The stand-in as a process of its own, for what runs longer than a test or is no test at all.
//!
//! ```text
//! FLY_STAND_IN=1 cargo test --test fake_fly standalone::serve -- --exact --ignored --nocapture
//! ```
//!
//! prints one line that begins with `fly-stand-in: ` and is a JSON object from there on: `url`, `host_url`, `proxy_url`,
//! `authority`, `token`, `control`. It serves until its standard input ends. What it can be told is in `control`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use fake_fly::FakeFly;
use fake_fly::settings::{Settings, TOKEN};

const ASKED: &str = "FLY_STAND_IN";
const MARK: &str = "fly-stand-in: ";

#[test]
#[ignore = "it serves until its standard input ends; `Standalone` starts it"]
fn serve() {
    // Running all ignored tests does not ask for it.
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    let stand_in = FakeFly::start(Settings::default().with_processes().hurried(20));
    let described = json!({
        "url": stand_in.url(),
        "host_url": stand_in.host_url(),
        "proxy_url": stand_in.proxy_url(),
        "authority": stand_in.authority(),
        "control": format!("{}/stand-in", stand_in.host_url()),
        "token": TOKEN,
    });
    // The name of the test stands on the line already.
    writeln!(std::io::stdout(), "\n{MARK}{described}").unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A stand-in in another process, which ends with this value.
pub(crate) struct Standalone {
    child: Child,
    /// Kept open, because the test that serves says how it went.
    _said: BufReader<ChildStdout>,
    /// What it said about itself.
    pub(crate) described: Value,
}

impl Standalone {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["standalone::serve", "--exact", "--ignored", "--nocapture"])
            .env(ASKED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with(MARK) {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended without a word");
        }
        let described = serde_json::from_str(&line[MARK.len()..]).unwrap();
        Self { child, _said: said, described }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.described[name].as_str().unwrap()
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
