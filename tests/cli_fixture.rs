//! A desk to sit at: a folder with a manifest, a control plane of its own, and the command.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Desks choose ports by themselves, so one sits at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub(crate) struct CliFixture {
    outside: tempfile::TempDir,
    /// What commands find in their environment beside the usual.
    variables: Vec<(String, String)>,
    _turn: MutexGuard<'static, ()>,
}

/// What a command left behind.
pub(crate) struct CommandOutput {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl CliFixture {
    /// A desk with this manifest on it.
    pub(crate) fn new(manifest: &str) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = Self { outside: tempfile::tempdir().unwrap(), variables: Vec::new(), _turn: turn };
        fs::create_dir(desk.folder()).unwrap();
        // Nothing that git would have to be told, and a name that does not depend on where the desk stands.
        for folder in [".git", ".git/objects", ".git/refs"] {
            fs::create_dir(desk.folder().join(folder)).unwrap();
        }
        fs::write(desk.folder().join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(desk.folder().join(".git/config"), "[remote \"origin\"]\n\turl = https://example.com/app.git\n").unwrap();
        fs::write(desk.folder().join(".gitignore"), ".env*\n").unwrap();
        desk.write("convex.toml", manifest);
        desk
    }

    /// A desk with a copy of one of the examples on it.
    pub(crate) fn with_example(name: &str) -> Self {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        let desk = Self::new("");
        copy(&example, &desk.folder());
        desk
    }

    /// The same with more in the environment of every command.
    pub(crate) fn with_variables<N: Into<String>>(mut self, variables: impl IntoIterator<Item = (N, String)>) -> Self {
        self.variables.extend(variables.into_iter().map(|(name, value)| (name.into(), value)));
        self
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.outside.path().join("app")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.outside.path().join("home")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.folder().join(path), text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder().join(path)).unwrap()
    }

    /// The manifest with one text in place of another.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = self.read("convex.toml");
        assert!(text.contains(from), "`{from}` is not in\n{text}");
        self.write("convex.toml", &text.replacen(from, to, 1));
    }

    /// Runs the command with these words, which no blank is part of.
    pub(crate) fn run(&self, words: &str) -> CommandOutput {
        Self::ran(words, &self.command(words).output().unwrap())
    }

    /// The command with these words, not started yet.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convexinfra"));
        command.args(words.split_whitespace()).current_dir(self.folder()).stdin(Stdio::null());
        command.env_clear().env("CONVEXINFRA_HOME", self.home()).env("HOME", self.outside.path()).env("USER", "me");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What a command left behind.
    pub(crate) fn ran(words: &str, output: &std::process::Output) -> CommandOutput {
        CommandOutput {
            exit: output.status.code().unwrap_or_else(|| panic!("`{words}` was killed: {}", output.status)),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// The same, when it must end well.
    pub(crate) fn run_ok(&self, words: &str) -> CommandOutput {
        let ran = self.run(words);
        assert_eq!(ran.exit, 0, "`{words}`\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// The documents that a command prints, one a line.
    pub(crate) fn documents(&self, words: &str) -> Vec<serde_json::Value> {
        let ran = self.run(words);
        assert_eq!(ran.err, "", "`{words}` talks where programs listen");
        let documents: Vec<_> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!documents.is_empty(), "`{words}` prints nothing");
        for line in ran.out.lines() {
            assert!(
                line.starts_with("{\"format\":\"convexinfra."),
                "`{words}` prints what does not start with its format: {line}"
            );
        }
        documents
    }

    /// Takes every backend away, whatever the manifest has become.
    fn clear(&self) {
        let project = self.read("convex.toml").lines().find_map(|line| line.strip_prefix("project = ").map(str::to_owned));
        let Some(project) = project else { return };
        self.write("convex.toml", &format!("project = {project}\n"));
        let status: serde_json::Value = serde_json::from_str(&self.run("status --json").out).unwrap_or_default();
        for backend in status["backends"].as_array().into_iter().flatten() {
            let name = backend["name"].as_str().unwrap();
            self.run(&format!("destroy {name} --allow-destroy {name}"));
        }
    }
}

impl Drop for CliFixture {
    fn drop(&mut self) {
        if self.home().exists() && self.folder().join("convex.toml").exists() {
            self.clear();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        // What a try in the repository itself may have left.
        if name.to_string_lossy().starts_with(".env") || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// What an accident does: every process of a control plane is gone at once.
pub(crate) fn kill_backends(home: &Path) {
    for entry in fs::read_dir(home.join("backends")).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path().join("run/process.json")) else { continue };
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let pid = i32::try_from(record["pid"].as_i64().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // It is nobody's child here, so there is nothing to wait for but its end.
        while rustix::process::test_kill_process(pid).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
