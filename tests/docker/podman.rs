//! Podman's own engine, which is refused by name before anything is made on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Child, Command, Stdio};

use super::findings::ONE;
use fixture::{ProjectFixture, skipped, wait_until};

/// A Podman of this test's own.
struct Podman {
    folder: tempfile::TempDir,
    service: Child,
}

impl Podman {
    /// Starts its engine; none where it is not installed.
    fn start() -> Option<Self> {
        let found = Command::new("podman").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            skipped("`podman` is not installed, so its refusal was tried on a recording only");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = format!("unix://{}/podman.sock", folder.path().display());
        let mut command = Self::command(&folder);
        let service = command.args(["system", "service", "--time", "0", &socket]).spawn().unwrap();
        let podman = Self { folder, service };
        wait_until("Podman listens", || podman.folder.path().join("podman.sock").exists());
        Some(podman)
    }

    fn command(folder: &tempfile::TempDir) -> Command {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("podman");
        command.args(["--root", &path("root"), "--runroot", &path("run"), "--storage-driver", "vfs"]);
        command.args(["--cgroup-manager", "cgroupfs"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn list(&self, words: &[&str]) -> String {
        let output = Self::command(&self.folder).args(words).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "podman {words:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

#[test]
fn podman_is_refused_by_name_before_anything_is_made() {
    let Some(podman) = Podman::start() else { return };
    let mut world = ProjectFixture::new("");
    world.manifest(&format!("project = \"p\"\n{}", ONE.replace("IMAGE", "image = \"example.com/convex:one\"")));
    world.set("DOCKER_HOST", &format!("unix://{}/podman.sock", podman.folder.path().display()));
    for words in [&["plan"][..], &["apply", "--yes"], &["import", "dev", "--container", "x"]] {
        let run = world.run(words);
        let said = format!("{}{}", run.out, run.err);
        assert!(run.code() != 0 && said.contains("is Podman") && said.contains("provider `local`"), "{run}");
    }
    for words in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["image", "ls", "-q"]] {
        assert_eq!(podman.list(words), "", "{words:?}");
    }
}
