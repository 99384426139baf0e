//! What an apply reports at its end.

use std::collections::BTreeMap;

use super::AppError;
use super::outcome::Conclusion;
use crate::apply::{Event, EventKind, ReadyBackend, StepOutcome, Tally};
use crate::host::EMBEDDED;
use crate::model::{
    BackendName, BackendSpec, DatabaseReclaim, Diagnostic, Endpoints, Exit, Phase, Report, Snapshot, VolumeReclaim,
    is_local_url,
};
use crate::plan::{BackendSelection, Plan, PlanOptions, Step, StepId};

/// Says how an apply ended.
#[derive(Debug)]
pub(crate) struct ApplyOutcome {
    /// The exit code.
    pub(crate) exit: Exit,
    /// Why it did not end well.
    pub(super) errors: Vec<Diagnostic>,
    /// The plan that was carried out, or that had nothing to do.
    pub(crate) plan: Plan,
    /// How its steps ended; empty where there was nothing to do.
    pub(crate) steps: BTreeMap<StepId, StepOutcome>,
    /// What was observed at the end.
    pub(crate) snapshot: Option<Snapshot>,
    /// The backends that are ready, and whether their URLs lead to them.
    pub(crate) ready: Vec<ReadyBackend>,
    /// What steps had to say, such as what they left where it is.
    pub(crate) notices: Vec<String>,
    /// What could not be observed when everything else was done, or why the rest was left.
    pub(super) unobserved: Option<Report>,
}

impl ApplyOutcome {
    /// Returns the exit code; what could not be observed is an error, because no step has reported it.
    ///
    /// # Errors
    /// What could not be observed.
    pub(crate) fn into_exit(self) -> Result<Exit, AppError> {
        self.unobserved.map_or(Ok(self.exit), |report| Err(AppError::from(report)))
    }

    /// Turns an outcome that is not [`Exit::Done`] into an error.
    ///
    /// # Errors
    /// Everything that went wrong.
    pub(crate) fn into_result(self) -> Result<Self, AppError> {
        if self.exit == Exit::Done {
            return Ok(self);
        }
        let mut errors = self.errors;
        errors.extend(self.unobserved.into_iter().flat_map(|report| report.errors));
        Err(AppError::from(Report { exit: self.exit, errors }))
    }

    /// Returns whether everything could be observed at the end.
    pub(crate) fn is_observed(&self) -> bool {
        self.unobserved.is_none()
    }

    /// Returns whether there was nothing to do.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.plan.is_empty()
    }
}

/// Returns the backends that are ready, and where they are.
pub(crate) fn ready_backends(snapshot: &Snapshot) -> Vec<ReadyBackend> {
    let ready = snapshot.backends.iter().filter(|found| found.phase == Phase::Ready && !found.recorded.is_record_only());
    ready
        .filter_map(|found| {
            let Endpoints { url, site_url } = found.endpoints.clone()?;
            let forward = needs_forward(&found.recorded, &url).then(|| format!("convexinfra forward {}", found.name));
            Some(ReadyBackend { name: found.name.clone(), url, site_url, unreached: None, reached_at: None, forward })
        })
        .collect()
}

/// Returns whether a URL names this machine while the backend is elsewhere: on a server, or in a cluster.
fn needs_forward(spec: &BackendSpec, url: &str) -> bool {
    spec.is_forwardable() && is_local_url(url)
}

/// Says that every step was done and that the result could not be observed.
pub(super) fn observe_failed(error: &AppError) -> Report {
    let Report { exit, mut errors } = error.report();
    for error in &mut errors {
        error.message = format!("every step is done, but the result could not be observed: {}", error.message);
    }
    Report { exit, errors }
}

/// Says what a second interrupt leaves behind.
pub(super) fn interrupt_message(plan: &Plan) -> &'static str {
    if continues_remotely(plan) {
        "disconnected; the control plane continues what it has started, and `convexinfra status` shows it\n"
    } else {
        "left as it is; run the same command again to go on\n"
    }
}

/// Returns whether operations that have begun go on without this process.
fn continues_remotely(plan: &Plan) -> bool {
    plan.control_plane != EMBEDDED
}

/// Lists why an apply did not end well, for a command that reports it as its own error.
pub(super) fn errors(plan: &Plan, steps: &BTreeMap<StepId, StepOutcome>, conclusion: &Conclusion) -> Vec<Diagnostic> {
    let failed = |step: &Step| match steps.get(&step.id) {
        Some(StepOutcome::Failed { error }) => {
            Some(Diagnostic { message: format!("{}: {}", step.address, error.message), ..error.clone() })
        }
        _ => None,
    };
    let mut errors: Vec<Diagnostic> = plan.steps.iter().filter_map(failed).collect();
    match conclusion.exit {
        Exit::Interrupted => errors.push(
            Diagnostic::new("apply.interrupted", "interrupted before everything was done; what is done stays done").with_help(
                if continues_remotely(plan) {
                    "the control plane continues what it has started; look at it with\n    convexinfra status\nand run the same command again for the rest"
                } else {
                    "run the same command again to go on"
                },
            ),
        ),
        Exit::Failed if errors.is_empty() && conclusion.converged == Some(false) => errors.push(
            Diagnostic::new("apply.not_converged", "every step is done, and planning again still finds something to do")
                .with_help("see what with\n    convexinfra plan"),
        ),
        _ => {}
    }
    errors
}

/// Returns the event that ends an apply with nothing to do.
pub(crate) fn unchanged_event(outcome: &ApplyOutcome) -> Event {
    let backends = outcome.ready.clone();
    let converged = outcome.is_observed().then_some(true);
    EventKind::Finished { tally: Tally::default(), exit: outcome.exit, converged, backends }.into()
}

/// Returns the one command that allows everything that the plan destroys.
pub(super) fn command_allowing_all(planned: &Plan, intent: &PlanOptions, approved: bool) -> String {
    let names =
        |names: &mut dyn Iterator<Item = &BackendName>, gap: &str| names.map(ToString::to_string).collect::<Vec<_>>().join(gap);
    let mut command = match &intent.selection {
        BackendSelection::Only(named) if intent.destroy => format!("convexinfra destroy {}", names(&mut named.iter(), " ")),
        _ if intent.destroy => "convexinfra destroy".to_owned(),
        _ => "convexinfra apply".to_owned(),
    };
    if intent.volume_reclaim == VolumeReclaim::Retain {
        command.push_str(" --keep-data");
    }
    match intent.database_reclaim {
        DatabaseReclaim::Retain => {}
        DatabaseReclaim::Delete => command.push_str(" --with-database"),
        DatabaseReclaim::DeleteWithFiles => command.push_str(" --with-database --with-files"),
    }
    if intent.skip_final_snapshot {
        command.push_str(" --no-last-snapshot");
    }
    if approved {
        command.push_str(" --yes");
    }
    format!("if all of this is meant\n    {command} --allow-destroy {}", names(&mut planned.destroyed().into_iter(), ","))
}
