//! Provisions one backend: its block in the manifest and the backend itself, in one step.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::discovery::join_display;
use super::secrets::ComparisonMode;
use super::{AppError, ApplyOptions, ApplyOutcome, ApplyRun, Approver, LoadedManifest, ManifestFile, Reporter, Role, Session};
use crate::api::{ControlPlane, Credentials, IfMissing};
use crate::apply::ReadyBackend;
use crate::env_file::StagedFile;
use crate::manifest::{FieldLiteral, add_backend, add_field};
use crate::model::{ActualBackend, BackendName, Desired, DesiredBackend, Diagnostic, Exit, Phase, Report, RunState, TimeSpan};
use crate::plan::{BackendSelection, PlanOptions};
use crate::render::StatusEntry;
use crate::system::read_regular_text;

/// The code of a manifest that something else wrote between its reading and its replacement.
const MANIFEST_CHANGED: &str = "manifest.changed";
/// How often a manifest that changes is read again: so many commands may come between.
const RELOADS_MAX: u32 = 20;

/// The fields of a backend that is to be provisioned. Those of a backend that the manifest declares must agree with it.
#[derive(Debug, Clone)]
pub(crate) struct ProvisionRequest {
    /// The name of the backend.
    pub(crate) name: BackendName,
    /// Where it runs.
    pub(crate) provider: Option<String>,
    /// The region.
    pub(crate) region: Option<String>,
    /// The build.
    pub(crate) release: Option<String>,
    /// How long it lives.
    pub(crate) ttl: Option<String>,
    /// Its env file.
    pub(crate) env_file: Option<String>,
    /// The executable that it runs, for the provider `local`.
    pub(crate) binary: Option<String>,
    /// How long to wait for the lease that another apply holds.
    pub(crate) wait_for_lock: Option<std::time::Duration>,
}

/// A backend that was provisioned.
pub(crate) struct Provisioned {
    /// What it has come to.
    pub(crate) state: ProvisionState,
    /// Where it is, and its key; none for one that is only recorded.
    pub(crate) credentials: Option<Credentials>,
    /// Where it is ready, and whether its URL leads there; none for one that is not ready.
    pub(crate) ready: Option<ReadyBackend>,
    /// The path of the env file that points to it, as it is shown.
    pub(crate) env_file: Option<PathBuf>,
    /// What deserves attention in its plan.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Adds a backend to the manifest if it is not declared, and applies it with everything that it depends on. A manifest that another
/// command has changed meanwhile is read again: nothing was done by then.
///
/// # Errors
/// What stood in the way.
pub(crate) async fn provision(
    control: &dyn ControlPlane,
    before: &LoadedManifest,
    request: &ProvisionRequest,
    shell: (&dyn Reporter, &dyn Approver),
) -> Result<Provisioned, AppError> {
    let started = Instant::now();
    let mut before = before.clone();
    for _ in 0..RELOADS_MAX {
        let left = request.wait_for_lock.map(|wait| wait.saturating_sub(started.elapsed()));
        let request = ProvisionRequest { wait_for_lock: left, ..request.clone() };
        match provision_once(control, &before, &request, shell).await {
            Err(error) if error.report().errors.iter().any(|error| error.code == MANIFEST_CHANGED) => {
                before = before.reload()?
            }
            done => return done,
        }
    }
    provision_once(control, &before, request, shell).await
}

async fn provision_once(
    control: &dyn ControlPlane,
    before: &LoadedManifest,
    request: &ProvisionRequest,
    shell: (&dyn Reporter, &dyn Approver),
) -> Result<Provisioned, AppError> {
    let manifest = match before.desired.backends.get(&request.name) {
        Some(declared) => {
            check_flags_match(request, declared)?;
            before.clone()
        }
        None => {
            if let Some((path, owner)) = taken_env_file(&before.desired, request.env_file.as_deref()) {
                let message = format!("`{path}` is written for `{owner}`, and one file can name one backend; nothing was done");
                let diagnostic = Diagnostic::new("provision.env_file_taken", message)
                    .with_help("name another file with `--env-file`, or none");
                return Err(AppError::new(Exit::Refused, diagnostic));
            }
            before.with_text(with_backend(before, request)?)?
        }
    };
    // A backend is of use only with what it depends on.
    let selection = BackendSelection::Only(with_dependencies(&manifest.desired, &request.name));
    // Asked for by name, it is meant.
    let options = PlanOptions { selection, renew: true, ..PlanOptions::default() };
    let mut session = Session::open(control, manifest, IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    let text = session.manifest.text.clone();
    let allowed = ApplyOptions { wait_for_lock: request.wait_for_lock, ..ApplyOptions::approved(BTreeSet::new()) };
    let outcome = apply_one(&mut session, &options, allowed, shell, &|| write_manifest(before, &text)).await?;
    provisioned(control, &session.manifest, request, &outcome).await
}

pub(super) async fn apply_one(
    session: &mut Session<'_>,
    options: &PlanOptions,
    allowed: ApplyOptions,
    (reporter, approver): (&dyn Reporter, &dyn Approver),
    hook: &(dyn Fn() -> Result<(), AppError> + Sync),
) -> Result<ApplyOutcome, AppError> {
    let mut run = ApplyRun { reporter, approver, options: allowed, saved: None, role: Role::Part(hook) };
    run.run(session, options).await?.into_result()
}

async fn provisioned(
    control: &dyn ControlPlane,
    manifest: &LoadedManifest,
    request: &ProvisionRequest,
    outcome: &ApplyOutcome,
) -> Result<Provisioned, AppError> {
    let name = &request.name;
    let backend = manifest.desired.backends.get(name);
    let about = |lint: &&Diagnostic| lint.address.as_ref().is_none_or(|address| address.backend == *name);
    let lints = outcome.plan.lints.iter().filter(about);
    let warnings = lints.map(|lint| Diagnostic::new(lint.code.clone(), &lint.message)).collect();
    if backend.is_some_and(|backend| backend.spec.is_record_only()) {
        let state = ProvisionState::Recorded;
        return Ok(Provisioned { state, credentials: None, ready: None, env_file: None, warnings });
    }
    let actual = outcome.snapshot.as_ref().and_then(|seen| seen.backend(name));
    let state = provision_state(name, actual)?;
    let credentials = control.credentials(&manifest.desired.project, name, manifest.desired.origin_if_known()).await?;
    let target = backend.and_then(|backend| backend.env_files.first());
    let env_file = target.map(|target| join_display(&manifest.folder, &target.path));
    let ready = outcome.ready.iter().find(|ready| ready.name == *name).cloned();
    Ok(Provisioned { state, credentials: Some(credentials), ready, env_file, warnings })
}

/// What a backend has come to.
pub(crate) enum ProvisionState {
    /// It is only recorded: its manifest says that it is not to run.
    Recorded,
    /// It was observed to run.
    Ready,
    /// It runs, and the host that its clients are to use does not lead to it until these records are set.
    WaitingForHost(Vec<String>),
}

/// Returns what a backend was observed to have come to; a record proves nothing.
fn provision_state(name: &BackendName, seen: Option<&ActualBackend>) -> Result<ProvisionState, AppError> {
    if let Some(why) = seen.and_then(ActualBackend::observe_failure) {
        let message = format!("`{name}` could not be observed, so it is not known whether it is ready: {}", why.message);
        return Err(AppError::new(why.exit_unobserved(), Diagnostic { message, ..why }));
    }
    match seen.map(|seen| (seen.phase, seen.observation.state, seen)) {
        Some((Phase::Ready, RunState::Running, _)) => Ok(ProvisionState::Ready),
        Some((Phase::Ready, RunState::Unready, seen)) if !seen.observation.notes.is_empty() => {
            Ok(ProvisionState::WaitingForHost(seen.observation.notes.clone()))
        }
        _ => {
            let words = seen.map_or("absent", |seen| StatusEntry::new(seen).state_label());
            let finding = Diagnostic::new("provision.not_ready", format!("`{name}` is not ready: {words}"))
                .with_help(format!("wait until it is with\n    convexinfra wait {name}"));
            Err(AppError::new(Exit::Failed, finding))
        }
    }
}

/// Returns the text of the manifest with a block for the requested backend.
fn with_backend(loaded: &LoadedManifest, request: &ProvisionRequest) -> Result<String, AppError> {
    // What lies in the repository is found there in every clone.
    let folder = std::path::absolute(&loaded.folder).unwrap_or_else(|_| loaded.folder.clone());
    let binary = request.binary.as_ref().map(|path| {
        Path::new(path).strip_prefix(&folder).map_or_else(|_| path.clone(), |below| below.to_string_lossy().into_owned())
    });
    let given = [
        ("provider", &request.provider),
        ("release", &request.release),
        ("region", &request.region),
        ("ttl", &request.ttl),
        ("env_file", &request.env_file),
        ("local.binary", &binary),
    ];
    let mut fields = Vec::new();
    for (key, value) in given {
        fields.extend(value.as_ref().map(|value| (key.to_owned(), FieldLiteral::Text(value.clone()))));
    }
    with_block(loaded, &request.name, &fields)
}

/// Returns the text of the manifest with a block for one more backend.
///
/// # Errors
/// The manifest cannot be edited.
pub(crate) fn with_block(
    loaded: &LoadedManifest,
    name: &BackendName,
    fields: &[(String, FieldLiteral)],
) -> Result<String, AppError> {
    let mut text = loaded.text.clone();
    // The only backend has its env file without a word; with another one beside it, it would lose it.
    if let Some((first, backend)) = loaded.desired.backends.first_key_value()
        && let Some(target) = backend.env_files.first().filter(|_| loaded.desired.backends.len() == 1)
    {
        let field = FieldLiteral::Text(target.path.clone());
        text = add_field(&text, first.as_str(), "env_file", &field).map_err(|error| not_edited(error.to_string()))?;
    }
    add_backend(&text, name.as_str(), fields).map_err(|error| not_edited(error.to_string()))
}

/// Refuses flags that disagree with a declared backend: a flag does not change it, and is not ignored either.
fn check_flags_match(request: &ProvisionRequest, there: &DesiredBackend) -> Result<(), AppError> {
    let spec = &there.spec;
    let ttl = request.ttl.as_ref().map(|ttl| TimeSpan::parse(ttl).map_or_else(|_| ttl.clone(), |ttl| ttl.to_string()));
    let asked = [
        ("provider", request.provider.clone(), Some(spec.provider.to_string())),
        ("release", request.release.clone(), spec.release.as_ref().map(ToString::to_string)),
        ("region", request.region.clone(), spec.region.clone()),
        ("ttl", ttl, spec.ttl.map(|ttl| ttl.to_string())),
        ("env_file", request.env_file.clone(), there.env_files.first().map(|target| target.path.clone())),
        ("local.binary", request.binary.clone(), spec.settings.local.binary.clone()),
    ];
    let errors: Vec<Diagnostic> = asked
        .into_iter()
        .filter(|(_, asked, there)| asked.is_some() && asked != there)
        .map(|(key, asked, there)| {
            let there = there.map_or_else(|| "no such field".to_owned(), |there| format!("`{there}`"));
            let message = format!(
                "`{}` is in the manifest already, with {there} for `{key}` and not `{}`",
                request.name,
                asked.unwrap_or_default()
            );
            Diagnostic::new("provision.differs", message)
                .with_help("to change it, edit the manifest and run\n    convexinfra apply")
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(AppError::from(Report { exit: Exit::Refused, errors })) }
}

/// Returns an env file that was asked for and the backend that has it.
fn taken_env_file<'a>(desired: &'a Desired, path: Option<&'a str>) -> Option<(&'a str, &'a BackendName)> {
    let plain = |path: &'a str| path.trim_start_matches("./");
    let path = plain(path?);
    let names_it =
        |backend: &DesiredBackend| backend.env_files.iter().any(|target| target.path.trim_start_matches("./") == path);
    desired.backends.iter().find(|(_, backend)| names_it(backend)).map(|(name, _)| (path, name))
}

/// Returns the backend and everything that it depends on, directly or not.
fn with_dependencies(desired: &Desired, name: &BackendName) -> BTreeSet<BackendName> {
    let mut found = BTreeSet::new();
    let mut pending = vec![name.clone()];
    while let Some(name) = pending.pop() {
        if let Some(backend) = desired.backends.get(&name)
            && found.insert(name)
        {
            pending.extend(backend.spec.depends_on.iter().cloned());
        }
    }
    found
}

pub(super) fn not_edited(message: String) -> AppError {
    AppError::new(Exit::Manifest, Diagnostic::new("manifest.not_edited", message))
}

/// Replaces the manifest that was read, unless its file was changed meanwhile.
///
/// # Errors
/// The file cannot be written, or was changed meanwhile.
pub(crate) fn write_manifest(read: &LoadedManifest, text: &str) -> Result<(), AppError> {
    if read.text == text && read.file == ManifestFile::Written {
        return Ok(());
    }
    let (file, path) = stage_manifest(read, text)?;
    file.persist(&path).map_err(|error| cannot_write(read, &error))
}

/// Replaces a file by a text, whole or not at all, and keeps its mode.
///
/// # Errors
/// The file cannot be written.
pub(super) fn replace_file(path: &Path, text: &str) -> Result<(), AppError> {
    let cannot = |error: std::io::Error| not_edited(format!("`{}` could not be written: {error}", path.display()));
    let path = path.canonicalize().map_err(cannot)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = StagedFile::create(folder).map_err(cannot)?;
    let staged = file.as_file_mut();
    if let Ok(metadata) = fs::metadata(&path) {
        staged.set_permissions(metadata.permissions()).map_err(cannot)?;
    }
    staged.write_all(text.as_bytes()).and_then(|()| staged.sync_all()).map_err(cannot)?;
    file.persist(&path).map_err(cannot)
}

fn cannot_write(read: &LoadedManifest, error: &std::io::Error) -> AppError {
    not_edited(format!("`{}` could not be written: {error}", read.path.display()))
}

/// Writes a text beside the manifest that was read, so that a rename replaces it. Dropping the file deletes it.
pub(super) fn stage_manifest(read: &LoadedManifest, text: &str) -> Result<(StagedFile, PathBuf), AppError> {
    let cannot = |error: std::io::Error| cannot_write(read, &error);
    let changed = || {
        let message = format!("`{}` was changed meanwhile; run the same command again", read.path.display());
        AppError::new(Exit::Manifest, Diagnostic::new(MANIFEST_CHANGED, message))
    };
    let path = match read.file {
        ManifestFile::Written => read.path.canonicalize().map_err(cannot)?,
        ManifestFile::New if read.path.symlink_metadata().is_ok() => return Err(changed()),
        ManifestFile::New => std::path::absolute(&read.path).map_err(cannot)?,
    };
    let folder = path.parent().unwrap_or(&read.folder);
    let mut file = StagedFile::create(folder).map_err(cannot)?;
    let staged = file.as_file_mut();
    if let Ok(metadata) = fs::metadata(&path) {
        staged.set_permissions(metadata.permissions()).map_err(cannot)?;
    }
    staged.write_all(text.as_bytes()).and_then(|()| staged.sync_all()).map_err(cannot)?;
    if read.file == ManifestFile::Written
        && read_regular_text(&path, u64::MAX)
            .map_err(|error| not_edited(format!("`{}` cannot be read: {error}", path.display())))?
            != read.text
    {
        return Err(changed());
    }
    Ok((file, path))
}
