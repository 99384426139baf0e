//! Carrying a plan out: what may run when, running it, and telling what happens.
//!
//! Must not do: decide anything. The plan has decided; this module keeps its order, runs what may run, and reports.

mod event;
mod execute;
mod scheduler;

pub use event::{EVENTS_FORMAT, Event, EventKind, ReadyBackend, StepOutcome, Tally};
pub use execute::{EnvFiles, Executed, Execution, Interrupt, execute};
pub use scheduler::{Scheduler, StepStatus};
