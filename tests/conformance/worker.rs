//! The Worker in bare workerd, with its rows on the disk, to be killed and started again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::conversation::ask;
use super::place::Ended;

pub(super) const MASTER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const INIT_SECRET: &str = "an-init-secret-of-at-least-32-characters";

/// A workerd with the Worker in it.
pub(super) struct Worker {
    workerd: PathBuf,
    configuration: PathBuf,
    /// What its bindings are taken from.
    environment: BTreeMap<String, String>,
    running: Option<Ended>,
    /// Where it listens; none before it has been started.
    port: Option<u16>,
    folder: tempfile::TempDir,
}

/// Where its requests go and with what token, when Fly is stood in for.
pub(super) struct Reach<'a> {
    /// What knows every name.
    pub(super) address: SocketAddr,
    pub(super) token: &'a str,
}

/// The workerd to use and the bundle, or that there is none.
fn at_hand() -> Option<(PathBuf, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("worker");
    let workerd = std::env::var_os("CONVEXINFRA_WORKERD").filter(|path| !path.is_empty()).map(PathBuf::from);
    let bundle = root.join("bundle/index.js").exists();
    match workerd.filter(|_| bundle) {
        Some(workerd) => Some((workerd, root)),
        None => {
            let required = std::env::var("CONVEXINFRA_REQUIRE_WORKERD").is_ok_and(|text| text == "1");
            assert!(!required, "CONVEXINFRA_WORKERD has to name a workerd, and worker/make-bundle has to have run");
            let _ = writeln!(std::io::stderr(), "not run: the Worker, for want of CONVEXINFRA_WORKERD and worker/bundle");
            None
        }
    }
}

impl Worker {
    /// Starts it with nothing in its rows; none where it cannot run, which is said.
    pub(super) fn start(outside: Option<&Reach<'_>>) -> Option<Self> {
        let (workerd, root) = at_hand()?;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("storage")).unwrap();
        let mut configuration = fs::read_to_string(root.join("workerd.capnp")).unwrap();
        if let Some(outside) = outside {
            let line = configuration.lines().find(|line| line.contains("name = \"outside\"")).unwrap().to_owned();
            let service = format!("    (name = \"outside\", external = (address = \"{}\", http = ())),", outside.address);
            configuration = configuration.replace(&line, &service);
        }
        // What is embedded is looked for beside the configuration.
        std::os::unix::fs::symlink(root.join("bundle"), folder.path().join("bundle")).unwrap();
        let path = folder.path().join("workerd.capnp");
        fs::write(&path, configuration).unwrap();
        let token = outside.map_or_else(String::new, |outside| outside.token.to_owned());
        let environment = [
            ("CONVEXINFRA_MASTER_KEY", MASTER_KEY.to_owned()),
            ("CONVEXINFRA_INIT_SECRET", INIT_SECRET.to_owned()),
            ("FLY_API_TOKEN", token),
            ("CONVEXINFRA_FLY_API", "http://api.machines.dev".to_owned()),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut worker = Self { workerd, configuration: path, environment, running: None, port: None, folder };
        worker.run();
        Some(worker)
    }

    /// Changes what its bindings are taken from, for the next start.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Starts it over the rows that it had, at the address that it had.
    pub(super) fn run(&mut self) {
        let storage = format!("storage={}", self.folder.path().join("storage").display());
        let socket = format!("http=127.0.0.1:{}", self.port.unwrap_or_default());
        let mut child = Command::new(&self.workerd)
            .arg("serve")
            .arg(&self.configuration)
            .args(["--directory-path", &storage, "--socket-addr", &socket, "--control-fd=1"])
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let running = Ended(child);
        let port = lines.find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
            event["port"].as_u64()
        });
        let port = port.unwrap_or_else(|| panic!("workerd did not start: {}", self.log()));
        (self.running, self.port) = (Some(running), Some(u16::try_from(port).unwrap()));
    }

    /// Kills it, as a loss of power would.
    pub(super) fn kill(&mut self) {
        self.running = None;
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.unwrap())
    }

    /// Returns how many bytes its objects keep on the disk.
    pub(super) fn stored_bytes(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            let Ok(about) = fs::metadata(path) else { return 0 };
            if about.is_file() {
                return about.len();
            }
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
        }
        size(&self.folder.path().join("storage"))
    }

    /// What it said.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Makes the first token.
    pub(super) fn initialise(&self) -> String {
        let answer = ask(&self.url(), "POST", "/init", Some(INIT_SECRET), &[], None);
        assert_eq!(answer.status, 201, "{} {}", answer.text, self.log());
        answer.json()["token"].as_str().unwrap().to_owned()
    }
}
