//! How close an apply comes to the slowest chain of its graph: `cargo bench --bench chains`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A bench prints, and one that cannot be prepared has nothing to measure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use convexinfra::api::{
    ControlError, ControlPlane, Credentials, HistoryEntry, HistoryPage, HistoryVerification, IfMissing, Lease, LeaseHolder,
    LogChunk, LogPosition, OperationOutcome, OperationRequest, OriginPolicy, Preflight, ProgressFn, ResourceLevel,
};
use convexinfra::apply::{EnvFiles, Execution, Interrupt, execute};
use convexinfra::model::{
    self, BackendName, Diagnostic, EnvFileTarget, FingerprintKey, OperationId, ProjectName, ProviderKind, Revision, Snapshot,
};
use convexinfra::plan::{ObservedState, PlanOptions, build};

const STEPS: usize = 100;
const CHAIN: usize = 3;
const STEP: Duration = Duration::from_millis(200);
const RUNS: usize = 5;

fn main() {
    let mut text = "project = \"speed\"\n".to_owned();
    for number in 0..STEPS {
        let _ = write!(text, "\n[backends.b{number:04}]\nprovider = \"simulated\"\nsimulated = {{ listen = false }}\n");
        if number % CHAIN != 0 {
            let _ = writeln!(text, "depends_on = [\"b{:04}\"]", number - 1);
        }
    }
    let desired = convexinfra::manifest::parse(&text, None).unwrap().desired;
    let snapshot = Snapshot {
        project: desired.project.clone(),
        revision: Revision(0),
        control_plane: model::ControlPlaneInfo {
            name: "sleeper".to_owned(),
            providers: vec![ProviderKind::Simulated],
            expiry: model::Expiry::Recorded,
            scope: None,
        },
        origin: None,
        backends: Vec::new(),
        quota: Default::default(),
        operations: Vec::new(),
        retained: Vec::new(),
        expired: std::collections::BTreeMap::new(),
    };
    let plan = build(
        &desired,
        &ObservedState { snapshot, env_files: BTreeMap::new(), remembered: Vec::new() },
        &PlanOptions::default(),
    );
    let lease = Lease { project: desired.project.clone(), fence: 1, revision: Revision(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_asking, interrupt) = tokio::sync::watch::channel(Interrupt::None);
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            let execution = Execution {
                plan: &plan,
                control: &Sleeper,
                lease: &lease,
                origin: None,
                secrets: &BTreeMap::new(),
                env_files: &NoEnvFiles,
                parallelism: 64,
                interrupt: interrupt.clone(),
                on_event: &|_| {},
            };
            let executed = runtime.block_on(execute(&execution));
            assert_eq!(executed.tally.done, STEPS);
            started.elapsed()
        })
        .collect();
    took.sort();
    let critical = STEP * u32::try_from(CHAIN).unwrap();
    let budget = critical.mul_f64(1.05) + Duration::from_millis(20);
    println!(
        "{STEPS} steps of {STEP:?} in chains of {CHAIN}, {RUNS} runs: median {:?}, slowest {:?}",
        took[RUNS / 2],
        took[RUNS - 1]
    );
    println!("critical path {critical:?}, budget {budget:?}");
}

/// A control plane whose every operation takes the same time.
struct Sleeper;

#[async_trait]
impl ControlPlane for Sleeper {
    async fn projects(&self) -> Result<Vec<ProjectName>, ControlError> {
        Ok(Vec::new())
    }

    async fn preflight(&self, _: &ProjectName, _: &OperationRequest) -> Result<Preflight, ControlError> {
        Ok(Preflight::default())
    }

    async fn run(&self, _: &Lease, _: OperationRequest, _: ProgressFn<'_>) -> Result<OperationOutcome, ControlError> {
        tokio::time::sleep(STEP).await;
        Ok(OperationOutcome::Done { operation: OperationId::new("1") })
    }

    async fn renew_lease(&self, _: &Lease) -> Result<(), ControlError> {
        Ok(())
    }

    async fn release_lease(&self, _: &Lease) -> Result<(), ControlError> {
        Ok(())
    }

    async fn set_origin(&self, _: &Lease, _: &str, _: OriginPolicy) -> Result<(), ControlError> {
        Ok(())
    }

    async fn snapshot(&self, _: &ProjectName) -> Result<Snapshot, ControlError> {
        not_asked()
    }

    async fn fingerprint_key(&self, _: &ProjectName, _: IfMissing) -> Result<Option<FingerprintKey>, ControlError> {
        not_asked()
    }

    async fn acquire_lease(&self, _: &ProjectName, _: LeaseHolder) -> Result<Lease, ControlError> {
        not_asked()
    }

    async fn credentials(&self, _: &ProjectName, _: &BackendName, _: Option<&str>) -> Result<Credentials, ControlError> {
        not_asked()
    }

    async fn logs(&self, _: &ProjectName, _: &BackendName, _: LogPosition) -> Result<LogChunk, ControlError> {
        not_asked()
    }

    async fn verify_history(&self, _: &ResourceLevel, _: Option<&str>) -> Result<HistoryVerification, ControlError> {
        not_asked()
    }

    async fn history(&self, _: &ResourceLevel, _: HistoryPage) -> Result<Vec<HistoryEntry>, ControlError> {
        not_asked()
    }

    async fn lease_holder(&self, _: &ProjectName) -> Result<Option<LeaseHolder>, ControlError> {
        not_asked()
    }
}

/// The executor has no business here.
fn not_asked<T>() -> Result<T, ControlError> {
    Err(ControlError::Unreachable(Diagnostic::new("bench.not_asked", "the executor should not ask for this")))
}

struct NoEnvFiles;

impl EnvFiles for NoEnvFiles {
    fn write(&self, _: &BackendName, _: &EnvFileTarget, _: &Credentials) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn clear(&self, _: &BackendName, _: &EnvFileTarget) -> Result<(), Diagnostic> {
        Ok(())
    }
}
