//! Use cases: plan, apply, archive, destroy, provision, deprovision, drift, status, wait.
//!
//! A shell hands over a control plane, a manifest and options, and gets data back. What happens meanwhile goes to a
//! [`Reporter`]; what a person has to decide is asked of an [`Approver`]. The command line is such a shell.
//!
//! Must not do: print, parse arguments, or ask on a terminal.

mod apply;
mod apply_report;
pub(crate) mod archive;
pub(crate) mod deprovision;
pub(crate) mod destroy;
pub(crate) mod discovery;
pub(crate) mod drift;
pub(crate) mod env_file_check;
pub(crate) mod env_files;
mod error;
pub(crate) mod fix;
pub(crate) mod lifecycle;
mod manifest;
mod outcome;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod provision;
mod reach;
pub(crate) mod releases;
pub(crate) mod saved_plan;
pub(crate) mod secrets;
mod select;
mod session;
pub(crate) mod status;
pub(crate) mod wait;

use std::collections::BTreeSet;

use tokio::sync::watch;

pub(crate) use self::apply::{ApplyOptions, ApplyRun, Role};
pub(crate) use self::apply_report::{ApplyOutcome, ready_backends, unchanged_event};
pub(crate) use self::error::AppError;
pub(crate) use self::manifest::{LoadedManifest, ManifestFile};
pub(crate) use self::reach::mark_unreached;
pub(crate) use self::select::{check_ownership, require_ownership, select_backend};
pub(crate) use self::session::Session;
use crate::apply::{Event, Interrupt};
use crate::model::BackendName;
use crate::plan::Plan;

/// Receives what happens while a use case runs.
pub(crate) trait Reporter: Send + Sync {
    /// Shows the plan that is about to be carried out.
    fn planned(&self, plan: &Plan);
    /// Shows a plan that is refused; the reasons follow as the error of the use case.
    fn refused(&self, plan: &Plan);
    /// Reports an event, in order.
    fn event(&self, event: &Event);
    /// Reports a line that belongs to no step, such as that a lease is waited for.
    fn notice(&self, text: &str);
    /// Ends the live part of the report: no more events of steps follow.
    fn steps_ended(&self);
}

/// Decides what only a person can decide.
pub(crate) trait Approver: Send + Sync {
    /// Approves a plan in which every destruction was allowed by name.
    ///
    /// # Errors
    /// Why it is not approved; nothing has been done then.
    fn approve(&self, plan: &Plan) -> Result<(), AppError>;

    /// Asks for the names of backends that may be destroyed, and returns those that were given.
    fn confirm_destruction(&self, plan: &Plan, backends: &BTreeSet<BackendName>) -> BTreeSet<BackendName>;

    /// Returns the channel on which an interrupt arrives. `on_abort` says what a second interrupt leaves behind.
    fn interrupts(&self, on_abort: &'static str) -> watch::Receiver<Interrupt>;
}
