//! Progress on the screen: bars on a terminal, plain lines elsewhere, documents for programs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printer::{Printer, stderr_is_interactive};
use crate::apply::Event;
use crate::plan::StepId;
use crate::render::{Progress, Style, plural};

/// How many bars stand on the screen at once; more would scroll the lines away.
const MAX_BARS: usize = 8;

/// Shows events on a terminal.
pub(crate) struct ProgressReporter {
    printer: Printer,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    screen: Option<Screen>,
}

/// The lines at the bottom of a terminal.
struct Screen {
    multi: MultiProgress,
    bars: BTreeMap<StepId, ProgressBar>,
    rest: ProgressBar,
    /// How a bar of one step looks.
    step: ProgressStyle,
}

impl ProgressReporter {
    /// Bars for this printer's audience.
    pub(crate) fn new(printer: &Printer) -> Self {
        let screen = (!printer.is_json() && stderr_is_interactive()).then(|| Screen::new(printer.err_style()));
        Self { printer: printer.clone(), state: Mutex::new(State { progress: Progress::default(), screen }) }
    }

    /// Takes an event in and shows it.
    pub(crate) fn on_event(&self, event: &Event) {
        self.printer.document(event);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { progress, screen } = &mut *state;
        let line = progress.on_event(event, self.printer.err_style());
        match (screen, line) {
            (None, Some(line)) => self.printer.status(&format!("{line}\n")),
            (None, None) => {}
            (Some(screen), line) => {
                let print = || {
                    if let Some(line) = &line {
                        self.printer.status(&format!("{line}\n"));
                    }
                };
                screen.multi.suspend(print);
                screen.show(progress);
            }
        }
    }

    /// Prints a line that is no event, above the progress bars.
    pub(crate) fn print(&self, words: &str) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.screen {
            Some(screen) => screen.multi.suspend(|| self.printer.status(words)),
            None => self.printer.status(words),
        }
    }

    /// Takes everything off the screen that moves.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(screen) = state.screen.take() {
            let _ = screen.multi.clear();
        }
    }
}

impl Screen {
    fn new(looks: Style) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let rest = multi.add(ProgressBar::new_spinner());
        rest.set_style(style("  {msg}"));
        Self { multi, bars: BTreeMap::new(), rest, step: style(step_template(looks)) }
    }

    fn show(&mut self, progress: &Progress) {
        let gone: Vec<StepId> = self.bars.keys().filter(|id| !progress.running().contains_key(*id)).cloned().collect();
        for id in gone {
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
                self.multi.remove(&bar);
            }
        }
        for (id, running) in progress.running() {
            if !self.bars.contains_key(id) && self.bars.len() < MAX_BARS {
                let bar = self.multi.insert_before(&self.rest, ProgressBar::new_spinner());
                bar.set_style(self.step.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                self.bars.insert(id.clone(), bar);
            }
            if let Some(bar) = self.bars.get(id) {
                let message = running.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
                bar.set_message(format!("{}{message}", running.title));
            }
        }
        let (ended, total) = progress.count();
        let hidden = progress.running().len().saturating_sub(self.bars.len());
        let more = if hidden > 0 { format!(", {hidden} more at work") } else { String::new() };
        self.rest.set_message(format!("{ended} of {total} {}{more}", plural(total, "step")));
    }
}

fn step_template(looks: Style) -> &'static str {
    if looks.is_coloured() { "  {spinner} {msg} {elapsed:.dim}" } else { "  {spinner} {msg} {elapsed}" }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_nothing_is_painted() {
        assert!(!step_template(Style::PLAIN).contains("dim"));
        assert!(step_template(Style::COLOURED).contains("dim"));
    }
}
