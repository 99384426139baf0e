//! Checks a plan before it is carried out, and decides the exit code of `plan`.

use super::secrets::ResolvedSecrets;
use super::{AppError, drift};
use crate::model::{Address, AddressKind, BackendName, Diagnostic, Exit, FieldPath, Report, Snapshot};
use crate::plan::{Action, BackendSelection, Plan, detect_drift};

/// Returns the exit code of `plan`; `detailed` tells pending changes and drift apart.
pub(crate) fn exit(plan: &Plan, snapshot: &Snapshot, detailed: bool) -> Exit {
    if !plan.refusals.is_empty() {
        Exit::Refused
    } else if !detailed {
        Exit::Done
    } else if plan.is_empty() {
        // What could not be observed may have drifted, which the exit code has to tell.
        drift::unobserved(&detect_drift(snapshot).unknown).map_or(Exit::Done, |report| report.exit)
    } else if plan.is_only_drift() {
        Exit::Drift
    } else {
        Exit::ChangesPending
    }
}

/// Turns refusals into an error.
pub(crate) fn refusal_error(refusals: &[Diagnostic]) -> AppError {
    let errors = refusals
        .iter()
        .map(|refusal| {
            let address = refusal.address.as_ref().map(|address| format!("{address}: ")).unwrap_or_default();
            Diagnostic { message: format!("{address}{}", refusal.message), ..refusal.clone() }
        })
        .collect();
    AppError::from(Report { exit: Exit::Refused, errors })
}

/// Fails where a secret of a selected backend exists and cannot be read: whether it changed is not known then.
///
/// # Errors
/// Each such secret.
pub(crate) fn require_readable_secrets(secrets: &ResolvedSecrets, selection: &BackendSelection) -> Result<(), AppError> {
    let is_selected = |name: &BackendName| match selection {
        BackendSelection::All => true,
        BackendSelection::Only(names) => names.contains(name),
    };
    let errors: Vec<Diagnostic> = secrets
        .unreadable()
        .filter(|(name, _, _)| is_selected(name))
        .map(|(name, path, why)| {
            Diagnostic::new("secret.unreadable", format!("{} needs `{path}`, and {why}", Address::backend(name)))
                .with_help("nothing was done; let the manifest name what you may read")
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(AppError::from(Report { exit: Exit::Failed, errors })) }
}

/// Fails where a step needs a secret whose value is missing.
///
/// # Errors
/// Each such secret.
pub(crate) fn require_secrets(plan: &Plan, secrets: &ResolvedSecrets) -> Result<(), AppError> {
    let mut errors = Vec::new();
    for step in plan.steps.iter().filter(|step| step.address.kind == AddressKind::Backend) {
        // What a backend had before is kept sealed, so an update needs only what is new to it.
        let is_needed = |path: &FieldPath| match step.action {
            Action::Create => true,
            Action::Update | Action::Move => step.changes.iter().any(|change| change.path == *path),
            Action::Destroy | Action::Write => false,
        };
        for (path, reference) in secrets.missing(&step.address.backend).filter(|(path, _)| is_needed(path)) {
            let message = format!("{} needs `{path}`, and {reference} is not set or is empty", step.address);
            errors.push(
                Diagnostic::new("secret.missing", message)
                    .with_help("set it for this command; it is kept sealed in the control plane afterwards"),
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(AppError::from(Report { exit: Exit::Failed, errors })) }
}
