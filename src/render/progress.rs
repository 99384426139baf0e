//! Progress as a pure fold of events: lines for a pipe, and what runs now for a terminal.

use std::collections::BTreeMap;

use super::error::inline_finding;
use super::plural::{counted, duration};
use super::sanitize::{sanitize_block, sanitize_line as harmless};
use super::style::Style;
use crate::apply::{Event, EventKind, StepOutcome, Tally};
use crate::model::Diagnostic;
use crate::plan::{Action, Reason, StepId};

/// What has been heard so far.
#[derive(Debug, Default)]
pub struct Progress {
    running: BTreeMap<StepId, RunningStep>,
    total: usize,
    ended: usize,
}

/// A step that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningStep {
    /// What is said of it: `creating backend.dev`.
    pub title: String,
    /// The last thing that it said.
    pub message: Option<String>,
    /// Why it runs.
    reason: Reason,
}

impl Progress {
    /// Takes an event in and returns the line that it is worth, if it is worth one.
    pub fn on_event(&mut self, event: &Event, style: Style) -> Option<String> {
        self.line(event, style).map(|line| style.wrap(&line, 4))
    }

    fn line(&mut self, event: &Event, style: Style) -> Option<String> {
        match &event.kind {
            EventKind::Started { summary, .. } => {
                self.total = summary.create + summary.update + summary.moves + summary.destroy + summary.write;
                // An empty line between the plan and what comes of it.
                Some(String::new())
            }
            EventKind::StepStarted { id, address, action, reason } => {
                let title = format!("{} {address}", present(*action, *reason));
                self.running.insert(id.clone(), RunningStep { title, message: None, reason: *reason });
                None
            }
            EventKind::StepProgress { id, address, message } => {
                if let Some(running) = self.running.get_mut(id) {
                    running.message = Some(harmless(message).into_owned());
                }
                Some(format!("  {} {address}: {}", style.dim("·"), sanitize_block(message, 4)))
            }
            EventKind::StepFinished { id, address, action, end, milliseconds } => {
                let reason = self.running.remove(id).map(|running| running.reason);
                self.ended += 1;
                Some(match end {
                    StepOutcome::Done => {
                        let took = style.dim(&format!("({})", duration(*milliseconds)));
                        format!("  {} {} {address} {took}", style.added("✓"), past(*action, reason))
                    }
                    StepOutcome::Failed { error } => format!("  {} {address}: {}", style.error("✗"), failure(error, style)),
                    StepOutcome::Interrupted => {
                        format!("  {} {address}: interrupted while running, so how far it got is not known", style.changed("-"))
                    }
                    StepOutcome::NotStarted { because } => {
                        format!("  {} {address}: not started, {because}", style.changed("-"))
                    }
                })
            }
            EventKind::Waiting { address, state, notes, unseen } => {
                let why = unseen.as_ref().map(|why| format!(": {}", inline_finding(why, 4))).unwrap_or_default();
                let notes: String = notes.iter().map(|note| format!("\n    {}", sanitize_block(note, 4))).collect();
                Some(format!("  {} {address}: {state}{why}{notes}", style.dim("·")))
            }
            EventKind::Finished { tally, converged, .. } => Some(summary(tally, *converged)),
        }
    }

    /// What runs now.
    pub fn running(&self) -> &BTreeMap<StepId, RunningStep> {
        &self.running
    }

    /// How many steps have ended, of how many.
    pub fn count(&self) -> (usize, usize) {
        (self.ended, self.total)
    }
}

fn present(action: Action, reason: Reason) -> &'static str {
    match action {
        Action::Write if reason == Reason::BackendDestroyed => "clearing",
        Action::Create => "creating",
        Action::Update => "updating",
        Action::Move => "moving",
        Action::Destroy => "destroying",
        Action::Write => "writing",
    }
}

fn past(action: Action, reason: Option<Reason>) -> &'static str {
    match action {
        Action::Write if reason == Some(Reason::BackendDestroyed) => "cleared",
        Action::Create => "created",
        Action::Update => "updated",
        Action::Move => "moved",
        Action::Destroy => "destroyed",
        Action::Write => "wrote",
    }
}

/// Returns the error of a step with its code and its help.
fn failure(error: &Diagnostic, style: Style) -> String {
    let help = error.help.as_ref().map(|help| format!("\n    help: {}", sanitize_block(help, 4))).unwrap_or_default();
    let code = style.dim(&format!("[{}]", harmless(&error.code)));
    format!("{} {code}{help}", sanitize_block(&error.message, 4))
}

/// Returns the counts of steps by outcome, and whether something is left to do.
fn summary(tally: &Tally, converged: Option<bool>) -> String {
    let mut parts = vec![format!("{} done", counted(tally.done, "step"))];
    let others = [(tally.failed, "failed"), (tally.not_started, "not started"), (tally.interrupted, "interrupted")];
    parts.extend(others.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    let left = match converged {
        Some(false) => "; planning again still finds something to do: run `convexinfra plan` to see what",
        Some(true) | None => "",
    };
    format!("{}{left}", parts.join(", "))
}
