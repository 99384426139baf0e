//! Selects the backend that a command is about.

use super::AppError;
use crate::api::ControlPlane;
use crate::model::{BackendName, Desired, Diagnostic, Exit, ProjectName, Snapshot};
use crate::policy::{OtherOrigin, other_repository};

/// Refuses a project that belongs to another repository than the manifest: nothing of it is shown or handed out here.
///
/// # Errors
/// It belongs to another one.
pub(crate) fn check_ownership(snapshot: &Snapshot, desired: Option<&Desired>) -> Result<(), AppError> {
    let here = desired.and_then(Desired::origin_if_known).unwrap_or_default();
    match other_repository(&snapshot.project, snapshot.origin.as_deref(), here) {
        Some(OtherOrigin { refusal, is_other_remote: true }) => Err(AppError::new(Exit::Refused, refusal)),
        _ => Ok(()),
    }
}

/// Refuses another repository's project where no snapshot of it is needed for anything else.
///
/// # Errors
/// It belongs to another repository, or the control plane cannot say.
pub(crate) async fn require_ownership(
    control: &dyn ControlPlane,
    project: &ProjectName,
    desired: Option<&Desired>,
) -> Result<(), AppError> {
    if desired.is_some_and(Desired::has_remote) { check_ownership(&control.snapshot(project).await?, desired) } else { Ok(()) }
}

/// Returns the named backend, or the only one, of a project that belongs to the repository of the manifest.
///
/// # Errors
/// There is no such backend, a name is needed, or the project belongs to another repository.
pub(crate) fn select_backend(
    snapshot: &Snapshot,
    desired: Option<&Desired>,
    name: Option<&BackendName>,
) -> Result<BackendName, AppError> {
    check_ownership(snapshot, desired)?;
    let names = || {
        let names: Vec<String> = snapshot.backends.iter().map(|backend| format!("`{}`", backend.name)).collect();
        if names.is_empty() {
            "there is none; create one with\n    convexinfra apply".to_owned()
        } else {
            format!("there is {}", names.join(", "))
        }
    };
    let missing =
        |message| Err(AppError::new(Exit::Failed, Diagnostic::new("control.no_such_backend", message).with_help(names())));
    match (name, snapshot.backends.as_slice()) {
        (Some(name), backends) if backends.iter().any(|backend| backend.name == *name) => Ok(name.clone()),
        (Some(name), _) => missing(format!("project `{}` has no backend `{name}`", snapshot.project)),
        (None, [only]) => Ok(only.name.clone()),
        (None, []) => missing(format!("project `{}` has no backends", snapshot.project)),
        (None, _) => {
            let message = format!("project `{}` has several backends; name one", snapshot.project);
            Err(AppError::new(Exit::Usage, Diagnostic::new("usage.backend", message).with_help(names())))
        }
    }
}
