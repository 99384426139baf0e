//! Deprovisions one backend: destroys it and removes its block from the manifest, in one step.

use std::collections::BTreeSet;

use super::provision::{apply_one, not_edited, stage_manifest, write_manifest};
use super::secrets::ComparisonMode;
use super::{AppError, ApplyOptions, ApplyOutcome, Approver, LoadedManifest, Reporter, Session};
use crate::api::{ControlPlane, IfMissing};
use crate::manifest::remove_backend;
use crate::model::{BackendName, DatabaseReclaim, DesiredBackend, Diagnostic, Exit, Report, VolumeReclaim};
use crate::plan::{BackendSelection, PlanOptions};

/// What to delete with a backend that is deprovisioned.
#[derive(Debug, Clone)]
pub(crate) struct DeprovisionRequest {
    /// The name of the backend.
    pub(crate) name: BackendName,
    /// The backends that may be destroyed.
    pub(crate) allow_destroy: BTreeSet<BackendName>,
    /// What becomes of its volume.
    pub(crate) volume: VolumeReclaim,
    /// What becomes of its database.
    pub(crate) database: DatabaseReclaim,
    /// Whether no last snapshot is taken of it.
    pub(crate) skip_final_snapshot: bool,
}

/// What became of a backend that was to be removed.
#[derive(Debug)]
pub(crate) enum Deprovisioned {
    /// It is gone; with what the steps had to say.
    Destroyed(Vec<String>),
    /// Neither the manifest nor the control plane knew it.
    NotFound,
}

/// Destroys a backend and removes its block from the manifest.
///
/// # Errors
/// What stood in the way.
pub(crate) async fn deprovision(
    control: &dyn ControlPlane,
    manifest: &LoadedManifest,
    request: &DeprovisionRequest,
    shell: (&dyn Reporter, &dyn Approver),
) -> Result<Deprovisioned, AppError> {
    let name = &request.name;
    let depends = |backend: &DesiredBackend| backend.spec.depends_on.contains(name);
    let declared = manifest.desired.backends.iter();
    let dependents: Vec<String> =
        declared.filter(|(_, backend)| depends(backend)).map(|(dependent, _)| format!("`{dependent}`")).collect();
    if !dependents.is_empty() {
        let message = format!("`{name}` cannot go while {} depends on it", dependents.join(" and "));
        let diagnostic = Diagnostic::new("deprovision.depended_on", message)
            .with_help("deprovision what depends on it first, or take it out of `depends_on` in the manifest");
        return Err(AppError::new(Exit::Refused, diagnostic));
    }
    let edited = without_backend(manifest, name)?;
    let options = PlanOptions {
        selection: BackendSelection::Only(BTreeSet::from([name.clone()])),
        destroy: true,
        volume_reclaim: request.volume,
        database_reclaim: request.database,
        skip_final_snapshot: request.skip_final_snapshot,
        ..PlanOptions::default()
    };
    let mut session = Session::open(control, manifest.clone(), IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    // A block that stays would make the next apply create the backend again, and empty.
    let can_be_written = || edited.as_ref().map_or(Ok(()), |edited| stage_manifest(manifest, &edited.text).map(drop));
    let allowed = ApplyOptions::approved(request.allow_destroy.clone());
    let ApplyOutcome { plan, notices, .. } = apply_one(&mut session, &options, allowed, shell, &can_be_written).await?;
    // An edit that was made meanwhile is kept.
    let now = manifest.reload().and_then(|now| Ok((without_backend(&now, name)?, now)));
    now.and_then(|(edited, now)| edited.map_or(Ok(()), |edited| write_manifest(&now, &edited.text)))
        .map_err(|error| block_remains(name, &error))?;
    let is_unknown = edited.is_none() && plan.steps.is_empty();
    Ok(if is_unknown { Deprovisioned::NotFound } else { Deprovisioned::Destroyed(notices) })
}

/// Returns the manifest without the backend; none where it does not declare it.
fn without_backend(loaded: &LoadedManifest, name: &BackendName) -> Result<Option<LoadedManifest>, AppError> {
    if !loaded.desired.backends.contains_key(name) {
        return Ok(None);
    }
    let text = remove_backend(&loaded.text, name.as_str()).map_err(|error| not_edited(error.to_string()))?;
    loaded.with_text(text).map(Some)
}

/// Says first that the backend is destroyed although its block remains.
fn block_remains(name: &BackendName, failure: &AppError) -> AppError {
    let message =
        format!("`{name}` is destroyed, but its block is still in the manifest, and the next apply would create it again");
    let finding = Diagnostic::new("deprovision.block_left", message)
        .with_help("remove the block by hand, or repair what is said below and run the same command again");
    let Report { exit, mut errors } = failure.report();
    errors.insert(0, finding);
    AppError::from(Report { exit, errors })
}
