//! `convexinfra plan`: shows what would change, and changes nothing.
//!
//! Must not do: change anything anywhere, but for the file that `--out` names and the key that its fingerprints need.

use super::drift;
use crate::api::{ControlPlane, IfMissing};
use crate::cli::args::{Plan as Args, PlanScope};
use crate::cli::context::{Context, LoadedManifest};
use crate::cli::env_files::ManifestEnvFiles;
use crate::cli::error::CliError;
use crate::cli::saved_plan;
use crate::cli::secrets::{self, ComparisonKey, ComparisonMode};
use crate::model::{Address, AddressKind, BackendName, Diagnostic, Exit, FieldPath, Report, Snapshot};
use crate::plan::{Action, BackendSelection, ObservedState, Plan, PlanOptions, build};
use crate::render;

/// Shows the plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let need = if args.out.is_some() { IfMissing::Create } else { IfMissing::ReturnNone };
    let (loaded, _) = context.load_with_secrets(need, ComparisonMode::BestEffort).await?;
    let control = context.control(Some(&loaded.desired))?;
    let (plan, snapshot) = observe_and_plan(control, &loaded, &intent(&args.scope), ComparisonMode::BestEffort).await?;
    print_warnings(context, &loaded);
    // First, so that a plan that cannot be saved gives one document, the error.
    if let Some(path) = &args.out {
        saved_plan::save(&plan, path)?;
    }
    if args.markdown {
        context.printer.raw(&render::markdown(&plan));
    } else {
        context.printer.output(&render::plan(&plan, context.printer.out_style()));
    }
    context.printer.document(&plan);
    if let Some(path) = &args.out {
        context.printer.status(&format!("saved; carry it out with\n    convexinfra apply --plan {}\n", path.display()));
    }
    Ok(exit(&plan, &snapshot, args.detailed_exitcode))
}

fn exit(plan: &Plan, snapshot: &Snapshot, detailed: bool) -> Exit {
    if !plan.refusals.is_empty() {
        Exit::Refused
    } else if !detailed {
        Exit::Done
    } else if plan.is_empty() {
        // What could not be looked at may have drifted, and whoever asks by exit code would never hear of it.
        drift::unobserved(&crate::plan::detect_drift(snapshot).unknown).map_or(Exit::Done, |report| report.exit)
    } else if plan.is_only_drift() {
        Exit::Drift
    } else {
        Exit::ChangesPending
    }
}

/// What a plan for all of the manifest is about.
pub(super) fn intent(scope: &PlanScope) -> PlanOptions {
    PlanOptions { take_over: scope.take_over, ..PlanOptions::default() }
}

/// Looks at everything that may be looked at, and plans.
pub(super) async fn plan_only(
    control: &dyn ControlPlane,
    loaded: &LoadedManifest,
    intent: &PlanOptions,
) -> Result<Plan, CliError> {
    Ok(observe_and_plan(control, loaded, intent, ComparisonMode::BestEffort).await?.0)
}

/// The same, with what the control plane said.
pub(super) async fn observe_and_plan(
    control: &dyn ControlPlane,
    loaded: &LoadedManifest,
    intent: &PlanOptions,
    comparison: ComparisonMode,
) -> Result<(Plan, Snapshot), CliError> {
    let project = &loaded.desired.project;
    let snapshot = control.snapshot(project).await?;
    let wanted = &loaded.desired.backends;
    let wants_env_files = wanted.values().any(|backend| backend.env_file.is_some())
        || snapshot.backends.iter().any(|backend| backend.admin_key.is_some() && !wanted.contains_key(&backend.name));
    let env_files = if wants_env_files {
        let keys = ComparisonKey::ask(control, project, IfMissing::ReturnNone, comparison).await?;
        ManifestEnvFiles::new(&loaded.folder, project).inspect_all(&loaded.desired, &snapshot, &keys)
    } else {
        std::collections::BTreeMap::new()
    };
    let actual = ObservedState { snapshot, env_files };
    let plan = build(&loaded.desired, &actual, intent);
    match crate::plan::validate(&plan) {
        Ok(()) => Ok((plan, actual.snapshot)),
        Err(defect) => Err(CliError::new(
            Exit::Bug,
            Diagnostic::new("bug", format!("the plan contradicts itself: {defect}; this is a bug in convexinfra")),
        )),
    }
}

/// Says what is worth a look in the manifest itself.
pub(super) fn print_warnings(context: &Context, loaded: &LoadedManifest) {
    if !loaded.warnings.is_empty() {
        let file = loaded.path.display().to_string();
        let style = context.printer.err_style();
        let text = render::problems(&loaded.warnings, &loaded.text, &file, crate::cli::error::terminal_width(), style);
        context.printer.status(&format!("{text}\n"));
    }
}

/// Everything that stands in the way, as a failure.
pub(super) fn refusal_error(refusals: &[crate::plan::Refusal]) -> CliError {
    let errors = refusals
        .iter()
        .map(|refusal| {
            let address = refusal.address.as_ref().map(|address| format!("{address}: ")).unwrap_or_default();
            Diagnostic::new(refusal.code.clone(), format!("{address}{}", refusal.message))
        })
        .collect();
    CliError::from(Report { exit: Exit::Refused, errors })
}

/// Fails when a secret of what is to be brought about is there and cannot be read: nobody can say whether it changed.
pub(super) fn require_readable_secrets(values: &secrets::ResolvedSecrets, scope: &BackendSelection) -> Result<(), CliError> {
    let is_in_scope = |name: &BackendName| match scope {
        BackendSelection::All => true,
        BackendSelection::Only(names) => names.contains(name),
    };
    let errors: Vec<Diagnostic> = values
        .unreadable()
        .filter(|(name, _, _)| is_in_scope(name))
        .map(|(name, path, why)| {
            Diagnostic::new("secret.unreadable", format!("{} needs `{path}`, and {why}", Address::backend(name)))
                .with_help("nothing was done; let the manifest name what you may read")
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(CliError::from(Report { exit: Exit::Failed, errors })) }
}

/// Fails when a step needs a secret that is not at hand.
pub(super) fn require_secrets(plan: &Plan, values: &secrets::ResolvedSecrets) -> Result<(), CliError> {
    let mut errors = Vec::new();
    for step in plan.steps.iter().filter(|step| step.address.kind == AddressKind::Backend) {
        // What a backend had before is kept sealed, so an update needs only what is new to it.
        let is_needed = |path: &FieldPath| match step.action {
            Action::Create => true,
            Action::Update | Action::Move => step.changes.iter().any(|change| change.path == *path),
            Action::Destroy | Action::Write => false,
        };
        for (path, reference) in values.missing(&step.address.backend).filter(|(path, _)| is_needed(path)) {
            let message = format!("{} needs `{path}`, and {reference} is not set or is empty", step.address);
            errors.push(
                Diagnostic::new("secret.missing", message)
                    .with_help("set it for this command; it is kept sealed in the control plane afterwards"),
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::from(Report { exit: Exit::Failed, errors })) }
}
