//! Env files in repositories: tracked ones are refused, others are ignored, and a manifest writes into its own repository only.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use convexinfra::env_file::{self, Boundary, IgnoreOutcome, TrackedState, ensure_ignored, tracked};
use convexinfra::model::EnvFileState;
use tempfile::TempDir;

use super::env_file::{
    block, content, expected, fingerprint, folder, look, mode, names, nothing, refused, state, upsert_block,
};

pub(super) fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
    let output = command.arg("-C").arg(folder).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn repository() -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    git(folder.path(), &["init", "-q"]);
    (folder, path)
}

#[test]
fn a_file_that_git_tracks_is_refused() {
    let (folder, path) = repository();
    fs::write(&path, "A=1\n").unwrap();
    assert_eq!(tracked(&path), TrackedState::No);
    git(folder.path(), &["add", ".env.local"]);
    assert_eq!(tracked(&path), TrackedState::Yes);
    assert_eq!(refused(&path), "env_file.tracked_by_git");
    git(folder.path(), &["commit", "-qm", "x"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(&path), "env_file.tracked_by_git");
    git(folder.path(), &["update-index", "--index-version", "4"]);
    assert_eq!(refused(&path), "env_file.tracked_by_git");
    git(folder.path(), &["update-index", "--split-index"]);
    assert_eq!(refused(&path), "env_file.tracked_by_git");
    git(folder.path(), &["rm", "-q", "--cached", ".env.local"]);
    assert_eq!(tracked(&path), TrackedState::No);

    // Another file of the same name is tracked, this one is not.
    fs::create_dir(folder.path().join("app")).unwrap();
    fs::write(folder.path().join("app/.env.local"), "").unwrap();
    git(folder.path(), &["add", "app/.env.local"]);
    assert_eq!((tracked(&path), tracked(&folder.path().join("app/.env.local"))), (TrackedState::No, TrackedState::Yes));
}

#[test]
fn names_are_no_patterns_for_git() {
    let (folder, _) = repository();
    fs::write(folder.path().join("env1"), "").unwrap();
    git(folder.path(), &["add", "env1"]);
    for name in ["env*", "env[1]", ":(glob)env1", ":env1", "-x", "!e#nv ?"] {
        let path = folder.path().join(name);
        assert_eq!(tracked(&path), TrackedState::No, "{name}");
        assert!(matches!(ensure_ignored(&path), Ok(IgnoreOutcome::Added(_))), "{name}");
        assert_eq!(ensure_ignored(&path).unwrap(), IgnoreOutcome::Already, "{name}");
    }
    assert_eq!(
        Command::new("git").arg("-C").arg(folder.path()).args(["check-ignore", "-q", "env2"]).status().unwrap().code(),
        Some(1)
    );
}

#[test]
fn linked_work_trees_and_half_repositories() {
    let (folder, path) = repository();
    fs::write(&path, "").unwrap();
    git(folder.path(), &["add", ".env.local"]);
    git(folder.path(), &["commit", "-qm", "x"]);
    let (_other, linked) = self::folder();
    let linked = linked.with_file_name("tree").join(".env.local");
    git(folder.path(), &["worktree", "add", "-q", linked.parent().unwrap().to_str().unwrap()]);
    assert_eq!(tracked(&linked), TrackedState::Yes);
    assert_eq!(tracked(&linked.with_file_name(".env")), TrackedState::No);

    let (half, path) = self::folder();
    fs::write(half.path().join(".git"), "gitdir: /nowhere\n").unwrap();
    assert!(matches!(tracked(&path), TrackedState::Unknown(_)));
    let written = upsert_block(&path, &block()).unwrap();
    assert!(written.warnings.iter().any(|warning| warning.contains("cannot tell whether git tracks")));
}

#[test]
fn git_is_made_to_ignore_the_file() {
    let (folder, path) = repository();
    let rules = folder.path().join(".gitignore");
    fs::write(&rules, "node_modules\r\ndist\r\n").unwrap();
    assert!(state(&path).1.iter().any(|warning| warning.contains("does not ignore")));
    assert_eq!(upsert_block(&path, &block()).unwrap().ignored, Some(IgnoreOutcome::Added(rules.clone())));
    assert_eq!(fs::read(&rules).unwrap(), b"node_modules\r\ndist\r\n.env.local\r\n");
    assert_eq!(upsert_block(&path, &block()).unwrap().ignored, Some(IgnoreOutcome::Already));
    fs::write(&rules, ".env*\n!.env.local").unwrap();
    upsert_block(&path, &block()).unwrap();
    assert_eq!(fs::read(&rules).unwrap(), b".env*\n!.env.local\n.env.local\n");
    fs::remove_file(&rules).unwrap();
    upsert_block(&path, &block()).unwrap();
    assert_eq!(fs::read(&rules).unwrap(), b".env.local\n");
    assert_eq!(mode(&rules), 0o644);
    fs::write(&rules, "*.local\n").unwrap();
    assert_eq!(upsert_block(&path, &block()).unwrap().ignored, Some(IgnoreOutcome::Already));
    assert_eq!(names(folder.path()), [".env.local", ".git", ".gitignore"]);
}

#[test]
fn a_manifest_writes_into_its_own_repository_only() {
    let (outside, _) = folder();
    let (folder, _) = repository();
    let app = folder.path().join("app");
    fs::create_dir(&app).unwrap();
    let inside = Boundary::of(&app);
    let try_write = |path: PathBuf| {
        let before = fs::read(&path).ok();
        let error = env_file::upsert_block(&path, Some(&inside), &block()).unwrap_err();
        let EnvFileState::Refused { code, .. } = env_file::inspect(&path, Some(&inside), &expected(), fingerprint, nothing)
        else {
            panic!("planned: {}", path.display())
        };
        assert_eq!((code.as_str(), fs::read(&path).ok()), (error.code(), before));
        code
    };
    let profile = outside.path().join("profile");
    fs::write(&profile, "A=1\n").unwrap();
    fs::set_permissions(&profile, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(try_write(profile.clone()), "env_file.outside_repository");
    assert_eq!(try_write(outside.path().join("new.env")), "env_file.outside_repository");
    let up: PathBuf = app.join("../..").join(outside.path().file_name().unwrap()).join("profile");
    assert_eq!(try_write(up), "env_file.outside_repository");
    symlink(outside.path(), app.join("linked")).unwrap();
    assert_eq!(try_write(app.join("linked/profile")), "env_file.outside_repository");
    assert_eq!(try_write(app.join("linked/new.env")), "env_file.outside_repository");
    assert_eq!(mode(&profile), 0o644);
    for data in ["../.git/config", "../.git/hooks/pre-commit", "../.GIT/x"] {
        let path = app.join(data);
        if path.parent().unwrap().is_dir() {
            assert_eq!(try_write(path), "env_file.repository_data", "{data}");
        }
    }
    // Git's data under another name: a separate folder, or a bare repository among the files.
    let vendored = app.join("vendor/lib.git");
    for part in ["objects", "refs", "hooks"] {
        fs::create_dir_all(vendored.join(part)).unwrap();
    }
    fs::write(vendored.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    for data in ["config", "hooks/pre-commit", "HEAD"] {
        assert_eq!(try_write(vendored.join(data)), "env_file.repository_data", "{data}");
    }
    assert!(env_file::upsert_block(&app.join("vendor/.env.local"), Some(&inside), &block()).is_ok());
    // Anywhere in the repository is fine, and so is a path that the user names.
    assert!(env_file::upsert_block(&folder.path().join(".env.local"), Some(&inside), &block()).is_ok());
    assert!(env_file::upsert_block(&profile, None, &block()).is_ok());

    let (plain, _) = self::folder();
    let (below, beside) = (plain.path().join("app"), plain.path().join(".env.local"));
    fs::create_dir(&below).unwrap();
    let error = env_file::upsert_block(&beside, Some(&Boundary::of(&below)), &block()).unwrap_err();
    assert_eq!(error.code(), "env_file.outside_repository");
}

#[test]
fn work_trees_of_one_repository_share_an_env_file() {
    let (folder, path) = repository();
    fs::write(folder.path().join("a"), "").unwrap();
    git(folder.path(), &["add", "a"]);
    git(folder.path(), &["commit", "-qm", "x"]);
    let (_other, linked) = self::folder();
    let linked = linked.with_file_name("tree");
    git(folder.path(), &["worktree", "add", "-q", linked.to_str().unwrap()]);
    upsert_block(&path, &block()).unwrap();
    symlink(&path, linked.join(".env.local")).unwrap();
    assert_eq!(state(&linked.join(".env.local")), (true, vec![]));
    assert!(upsert_block(&linked.join(".env.local"), &block()).unwrap().changes.is_empty());
    // Another repository is another matter, as far as something would be written.
    let (stranger, own) = repository();
    fs::remove_file(linked.join(".env.local")).unwrap();
    symlink(&path, &own).unwrap();
    assert_eq!(state(&own), (true, vec![]));
    fs::write(&path, "").unwrap();
    assert_eq!(refused(&own), "env_file.link_leaves_repository");
    drop(stranger);
}

#[test]
fn being_ignored_is_looked_at_every_time() {
    let (folder, path) = repository();
    upsert_block(&path, &block()).unwrap();
    assert_eq!(state(&path), (true, vec![]));
    let needs_rule = || content(look(&path)).0.needs_ignore_rule;
    for lost in ["", "*.log\n", ".env.local\n!.env.local\n"] {
        fs::write(folder.path().join(".gitignore"), lost).unwrap();
        let (current, warnings) = state(&path);
        assert!(current && needs_rule() && warnings.iter().any(|warning| warning.contains("could be committed")), "{lost:?}");
        upsert_block(&path, &block()).unwrap();
        assert!(!needs_rule(), "{lost:?}");
    }
}

#[test]
fn other_version_control_systems_are_repositories_too() {
    for marker in [".jj", ".sl"] {
        let (folder, path) = folder();
        fs::create_dir_all(folder.path().join(marker).join("repo")).unwrap();
        let rules = folder.path().join(".gitignore");
        assert_eq!(upsert_block(&path, &block()).unwrap().ignored, Some(IgnoreOutcome::Added(rules)), "{marker}");
        assert_eq!(upsert_block(&path, &block()).unwrap().ignored, Some(IgnoreOutcome::Already), "{marker}");
        assert_eq!(state(&path), (true, vec![]), "{marker}");
    }
    let (folder, path) = folder();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir_all(root.join(".hg")).unwrap();
    fs::create_dir_all(root.join("app")).unwrap();
    let below = root.join("app").join(path.file_name().unwrap());
    let rules = root.join(".hgignore");
    assert_eq!(ensure_ignored(&below).unwrap(), IgnoreOutcome::Added(rules.clone()));
    assert_eq!(fs::read_to_string(rules).unwrap(), "rootglob:app/.env.local\n");
    assert_eq!(ensure_ignored(&below).unwrap(), IgnoreOutcome::Already);
}

#[test]
fn who_may_read_the_key_is_looked_at_every_time() {
    let (_folder, path) = repository();
    upsert_block(&path, &block()).unwrap();
    let exposed = || content(look(&path)).0.exposed_mode;
    assert_eq!(exposed(), None);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(exposed(), Some(0o644));
    upsert_block(&path, &block()).unwrap();
    assert_eq!(exposed(), None);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
