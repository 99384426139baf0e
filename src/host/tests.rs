//! A host over real rows, with a clock that is set by hand and a provider that does what a test wants.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::api::{IfMissing, Lease, OperationRequest, Work};
use crate::convex::deployment::{HttpRequest, HttpResponse, Transport, TransportError};
use crate::model::{
    BackendName, BackendSpec, DowngradeConsent, FingerprintKey, MoveConsent, Observation, OperationState, ProviderState,
    RunState, StepKey, TimeSpan,
};
use crate::provider::{LogChunk, LogPosition, ProgressFn, ProviderError, async_trait};

const BEGIN: i64 = 1_800_000_000_000;

/// A machine on which the time is what a test says, and every sleep is over at once.
struct TestPlatform {
    machine: NativePlatform,
    now: Arc<AtomicI64>,
    slept_ms: AtomicU64,
}

impl Platform for TestPlatform {
    fn read(&self, question: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError> {
        self.machine.read(question)
    }

    fn write(&self, beside: WriteMode, message: &mut dyn FnMut(&HostAuthority)) -> Result<(), ControlError> {
        self.machine.write(beside, message)
    }

    fn lock_exclusive(&self, address: &str) -> Result<(), ControlError> {
        self.machine.lock_exclusive(address)
    }

    fn fingerprint_key(&self, project: &ProjectName, need: IfMissing) -> Result<Option<FingerprintKey>, ControlError> {
        self.machine.fingerprint_key(project, need)
    }

    fn store_bytes(&self) -> u64 {
        self.machine.store_bytes()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.slept_ms.load(Ordering::Relaxed))
    }

    fn own_holder(&self) -> LeaseHolder {
        self.machine.own_holder()
    }

    fn liveness(&self, holder: &LeaseHolder) -> Liveness {
        self.machine.liveness(holder)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.machine.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // The deadline of a step is not what a test waits for.
        if duration >= Duration::from_secs(180) {
            return Box::pin(std::future::pending());
        }
        self.slept_ms.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        Box::pin(tokio::task::yield_now())
    }
}

/// A deployment that answers, and is not well.
struct UnreachableTransport;

impl Transport for UnreachableTransport {
    fn send(&self, _: HttpRequest, _: usize) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        let mut answer = HttpResponse::new(br#"{"code":"Overloaded","message":"the database is locked"}"#.to_vec());
        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        Box::pin(async { Ok(answer) })
    }
}

/// What the fake provider does: by default every `ensure` fails and every `remove` succeeds.
#[derive(Default)]
pub(super) struct ProviderSwitches {
    /// Whether `ensure` waits at the gate first.
    gated: AtomicBool,
    pub(super) in_the_way: AtomicBool,
    /// Whether what is brought up starts, and whether it can be looked at then.
    starts: AtomicBool,
    blind: AtomicBool,
    impossible: AtomicBool,
    /// Whether `ensure` panics.
    panics: AtomicBool,
    removals: AtomicUsize,
}

struct FakeProvider(Arc<ProviderSwitches>, Arc<Semaphore>);

pub(super) const WORDS: &str = "hunter2-hunter2";

fn said(words: &str) -> ProviderError {
    ProviderError::Exited { status: words.to_owned(), log: Vec::new() }
}

#[async_trait]
impl Provider for FakeProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    async fn observe(&self, _: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let blind = self.0.blind.load(Ordering::Relaxed);

        if blind { Err(said("the directory cannot be read")) } else { Ok(Observation::as_recorded(RunState::Running)) }
    }

    async fn ensure(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        assert!(!self.0.panics.load(Ordering::Relaxed), "the provider panics");
        if self.0.gated.load(Ordering::Relaxed) {
            self.1.acquire().await.unwrap().forget();
        }
        if self.0.starts.load(Ordering::Relaxed) { Ok(ProviderState::new()) } else { Err(said(WORDS)) }
    }

    async fn validate(&self, _: &BackendSpec) -> Result<(), ProviderError> {
        let impossible = self.0.impossible.load(Ordering::Relaxed);
        if impossible { Err(ProviderError::Unsupported("too large".to_owned())) } else { Ok(()) }
    }

    async fn remove(&self, _: &ResolvedBackend, _: ProgressFn<'_>) -> Result<(), ProviderError> {
        self.0.removals.fetch_add(1, Ordering::Relaxed);
        let in_the_way = self.0.in_the_way.load(Ordering::Relaxed);
        if in_the_way { Err(said(WORDS)) } else { Ok(()) }
    }

    async fn logs(&self, _: &ResolvedBackend, _: LogPosition) -> Result<LogChunk, ProviderError> {
        Ok(LogChunk { text: String::new(), next: 0 })
    }
}

pub(super) struct HostFixture {
    pub(super) host: Arc<Host>,
    pub(super) switches: Arc<ProviderSwitches>,
    gate: Arc<Semaphore>,
    now: Arc<AtomicI64>,
    log: Arc<Mutex<Vec<u8>>>,
    pub(super) folder: tempfile::TempDir,
    _logging: tracing::subscriber::DefaultGuard,
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn host_fixture() -> HostFixture {
    let folder = tempfile::tempdir().unwrap();
    let (switches, gate) = (Arc::<ProviderSwitches>::default(), Arc::new(Semaphore::new(0)));
    let now = Arc::new(AtomicI64::new(BEGIN));
    let log = Arc::<Mutex<Vec<u8>>>::default();
    let lines = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Lines(Arc::clone(&lines))).finish();
    let host = Arc::new(Host::new(HostParts {
        platform: Box::new(TestPlatform {
            machine: NativePlatform::new(folder.path().to_owned(), None, None),
            now: Arc::clone(&now),
            slept_ms: AtomicU64::new(0),
        }),
        name: "http://test".to_owned(),
        providers: vec![Box::new(FakeProvider(Arc::clone(&switches), Arc::clone(&gate)))],
        connections: DeploymentClient::new(UnreachableTransport),
        local_binaries: LocalBinaries::ReleasesOnly,
    }));
    HostFixture { host, switches, gate, now, log, folder, _logging: tracing::subscriber::set_default(subscriber) }
}

pub(super) fn project() -> ProjectName {
    ProjectName::parse("gremlin").unwrap()
}

pub(super) fn name(text: &str) -> BackendName {
    BackendName::parse(text).unwrap()
}

impl HostFixture {
    fn lease(&self) -> Lease {
        let here = self.host.platform.own_holder();
        self.host.write_rows(|authority| authority.acquire(&project(), &here, self.host.now(), |_| Liveness::Dead)).unwrap()
    }

    /// Brings a backend up that lives for ever.
    async fn bring_up(&self, backend: &str) -> OperationRecord {
        let spec = Box::new(BackendSpec::new(ProviderKind::Simulated));
        let work = Work::Put {
            spec,
            secrets: std::collections::BTreeMap::new(),
            renamed_from: None,
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        };
        let request = OperationRequest { step: StepKey::parse("plan/up"), backend: name(backend), work, origin: None };
        let lease = self.lease();
        let id = self
            .host
            .start_as(crate::authority::Principal::Trusted(&Actor::control_plane()), &lease, request)
            .await
            .unwrap()
            .id;
        self.end(&id).await
    }

    async fn put(&self, lease: &Lease, backend: &str, step: &str) -> Result<OperationId, ControlError> {
        let mut spec = BackendSpec::new(ProviderKind::Simulated);
        spec.ttl = Some(TimeSpan::from_seconds(60));
        let work = Work::Put {
            spec: Box::new(spec),
            secrets: std::collections::BTreeMap::new(),
            renamed_from: None,
            downgrade: DowngradeConsent::Missing,
            moves: MoveConsent::Missing,
        };
        let request = OperationRequest { step: StepKey::parse(step), backend: name(backend), work, origin: None };
        self.host
            .start_as(crate::authority::Principal::Trusted(&Actor::control_plane()), lease, request)
            .await
            .map(|started| started.id)
    }

    async fn remove(&self, lease: &Lease, backend: &str, step: &str) -> Result<OperationId, ControlError> {
        let work = Work::Remove {
            volume: crate::model::VolumeReclaim::Delete,
            database: crate::model::DatabaseReclaim::Retain,
            final_snapshot: false,
        };
        let request = OperationRequest { step: StepKey::parse(step), backend: name(backend), work, origin: None };
        let actor = Actor::control_plane();
        let started = self.host.start_as(crate::authority::Principal::Trusted(&actor), lease, request).await;
        started.map(|started| started.id)
    }

    async fn end(&self, id: &OperationId) -> OperationRecord {
        self.host.wait_until_ended(&project(), id, &|_| {}).await.unwrap()
    }

    /// Backends that could not be brought up, and live for a minute all the same; nobody holds the lease.
    pub(super) async fn with_backends(self, backends: &[&str]) -> Self {
        let lease = self.lease();
        for backend in backends {
            let id = self.put(&lease, backend, &format!("plan/{backend}")).await.unwrap();
            assert_eq!(self.end(&id).await.state, OperationState::Failed);
        }
        self.host.write_rows(|authority| authority.release(&lease, self.host.now())).unwrap();
        self
    }

    pub(super) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    /// Sweeps, and waits for what that has begun.
    pub(super) async fn sweep(&self) -> Result<(), ControlError> {
        let swept = self.host.sweep();
        while !self.host.registry.running().is_empty() {
            tokio::task::yield_now().await;
        }
        swept
    }

    pub(super) fn names(&self) -> Vec<String> {
        let view = self.host.read_rows(|authority| authority.view(&project())).unwrap().unwrap();
        view.backends.iter().map(|backend| backend.name.to_string()).collect()
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8(lock(&self.log).clone()).unwrap()
    }

    pub(super) fn removals(&self) -> usize {
        self.switches.removals.load(Ordering::Relaxed)
    }

    /// In how many seconds the next sweep is due.
    pub(super) fn next_sweep(&self) -> Option<i64> {
        self.host.next_sweep().unwrap().map(|next| next.since(self.host.now()) / 1000)
    }
}

#[tokio::test]
async fn a_waiting_operation_names_its_dependency() {
    let fixture = host_fixture();
    let lease = fixture.lease();
    fixture.switches.gated.store(true, Ordering::Relaxed);
    let first = fixture.put(&lease, "dev", "plan/first").await.unwrap();
    let elsewhere = fixture.put(&lease, "other", "plan/other").await.unwrap();
    let refused = fixture.put(&lease, "dev", "plan/second").await;
    let Err(ControlError::OperationRunning { backend, operation }) = refused else { panic!("{refused:?}") };
    assert_eq!((backend, &operation), (name("dev"), &first));
    assert_ne!(operation, elsewhere);
    fixture.gate.add_permits(2);
    fixture.end(&first).await;
    fixture.end(&elsewhere).await;
}

#[tokio::test]
async fn a_wait_that_times_out_names_the_last_obstacle() {
    for blind in [false, true] {
        let fixture = host_fixture();
        fixture.switches.starts.store(true, Ordering::Relaxed);
        fixture.switches.blind.store(blind, Ordering::Relaxed);
        let error = fixture.bring_up("dev").await.error.unwrap();
        assert_eq!(error.code, "convex.not_ready");
        assert!(error.message.contains("within 300 s") && error.message.contains("the database is locked"), "{error:?}");
        assert_eq!(error.message.contains("the directory cannot be read"), blind, "{error:?}");
    }
}

#[tokio::test]
async fn an_accepted_step_is_found_again_after_it_could_not_begin() {
    let fixture = host_fixture();
    let lease = fixture.lease();
    let id = fixture.put(&lease, "dev", "plan/dev").await.unwrap();
    fixture.end(&id).await;
    fixture.switches.impossible.store(true, Ordering::Relaxed);
    assert_eq!(fixture.put(&lease, "dev", "plan/dev").await.unwrap(), id);
    let refused = fixture.put(&lease, "dev", "plan/other").await.unwrap_err();
    assert!(matches!(&refused, ControlError::Unsupported(finding) if finding.message.contains("too large")), "{refused:?}");
}

#[tokio::test]
async fn an_operation_that_panics_is_failed_after_a_few_attempts_and_can_be_destroyed() {
    let fixture = host_fixture();
    let lease = fixture.lease();
    fixture.switches.panics.store(true, Ordering::Relaxed);
    let id = fixture.put(&lease, "dev", "plan/first").await.unwrap();
    let record = loop {
        fixture.sweep().await.unwrap();
        let record = fixture.host.operation(&project(), &id).unwrap().unwrap();
        if record.state != OperationState::Running {
            break record;
        }
    };
    let error = record.error.unwrap();
    assert_eq!(error.code, "control.attempts_exhausted");
    assert!(error.message.contains("a panic"), "{}", error.message);
    let log = fixture.log();
    assert_eq!(log.matches("an operation panicked").count(), 21, "{log}");
    let removed = fixture.remove(&lease, "dev", "plan/gone").await.unwrap();
    assert_eq!(fixture.end(&removed).await.state, OperationState::Done);
    assert!(fixture.names().is_empty());
}

#[tokio::test]
async fn a_removal_cancels_the_operation_that_waits() {
    let fixture = host_fixture();
    let lease = fixture.lease();
    fixture.switches.gated.store(true, Ordering::Relaxed);
    let stuck = fixture.put(&lease, "dev", "plan/first").await.unwrap();
    let removed = fixture.remove(&lease, "dev", "plan/gone").await.unwrap();
    assert_eq!(fixture.end(&removed).await.state, OperationState::Done);
    let stuck = fixture.host.operation(&project(), &stuck).unwrap().unwrap();
    assert_eq!(stuck.error.unwrap().code, "control.superseded");
    assert!(fixture.names().is_empty());
}

#[tokio::test]
async fn a_stopping_server_leaves_waiting_operations_to_the_next() {
    let fixture = host_fixture();
    let serving = fixture.host.serve("http://test").await.unwrap();
    let lease = fixture.lease();
    fixture.switches.gated.store(true, Ordering::Relaxed);
    let stuck = fixture.put(&lease, "dev", "plan/first").await.unwrap();
    assert_eq!(serving.stop(Duration::from_millis(10)).await, 1);
    assert!(fixture.host.registry.running().is_empty());
    assert_eq!(fixture.host.operation(&project(), &stuck).unwrap().unwrap().state, OperationState::Running);
}
