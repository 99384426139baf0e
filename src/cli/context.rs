//! What every command starts from: the manifest, the control plane, the project.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::args::Global;
use super::env_vars::{ALLOW_PLAIN_HTTP, FIRST_PORT, MASTER_KEY};
use super::printer::Printer;
use super::token_source::{EnvTokenSource, NamedBy};
use super::{env_overrides, providers};
use crate::api::client::{ClientConfig, ClientTimeouts, ControlPlaneUrl, HttpControlPlane};
use crate::api::{Administration, ControlPlane};
use crate::app::{AppError, LoadedManifest, discovery};
use crate::convex::deployment::DeploymentClient;
use crate::host::{ControlSession, EMBEDDED, Home, Host, HostParts, LocalBinaries, NativePlatform};
use crate::model::{Desired, Diagnostic, Exit, ProjectName, Secret};
use crate::provider::docker::{AllowList, Docker};
use crate::provider::kubernetes::Kubernetes;
use crate::system::read_regular;

/// How large a file of certificates may be in bytes.
const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;

/// What every command starts from.
pub(crate) struct Context {
    /// What was asked for on every command line.
    pub(crate) global: Global,
    /// The only writer.
    pub(crate) printer: Printer,
    /// Shared with the parts of a command, so that a token is asked for once.
    plane: Rc<OnceCell<ControlPlaneHandle>>,
    /// Whether the store may not know backends in its home.
    accepts_unrecorded: bool,
}

/// The control plane that answers.
enum ControlPlaneHandle {
    Embedded(ControlSession),
    Remote(Box<HttpControlPlane>),
}

impl Context {
    /// A context for these arguments.
    pub(crate) fn new(global: Global, printer: Printer) -> Self {
        Self { global, printer, plane: Rc::default(), accepts_unrecorded: false }
    }

    /// Returns the context of a recovery, in which the embedded store may not know backends in its home.
    pub(crate) fn accepting_unrecorded_backends(&self) -> Self {
        Self { accepts_unrecorded: true, ..Self::new(self.global.clone(), self.printer.clone()) }
    }

    /// The path of the manifest.
    pub(crate) fn manifest_path(&self) -> Result<PathBuf, AppError> {
        if let Some(path) = &self.global.manifest {
            // A folder means the manifest in it.
            return Ok(if path.is_dir() { path.join(discovery::MANIFEST_NAME) } else { path.clone() });
        }
        let here = std::env::current_dir().map_err(|error| {
            AppError::new(
                Exit::Failed,
                Diagnostic::new("usage.no_folder", format!("the current folder cannot be read: {error}")),
            )
        })?;
        let found = discovery::find_manifest(&here).map(|path| match path.strip_prefix(&here) {
            // What lies right here is named as people name it.
            Ok(name) => name.to_owned(),
            Err(_) => path,
        });
        found.ok_or_else(|| {
            let message = format!("no `{}` here or in any folder above", discovery::MANIFEST_NAME);
            AppError::new(
                Exit::Manifest,
                Diagnostic::new("manifest.not_found", message).with_help("write one with\n    convexinfra init"),
            )
        })
    }

    /// Reads the manifest.
    pub(crate) fn load(&self) -> Result<LoadedManifest, AppError> {
        let mut loaded = LoadedManifest::read(self.manifest_path()?, self.global.project.as_ref())?;
        loaded.home = self.home().ok();
        Ok(loaded)
    }

    /// Reads the manifest; none where no file is there yet.
    pub(crate) fn load_if_written(&self) -> Result<Option<LoadedManifest>, AppError> {
        match self.manifest_path() {
            Err(_) if self.global.manifest.is_none() => Ok(None),
            Ok(path) if !path.exists() && path.symlink_metadata().is_err() => Ok(None),
            _ => self.load().map(Some),
        }
    }

    /// The project that a command is about: named, or the manifest's.
    pub(crate) fn project(&self) -> Result<(ProjectName, Option<LoadedManifest>), AppError> {
        match (&self.global.project, self.global.manifest.is_none()) {
            // A project by name needs no manifest, but one that is there may name the control plane.
            (Some(project), true) => match self.manifest_path() {
                Err(_) => Ok((project.clone(), None)),
                Ok(_) => self.load().map(|loaded| (project.clone(), Some(loaded))),
            },
            _ => self.load().map(|loaded| (loaded.desired.project.clone(), Some(loaded))),
        }
    }

    /// The manifest; where there is none, one without backends for the project that was named.
    pub(crate) fn load_or_empty(&self) -> Result<LoadedManifest, AppError> {
        let (project, loaded) = self.project()?;
        let empty = || {
            let text = format!("project = \"{project}\"\n");
            let mut loaded = LoadedManifest::parse(discovery::MANIFEST_NAME.into(), text, self.global.project.as_ref())?;
            loaded.home = self.home().ok();
            Ok(loaded)
        };
        loaded.map_or_else(empty, Ok)
    }

    /// The manifest, if there is one: for what is not about a project, it only names the control plane.
    pub(crate) fn load_if_there(&self) -> Result<Option<LoadedManifest>, AppError> {
        match self.manifest_path() {
            Err(_) if self.global.manifest.is_none() => Ok(None),
            _ => self.load().map(Some),
        }
    }

    /// The control plane that was named, or that a manifest names.
    pub(crate) fn control(&self, desired: Option<&Desired>) -> Result<&dyn ControlPlane, AppError> {
        Ok(match self.plane(desired)? {
            ControlPlaneHandle::Embedded(acting) => acting,
            ControlPlaneHandle::Remote(client) => client.as_ref(),
        })
    }

    /// The same control plane, for what only its operator may do.
    pub(crate) fn administration(&self, desired: Option<&Desired>) -> Result<&dyn Administration, AppError> {
        Ok(match self.plane(desired)? {
            ControlPlaneHandle::Embedded(acting) => acting,
            ControlPlaneHandle::Remote(client) => client.as_ref(),
        })
    }

    /// Gives a removal the room that an embedded control plane keeps for it, where its disk is full.
    pub(crate) fn make_room(&self, desired: Option<&Desired>) -> Result<(), AppError> {
        if self.is_embedded(desired)? {
            Home::new(self.home()?, None).release_reserve();
        }
        Ok(())
    }

    /// Whether the control plane is the one of this process.
    pub(crate) fn is_embedded(&self, desired: Option<&Desired>) -> Result<bool, AppError> {
        Ok(matches!(self.plane(desired)?, ControlPlaneHandle::Embedded(_)))
    }

    fn plane(&self, desired: Option<&Desired>) -> Result<&ControlPlaneHandle, AppError> {
        if self.plane.get().is_none() {
            let plane = match self.address(desired)? {
                None => ControlPlaneHandle::Embedded(
                    Arc::new(self.make_host(EMBEDDED, LocalBinaries::Any, AllowList::Unrestricted)?).embedded_session(),
                ),
                Some((url, named_by)) => ControlPlaneHandle::Remote(Box::new(self.client(url, named_by)?)),
            };
            let _ = self.plane.set(plane);
        }
        self.plane
            .get()
            .ok_or_else(|| AppError::new(Exit::Bug, Diagnostic::new("bug", "no control plane; this is a bug in convexinfra")))
    }

    /// Where the control plane is; none for the embedded one. What was typed wins over what a manifest says.
    fn address(&self, desired: Option<&Desired>) -> Result<Option<(ControlPlaneUrl, NamedBy)>, AppError> {
        let named = self.global.control_plane.as_deref().map(str::trim).filter(|named| !named.is_empty());
        let (text, named_by) = match (named, desired.and_then(|desired| desired.control_plane.as_deref())) {
            (Some(EMBEDDED), _) | (None, None) => return Ok(None),
            (Some(text), _) => (text, NamedBy::User),
            (None, Some(text)) => (text, NamedBy::Manifest),
        };
        let usage = |code: &str, message: String| AppError::new(Exit::Usage, Diagnostic::new(code, message));
        let url = ControlPlaneUrl::parse(text).map_err(|error| usage("usage.control_plane", error.to_string()))?;
        if url.is_cleartext_remote() && !env_overrides::is_on(ALLOW_PLAIN_HTTP) {
            let message = format!("the token would go to `{url}` in clear, where anybody on the way can read it");
            let finding = Diagnostic::new("control.plain_http", message).with_help(format!(
                "use `https`, or set `{ALLOW_PLAIN_HTTP}=1` where the way itself is safe, such as inside a tunnel"
            ));
            return Err(AppError::new(Exit::Usage, finding));
        }
        Ok(Some((url, named_by)))
    }

    fn client(&self, url: ControlPlaneUrl, named_by: NamedBy) -> Result<HttpControlPlane, AppError> {
        let path = self.global.control_plane_ca.as_ref().filter(|path| !path.as_os_str().is_empty());
        let certificates = path.map(|path| read_regular(path, MAX_CERTIFICATE_BYTES)).transpose().map_err(|error| {
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            let message = format!("the certificates in `{path}` cannot be read: {error}");
            AppError::new(Exit::Usage, Diagnostic::new("usage.certificates", message))
        })?;
        let token = Box::new(EnvTokenSource::new(&url, named_by));
        let printer = self.printer.clone();
        let waiting = Box::new(move |message: String| printer.status(&format!("{message}\n")));
        Ok(HttpControlPlane::new(ClientConfig {
            url,
            token,
            certificates,
            timeouts: ClientTimeouts::default(),
            on_wait: waiting,
        })?)
    }

    /// The directory of the embedded control plane.
    pub(crate) fn home(&self) -> Result<PathBuf, AppError> {
        let home = self.global.home.clone().filter(|path| !path.as_os_str().is_empty()).or_else(discovery::default_home);
        let home = home.ok_or_else(|| {
            let finding = Diagnostic::new("home.unknown", "there is no home directory, so the control plane has no place");
            AppError::new(Exit::Failed, finding.with_help("name one with `CONVEXINFRA_HOME`"))
        })?;
        std::path::absolute(&home).map(|home| canonical_home(&home)).map_err(|error| {
            AppError::new(Exit::Failed, Diagnostic::new("home.unknown", format!("`{}` is not a path: {error}", home.display())))
        })
    }

    /// The control plane in this process, for what only it can do.
    pub(crate) fn embedded(&self, desired: Option<&Desired>) -> Result<&ControlSession, AppError> {
        match self.plane(desired)? {
            ControlPlaneHandle::Embedded(acting) => Ok(acting),
            ControlPlaneHandle::Remote(_) => {
                let message = "this works on the machine of the control plane only";
                let help = "run it on the control plane's machine with `--control-plane embedded`, while no server runs there";
                Err(AppError::new(Exit::Refused, Diagnostic::new("control.not_here", message).with_help(help)))
            }
        }
    }

    /// The Docker engine, for what no control plane does.
    pub(crate) fn docker(&self) -> Result<Docker, AppError> {
        Ok(providers::docker(&self.home()?))
    }

    /// The clusters of the kubeconfig, for what no control plane does.
    pub(crate) fn kubernetes(&self) -> Kubernetes {
        providers::kubernetes(&AllowList::Unrestricted)
    }

    /// A host in the home that was asked for, under the name that plans give to it.
    pub(crate) fn make_host(&self, name: &str, local_binaries: LocalBinaries, allowed: AllowList) -> Result<Host, AppError> {
        let directory = self.home()?;
        let executable = std::env::current_exe().map_err(|error| {
            AppError::new(Exit::Failed, Diagnostic::new("host.executable", format!("this program cannot find itself: {error}")))
        })?;
        let providers = providers::available(&directory, executable, allowed);
        let platform = NativePlatform::new(directory, secret_variable(MASTER_KEY), first_port()?);
        let (name, connections) = (name.to_owned(), DeploymentClient::default());
        let platform = if self.accepts_unrecorded { platform.accepting_unrecorded_backends() } else { platform };
        Ok(Host::new(HostParts { platform: Box::new(platform), name, providers, connections, local_binaries }))
    }
}

/// Returns a variable with a secret; none where it is empty.
pub(crate) fn secret_variable(name: &str) -> Option<Secret> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new)
}

/// Returns the canonical path, without links and `..`: backends are started with paths in it, and another spelling
/// would look like drift. What does not exist yet is taken as it is.
fn canonical_home(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match existing {
        Some((ancestor, real)) => match path.strip_prefix(ancestor) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path.to_owned(),
    }
}

/// The first port that backends of this home get. Two homes on one machine do not know of each other: where one has a
/// backend down for a moment, the other could take its ports unless they keep to different ones.
fn first_port() -> Result<Option<u16>, AppError> {
    const ALLOWED: std::ops::RangeInclusive<u16> = 1024..=29_000;
    match std::env::var(FIRST_PORT).ok().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().ok().filter(|port| ALLOWED.contains(port)).map(Some).ok_or_else(|| {
            let message =
                format!("`{FIRST_PORT}` is `{text}`, and it should be a port from {} to {}", ALLOWED.start(), ALLOWED.end());
            AppError::new(Exit::Usage, Diagnostic::new("usage.first_port", message))
        }),
    }
}
