//! Env files as the executor and the planner need them: where they are, what they should say, what they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::LoadedManifest;
use super::discovery::join_display;
use super::secrets::ComparisonKey;
use crate::api::Credentials;
use crate::apply::EnvFiles;
use crate::env_file::{
    self, Block, BlockOwner, Boundary, ClientVariables, ExpectedBlock, ExpectedClient, Inventory, WrittenFile, detect,
};
use crate::model::{
    ActualBackend, Address, BackendName, DEFAULT_ENV_FILE, Desired, Diagnostic, EnvFileContents, EnvFileState, EnvFileTarget,
    ProjectName, RememberedEnvFile, RequestedBy, Snapshot, error_chain,
};

/// The env files of one manifest, and those that it named before.
pub(crate) struct ManifestEnvFiles {
    /// The folder that their paths are relative to.
    folder: PathBuf,
    boundary: Boundary,
    project: ProjectName,
    /// Where what was written is remembered; none where there is no home.
    home: Option<PathBuf>,
    control_plane: String,
}

/// What stands in env files.
#[derive(Default)]
pub(crate) struct InspectedEnvFiles {
    /// By what a step would be about.
    pub(crate) states: BTreeMap<Address, EnvFileState>,
    /// The files that were written before and that the manifest does not name.
    pub(crate) remembered: Vec<RememberedEnvFile>,
}

impl ManifestEnvFiles {
    /// The env files of a manifest in a control plane of this name.
    pub(crate) fn new(loaded: &LoadedManifest, control_plane: &str) -> Self {
        Self {
            folder: loaded.folder.clone(),
            boundary: Boundary::of(&loaded.folder),
            project: loaded.desired.project.clone(),
            home: loaded.home.clone(),
            control_plane: control_plane.to_owned(),
        }
    }

    fn owner(&self, backend: &BackendName) -> BlockOwner {
        BlockOwner { project: self.project.clone(), backend: backend.clone() }
    }

    fn inventory(&self) -> Option<Inventory> {
        self.home.as_ref().map(|home| Inventory::load(home, &self.control_plane, &self.project))
    }

    /// Whether there is any env file to look at.
    pub(crate) fn any(&self, desired: &Desired, snapshot: &Snapshot) -> bool {
        let wanted = &desired.backends;
        wanted.values().any(|backend| !backend.env_files.is_empty())
            || snapshot.backends.iter().any(|backend| backend.admin_key.is_some() && !wanted.contains_key(&backend.name))
            || self.inventory().is_some_and(|inventory| inventory.files().next().is_some())
    }

    /// Inspects every env file that the manifest names or named.
    pub(crate) fn inspect_all(&self, desired: &Desired, snapshot: &Snapshot, keys: &ComparisonKey) -> InspectedEnvFiles {
        let existing = snapshot.by_name();
        let renamed: BTreeMap<_, _> = desired.moved.iter().map(|moved| (&moved.to, &moved.from)).collect();
        let mut found = InspectedEnvFiles::default();
        let mut owners: BTreeMap<PathBuf, &BackendName> = BTreeMap::new();
        for (name, backend) in &desired.backends {
            let actual = existing.get(name).or_else(|| existing.get(*renamed.get(name)?)).copied();
            // What never ran never wrote.
            if backend.spec.is_record_only() && actual.is_none_or(|actual| actual.admin_key.is_none()) {
                continue;
            }
            for (address, target) in backend.env_file_addresses(name) {
                let path = join_display(&self.folder, &target.path);
                let state = match owners.insert(real_path(&path), name).filter(|owner| *owner != name) {
                    Some(owner) => shared(&path, owner),
                    None => self.inspect_one(&path, Some(&self.boundary), &self.expected(name, actual, target), keys),
                };
                found.states.insert(address, state);
            }
        }
        let known = |name: &BackendName| existing.get(name).copied();
        for (path, backend, requested_by) in self.former_files(desired, &existing) {
            if owners.contains_key(&real_path(&path)) || !path.is_file() {
                continue;
            }
            let shown = shown_path(&self.folder, &path);
            let address = Address::env_file_at(&backend, &shown);
            let target = EnvFileTarget { path: shown, contents: EnvFileContents::Pair };
            let expected = self.expected(&backend, known(&backend), &target);
            let mut state = self.inspect_one(&path, None, &expected, keys);
            if let EnvFileState::Writable { outside, .. } = &mut state {
                *outside = !self.boundary.contains(&real_path(&path));
            }
            found.states.insert(address.clone(), state);
            let elsewhere = !self.boundary.is_in_checkout(&real_path(&path));
            found.remembered.push(RememberedEnvFile { address, target, requested_by, elsewhere });
        }
        found
    }

    /// Returns the files of the manifest that were written for the backend that names them.
    pub(crate) fn written(&self, desired: &Desired) -> Vec<(Address, PathBuf, EnvFileContents)> {
        let Some(inventory) = self.inventory() else { return Vec::new() };
        let mut found = Vec::new();
        for (name, backend) in &desired.backends {
            for (address, target) in backend.env_file_addresses(name) {
                let path = join_display(&self.folder, &target.path);
                let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
                if inventory.get(&absolute).is_some_and(|file| file.backend == *name) {
                    found.push((address, path, target.contents));
                }
            }
        }
        found
    }

    /// Writes new coordinates of a backend into every file that has its block, and returns their paths.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub(crate) fn rewrite(
        &self,
        desired: &Desired,
        backend: &BackendName,
        credentials: &Credentials,
    ) -> Result<Vec<String>, Diagnostic> {
        let owner = self.owner(backend);
        let mut written = Vec::new();
        for target in desired.backends.get(backend).iter().flat_map(|desired| &desired.env_files) {
            if env_file::has_block(&join_display(&self.folder, &target.path), &owner).unwrap_or(true) {
                self.write(backend, target, credentials)?;
                written.push(target.path.clone());
            }
        }
        let inventory = self.inventory();
        let typed = inventory.iter().flat_map(Inventory::files);
        for (path, _) in typed.filter(|(_, file)| file.backend == *backend && file.requested_by == RequestedBy::Command) {
            if env_file::has_block(path, &owner).unwrap_or(true) {
                write_file(path, owner.clone(), credentials, None)?;
                written.push(shown_path(&self.folder, path));
            }
        }
        Ok(written)
    }

    /// The files that were written before, and the usual one of backends whose block is gone, which may be older than the
    /// memory.
    fn former_files(
        &self,
        desired: &Desired,
        existing: &BTreeMap<&BackendName, &ActualBackend>,
    ) -> Vec<(PathBuf, BackendName, RequestedBy)> {
        let inventory = self.inventory();
        let remembered = inventory.iter().flat_map(Inventory::files);
        let mut files: Vec<_> =
            remembered.map(|(path, file)| (path.to_owned(), file.backend.clone(), file.requested_by)).collect();
        let usual = join_display(&self.folder, DEFAULT_ENV_FILE);
        let absolute = std::path::absolute(&usual).unwrap_or(usual);
        let renamed = |name: &BackendName| desired.moved.iter().any(|moved| moved.from == *name);
        for (name, actual) in existing {
            let gone = !desired.backends.contains_key(*name) && !renamed(name) && actual.admin_key.is_some();
            if gone && !files.iter().any(|(path, backend, _)| *path == absolute && backend == *name) {
                files.push((absolute.clone(), (*name).clone(), RequestedBy::Manifest));
            }
        }
        files
    }

    /// Brings the memory of written files in line with the files, where a command that was killed left it behind them. A
    /// file that cannot be looked at is believed to be as it was.
    pub(crate) fn reconcile_inventory(&self, desired: &Desired, snapshot: &Snapshot) {
        let Some(home) = &self.home else { return };
        let existing = snapshot.by_name();
        let mut named: BTreeMap<PathBuf, &BackendName> = BTreeMap::new();
        for (name, backend) in desired.backends.iter().filter(|(name, _)| existing.contains_key(name)) {
            for target in &backend.env_files {
                let path = join_display(&self.folder, &target.path);
                named.insert(std::path::absolute(&path).unwrap_or(path), name);
            }
        }
        let is_named = |path: &Path, file: &WrittenFile| named.get(path).is_some_and(|name| **name == file.backend);
        let is_written = |path: &Path, file: &WrittenFile| {
            is_named(path, file) || env_file::has_block(path, &self.owner(&file.backend)).unwrap_or(true)
        };
        // A memory that fails costs nothing now.
        let _ = Inventory::prune(home, &self.control_plane, &self.project, is_written);
        let inventory = Inventory::load(home, &self.control_plane, &self.project);
        for (path, name) in named {
            let Some(endpoints) = existing.get(name).and_then(|actual| actual.endpoints.as_ref()) else { continue };
            let is_known = inventory.get(&path).is_some_and(|file| file.backend == *name);
            if !is_known && env_file::has_block(&path, &self.owner(name)).unwrap_or(false) {
                let file = WrittenFile {
                    backend: name.clone(),
                    requested_by: RequestedBy::Manifest,
                    urls: vec![endpoints.url.clone(), endpoints.site_url.clone()],
                };
                let _ = Inventory::remember(home, &self.control_plane, &self.project, &path, file);
            }
        }
    }

    fn expected(&self, name: &BackendName, actual: Option<&ActualBackend>, target: &EnvFileTarget) -> ExpectedBlock {
        let endpoints = actual.and_then(|actual| actual.endpoints.as_ref());
        ExpectedBlock {
            owner: self.owner(name),
            url: endpoints.map(|endpoints| endpoints.url.clone()),
            has_pair: target.contents.has_pair(),
            admin_key: actual.and_then(|actual| actual.admin_key.clone()),
            client: self
                .client_prefix(target)
                .map(|prefix| ExpectedClient { prefix, site_url: endpoints.map(|endpoints| endpoints.site_url.clone()) }),
        }
    }

    fn inspect_one(
        &self,
        path: &Path,
        boundary: Option<&Boundary>,
        expected: &ExpectedBlock,
        keys: &ComparisonKey,
    ) -> EnvFileState {
        if let Some(folder) = path.parent() {
            env_file::sweep(folder);
        }
        let fingerprint = |key: &str| keys.fingerprint(key, expected.admin_key.as_ref());
        let mut state = env_file::inspect(path, boundary, expected, fingerprint, |name| std::env::var_os(name));
        if let (ComparisonKey::Withheld, EnvFileState::Writable { content, warnings, .. }) = (keys, &mut state)
            && content.admin_key.is_some()
        {
            warnings.push(format!(
                "the key in `{}` is not compared here, because that needs a token with scope `apply`",
                path.display()
            ));
        }
        state
    }

    /// The prefix of the framework's own variables, if they are asked for. The package that the env file lies beside decides,
    /// as it does for the Convex client.
    fn client_prefix(&self, target: &EnvFileTarget) -> Option<String> {
        target.contents.has_client().then(|| {
            let package = join_display(&self.folder, &target.path).parent().map(|folder| folder.join("package.json"));
            let package = package.and_then(|path| env_file::read_text(&path));
            package.map_or("", |text| detect::client_prefix(&text)).to_owned()
        })
    }
}

/// A path without links, as far as there is something.
fn real_path(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// A path relative to a folder where it lies below it.
fn shown_path(folder: &Path, path: &Path) -> String {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
    let below = path.strip_prefix(&folder).or_else(|_| path.strip_prefix(&real));
    below.unwrap_or(path).display().to_string()
}

fn shared(path: &Path, owner: &BackendName) -> EnvFileState {
    EnvFileState::Refused {
        code: "env_file.shared".to_owned(),
        message: format!(
            "`{}` is the env file of `{owner}` under another name, and one file can name one backend; give each backend a file \
             of its own",
            path.display()
        ),
    }
}

/// Puts the coordinates of a backend into a file that was typed, wherever it lies.
pub(crate) fn write_file(
    path: &Path,
    owner: BlockOwner,
    credentials: &Credentials,
    remembered_in: Option<(&Path, &str)>,
) -> Result<Vec<String>, Diagnostic> {
    let project = owner.project.clone();
    let backend = owner.backend.clone();
    let block =
        Block::new(owner, &credentials.url, Some(credentials.admin_key.clone()), None).map_err(|error| finding(&error))?;
    let outcome = env_file::upsert_block(path, None, &block).map_err(|error| finding(&error))?;
    if let (Some((home, control_plane)), Ok(path)) = (remembered_in, std::path::absolute(path)) {
        let file = WrittenFile { backend, requested_by: RequestedBy::Command, urls: vec![credentials.url.clone()] };
        // A memory that fails costs nothing now.
        let _ = Inventory::remember(home, control_plane, &project, &path, file);
    }
    Ok(outcome.warnings)
}

/// An env file's error as users see it.
pub(crate) fn finding(error: &env_file::EnvFileError) -> Diagnostic {
    Diagnostic::new(error.code(), error_chain(error))
}

impl EnvFiles for ManifestEnvFiles {
    fn write(&self, backend: &BackendName, target: &EnvFileTarget, credentials: &Credentials) -> Result<(), Diagnostic> {
        let client =
            self.client_prefix(target).map(|prefix| ClientVariables { prefix, site_url: credentials.site_url.clone() });
        let key = target.contents.has_pair().then(|| credentials.admin_key.clone());
        let block = Block::new(self.owner(backend), &credentials.url, key, client).map_err(|error| finding(&error))?;
        let path = join_display(&self.folder, &target.path);
        // Warnings were part of the plan; saying them again would be noise.
        env_file::upsert_block(&path, Some(&self.boundary), &block).map_err(|error| finding(&error))?;
        if let (Some(home), Ok(path)) = (&self.home, std::path::absolute(&path)) {
            let file = WrittenFile {
                backend: backend.clone(),
                requested_by: RequestedBy::Manifest,
                urls: vec![credentials.url.clone(), credentials.site_url.clone()],
            };
            let _ = Inventory::remember(home, &self.control_plane, &self.project, &path, file);
        }
        Ok(())
    }

    fn clear(&self, backend: &BackendName, target: &EnvFileTarget) -> Result<(), Diagnostic> {
        let path = join_display(&self.folder, &target.path);
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let inventory = self.inventory();
        let remembered = inventory.as_ref().and_then(|inventory| inventory.get(&absolute));
        let written = remembered.filter(|file| file.backend == *backend).map(|file| file.urls.as_slice());
        env_file::remove_block(&path, Some(&self.boundary), &self.owner(backend), written).map_err(|error| finding(&error))?;
        if let Some(home) = &self.home {
            let _ = Inventory::forget(home, &self.control_plane, &self.project, &absolute);
        }
        Ok(())
    }
}
