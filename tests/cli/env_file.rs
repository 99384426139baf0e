//! Env files on a real disk: links, repositories, permissions, concurrent edits and what a killed run leaves.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use convexinfra::env_file::{
    self, Block, BlockOwner, Boundary, ClientVariables, EnvFileEdit, EnvFileError, ExpectedBlock, ExpectedClient,
    IgnoreOutcome, Inventory, StagedFile, WrittenFile,
};
use convexinfra::model::{
    BackendName, EnvFileContent, EnvFileState, Fingerprint, FingerprintKey, ProjectName, RequestedBy, Secret,
};
use tempfile::TempDir;

use super::env_file_repository::{git, repository};

const KEY: &str = "gremlin-dev|01abcdef";

const WANTED: &str = "CONVEX_SELF_HOSTED_URL=http://127.0.0.1:3210\nCONVEX_SELF_HOSTED_ADMIN_KEY='gremlin-dev|01abcdef'\n";

fn owner() -> BlockOwner {
    BlockOwner { project: ProjectName::parse("gremlin").unwrap(), backend: BackendName::parse("dev").unwrap() }
}

pub(super) fn block() -> Block {
    Block::new(owner(), "http://127.0.0.1:3210", Some(Secret::new(KEY)), None).unwrap()
}

pub(super) fn fingerprint(value: &str) -> Option<Fingerprint> {
    Some(FingerprintKey::new([7; 32]).fingerprint(value))
}

pub(super) fn expected() -> ExpectedBlock {
    ExpectedBlock {
        owner: owner(),
        url: Some("http://127.0.0.1:3210".to_owned()),
        has_pair: true,
        admin_key: fingerprint(KEY),
        client: None,
    }
}

pub(super) fn nothing(_: &str) -> Option<OsString> {
    None
}

/// What a manifest beside the file would have.
fn boundary(path: &Path) -> Boundary {
    Boundary::of(path.parent().unwrap())
}

pub(super) fn inspect(path: &Path, expected: &ExpectedBlock, environment: impl Fn(&str) -> Option<OsString>) -> EnvFileState {
    env_file::inspect(path, Some(&boundary(path)), expected, fingerprint, environment)
}

pub(super) fn upsert_block(path: &Path, block: &Block) -> Result<env_file::UpsertOutcome, EnvFileError> {
    env_file::upsert_block(path, Some(&boundary(path)), block)
}

fn remove_block(path: &Path, owner: &BlockOwner) -> Result<bool, EnvFileError> {
    env_file::remove_block(path, Some(&boundary(path)), owner, None)
}

pub(super) fn look(path: &Path) -> EnvFileState {
    inspect(path, &expected(), nothing)
}

pub(super) fn content(state: EnvFileState) -> (EnvFileContent, Vec<String>) {
    match state {
        EnvFileState::Writable { content, warnings, .. } => (content, warnings),
        EnvFileState::Refused { code, message } => panic!("{code}: {message}"),
    }
}

/// Whether the file is current, and its warnings.
pub(super) fn state(path: &Path) -> (bool, Vec<String>) {
    let (content, warnings) = content(look(path));
    (content.up_to_date, warnings)
}

/// The file is refused by both: what is planned and what is done.
pub(super) fn refused(path: &Path) -> String {
    let error = upsert_block(path, &block()).unwrap_err();
    let EnvFileState::Refused { code, message } = look(path) else { panic!("planned") };
    assert_eq!(code, error.code());
    assert!(message.starts_with(&error.to_string()) && !message.contains(KEY));
    code
}

pub(super) fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(".env.local");
    (folder, path)
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_file_is_created_for_this_user_only() {
    let (folder, path) = folder();
    assert!(!state(&path).0);
    let written = upsert_block(&path, &block()).unwrap();
    assert_eq!((written.changes, written.ignored), (vec![EnvFileEdit::BlockAdded], Some(IgnoreOutcome::NoRepository)));
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
    assert_eq!(fs::read(&path).unwrap(), foreign);
}

#[test]
fn another_key_or_url_is_not_current() {
    let (_folder, path) = folder();
    upsert_block(&path, &block()).unwrap();
    let other = |change: &dyn Fn(&mut ExpectedBlock)| {
        let mut expected = expected();
        change(&mut expected);
        content(inspect(&path, &expected, nothing)).0.up_to_date
    };
    assert!(other(&|_| {}));
    assert!(!other(&|expected| expected.admin_key = fingerprint("gremlin-dev|other")));
    assert!(!other(&|expected| expected.admin_key = None));
    assert!(!other(&|expected| expected.url = Some("http://127.0.0.1:9999".to_owned())));
    assert!(!other(&|expected| expected.url = None));
    let client = ExpectedClient { prefix: "VITE_".to_owned(), site_url: Some("http://127.0.0.1:3211".to_owned()) };
    assert!(!other(&|expected| expected.client = Some(client.clone())));
    let (content, _) = content(look(&path));
    assert_eq!((content.url.as_deref(), content.admin_key), (Some("http://127.0.0.1:3210"), fingerprint(KEY)));
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
    assert_eq!(written.ignored, Some(IgnoreOutcome::Added(rules)));
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
fn what_a_killed_run_left_is_removed_by_the_next_one() {
    let (folder, path) = repository();
    fs::write(folder.path().join(".env.convexinfra-abandoned.local"), KEY).unwrap();
    fs::write(folder.path().join(".env.convexinfra-mine"), "").unwrap();
    let running = StagedFile::create(folder.path()).unwrap();
    let abandoned = StagedFile::create(folder.path()).unwrap();
    let left = folder.path().join(".convexinfra-left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(".gitignore"), "*\n").unwrap();
    fs::write(left.join(".tmpABC"), KEY).unwrap();
    let foreign = folder.path().join(".convexinfra-own");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes"), "").unwrap();
    // From its first moment on, git would take none of it.
    let status = Command::new("git").arg("-C").arg(folder.path()).args(["status", "--porcelain", "-uall"]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(!status.contains("tmp") && !status.contains("left"), "{status}");
    drop(abandoned);
    upsert_block(&path, &block()).unwrap();
    let names = names(folder.path());
    assert!(!names.contains(&".convexinfra-left".to_owned()) && names.contains(&".convexinfra-own".to_owned()), "{names:?}");
    assert!(!names.contains(&".env.convexinfra-abandoned.local".to_owned()), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with(".convexinfra-")).count(), 2, "one still runs: {names:?}");
    drop(running);
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
    let (_, warnings) = content(inspect(&path, &expected(), environment));
    let with = |parts: &[&str]| warnings.iter().filter(|warning| parts.iter().all(|part| warning.contains(part))).count();
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
    assert_eq!(with(&["`CONVEX_DEPLOY_KEY`", ".env.local"]), 1);
    assert_eq!(with(&["`CONVEX_DEPLOY_KEY`", "environment"]), 1);
    assert_eq!(with(&["`CONVEX_DEPLOYMENT_TOKEN`", "in `.env` beside it"]), 1);
    assert_eq!(with(&["`CONVEX_DEPLOYMENT` is set in `.env`"]), 1);
    assert_eq!(with(&["`CONVEX_SELF_HOSTED_ADMIN_KEY`", "environment"]), 1);

    // A file that only `--env-file` reads is read alone.
    let named = folder.path().join(".env.staging");
    assert_eq!(inspect(&named, &expected(), environment), look(&named));
    assert_eq!(state(&named).1, Vec::<String>::new());
}

#[test]
fn looking_changes_nothing() {
    let (folder, path) = repository();
    fs::write(&path, "CONVEX_DEPLOYMENT=x\n").unwrap();
    let before = names(folder.path());
    look(&path);
    let text = env_file::diff::preview(&env_file::read(&path).unwrap().unwrap(), &expected(), fingerprint);
    assert!(text.contains("+CONVEX_SELF_HOSTED_ADMIN_KEY='<secret hmac:"), "{text}");
    assert_eq!(names(folder.path()), before);
    assert_eq!(fs::read(&path).unwrap(), b"CONVEX_DEPLOYMENT=x\n");
}

#[test]
fn a_file_without_a_key_is_neither_hidden_nor_ignored() {
    let (folder, path) = repository();
    fs::write(&path, "A=1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    git(folder.path(), &["add", ".env.local"]);
    let client = ClientVariables { prefix: "VITE_".to_owned(), site_url: "http://127.0.0.1:3211".to_owned() };
    let block = Block::new(owner(), "http://127.0.0.1:3210", None, Some(client)).unwrap();
    assert_eq!(upsert_block(&path, &block).unwrap().ignored, None);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("VITE_CONVEX_URL=http://127.0.0.1:3210\n") && !text.contains("SELF_HOSTED"), "{text}");
    assert_eq!((mode(&path), folder.path().join(".gitignore").exists()), (0o640, false));
    let expected = ExpectedBlock {
        has_pair: false,
        admin_key: None,
        client: Some(ExpectedClient { prefix: "VITE_".to_owned(), site_url: Some("http://127.0.0.1:3211".to_owned()) }),
        ..expected()
    };
    assert!(content(inspect(&path, &expected, nothing)).0.up_to_date);
    remove_block(&path, &owner()).unwrap();
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("A=1\n", 0o640));
}

#[test]
fn a_plan_shows_the_client_variables_that_apply_changes() {
    let (_folder, path) = folder();
    fs::write(&path, "VITE_CONVEX_URL=https://prod-otter-1.convex.cloud\n").unwrap();
    let client = Some(ExpectedClient { prefix: "VITE_".to_owned(), site_url: None });
    let new = ExpectedBlock { url: None, admin_key: None, client, ..expected() };
    let difference = content(inspect(&path, &new, nothing)).0.difference;
    for line in [
        "-VITE_CONVEX_URL=https://prod-otter-1.convex.cloud\n",
        "+# VITE_CONVEX_URL=https://prod-otter-1.convex.cloud\n",
        "+VITE_CONVEX_URL=<known after apply>\n",
        "+VITE_CONVEX_SITE_URL=<known after apply>\n",
    ] {
        assert!(difference.contains(line), "{line}{difference}");
    }
}

#[test]
fn written_files_are_remembered_by_project_and_control_plane() {
    let home = TempDir::new().unwrap();
    let project = ProjectName::parse("gremlin").unwrap();
    let file = |requested_by, url: &str| WrittenFile {
        backend: BackendName::parse("dev").unwrap(),
        requested_by,
        urls: vec![url.to_owned()],
    };
    let remember = |path: &str, by| {
        Inventory::remember(home.path(), "embedded", &project, Path::new(path), file(by, "http://127.0.0.1:1")).unwrap();
    };
    remember("/a/.env.local", RequestedBy::Manifest);
    remember("/a/.env.local", RequestedBy::Command);
    remember("/b/.env", RequestedBy::Command);
    let load = |control_plane: &str| Inventory::load(home.path(), control_plane, &project);
    let found: Vec<_> = load("embedded").files().map(|(path, file)| (path.to_owned(), file.requested_by)).collect();
    let expected = [("/a/.env.local".into(), RequestedBy::Manifest), ("/b/.env".into(), RequestedBy::Command)];
    assert_eq!(found, expected);
    assert_eq!(load("https://control.example.com").files().count(), 0);
    Inventory::forget(home.path(), "embedded", &project, Path::new("/b/.env")).unwrap();
    assert_eq!(load("embedded").files().count(), 1);
    let mode = fs::metadata(home.path().join("env-files")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    fs::write(home.path().join("env-files").join("gremlin-x.json"), "no json").unwrap();
    assert!(load("embedded").get(Path::new("/a/.env.local")).is_some());
}
