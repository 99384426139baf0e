//! An attacker that stays: a raw HTTP client with each scope against every endpoint of the table, and hostile clients.
//!
//! The table of endpoints drives it, so that an endpoint is attacked on the day that it is added. Everything is bounded
//! in number and time, and goes to 127.0.0.1 only.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod allow_lists;
mod bounds;
mod databases;
mod endpoints;
mod leaks;
mod origins;
mod policy;
mod policy_rules;
mod raw;
mod raw_project;
mod requests;
mod servers;
mod streams;
mod tenants;
mod tokens;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use convexinfra::api::endpoint::Endpoint;
use serde_json::json;

use fixture::{PortBudget, PortRange, Server};
use raw::{RawRequest, RawResponse};

/// A server with a token of each scope for the project `demo`, and of one for another project.
struct Target {
    server: Server,
    address: SocketAddr,
    tokens: BTreeMap<&'static str, String>,
    folder: tempfile::TempDir,
    _ports: PortRange,
}

/// The holders of tokens that open something.
const HOLDERS: [&str; 5] = ["read", "apply", "destroy", "operator", "stranger"];

impl Drop for Target {
    fn drop(&mut self) {
        // It would start again what is killed.
        if !self.server.has_ended() {
            self.server.kill();
        }
        fixture::end_processes_of(&self.folder.path().join("home"));
    }
}

impl Target {
    /// Starts a server that takes small bodies.
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(extra: &[(&str, &str)]) -> Self {
        let (folder, ports) = (tempfile::tempdir().unwrap(), PortRange::take(PortBudget::Small));
        let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        let mut variables = BTreeMap::from([
            ("HOME".to_owned(), text(folder.path().to_owned())),
            ("CONVEXINFRA_HOME".to_owned(), text(folder.path().join("home"))),
            ("CONVEXINFRA_FIRST_PORT".to_owned(), ports.range.start.to_string()),
            ("CONVEXINFRA_BODY_LIMIT".to_owned(), "64 KiB".to_owned()),
            ("CONVEXINFRA_REQUEST_TIMEOUT".to_owned(), "60s".to_owned()),
            ("CONVEXINFRA_SHUTDOWN_GRACE".to_owned(), "1s".to_owned()),
        ]);
        variables.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let operator = Server::init(&variables);
        let server = Server::start(&variables);
        let address = server.url.strip_prefix("http://").unwrap().parse().unwrap();
        let mut target = Self { server, address, tokens: BTreeMap::from([("operator", operator)]), folder, _ports: ports };
        for (holder, scope, project) in [
            ("read", "read", "demo"),
            ("apply", "apply", "demo"),
            ("destroy", "destroy", "demo"),
            ("stranger", "destroy", "other"),
        ] {
            let body = json!({ "scope": scope, "project": project, "note": holder });
            let made = target.send("operator", RawRequest::new("POST", "/v1/tokens").json(&body));
            assert_eq!(made.status, 201, "{made:?}");
            target.tokens.insert(holder, made.json()["token"].as_str().unwrap().to_owned());
        }
        // Well formed, down to its checksum, and issued by nobody.
        let body = format!("aaaaaaaaaa_{}", "0".repeat(64));
        target.tokens.insert("unknown", format!("cvxi_{body}{:08x}", crc32fast::hash(body.as_bytes())));
        target.tokens.insert("malformed", "cvxi_nonsense".to_owned());
        target
    }

    fn send(&self, holder: &str, request: RawRequest) -> RawResponse {
        request.token(self.tokens.get(holder).map(String::as_str)).send(self.address)
    }

    /// Returns the most memory that the server has had so far.
    fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns how many bytes the server keeps in files.
    fn stored_bytes(&self) -> u64 {
        let mut bytes = 0;
        fixture::walk(self.folder.path(), &mut |path| bytes += path.metadata().map_or(0, |about| about.len()));
        bytes
    }

    /// Checks that it answers who asks whether it lives.
    fn assert_healthy(&self) {
        assert_eq!(self.send("none", RawRequest::new("GET", "/healthz")).status, 200);
        assert_eq!(self.send("none", RawRequest::new("GET", "/readyz")).status, 200);
    }

    /// Checks that the server is as well as before.
    fn assert_well(&self) {
        self.assert_healthy();
        let log = self.server.log();
        assert!(!log.contains("ended by a panic"), "{log}");
        for token in HOLDERS.iter().filter_map(|holder| self.tokens.get(holder)) {
            assert!(!log.contains(token.split('_').nth(2).unwrap()), "the log holds a token");
        }
    }
}

/// The path of an endpoint in the project `demo`.
fn path_of(endpoint: &Endpoint) -> String {
    path_in(endpoint, "demo")
}

fn path_in(endpoint: &Endpoint, project: &str) -> String {
    let path = endpoint.path.replace("{project}", project).replace("{backend}", "dev");
    path.replace("{operation}", "1").replace("{token}", "aaaaaaaaaa")
}
