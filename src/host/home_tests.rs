//! Homes as they are found on disks: of an earlier release, lost, opened to others, without room.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::{Host, HostParts, LocalBinaries, NativePlatform};
use crate::api::{ControlError, ControlPlane, IfMissing};
use crate::convex::deployment::DeploymentClient;
use crate::model::{
    Observation, ProjectName, ProviderKind, ProviderState, ResolvedBackend, RunState, Secret, SecretState, Snapshot,
};
use crate::provider::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError, async_trait};

/// The home and the manifest that the release 0.1.0 left.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/home_0_1_0");

fn host(home: &Path) -> Arc<Host> {
    Arc::new(Host::new(HostParts {
        platform: Box::new(NativePlatform::new(home.to_owned(), None, None)),
        name: super::EMBEDDED.to_owned(),
        providers: vec![Box::new(Recorder)],
        connections: DeploymentClient::default(),
        local_binaries: LocalBinaries::Any,
    }))
}

fn project() -> ProjectName {
    ProjectName::parse("gremlin").unwrap()
}

fn copy_of_fixture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["control-plane.sqlite3", "master.key"] {
        let to = folder.path().join(file);
        fs::copy(Path::new(FIXTURE).join(file), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

async fn snapshot(home: &Path) -> Result<Snapshot, ControlError> {
    host(home).embedded_session().snapshot(&project()).await
}

fn code(error: &ControlError) -> String {
    error.report().errors.swap_remove(0).code
}

#[tokio::test]
async fn a_home_in_which_others_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("of-others"), "").unwrap();
    let write = async |mode| {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let session = host(folder.path()).embedded_session();
        session.fingerprint_key(&project(), IfMissing::Create).await
    };
    for mode in [0o777, 0o775, 0o757] {
        assert_eq!(code(&write(mode).await.unwrap_err()), "home.exposed", "{mode:o}");
        assert!(!folder.path().join("master.key").exists(), "{mode:o}");
    }
    // What others may only look into is let be: what is ours in it is private by itself.
    write(0o755).await.unwrap();
    assert_eq!(fs::metadata(folder.path().join("master.key")).unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn a_home_of_the_release_before_opens_and_converges() {
    let folder = copy_of_fixture();
    let before = fs::read(folder.path().join("control-plane.sqlite3")).unwrap();
    // Reading changes nothing, though the schema is an older one.
    let seen = snapshot(folder.path()).await.unwrap();
    assert_eq!(fs::read(folder.path().join("control-plane.sqlite3")).unwrap(), before);
    let names: Vec<&str> = seen.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["preview", "records"]);
    assert_eq!(seen.quota.backends, Some(10));
    let host = host(folder.path());
    let session = host.embedded_session();
    let key = session.fingerprint_key(&project(), IfMissing::ReturnNone).await.unwrap().unwrap();
    let text = fs::read_to_string(Path::new(FIXTURE).join("convex.toml")).unwrap();
    let mut desired = crate::manifest::parse(&text, None).unwrap().desired;
    for backend in desired.backends.values_mut() {
        backend.env_files.clear();
        for (path, source) in crate::model::secret_slots(&backend.spec) {
            let value = match source {
                crate::model::SecretSource::Literal(text) => text,
                crate::model::SecretSource::Reference(_) => "hunter2-fixture".to_owned(),
            };
            backend.secrets.insert(path, SecretState::Known(key.fingerprint(&value)));
        }
    }
    let plan = |snapshot: Snapshot| {
        let actual =
            crate::plan::ObservedState { snapshot, env_files: std::collections::BTreeMap::new(), remembered: Vec::new() };
        crate::plan::build(&desired, &actual, &crate::plan::PlanOptions::default())
    };
    assert_eq!(plan(seen).steps, Vec::new());
    // A write brings the schema up to date; histories and tokens are as they were.
    let lease = session.acquire_lease(&project(), super::own_holder()).await.unwrap();
    session.release_lease(&lease).await.unwrap();
    let token = Secret::new(fs::read_to_string(Path::new(FIXTURE).join("apply.token")).unwrap().trim());
    host.authenticate(&token).unwrap();
    let level = crate::api::ResourceLevel::Project(project());
    assert_eq!(session.verify_history(&level, None).await.unwrap().breaks, Vec::<String>::new());
    assert_eq!(plan(snapshot(folder.path()).await.unwrap()).steps, Vec::new());
}

#[tokio::test]
async fn a_store_that_was_lost_is_not_taken_for_a_new_one() {
    let folder = copy_of_fixture();
    let data = folder.path().join("backends/abcdefghijkmnpqr/data");
    fs::create_dir_all(&data).unwrap();
    let all = |path: &Path| fs::write(path, "").unwrap();
    let gone = |path: &Path| fs::remove_file(path).unwrap();
    for (what, lose) in [("older", None), ("emptied", Some(&all as &dyn Fn(&Path))), ("missing", Some(&gone))] {
        let store = folder.path().join("control-plane.sqlite3");
        if let Some(lose) = lose {
            lose(&store);
        }
        let read = snapshot(folder.path()).await.unwrap_err();
        assert_eq!(code(&read), "home.store_lost", "{what}");
        let host = host(folder.path());
        let written = host.embedded_session().acquire_lease(&project(), super::own_holder()).await.unwrap_err();
        assert!(["home.store_lost", "home.master_key_missing"].contains(&code(&written).as_str()), "{what}: {written:?}");
    }
    let folder = copy_of_fixture();
    fs::create_dir_all(folder.path().join("backends/abcdefghijkmnpqr.lost/data")).unwrap();
    snapshot(folder.path()).await.expect("a store that was moved away keeps no new one from being made");
}

#[tokio::test]
async fn a_master_key_that_others_may_read_is_refused() {
    for mode in [0o644, 0o666, 0o640] {
        let folder = copy_of_fixture();
        let key = folder.path().join("master.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let refused = snapshot(folder.path()).await.unwrap_err();
        let finding = refused.report().errors.swap_remove(0);
        assert_eq!(finding.code, "home.exposed");
        assert!(finding.help.unwrap().contains("chmod 600"), "{mode:o}");
    }
    let folder = copy_of_fixture();
    fs::write(folder.path().join("master.key"), [0xff; 40]).unwrap();
    let finding = snapshot(folder.path()).await.unwrap_err().report().errors.swap_remove(0);
    assert_eq!(finding.code, "home.master_key_shape");
    // A new key would open nothing of the store that is there.
    assert!(finding.help.unwrap().contains("put back the key"));
}

/// A provider of records only.
struct Recorder;

#[async_trait]
impl Provider for Recorder {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    async fn observe(&self, _: &ResolvedBackend) -> Result<Observation, ProviderError> {
        Ok(Observation::as_recorded(RunState::Recorded))
    }

    async fn ensure(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        Ok(ProviderState::new())
    }

    async fn remove(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn logs(&self, _: &ResolvedBackend, _: LogPosition) -> Result<LogChunk, ProviderError> {
        Ok(LogChunk { text: String::new(), next: 0 })
    }
}
