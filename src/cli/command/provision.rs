//! `convexinfra provision` and `deprovision`: one backend in one step, for programs.
//!
//! Must not do: print a key that was not asked for.

use std::path::Path;

use crate::app::AppError;
use crate::app::deprovision::{DeprovisionRequest, Deprovisioned, deprovision as remove};
use crate::app::provision::{self, ProvisionRequest, ProvisionState, Provisioned};
use crate::apply::ReadyBackend;
use crate::cli::args::{DEFAULT_PROVIDER, Deprovision as DeprovisionArgs, Provision as ProvisionArgs};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{Diagnostic, Exit};
use crate::render::{DeprovisionDocument, ProvisionDocument, ProvisionedState};

/// Adds the backend to the manifest if it is not declared, applies it and prints where it is.
pub(super) async fn provision(context: &Context, args: &ProvisionArgs) -> Result<Exit, AppError> {
    let manifest = match context.load_if_written()? {
        Some(manifest) => manifest,
        None => super::init::empty_manifest(context).await?,
    };
    let control = context.control(Some(&manifest.desired))?;
    // The one document of this command is its result; the events of the apply are status.
    let terminal = Terminal::new(&context.printer.without_documents());
    let binary = args.binary.as_deref().map(absolute).transpose()?;
    let declared = manifest.desired.backends.contains_key(&args.name);
    let is_first = manifest.desired.backends.is_empty();
    let provider = args.provider.clone().or_else(|| {
        // An executable is run on this machine, and so is the backend of a new manifest.
        (!declared && (binary.is_some() || is_first)).then(|| DEFAULT_PROVIDER.to_owned())
    });
    let pinned =
        || provider.as_deref().filter(|_| !declared && is_first && binary.is_none()).and_then(super::init::pinned_release);
    let release = args.release.clone().or_else(|| pinned().map(str::to_owned));
    let request = ProvisionRequest {
        name: args.name.clone(),
        provider,
        region: args.region.clone(),
        release,
        binary,
        ttl: args.ttl.clone(),
        env_file: args.env_file.clone(),
        wait_for_lock: args.lock.duration(),
    };
    let provisioned = provision::provision(control, &manifest, &request, (&terminal, &terminal)).await?;
    report(context, args, provisioned);
    Ok(Exit::Done)
}

/// Returns a path that means the same from every folder.
fn absolute(path: &Path) -> Result<String, AppError> {
    let failed = |why: String| {
        let message = format!("`{}` names no executable: {why}", path.display());
        AppError::new(Exit::Usage, Diagnostic::new("usage.binary", message))
    };
    let absolute = std::path::absolute(path).map_err(|error| failed(error.to_string()))?;
    absolute.into_os_string().into_string().map_err(|_| failed("it is not UTF-8 text".to_owned()))
}

/// Destroys the backend with its data, and removes it from the manifest.
pub(super) async fn deprovision(context: &Context, args: &DeprovisionArgs) -> Result<Exit, AppError> {
    let manifest = context.load()?;
    context.make_room(Some(&manifest.desired))?;
    let control = context.control(Some(&manifest.desired))?;
    let terminal = Terminal::new(&context.printer.without_documents());
    let request = DeprovisionRequest {
        name: args.name.clone(),
        allow_destroy: args.allow_destroy.iter().cloned().collect(),
        volume: super::destroy::volume_reclaim(args.keep_data),
        database: super::destroy::database_reclaim(args.with_database, args.with_files),
        skip_final_snapshot: args.final_snapshot.no_last_snapshot,
    };
    let (notices, became) = match remove(control, &manifest, &request, (&terminal, &terminal)).await? {
        Deprovisioned::Destroyed(notices) => (notices, "is destroyed"),
        Deprovisioned::NotFound => (Vec::new(), "was not there: neither the manifest nor the control plane knows it"),
    };
    context.printer.output(&format!("`{}` {became}\n", args.name));
    // What was retained is named nowhere else: its record is gone.
    context.printer.document(&DeprovisionDocument {
        format: "convexinfra.deprovision/1",
        name: &args.name,
        state: "absent",
        notices,
    });
    Ok(Exit::Done)
}

fn report(context: &Context, args: &ProvisionArgs, provisioned: Provisioned) {
    let Provisioned { state, credentials, ready, env_file, warnings } = provisioned;
    let name = &args.name;
    let url = credentials.as_ref().map(|credentials| credentials.url.as_str());
    let at = url.unwrap_or_default();
    let mut text = String::new();
    let (state, dns) = match state {
        ProvisionState::Recorded => {
            text.push_str(&format!("`{name}` is recorded\n"));
            (ProvisionedState::Recorded, Vec::new())
        }
        ProvisionState::Ready => {
            let said = ready.as_ref().map_or_else(|| format!("`{name}` is ready at {at}"), ReadyBackend::sentence);
            text.push_str(&format!("{said}\n"));
            (ProvisionedState::Ready, Vec::new())
        }
        ProvisionState::WaitingForHost(notes) => {
            text.push_str(&format!("`{name}` runs and waits for its host, {at}\n"));
            text.extend(notes.iter().map(|note| format!("{note}\n")));
            (ProvisionedState::WaitingForHost, notes)
        }
    };
    let mut help = None;
    match &env_file {
        Some(path) => text.push_str(&format!("`{}` points to `{name}`\n", path.display())),
        None if credentials.is_some() => {
            let line = format!("no env file points to `{name}`; write one with\n    convexinfra env {name} --write PATH");
            text.push_str(&format!("{line}\n"));
            help = Some(line);
        }
        None => {}
    }
    let admin_key = credentials.as_ref().filter(|_| args.show_key).map(|credentials| credentials.admin_key.expose());
    if let Some(key) = admin_key {
        context.printer.mask(key);
        text.push_str(&format!("{key}\n"));
    }
    context.printer.output(&text);
    context.printer.document(&ProvisionDocument {
        format: "convexinfra.provision/1",
        name,
        state,
        dns,
        url,
        unreached: ready.as_ref().and_then(|ready| ready.unreached.as_deref()),
        site_url: credentials.as_ref().map(|credentials| credentials.site_url.as_str()),
        // A program may run in another folder.
        env_file: env_file.map(|path| std::path::absolute(&path).unwrap_or(path).display().to_string()),
        help,
        admin_key,
        warnings,
    });
}
