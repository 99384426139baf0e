//! Decides the exit code of an apply from what happened and what was observed afterwards. Pure.

use std::collections::BTreeMap;

use crate::api::ControlError;
use crate::apply::{Interrupt, StepOutcome, Tally};
use crate::model::{Diagnostic, Exit, Report};
use crate::plan::StepId;

/// What carrying out a plan came to.
#[derive(Debug)]
pub(crate) struct ExecutionReport {
    /// How many steps ended how.
    pub(crate) tally: Tally,
    /// How each step ended.
    pub(crate) steps: BTreeMap<StepId, StepOutcome>,
    /// What steps had to say.
    pub(crate) notices: Vec<String>,
    /// Whether the apply was interrupted.
    pub(crate) interrupt: Interrupt,
    /// Why the lease was lost, where it was.
    pub(crate) lease_lost: Option<ControlError>,
}

/// What planning again after the steps came to.
#[derive(Debug)]
pub(crate) enum Observation {
    /// Planning again was done.
    Planned {
        /// Whether it found nothing to do.
        converged: bool,
        /// What could not be observed, where the use case is about everything.
        unobserved: Option<Report>,
    },
    /// Planning again failed, so it is not known whether the project has converged.
    Failed(Report),
    /// Planning again says nothing after a failed step, an interrupt or a lost lease.
    Skipped,
}

/// How an apply ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// The exit code.
    pub(crate) exit: Exit,
    /// Whether planning again finds nothing to do; none where that is not known.
    pub(crate) converged: Option<bool>,
}

/// Decides how an apply ends. What went wrong first decides: a lost lease, an interrupt, failed steps, and only then
/// what was observed.
pub(crate) fn conclude(execution: &ExecutionReport, observation: &Observation) -> Conclusion {
    let converged = match observation {
        Observation::Planned { converged, unobserved: None } => Some(*converged),
        Observation::Planned { unobserved: Some(_), .. } | Observation::Failed(_) | Observation::Skipped => None,
    };
    let exit = if let Some(lost) = &execution.lease_lost {
        lost.report().exit
    } else if execution.interrupt != Interrupt::None {
        Exit::Interrupted
    } else if execution.tally.failed > 0 {
        Diagnostic::exit_of(failures(&execution.steps))
    } else {
        match observation {
            Observation::Planned { unobserved: Some(report), .. } | Observation::Failed(report) => report.exit,
            Observation::Planned { converged: false, .. } => Exit::Failed,
            Observation::Planned { converged: true, .. } | Observation::Skipped => Exit::Done,
        }
    };
    Conclusion { exit, converged }
}

fn failures(steps: &BTreeMap<StepId, StepOutcome>) -> impl Iterator<Item = &Diagnostic> {
    steps.values().filter_map(|outcome| match outcome {
        StepOutcome::Failed { error } => Some(error),
        StepOutcome::Done | StepOutcome::NotStarted { .. } | StepOutcome::Interrupted => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProjectName;

    fn execution(failures: &[&str], interrupt: Interrupt, lost: bool) -> ExecutionReport {
        let id = |index: usize| serde_json::from_value(serde_json::json!(format!("create:backend.b{index}"))).unwrap();
        let failed = |code: &&str| StepOutcome::Failed { error: Diagnostic::new(*code, "…") };
        let steps = failures.iter().enumerate().map(|(index, code)| (id(index), failed(code))).collect();
        let project = ProjectName::parse("p").unwrap();
        ExecutionReport {
            tally: Tally { failed: failures.len(), ..Tally::default() },
            steps,
            notices: Vec::new(),
            interrupt,
            lease_lost: lost.then_some(ControlError::LeaseLost { project }),
        }
    }

    #[test]
    fn the_first_error_decides_the_exit_code() {
        use Interrupt::{Abort, Finish, None as Never};
        let report = |exit| Report::one(exit, Diagnostic::new("…", "…"));
        let planned =
            |converged, unobserved: Option<Exit>| Observation::Planned { converged, unobserved: unobserved.map(report) };
        let failed = || Observation::Failed(report(Exit::Unreachable));
        let skipped = || Observation::Skipped;
        let ok: &[&str] = &[];
        #[rustfmt::skip]
        let table = [
            // name, failures, interrupt, lease lost, observation, exit, converged
            ("done", ok, Never, false, planned(true, None), Exit::Done, Some(true)),
            ("not converged", ok, Never, false, planned(false, None), Exit::Failed, Some(false)),
            ("a backend cannot be observed", ok, Never, false, planned(true, Some(Exit::NotAuthorised)), Exit::NotAuthorised, None),
            ("cannot plan again", ok, Never, false, failed(), Exit::Unreachable, None),
            ("a step fails", &["docker.x"], Never, false, skipped(), Exit::Failed, None),
            ("a provider is away", &["provider.unreachable"], Never, false, skipped(), Exit::Unreachable, None),
            ("failures disagree", &["provider.unreachable", "fly.token"], Never, false, skipped(), Exit::Failed, None),
            ("interrupted", ok, Finish, false, skipped(), Exit::Interrupted, None),
            ("interrupted twice", ok, Abort, false, skipped(), Exit::Interrupted, None),
            ("interrupted after a failure", &["docker.x"], Finish, false, skipped(), Exit::Interrupted, None),
            ("lease lost", ok, Never, true, skipped(), Exit::LeaseHeld, None),
            ("lease lost and interrupted", ok, Finish, true, skipped(), Exit::LeaseHeld, None),
        ];
        for (name, failures, interrupt, lost, observation, exit, converged) in table {
            let conclusion = conclude(&execution(failures, interrupt, lost), &observation);
            assert_eq!(conclusion, Conclusion { exit, converged }, "{name}");
        }
    }
}
