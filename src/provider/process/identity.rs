//! `identity.json` in the directory of a backend: whose it is, so that a record that was dropped or lost is made anew.
//!
//! Must not do: hold a secret. A backend that is taken up again gets a new instance secret, which its data does not depend on.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file_error;
use super::layout::{ASIDE, BACKENDS, BackendDir, write_private_file};
use crate::model::{
    BackendId, BackendName, Files, InstanceName, PortPair, ProjectName, ProviderKind, ProviderState, Release, ResolvedBackend,
};
use crate::provider::ProviderError;

const FORMAT: &str = "convexinfra.backend/1";
const FILE: &str = "identity.json";
/// How large an identity may be in bytes.
const MAX_IDENTITY_BYTES: u64 = 1 << 20;

/// Says whose a directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendIdentity {
    format: String,
    /// Its identity, and the name of its directory.
    pub id: BackendId,
    /// The project that it belonged to.
    pub project: ProjectName,
    /// Its name in that project.
    pub name: BackendName,
    /// What its process calls itself.
    pub instance_name: InstanceName,
    /// The provider that ran it.
    pub provider: ProviderKind,
    /// Where it listened.
    pub ports: PortPair,
    /// The manifest's word for the engine of its documents.
    pub storage: String,
    /// The manifest's word for the engine of its files.
    pub files: String,
    /// The release that was asked for.
    pub release: Option<Release>,
    /// What its provider noted.
    pub provider_state: ProviderState,
}

impl BackendIdentity {
    /// Returns the identity of a backend.
    pub(super) fn of(placement: &ResolvedBackend) -> Self {
        Self {
            format: FORMAT.to_owned(),
            id: placement.id.clone(),
            project: placement.project.clone(),
            name: placement.name.clone(),
            instance_name: placement.instance_name.clone(),
            provider: placement.spec.provider,
            ports: placement.ports,
            storage: placement.spec.storage.engine().to_owned(),
            files: if matches!(placement.spec.files, Files::S3(_)) { "s3" } else { "local" }.to_owned(),
            release: placement.spec.release.clone(),
            provider_state: placement.provider_state.clone(),
        }
    }

    /// Writes the identity into the directory of its backend, where another one or none is there.
    pub(super) fn write(&self, place: &BackendDir) -> Result<(), ProviderError> {
        let path = place.root().join(FILE);
        if Self::read(place.root())?.as_ref() == Some(self) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).map_err(file_error(&path, "written"))?;
        write_private_file(&path, &text)
    }

    /// Reads the identity of a directory; none when there is none or when it is not one.
    fn read(root: &Path) -> Result<Option<Self>, ProviderError> {
        let path = root.join(FILE);
        match crate::system::read_regular(&path, MAX_IDENTITY_BYTES).map_err(std::io::Error::from) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok().filter(|identity: &Self| identity.format == FORMAT)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(file_error(&path, "read")(error)),
        }
    }
}

/// Finds the backends of a project in a home that no record knows: those that were set aside, and those whose record is lost.
///
/// # Errors
/// [`ProviderError::File`] when that cannot be told.
pub fn find_unrecorded(
    home: &Path,
    project: &ProjectName,
    known: &BTreeSet<BackendId>,
) -> Result<Vec<BackendIdentity>, ProviderError> {
    let found = find_aside(home, project)?.into_iter().chain(find_in(&home.join(BACKENDS), project)?);
    Ok(found.map(|(identity, _)| identity).filter(|identity| !known.contains(&identity.id)).collect())
}

/// Moves what was set aside back to its place, where a record knows it: a recovery that was cut off had made it.
///
/// # Errors
/// [`ProviderError::File`] when it cannot be moved.
pub fn take_back_recorded(home: &Path, project: &ProjectName, known: &BTreeSet<BackendId>) -> Result<(), ProviderError> {
    for (identity, _) in find_aside(home, project)?.into_iter().filter(|(identity, _)| known.contains(&identity.id)) {
        BackendDir::new(home, &identity.id)?.take_back()?;
    }
    Ok(())
}

/// Finds the backends of a project that were set aside.
pub(super) fn find_aside(home: &Path, project: &ProjectName) -> Result<Vec<(BackendIdentity, PathBuf)>, ProviderError> {
    find_in(&home.join(ASIDE), project)
}

fn find_in(directory: &Path, project: &ProjectName) -> Result<Vec<(BackendIdentity, PathBuf)>, ProviderError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(directory, "read")(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(file_error(directory, "read"))?.path();
        let Some(identity) = BackendIdentity::read(&path)? else { continue };
        // A copy under another name, and what is being removed, are no backend.
        if identity.project == *project && path.file_name().is_some_and(|name| name == identity.id.as_str()) {
            found.push((identity, path));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    Ok(found)
}
