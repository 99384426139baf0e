//! `convexinfra wait`: waits until a backend is ready and no operation runs on it.

use crate::app::{AppError, Reporter, mark_unreached, ready_backends, wait};
use crate::apply::{Event, EventKind, ReadyBackend, Tally};
use crate::cli::args::Wait as Args;
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::Exit;

/// Waits until a backend is ready.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let terminal = Terminal::new(&context.printer);
    let result = wait::wait(control, &project, desired, args.backend.name.as_ref(), args.timeout, &terminal).await;
    terminal.steps_ended();
    let (name, snapshot) = result?;
    let mut backends: Vec<ReadyBackend> =
        ready_backends(&snapshot).into_iter().filter(|backend| backend.name == name).collect();
    mark_unreached(&mut backends, &snapshot).await;
    let said = backends.first().map_or_else(|| format!("`{name}` is ready"), ReadyBackend::sentence);
    context.printer.output(&format!("{said}\n"));
    let finished = EventKind::Finished { tally: Tally::default(), exit: Exit::Done, converged: None, backends };
    context.printer.document(&Event::from(finished));
    Ok(Exit::Done)
}
