//! Detects drift: what differs from what was last applied. Changes nothing.

use super::env_file_check::CheckedEnvFile;
use crate::model::{Diagnostic, Exit, Report};
use crate::plan::{DriftItem, DriftReport, UnobservedBackend};

/// Returns the exit code of a drift report. A backend whose last change did not finish is not as it was applied, so it
/// counts as drift.
pub(crate) fn exit(report: &DriftReport) -> Exit {
    if !report.drift.is_empty() || !report.unfinished.is_empty() {
        return Exit::Drift;
    }
    unobserved(&report.unknown).map_or(Exit::Done, |report| report.exit)
}

/// Adds the env files that differ from what was written.
pub(crate) fn add_env_files(report: &mut DriftReport, files: Vec<CheckedEnvFile>) {
    for CheckedEnvFile { address, drift, .. } in files {
        report.drift.extend(drift.into_iter().map(|deviation| DriftItem::new(address.clone(), deviation)));
    }
}

/// Returns an error for what could not be observed; none where everything was. Where the reasons agree on an exit code,
/// it is theirs.
pub(crate) fn unobserved(unobserved: &[UnobservedBackend]) -> Option<Report> {
    let mut exits = unobserved.iter().map(|backend| backend.why.exit_unobserved());
    let first = exits.next()?;
    let exit = if exits.all(|exit| exit == first) { first } else { Exit::Unreachable };
    let error = |UnobservedBackend { address, why }: &UnobservedBackend| {
        let message = format!("{address} could not be observed, so it is not known whether it drifted: {}", why.message);
        Diagnostic { message, ..why.clone() }
    };
    Some(Report { exit, errors: unobserved.iter().map(error).collect() })
}
