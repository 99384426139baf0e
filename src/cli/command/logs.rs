//! `convexinfra logs`: the log of a backend.
//!
//! Must not do: keep a copy of what it shows.

use std::pin::pin;
use std::time::Duration;

use crate::api::LogPosition;
use crate::app::{AppError, select_backend};
use crate::cli::args::Logs as Args;
use crate::cli::context::Context;
use crate::cli::signal;
use crate::model::Exit;

/// How often to look for more.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Shows the log of a backend, and goes on if asked to.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let name = select_backend(&control.snapshot(&project).await?, args.backend.name.as_ref())?;
    let mut lines = LineBuffer::default();
    let mut from = LogPosition::Tail(args.tail as usize);
    // One for all of the loop: what is said while nobody listens is lost.
    let mut stop = pin!(signal::shutdown_signal());
    loop {
        let piece = tokio::select! {
            piece = control.logs(&project, &name, from) => piece?,
            () = &mut stop => break,
        };
        context.printer.passthrough(&piece.text);
        lines.push(context, &piece.text);
        if !args.follow || context.printer.is_broken_pipe() {
            lines.flush(context);
            return Ok(Exit::Done);
        }
        from = LogPosition::Byte(piece.next);
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = &mut stop => break,
        }
    }
    lines.flush(context);
    Ok(Exit::Interrupted)
}

/// A log as documents, a line each; a piece of a log may end in the middle of one.
#[derive(Default)]
struct LineBuffer {
    begun: String,
}

impl LineBuffer {
    fn push(&mut self, context: &Context, text: &str) {
        if !context.printer.wants_documents() {
            return;
        }
        self.begun.push_str(text);
        while let Some(end) = self.begun.find('\n') {
            let line: String = self.begun.drain(..=end).collect();
            document(context, line.trim_end_matches(['\n', '\r']));
        }
    }

    fn flush(&mut self, context: &Context) {
        if !self.begun.is_empty() {
            document(context, &std::mem::take(&mut self.begun));
        }
    }
}

fn document(context: &Context, line: &str) {
    context.printer.json("convexinfra.log_line/1", serde_json::json!({ "line": line }));
}
