//! Selects what `destroy` is about.

use std::collections::BTreeSet;

use super::{AppError, Session};
use crate::model::{BackendName, DatabaseReclaim, Diagnostic, Exit, VolumeReclaim};
use crate::plan::{BackendSelection, PlanOptions};

/// Returns the plan options that destroy the named backends, or all of the project where none is named.
///
/// # Errors
/// A name that neither the manifest nor the control plane knows.
pub(crate) async fn options(
    session: &Session<'_>,
    names: &[BackendName],
    volume_reclaim: VolumeReclaim,
    database_reclaim: DatabaseReclaim,
) -> Result<PlanOptions, AppError> {
    let selection = if names.is_empty() {
        BackendSelection::All
    } else {
        let desired = &session.manifest.desired;
        let snapshot = session.control.snapshot(&desired.project).await?;
        let known: BTreeSet<_> = desired.backends.keys().chain(snapshot.backends.iter().map(|backend| &backend.name)).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            let message = format!("neither the manifest nor the control plane has a backend `{unknown}`");
            let diagnostic = Diagnostic::new("control.no_such_backend", message);
            return Err(AppError::new(Exit::Failed, diagnostic.with_help("list them with\n    convexinfra status")));
        }
        BackendSelection::Only(names.iter().cloned().collect())
    };
    Ok(PlanOptions { selection, destroy: true, volume_reclaim, database_reclaim, ..PlanOptions::default() })
}
