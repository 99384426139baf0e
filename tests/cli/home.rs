//! What commands leave on the disk: for its owner only, and without a secret in clear.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{ProjectFixture, executable, walk};

const SECRET: &str = "hunter2-hunter2-hunter2";
const MANIFEST: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n\n[backends.dev.env]\nTOKEN = { env = \"APP_TOKEN\" }\n";

/// Runs a command as a shell does whose umask takes nothing away.
fn run_open(world: &ProjectFixture, words: &[&str]) {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" \"$@\"", executable()]).args(words);
    command.env_clear().envs(&world.variables).current_dir(&world.folder).stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    walk(folder, &mut |path| found.push(path.to_owned()));
    found
}

fn assert_private(folder: &Path) {
    let found = everything(folder);
    for path in &found {
        let mode = std::fs::symlink_metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
    assert!(found.len() > 1, "{} is empty", folder.display());
}

#[test]
fn a_home_is_for_its_owner_only_whatever_the_umask() {
    let mut world = ProjectFixture::new(MANIFEST);
    world.set("APP_TOKEN", SECRET);
    run_open(&world, &["apply", "--yes"]);
    assert!(world.home.join("env-files").is_dir());
    assert_private(&world.home);
    let mode = std::fs::metadata(world.folder.join(".env.local")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    // What belongs to the repository is as its owner has files.
    std::fs::remove_file(world.folder.join("convex.toml")).unwrap();
    run_open(&world, &["init"]);
    let mode = std::fs::metadata(world.folder.join("convex.toml")).unwrap().permissions().mode();
    assert_ne!(mode & 0o044, 0, "{mode:o}");

    let configuration = world.root().join("user");
    run_open(&world, &["trust", "add", "https://convex-control.example.com"]);
    for path in everything(&configuration).iter().filter(|path| path.is_file()) {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn the_home_of_a_server_is_for_its_owner_only_whatever_the_umask() {
    let world = ProjectFixture::new(MANIFEST);
    let token = world.root().join("operator.token");
    run_open(&world, &["serve", "--init", "--token-file", token.to_str().unwrap()]);
    let mode = std::fs::metadata(&token).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    assert!(std::fs::read_to_string(&token).unwrap().starts_with("cvxi_"));
    assert_private(&world.home);
    // A file that is there is not written over, and no token is made for nothing.
    let again = world.run(&["serve", "--init", "--again", "--token-file", token.to_str().unwrap(), "--json"]);
    assert_eq!((again.code(), again.errors()), (1, vec!["serve.token_file".to_owned()]), "{again}");
    // The metrics of a server are not for other machines, unless they show a token.
    let open = world.run(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0", "--json"]);
    assert_eq!((open.code(), open.errors()), (4, vec!["serve.open_metrics".to_owned()]), "{open}");
}

#[test]
fn no_secret_is_in_the_home_in_clear() {
    let mut world = ProjectFixture::new(MANIFEST);
    world.set("APP_TOKEN", SECRET);
    world.apply();
    let (_, key) = world.coordinates(".env.local");
    let secret_part = key.split_once('|').unwrap().1.to_owned();
    let mut looked_at = 0;
    for path in everything(&world.home).iter().filter(|path| path.is_file()) {
        // The deployment's own database has its variables in clear, as Convex's has.
        if path.components().any(|part| part.as_os_str() == "data") {
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        looked_at += 1;
        for secret in [SECRET, &key, &secret_part] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret in clear", path.display());
        }
    }
    let memory = everything(&world.home.join("env-files"));
    assert!(looked_at > 2 && memory.iter().any(|path| path.extension().is_some_and(|end| end == "json")), "{memory:?}");
}

/// What a command that was killed leaves in the memory of written files is put right by the next one.
#[test]
fn the_memory_of_env_files_follows_the_files() {
    let world = ProjectFixture::new("project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n");
    world.apply();
    let folder = world.home.join("env-files");
    let memory = || everything(&folder).into_iter().filter(|path| path.is_file()).collect::<Vec<_>>();
    let [file] = memory().try_into().unwrap();
    let remembered = std::fs::read(&file).unwrap();

    // Written and not remembered.
    std::fs::remove_dir_all(&folder).unwrap();
    world.apply();
    assert_eq!(std::fs::read(&file).unwrap(), remembered);

    // Taken out and still remembered, with a content that never came into its place.
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
    assert!(!folder.exists());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, &remembered).unwrap();
    let staging = folder.join(".convexinfra-0123456789");
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join(".gitignore"), "*\n").unwrap();
    std::fs::write(staging.join(".tmpabc"), "{").unwrap();
    world.run_expecting(0, &["destroy"]);
    assert!(!folder.exists(), "{:?}", everything(&folder));

    // A file on a disk that is not there now is not forgotten.
    let text = String::from_utf8(remembered).unwrap();
    let elsewhere = text.replace(&world.folder.display().to_string(), "/nonexistent/disk");
    assert_ne!(elsewhere, text);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, &elsewhere).unwrap();
    world.run_expecting(0, &["destroy"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), elsewhere);
}
