//! Bad surroundings: a clear error with a code, never a panic, and what was there stays as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use fixture::{CommandResult, ProjectFixture, Tmpfs};

pub(super) const ONE: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";

pub(super) const STORE: &str = "control-plane.sqlite3";

/// Runs a command that must fail with this code, as a document and as text.
pub(super) fn fails(world: &ProjectFixture, exit: i32, words: &[&str], code: &str) -> CommandResult {
    let text = world.run_expecting(exit, words);
    assert!(text.err.contains(&format!("[{code}]")) && text.err.contains("error:"), "{text}");
    let run = world.run_expecting(exit, &[words, &["--json"]].concat());
    assert_eq!(run.errors(), [code], "{run}");
    run
}

#[test]
fn a_home_that_cannot_be_written() {
    let mut world = ProjectFixture::new(ONE);
    // Root may write everywhere but on a file system that nobody can write on.
    let folder = world.root().join("mounted");
    let Some(_mount) = Tmpfs::mount(&folder, "ro,size=1m") else {
        return println!("surroundings: no read-only home, because nothing can be mounted here");
    };
    world.set("CONVEXINFRA_HOME", folder.join("home").to_str().unwrap());
    world.run_expecting(0, &["plan"]);
    world.run_expecting(0, &["status"]);
    let run = fails(&world, 1, &["apply", "--yes"], "home.directory");
    assert!(run.out.contains("CONVEXINFRA_HOME"), "{run}");
    world.set("CONVEXINFRA_HOME", folder.to_str().unwrap());
    fails(&world, 1, &["apply", "--yes"], "home.directory");
    assert!(!world.folder.join(".env.local").exists());
}

#[test]
fn a_home_that_can_only_be_read_any_more() {
    let mut world = ProjectFixture::new(ONE);
    let folder = world.root().join("mounted");
    let Some(_mount) = Tmpfs::mount(&folder, "size=8m") else {
        return println!("surroundings: no home that turns read-only, because nothing can be mounted here");
    };
    world.home = folder.join("home");
    world.set("CONVEXINFRA_HOME", folder.join("home").to_str().unwrap());
    world.apply();
    let before = world.assert_reachable(".env.local", "gremlin-dev");
    world.kill("gremlin-dev");
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&folder).status().unwrap();
        assert!(status.success());
    };
    remount("ro");
    world.run_expecting(0, &["plan"]);
    world.run_expecting(0, &["status"]);
    world.run_expecting(3, &["drift"]);
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors(), ["store.denied"], "{run}");
    remount("rw");
    world.apply();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), before);
    world.assert_converged();
    drop(world);
}

#[test]
fn a_full_disk() {
    let mut world = ProjectFixture::new(ONE);
    let folder = world.root().join("mounted");
    let Some(mount) = Tmpfs::mount(&folder, "size=1m") else {
        return println!("surroundings: no full disk, because nothing can be mounted here");
    };
    let home = folder.join("home");
    world.set("CONVEXINFRA_HOME", home.to_str().unwrap());
    world.home = home.clone();
    let fill = |left: usize| {
        let _ = fs::remove_file(folder.join("filler"));
        let mut size = 1 << 20;
        while size > 0 && fs::write(folder.join("filler"), vec![0; size]).is_err() {
            size -= 4096;
        }
        fs::write(folder.join("filler"), vec![0; size.saturating_sub(left)]).unwrap();
    };
    // Less and more room in turns, so that it runs out in every place.
    for left in [0, 4096, 8192, 16384, 32768, 65536, 131_072] {
        fill(left);
        let run = world.run(&["apply", "--yes", "--json"]);
        assert!([0, 1].contains(&run.code()), "{left}: {run}");
        if run.code() == 1 && run.out.contains("convexinfra.error/1") {
            assert!(["home.full", "store.full"].contains(&run.errors()[0].as_str()), "{left}: {run}");
        }
        println!("surroundings: with {left} bytes left apply ends with {}", run.code());
    }
    fs::remove_file(folder.join("filler")).unwrap();
    world.apply();
    let before = world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    // A full disk in the middle of its life.
    fill(0);
    world.manifest(&format!("{ONE}tuning = {{ max_concurrent_queries = 3 }}\n"));
    let run = world.run(&["apply", "--yes", "--json"]);
    assert_eq!(run.code(), 1, "{run}");
    fs::remove_file(folder.join("filler")).unwrap();
    world.apply();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), before);
    world.assert_converged();
    drop(world);
    drop(mount);
}

#[test]
fn a_full_disk_does_not_keep_backends_from_being_destroyed() {
    let mut world = ProjectFixture::new(ONE);
    let folder = world.root().join("mounted");
    let Some(mount) = Tmpfs::mount(&folder, "size=3m") else {
        return println!("surroundings: no full disk, because nothing can be mounted here");
    };
    world.home = folder.join("home");
    world.set("CONVEXINFRA_HOME", folder.join("home").to_str().unwrap());
    world.apply();
    let mut filler = fs::File::create(folder.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    drop(filler);
    for words in [&["status"][..], &["env", "dev"], &["log"]] {
        world.run_expecting(0, words);
    }
    // What adds to it is told so, and takes nothing of what is kept for what does not.
    world.manifest(&format!("{ONE}tuning = {{ max_concurrent_queries = 3 }}\n"));
    world.run_expecting(1, &["apply", "--yes"]);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(world.names(), Vec::<String>::new());
    assert!(!world.home.join("backends").read_dir().is_ok_and(|mut left| left.next().is_some()));
    fs::remove_file(folder.join("filler")).unwrap();
    world.apply();
    world.assert_converged();
    assert!(world.home.join("reserve").exists(), "the next time there is nothing to give up");
    drop(world);
    drop(mount);
}

#[test]
fn a_port_that_a_stranger_has() {
    let world = ProjectFixture::new(ONE);
    let first: u16 = world.variables["CONVEXINFRA_FIRST_PORT"].parse().unwrap();
    let api = TcpListener::bind(("127.0.0.1", first)).unwrap();
    let site = TcpListener::bind(("127.0.0.1", first + 3)).unwrap();
    world.apply();
    let before = world.assert_reachable(".env.local", "gremlin-dev");
    assert_eq!(before.0, format!("http://127.0.0.1:{}", first + 4));
    world.assert_converged();
    drop((api, site));

    // Once its URL is known it keeps its port.
    world.kill("gremlin-dev");
    let stranger = TcpListener::bind(("127.0.0.1", first + 4)).unwrap();
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert!(run.out.contains("provider.port_taken") && run.out.contains(&(first + 4).to_string()), "{run}");
    world.run_expecting(3, &["drift"]);
    drop(stranger);
    world.apply();
    assert_eq!(world.assert_reachable(".env.local", "gremlin-dev"), before);
    world.assert_converged();
}

#[test]
fn a_manifest_that_cannot_be_read() {
    let world = ProjectFixture::new(ONE);
    let path = world.folder.join("convex.toml");
    let verbs: [&[&str]; 4] = [&["plan"], &["validate"], &["apply", "--yes"], &["status"]];
    fs::write(&path, b"project = \"a\"\n\n# \xff\xfe\n").unwrap();
    for words in verbs {
        let run = fails(&world, 65, words, "manifest.not_utf8");
        assert!(run.out.contains("line 3"), "{run}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for words in verbs {
        world.run_expecting(65, &[words, &["--manifest", "convex.toml/convex.toml"]].concat());
        fails(&world, 65, words, "manifest.not_found");
    }
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("convex.toml", &path).unwrap();
    for words in verbs {
        world.run_expecting(65, words);
        fails(&world, 65, &[words, &["--manifest", "convex.toml"]].concat(), "manifest.unreadable");
    }
    fs::remove_file(&path).unwrap();
    for words in verbs {
        fails(&world, 65, &[words, &["--manifest", "/dev/null/convex.toml"]].concat(), "manifest.unreadable");
        fails(&world, 65, &[words, &["--manifest", "/dev/zero"]].concat(), "manifest.unreadable");
    }
    world.manifest("");
    assert_eq!(world.run_expecting(65, &["plan", "--json"]).errors(), ["manifest.missing_key"]);
}

#[test]
fn homes_that_are_odd() {
    let mut world = ProjectFixture::new(ONE);
    // A file where the home should be.
    fs::write(world.root().join("file"), "x").unwrap();
    world.set("CONVEXINFRA_HOME", world.root().join("file").to_str().unwrap());
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors().len(), 1, "{run}");
    world.run_expecting(1, &["status"]);
    assert_eq!(fs::read_to_string(world.root().join("file")).unwrap(), "x");
    // Relative ones are meant from where the command runs.
    world.set("CONVEXINFRA_HOME", "../home");
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    assert_eq!(world.processes().len(), 1);
    world.set("CONVEXINFRA_HOME", world.home.clone().to_str().unwrap());
    world.assert_converged();
    // No home directory at all, and one that is not there.
    world.unset("CONVEXINFRA_HOME");
    world.set("HOME", world.root().join("new/user").to_str().unwrap());
    assert_eq!(world.run_expecting(0, &["status", "--json"]).document()["backends"], serde_json::Value::Array(Vec::new()));
    assert!(!world.root().join("new").exists());
    world.set("HOME", "relative");
    fails(&world, 1, &["plan"], "home.unknown");
    world.set("CONVEXINFRA_HOME", world.home.clone().to_str().unwrap());
    world.unset("HOME");
    world.assert_converged();
    world.set("CONVEXINFRA_FIRST_PORT", "80");
    fails(&world, 64, &["plan"], "usage.first_port");
}

#[test]
fn readers_that_go_away() {
    let world = ProjectFixture::new(ONE);
    for words in [
        &["plan"][..],
        &["plan", "--json"],
        &["apply", "--yes"],
        &["apply", "--yes", "--json"],
        &["status"],
        &["schema"],
        &["env"],
        &["--help"],
    ] {
        let mut child = world.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(0) && !err.contains("panicked"), "{words:?}: {}\n{err}", output.status);
    }
    for words in [&["plan"][..], &["apply", "--yes"], &["nonsense"]] {
        let mut child = world.command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if words == ["nonsense"] { 64 } else { 0 }), "{words:?}");
    }
    // Standard streams that are not even open.
    let line = format!("exec '{}' status >&- 2>&- <&-", fixture::executable());
    let status =
        Command::new("sh").args(["-c", &line]).env_clear().envs(&world.variables).current_dir(&world.folder).status().unwrap();
    assert_eq!(status.code(), Some(0));
    world.assert_converged();
}

/// A command without descriptors cannot ask, which says nothing of what it wanted to ask.
#[test]
fn a_command_that_is_out_of_descriptors_takes_no_backend_for_down() {
    let world = ProjectFixture::new("project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\n");
    world.apply();
    let pid = world.pid("gremlin-dev");
    for limit in 6..40 {
        for words in ["drift", "plan --detailed-exitcode"] {
            let mut command = world.command(&[]);
            let program = command.get_program().to_owned();
            let script = format!("ulimit -n {limit} || exit 99; exec \"$0\" {words}");
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .arg(program)
                .env_clear()
                .envs(&world.variables)
                .current_dir(command.current_dir(&world.folder).get_current_dir().unwrap())
                .output()
                .unwrap();
            let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!matches!(output.status.code(), None | Some(2 | 3)), "{limit} {words}: {output:?}");
            assert!(!text.contains("not listening") && !text.contains("panicked"), "{limit} {words}: {text}");
        }
    }
    assert_eq!(world.pid("gremlin-dev"), pid);
    world.assert_converged();
}
