//! `convexinfra provision` and `deprovision`: one backend in one step, for programs.
//!
//! Must not do: print a key that was not asked for.

use crate::app::AppError;
use crate::app::provision::{self, DeprovisionRequest, ProvisionRequest, ProvisionState, Provisioned};
use crate::cli::args::{Deprovision as DeprovisionArgs, Provision as ProvisionArgs};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::Exit;

/// Adds the backend to the manifest if it is not declared, applies it and prints where it is.
pub(super) async fn provision(context: &Context, args: &ProvisionArgs) -> Result<Exit, AppError> {
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    // The one document of this command is its result; the events of the apply are status.
    let terminal = Terminal::new(&context.printer.without_documents());
    let request = ProvisionRequest {
        name: args.name.clone(),
        provider: args.provider.clone(),
        region: args.region.clone(),
        release: args.release.clone(),
        ttl: args.ttl.clone(),
        env_file: args.env_file.clone(),
        wait_for_lock: args.lock.duration(),
    };
    let provisioned = provision::provision(control, &manifest, &request, (&terminal, &terminal)).await?;
    report(context, args, provisioned);
    Ok(Exit::Done)
}

/// Destroys the backend with its data, and removes it from the manifest.
pub(super) async fn deprovision(context: &Context, args: &DeprovisionArgs) -> Result<Exit, AppError> {
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    let terminal = Terminal::new(&context.printer.without_documents());
    let request = DeprovisionRequest {
        name: args.name.clone(),
        allow_destroy: args.allow_destroy.iter().cloned().collect(),
        volume: super::destroy::volume_reclaim(args.keep_data),
        database: super::destroy::database_reclaim(args.with_database),
    };
    let notices = provision::deprovision(control, &manifest, &request, (&terminal, &terminal)).await?;
    context.printer.output(&format!("`{}` is destroyed\n", args.name));
    let mut document = serde_json::json!({ "name": args.name, "state": "absent" });
    if !notices.is_empty() {
        // What was kept is named nowhere else: its record is gone.
        document["notices"] = notices.into();
    }
    context.printer.json("convexinfra.deprovision/1", document);
    Ok(Exit::Done)
}

fn report(context: &Context, args: &ProvisionArgs, provisioned: Provisioned) {
    let Provisioned { state, credentials, env_file, warnings, .. } = provisioned;
    let mut document = serde_json::json!({ "name": args.name });
    let mut text = String::new();
    let url = credentials.as_ref().map(|credentials| credentials.url.as_str()).unwrap_or_default();
    match state {
        ProvisionState::Recorded => {
            document["state"] = "recorded".into();
            text.push_str(&format!("`{}` is recorded\n", args.name));
        }
        ProvisionState::Ready => {
            document["state"] = "ready".into();
            text.push_str(&format!("`{}` is ready at {url}\n", args.name));
        }
        ProvisionState::WaitingForHost(notes) => {
            text.push_str(&format!("`{}` runs and waits for its host, {url}\n", args.name));
            text.extend(notes.iter().map(|note| format!("{note}\n")));
            document["state"] = "waiting_for_host".into();
            document["dns"] = notes.into();
        }
    }
    if let Some(credentials) = credentials {
        document["url"] = credentials.url.into();
        document["site_url"] = credentials.site_url.into();
        if let Some(path) = &env_file {
            text.push_str(&format!("`{}` points to `{}`\n", path.display(), args.name));
        } else {
            let help = format!("no env file points to `{0}`; write one with\n    convexinfra env {0} --write PATH", args.name);
            text.push_str(&format!("{help}\n"));
            document["help"] = help.into();
        }
        // A program may run in another folder.
        let env_file = env_file.map(|path| std::path::absolute(&path).unwrap_or(path));
        document["env_file"] = env_file.map(|path| path.display().to_string()).into();
        if args.show_key {
            document["admin_key"] = credentials.admin_key.expose().into();
            text.push_str(&format!("{}\n", credentials.admin_key.expose()));
        }
    }
    if !warnings.is_empty() {
        document["warnings"] = serde_json::json!(warnings);
    }
    context.printer.output(&text);
    context.printer.json("convexinfra.provision/1", document);
}
