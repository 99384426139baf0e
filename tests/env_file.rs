//! Env files on a real disk: links, repositories, permissions, concurrent edits and what a killed run leaves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use convexinfra::env_file::{
    self, Block, BlockOwner, ClientVariables, EnvFileEdit, EnvFileError, ExpectedBlock, IgnoreOutcome, TrackedState,
    ensure_ignored, inspect, remove_block, tracked, upsert_block, write,
};
use convexinfra::model::{BackendName, EnvFileState, Fingerprint, FingerprintKey, ProjectName, Secret};
use tempfile::TempDir;

const KEY: &str = "gremlin-dev|01abcdef";
const WANTED: &str = "CONVEX_SELF_HOSTED_URL=http://127.0.0.1:3210\nCONVEX_SELF_HOSTED_ADMIN_KEY='gremlin-dev|01abcdef'\n";

fn owner() -> BlockOwner {
    BlockOwner { project: ProjectName::parse("gremlin").unwrap(), backend: BackendName::parse("dev").unwrap() }
}

fn block() -> Block {
    Block::new(owner(), "http://127.0.0.1:3210", Secret::new(KEY), None).unwrap()
}

fn fingerprint(value: &str) -> Option<Fingerprint> {
    Some(FingerprintKey::new([7; 32]).fingerprint(value))
}

fn expected() -> ExpectedBlock {
    ExpectedBlock { owner: owner(), url: Some("http://127.0.0.1:3210".to_owned()), admin_key: fingerprint(KEY), client: None }
}

fn nothing(_: &str) -> Option<OsString> {
    None
}

fn look(path: &Path) -> EnvFileState {
    inspect(path, Some(&expected()), fingerprint, nothing)
}

/// Whether the file is current, and its warnings.
fn state(path: &Path) -> (bool, Vec<String>) {
    match look(path) {
        EnvFileState::Writable { current, warnings, .. } => (current, warnings),
        EnvFileState::Refused { code, message } => panic!("{code}: {message}"),
    }
}

/// The file is refused by both: what is planned and what is done.
fn refused(path: &Path) -> String {
    let error = upsert_block(path, &block()).unwrap_err();
    let EnvFileState::Refused { code, message } = look(path) else { panic!("planned") };
    assert_eq!(code, error.code());
    assert!(message.starts_with(&error.to_string()) && !message.contains(KEY));
    code
}

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(".env.local");
    (folder, path)
}

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
    let output = command.arg("-C").arg(folder).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn repository() -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    git(folder.path(), &["init", "-q"]);
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_file_is_created_for_this_user_only() {
    let (folder, path) = folder();
    assert!(!state(&path).0);
    let written = upsert_block(&path, &block()).unwrap();
    assert_eq!((written.changes, written.ignored), (vec![EnvFileEdit::BlockAdded], IgnoreOutcome::NoRepository));
    assert!(fs::read_to_string(&path).unwrap().contains(WANTED));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(state(&path), (true, vec![]));
    assert!(upsert_block(&path, &block()).unwrap().changes.is_empty());
    assert_eq!(names(folder.path()), [".env.local"]);

    assert!(remove_block(&path, &owner()).unwrap());
    assert!(!path.exists());
    assert!(!remove_block(&path, &owner()).unwrap());
    assert!(!remove_block(&folder.path().join("no/such"), &owner()).unwrap());
}

#[test]
fn foreign_bytes_stay() {
    let (_folder, path) = folder();
    let foreign = b"# caf\xe9\r\nA='1'  # one\r\nexport B=2\r\n\r\nC=\"x\r\ny\"";
    fs::write(&path, foreign).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    upsert_block(&path, &block()).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.starts_with(foreign));
    let ours = bytes.get(foreign.len()..).unwrap();
    assert!(ours.starts_with(b"\r\n\r\n# >>>") && !String::from_utf8_lossy(ours).replace("\r\n", "").contains('\n'));
    assert_eq!(mode(&path), 0o600);
    remove_block(&path, &owner()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&foreign[..], b"\r\n"].concat());
}

#[test]
fn another_key_or_url_is_not_current() {
    let (_folder, path) = folder();
    upsert_block(&path, &block()).unwrap();
    let other = |change: &dyn Fn(&mut ExpectedBlock)| {
        let mut expected = expected();
        change(&mut expected);
        matches!(inspect(&path, Some(&expected), fingerprint, nothing), EnvFileState::Writable { current: true, .. })
    };
    assert!(other(&|_| {}));
    assert!(!other(&|expected| expected.admin_key = fingerprint("gremlin-dev|other")));
    assert!(!other(&|expected| expected.admin_key = None));
    assert!(!other(&|expected| expected.url = Some("http://127.0.0.1:9999".to_owned())));
    assert!(!other(&|expected| expected.url = None));
    let client = ClientVariables { prefix: "VITE_".to_owned(), site_url: "http://127.0.0.1:3211".to_owned() };
    assert!(!other(&|expected| expected.client = Some(client.clone())));
    let EnvFileState::Writable { current, url, admin_key, .. } = inspect(&path, None, fingerprint, nothing) else { panic!() };
    assert_eq!((current, url.as_deref(), admin_key), (false, Some("http://127.0.0.1:3210"), fingerprint(KEY)));
}

#[test]
fn folders_pipes_and_large_files_are_refused() {
    let (folder, path) = folder();
    assert_eq!(refused(folder.path()), "env_file.folder");
    assert_eq!(refused(&folder.path().join("no/.env.local")), "env_file.folder_missing");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    assert_eq!(refused(&path), "env_file.not_a_file");
    assert_eq!(refused(Path::new("/dev/null")), "env_file.not_a_file");
    let large = folder.path().join("large");
    fs::write(&large, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(refused(&large), "env_file.too_large");
    let wide = folder.path().join("wide");
    fs::write(&wide, b"\xff\xfeA\0=\0").unwrap();
    assert_eq!(refused(&wide), "env_file.not_text");
    assert_eq!(refused(&wide.join(".env.local")), "env_file.folder_missing");
}

#[test]
fn a_link_stays_and_its_target_is_written() {
    let (folder, path) = repository();
    fs::create_dir(folder.path().join("shared")).unwrap();
    let target = folder.path().join("shared/env");
    fs::write(&target, "A=1\n").unwrap();
    symlink("shared/env", &path).unwrap();
    let written = upsert_block(&path, &block()).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().starts_with("A=1\n\n# >>>"));
    let rules = folder.path().canonicalize().unwrap().join("shared/.gitignore");
    assert_eq!(written.ignored, IgnoreOutcome::Added(rules));
    assert_eq!(state(&path), (true, vec![]));
    git(folder.path(), &["add", "-f", "shared/env"]);
    assert_eq!(refused(&path), "env_file.tracked_by_git");
}

#[test]
fn links_to_nowhere_or_outside_are_refused() {
    let (outside, elsewhere) = folder();
    fs::write(&elsewhere, "").unwrap();
    let (_folder, path) = repository();
    symlink(&elsewhere, &path).unwrap();
    assert_eq!(refused(&path), "env_file.link_leaves_repository");
    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    assert_eq!(refused(&path), "env_file.dangling_link");
    fs::remove_file(&path).unwrap();
    symlink(".env.local", &path).unwrap();
    assert_eq!(refused(&path), "env_file.looping_link");
    assert_eq!(names(outside.path()), [".env.local"]);
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
    assert_eq!(upsert_block(&path, &block()).unwrap().ignored, IgnoreOutcome::Added(rules.clone()));
    assert_eq!(fs::read(&rules).unwrap(), b"node_modules\r\ndist\r\n.env.local\r\n");
    assert_eq!(upsert_block(&path, &block()).unwrap().ignored, IgnoreOutcome::Already);
    fs::write(&rules, ".env*\n!.env.local").unwrap();
    upsert_block(&path, &block()).unwrap();
    assert_eq!(fs::read(&rules).unwrap(), b".env*\n!.env.local\n.env.local\n");
    fs::remove_file(&rules).unwrap();
    upsert_block(&path, &block()).unwrap();
    assert_eq!(fs::read(&rules).unwrap(), b".env.local\n");
    assert_eq!(mode(&rules), 0o644);
    fs::write(&rules, "*.local\n").unwrap();
    assert_eq!(upsert_block(&path, &block()).unwrap().ignored, IgnoreOutcome::Already);
    assert_eq!(names(folder.path()), [".env.local", ".git", ".gitignore"]);
}

#[test]
fn read_only_files_and_folders_are_refused() {
    let (folder, path) = folder();
    fs::write(&path, "A=1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    if fs::OpenOptions::new().append(true).open(&path).is_ok() {
        return; // Root may write anywhere, so there is nothing to refuse.
    }
    assert_eq!(refused(&path), "env_file.read_only");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(refused(&path), "env_file.folder_read_only");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"A=1\n");
    assert_eq!(names(folder.path()), [".env.local"]);
}

#[test]
fn an_edit_in_between_is_not_lost() {
    let (folder, path) = folder();
    fs::write(&path, "A=2\n").unwrap();
    assert!(matches!(write(&path, Some(b"A=1\n"), b"x"), Err(EnvFileError::ChangedMeanwhile { .. })));
    assert!(matches!(write(&path, None, b"x"), Err(EnvFileError::ChangedMeanwhile { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"A=2\n");
    fs::remove_file(&path).unwrap();
    assert!(matches!(write(&path, Some(b"A=1\n"), b"x"), Err(EnvFileError::ChangedMeanwhile { .. })));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let (folder, path) = folder();
    fs::write(folder.path().join(".env.convexinfra-abandoned.local"), KEY).unwrap();
    fs::write(folder.path().join(".env.convexinfra-mine"), "").unwrap();
    let running = fs::File::create(folder.path().join(".env.convexinfra-running.local")).unwrap();
    rustix::fs::flock(&running, rustix::fs::FlockOperation::LockExclusive).unwrap();
    upsert_block(&path, &block()).unwrap();
    assert_eq!(names(folder.path()), [".env.convexinfra-mine", ".env.convexinfra-running.local", ".env.local"]);
}

#[test]
fn writers_at_the_same_time_tear_nothing() {
    let (folder, path) = folder();
    fs::write(&path, "A=1\n").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    match upsert_block(&path, &block()) {
                        Ok(_) | Err(EnvFileError::ChangedMeanwhile { .. }) => {}
                        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
                    }
                    let text = fs::read_to_string(&path).unwrap();
                    assert!(text == "A=1\n" || (text.starts_with("A=1\n\n# >>>") && text.contains(WANTED)), "{text}");
                }
            });
        }
    });
    assert_eq!(names(folder.path()), [".env.local"]);
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    // A file size limit fails the same way for everybody, root included, but it holds for the whole process; so the
    // smallest file system that is always there and always full stands in.
    let source = fs::File::options().write(true).open("/dev/full").map(|mut full| std::io::Write::write_all(&mut full, b"x"));
    let Ok(Err(source)) = source else { return }; // No `/dev/full` here.
    let error = EnvFileError::DiskFull { path: PathBuf::from(".env.local"), source };
    assert_eq!(error.code(), "env_file.disk_full");
    assert!(!error.to_string().contains("os error"));
}

#[test]
fn rivals_are_warned_about() {
    let (folder, path) = folder();
    fs::write(&path, "CONVEX_DEPLOY_KEY=prod:x|y\n").unwrap();
    fs::write(folder.path().join(".env"), "export CONVEX_DEPLOYMENT_TOKEN='t'\nCONVEX_DEPLOYMENT=dev:x\n").unwrap();
    let environment = |name: &str| match name {
        "CONVEX_DEPLOY_KEY" => Some(OsString::from("k")),
        "CONVEX_DEPLOYMENT_TOKEN" => Some(OsString::new()),
        "CONVEX_SELF_HOSTED_URL" => Some(OsString::from("http://127.0.0.1:3210/")),
        "CONVEX_SELF_HOSTED_ADMIN_KEY" => Some(OsString::from("other")),
        _ => None,
    };
    let EnvFileState::Writable { warnings, .. } = inspect(&path, Some(&expected()), fingerprint, environment) else { panic!() };
    let with = |parts: &[&str]| warnings.iter().filter(|warning| parts.iter().all(|part| warning.contains(part))).count();
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
    assert_eq!(with(&["`CONVEX_DEPLOY_KEY`", ".env.local"]), 1);
    assert_eq!(with(&["`CONVEX_DEPLOY_KEY`", "environment"]), 1);
    assert_eq!(with(&["`CONVEX_DEPLOYMENT_TOKEN`", "in `.env` beside it"]), 1);
    assert_eq!(with(&["`CONVEX_DEPLOYMENT` is set in `.env`"]), 1);
    assert_eq!(with(&["`CONVEX_SELF_HOSTED_ADMIN_KEY`", "environment"]), 1);

    // A file that only `--env-file` reads is read alone.
    let named = folder.path().join(".env.staging");
    assert_eq!(inspect(&named, Some(&expected()), fingerprint, environment), look(&named));
    assert_eq!(state(&named).1, Vec::<String>::new());
}

#[test]
fn looking_changes_nothing() {
    let (folder, path) = repository();
    fs::write(&path, "CONVEX_DEPLOYMENT=x\n").unwrap();
    fs::write(folder.path().join(".env.convexinfra-abandoned.local"), "").unwrap();
    let before = names(folder.path());
    look(&path);
    let text = env_file::diff::preview(&env_file::read(&path).unwrap().unwrap(), &expected(), fingerprint);
    assert!(text.contains("+CONVEX_SELF_HOSTED_ADMIN_KEY='<secret hmac:"), "{text}");
    assert_eq!(names(folder.path()), before);
    assert_eq!(fs::read(&path).unwrap(), b"CONVEX_DEPLOYMENT=x\n");
}
