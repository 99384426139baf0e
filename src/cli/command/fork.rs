//! `convexinfra fork`: a new backend with the data of another one. And `resume`, which lets it run.

use serde_json::json;

use super::snapshot::{failed, new_id, store};
use crate::api::{ControlPlane, StartMode, Work};
use crate::app::pause::{Activity, set_activity};
use crate::app::provision::{ProvisionRequest, provision};
use crate::app::{AppError, LoadedManifest, check_ownership, lifecycle, select_backend};
use crate::cli::args::{BackendArg, Fork as Args};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{ActualBackend, Desired, DesiredBackend, Diagnostic, Exit, Snapshot};

/// Copies a backend into a new one, which starts paused.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (from, to) = (&args.from, &args.to);
    let loaded = context.load()?;
    let (project, desired) = (loaded.desired.project.clone(), &loaded.desired);
    let control = context.embedded(Some(desired))?;
    let snapshot = control.snapshot(&project).await?;
    check_ownership(&snapshot, Some(desired))?;
    let source = source(&snapshot, args, desired.backends.get(to))?;
    context.printer.status(&format!(
        "`{to}` gets a copy of everything that `{from}` has: documents, files, code, variables, crons, jobs that wait, and log sinks. \
         `{from}` stops for the copy of its database and is not changed. `{to}` starts paused; once it is resumed, its crons and jobs run \
         beside those of `{from}`\n"
    ));
    let terminal = Terminal::new(&context.printer.without_documents());
    if !args.yes {
        terminal.confirm("fork it? [y/N] ")?;
    }
    let origin = desired.origin_if_known().map(str::to_owned);
    let id = new_id(from)?;
    let work = Work::Snapshot { id: id.clone(), note: Some(format!("for the fork {to}")) };
    lifecycle::run(control, &project, origin.clone(), from, work, &terminal).await?;
    // What can be read is known before anything is made of it.
    store(context, &project, Some(desired)).await?.get(&id).map_err(failed)?;
    provision(control, &loaded, &request(args, &loaded, &source), (&terminal, &terminal)).await?;
    let restore = Work::Restore { snapshot: id.clone(), release: None, start: StartMode::Paused };
    lifecycle::run(control, &project, origin, to, restore, &terminal).await.map_err(|error| unfinished(args, error))?;
    let credentials = control.credentials(&project, to, desired.origin_if_known()).await?;
    let url = credentials.url.clone();
    set_activity(credentials, Activity::Paused).await?;
    context.printer.output(&format!("`{to}` has the data of `{from}` and is paused\n"));
    context.printer.status(&format!(
        "set its own variables in the manifest, remove log sinks and jobs that must not run twice, and let it run with\n    \
         convexinfra resume {to}\n"
    ));
    context
        .printer
        .json("convexinfra.fork/1", json!({ "name": to, "from": from, "snapshot": id, "url": url, "state": "paused" }));
    Ok(Exit::Done)
}

/// Resumes a backend that is paused.
pub(super) async fn resume(context: &Context, args: &BackendArg) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let name = select_backend(&control.snapshot(&project).await?, desired, args.name.as_ref())?;
    let credentials = control.credentials(&project, &name, desired.and_then(Desired::origin_if_known)).await?;
    set_activity(credentials, Activity::Running).await?;
    context.printer.output(&format!("`{name}` runs its functions, crons and jobs\n"));
    context.printer.json("convexinfra.lifecycle/1", json!({ "name": name, "state": "resumed" }));
    Ok(Exit::Done)
}

/// Returns the backend that is copied, where a fork of it can be made.
fn source(snapshot: &Snapshot, args: &Args, declared: Option<&DesiredBackend>) -> Result<ActualBackend, AppError> {
    let (from, to) = (&args.from, &args.to);
    let refused = |code: &str, message: String, help: String| {
        Err(AppError::new(Exit::Refused, Diagnostic::new(code, message).with_help(help)))
    };
    if !args.exact {
        let message = "a fork without the variables, crons and jobs of its source is not there yet";
        let help = format!("copy everything, paused, with\n    convexinfra fork {from} {to} --exact");
        return refused("fork.only_exact", message.to_owned(), help);
    }
    if snapshot.backends.iter().any(|backend| backend.name == *to) {
        let message = format!("there is a backend `{to}` already, and a fork replaces none");
        let help = format!(
            "choose another name; what a fork that was cut off has left is taken away with\n    convexinfra deprovision {to} --allow-destroy {to}"
        );
        return refused("fork.exists", message, help);
    }
    match snapshot.backends.iter().find(|backend| backend.name == *from) {
        Some(backend) => {
            // What the manifest declares for the copy, or a block like that of the source.
            let of_copy = declared.map_or(backend.recorded.provider, |declared| declared.spec.provider);
            match [backend.recorded.provider, of_copy].into_iter().find(|provider| !provider.descriptor().takes_snapshots) {
                None => Ok(backend.clone()),
                Some(provider) => refused(
                    "fork.unsupported",
                    format!(
                        "`{from}` cannot be copied to `{to}`: provider `{provider}` neither gives nor takes a copy of its data"
                    ),
                    format!("take an archive instead\n    convexinfra archive {from} --out {from}.zip"),
                ),
            }
        }
        None => refused(
            "fork.no_source",
            format!("there is no backend `{from}` that could be copied"),
            "look at what there is with\n    convexinfra status".to_owned(),
        ),
    }
}

/// Returns what is provisioned: what the manifest declares, or a block like that of the source.
fn request(args: &Args, loaded: &LoadedManifest, source: &ActualBackend) -> ProvisionRequest {
    let spec = &source.recorded;
    let is_new = !loaded.desired.backends.contains_key(&args.to);
    ProvisionRequest {
        name: args.to.clone(),
        provider: is_new.then(|| spec.provider.to_string()),
        region: None,
        release: spec.release.as_ref().filter(|_| is_new).map(ToString::to_string),
        ttl: args.ttl.clone(),
        env_file: args.env_file.clone(),
        binary: spec.settings.local.binary.clone().filter(|_| is_new),
        wait_for_lock: args.lock.duration(),
    }
}

/// Says what is left where the copy was made and its data was not put into it.
fn unfinished(args: &Args, error: AppError) -> AppError {
    let to = &args.to;
    let mut report = error.report();
    let message = format!("`{to}` was made and has no data of `{}`", args.from);
    let finding = Diagnostic::new("fork.unfinished", message).with_help(format!(
        "take it away, and run the same command again\n    convexinfra deprovision {to} --allow-destroy {to}"
    ));
    report.errors.insert(0, finding);
    AppError::from(report)
}
