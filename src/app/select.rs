//! Selects the backend that a command is about.

use super::AppError;
use crate::model::{BackendName, Diagnostic, Exit, Snapshot};

/// Returns the named backend, or the only one.
///
/// # Errors
/// There is no such backend, or a name is needed.
pub(crate) fn select_backend(snapshot: &Snapshot, name: Option<&BackendName>) -> Result<BackendName, AppError> {
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
