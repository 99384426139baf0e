//! Shows what projects have. Changes nothing.

use super::{AppError, LoadedManifest, check_ownership, drift, env_file_check};
use crate::api::ControlPlane;
use crate::model::{Exit, ProjectName, Usage};
use crate::plan::detect_drift;
use crate::render::{LeaseEntry, OperationEntry, StatusAllDocument, StatusDocument, StatusEntry};

/// Returns the status of a project, with the env files of its manifest where there is one, and the exit code: what could not be
/// observed is not known to be as it is shown.
///
/// # Errors
/// The project belongs to another repository than the manifest, or what the control plane says.
pub(crate) async fn status(
    control: &dyn ControlPlane,
    project: ProjectName,
    manifest: Option<&LoadedManifest>,
) -> Result<(StatusDocument, Exit), AppError> {
    let snapshot = control.snapshot(&project).await?;
    check_ownership(&snapshot, manifest.map(|manifest| &manifest.desired))?;
    let holder = control.lease_holder(&project).await?;
    let running = snapshot.control_plane.outlives_commands() || holder.is_some();
    let env_files = match manifest {
        Some(manifest) => env_file_check::check(control, manifest, &snapshot).await?,
        None => Vec::new(),
    };
    let now = crate::host::now();
    let unobserved = drift::unobserved(&detect_drift(&snapshot).unknown);
    let document = StatusDocument {
        format: "convexinfra.status/1",
        lease: holder.as_ref().map(LeaseEntry::new),
        project,
        control_plane: snapshot.control_plane.name.clone(),
        revision: snapshot.revision,
        operations: snapshot.operations.iter().map(|record| OperationEntry::new(record, running)).collect(),
        quota: snapshot.quota.into(),
        usage: Usage::of(snapshot.backends.iter().map(|backend| &backend.recorded)).into(),
        backends: snapshot.backends.iter().map(|backend| StatusEntry::as_of(backend, now)).collect(),
        env_files: env_files.into_iter().map(|file| file.entry).collect(),
        retained: snapshot.retained,
    };
    Ok((document, unobserved.map_or(Exit::Done, |report| report.exit)))
}

/// Returns the status of every project that the caller may look at, and the first exit code that is not [`Exit::Done`].
///
/// # Errors
/// What the control plane says.
pub(crate) async fn status_all(control: &dyn ControlPlane) -> Result<(StatusAllDocument, Exit), AppError> {
    let (mut projects, mut exit) = (Vec::new(), Exit::Done);
    for project in control.projects().await? {
        let (document, observed) = status(control, project, None).await?;
        projects.push(document);
        if exit == Exit::Done {
            exit = observed;
        }
    }
    Ok((StatusAllDocument { format: "convexinfra.status_all/1", projects }, exit))
}
