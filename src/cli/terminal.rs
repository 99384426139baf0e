//! The terminal as the use cases see it: shows what happens, and asks the person in front of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::printer::Printer;
use super::progress::ProgressReporter;
use super::signal;
use crate::app::{AppError, Approver, Reporter};
use crate::apply::{Event, Interrupt};
use crate::model::{BackendName, Diagnostic, Exit, shell_word};
use crate::plan::Plan;
use crate::render;

/// The terminal of one command.
pub(crate) struct Terminal {
    printer: Printer,
    progress: Arc<ProgressReporter>,
    /// The digest of the plan that was shown.
    shown: OnceLock<String>,
}

impl Terminal {
    /// Returns the terminal that a printer writes to.
    pub(crate) fn new(printer: &Printer) -> Self {
        Self { printer: printer.clone(), progress: Arc::new(ProgressReporter::new(printer)), shown: OnceLock::new() }
    }

    /// Whether a person can answer.
    fn is_interactive(&self) -> bool {
        !self.printer.is_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks a question that has to be answered with yes.
    ///
    /// # Errors
    /// Another answer, or no terminal to ask on.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), AppError> {
        if !self.is_interactive() {
            let diagnostic = Diagnostic::new("usage.not_confirmed", "there is no terminal to ask on, so nothing was done");
            let confirmed = confirmed_command(std::env::args_os().skip(1));
            return Err(AppError::new(Exit::Usage, diagnostic.with_help(format!("confirm it with\n    {confirmed}"))));
        }
        match self.ask(question) {
            Some(answer) if matches!(answer.to_lowercase().as_str(), "y" | "yes") => Ok(()),
            _ => Err(AppError::new(Exit::Interrupted, Diagnostic::new("apply.declined", "not confirmed, so nothing was done"))),
        }
    }

    fn has_shown(&self, plan: &Plan) -> bool {
        self.shown.get().is_some_and(|digest| *digest == plan.digest.to_string())
    }

    fn ask(&self, question: &str) -> Option<String> {
        // The answer stands behind the question, where that ends.
        let question = self.printer.err_style().wrap(question.trim_end(), 0);
        self.progress.print(&format!("{question} "));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).ok().map(|_| answer.trim().to_owned())
    }
}

impl Reporter for Terminal {
    fn planned(&self, plan: &Plan) {
        if !self.has_shown(plan) {
            self.progress.print(&render::plan(plan, self.printer.err_style()));
            let _ = self.shown.set(plan.digest.to_string());
        }
    }

    fn refused(&self, plan: &Plan) {
        if !self.has_shown(plan) {
            self.progress.print(&render::refused_plan(plan, self.printer.err_style()));
        }
        self.progress.print("\nnothing was done\n");
    }

    fn event(&self, event: &Event) {
        self.progress.on_event(event);
    }

    fn notice(&self, text: &str) {
        self.progress.print(&format!("{text}\n"));
    }

    fn steps_ended(&self) {
        self.progress.finish();
    }
}

impl Approver for Terminal {
    fn approve(&self, _: &Plan) -> Result<(), AppError> {
        self.confirm("\napply this plan? [y/N] ")
    }

    fn confirm_destruction(&self, plan: &Plan, backends: &BTreeSet<BackendName>) -> BTreeSet<BackendName> {
        if !self.is_interactive() {
            return BTreeSet::new();
        }
        // The plan is shown before it is confirmed.
        self.planned(plan);
        self.progress.print("\n");
        let confirmed = backends.iter().filter(|name| {
            self.ask(&format!("`{name}` and its data will be destroyed; type its name to confirm: "))
                .is_some_and(|answer| answer == name.as_str())
        });
        confirmed.cloned().collect()
    }

    fn interrupts(&self, on_abort: &'static str) -> watch::Receiver<Interrupt> {
        let progress = Arc::clone(&self.progress);
        signal::watch_interrupts(on_abort, move |text| progress.print(text))
    }
}

/// Returns a command as it was typed, with the flag that answers its question: what is pasted does that and nothing less.
fn confirmed_command(typed: impl Iterator<Item = OsString>) -> String {
    let words = typed.map(|word| shell_word(&word.to_string_lossy()));
    ["convexinfra".to_owned()].into_iter().chain(words).chain(["--yes".to_owned()]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_confirmed_with_all_that_was_typed() {
        let typed = ["fork", "dev", "pr-42", "--exact", "--ttl", "3d", "--env-file", "a b/.env"].map(OsString::from);
        let confirmed = confirmed_command(typed.into_iter());
        assert_eq!(confirmed, "convexinfra fork dev pr-42 --exact --ttl 3d --env-file 'a b/.env' --yes");
    }
}
