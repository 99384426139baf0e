//! `convexinfra plan`: shows what would change, and changes nothing.
//!
//! Must not do: change anything anywhere, but for the file that `--out` names and the key that its fingerprints need.

use super::drift;
use crate::cli::args::{Plan as Args, PlanScope};
use crate::cli::context::{Context, Loaded};
use crate::cli::env_files::ManifestEnvFiles;
use crate::cli::failure::Failure;
use crate::cli::saved_plan;
use crate::cli::secrets::{self, Comparison, Keyring};
use crate::control::{ControlPlane, KeyNeed};
use crate::model::{Address, AddressKind, BackendName, Exit, FieldPath, Finding, Report, Snapshot};
use crate::plan::{Action, Actual, Intent, Plan, Scope, build};
use crate::render;

/// Shows the plan.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let need = if args.out.is_some() { KeyNeed::Make } else { KeyNeed::IfThere };
    let (loaded, _) = context.load_with_secrets(need, Comparison::AsFarAsAllowed).await?;
    let control = context.control(Some(&loaded.desired))?;
    let (plan, snapshot) = look(control, &loaded, &intent(&args.scope), Comparison::AsFarAsAllowed).await?;
    warnings(context, &loaded);
    // First, so that a plan that cannot be saved gives one document, the error.
    if let Some(path) = &args.out {
        saved_plan::save(&plan, path)?;
    }
    if args.markdown {
        context.printer.raw(&render::markdown(&plan));
    } else {
        context.printer.result(&render::plan(&plan, context.printer.out_style()));
    }
    context.printer.document(&plan);
    if let Some(path) = &args.out {
        context.printer.talk(&format!("saved; carry it out with\n    convexinfra apply --plan {}\n", path.display()));
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
        drift::blind(&crate::plan::drift(snapshot).unknown).map_or(Exit::Done, |report| report.exit)
    } else if plan.is_only_drift() {
        Exit::Drift
    } else {
        Exit::ChangesPending
    }
}

/// What a plan for all of the manifest is about.
pub(super) fn intent(scope: &PlanScope) -> Intent {
    Intent { take_over: scope.take_over, ..Intent::default() }
}

/// Looks at everything that may be looked at, and plans.
pub(super) async fn make(control: &dyn ControlPlane, loaded: &Loaded, intent: &Intent) -> Result<Plan, Failure> {
    Ok(look(control, loaded, intent, Comparison::AsFarAsAllowed).await?.0)
}

/// The same, with what the control plane said.
pub(super) async fn look(
    control: &dyn ControlPlane,
    loaded: &Loaded,
    intent: &Intent,
    comparison: Comparison,
) -> Result<(Plan, Snapshot), Failure> {
    let project = &loaded.desired.project;
    let snapshot = control.snapshot(project).await?;
    let wanted = &loaded.desired.backends;
    let wants_env_files = wanted.values().any(|backend| backend.env_file.is_some())
        || snapshot.backends.iter().any(|backend| backend.admin_key.is_some() && !wanted.contains_key(&backend.name));
    let env_files = if wants_env_files {
        let keys = Keyring::ask(control, project, KeyNeed::IfThere, comparison).await?;
        ManifestEnvFiles::new(&loaded.folder, project).look(&loaded.desired, &snapshot, &keys)
    } else {
        std::collections::BTreeMap::new()
    };
    let actual = Actual { snapshot, env_files };
    let plan = build(&loaded.desired, &actual, intent);
    match crate::plan::check(&plan) {
        Ok(()) => Ok((plan, actual.snapshot)),
        Err(defect) => Err(Failure::new(
            Exit::Bug,
            Finding::new("bug", format!("the plan contradicts itself: {defect}; this is a bug in convexinfra")),
        )),
    }
}

/// Says what is worth a look in the manifest itself.
pub(super) fn warnings(context: &Context, loaded: &Loaded) {
    if !loaded.warnings.is_empty() {
        let file = loaded.path.display().to_string();
        let style = context.printer.err_style();
        let text = render::problems(&loaded.warnings, &loaded.text, &file, crate::cli::failure::width(), style);
        context.printer.talk(&format!("{text}\n"));
    }
}

/// Everything that stands in the way, as a failure.
pub(super) fn refused(refusals: &[crate::plan::Refusal]) -> Failure {
    let errors = refusals
        .iter()
        .map(|refusal| {
            let address = refusal.address.as_ref().map(|address| format!("{address}: ")).unwrap_or_default();
            Finding::new(refusal.code.clone(), format!("{address}{}", refusal.message))
        })
        .collect();
    Failure::from(Report { exit: Exit::Refused, errors })
}

/// Fails when a secret of what is to be brought about is there and cannot be read: nobody can say whether it changed.
pub(super) fn secrets_readable(values: &secrets::Values, scope: &Scope) -> Result<(), Failure> {
    let is_in_scope = |name: &BackendName| match scope {
        Scope::All => true,
        Scope::Only(names) => names.contains(name),
    };
    let errors: Vec<Finding> = values
        .unreadable()
        .filter(|(name, _, _)| is_in_scope(name))
        .map(|(name, path, why)| {
            Finding::new("secret.unreadable", format!("{} needs `{path}`, and {why}", Address::backend(name)))
                .with_help("nothing was done; let the manifest name what you may read")
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::from(Report { exit: Exit::Failed, errors })) }
}

/// Fails when a step needs a secret that is not at hand.
pub(super) fn secrets_at_hand(plan: &Plan, values: &secrets::Values) -> Result<(), Failure> {
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
                Finding::new("secret.missing", message)
                    .with_help("set it for this command; it is kept sealed in the control plane afterwards"),
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::from(Report { exit: Exit::Failed, errors })) }
}
