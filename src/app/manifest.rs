//! Reads manifests from files and resolves the paths in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AppError, discovery};
use crate::model::{CertificateFile, Certificates, Desired, Diagnostic, Exit, ProjectName, Storage, Tls, shell_word};
use crate::system::{FileReadError, read_regular, read_regular_text_within};

/// How large a manifest may be in bytes.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// How long a file of certificates is waited for.
const CERTIFICATES_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a manifest is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestFile {
    /// It was read from there.
    Written,
    /// There was none yet.
    New,
}

/// A manifest that was read and has no errors.
#[derive(Clone)]
pub(crate) struct LoadedManifest {
    /// The path of the file.
    pub(crate) path: PathBuf,
    /// The folder that the paths in it are relative to.
    pub(crate) folder: PathBuf,
    /// The text of the file.
    pub(crate) text: String,
    /// The desired state.
    pub(crate) desired: Desired,
    /// What deserves attention in it.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The home of this machine, where written env files are remembered.
    pub(crate) home: Option<PathBuf>,
    /// Whether it is in its file, or is still to be written.
    pub(crate) file: ManifestFile,
    /// The project name that was given in place of the manifest's.
    project: Option<ProjectName>,
}

impl LoadedManifest {
    /// Reads the manifest at a path. A project name that is given takes the place of the one in the manifest.
    ///
    /// # Errors
    /// The file cannot be read, or its text has problems.
    pub(crate) fn read(path: PathBuf, project: Option<&ProjectName>) -> Result<Self, AppError> {
        let text = read_text(&path)?;
        Self::parse(path, text, project)
    }

    /// Parses a text as the manifest at a path.
    ///
    /// # Errors
    /// The text has problems.
    pub(crate) fn parse(path: PathBuf, text: String, project: Option<&ProjectName>) -> Result<Self, AppError> {
        let mut parsed = crate::manifest::parse(&text, project).map_err(|problems| AppError::Manifest {
            problems,
            text: text.clone(),
            file: path.display().to_string(),
        })?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        crate::env_file::sweep(&folder);
        parsed.desired.origin = discovery::origin(&folder);
        resolve_paths(&mut parsed.desired, &folder);
        read_certificates(&mut parsed.desired);
        let project = project.cloned();
        let (desired, warnings) = (parsed.desired, parsed.warnings);
        Ok(Self { path, folder, text, desired, warnings, home: None, file: ManifestFile::Written, project })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// The file cannot be read, or its text has problems.
    pub(crate) fn reload(&self) -> Result<Self, AppError> {
        Ok(Self { home: self.home.clone(), ..Self::read(self.path.clone(), self.project.as_ref())? })
    }

    /// Checks a text before it becomes this manifest.
    ///
    /// # Errors
    /// The text has problems.
    pub(crate) fn with_text(&self, text: String) -> Result<Self, AppError> {
        let parsed = Self::parse(self.path.clone(), text, self.project.as_ref()).map_err(|error| match error {
            AppError::Manifest { problems, text, file } => {
                AppError::Manifest { problems, text, file: format!("{file} (as it would be)") }
            }
            other @ AppError::Report(_) => other,
        })?;
        Ok(Self { home: self.home.clone(), ..parsed })
    }
}

/// Reads the text of a manifest.
///
/// # Errors
/// The file cannot be read, or is no text.
pub(super) fn read_text(path: &Path) -> Result<String, AppError> {
    let failed = |code: &str, message: String| AppError::new(Exit::Manifest, Diagnostic::new(code, message));
    let shown = path.display();
    let bytes = read_regular(path, MAX_MANIFEST_BYTES).map_err(|error| match error {
        FileReadError::NotFound => {
            let diagnostic = Diagnostic::new("manifest.not_found", format!("there is no manifest `{shown}`"));
            let help = format!("write one with\n    convexinfra init --manifest {}", shell_word(&shown.to_string()));
            AppError::new(Exit::Manifest, diagnostic.with_help(help))
        }
        FileReadError::NotRegular => failed("manifest.unreadable", format!("`{shown}` is not a file")),
        FileReadError::TooLarge { limit } => {
            failed("manifest.too_large", format!("`{shown}` has more than {limit} bytes, the most that a manifest has"))
        }
        error => failed("manifest.unreadable", format!("`{shown}` cannot be read: {error}")),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        failed("manifest.not_utf8", format!("`{shown}` is not UTF-8 text: the first wrong byte is in line {line}"))
    })
}

/// Paths in a manifest are relative to it, wherever the command runs.
fn resolve_paths(desired: &mut Desired, folder: &Path) {
    let absolute = |path: &mut String| {
        let joined = folder.join(path.as_str());
        if let Ok(joined) = std::path::absolute(joined) {
            *path = joined.to_string_lossy().into_owned();
        }
    };
    for backend in desired.backends.values_mut() {
        if let Some(binary) = &mut backend.spec.settings.local.binary {
            absolute(binary);
        }
        if let Some(identity) = backend.spec.settings.docker.server.as_mut().and_then(|server| server.identity.as_mut())
            && !identity.starts_with("~/")
        {
            absolute(identity);
        }
        if let Storage::Postgres(server) | Storage::Mysql(server) = &mut backend.spec.storage
            && let Tls::Ca(path) = &mut server.tls
        {
            absolute(path);
        }
    }
}

/// Puts the certificates in the place of the files that name them: a control plane takes no path. What cannot be used is
/// said where it is needed, by the plan.
fn read_certificates(desired: &mut Desired) {
    let mut read: BTreeMap<String, Result<Certificates, String>> = BTreeMap::new();
    for backend in desired.backends.values_mut() {
        let (Storage::Postgres(server) | Storage::Mysql(server)) = &mut backend.spec.storage else { continue };
        let Tls::Ca(path) = &server.tls else { continue };
        let path = path.clone();
        let found = read.entry(path.clone()).or_insert_with_key(|path| certificates(Path::new(path)));
        let problem = found.as_ref().err().cloned();
        if let Ok(certificates) = found {
            server.tls = Tls::Pem(certificates.clone());
        }
        backend.certificate_file = Some(CertificateFile { path, problem });
    }
}

fn certificates(path: &Path) -> Result<Certificates, String> {
    let text = read_regular_text_within(path, Certificates::MAX_BYTES as u64, CERTIFICATES_TIMEOUT);
    Certificates::parse(&text.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}
