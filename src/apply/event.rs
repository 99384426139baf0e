//! What happens during an apply: the one list that progress bars, plain lines and NDJSON are read from.

use serde::{Deserialize, Serialize};

use crate::model::{Address, BackendName, Diagnostic, Exit, ProjectName};
use crate::plan::{Action, Reason, StepId, Summary};

/// The format that every event starts with. Additions keep the number.
pub const EVENTS_FORMAT: &str = "convexinfra.events/1";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// Always `convexinfra.events/1`.
    pub format: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl From<EventKind> for Event {
    fn from(kind: EventKind) -> Self {
        Self { format: EVENTS_FORMAT.to_owned(), kind }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// An apply begins.
    Started {
        /// The project.
        project: ProjectName,
        /// What the plan will do.
        summary: Summary,
        /// What is worth a look in the plan.
        #[serde(default)]
        lints: Vec<Diagnostic>,
    },
    /// A step begins.
    StepStarted {
        /// The step.
        id: StepId,
        /// What it is about.
        address: Address,
        /// What is done to it.
        action: Action,
        /// Why.
        reason: Reason,
    },
    /// A step has something to say, or is still at work.
    StepProgress {
        /// The step.
        id: StepId,
        /// What it is about.
        address: Address,
        /// What it says.
        message: String,
    },
    /// A step has ended, or will not begin.
    StepFinished {
        /// The step.
        id: StepId,
        /// What it is about.
        address: Address,
        /// What was to be done to it.
        action: Action,
        /// How it ended.
        #[serde(flatten)]
        end: StepOutcome,
        /// How long it took, in milliseconds.
        milliseconds: u64,
    },
    /// Waiting for a backend (`wait`).
    Waiting {
        /// The backend.
        address: Address,
        /// What is seen of it.
        state: String,
        /// What has to be done elsewhere before clients reach it.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        notes: Vec<String>,
        /// Why nothing is known of it, where that is so.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        unseen: Option<Diagnostic>,
    },
    /// The command has ended.
    Finished {
        /// How many steps ended how.
        #[serde(flatten)]
        tally: Tally,
        /// The exit code.
        exit: Exit,
        /// Whether planning again finds nothing to do; null when that was not checked.
        converged: Option<bool>,
        /// The backends of the project that are ready now, whether they changed or not.
        #[serde(default)]
        backends: Vec<ReadyBackend>,
    },
}

/// A backend that is ready, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReadyBackend {
    /// Its name.
    pub name: BackendName,
    /// Where clients reach it.
    pub url: String,
    /// Where its HTTP actions are.
    pub site_url: String,
    /// Why `url` did not lead to it from this machine, where that was asked: a proxy may not lead there yet, or to other
    /// machines only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unreached: Option<String>,
    /// Where this machine reaches it instead, as far as it knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reached_at: Option<String>,
    /// The command that has to run for `url` to lead to it from a machine: nothing is public, and it runs elsewhere.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forward: Option<String>,
}

impl ReadyBackend {
    /// Says that it is ready, and where: never at a URL that did not lead to it.
    pub fn sentence(&self) -> String {
        let Self { name, url, unreached, reached_at, forward, .. } = self;
        match (unreached, reached_at) {
            (None, _) => match forward {
                Some(command) => format!("`{name}` is ready; {url} leads there while this runs\n    {command}"),
                None => format!("`{name}` is ready at {url}"),
            },
            (Some(why), Some(at)) => format!("`{name}` is ready at {at}; {url} was not reached from here: {why}"),
            (Some(why), None) => format!("`{name}` runs; {url} was not reached from here: {why}"),
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum StepOutcome {
    /// Well.
    Done,
    /// It could not be done.
    Failed {
        /// Why.
        error: Diagnostic,
    },
    /// It did not begin, because of something before it.
    NotStarted {
        /// Because of what.
        because: String,
    },
    /// It was left while it ran, so how far it got is not known; running again finds out.
    Interrupted,
}

/// How many steps ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tally {
    /// Well.
    pub done: usize,
    /// Badly.
    pub failed: usize,
    /// Not at all.
    pub not_started: usize,
    /// Left while they ran.
    #[serde(default)]
    pub interrupted: usize,
}
