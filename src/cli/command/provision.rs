//! `convexinfra provision` and `deprovision`: one backend in one step, for programs.
//!
//! Must not do: rewrite more of the manifest than the one block, or print a key that nobody asked for.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::apply::{ApplyOutcome, ApplyRun, PreApplyHook};
use crate::api::IfMissing;
use crate::cli::args::{ApprovalArgs, Deprovision as DeprovisionArgs, Provision as ProvisionArgs};
use crate::cli::context::{Context, LoadedManifest};
use crate::cli::discovery::join_display;
use crate::cli::error::CliError;
use crate::cli::secrets::ComparisonMode;
use crate::manifest::{FieldLiteral, add_backend, add_field, remove_backend};
use crate::model::{ActualBackend, BackendName, Desired, DesiredBackend, Diagnostic, Exit, Phase, Report, RunState, TimeSpan};
use crate::plan::{BackendSelection, Lint, PlanOptions};
use crate::render::StatusEntry;

/// Adds the backend to the manifest if it is not there, brings it about, and prints where it is.
pub(super) async fn provision(context: &Context, args: &ProvisionArgs) -> Result<Exit, CliError> {
    let before = context.load()?;
    let wanted = match before.desired.backends.get(&args.name) {
        Some(there) => {
            check_flags_match(args, there)?;
            before.clone()
        }
        None => {
            let with = parse_edited(context, &before, with_backend(&before, args)?)?;
            if let Some((path, owner)) = shared_env_file(&with.desired, &args.name) {
                let message = format!("`{path}` is written for `{owner}`, and one file can name one backend; nothing was done");
                let finding = Diagnostic::new("provision.env_file_taken", message)
                    .with_help("name another file with `--env-file`, or none");
                return Err(CliError::new(Exit::Refused, finding));
            }
            with
        }
    };
    // A backend is of use only when what it depends on is there.
    let scope = BackendSelection::Only(with_dependencies(&wanted.desired, &args.name));
    let intent = PlanOptions { selection: scope, ..PlanOptions::default() };
    let ended = apply_one(context, &wanted, &intent, Vec::new(), &|| write_manifest(&before, &wanted.text)).await?;
    let seen = ended.snapshot.as_ref().and_then(|seen| seen.backends.iter().find(|backend| backend.name == args.name));
    report(context, &wanted, args, seen, &ended.lints).await?;
    Ok(Exit::Done)
}

/// Takes the backend away with its data, and out of the manifest.
pub(super) async fn deprovision(context: &Context, args: &DeprovisionArgs) -> Result<Exit, CliError> {
    let loaded = context.load()?;
    let depends = |backend: &DesiredBackend| backend.spec.depends_on.contains(&args.name);
    let dependents: Vec<String> =
        loaded.desired.backends.iter().filter(|(_, backend)| depends(backend)).map(|(name, _)| format!("`{name}`")).collect();
    if !dependents.is_empty() {
        let message = format!("`{}` cannot go while {} depends on it", args.name, dependents.join(" and "));
        let finding = Diagnostic::new("deprovision.depended_on", message)
            .with_help("deprovision what depends on it first, or take it out of `depends_on` in the manifest");
        return Err(CliError::new(Exit::Refused, finding));
    }
    let edited = without_backend(context, &loaded, &args.name)?;
    let intent = PlanOptions {
        selection: BackendSelection::Only(BTreeSet::from([args.name.clone()])),
        destroy: true,
        volume_reclaim: super::destroy::volume_disposal(args.keep_data),
        database_reclaim: super::destroy::database_disposal(args.with_database),
        take_over: false,
    };
    // A block that stays would have the next apply make the backend anew, and empty.
    let can_be_written = || edited.as_ref().map_or(Ok(()), |edited| stage_manifest(&loaded, &edited.text).map(drop));
    let ended = apply_one(context, &loaded, &intent, args.allow_destroy.clone(), &can_be_written).await?;
    // Whoever edited it meanwhile keeps their edit.
    let now = context.load().and_then(|now| Ok((without_backend(context, &now, &args.name)?, now)));
    now.and_then(|(edited, now)| edited.map_or(Ok(()), |edited| write_manifest(&now, &edited.text)))
        .map_err(|failure| block_remains(&args.name, &failure))?;
    context.printer.output(&format!("`{}` is gone\n", args.name));
    let mut document = serde_json::json!({ "name": args.name, "state": "absent" });
    if !ended.notices.is_empty() {
        // What was kept is named nowhere else: its record is gone.
        document["notices"] = ended.notices.into();
    }
    context.printer.json("convexinfra.deprovision/1", document);
    Ok(Exit::Done)
}

/// The text of the manifest with the backend that was asked for.
fn with_backend(loaded: &LoadedManifest, args: &ProvisionArgs) -> Result<String, CliError> {
    let given = [
        ("provider", &args.provider),
        ("release", &args.release),
        ("region", &args.region),
        ("ttl", &args.ttl),
        ("env_file", &args.env_file),
    ];
    let mut fields = Vec::new();
    for (key, value) in given {
        fields.extend(value.as_ref().map(|value| (key.to_owned(), FieldLiteral::Text(value.clone()))));
    }
    let mut text = loaded.text.clone();
    // The only backend has its env file without a word; with another one beside it, it would lose it.
    if let Some((name, backend)) = loaded.desired.backends.first_key_value()
        && let Some(target) = backend.env_file.as_ref().filter(|_| loaded.desired.backends.len() == 1)
    {
        let field = FieldLiteral::Text(target.path.clone());
        text = add_field(&text, name.as_str(), "env_file", &field).map_err(|error| not_edited(error.to_string()))?;
    }
    add_backend(&text, args.name.as_str(), &fields).map_err(|error| not_edited(error.to_string()))
}

/// The manifest without the backend; none where it is not in there.
fn without_backend(context: &Context, loaded: &LoadedManifest, name: &BackendName) -> Result<Option<LoadedManifest>, CliError> {
    if !loaded.desired.backends.contains_key(name) {
        return Ok(None);
    }
    let text = remove_backend(&loaded.text, name.as_str()).map_err(|error| not_edited(error.to_string()))?;
    parse_edited(context, loaded, text).map(Some)
}

/// Says first that the backend is gone all the same.
fn block_remains(name: &BackendName, failure: &CliError) -> CliError {
    let message = format!("`{name}` is gone, and its block is still in the manifest, from which the next apply makes it anew");
    let finding = Diagnostic::new("deprovision.block_left", message)
        .with_help("take it out by hand, or mend what is said below and run the same command again");
    let Report { exit, mut errors } = failure.report();
    errors.insert(0, finding);
    CliError::from(Report { exit, errors })
}

/// A backend that is there is not changed by a flag, and a flag is not passed over in silence.
fn check_flags_match(args: &ProvisionArgs, there: &DesiredBackend) -> Result<(), CliError> {
    let spec = &there.spec;
    let ttl = args.ttl.as_ref().map(|ttl| TimeSpan::parse(ttl).map_or_else(|_| ttl.clone(), |ttl| ttl.to_string()));
    let asked = [
        ("provider", args.provider.clone(), Some(spec.provider.to_string())),
        ("release", args.release.clone(), spec.release.as_ref().map(ToString::to_string)),
        ("region", args.region.clone(), spec.region.clone()),
        ("ttl", ttl, spec.ttl.map(|ttl| ttl.to_string())),
        ("env_file", args.env_file.clone(), there.env_file.as_ref().map(|target| target.path.clone())),
    ];
    let errors: Vec<Diagnostic> = asked
        .into_iter()
        .filter(|(_, asked, there)| asked.is_some() && asked != there)
        .map(|(key, asked, there)| {
            let there = there.map_or_else(|| "no such field".to_owned(), |there| format!("`{there}`"));
            let message = format!(
                "`{}` is in the manifest already, with {there} for `{key}` and not `{}`",
                args.name,
                asked.unwrap_or_default()
            );
            Diagnostic::new("provision.differs", message)
                .with_help("to change it, edit the manifest and run\n    convexinfra apply")
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(CliError::from(Report { exit: Exit::Refused, errors })) }
}

/// The env file of a backend, and which other one names it too.
fn shared_env_file<'a>(desired: &'a Desired, name: &BackendName) -> Option<(&'a str, &'a BackendName)> {
    let path = |backend: &'a DesiredBackend| backend.env_file.as_ref().map(|target| target.path.trim_start_matches("./"));
    let own = path(desired.backends.get(name)?)?;
    desired.backends.iter().find(|(other, backend)| *other != name && path(backend) == Some(own)).map(|(other, _)| (own, other))
}

/// The backend and everything that it depends on, however far away.
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

/// Checks a text before it becomes the manifest.
fn parse_edited(context: &Context, loaded: &LoadedManifest, text: String) -> Result<LoadedManifest, CliError> {
    context.parse(loaded.path.clone(), text).map_err(|failure| match failure {
        CliError::Manifest { problems, text, file } => {
            CliError::Manifest { problems, text, file: format!("{file} (as it would be)") }
        }
        other @ CliError::Report(_) => other,
    })
}

fn not_edited(message: String) -> CliError {
    CliError::new(Exit::Manifest, Diagnostic::new("manifest.not_edited", message))
}

/// Puts a text in the place of the manifest that was read, unless somebody else changed it meanwhile.
fn write_manifest(read: &LoadedManifest, text: &str) -> Result<(), CliError> {
    if read.text == text {
        return Ok(());
    }
    let (file, path) = stage_manifest(read, text)?;
    file.persist(&path).map(drop).map_err(|error| cannot_write(read, &error.error))
}

fn cannot_write(read: &LoadedManifest, error: &std::io::Error) -> CliError {
    not_edited(format!("`{}` could not be written: {error}", read.path.display()))
}

/// Writes a text beside the manifest that was read, so that a rename puts it in its place. Dropped, it is gone.
fn stage_manifest(read: &LoadedManifest, text: &str) -> Result<(NamedTempFile, PathBuf), CliError> {
    let cannot = |error: std::io::Error| cannot_write(read, &error);
    let path = read.path.canonicalize().map_err(cannot)?;
    let folder = path.parent().unwrap_or(&read.folder);
    let mut file = tempfile::Builder::new().prefix(".convex.toml.").tempfile_in(folder).map_err(cannot)?;
    if let Ok(metadata) = fs::metadata(&path) {
        fs::set_permissions(file.path(), metadata.permissions()).map_err(cannot)?;
    }
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    if fs::read_to_string(&path).map_err(cannot)? != read.text {
        return Err(not_edited(format!(
            "`{}` was changed by somebody else meanwhile; run the same command again",
            path.display()
        )));
    }
    Ok((file, path))
}

async fn apply_one(
    context: &Context,
    loaded: &LoadedManifest,
    intent: &PlanOptions,
    allow_destroy: Vec<BackendName>,
    before: &dyn Fn() -> Result<(), CliError>,
) -> Result<ApplyOutcome, CliError> {
    // The one document of this command is its result; the events of the apply are talk.
    let quiet = context.without_documents();
    let (loaded, values) = quiet.with_secrets(loaded.clone(), IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    let consent = ApprovalArgs { yes: true, allow_destroy, parallelism: 64 };
    let part = Some(PreApplyHook { before });
    ApplyRun { context: &quiet, loaded: &loaded, values: &values, consent: &consent, saved: None, part }
        .run(intent)
        .await?
        .into_result()
}

/// What a backend has come to.
enum ProvisionState {
    /// It was seen to run.
    Ready,
    /// It runs, and the host that its clients are to use does not lead to it until these records are set.
    WaitingForHost(Vec<String>),
}

/// What a backend was seen to have come to; a record of it proves nothing.
fn provision_state(name: &BackendName, seen: Option<&ActualBackend>) -> Result<ProvisionState, CliError> {
    if let Some(why) = seen.and_then(ActualBackend::observe_failure) {
        let message = format!("nothing is known of `{name}`, so nobody can say that it is ready: {}", why.message);
        return Err(CliError::new(why.exit_unobserved(), Diagnostic { message, ..why }));
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
            Err(CliError::new(Exit::Failed, finding))
        }
    }
}

async fn report(
    context: &Context,
    loaded: &LoadedManifest,
    args: &ProvisionArgs,
    seen: Option<&ActualBackend>,
    lints: &[Lint],
) -> Result<(), CliError> {
    let mut document = serde_json::json!({ "name": args.name });
    let mut text = String::new();
    let backend = loaded.desired.backends.get(&args.name);
    if backend.is_some_and(|backend| backend.spec.is_record_only()) {
        document["state"] = "recorded".into();
        text.push_str(&format!("`{}` is recorded\n", args.name));
    } else {
        let reached = provision_state(&args.name, seen)?;
        let control = context.control(Some(&loaded.desired))?;
        let credentials = control.credentials(&loaded.desired.project, &args.name).await?;
        match reached {
            ProvisionState::Ready => {
                document["state"] = "ready".into();
                text.push_str(&format!("`{}` is ready at {}\n", args.name, credentials.url));
            }
            ProvisionState::WaitingForHost(notes) => {
                text.push_str(&format!("`{}` runs and waits for its host, {}\n", args.name, credentials.url));
                text.extend(notes.iter().map(|note| format!("{note}\n")));
                document["state"] = "waiting_for_host".into();
                document["dns"] = notes.into();
            }
        }
        document["url"] = credentials.url.into();
        document["site_url"] = credentials.site_url.into();
        // A file that another backend names too says where that one is.
        let is_own = shared_env_file(&loaded.desired, &args.name).is_none();
        let env_file = backend.and_then(|backend| backend.env_file.as_ref()).filter(|_| is_own);
        if let Some(target) = env_file {
            text.push_str(&format!("`{}` points to `{}`\n", join_display(&loaded.folder, &target.path).display(), args.name));
        } else {
            let help = format!("no env file points to `{0}`; write one with\n    convexinfra env {0} --write PATH", args.name);
            text.push_str(&format!("{help}\n"));
            document["help"] = help.into();
        }
        // Programs may run somewhere else.
        let env_file = env_file.map(|target| loaded.folder.join(&target.path));
        let env_file = env_file.map(|path| std::path::absolute(&path).unwrap_or(path));
        document["env_file"] = env_file.map(|path| path.display().to_string()).into();
        if args.show_key {
            document["admin_key"] = credentials.admin_key.expose().into();
            text.push_str(&format!("{}\n", credentials.admin_key.expose()));
        }
    }
    let about = |lint: &&Lint| lint.address.as_ref().is_some_and(|address| address.backend == args.name);
    let warnings: Vec<_> = lints.iter().filter(about).map(|lint| Diagnostic::new(lint.code.clone(), &lint.message)).collect();
    if !warnings.is_empty() {
        document["warnings"] = serde_json::json!(warnings);
    }
    context.printer.output(&text);
    context.printer.json("convexinfra.provision/1", document);
    Ok(())
}
