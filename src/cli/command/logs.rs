//! `convexinfra logs`: the log of a backend.
//!
//! Must not do: keep a copy of what it shows.

use std::pin::pin;
use std::time::Duration;

use super::the_backend;
use crate::cli::args::Logs as Args;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::signal;
use crate::control::LogFrom;
use crate::model::Exit;

/// How often to look for more.
const PAUSE: Duration = Duration::from_millis(250);

/// Shows the log of a backend, and goes on if asked to.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let name = the_backend(&control.snapshot(&project).await?, args.backend.name.as_ref())?;
    let mut lines = Lines::default();
    let mut from = LogFrom::Tail(args.tail as usize);
    // One for all of the loop: what is said while nobody listens is lost.
    let mut stop = pin!(signal::stop());
    loop {
        let piece = tokio::select! {
            piece = control.logs(&project, &name, from) => piece?,
            () = &mut stop => break,
        };
        context.printer.passage(&piece.text);
        lines.take_in(context, &piece.text);
        if !args.follow || context.printer.is_deserted() {
            lines.end(context);
            return Ok(Exit::Done);
        }
        from = LogFrom::Byte(piece.next);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = &mut stop => break,
        }
    }
    lines.end(context);
    Ok(Exit::Interrupted)
}

/// A log as documents, a line each; a piece of a log may end in the middle of one.
#[derive(Default)]
struct Lines {
    begun: String,
}

impl Lines {
    fn take_in(&mut self, context: &Context, text: &str) {
        if !context.printer.wants_documents() {
            return;
        }
        self.begun.push_str(text);
        while let Some(end) = self.begun.find('\n') {
            let line: String = self.begun.drain(..=end).collect();
            document(context, line.trim_end_matches(['\n', '\r']));
        }
    }

    fn end(&mut self, context: &Context) {
        if !self.begun.is_empty() {
            document(context, &std::mem::take(&mut self.begun));
        }
    }
}

fn document(context: &Context, line: &str) {
    context.printer.reply("convexinfra.log_line/1", serde_json::json!({ "line": line }));
}
