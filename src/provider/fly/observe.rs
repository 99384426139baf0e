//! Looking at a backend: everything that belongs to it, at once, and where that differs from what was last applied.
//!
//! Must not do: change anything, or take a look that failed for nothing being there.

use std::collections::BTreeMap;

use futures_util::future::{try_join, try_join4};

use super::answers::{Addresses, Machine, Secrets, Volume};
use super::apps::{ORGANISATION, SECRET, Work, missing_addresses};
use super::ensure::{CHECKS, differing, unsaid};
use super::error::FlyError;
use super::images::{BACKEND_NOTES, noted};
use super::volumes::Found;
use super::wanted::{CONFIGURATION, SECRETS, VOLUME, Wanted};
use super::{calls, dashboard, wanted};
use crate::model::{Data, Deviation, FOREIGN, FieldPath, Observation, RunState};

fn deviation(path: impl Into<String>, recorded: impl Into<String>, observed: impl Into<String>) -> Deviation {
    Deviation { path: FieldPath::new(path), recorded: recorded.into(), observed: observed.into() }
}

/// Looks at a backend.
pub(super) async fn observe(work: &Work<'_>) -> Result<Observation, FlyError> {
    let placement = work.placement;
    let wanted = wanted::backend(placement)?;
    let lost = if placement.has_been_ready && wanted.keeps_data { Data::Missing } else { Data::None };
    let Some(app) = work.find_app().await? else {
        return Ok(Observation { state: RunState::Absent, data: lost, deviations: Vec::new(), notes: Vec::new() });
    };
    let look = try_join4(
        work.client.get::<Addresses>(calls::addresses(&work.app)),
        work.client.get::<Secrets>(calls::secrets(&work.app)),
        work.volumes(),
        work.machines(),
    );
    let ((addresses, secrets, volumes, machines), mut others) = try_join(look, dashboard::deviations(work)).await?;
    work.prove(&app, placement.references.get(ORGANISATION).map(String::as_str), &machines)?;

    let mut deviations: Vec<Deviation> = missing_addresses(&addresses)
        .into_iter()
        .map(|kind| deviation(format!("addresses.{kind}"), "assigned", "missing"))
        .collect();
    deviations.extend(secret_deviations(work, &wanted, &secrets));
    let all = volumes.clone();
    let (volume, data) = match work.choose(volumes, &machines)? {
        Found::One(volume, _) => (Some(*volume), Data::Present),
        Found::None => (None, lost),
    };
    let ours = work.ours(&machines, wanted.machine)?;
    deviations.extend(size_deviation(&wanted, volume.as_ref()));
    for extra in all.iter().filter(|extra| Some(&extra.id) != volume.as_ref().map(|volume| &volume.id)) {
        let whose = if extra.name == VOLUME { "" } else { FOREIGN };
        deviations.push(deviation(format!("{whose}volumes.{}", extra.id), "absent", "present"));
    }
    deviations.extend(extra_machines(work, "", &machines, ours));
    // Of a machine it is said below.
    if let Some(volume) = volume.as_ref().filter(|volume| !volume.host_answers() && ours.is_none_or(Machine::host_answers)) {
        deviations.push(deviation("host", "ok", volume.host_status.clone().unwrap_or_default()));
    }
    let Some(machine) = ours else {
        deviations.push(deviation("machine", "running", "absent"));
        deviations.append(&mut others);
        return Ok(Observation { state: RunState::Absent, data, deviations, notes: Vec::new() });
    };
    deviations.extend(machine_deviations(work, &wanted, machine, volume.as_ref()));
    deviations.append(&mut others);
    let mut state = match &volume {
        Some(volume) if !volume.host_answers() => RunState::Unready,
        _ => run_state(work, machine),
    };
    let notes = work.pending_certificates(&wanted.hosts).await?;
    if state == RunState::Running && !notes.is_empty() {
        // Clients do not reach it by the name that they were given.
        state = RunState::Unready;
    }
    Ok(Observation { state, data, deviations, notes })
}

/// The machines that are there beside the one that belongs there: ours are in excess, and others' are named and left.
pub(super) fn extra_machines(work: &Work<'_>, of: &str, machines: &[Machine], ours: Option<&Machine>) -> Vec<Deviation> {
    let extra = machines.iter().filter(|extra| Some(&extra.id) != ours.map(|ours| &ours.id));
    extra
        .map(|extra| {
            let whose = if work.is_strange(extra) { FOREIGN } else { "" };
            deviation(format!("{whose}{of}machines.{}", extra.id), "absent", extra.state.clone())
        })
        .collect()
}

fn run_state(work: &Work<'_>, machine: &Machine) -> RunState {
    let health = machine.health();
    // Checks that are not listed have not passed, unless the server is known to list none.
    let passing = match health.is_empty() {
        true => unsaid(work.placement).contains(CHECKS),
        false => health.iter().all(|check| check.status == "passing"),
    };
    match machine.state.as_str() {
        _ if !machine.host_answers() => RunState::Unready,
        "started" if passing => RunState::Running,
        "stopped" | "suspended" | "failed" | "launch_failed" | "created" => RunState::Stopped,
        _ => RunState::Unready,
    }
}

/// Secrets that are missing or were set by somebody else. Nobody sees their values, only digests that Fly makes.
fn secret_deviations(work: &Work<'_>, wanted: &Wanted, secrets: &Secrets) -> Vec<Deviation> {
    let digests: BTreeMap<&str, &str> = secrets.digests();
    let noted = |name: &str| work.placement.references.get(&format!("{SECRET}{name}"));
    let mut found = Vec::new();
    for name in wanted.secrets.keys() {
        match (digests.get(name.as_str()), noted(name)) {
            (None, _) => found.push(deviation(format!("secrets.{name}"), "set", "missing")),
            (Some(digest), Some(noted)) if digest != noted => {
                found.push(deviation(format!("secrets.{name}"), "as set", "set to something else"));
            }
            _ => {}
        }
    }
    found
}

fn size_deviation(wanted: &Wanted, volume: Option<&Volume>) -> Option<Deviation> {
    let (gb, volume) = (wanted.volume_gb?, volume?);
    // A larger one stays: volumes do not shrink.
    (volume.size_gb != 0 && volume.size_gb < gb)
        .then(|| deviation("volume.size", format!("{gb} GiB"), format!("{} GiB", volume.size_gb)))
}

fn machine_deviations(work: &Work<'_>, wanted: &Wanted, machine: &Machine, volume: Option<&Volume>) -> Vec<Deviation> {
    if !machine.host_answers() {
        // Nothing else is known of it, and nothing else matters.
        let status = machine.host_status.clone().unwrap_or_default();
        return vec![deviation("host", "ok", status)];
    }
    let mut found = Vec::new();
    match machine.state.as_str() {
        "stopped" | "suspended" | "failed" | "launch_failed" | "created" => {
            found.push(deviation("machine.state", "started", machine.state.clone()));
        }
        _ => {}
    }
    if !machine.region.is_empty() && !wanted.allows(&machine.region) {
        found.push(deviation("region", wanted.regions.join(", "), machine.region.clone()));
    }
    let image = noted(work.placement, BACKEND_NOTES);
    let volume = volume.map(|volume| volume.id.as_str());
    for difference in differing(work.placement, wanted, image.as_ref(), machine, volume) {
        // Digests say nothing to people.
        let (recorded, observed) = match difference.path.strip_prefix("metadata.") {
            Some(CONFIGURATION | SECRETS) => ("as applied".to_owned(), "another".to_owned()),
            _ => (difference.wanted, difference.seen.unwrap_or_else(|| "missing".to_owned())),
        };
        found.push(deviation(difference.path, recorded, observed));
    }
    found
}
