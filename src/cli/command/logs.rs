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
use crate::provider::kit::log_text::strip_terminal_sequences;
use crate::render::LogLineDocument;

/// How often to look for more.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Shows the log of a backend, and goes on if asked to.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let name = select_backend(&control.snapshot(&project).await?, desired, args.backend.name.as_ref())?;
    let mut lines = LineBuffer { begun: String::new(), all: args.all };
    let mut from = LogPosition::Tail(args.tail as usize);
    // One for all of the loop: a signal that comes between two listeners is lost.
    let mut stop = pin!(signal::shutdown_signal());
    loop {
        let piece = tokio::select! {
            piece = control.logs(&project, &name, from) => piece?,
            () = &mut stop => break,
        };
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

/// What marks a line about one of our own probes: the name that this program gives itself in requests.
const OWN_AGENT: &str = concat!("\"convexinfra/", env!("CARGO_PKG_VERSION"), "\"");

/// Splits a log into lines; a piece of it may end in the middle of one.
struct LineBuffer {
    begun: String,
    /// Whether lines about our own probes are shown.
    all: bool,
}

impl LineBuffer {
    fn push(&mut self, context: &Context, text: &str) {
        self.begun.push_str(text);
        while let Some(end) = self.begun.find('\n') {
            let line: String = self.begun.drain(..=end).collect();
            self.show(context, line.trim_end_matches(['\n', '\r']));
        }
    }

    fn flush(&mut self, context: &Context) {
        if !self.begun.is_empty() {
            let line = std::mem::take(&mut self.begun);
            self.show(context, &line);
        }
    }

    fn show(&self, context: &Context, line: &str) {
        if !self.all && line.contains(OWN_AGENT) {
            return;
        }
        let plain = strip_terminal_sequences(line);
        let shown = if context.printer.out_style().is_coloured() { line } else { &plain };
        context.printer.passthrough(&format!("{shown}\n"));
        context.printer.document(&LogLineDocument { format: "convexinfra.log_line/1", line: &plain });
    }
}
