//! Carrying a plan out: what may run when, running it, and telling what happens.

mod event;
mod execute;
mod scheduler;

pub use event::{EVENTS_FORMAT, Event, EventKind, ReadyBackend, StepOutcome, Tally};
pub use execute::{EnvFiles, Executed, Execution, Interrupt, execute};
pub use scheduler::{Scheduler, StepStatus};
