//! Shows what a project has. Changes nothing.

use super::AppError;
use crate::api::ControlPlane;
use crate::model::{ProjectName, Usage};
use crate::render::{LeaseEntry, OperationEntry, StatusDocument, StatusEntry};

/// Returns the status of a project.
///
/// # Errors
/// What the control plane says.
pub(crate) async fn status(control: &dyn ControlPlane, project: ProjectName) -> Result<StatusDocument, AppError> {
    let snapshot = control.snapshot(&project).await?;
    let holder = control.lease_holder(&project).await?;
    let running = snapshot.control_plane.outlives_commands() || holder.is_some();
    Ok(StatusDocument {
        format: "convexinfra.status/1",
        lease: holder.as_ref().map(LeaseEntry::new),
        project,
        control_plane: snapshot.control_plane.name.clone(),
        revision: snapshot.revision,
        operations: snapshot.operations.iter().map(|record| OperationEntry::new(record, running)).collect(),
        quota: snapshot.quota,
        usage: Usage::of(snapshot.backends.iter().map(|backend| &backend.recorded)),
        backends: snapshot.backends.iter().map(StatusEntry::new).collect(),
        retained: snapshot.retained,
    })
}
