//! What shells complete.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fixture::ProjectFixture;

const TWO: &str = "project = \"gremlin\"\n[backends.api]\nprovider = \"simulated\"\n[backends.web]\nprovider = \"simulated\"\n";

/// Asks for candidates as the script of a shell does.
fn candidates(world: &ProjectFixture, words: &[&str]) -> Vec<String> {
    let mut command = world.command(&[&["--", "convexinfra"], words].concat());
    let index = words.len().to_string();
    command.env("CONVEXINFRA_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_commands_flags_and_the_names_of_backends() {
    let world = ProjectFixture::new(TWO);
    for words in [&["destroy", ""][..], &["destroy", "--allow-destroy", ""], &["key", "rotate", ""], &["env", ""]] {
        let names = candidates(&world, words);
        assert!(names.contains(&"api".to_owned()) && names.contains(&"web".to_owned()), "{words:?}: {names:?}");
    }
    assert_eq!(candidates(&world, &["forget", "we"]), ["web"]);
    assert!(candidates(&world, &["dr"]).contains(&"drift".to_owned()));
    assert!(candidates(&world, &["apply", "--ren"]).contains(&"--renew".to_owned()));
    // A manifest that is wrong or missing completes to nothing, and says nothing.
    world.manifest("project = ");
    assert_eq!(candidates(&world, &["forget", "we"]), Vec::<String>::new());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run_expecting(0, &["completions", shell]);
        assert!(script.out.contains("CONVEXINFRA_COMPLETE") && script.err.is_empty(), "{script}");
    }
}

#[test]
fn bash_completes_the_name_of_a_backend() {
    let world = ProjectFixture::new(TWO);
    let folder = std::path::Path::new(fixture::executable()).parent().unwrap();
    let script = "source <(convexinfra completions bash); COMP_WORDS=(convexinfra stop a); COMP_CWORD=2; COMP_TYPE=9; \
                  $(complete -p convexinfra | sed 's/.*-F \\([^ ]*\\).*/\\1/') convexinfra a stop; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut path = folder.as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", script])
        .current_dir(&world.folder)
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "api", "{output:?}");
}
