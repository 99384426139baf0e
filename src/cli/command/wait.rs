//! `convexinfra wait`: waits until a backend answers.
//!
//! Must not do: start what it waits for.

use std::time::{Duration, Instant};

use super::the_backend;
use crate::apply::{Event, EventKind, Tally};
use crate::cli::args::Wait as Args;
use crate::cli::bars::Bars;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::{Address, Exit, Finding, Phase, RunState};

/// How often to look.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until a backend answers.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let name = the_backend(&control.snapshot(&project).await?, args.backend.name.as_ref())?;
    let bars = Bars::new(&context.printer);
    let deadline = Instant::now() + Duration::from_secs(args.timeout.seconds());
    let mut last = None;
    loop {
        let snapshot = control.snapshot(&project).await?;
        let Some(backend) = snapshot.backends.iter().find(|backend| backend.name == name) else {
            return Err(Failure::new(
                Exit::Failed,
                Finding::new("control.no_such_backend", format!("`{name}` was removed meanwhile")),
            ));
        };
        let state = (backend.phase, backend.observation.state);
        if matches!(state, (Phase::Ready, RunState::Running | RunState::Recorded)) {
            bars.close();
            let url = backend.endpoints.as_ref().map(|endpoints| format!(" at {}", endpoints.url)).unwrap_or_default();
            context.printer.result(&format!("`{name}` is ready{url}\n"));
            let finished = EventKind::Finished { tally: Tally::default(), exit: Exit::Done, converged: None };
            context.printer.document(&Event::from(finished));
            return Ok(Exit::Done);
        }
        if last != Some(state) {
            let words = crate::render::StatusEntry::new(backend).words();
            bars.hear(&EventKind::Waiting { address: Address::backend(&name), state: words.to_owned() }.into());
            last = Some(state);
        }
        if Instant::now() >= deadline {
            bars.close();
            let message = format!("`{name}` did not become ready within {}", args.timeout);
            let help = format!("look at its log with\n    convexinfra logs {name}");
            return Err(Failure::new(Exit::TimedOut, Finding::new("wait.timed_out", message).with_help(help)));
        }
        tokio::time::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}
