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

/// Runs a script in a shell that finds the command; none where that shell is not installed.
fn shell(world: &ProjectFixture, shell: &[&str], script: &str) -> Option<String> {
    let folder = std::path::Path::new(fixture::executable()).parent().unwrap();
    let mut command = world.command(&[]);
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut started = std::process::Command::new(shell[0]);
    started.args(&shell[1..]).args(["-c", script]).current_dir(&world.folder).env_clear();
    started.envs(command.env("PATH", path).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = match started.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fixture::skipped(&format!("`{}` is not installed, so nothing was tried in it", shell[0]));
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{shell:?} {script}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn fish_and_zsh_complete_the_name_of_a_backend() {
    let world = ProjectFixture::new(TWO);
    let fish = "convexinfra completions fish | source; complete -C 'convexinfra stop a'";
    if let Some(said) = shell(&world, &["fish", "--no-config"], fish) {
        assert_eq!(said, "api");
    }
    // What the completion system is handed is printed instead.
    let zsh = "autoload -U compinit; compinit -D -u; _describe() { print -l -- ${(P)@[-1]} }; source <(convexinfra completions zsh); \
               words=(convexinfra stop a); CURRENT=3; ${_comps[convexinfra]}";
    if let Some(said) = shell(&world, &["zsh", "-f"], zsh) {
        assert_eq!(said.split(':').next(), Some("api"), "{said}");
    }
}

#[test]
fn every_shell_takes_up_the_coordinates_of_a_backend() {
    let world = ProjectFixture::new("project = \"gremlin\"\n[backends.api]\nprovider = \"simulated\"\n");
    world.apply();
    let (url, key) = world.coordinates(".env.local");
    let posix = "eval \"$(convexinfra env api --format shell)\"";
    let fish = "convexinfra env api --format shell | source";
    for (words, script) in [
        (&["sh"][..], posix),
        (&["dash"], posix),
        (&["bash", "--norc"], posix),
        (&["zsh", "-f"], posix),
        (&["fish", "--no-config"], fish),
    ] {
        let script = format!("{script}; printf '%s %s' \"$CONVEX_SELF_HOSTED_URL\" \"$CONVEX_SELF_HOSTED_ADMIN_KEY\"");
        if let Some(said) = shell(&world, words, &script) {
            assert_eq!(said, format!("{url} {key}"), "{words:?}");
        }
    }
}

#[test]
fn printed_commands_work_where_they_are_pasted() {
    let world = ProjectFixture::new("project = \"gremlin\"\n[backends.api]\nprovider = \"simulated\"\n");
    let plan = "it's a $plan #1.json";
    let printed = world.run_expecting(0, &["plan", "--out", plan]).err;
    let command = printed.lines().find_map(|line| line.trim().strip_prefix("convexinfra apply")).unwrap().to_owned();
    for words in [&["dash"][..], &["zsh", "-f"], &["fish", "--no-config"]] {
        // The first one carries it out, and to the others it is stale: each has found the file.
        let script = format!("convexinfra apply{command} --yes --json; or_true=1");
        let script = if words[0] == "fish" { script.replace("or_true=1", "true") } else { script };
        if let Some(said) = shell(&world, words, &script) {
            assert!(!said.contains("plan.unreadable") && !said.contains("not_found") && !said.is_empty(), "{words:?}: {said}");
        }
    }
}
