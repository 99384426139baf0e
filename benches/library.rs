//! What the library does for one plan and one apply, by number of backends: `cargo bench --bench library`.
#![allow(clippy::unwrap_used)] // A bench that cannot be prepared has nothing to measure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use convexinfra::api::{Lease, LeaseHolder, OperationRequest, Work};
use convexinfra::apply::Scheduler;
use convexinfra::authority::{Authority, ExecutionMode, Liveness, MasterKey, Principal, Vault};
use convexinfra::env_file::{Block, BlockOwner, merge};
use convexinfra::model::{
    Actor, BackendName, ControlPlaneInfo, Desired, DowngradeConsent, MoveConsent, ProjectName, ProviderKind, Revision, Secret,
    Snapshot, StepKey, Timestamp,
};
use convexinfra::plan::{ObservedState, Plan, PlanOptions, build};
use convexinfra::render::{self, Style};
use convexinfra::store::SqliteStore;
use divan::{Bencher, black_box};

const SIZES: [usize; 4] = [1, 100, 1_000, 5_000];

fn main() {
    divan::main();
}

/// Backends that exist only as records, every third one at the end of a chain of three.
fn manifest(size: usize) -> String {
    let mut text = "project = \"speed\"\n".to_owned();
    for number in 0..size {
        let _ = write!(text, "\n[backends.b{number:04}]\nprovider = \"simulated\"\nsimulated = {{ listen = false }}\n");
        if number % 3 != 0 {
            let _ = writeln!(text, "depends_on = [\"b{:04}\"]", number - 1);
        }
    }
    text
}

fn desired(size: usize) -> Desired {
    convexinfra::manifest::parse(&manifest(size), None).unwrap().desired
}

fn snapshot(desired: &Desired) -> Snapshot {
    Snapshot {
        project: desired.project.clone(),
        revision: Revision(0),
        control_plane: ControlPlaneInfo {
            name: "embedded".to_owned(),
            providers: vec![ProviderKind::Simulated],
            expiry: convexinfra::model::Expiry::Recorded,
            scope: None,
        },
        origin: None,
        backends: Vec::new(),
        quota: Default::default(),
        operations: Vec::new(),
        retained: Vec::new(),
        expired: std::collections::BTreeMap::new(),
    }
}

fn plan_of(desired: &Desired, snapshot: Snapshot) -> Plan {
    build(desired, &ObservedState { snapshot, env_files: BTreeMap::new(), remembered: Vec::new() }, &PlanOptions::default())
}

fn all_new(size: usize) -> Plan {
    let desired = desired(size);
    plan_of(&desired, snapshot(&desired))
}

/// An authority over a new file, and the right to change the project.
struct Control {
    authority: Authority<SqliteStore>,
    lease: Lease,
    _folder: tempfile::TempDir,
}

impl Control {
    fn new(project: &ProjectName) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store")).unwrap();
        let vault = Vault::new(MasterKey::new([7; 32]));
        let authority = Authority::new(store, vault, |bytes| {
            getrandom::fill(bytes).unwrap();
            Ok(())
        });
        let holder = LeaseHolder {
            user: String::new(),
            host: String::new(),
            process: 1,
            process_start: None,
            since: Timestamp(0),
            nonce: None,
        };
        let lease = authority.acquire(project, &holder, Timestamp(0), |_| Liveness::Unknown).unwrap();
        Self { authority, lease, _folder: folder }
    }

    fn accept_all(&self, desired: &Desired) {
        for (name, backend) in &desired.backends {
            let work = Work::Put {
                spec: Box::new(backend.spec.clone()),
                secrets: BTreeMap::new(),
                renamed_from: None,
                downgrade: DowngradeConsent::Missing,
                moves: MoveConsent::Missing,
            };
            let request =
                OperationRequest { step: StepKey::parse(&format!("bench/{name}")), backend: name.clone(), work, origin: None };
            self.authority
                .accept(
                    &self.lease,
                    ExecutionMode::LeaseHolder,
                    Principal::Trusted(&Actor::control_plane()),
                    &request,
                    Timestamp(0),
                )
                .unwrap();
        }
    }
}

#[divan::bench(args = SIZES)]
fn parse_manifest(bencher: Bencher<'_, '_>, size: usize) {
    let text = manifest(size);
    bencher.bench(|| convexinfra::manifest::parse(black_box(&text), None));
}

#[divan::bench(args = SIZES)]
fn plan_all_new(bencher: Bencher<'_, '_>, size: usize) {
    let desired = desired(size);
    let actual = ObservedState { snapshot: snapshot(&desired), env_files: BTreeMap::new(), remembered: Vec::new() };
    bencher.bench(|| build(black_box(&desired), &actual, &PlanOptions::default()));
}

#[divan::bench(args = SIZES)]
fn plan_nothing_changed(bencher: Bencher<'_, '_>, size: usize) {
    let desired = desired(size);
    let control = Control::new(&desired.project);
    control.accept_all(&desired);
    let backends = control.authority.view(&desired.project).unwrap().backends;
    let actual = ObservedState {
        snapshot: Snapshot { backends, ..snapshot(&desired) },
        env_files: BTreeMap::new(),
        remembered: Vec::new(),
    };
    bencher.bench(|| build(black_box(&desired), &actual, &PlanOptions::default()));
}

#[divan::bench(args = SIZES)]
fn render_plan_as_json(bencher: Bencher<'_, '_>, size: usize) {
    let plan = all_new(size);
    bencher.bench(|| serde_json::to_string(black_box(&plan)));
}

#[divan::bench(args = SIZES)]
fn render_plan_as_text(bencher: Bencher<'_, '_>, size: usize) {
    let plan = all_new(size);
    bencher.bench(|| render::plan(black_box(&plan), Style::PLAIN));
}

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn accept_records(bencher: Bencher<'_, '_>, size: usize) {
    let desired = desired(size);
    bencher.with_inputs(|| Control::new(&desired.project)).bench_refs(|control| control.accept_all(black_box(&desired)));
}

#[divan::bench(args = SIZES)]
fn read_records(bencher: Bencher<'_, '_>, size: usize) {
    let desired = desired(size);
    let control = Control::new(&desired.project);
    control.accept_all(&desired);
    bencher.bench_local(|| control.authority.view(black_box(&desired.project)));
}

/// A file with as many foreign lines.
#[divan::bench(args = SIZES)]
fn merge_env_file(bencher: Bencher<'_, '_>, size: usize) {
    let existing: String = (0..size).map(|number| format!("NAME_{number}=value\n")).collect();
    let owner = BlockOwner { project: ProjectName::parse("speed").unwrap(), backend: BackendName::parse("dev").unwrap() };
    let block = Block::new(owner, "http://127.0.0.1:4210", Some(Secret::new("speed-dev|0123456789abcdef")), None).unwrap();
    bencher.bench(|| merge(black_box(existing.as_bytes()), &block));
}

#[divan::bench(args = SIZES)]
fn schedule(bencher: Bencher<'_, '_>, size: usize) {
    let plan = all_new(size);
    bencher.bench(|| {
        let mut scheduler = Scheduler::new(black_box(&plan));
        while let Some(step) = scheduler.next_ready() {
            scheduler.done(step);
        }
        scheduler
    });
}
