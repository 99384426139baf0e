//! What belongs to another repository: every command of the program either refuses it, or is listed here with why it need not.
//! The commands are read from the help of the program, so that the next one is covered when it is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use fixture::ProjectFixture;

const MANIFEST: &str = "project = \"gremlin\"\n\n[backends.dev]\nprovider = \"simulated\"\n";
const RELEASE: &str = "precompiled-2026-08-21-652b828";

/// The commands that refuse it, with the words that each needs. `SNAPSHOT` stands for a snapshot that is there, and `OUT` for a
/// path that is free.
const REFUSED: [(&str, &[&str]); 38] = [
    ("plan", &[]),
    ("apply", &["--yes"]),
    ("destroy", &["dev", "--allow-destroy", "dev", "--yes"]),
    ("drift", &[]),
    ("status", &[]),
    ("env", &["dev", "--show-key"]),
    ("wait", &["dev"]),
    ("logs", &["dev"]),
    ("forward", &["dev"]),
    ("graph", &[]),
    ("provision", &["dev"]),
    ("deprovision", &["dev", "--allow-destroy", "dev"]),
    ("import", &["dev", "--container", "unknown"]),
    ("recover", &[]),
    ("stop", &["dev"]),
    ("start", &["dev"]),
    ("forget", &["dev", "--yes"]),
    ("archive", &["dev", "--out", "OUT"]),
    ("snapshot create", &["dev"]),
    ("snapshot list", &[]),
    ("snapshot prune", &["--keep-last", "1", "--yes"]),
    ("snapshot show", &["SNAPSHOT"]),
    ("snapshot verify", &["SNAPSHOT"]),
    ("snapshot export", &["SNAPSHOT", "--out", "OUT"]),
    ("snapshot import", &["OUT"]),
    ("snapshot delete", &["SNAPSHOT", "--yes"]),
    ("restore", &["dev", "--snapshot", "SNAPSHOT", "--allow-replace", "dev", "--yes"]),
    ("fork", &["dev", "copy", "--exact", "--yes"]),
    ("resume", &["dev"]),
    ("upgrade", &["dev", "--to", RELEASE, "--yes"]),
    ("rollback", &["dev", "--allow-replace", "dev", "--yes"]),
    ("releases", &[]),
    ("dashboard", &["dev"]),
    ("log", &[]),
    ("token create", &["--scope", "read"]),
    ("quota show", &[]),
    ("quota set", &["--backends", "1"]),
    ("key rotate", &["dev", "--yes"]),
];

const NO_CONTROL_PLANE: &str = "asks no control plane";
const ALL_PROJECTS: &str = "is about the machine or the control plane, and not about the project of a manifest";

/// The commands that have nothing to refuse, with why.
const EXEMPT: [(&str, &str); 20] = [
    ("init", "writes a manifest where there is none"),
    ("validate", NO_CONTROL_PLANE),
    ("server check", "looks at a server that the manifest names, and asks no control plane"),
    ("kubernetes role", NO_CONTROL_PLANE),
    ("render", NO_CONTROL_PLANE),
    ("schema", NO_CONTROL_PLANE),
    ("completions", NO_CONTROL_PLANE),
    ("up", ALL_PROJECTS),
    ("token list", ALL_PROJECTS),
    ("token revoke", ALL_PROJECTS),
    ("trust add", NO_CONTROL_PLANE),
    ("trust list", NO_CONTROL_PLANE),
    ("trust remove", NO_CONTROL_PLANE),
    ("skill install", NO_CONTROL_PLANE),
    ("skill show", NO_CONTROL_PLANE),
    ("key issue", NO_CONTROL_PLANE),
    ("key check", NO_CONTROL_PLANE),
    ("key rotate-master", ALL_PROJECTS),
    ("serve", ALL_PROJECTS),
    ("simulate-backend", NO_CONTROL_PLANE),
];

/// Returns the commands below these words, as the help lists them.
fn commands(world: &ProjectFixture, words: &[&str]) -> Vec<String> {
    let help = world.run_expecting(0, &[words, &["--help"]].concat()).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Returns every command that does something, such as `snapshot list`.
fn all_commands(world: &ProjectFixture) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in commands(world, &[]) {
        // Its words belong to the backend, help included.
        let below = if name == "simulate-backend" { Vec::new() } else { commands(world, &[&name]) };
        if below.is_empty() {
            found.insert(name);
        } else {
            found.extend(below.into_iter().map(|verb| format!("{name} {verb}")));
        }
    }
    found
}

#[test]
fn every_command_refuses_the_project_of_another_repository() {
    let world = ProjectFixture::new(MANIFEST);
    let known = REFUSED.iter().map(|(name, _)| *name).chain(EXEMPT.iter().map(|(name, _)| *name));
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    assert_eq!(all_commands(&world), known, "a command is missing in the table, or has gone");
    world.git();
    let remote = |words: &[&str]| {
        let mut git = std::process::Command::new("git");
        assert!(git.arg("remote").args(words).current_dir(&world.folder).status().unwrap().success(), "{words:?}");
    };
    remote(&["add", "origin", "https://github.com/acme/shop.git"]);
    world.apply();
    let snapshot = world.run_expecting(0, &["snapshot", "create", "dev", "--json"]).document();
    let snapshot = snapshot["snapshot"]["id"].as_str().unwrap();
    let (manifest, key) = (world.read("convex.toml"), world.coordinates(".env.local").1);
    let processes = world.records();
    remote(&["set-url", "origin", "git@github.com:acme/blog.git"]);
    let out = world.root().join("out");
    for (name, rest) in REFUSED {
        let rest = rest.iter().map(|word| match *word {
            "SNAPSHOT" => snapshot,
            "OUT" => out.to_str().unwrap(),
            word => word,
        });
        let words: Vec<&str> = name.split(' ').chain(rest).chain(["--json"]).collect();
        let run = world.run_expecting(4, &words);
        assert!(run.out.contains("\"plan.other_repository\""), "{run}");
        for secret in [key.as_str(), "http://127.0.0.1"] {
            assert!(!run.out.contains(secret) && !run.err.contains(secret), "{run}");
        }
    }
    assert!(!out.exists() && world.read("convex.toml") == manifest);
    // An operator who types the name of a project means it, wherever they stand.
    world.run_expecting(0, &["quota", "set", "--project", "gremlin", "--backends", "7"]);
    remote(&["set-url", "origin", "https://github.com/acme/shop.git"]);
    assert_eq!(world.records(), processes);
    assert_eq!(world.run_expecting(0, &["quota", "show", "--json"]).document()["quota"]["backends"], 7);
    assert_eq!(world.run_expecting(0, &["snapshot", "list", "--json"]).document()["snapshots"].as_array().unwrap().len(), 1);
    world.assert_converged();
}
