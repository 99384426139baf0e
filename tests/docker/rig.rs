//! A real engine, and images for it that behave like the official ones.
//!
//! The engine is the one in `CONVEXINFRA_TEST_DOCKER` (an address such as `unix:///run/x.sock`): never the one that the
//! user works with. The backend's image is built from this very program and what it needs of this machine; it has the
//! official image's files, ports, user, volume and variables. What it does not have is Convex: no function runs in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use fixture::executable;
use fixture::skipped;

pub const BACKEND: &str = "convexinfra-test/backend:one";
/// Another build of the same, as another release would be.
pub const BACKEND_TWO: &str = "convexinfra-test/backend:two";
/// An image whose backend ends at once; where its volume holds the file `stumbles`, it does so the first time only.
pub const BROKEN: &str = "convexinfra-test/backend:broken";
/// What compose makes for every project.
pub const COMPOSE_NETWORK: &str = "convexinfra-test-compose";
pub const DASHBOARD: &str = "convexinfra-test/dashboard:one";
pub const POSTGRES: &str = "convexinfra-test/postgres:one";
pub const REVISION: &str = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The engine to test with.
pub struct Engine {
    pub host: String,
    pub folder: tempfile::TempDir,
}

/// The engine; none where there is none to test with, which is said once.
pub fn engine() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
    ENGINE.get_or_init(prepare).as_ref()
}

fn prepare() -> Option<Engine> {
    let required = std::env::var("CONVEXINFRA_REQUIRE_DOCKER").is_ok_and(|value| value == "1");
    let Some(host) = std::env::var("CONVEXINFRA_TEST_DOCKER").ok().filter(|host| !host.is_empty()) else {
        assert!(!required, "`CONVEXINFRA_REQUIRE_DOCKER` is set, and `CONVEXINFRA_TEST_DOCKER` names no engine");
        skipped("`CONVEXINFRA_TEST_DOCKER` names no engine, so nothing was tried on Docker");
        return None;
    };
    Some(with_images(host))
}

/// The engine at an address, with the images of these tests.
pub fn with_images(host: String) -> Engine {
    let engine = Engine { host, folder: tempfile::tempdir().unwrap() };
    engine.docker(&["version"]);
    // Made once: an old engine makes two of one name for tests that make it at once.
    if !engine.try_docker(&["network", "inspect", COMPOSE_NETWORK]) {
        engine.docker(&["network", "create", COMPOSE_NETWORK]);
    }
    // 200 MB that only the builds need; what a static holds is never dropped.
    let build = tempfile::tempdir().unwrap();
    engine.build_images(build.path());
    engine
}

/// Skips a test where there is no engine.
#[macro_export]
macro_rules! engine_or_skip {
    () => {
        match $crate::rig::engine() {
            Some(engine) => engine,
            None => return,
        }
    };
}

/// A name that no other test of this or another run has.
pub fn unique(word: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{word}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Engine {
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(words).env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", self.folder.path());
        command.env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
        command
    }

    /// Runs Docker's own command line and gives what it prints.
    pub fn docker(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("the `docker` command is needed beside an engine");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "docker {words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Runs a command with any exit code.
    pub fn try_docker(&self, words: &[&str]) -> bool {
        self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    pub fn inspect(&self, id: &str) -> Value {
        let all: Value = serde_json::from_str(&self.docker(&["inspect", id])).unwrap();
        all[0].clone()
    }

    /// The ids of a project's containers for one purpose.
    pub fn containers(&self, project: &str, role: &str) -> Vec<String> {
        let (project, role) = (format!("label=convexinfra.project={project}"), format!("label=convexinfra.role={role}"));
        let listed = self.docker(&["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &role]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The one container of a project for one purpose.
    pub fn container(&self, project: &str, role: &str) -> String {
        let all = self.containers(project, role);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    /// Everything that an engine has of a project, by kind.
    pub fn everything(&self, project: &str) -> Vec<String> {
        let filter = format!("label=convexinfra.project={project}");
        let mut all = Vec::new();
        for words in [
            &["ps", "-a", "--format", "container {{.Names}}"][..],
            &["volume", "ls", "--format", "volume {{.Name}}"],
            &["network", "ls", "--format", "network {{.Name}}"],
        ] {
            let listed = self.docker(&[words, &["--filter", &filter]].concat());
            all.extend(listed.lines().map(str::to_owned));
        }
        all.sort();
        all
    }

    /// Takes away all that is left of a project.
    pub fn clear(&self, project: &str) {
        for name in self.everything(project) {
            let (kind, name) = name.split_once(' ').unwrap();
            match kind {
                "container" => self.try_docker(&["rm", "-fv", name]),
                kind => self.try_docker(&[kind, "rm", name]),
            };
        }
    }

    /// The exit codes with which a container has ended so far, be it there or not.
    pub fn exit_codes(&self, id: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let (until, container) = (format!("{}", now.as_secs_f64()), format!("container={id}"));
        let format = "{{index .Actor.Attributes \"exitCode\"}}";
        self.docker(&["events", "--until", &until, "--filter", "event=die", "--filter", &container, "--format", format])
    }

    pub fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited too long until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn build_images(&self, folder: &Path) {
        let root = folder.join("backend");
        let programs = ["bash", "cat", "mkdir", "curl", "head", "od", "tr", "sleep", "env", "sort", "ls", "cp", "rm"];
        root_file_system(&root, &programs);
        let program = root.join("convex/convexinfra");
        fs::create_dir_all(root.join("convex")).unwrap();
        let stripped = Command::new("strip").args(["-o", program.to_str().unwrap(), executable()]).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(executable(), &program).unwrap();
        }
        libraries_of(Path::new(executable()), &root);
        for name in ["read_credentials.sh", "run_backend.sh", "generate_admin_key.sh", "convex-local-backend"] {
            script(name, &root.join("convex").join(name));
        }
        let revision = format!("LABEL org.opencontainers.image.revision={REVISION}");
        let official = [
            "WORKDIR /convex",
            "VOLUME /convex/data",
            "EXPOSE 3210",
            "EXPOSE 3211",
            "ENTRYPOINT [\"./run_backend.sh\"]",
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ];
        self.import(&root, BACKEND, &[&official[..], &[&revision]].concat());
        self.import(&root, BACKEND_TWO, &[&official[..], &["LABEL build=two"]].concat());
        script("broken-backend", &root.join("convex/convex-local-backend"));
        self.import(&root, BROKEN, &official);

        let root = folder.join("dashboard");
        root_file_system(&root, &["bash", "env", "sort", "mkdir", "curl"]);
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("`busybox` is needed for the dashboard's stand-in");
        libraries_of(Path::new("/bin/busybox"), &root);
        fs::create_dir_all(root.join("app")).unwrap();
        script("dashboard.sh", &root.join("app/dashboard.sh"));
        // The official one runs as a user without rights too.
        let changes = [
            "USER 1001",
            "EXPOSE 6791",
            "ENV PORT=6791",
            "ENV HOSTNAME_TO_LISTEN_ON=0.0.0.0",
            "ENV PATH=/usr/bin:/bin",
            "ENTRYPOINT [\"/bin/bash\", \"/app/dashboard.sh\"]",
        ];
        self.import(&root, DASHBOARD, &changes);
        self.build_postgres(folder);
    }

    /// PostgreSQL as this machine has it.
    fn build_postgres(&self, folder: &Path) {
        let root = folder.join("postgres");
        root_file_system(&root, &["bash", "cat", "mkdir", "chown", "dirname", "id", "setpriv", "env"]);
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\npostgres:x:999:999::/tmp:/bin/bash\n").unwrap();
        let server = postgres_folder();
        let to = |from: &Path| root.join(from.strip_prefix("/").unwrap());
        for program in ["postgres", "initdb", "pg_ctl", "createdb", "pg_isready", "psql"] {
            let from = server.join("bin").join(program);
            fs::create_dir_all(to(&from).parent().unwrap()).unwrap();
            fs::copy(&from, to(&from)).unwrap();
            libraries_of(&from, &root);
        }
        fs::copy(server.join("bin/pg_isready"), root.join("bin/pg_isready")).unwrap();
        let share = Path::new("/usr/share/postgresql").join(server.file_name().unwrap());
        for folder in [server.join("lib"), share] {
            copy_folder(&folder, &to(&folder));
        }
        script("postgres.sh", &root.join("entry.sh"));
        let changes = ["VOLUME /var/lib/postgresql/data", "ENV PATH=/usr/bin:/bin", "ENTRYPOINT [\"/entry.sh\"]"];
        self.import(&root, POSTGRES, &changes);
    }

    fn import(&self, root: &Path, name: &str, changes: &[&str]) {
        let mut tar =
            Command::new("tar").args(["-C", root.to_str().unwrap(), "-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let mut words = vec!["import"];
        for change in changes {
            words.extend(["--change", change]);
        }
        words.extend(["-", name]);
        let mut command = self.command(&words);
        let status = command.stdin(tar.stdout.take().unwrap()).stdout(Stdio::null()).status().unwrap();
        assert!(status.success() && tar.wait().unwrap().success(), "{name} could not be imported");
    }
}

/// Where Debian keeps the newest PostgreSQL.
fn postgres_folder() -> PathBuf {
    let all = fs::read_dir("/usr/lib/postgresql").expect("the package `postgresql` is needed for the stand-in image");
    all.map(|entry| entry.unwrap().path()).filter(|path| path.join("bin/postgres").exists()).max().unwrap()
}

/// Copies a folder, without what translates messages and what compiles queries.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name == "bitcode" || name == "locale" || name.to_string_lossy().starts_with("llvmjit") {
            continue;
        }
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn script(name: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/image").join(name);
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, PermissionsExt::from_mode(0o755)).unwrap();
}

/// A file system with these programs of this machine and what they are linked with.
fn root_file_system(root: &Path, programs: &[&str]) {
    for folder in ["bin", "etc", "tmp", "root", "usr/bin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
    for program in programs {
        let path = which(program);
        fs::copy(&path, root.join("bin").join(program)).unwrap();
        libraries_of(&path, root);
    }
    let sh = root.join("bin/sh");
    if !sh.exists() {
        let path = fs::canonicalize(which("sh")).unwrap();
        fs::copy(&path, sh).unwrap();
        libraries_of(&path, root);
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let mut all = path.split(':').map(|folder| Path::new(folder).join(program));
    all.find(|path| path.exists()).unwrap_or_else(|| panic!("`{program}` is needed for the stand-in image"))
}

fn libraries_of(program: &Path, root: &Path) {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths: BTreeSet<&str> = text.split_whitespace().filter(|word| word.starts_with('/')).collect();
    for path in paths {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if !to.exists() {
            fs::copy(path, to).unwrap();
        }
    }
}
