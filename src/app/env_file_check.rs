//! Checks the env files that were written for the backends of a manifest. Changes nothing.
//!
//! Only files that were written before are checked: one that an edited manifest names anew is for the plan.

use std::path::{Path, PathBuf};

use super::env_files::ManifestEnvFiles;
use super::secrets::{ComparisonKey, ComparisonMode};
use super::{AppError, LoadedManifest};
use crate::api::{ControlPlane, IfMissing};
use crate::model::{
    ActualBackend, Address, BackendName, EnvFileContents, EnvFileState, FieldDrift, FieldPath, Phase, Snapshot,
};
use crate::render::{EnvFileEntry, EnvFileStatus};

/// An env file that was written for a backend, and what stands in it now.
pub(crate) struct CheckedEnvFile {
    /// What a step about it would be about.
    pub(crate) address: Address,
    /// What is said of it.
    pub(crate) entry: EnvFileEntry,
    /// How it differs from what was written.
    pub(crate) drift: Vec<FieldDrift>,
}

/// Checks the env files that the manifest names and that were written from this machine.
///
/// # Errors
/// What the control plane says.
pub(crate) async fn check(
    control: &dyn ControlPlane,
    manifest: &LoadedManifest,
    snapshot: &Snapshot,
) -> Result<Vec<CheckedEnvFile>, AppError> {
    let files = ManifestEnvFiles::new(manifest, &snapshot.control_plane.name);
    let written = files.written(&manifest.desired);
    let existing = snapshot.by_name();
    let ready = |name: &BackendName| {
        existing.get(name).copied().filter(|found| found.phase == Phase::Ready && found.admin_key.is_some())
    };
    if !written.iter().any(|(address, ..)| ready(&address.backend).is_some()) {
        return Ok(Vec::new());
    }
    let key = ComparisonKey::ask(control, &snapshot.project, IfMissing::ReturnNone, ComparisonMode::BestEffort).await?;
    let mut states = files.inspect_all(&manifest.desired, snapshot, &key).states;
    let mut check = |(address, path, contents): (Address, PathBuf, EnvFileContents)| {
        let backend = ready(&address.backend)?;
        let (status, drift) = compare(&states.remove(&address)?, contents, backend, &path);
        let entry = EnvFileEntry { path: path.display().to_string(), backend: address.backend.clone(), status };
        Some(CheckedEnvFile { address, entry, drift })
    };
    Ok(written.into_iter().filter_map(&mut check).collect())
}

/// Compares what stands in a file with what was written for its backend.
fn compare(
    state: &EnvFileState,
    contents: EnvFileContents,
    backend: &ActualBackend,
    path: &Path,
) -> (EnvFileStatus, Vec<FieldDrift>) {
    let drift = |path: &str, recorded: String, observed: String| FieldDrift { path: FieldPath::new(path), recorded, observed };
    let content = match state {
        EnvFileState::Writable { content, .. } => content,
        EnvFileState::Refused { message, .. } => {
            return (EnvFileStatus::Refused, vec![drift("file", "ours to write".to_owned(), message.clone())]);
        }
    };
    if !path.exists() {
        return (EnvFileStatus::Missing, vec![drift("file", "present".to_owned(), "missing".to_owned())]);
    }
    if !content.up_to_date {
        let none = || "(none)".to_owned();
        let url = backend.endpoints.as_ref().map(|endpoints| endpoints.url.clone());
        let pair = [
            ("CONVEX_SELF_HOSTED_URL", url, content.url.clone()),
            (
                "CONVEX_SELF_HOSTED_ADMIN_KEY",
                backend.admin_key.as_ref().map(ToString::to_string),
                content.admin_key.as_ref().map(ToString::to_string),
            ),
        ];
        let differs = pair.into_iter().filter(|(_, recorded, observed)| recorded != observed && contents.has_pair());
        let mut found: Vec<FieldDrift> = differs
            .map(|(name, recorded, observed)| drift(name, recorded.unwrap_or_else(none), observed.unwrap_or_else(none)))
            .collect();
        if found.is_empty() {
            found.push(drift("lines", "those of its backend".to_owned(), "others".to_owned()));
        }
        return (EnvFileStatus::Outdated, found);
    }
    if content.needs_ignore_rule {
        return (EnvFileStatus::NotIgnored, vec![drift("ignored", "yes".to_owned(), "no".to_owned())]);
    }
    if let Some(mode) = content.exposed_mode {
        return (EnvFileStatus::Exposed, vec![drift("mode", format!("{:04o}", mode & 0o700), format!("{mode:04o}"))]);
    }
    (EnvFileStatus::Current, Vec::new())
}
