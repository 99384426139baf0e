//! Env files as the executor and the planner need them: where they are, what they should say, what they say.
//!
//! Must not do: know what stands in an env file; `env_file` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::discovery::{MAX_PACKAGE_BYTES, join_display};
use super::secrets::ComparisonKey;
use crate::api::Credentials;
use crate::apply::EnvFiles;
use crate::env_file::{self, Block, BlockOwner, ClientVariables, ExpectedBlock, detect};
use crate::model::{
    BackendName, DEFAULT_ENV_FILE, Desired, Diagnostic, EnvFileState, EnvFileTarget, ProjectName, Snapshot, error_chain,
};
use crate::system::read_regular_text;

/// The env files of one manifest.
pub(crate) struct ManifestEnvFiles {
    /// The folder that their paths are relative to.
    folder: PathBuf,
    project: ProjectName,
}

impl ManifestEnvFiles {
    /// The env files of the manifest in this folder.
    pub(crate) fn new(folder: &Path, project: &ProjectName) -> Self {
        Self { folder: folder.to_owned(), project: project.clone() }
    }

    fn owner(&self, backend: &BackendName) -> BlockOwner {
        BlockOwner { project: self.project.clone(), backend: backend.clone() }
    }

    /// What stands in every env file that the manifest names.
    pub(crate) fn inspect_all(
        &self,
        desired: &Desired,
        snapshot: &Snapshot,
        keys: &ComparisonKey,
    ) -> BTreeMap<BackendName, EnvFileState> {
        let existing: BTreeMap<_, _> = snapshot.backends.iter().map(|backend| (&backend.name, backend)).collect();
        let renamed: BTreeMap<_, _> = desired.moved.iter().map(|moved| (&moved.to, &moved.from)).collect();
        let mut found = BTreeMap::new();
        for (name, backend) in &desired.backends {
            let Some(target) = &backend.env_file else { continue };
            let actual = existing.get(name).or_else(|| existing.get(*renamed.get(name)?)).copied();
            // What never ran never wrote.
            if backend.spec.is_record_only() && actual.is_none_or(|actual| actual.admin_key.is_none()) {
                continue;
            }
            let endpoints = actual.and_then(|actual| actual.endpoints.as_ref());
            let expected = ExpectedBlock {
                owner: self.owner(name),
                url: endpoints.map(|endpoints| endpoints.url.clone()),
                admin_key: actual.and_then(|actual| actual.admin_key.clone()),
                client: endpoints.and_then(|endpoints| client_variables(&self.folder, target, &endpoints.site_url)),
            };
            let looked = inspect_one(&join_display(&self.folder, &target.path), &expected, keys);
            found.insert(name.clone(), looked);
        }
        // A block that is gone took its path with it; what it left in the usual place is found there.
        let path = join_display(&self.folder, DEFAULT_ENV_FILE);
        let gone = |name: &BackendName| !desired.backends.contains_key(name) && !renamed.values().any(|from| *from == name);
        if existing.keys().any(|name| gone(name)) && path.is_file() {
            for (name, actual) in existing.iter().filter(|(name, actual)| gone(name) && actual.admin_key.is_some()) {
                let expected = ExpectedBlock {
                    owner: self.owner(name),
                    url: actual.endpoints.as_ref().map(|endpoints| endpoints.url.clone()),
                    admin_key: actual.admin_key.clone(),
                    client: None,
                };
                found.insert((*name).clone(), inspect_one(&path, &expected, keys));
            }
        }
        found
    }
}

fn inspect_one(path: &Path, expected: &ExpectedBlock, keys: &ComparisonKey) -> EnvFileState {
    let fingerprint = |key: &str| keys.fingerprint(key, expected.admin_key.as_ref());
    let mut looked = env_file::inspect(path, Some(expected), fingerprint, |name| std::env::var_os(name));
    if let (ComparisonKey::Withheld, EnvFileState::Writable { admin_key: Some(_), warnings, .. }) = (keys, &mut looked) {
        warnings.push(format!(
            "the key in `{}` is not compared here, because that needs a token with scope `apply`",
            path.display()
        ));
    }
    looked
}

/// The framework's own variables, if they are asked for.
fn client_variables(folder: &Path, target: &EnvFileTarget, site_url: &str) -> Option<ClientVariables> {
    if !target.client_vars {
        return None;
    }
    // The package that the env file lies beside decides, as it does for the Convex client.
    let path = join_display(folder, &target.path);
    let package = path.parent().map(|folder| folder.join("package.json"));
    let package = package.and_then(|path| read_regular_text(&path, MAX_PACKAGE_BYTES).ok());
    let prefix = package.map_or("", |text| detect::client_prefix(&text));
    Some(ClientVariables { prefix: prefix.to_owned(), site_url: site_url.to_owned() })
}

/// Puts the coordinates of a backend into a file.
pub(crate) fn write_file(
    path: &Path,
    owner: BlockOwner,
    credentials: &Credentials,
    client: Option<ClientVariables>,
) -> Result<Vec<String>, Diagnostic> {
    let block = Block::new(owner, &credentials.url, credentials.admin_key.clone(), client).map_err(|error| finding(&error))?;
    env_file::upsert_block(path, &block).map(|written| written.warnings).map_err(|error| finding(&error))
}

/// An env file's error as users see it.
pub(crate) fn finding(error: &env_file::EnvFileError) -> Diagnostic {
    Diagnostic::new(error.code(), error_chain(error))
}

impl EnvFiles for ManifestEnvFiles {
    fn write(&self, backend: &BackendName, target: &EnvFileTarget, credentials: &Credentials) -> Result<(), Diagnostic> {
        let client = client_variables(&self.folder, target, &credentials.site_url);
        // Warnings were part of the plan; saying them again would be noise.
        write_file(&join_display(&self.folder, &target.path), self.owner(backend), credentials, client).map(drop)
    }

    fn clear(&self, backend: &BackendName, target: &EnvFileTarget) -> Result<(), Diagnostic> {
        let path = join_display(&self.folder, &target.path);
        env_file::remove_block(&path, &self.owner(backend)).map(drop).map_err(|error| finding(&error))
    }
}
