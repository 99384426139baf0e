//! One manifest against one control plane: secrets are read once, and the key that compares them is asked for once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::{StreamExt, stream};
use tokio::sync::OnceCell;

use super::env_files::{InspectedEnvFiles, ManifestEnvFiles};
use super::secrets::{self, ComparisonKey, ComparisonMode, ResolvedSecrets};
use super::{AppError, LoadedManifest};
use crate::api::{ControlPlane, IfMissing, OperationRequest, Preflight, Work};
use crate::manifest::{FieldLiteral, field_edit};
use crate::model::{
    ActualBackend, BackendName, ControlPlaneInfo, DEFAULT_ENV_FILE, Diagnostic, DowngradeConsent, Edit, Exit, Location,
    MoveConsent, Phase, ReleaseOrder, Scope, Snapshot, StepKey,
};
use crate::plan::{self, Action, ObservedState, Plan, PlanOptions, Step, Task};

/// How many backends are looked at at once.
const PARALLEL_PREFLIGHTS: usize = 8;

/// The order of releases that the builds themselves say.
#[derive(Default)]
struct ReleaseOrders {
    /// The backends whose new build is the newer one.
    newer: BTreeSet<BackendName>,
    /// The refusals of older builds.
    older: Vec<Diagnostic>,
}

impl ReleaseOrders {
    /// Returns whether a refusal is replaced by one that knows more.
    fn is_answered(&self, refusal: &Diagnostic) -> bool {
        refusal.code == plan::RELEASE_ORDER_UNKNOWN && self.older.iter().any(|older| older.address == refusal.address)
    }
}

/// One manifest against one control plane.
pub(crate) struct Session<'a> {
    /// The control plane.
    pub(crate) control: &'a dyn ControlPlane,
    /// The manifest; its secrets are described by fingerprints.
    pub(crate) manifest: LoadedManifest,
    /// The values of its secrets.
    pub(crate) secrets: ResolvedSecrets,
    comparison: ComparisonMode,
    key: OnceCell<ComparisonKey>,
}

impl<'a> Session<'a> {
    /// Reads the secrets of a manifest and describes them under the key of the control plane. `if_missing` says what
    /// to do where a new control plane has no key yet.
    ///
    /// # Errors
    /// What the control plane says.
    pub(crate) async fn open(
        control: &'a dyn ControlPlane,
        manifest: LoadedManifest,
        if_missing: IfMissing,
        comparison: ComparisonMode,
    ) -> Result<Self, AppError> {
        let secrets = secrets::resolve(&manifest.desired, &manifest.folder);
        let mut session = Self { control, manifest, secrets, comparison, key: OnceCell::new() };
        if !session.secrets.is_empty() {
            session.describe_secrets(if_missing).await?;
        }
        Ok(session)
    }

    async fn describe_secrets(&mut self, if_missing: IfMissing) -> Result<(), AppError> {
        let project = &self.manifest.desired.project;
        let key = ComparisonKey::ask(self.control, project, if_missing, self.comparison).await?;
        self.secrets.fingerprint_into(&mut self.manifest.desired, &key);
        self.key = OnceCell::new_with(Some(key));
        Ok(())
    }

    /// Describes the secrets anew where the control plane had no key before the lease was taken.
    ///
    /// # Errors
    /// What the control plane says.
    pub(crate) async fn refresh_key(&mut self) -> Result<(), AppError> {
        if !matches!(self.key.get(), Some(ComparisonKey::NoneYet)) {
            return Ok(());
        }
        self.key = OnceCell::new();
        if self.secrets.is_empty() { Ok(()) } else { self.describe_secrets(IfMissing::ReturnNone).await }
    }

    /// Takes one snapshot, inspects the env files and plans.
    ///
    /// # Errors
    /// What the control plane says; a plan that contradicts itself is a bug.
    pub(crate) async fn observe_and_plan(&self, intent: &PlanOptions) -> Result<(Plan, Snapshot), AppError> {
        let desired = &self.manifest.desired;
        let snapshot = self.control.snapshot(&desired.project).await?;
        let env_files = ManifestEnvFiles::new(&self.manifest, &snapshot.control_plane.name);
        let InspectedEnvFiles { states, remembered } = if env_files.any(desired, &snapshot) {
            env_files.inspect_all(desired, &snapshot, self.key().await?)
        } else {
            InspectedEnvFiles::default()
        };
        let actual = ObservedState { snapshot, env_files: states, remembered };
        let mut plan = plan::build(desired, &actual, intent);
        let ordered = self.release_orders(&plan, &actual.snapshot).await;
        if !ordered.newer.is_empty() {
            let mut intent = intent.clone();
            intent.allow_downgrade.extend(ordered.newer.iter().cloned());
            plan = plan::build(desired, &actual, &intent);
        }
        if !ordered.older.is_empty() {
            plan.refusals.retain(|refusal| !ordered.is_answered(refusal));
            plan.refusals.extend(ordered.older);
            plan.refusals.sort();
            plan.digest = plan.compute_digest();
        }
        if actual.snapshot.control_plane.name == ControlPlaneInfo::EMBEDDED {
            self.add_missing_binaries(&mut plan);
        }
        self.add_edits(&mut plan);
        self.add_preflight(&mut plan, &actual.snapshot).await;
        match plan::validate(&plan) {
            Ok(()) => Ok((plan, actual.snapshot)),
            Err(defect) => {
                let message = format!("the plan contradicts itself: {defect}; this is a bug in convexinfra");
                Err(AppError::new(Exit::Bug, Diagnostic::new("bug", message)))
            }
        }
    }

    /// Asks the builds themselves for the order of releases whose names do not tell it.
    async fn release_orders(&self, plan: &Plan, snapshot: &Snapshot) -> ReleaseOrders {
        let (desired, existing) = (&self.manifest.desired, snapshot.by_name());
        let mut orders = ReleaseOrders::default();
        for refusal in plan.refusals.iter().filter(|refusal| refusal.code == plan::RELEASE_ORDER_UNKNOWN) {
            let Some(name) = refusal.address.as_ref().map(|address| &address.backend) else { continue };
            let Some(backend) = desired.backends.get(name) else { continue };
            // What was begun and did not end may be newer than the build that is noted.
            let is_ready = existing.get(name).is_some_and(|existing| existing.phase == Phase::Ready);
            if !is_ready || backend.spec.provider.descriptor().location != Location::Engine {
                continue;
            }
            let work = Work::Put {
                spec: Box::new(backend.spec.clone()),
                secrets: self.secrets.found().get(name).cloned().unwrap_or_default(),
                renamed_from: None,
                // It is asked about, and carried out only where it is newer.
                downgrade: DowngradeConsent::Given,
                moves: MoveConsent::Missing,
            };
            let step = StepKey { plan: plan.digest.to_string(), step: format!("release of {name}") };
            let origin = desired.origin_if_known().map(str::to_owned);
            let request = OperationRequest { step, backend: name.clone(), work, origin };
            match self.control.preflight(&plan.project, &request).await {
                Ok(Preflight { release_order: Some(ReleaseOrder::Newer), .. }) => drop(orders.newer.insert(name.clone())),
                Ok(found) => orders.older.extend(found.refusals.into_iter().filter(|found| found.code == "plan.downgrade")),
                Err(_) => {}
            }
        }
        orders
    }

    /// Adds the lints about executables that are to be run on this machine and do not exist.
    fn add_missing_binaries(&self, plan: &mut Plan) {
        let tasks = plan.steps.iter().filter_map(|step| step.task.as_ref());
        let missing = tasks.filter_map(|task| match task {
            Task::Put { backend, spec, .. } => {
                let path = spec.settings.local.binary.as_deref()?;
                matches!(Path::new(path).try_exists(), Ok(false)).then(|| plan::missing_binary(backend, path))
            }
            _ => None,
        });
        let missing: Vec<Diagnostic> = missing.collect();
        plan.lints.extend(missing);
        plan.lints.sort();
    }

    /// Adds the edit of the manifest to the lints that one edit answers; the plan knows no text.
    fn add_edits(&self, plan: &mut Plan) {
        let text = &self.manifest.text;
        for lint in &mut plan.lints {
            let Some(address) = &lint.address else { continue };
            if lint.code == plan::ENV_FILE_UNNAMED {
                let path = address.path.as_deref().unwrap_or(DEFAULT_ENV_FILE);
                let field = FieldLiteral::Text(path.to_owned());
                lint.edit = field_edit(text, address.backend.as_str(), "env_file", &field);
            } else if lint.code == plan::RENAME_UNDECLARED {
                // The help is a sentence and the lines to add.
                let lines = lint.help.iter().flat_map(|help| help.lines().skip(1));
                let block: String = lines.map(|line| format!("{}\n", line.trim_start())).collect();
                let gap = if text.ends_with('\n') { "\n" } else { "\n\n" };
                lint.edit = Some(Edit { start: text.len(), end: text.len(), replacement: format!("{gap}{block}") });
            }
        }
    }

    /// Asks the control plane what is in the way of the steps that depend on engines, clusters, databases and buckets. What it cannot
    /// say, the apply will.
    async fn add_preflight(&self, plan: &mut Plan, snapshot: &Snapshot) {
        if !plan.refusals.is_empty() || snapshot.control_plane.scope.is_some_and(|scope| scope < Scope::Apply) {
            return;
        }
        let existing = snapshot.by_name();
        let requests: Vec<OperationRequest> =
            plan.steps.iter().filter_map(|step| self.preflight_request(plan, step, &existing)).collect();
        if requests.is_empty() {
            return;
        }
        let looks = requests.iter().map(|request| self.control.preflight(&plan.project, request));
        let found: Vec<_> = stream::iter(looks).buffered(PARALLEL_PREFLIGHTS).collect().await;
        let mut claims = Vec::new();
        for (request, found) in requests.iter().zip(found) {
            let Ok(Preflight { refusals, notes, room, .. }) = found else { continue };
            plan.refusals.extend(refusals);
            plan.lints.extend(notes);
            claims.extend(room.into_iter().map(|claim| (request.backend.clone(), claim)));
        }
        let removes = plan.steps.iter().any(|step| matches!(step.task, Some(Task::Remove { .. })));
        plan::add_crowded_rooms(plan, &claims, removes);
        plan.refusals.sort();
        plan.digest = plan.compute_digest();
    }

    fn preflight_request(
        &self,
        plan: &Plan,
        step: &Step,
        existing: &BTreeMap<&BackendName, &ActualBackend>,
    ) -> Option<OperationRequest> {
        let (backend, work) = match step.task.as_ref()? {
            Task::Put { backend, spec, renamed_from, downgrade, moves } => {
                let asks_provider = match spec.provider.descriptor().location {
                    Location::Engine => true,
                    Location::Process => step.action == Action::Create && !spec.is_record_only(),
                    Location::Platform => spec.provider.descriptor().looks_ahead,
                };
                if !spec.has_own_server() && !spec.has_buckets() && !asks_provider {
                    return None;
                }
                let secrets = self.secrets.found().get(backend).cloned().unwrap_or_default();
                let (spec, renamed_from) = (spec.clone(), renamed_from.clone());
                (backend, Work::Put { spec, secrets, renamed_from, downgrade: *downgrade, moves: *moves })
            }
            Task::Remove { backend, volume, database, final_snapshot } => {
                let recorded = &existing.get(backend)?.recorded;
                if !recorded.has_buckets() && recorded.provider.descriptor().location != Location::Engine {
                    return None;
                }
                (backend, Work::Remove { volume: *volume, database: *database, final_snapshot: *final_snapshot })
            }
            Task::WriteEnvFile { .. } | Task::ClearEnvFile { .. } => return None,
        };
        let key = StepKey { plan: plan.digest.to_string(), step: step.id.as_str().to_owned() };
        let origin = self.manifest.desired.origin_if_known().map(str::to_owned);
        Some(OperationRequest { step: key, backend: backend.clone(), work, origin })
    }

    async fn key(&self) -> Result<&ComparisonKey, AppError> {
        let ask = || ComparisonKey::ask(self.control, &self.manifest.desired.project, IfMissing::ReturnNone, self.comparison);
        Ok(self.key.get_or_try_init(ask).await?)
    }
}
