//! The server, and laptops that reach it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use convexinfra::model::Server;
use fixture::{ProjectFixture, skipped, wait_until};

use crate::rig::{BACKEND, Engine, unique, with_images};

/// The server that was started for these tests.
pub(crate) struct Lab {
    pub(crate) folder: PathBuf,
    /// Its engine, reached without SSH: the second opinion.
    pub(crate) engine: Engine,
}

/// Returns the server; none where there is none, which is said once.
pub(crate) fn lab() -> Option<&'static Lab> {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    LAB.get_or_init(prepare).as_ref()
}

fn prepare() -> Option<Lab> {
    let required = std::env::var("CONVEXINFRA_REQUIRE_SERVER").is_ok_and(|value| value == "1");
    let Some(folder) = std::env::var("CONVEXINFRA_TEST_SERVER").ok().filter(|folder| !folder.is_empty()) else {
        assert!(
            !required,
            "`CONVEXINFRA_REQUIRE_SERVER` is set, and `CONVEXINFRA_TEST_SERVER` names no folder of `tests/server/lab`"
        );
        skipped("`CONVEXINFRA_TEST_SERVER` names no server, so nothing was tried over SSH");
        return None;
    };
    let engine = with_images(format!("unix://{folder}/docker.sock"));
    Some(Lab { folder: folder.into(), engine })
}

/// Skips a test where there is no server.
#[macro_export]
macro_rules! lab_or_skip {
    () => {
        match $crate::lab::lab() {
            Some(lab) => lab,
            None => return,
        }
    };
}

impl Lab {
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap().trim().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The first two words of a public key.
    pub(crate) fn public_key(&self, name: &str) -> String {
        self.read(&format!("{name}.pub")).split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The server as a manifest has it that depends on no SSH configuration.
    pub(crate) fn server(&self) -> Server {
        Server {
            name: "shop".to_owned(),
            host: format!("root@{}", self.read("address")),
            port: None,
            identity: Some(self.path("key")),
            host_key: Some(self.public_key("host_key")),
            socket: Some(self.path("docker.sock")),
        }
    }
}

/// A laptop with a project whose backend is on the server.
pub(crate) struct Laptop {
    pub(crate) lab: &'static Lab,
    pub(crate) name: String,
    pub(crate) world: ProjectFixture,
    /// Where `ssh` puts what is private.
    pub(crate) temporary: PathBuf,
}

impl Laptop {
    pub(crate) fn new(lab: &'static Lab) -> Self {
        Self::with(lab, "host = \"shop\"\n")
    }

    /// A laptop whose manifest says this of the server.
    pub(crate) fn with(lab: &'static Lab, server: &str) -> Self {
        let name = unique("p");
        let mut world = ProjectFixture::new("");
        let temporary = world.root().join("t");
        fs::create_dir(&temporary).unwrap();
        world.set("TMPDIR", temporary.to_str().unwrap());
        let path = format!("{}:{}", lab.path("bin"), std::env::var("PATH").unwrap_or_default());
        world.set("PATH", &path);
        // Whatever is done on the engine of this machine would fail.
        world.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
        let laptop = Self { lab, name, world, temporary };
        laptop.manifest(server, "");
        laptop
    }

    /// Writes the manifest: what it says of the server, and of the backend.
    pub(crate) fn manifest(&self, server: &str, backend: &str) {
        let socket = if server.contains("socket = ") {
            String::new()
        } else {
            format!("socket = \"{}\"\n", self.lab.path("docker.sock"))
        };
        self.world.manifest(&format!(
            "project = \"{}\"\n[servers.shop]\n{server}{socket}[backends.dev]\nprovider = \"docker\"\nserver = \"shop\"\n{backend}\
             [backends.dev.docker]\nimage = \"{BACKEND}\"\npull = \"never\"\n",
            self.name
        ));
    }

    /// Has `ssh` read this configuration instead of the lab's.
    pub(crate) fn configure(&mut self, text: &str) {
        let file = self.world.root().join("ssh_config");
        fs::write(&file, text).unwrap();
        self.world.set("LAB_SSH_CONFIG", file.to_str().unwrap());
    }

    pub(crate) fn everything(&self) -> Vec<String> {
        self.lab.engine.everything(&self.name)
    }

    pub(crate) fn container(&self) -> String {
        self.lab.engine.container(&self.name, "backend")
    }

    /// The processes of `ssh` that this laptop has started, and what of their folders is left.
    pub(crate) fn connections(&self) -> Vec<String> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(self.temporary.to_str().unwrap()) && line.contains("ssh") {
                all.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        all.extend(fs::read_dir(&self.temporary).unwrap().flatten().map(|entry| entry.path().display().to_string()));
        all
    }

    /// Nothing is left of a connection, however its command ended.
    pub(crate) fn assert_disconnected(&self) {
        wait_until("the connection is gone", || self.connections().is_empty());
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        self.lab.engine.clear(&self.name);
    }
}

/// An SSH server of a test's own on the same machine, which it may bend and break.
pub(crate) struct OwnSshd {
    daemon: Child,
    folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl OwnSshd {
    /// An SSH server that is given these lines more.
    pub(crate) fn new(lab: &Lab, more: &str) -> Self {
        static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(2200);
        let port = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let text = lab.read("sshd_config").replace("Port 22\n", &format!("{more}Port {port}\nLogLevel VERBOSE\n"));
        let text = text.replace(&format!("PidFile {}", lab.path("sshd.pid")), "PidFile none");
        let config = folder.path().join("sshd_config");
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        let daemon = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", lab.read("namespace")))
            .args([sshd, "-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { daemon, folder, port };
        wait_until("the SSH server listens", || sshd.log().contains("Server listening"));
        sshd
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// How many connections there have been.
    pub(crate) fn logins(&self) -> usize {
        self.log().lines().filter(|line| line.starts_with("Connection from ")).count()
    }

    /// Its processes, each of which has one connection.
    pub(crate) fn sessions(&self) -> Vec<String> {
        let children = |parent: &str| -> Vec<String> {
            let path = format!("/proc/{parent}/task/{parent}/children");
            fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        children(&self.daemon.id().to_string())
    }

    /// Sends a signal to every one of them.
    pub(crate) fn signal_sessions(&self, signal: &str) {
        for session in self.sessions() {
            let _ = Command::new("kill").args([signal, &session]).status();
        }
    }
}

impl Drop for OwnSshd {
    fn drop(&mut self) {
        self.signal_sessions("-KILL");
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
