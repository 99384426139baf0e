//! A served control plane whose disk is full: it is looked at, backends are removed, and nothing is added until there is room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fixture::{ProjectFixture, Server};

const TWO: &str =
    "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n\n[backends.app]\nprovider = \"simulated\"\n";

/// A file system of its own; none where we may not mount one.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder).stderr(Stdio::null());
        let mounted = cfg!(target_os = "linux") && command.status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder.to_owned()))
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_of_a_server_does_not_keep_backends_from_being_destroyed() {
    let mut world = ProjectFixture::new(TWO);
    let Some(mount) = Mount::new(&world.root().join("mounted")) else {
        return println!("served: no full disk, because nothing can be mounted here");
    };
    world.home = mount.0.join("home");
    world.set("CONVEXINFRA_HOME", world.home.clone().to_str().unwrap());
    let operator = Server::init(&world.variables);
    let server = Server::start(&world.variables);
    world.set("CONVEXINFRA_CONTROL_PLANE", &server.url);
    world.set("CONVEXINFRA_TOKEN", &operator);
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    (world.server, world.operator) = (Some(server), Some(operator));
    world.apply();
    mount.fill();
    for words in [&["status"][..], &["env", "dev"], &["log"]] {
        world.run_expecting(0, words);
    }
    world.manifest(&format!("{TWO}tuning = {{ max_concurrent_queries = 3 }}\n"));
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert!(run.out.contains("store.full"), "{run}");
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev", "dev"]);
    assert_eq!(world.names(), ["app"]);
    // As well after a restart on what is left of it.
    world.server().terminate();
    world.server().start_again(&[]);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "app", "app"]);
    assert_eq!(world.names(), Vec::<String>::new());
    mount.make_room();
    world.apply();
    world.assert_converged();
    assert!(world.home.join("reserve").exists(), "the next time there is something to give up");
    drop(world);
    drop(mount);
}
