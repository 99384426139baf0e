//! Looking at a backend: everything that belongs to it, at once, and where that differs from what was last applied.
//!
//! Must not do: change anything, or take a look that failed for nothing being there.

use std::collections::BTreeMap;

use futures_util::future::{try_join, try_join4};

use super::addresses::missing_addresses;
use super::api_types::{AppSecrets, IpAssignments, Machine, Volume};
use super::app_secrets::SECRET_KEY_PREFIX;
use super::apps::{AppReconciler, ORG_KEY};
use super::desired::{CONFIG_DIGEST_KEY, MachineSpec, SECRETS_DIGEST_KEY, VOLUME_NAME};
use super::drift::{UNREPORTED_CHECKS, config_drift, extra_machines, unreported_fields};
use super::error::FlyError;
use super::images::{BACKEND_IMAGE_KEYS, recorded_image};
use super::volumes::VolumeChoice;
use super::{dashboard, desired, requests};
use crate::model::{DataState, FieldDrift, Observation, RunState, UNMANAGED_PREFIX};

/// Looks at a backend.
pub(super) async fn observe(work: &AppReconciler<'_>) -> Result<Observation, FlyError> {
    let placement = work.placement;
    let wanted = desired::backend_spec(placement)?;
    let lost = if placement.has_been_ready && wanted.keeps_data { DataState::Missing } else { DataState::None };
    let Some(app) = work.find_app().await? else {
        return Ok(Observation { state: RunState::Absent, data: lost, drift: Vec::new(), notes: Vec::new() });
    };
    let look = try_join4(
        work.client.get::<IpAssignments>(requests::list_addresses(&work.app)),
        work.client.get::<AppSecrets>(requests::list_secrets(&work.app)),
        work.list_volumes(),
        work.list_machines(),
    );
    let ((addresses, secrets, volumes, machines), mut others) = try_join(look, dashboard::drift(work)).await?;
    work.verify_ownership(&app, placement.provider_state.get(ORG_KEY).map(String::as_str), &machines, false)?;

    let mut deviations: Vec<FieldDrift> = missing_addresses(&addresses)
        .into_iter()
        .map(|kind| FieldDrift::new(format!("addresses.{kind}"), "assigned", "missing"))
        .collect();
    deviations.extend(secret_drift(work, &wanted, &secrets));
    let all = volumes.clone();
    let (volume, data) = match work.choose_volume(volumes, &machines)? {
        VolumeChoice::One(volume, _) => (Some(*volume), DataState::Present),
        VolumeChoice::None => (None, lost),
    };
    let ours = work.find_own_machine(&machines, wanted.machine)?;
    deviations.extend(size_drift(&wanted, volume.as_ref()));
    for extra in all.iter().filter(|extra| Some(&extra.id) != volume.as_ref().map(|volume| &volume.id)) {
        let whose = if extra.name == VOLUME_NAME { "" } else { UNMANAGED_PREFIX };
        deviations.push(FieldDrift::new(format!("{whose}volumes.{}", extra.id), "absent", "present"));
    }
    deviations.extend(extra_machines(work, "", &machines, ours));
    // Of a machine it is said below.
    if let Some(volume) =
        volume.as_ref().filter(|volume| !volume.is_host_reachable() && ours.is_none_or(Machine::is_host_reachable))
    {
        deviations.push(FieldDrift::new("host", "ok", volume.host_status.clone().unwrap_or_default()));
    }
    let Some(machine) = ours else {
        deviations.push(FieldDrift::new("machine", "running", "absent"));
        deviations.append(&mut others);
        return Ok(Observation { state: RunState::Absent, data, drift: deviations, notes: Vec::new() });
    };
    deviations.extend(machine_drift(work, &wanted, machine, volume.as_ref()));
    deviations.append(&mut others);
    let mut state = match &volume {
        Some(volume) if !volume.is_host_reachable() => RunState::Unready,
        _ => run_state(work, machine),
    };
    let notes = work.pending_certificates(&wanted.custom_hosts).await?;
    if state == RunState::Running && !notes.is_empty() {
        // Clients do not reach it by the name that they were given.
        state = RunState::Unready;
    }
    Ok(Observation { state, data, drift: deviations, notes })
}

fn run_state(work: &AppReconciler<'_>, machine: &Machine) -> RunState {
    let health = machine.health_checks();
    // Checks that are not listed have not passed, unless the server is known to list none.
    let passing = match health.is_empty() {
        true => unreported_fields(work.placement).contains(UNREPORTED_CHECKS),
        false => health.iter().all(|check| check.status == "passing"),
    };
    match machine.state.as_str() {
        _ if !machine.is_host_reachable() => RunState::Unready,
        "started" if passing => RunState::Running,
        "stopped" | "suspended" | "failed" | "launch_failed" | "created" => RunState::Stopped,
        _ => RunState::Unready,
    }
}

/// Secrets that are missing or were set by another client. Fly shows only digests of their values.
fn secret_drift(work: &AppReconciler<'_>, wanted: &MachineSpec, secrets: &AppSecrets) -> Vec<FieldDrift> {
    let digests: BTreeMap<&str, &str> = secrets.digests();
    let noted = |name: &str| work.placement.provider_state.get(&format!("{SECRET_KEY_PREFIX}{name}"));
    let mut found = Vec::new();
    for name in wanted.secrets.keys() {
        match (digests.get(name.as_str()), noted(name)) {
            (None, _) => found.push(FieldDrift::new(format!("secrets.{name}"), "set", "missing")),
            (Some(digest), Some(noted)) if digest != noted => {
                found.push(FieldDrift::new(format!("secrets.{name}"), "as set", "set to something else"));
            }
            _ => {}
        }
    }
    found
}

fn size_drift(wanted: &MachineSpec, volume: Option<&Volume>) -> Option<FieldDrift> {
    let (gb, volume) = (wanted.volume_gb?, volume?);
    // A larger one stays: volumes do not shrink.
    (volume.size_gb != 0 && volume.size_gb < gb)
        .then(|| FieldDrift::new("volume.size", format!("{gb} GiB"), format!("{} GiB", volume.size_gb)))
}

fn machine_drift(
    work: &AppReconciler<'_>,
    wanted: &MachineSpec,
    machine: &Machine,
    volume: Option<&Volume>,
) -> Vec<FieldDrift> {
    if !machine.is_host_reachable() {
        // Nothing else is known of it, and nothing else matters.
        let status = machine.host_status.clone().unwrap_or_default();
        return vec![FieldDrift::new("host", "ok", status)];
    }
    let mut found = Vec::new();
    match machine.state.as_str() {
        "stopped" | "suspended" | "failed" | "launch_failed" | "created" => {
            found.push(FieldDrift::new("machine.state", "started", machine.state.clone()));
        }
        _ => {}
    }
    if !machine.region.is_empty() && !wanted.allows_region(&machine.region) {
        found.push(FieldDrift::new("region", wanted.regions.join(", "), machine.region.clone()));
    }
    let image = recorded_image(work.placement, BACKEND_IMAGE_KEYS);
    let volume = volume.map(|volume| volume.id.as_str());
    for difference in config_drift(work.placement, wanted, image.as_ref(), machine, volume) {
        // Digests say nothing to people.
        let (recorded, observed) = match difference.path.strip_prefix("metadata.") {
            Some(CONFIG_DIGEST_KEY | SECRETS_DIGEST_KEY) => ("as applied".to_owned(), "another".to_owned()),
            _ => (difference.desired, difference.observed.unwrap_or_else(|| "missing".to_owned())),
        };
        found.push(FieldDrift::new(difference.path, recorded, observed));
    }
    found
}
