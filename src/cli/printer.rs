//! The only writer to standard output and standard error.
//!
//! Results go to standard output, talk to standard error; both decide about colour by themselves. A reader that went
//! away is no error: there is no reader left.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use serde::Serialize;

use super::args::ColorChoice;
use super::env_overrides;
use super::error::terminal_width;
use super::follow_up::FollowUp;
use crate::model::{Diagnostic, Exit, Report};
use crate::render::{Style, report_text, sanitize_json, sanitize_terminal};

/// The only writer to standard output and standard error.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    out_style: Style,
    err_style: Style,
    json: bool,
    /// Nothing at all for people: programs read, and this part has no documents.
    silent: bool,
    json_into: Option<std::sync::Arc<std::fs::File>>,
    /// What the commands that are printed need, so that they act where this one did.
    follow_up: FollowUp,
    /// The first thing that a result could not be written for.
    write_error: std::sync::Arc<OnceLock<String>>,
    /// Set once the reader of the results has closed the pipe.
    broken_pipe: std::sync::Arc<OnceLock<()>>,
}

#[derive(Serialize)]
struct UntypedDocument {
    format: &'static str,
    #[serde(flatten)]
    rest: serde_json::Value,
}

/// What is known about the terminal.
pub(crate) fn stderr_is_interactive() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Printer {
    /// A printer for these wishes.
    pub(crate) fn new(color: ColorChoice, json: bool, json_into: Option<std::fs::File>) -> Self {
        let forced = std::env::var_os("FORCE_COLOR").is_some_and(|value| !value.is_empty() && value != "0");
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = |terminal: bool| {
            let coloured = match color {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => !plain && (terminal || forced),
            };
            let style = if coloured { Style::COLOURED } else { Style::PLAIN };
            style.with_columns(terminal.then(terminal_width))
        };
        Self {
            out_style: style(std::io::stdout().is_terminal()),
            err_style: style(std::io::stderr().is_terminal()),
            json,
            silent: false,
            json_into: json_into.map(std::sync::Arc::new),
            follow_up: FollowUp::default(),
            write_error: std::sync::Arc::default(),
            broken_pipe: std::sync::Arc::default(),
        }
    }

    /// Has the commands that are printed act where this one does.
    pub(super) fn with_follow_up(self, follow_up: FollowUp) -> Self {
        Self { follow_up, ..self }
    }

    /// A printer for a part of a command that has no documents or results of its own.
    pub(crate) fn without_documents(&self) -> Self {
        Self { silent: self.json, json: false, json_into: None, ..self.clone() }
    }

    /// How results look.
    pub(crate) fn out_style(&self) -> Style {
        self.out_style
    }

    /// How talk looks.
    pub(crate) fn err_style(&self) -> Style {
        self.err_style
    }

    /// Whether results are documents for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether documents are wanted, on standard output or in a file.
    pub(crate) fn wants_documents(&self) -> bool {
        self.json || self.json_into.is_some()
    }

    /// A result for people; nothing where programs read.
    pub(crate) fn output(&self, text: &str) {
        if !self.json && !self.silent {
            self.out(&sanitize_terminal(&self.follow_up.complete(text), self.out_style.is_coloured()));
        }
    }

    /// Writes a foreign text, such as a log: unchanged where no terminal shows it.
    pub(crate) fn passthrough(&self, text: &str) {
        if std::io::stdout().is_terminal() && !self.json && !self.silent {
            self.out(&sanitize_terminal(text, self.out_style.is_coloured()));
        } else if !self.json && !self.silent {
            self.out(text);
        }
    }

    /// A result that is the same for people and programs, such as a schema.
    pub(crate) fn raw(&self, text: &str) {
        self.out(text);
    }

    fn out(&self, text: &str) {
        self.record_write_error("standard output", write(&mut std::io::stdout().lock(), text));
    }

    fn record_write_error(&self, stream: &str, written: std::io::Result<()>) {
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                let _ = self.broken_pipe.set(());
            }
            Err(error) => {
                let _ = self.write_error.set(format!("{stream} could not be written: {error}"));
            }
        }
    }

    /// Returns whether the reader of the results is gone, so that a command without an end of its own should end.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe.get().is_some() || self.write_error.get().is_some()
    }

    /// Reports on standard error which results could not be written. Returns whether there were any.
    pub(crate) fn report_write_error(&self) -> bool {
        let Some(message) = self.write_error.get() else { return false };
        let finding = Diagnostic::new("output.not_written", message.clone());
        let text = report_text(&Report::one(Exit::Failed, finding), self.err_style);
        let _ = write(&mut std::io::stderr().lock(), &text);
        true
    }

    /// Writes talk for people, in lines that the terminal has room for; nothing where programs read.
    pub(crate) fn status(&self, text: &str) {
        if !self.json && !self.silent {
            let text = self.err_style.wrap(&self.follow_up.complete(text), 0);
            let _ = write(&mut std::io::stderr().lock(), &sanitize_terminal(&text, self.err_style.is_coloured()));
        }
    }

    /// Has the log of a GitHub job mask a secret that is about to be shown: the runner reads commands from both streams, and hides
    /// the value in what every later step prints.
    pub(crate) fn mask(&self, secret: &str) {
        if env_overrides::is_on("GITHUB_ACTIONS") {
            let _ = write(&mut std::io::stderr().lock(), &format!("::add-mask::{secret}\n"));
        }
    }

    /// A small document that has no type of its own. Like every document it starts with its format.
    pub(crate) fn json(&self, format: &'static str, rest: serde_json::Value) {
        self.document(&UntypedDocument { format, rest });
    }

    /// Writes a document, in one line, where documents are asked for.
    pub(crate) fn document(&self, document: &impl Serialize) {
        if !self.wants_documents() {
            return;
        }
        // Documents are plain data with text keys, which always serialises.
        let mut line = sanitize_json(&serde_json::to_string(document).unwrap_or_default()).into_owned();
        line.push('\n');
        if self.json {
            self.out(&line);
        }
        if let Some(file) = &self.json_into {
            self.record_write_error("the file of `--json-into`", write(&mut file.as_ref(), &line));
        }
    }
}

fn write(stream: &mut impl Write, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
}
