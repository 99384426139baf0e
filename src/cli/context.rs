//! What every command starts from: the manifest, the control plane, the project.
//!
//! Must not do: open the control plane before a command needs it.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::args::Global;
use super::failure::Failure;
use super::printer::Printer;
use super::secrets::{Comparison, Keyring};
use super::token_source::Variables;
use super::{locate, providers, secrets, variables};
use crate::control::client::{ControlPlaneUrl, HttpControlPlane, HttpParts, Waits};
use crate::control::{Administration, ControlPlane, KeyNeed};
use crate::convex::deployment::Connections;
use crate::host::{Acting, EMBEDDED, Host, HostParts, LocalBinaries, Machine};
use crate::manifest::Problem;
use crate::model::{Desired, Exit, Finding, ProjectName, Secret, Storage, Tls};
use crate::provider::docker::Docker;

/// Where the way to the control plane is safe without TLS.
const PLAIN_HTTP: &str = "CONVEXINFRA_ALLOW_PLAIN_HTTP";

/// What every command starts from.
pub(crate) struct Context {
    /// What was asked for on every command line.
    pub(crate) global: Global,
    /// The only writer.
    pub(crate) printer: Printer,
    /// Shared with the parts of a command, so that a token is asked for once.
    plane: Rc<OnceCell<Plane>>,
}

/// The control plane that answers.
enum Plane {
    Embedded(Acting),
    Remote(Box<HttpControlPlane>),
}

/// A manifest that was read and has no mistakes.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// Its path.
    pub(crate) path: PathBuf,
    /// The folder that its paths are relative to.
    pub(crate) folder: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// What it says. Secrets are not resolved yet.
    pub(crate) desired: Desired,
    /// What is worth a look in it.
    pub(crate) warnings: Vec<Problem>,
}

impl Loaded {
    /// The same with its secrets as fingerprints, as far as there is a key for that.
    pub(crate) async fn with_fingerprints(
        &self,
        control: &dyn ControlPlane,
        values: &secrets::Values,
    ) -> Result<Self, Failure> {
        let mut keyed = self.clone();
        if !values.is_empty() {
            let keys = Keyring::ask(control, &keyed.desired.project, KeyNeed::IfThere, Comparison::Whole).await?;
            values.describe(&mut keyed.desired, &keys);
        }
        Ok(keyed)
    }
}

impl Context {
    /// A context for these arguments.
    pub(crate) fn new(global: Global, printer: Printer) -> Self {
        Self { global, printer, plane: Rc::default() }
    }

    /// The same context for a part of a command whose documents nobody asked for.
    pub(crate) fn without_documents(&self) -> Self {
        Self { global: self.global.clone(), printer: self.printer.without_documents(), plane: Rc::clone(&self.plane) }
    }

    /// The path of the manifest.
    pub(crate) fn manifest_path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.global.manifest {
            // A folder means the manifest in it.
            return Ok(if path.is_dir() { path.join(locate::MANIFEST) } else { path.clone() });
        }
        let here = std::env::current_dir().map_err(|error| {
            Failure::new(Exit::Failed, Finding::new("usage.no_folder", format!("the current folder cannot be read: {error}")))
        })?;
        let found = locate::manifest(&here).map(|path| match path.strip_prefix(&here) {
            // What lies right here is named as people name it.
            Ok(name) => name.to_owned(),
            Err(_) => path,
        });
        found.ok_or_else(|| {
            let message = format!("no `{}` here or in any folder above", locate::MANIFEST);
            Failure::new(
                Exit::Manifest,
                Finding::new("manifest.not_found", message).with_help("write one with\n    convexinfra init"),
            )
        })
    }

    /// Reads the manifest.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let path = self.manifest_path()?;
        let text = read_manifest(&path)?;
        self.parse(path, text)
    }

    /// Takes a text for the manifest at this path.
    pub(crate) fn parse(&self, path: PathBuf, text: String) -> Result<Loaded, Failure> {
        let mut parsed = crate::manifest::parse(&text, self.global.project.as_ref()).map_err(|problems| Failure::Manifest {
            problems,
            text: text.clone(),
            file: path.display().to_string(),
        })?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        parsed.desired.origin = locate::origin(&folder);
        resolve_paths(&mut parsed.desired, &folder);
        Ok(Loaded { path, folder, text, desired: parsed.desired, warnings: parsed.warnings })
    }

    /// Reads the manifest and looks its secrets up.
    pub(crate) async fn load_with_secrets(
        &self,
        need: KeyNeed,
        comparison: Comparison,
    ) -> Result<(Loaded, secrets::Values), Failure> {
        self.with_secrets(self.load()?, need, comparison).await
    }

    /// Looks the secrets of a manifest up.
    pub(crate) async fn with_secrets(
        &self,
        mut loaded: Loaded,
        need: KeyNeed,
        comparison: Comparison,
    ) -> Result<(Loaded, secrets::Values), Failure> {
        let values = secrets::read(&loaded.desired, &loaded.folder);
        if !values.is_empty() {
            let control = self.control(Some(&loaded.desired))?;
            let keys = Keyring::ask(control, &loaded.desired.project, need, comparison).await?;
            values.describe(&mut loaded.desired, &keys);
        }
        Ok((loaded, values))
    }

    /// The project that a command is about: named, or the manifest's.
    pub(crate) fn project(&self) -> Result<(ProjectName, Option<Loaded>), Failure> {
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
    pub(crate) fn load_or_empty(&self) -> Result<Loaded, Failure> {
        let (project, loaded) = self.project()?;
        loaded.map_or_else(|| self.parse(locate::MANIFEST.into(), format!("project = \"{project}\"\n")), Ok)
    }

    /// The manifest, if there is one: for what is not about a project, it only names the control plane.
    pub(crate) fn load_if_there(&self) -> Result<Option<Loaded>, Failure> {
        match self.manifest_path() {
            Err(_) if self.global.manifest.is_none() => Ok(None),
            _ => self.load().map(Some),
        }
    }

    /// The control plane that was named, or that a manifest names.
    pub(crate) fn control(&self, desired: Option<&Desired>) -> Result<&dyn ControlPlane, Failure> {
        Ok(match self.plane(desired)? {
            Plane::Embedded(acting) => acting,
            Plane::Remote(client) => client.as_ref(),
        })
    }

    /// The same control plane, for what only its operator may do.
    pub(crate) fn administration(&self, desired: Option<&Desired>) -> Result<&dyn Administration, Failure> {
        Ok(match self.plane(desired)? {
            Plane::Embedded(acting) => acting,
            Plane::Remote(client) => client.as_ref(),
        })
    }

    fn plane(&self, desired: Option<&Desired>) -> Result<&Plane, Failure> {
        if self.plane.get().is_none() {
            let plane = match self.address(desired)? {
                None => Plane::Embedded(Arc::new(self.make_host(EMBEDDED, LocalBinaries::Any)?).embedded()),
                Some(url) => Plane::Remote(Box::new(self.client(url)?)),
            };
            let _ = self.plane.set(plane);
        }
        self.plane
            .get()
            .ok_or_else(|| Failure::new(Exit::Bug, Finding::new("bug", "no control plane; this is a bug in convexinfra")))
    }

    /// Where the control plane is; none for the embedded one. What was typed wins over what a manifest says.
    fn address(&self, desired: Option<&Desired>) -> Result<Option<ControlPlaneUrl>, Failure> {
        let named = self.global.control_plane.as_deref().map(str::trim).filter(|named| !named.is_empty());
        let text = match named {
            Some(EMBEDDED) => return Ok(None),
            Some(text) => Some(text),
            None => desired.and_then(|desired| desired.control_plane.as_deref()),
        };
        let Some(text) = text else { return Ok(None) };
        let usage = |code: &str, message: String| Failure::new(Exit::Usage, Finding::new(code, message));
        let url = ControlPlaneUrl::parse(text).map_err(|error| usage("usage.control_plane", error.to_string()))?;
        if url.is_readable_on_the_way() && !variables::is_on(PLAIN_HTTP) {
            let message = format!("the token would go to `{url}` in clear, where anybody on the way can read it");
            let finding = Finding::new("control.plain_http", message).with_help(format!(
                "use `https`, or set `{PLAIN_HTTP}=1` where the way itself is safe, such as inside a tunnel"
            ));
            return Err(Failure::new(Exit::Usage, finding));
        }
        Ok(Some(url))
    }

    fn client(&self, url: ControlPlaneUrl) -> Result<HttpControlPlane, Failure> {
        let path = self.global.control_plane_ca.as_ref().filter(|path| !path.as_os_str().is_empty());
        let certificates = path.map(fs::read).transpose().map_err(|error| {
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            let message = format!("the certificates in `{path}` cannot be read: {error}");
            Failure::new(Exit::Usage, Finding::new("usage.certificates", message))
        })?;
        let token = Box::new(Variables::new(&url));
        let printer = self.printer.clone();
        let waiting = Box::new(move |message: String| printer.talk(&format!("{message}\n")));
        Ok(HttpControlPlane::new(HttpParts { url, token, certificates, waits: Waits::default(), waiting })?)
    }

    /// The directory of the embedded control plane.
    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        let home = self.global.home.clone().filter(|path| !path.as_os_str().is_empty()).or_else(locate::default_home);
        let home = home.ok_or_else(|| {
            let finding = Finding::new("home.unknown", "there is no home directory, so the control plane has no place");
            Failure::new(Exit::Failed, finding.with_help("name one with `CONVEXINFRA_HOME`"))
        })?;
        std::path::absolute(&home).map(|home| one_spelling(&home)).map_err(|error| {
            Failure::new(Exit::Failed, Finding::new("home.unknown", format!("`{}` is not a path: {error}", home.display())))
        })
    }

    /// The control plane in this process, for what only it can do.
    pub(crate) fn embedded(&self, desired: &Desired) -> Result<&Acting, Failure> {
        match self.plane(Some(desired))? {
            Plane::Embedded(acting) => Ok(acting),
            Plane::Remote(_) => {
                let message = "this is done where the control plane is, and not from afar";
                let help = "run it on the control plane's machine with `--control-plane embedded`, while no server runs there";
                Err(Failure::new(Exit::Refused, Finding::new("control.not_here", message).with_help(help)))
            }
        }
    }

    /// The Docker engine, for what no control plane does.
    pub(crate) fn docker(&self) -> Result<Docker, Failure> {
        Ok(providers::docker(&self.home()?))
    }

    /// A host in the home that was asked for, under the name that plans give to it.
    pub(crate) fn make_host(&self, name: &str, local_binaries: LocalBinaries) -> Result<Host, Failure> {
        let directory = self.home()?;
        let executable = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::Failed, Finding::new("host.executable", format!("this program cannot find itself: {error}")))
        })?;
        let providers = providers::available(&directory, executable);
        let master_key = std::env::var("CONVEXINFRA_MASTER_KEY").ok().filter(|key| !key.is_empty()).map(Secret::new);
        let first_port = first_port()?;
        let (name, connections) = (name.to_owned(), Connections::default());
        let platform = Box::new(Machine::new(directory, master_key, first_port));
        Ok(Host::new(HostParts { platform, name, providers, connections, local_binaries }))
    }
}

/// The same path whatever links and `..` it was named by: backends are started with paths in it, and another spelling
/// would look like drift. What does not exist yet is taken as it is.
fn one_spelling(path: &Path) -> PathBuf {
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
fn first_port() -> Result<Option<u16>, Failure> {
    const VARIABLE: &str = "CONVEXINFRA_FIRST_PORT";
    const ALLOWED: std::ops::RangeInclusive<u16> = 1024..=29_000;
    match std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().ok().filter(|port| ALLOWED.contains(port)).map(Some).ok_or_else(|| {
            let message =
                format!("`{VARIABLE}` is `{text}`, and it should be a port from {} to {}", ALLOWED.start(), ALLOWED.end());
            Failure::new(Exit::Usage, Finding::new("usage.first_port", message))
        }),
    }
}

/// How large a manifest may be: 100 times the largest that anybody would write.
const LARGEST_MANIFEST: u64 = 64 << 20;

fn read_manifest(path: &Path) -> Result<String, Failure> {
    let failed = |code: &str, message: String| Failure::new(Exit::Manifest, Finding::new(code, message));
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let finding = Finding::new("manifest.not_found", format!("there is no manifest `{shown}`"));
            Failure::new(Exit::Manifest, finding.with_help(format!("write one with\n    convexinfra init --manifest {shown}")))
        }
        _ => failed("manifest.unreadable", format!("`{shown}` cannot be read: {error}")),
    })?;
    if !metadata.is_file() {
        return Err(failed("manifest.unreadable", format!("`{shown}` is not a file")));
    }
    if metadata.len() > LARGEST_MANIFEST {
        return Err(failed("manifest.too_large", format!("`{shown}` has {} bytes, more than any manifest", metadata.len())));
    }
    let bytes = fs::read(path).map_err(|error| failed("manifest.unreadable", format!("`{shown}` cannot be read: {error}")))?;
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
        if let Storage::Postgres(server) | Storage::Mysql(server) = &mut backend.spec.storage
            && let Tls::Ca(path) = &mut server.tls
        {
            absolute(path);
        }
    }
}
