//! Several checkouts of one repository: linked work trees, and clones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use fixture::{ProjectFixture, steps};

/// Runs git in a folder.
fn git(folder: &Path, words: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    let status = std::process::Command::new("git").args(identity).args(words).current_dir(folder).status().unwrap();
    assert!(status.success(), "git {words:?}");
}

/// Every checkout of a repository names its own env files, whichever of them applied last.
#[test]
fn an_apply_in_one_checkout_leaves_the_env_files_of_the_others() {
    for remote in [true, false] {
        let mut world =
            ProjectFixture::new("project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n");
        world.git();
        world.write(".gitignore", ".env.local\n.worktrees\n");
        if remote {
            git(&world.folder, &["remote", "add", "origin", "git@github.com:acme/gremlin.git"]);
        }
        git(&world.folder, &["add", "convex.toml", ".gitignore"]);
        git(&world.folder, &["commit", "-qm", "one"]);
        world.apply();
        let main = world.folder.clone();
        for other in [world.root().join("beside"), main.join(".worktrees/below")] {
            git(&main, &["worktree", "add", "-q", "--detach", other.to_str().unwrap()]);
            world.folder = other;
            world.apply();
            world.assert_converged();
        }
        if remote {
            let clone = world.root().join("clone");
            git(&main, &["clone", "-q", main.to_str().unwrap(), clone.to_str().unwrap()]);
            git(&clone, &["remote", "set-url", "origin", "git@github.com:acme/gremlin.git"]);
            world.folder = clone;
            world.apply();
            world.assert_converged();
        }
        // The one that came first has its own still, and plans nothing about the others.
        world.folder = main;
        world.assert_reachable(".env.local", "gremlin-dev");
        let plan = world.plan();
        assert_eq!((steps(&plan), plan["lints"].as_array().unwrap().len()), (Vec::new(), 0), "{plan}");
        // A backend that goes takes its key out of all work trees.
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--yes"]);
        for left in [world.root().join("beside/.env.local"), world.folder.join(".worktrees/below/.env.local")] {
            assert!(!std::fs::read_to_string(&left).unwrap_or_default().contains("CONVEX_SELF_HOSTED"), "{}", left.display());
        }
    }
}
