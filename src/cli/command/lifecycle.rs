//! `convexinfra stop`, `start` and `forget`: what is done to one backend without a plan.

use crate::api::Work;
use crate::app::{AppError, lifecycle, select_backend};
use crate::cli::args::{BackendArg, Forget as ForgetArgs};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{BackendName, Desired, Exit};

/// Stops a backend; it stays stopped until it is started.
pub(super) async fn stop(context: &Context, args: &BackendArg) -> Result<Exit, AppError> {
    let (name, _) = run(context, args.name.as_ref(), Work::Stop {}, |_, _| Ok(())).await?;
    report(context, &name, "stopped", &format!("its data is kept; start it again with\n    convexinfra start {name}"));
    Ok(Exit::Done)
}

/// Starts a backend as it was last applied.
pub(super) async fn start(context: &Context, args: &BackendArg) -> Result<Exit, AppError> {
    let (name, _) = run(context, args.name.as_ref(), Work::Start {}, |_, _| Ok(())).await?;
    report(context, &name, "started", &format!("wait until it is ready with\n    convexinfra wait {name}"));
    Ok(Exit::Done)
}

/// Drops the record of a backend, and leaves everything else.
pub(super) async fn forget(context: &Context, args: &ForgetArgs) -> Result<Exit, AppError> {
    let confirm = |terminal: &Terminal, name: &BackendName| {
        if args.yes {
            return Ok(());
        }
        let question = format!(
            "the record of `{name}` and its secrets are dropped, and a process of this machine is stopped; its data and its env file stay. forget it? [y/N] "
        );
        terminal.confirm(&question)
    };
    let (name, taken_over) = run(context, Some(&args.name), Work::Forget {}, confirm).await?;
    let command = match taken_over {
        // It has no labels of ours yet, by which what was forgotten is found.
        Some(taken) => match taken.split_once(' ') {
            Some((kind, workload)) => format!("import {name} --{kind} {workload}"),
            None => format!("import {name} --container {taken}"),
        },
        None => format!("recover {name}"),
    };
    report(context, &name, "forgotten", &format!("what it left can be taken up again with\n    convexinfra {command}"));
    Ok(Exit::Done)
}

/// Returns the name of the backend, and the container that it is where something else made that.
async fn run(
    context: &Context,
    name: Option<&BackendName>,
    work: Work,
    confirm: impl Fn(&Terminal, &BackendName) -> Result<(), AppError>,
) -> Result<(BackendName, Option<String>), AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    if matches!(work, Work::Forget {} | Work::Stop {}) {
        context.make_room(desired)?;
    }
    let control = context.control(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, name)?;
    let taken_over = snapshot.backend(&name).and_then(|backend| backend.observation.taken_over()).map(str::to_owned);
    let terminal = Terminal::new(&context.printer);
    confirm(&terminal, &name)?;
    let origin = desired.and_then(Desired::origin_if_known).map(str::to_owned);
    lifecycle::run(control, &project, origin, &name, work, &terminal).await?;
    Ok((name, taken_over))
}

fn report(context: &Context, name: &BackendName, state: &str, next: &str) {
    context.printer.output(&format!("`{name}` is {state}\n"));
    context.printer.status(&format!("{next}\n"));
    context.printer.json("convexinfra.lifecycle/1", serde_json::json!({ "name": name, "state": state }));
}
