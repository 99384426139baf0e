//! Images from a real registry: with and without a login, gone, pinned, and broken off.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::commands::Project;
use super::rig::{BACKEND, BACKEND_TWO, Engine};
use crate::engine_or_skip;

/// A registry with a login, and before it a gate that can break connections off.
struct Registry {
    child: Child,
    folder: tempfile::TempDir,
    host: String,
    /// How many bytes the gate still lets through.
    allowance: Arc<AtomicU64>,
}

impl Registry {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hash = Command::new("htpasswd").args(["-Bbn", "tester", "let-me-in"]).output();
        let hash = hash.expect("the package `apache2-utils` is needed for the registry").stdout;
        let passwords = folder.path().join("htpasswd");
        std::fs::write(&passwords, hash).unwrap();
        let inside = free_port();
        let configuration = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{inside}\n\
             auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            folder.path().join("data").display(),
            passwords.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package `docker-registry` is needed");
        let allowance = Arc::new(AtomicU64::new(u64::MAX));
        let host = gate(inside, Arc::clone(&allowance));
        Self { child, folder, host, allowance }
    }

    /// Docker's command line with the login of this registry, or without.
    fn docker(&self, engine: &Engine, words: &[&str]) -> bool {
        let mut command = engine.command(words);
        command.env("DOCKER_CONFIG", self.folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Passes connections on until the allowance is used up, and breaks them off then.
fn gate(to: u16, allowance: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (client_again, server_again) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let unlimited = Arc::new(AtomicU64::new(u64::MAX));
            std::thread::spawn(move || pass(client, server, &unlimited));
            let allowance = Arc::clone(&allowance);
            std::thread::spawn(move || pass(server_again, client_again, &allowance));
        }
    });
    host
}

fn pass(mut from: TcpStream, mut to: TcpStream, allowance: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let left = allowance.load(Ordering::Relaxed);
        if left != u64::MAX {
            allowance.store(left.saturating_sub(count as u64), Ordering::Relaxed);
        }
        if left < count as u64 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn images_come_from_a_registry_and_are_pinned() {
    let engine = engine_or_skip!();
    let registry = Registry::new();
    let image = format!("{}/convex/backend:tag", registry.host);
    engine.until("the registry answers", |_| {
        registry.docker(engine, &["login", "-u", "tester", "-p", "let-me-in", &registry.host])
    });
    let push = |from: &str| {
        engine.docker(&["tag", from, &image]);
        assert!(registry.docker(engine, &["push", &image]));
        engine.docker(&["rmi", &image]);
    };
    // Layers that the engine has already are not fetched, so this build has one of its own.
    let build = engine.docker(&["create", BACKEND]);
    let padding = registry.folder.path().join("padding");
    let mut bytes = vec![0; 8 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    std::fs::write(&padding, bytes).unwrap();
    engine.docker(&["cp", padding.to_str().unwrap(), &format!("{build}:/convex/padding")]);
    engine.docker(&["commit", &build, &image]);
    engine.docker(&["rm", "-v", &build]);
    assert!(registry.docker(engine, &["push", &image]));
    engine.docker(&["rmi", &image]);
    let blocks = |image: &str| format!("[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nimage = \"{image}\"\n");
    let mut project = Project::new(engine, &blocks(&image));

    // Without a login.
    let denied = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(denied.err.contains(&format!("docker login {}", registry.host)), "{denied}");
    assert_eq!(project.everything(), Vec::<String>::new(), "something was made before the image was there");

    // With one, and a tag that is not there.
    project.world.set("DOCKER_CONFIG", registry.folder.path().to_str().unwrap());
    project.manifest(&blocks(&image.replace(":tag", ":gone")));
    let gone = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(gone.err.contains("full commit"), "{gone}");
    project.manifest(&blocks(&image));

    // With one that a helper keeps.
    let helper = "read server; printf '{\"ServerURL\":\"%s\",\"Username\":\"tester\",\"Secret\":\"let-me-in\"}' \"$server\"";
    fixture::script(registry.folder.path(), "docker-credential-probe", helper);
    let mut path = registry.folder.path().display().to_string();
    path.push_str(&format!(":{}", project.world.variables["PATH"]));
    project.world.set("PATH", &path);
    let configuration = registry.folder.path().join("config.json");
    let logged_in = std::fs::read(&configuration).unwrap();
    let helpers = serde_json::json!({ "credHelpers": { (registry.host.as_str()): "probe" } });
    std::fs::write(&configuration, helpers.to_string()).unwrap();
    project.manifest(&blocks(&image.replace(":tag", ":gone")));
    let gone = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(gone.err.contains("full commit"), "the helper was not asked: {gone}");
    std::fs::write(&configuration, logged_in).unwrap();
    project.manifest(&blocks(&image));

    // Broken off in the middle: everything is as before, and running again does it.
    let world = &project.world;
    registry.allowance.store(3 << 20, Ordering::Relaxed);
    let broken = world.run_expecting(1, &["apply", "--yes"]);
    assert!(broken.err.contains("broke off"), "{broken}");
    assert!(!broken.err.contains("let-me-in") && !broken.out.contains("let-me-in"));
    registry.allowance.store(u64::MAX, Ordering::Relaxed);
    let run = world.apply();
    assert!(run.err.contains(&format!("fetching {image}")), "{run}");
    world.assert_converged();

    // The same build again, though the tag means another one now, and the engine has forgotten the first.
    push(BACKEND_TWO);
    world.assert_converged();
    let id = engine.inspect(&project.container())["Image"].as_str().unwrap().to_owned();
    engine.docker(&["rm", "-f", &project.container()]);
    world.apply();
    assert_eq!(engine.inspect(&project.container())["Image"], id.as_str());
    world.assert_converged();

    // The manifest can say that a moving tag is followed; what runs is left alone until it is made anew anyway.
    project.manifest(&format!("{}pull = \"always\"\n", blocks(&image)));
    world.apply();
    world.assert_converged();
    engine.docker(&["rm", "-f", &project.container()]);
    world.apply();
    world.assert_converged();
    assert_eq!(engine.inspect(&project.container())["Config"]["Labels"]["build"], "two");
}
