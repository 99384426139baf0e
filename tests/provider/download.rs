//! Where the real binary comes from, and everything that goes wrong on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convexinfra::convex::release::Platform;
use convexinfra::model::{BackendSpec, ProviderKind, ProviderState, Release, ResolvedBackend};
use convexinfra::provider::local::{DownloadSources, Local};
use convexinfra::provider::{ProgressFn, Provider, ProviderError};

use sha2::Digest as _;

use super::server::{Fault, Server};
use super::world::{EXECUTABLE, placement, ports, script};

const TAG: &str = "precompiled-2026-08-21-652b828";
const NEXT_DAY: &str = "precompiled-2026-08-22-652b828";

struct Fixture {
    directory: tempfile::TempDir,
    server: Server,
    local: Local,
    placement: ResolvedBackend,
}

/// The executable in the archive ends at once: what is tried here is how it gets here.
fn archive(seed: u8) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("LICENSE.md", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"free").unwrap();
    zip.start_file("convex-local-backend", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"#!/bin/sh\necho started; exit 7\n").unwrap();
    // Bytes that do not shrink, so that there is something to cut.
    let mut state = u32::from(seed) + 1;
    let noise = (0..100_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + u8::try_from(state >> 28).unwrap()
    });
    zip.write_all(&noise.collect::<Vec<u8>>()).unwrap();
    zip.finish().unwrap().into_inner()
}

fn path_of(tag: &str) -> String {
    format!("/{tag}/{}", Platform::detect().unwrap().asset())
}

impl Fixture {
    async fn new(faults: &[Fault]) -> Self {
        Self::with_server(Server::start(vec![(path_of(TAG), archive(1))], faults).await)
    }

    /// With a server that describes the release as GitHub does: with this digest of its file.
    async fn with_published_digest(digest: Option<&str>) -> Self {
        let server = Server::start(vec![(path_of(TAG), archive(1))], &[]).await;
        let asset = Platform::detect().unwrap().asset();
        let described = serde_json::json!({ "assets": [{ "name": asset, "digest": digest }] });
        server.put(&format!("/tags/{TAG}"), described.to_string().as_bytes());
        let digests = Some(format!("{}/tags", server.url));
        Self::with_sources(server, digests)
    }

    fn with_server(server: Server) -> Self {
        Self::with_sources(server, None)
    }

    fn with_sources(server: Server, digests: Option<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = DownloadSources {
            downloads: server.url.clone(),
            latest: format!("{}/latest", server.url),
            digests,
            convex_cache: Some(directory.path().join("client")),
            stall: Duration::from_millis(300),
        };
        let local = Local::new(directory.path().join("home"), EXECUTABLE.into(), sources);
        let mut spec = BackendSpec::new(ProviderKind::Local);
        spec.release = Some(Release::parse(TAG).unwrap());
        Self { directory, server, local, placement: placement(spec, ports()) }
    }

    /// Ensures, and takes the end of the executable with code 7 as the sign that it was run.
    async fn run(&self) -> Result<(), ProviderError> {
        self.run_with_progress(&|_| {}).await
    }

    async fn run_with_progress(&self, progress: ProgressFn<'_>) -> Result<(), ProviderError> {
        match self.local.ensure(&self.placement, progress).await {
            Err(ProviderError::Exited { status, log }) => {
                assert_eq!((status.as_str(), log.join(" ").as_str()), ("exit code 7", "started"));
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => panic!("the executable ends at once"),
        }
    }

    fn binary(&self) -> PathBuf {
        self.directory.path().join("home/binaries").join(TAG).join("convex-local-backend")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.binary().parent().unwrap()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_binary_is_fetched_once_and_noted() {
    let fixture = Fixture::new(&[]).await;
    fixture.run().await.unwrap();
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), [path_of(TAG)]);
    assert_eq!(fixture.files(), ["archive-sha256", "convex-local-backend", "sha256", "turn"]);
}

#[tokio::test]
async fn an_archive_is_compared_with_the_published_digest() {
    let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)));
    let fixture = Fixture::with_published_digest(Some(&digest(&archive(1)))).await;
    fixture.run_with_progress(&|line| assert!(!line.contains("not verified"), "{line}")).await.unwrap();

    let other = digest(b"another archive");
    let fixture = Fixture::with_published_digest(Some(&other)).await;
    match fixture.run().await {
        Err(ProviderError::DigestMismatch { expected, found, .. }) => {
            assert_eq!((expected, found), (other, digest(&archive(1))));
        }
        failed => panic!("{failed:?}"),
    }
    assert_eq!(fixture.files(), ["turn"], "what was not verified is neither unpacked nor kept");
}

#[tokio::test]
async fn an_archive_without_a_published_digest_is_reported() {
    for digest in [None, Some("md5:0")] {
        let fixture = Fixture::with_published_digest(digest).await;
        let said = std::sync::Mutex::new(String::new());
        fixture.run_with_progress(&|line| said.lock().unwrap().push_str(&line)).await.unwrap();
        let said = said.into_inner().unwrap();
        assert!(said.contains("was not verified: no digest is published for it; pin it with `release = { tag = "), "{said}");
    }
}

#[tokio::test]
async fn a_pinned_digest_decides_whatever_is_published_or_cached() {
    let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)));
    let mut fixture = Fixture::with_published_digest(Some(&digest(b"another archive"))).await;
    client_binary(&fixture, TAG);
    fixture.placement.spec.settings.local.archive_digest = Some(digest(&archive(1)));
    fixture.run().await.unwrap();
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), [path_of(TAG)], "the client's own binary is of an unknown archive");

    fixture.placement.spec.settings.local.archive_digest = Some(digest(b"a third archive"));
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::DigestMismatch { .. })), "{failed:?}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_refused_at_once() {
    for target in ["http://mirror.example/x", "https://mirror.example/x", "ftp://127.0.0.1/x"] {
        let fixture = Fixture::new(&[Fault::RedirectTo(target)]).await;
        match fixture.run().await {
            Err(ProviderError::Download { reason, .. }) => assert!(reason.contains("stay on HTTPS"), "{target}: {reason}"),
            other => panic!("{target}: {other:?}"),
        }
        assert_eq!(fixture.server.requests(), [path_of(TAG)], "{target}");
        assert!(!fixture.binary().exists());
    }
}

#[tokio::test]
async fn only_this_user_may_replace_a_downloaded_binary() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new(&[]).await;
    let binaries = fixture.directory.path().join("home/binaries");
    // As an earlier release left it under umask 002.
    std::fs::create_dir_all(&binaries).unwrap();
    std::fs::set_permissions(&binaries, PermissionsExt::from_mode(0o775)).unwrap();
    fixture.run().await.unwrap();
    for directory in [binaries.as_path(), fixture.binary().parent().unwrap()] {
        assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700, "{}", directory.display());
    }
}

#[tokio::test]
async fn a_binary_that_nothing_is_noted_about_is_fetched_again() {
    for note in [None, Some(""), Some("half a no")] {
        let fixture = Fixture::new(&[]).await;
        fixture.run().await.unwrap();
        let path = fixture.binary().with_file_name("sha256");
        // A foreign file, which must not be run.
        std::fs::write(fixture.binary(), "#!/bin/sh\nexit 8\n").unwrap();
        match note {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        fixture.run().await.unwrap();
        assert_eq!(fixture.server.requests(), [path_of(TAG), path_of(TAG)], "{note:?}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("sha256:"), "{note:?}");
    }
}

#[tokio::test]
async fn a_cut_or_stalled_download_goes_on_where_it_ended() {
    for fault in [Fault::Cut, Fault::Stall] {
        let fixture = Fixture::new(&[fault, Fault::Busy]).await;
        fixture.run().await.unwrap();
        let half = archive(1).len() / 2;
        let rest = format!("{} from {half}", path_of(TAG));
        assert_eq!(fixture.server.requests(), [path_of(TAG), rest.clone(), rest], "{fault:?}");
    }
}

#[tokio::test]
async fn what_an_ended_command_has_fetched_is_not_fetched_again() {
    let fixture = Fixture::new(&[Fault::Stall]).await;
    let half = archive(1).len() / 2;
    let partial = fixture.binary().with_file_name("download.zip");
    let arrived = super::world::until("half has arrived", || {
        std::fs::metadata(&partial).is_ok_and(|metadata| usize::try_from(metadata.len()).unwrap() == half)
    });
    tokio::select! {
        ended = fixture.run() => panic!("{ended:?}"),
        () = arrived => {}
    }
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), [path_of(TAG), format!("{} from {half}", path_of(TAG))]);
}

#[tokio::test]
async fn a_part_is_only_gone_on_with_where_the_server_can_tell() {
    let fixture = Fixture::new(&[Fault::Cut, Fault::IgnoreRange]).await;
    fixture.run().await.unwrap();
    let fixture = Fixture::new(&[Fault::Cut, Fault::OtherPart]).await;
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests().last(), Some(&path_of(TAG)));
    let server = Server::start(vec![(path_of(TAG), archive(1))], &[Fault::Cut]).await.without_etag();
    let fixture = Fixture::with_server(server);
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), [path_of(TAG), path_of(TAG)]);
}

#[tokio::test]
async fn a_wrong_length_is_no_download() {
    let fixture = Fixture::new(&[Fault::WrongLength; 99]).await;
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::Download { .. })), "{failed:?}");
    assert!(!fixture.binary().exists());
}

#[tokio::test]
async fn a_build_over_midnight_is_found() {
    let fixture = Fixture::with_server(Server::start(vec![(path_of(NEXT_DAY), archive(1))], &[]).await);
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), [path_of(TAG), path_of(NEXT_DAY)]);
}

#[tokio::test]
async fn what_is_not_published_is_told() {
    let fixture = Fixture::with_server(Server::start(Vec::new(), &[]).await);
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::NoBinary { .. })), "{failed:?}");
    assert_eq!(fixture.server.requests().len(), 3);
}

#[tokio::test]
async fn a_damaged_archive_is_fetched_once_more_and_then_told() {
    let mut damaged = archive(1);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let fixture = Fixture::with_server(Server::start(vec![(path_of(TAG), damaged)], &[]).await);
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::NoBinary { .. })), "{failed:?}");
    assert_eq!(fixture.server.requests().len(), 2);
    assert!(!fixture.binary().exists());
    fixture.server.put(&path_of(TAG), &archive(1));
    fixture.run().await.unwrap();
}

#[tokio::test]
async fn the_latest_release_is_resolved_once() {
    let mut fixture = Fixture::new(&[]).await;
    fixture.server.put("/latest", format!(r#"{{"version":"{TAG}"}}"#).as_bytes());
    fixture.placement.spec.release = Some(Release::Latest);
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), ["/latest".to_owned(), path_of(TAG)]);
    // What was noted counts from then on, though the pointer moves.
    fixture.server.put("/latest", br#"{"version":"precompiled-2026-09-09-aaaaaaa"}"#);
    fixture.placement.provider_state = ProviderState::from([("release".to_owned(), TAG.to_owned())]);
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests().len(), 2);
}

#[tokio::test]
async fn without_the_pointer_what_is_at_hand_runs() {
    let mut fixture = Fixture::new(&[]).await;
    fixture.placement.spec.release = None;
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::Unreachable(_))), "{failed:?}");
    client_binary(&fixture, NEXT_DAY);
    fixture.run().await.unwrap();
}

fn client_binary(fixture: &Fixture, tag: &str) -> PathBuf {
    let directory = fixture.directory.path().join("client").join(tag);
    script(&directory, "convex-local-backend", "echo started; exit 7")
}

#[tokio::test]
async fn the_cache_of_the_convex_client_serves_too_and_stays_as_it_is() {
    let mut fixture = Fixture::new(&[]).await;
    let binary = client_binary(&fixture, TAG);
    fixture.run().await.unwrap();
    fixture.placement.spec.release = Some(Release::Commit("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf".to_owned()));
    fixture.run().await.unwrap();
    assert_eq!(fixture.server.requests(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(binary.parent().unwrap()).unwrap().count(), 1);
    fixture.placement.spec.release = Some(Release::Commit("b".repeat(40)));
    assert!(matches!(fixture.run().await, Err(ProviderError::NoBinary { .. })));
}

#[tokio::test]
async fn a_changed_binary_is_not_run() {
    let fixture = Fixture::new(&[]).await;
    fixture.run().await.unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(fixture.binary()).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::BinaryChanged { .. })), "{failed:?}");
    std::fs::remove_file(fixture.binary()).unwrap();
    fixture.run().await.unwrap();
}

#[tokio::test]
async fn two_backends_share_one_download() {
    let fixture = Fixture::new(&[Fault::Stall]).await;
    let mut other = fixture.placement.clone();
    other.id = convexinfra::model::BackendId::new("b-0002");
    other.ports = ports();
    let second = fixture.local.ensure(&other, &|_| {});
    let (one, two) = tokio::join!(fixture.run(), second);
    one.unwrap();
    assert!(matches!(two, Err(ProviderError::Exited { .. })), "{two:?}");
    assert_eq!(fixture.server.requests().len(), 2, "one that stalls, and the rest");
}

#[tokio::test]
async fn a_binary_that_cannot_run_is_told() {
    let mut fixture = Fixture::new(&[]).await;
    let directory = fixture.directory.path().join("own");
    let plain = script(&directory, "plain", "exit 0");
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for path in [directory.join("missing"), directory.clone(), plain] {
        fixture.placement.spec.settings.local.binary = Some(path.display().to_string());
        let failed = fixture.run().await;
        assert!(matches!(failed, Err(ProviderError::NoBinary { .. })), "{failed:?}");
    }
    let foreign = directory.join("foreign");
    std::fs::write(&foreign, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fixture.placement.spec.settings.local.binary = Some(foreign.display().to_string());
    let failed = fixture.run().await;
    assert!(matches!(failed, Err(ProviderError::Process { verb: "started", .. })), "{failed:?}");
    assert!(!Path::new(&fixture.directory.path().join("home/binaries")).exists());
}

#[tokio::test]
async fn another_own_binary_restarts_and_is_told_as_drift() {
    let mut world = super::world::ProviderFixture::new(super::world::local);
    world.ensure().await;
    super::world::until_running(&world).await;
    let pid = world.pid();
    let binary = world.placement.spec.settings.local.binary.clone().unwrap();
    let mut text = std::fs::read_to_string(&binary).unwrap();
    text.insert_str("#!/bin/sh\n".len(), "# another build\n");
    std::fs::write(&binary, text).unwrap();
    let seen = super::world::until_running(&world).await;
    assert_eq!(seen.drift.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["binary"]);
    world.ensure().await;
    assert_ne!(world.pid(), pid);
    assert_eq!(super::world::until_running(&world).await.drift, Vec::new());
}
