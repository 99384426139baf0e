//! `convexinfra logs`: the log of a backend.
//!
//! Must not do: keep a copy of what it shows.

use std::time::Duration;

use super::the_backend;
use crate::cli::args::Logs as Args;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::control::LogFrom;
use crate::model::Exit;

/// How often to look for more.
const PAUSE: Duration = Duration::from_millis(250);

/// Shows the log of a backend, and goes on if asked to.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let name = the_backend(&control.snapshot(&project).await?, args.backend.name.as_ref())?;
    let mut from = LogFrom::Tail(args.tail as usize);
    loop {
        let piece = control.logs(&project, &name, from).await?;
        if !piece.text.is_empty() {
            context.printer.raw(&piece.text);
        }
        if !args.follow {
            return Ok(Exit::Done);
        }
        from = LogFrom::Byte(piece.next);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
}
