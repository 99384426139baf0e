//! A container as it is beside a container as it should be: every difference by name, and what repairs it.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HealthConfig, HostConfig};

use super::desired::{ContainerSpec, SECOND_NS, STOP_SIGNAL};
use super::diff::{ContainerDifference, DiffBuilder, RepairKind, list};
use super::hardening::{diff_host_access, diff_mounts, diff_ports, diff_privileges};
use super::inventory::label_of;
use super::labels::{FINGERPRINT, IMMUTABLE_LABELS, LABELS_DIGEST, OWNER_LABELS, digest_of_labels};
use super::redact::{redact_arguments, redact_untrusted, redact_value};
use crate::model::{ByteSize, RunState};

/// Everything in which a container differs. Without a wanted container (a secret may not be at hand where a command only
/// looks) only its state is looked at.
pub(super) fn diff_container(
    prefix: &'static str,
    wanted: Option<&ContainerSpec>,
    seen: &ContainerInspectResponse,
) -> Vec<ContainerDifference> {
    let mut found = DiffBuilder::new(prefix);
    if let Some(stopped) = stopped(seen.state.as_ref()) {
        found.add("container", "running", stopped, RepairKind::Start);
    }
    if let Some(wanted) = wanted {
        identity(&mut found, wanted, seen);
        let host = seen.host_config.clone().unwrap_or_default();
        limits(&mut found, wanted, &host);
        diff_mounts(&mut found, wanted, seen, &host);
        diff_ports(&mut found, wanted, &host);
        diff_privileges(&mut found, wanted, &host);
        diff_host_access(&mut found, wanted, &host);
        networks(&mut found, wanted, seen);
        process(&mut found, wanted, seen);
        let fingerprint = wanted.fingerprint();
        let label = label_of(seen, FINGERPRINT).unwrap_or("none");
        // A difference that is named above explains it; what is left cannot be shown, such as a secret.
        if label != fingerprint.as_str() && !found.needs_replacement() {
            found.add("launch", shown(fingerprint.as_str()), shown(label), RepairKind::Replace);
        }
    }
    found.finish()
}

/// Whether a container runs, as far as the engine knows.
pub(super) fn run_state(state: Option<&ContainerState>) -> RunState {
    let Some(state) = state else { return RunState::Unknown };
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => RunState::Running,
        Some(ContainerStateStatusEnum::PAUSED) => RunState::Unready,
        _ => RunState::Stopped,
    }
}

/// In what way a container does not run; none when it does.
pub(super) fn stopped(state: Option<&ContainerState>) -> Option<String> {
    let state = state?;
    let code = state.exit_code.unwrap_or_default();
    let why = match state.status? {
        ContainerStateStatusEnum::RUNNING => return None,
        ContainerStateStatusEnum::PAUSED => "paused".to_owned(),
        ContainerStateStatusEnum::CREATED => match state.error.as_deref().filter(|error| !error.is_empty()) {
            Some(error) => format!("never started: {error}"),
            None => "never started".to_owned(),
        },
        ContainerStateStatusEnum::RESTARTING => format!("restarting again and again (exit code {code})"),
        ContainerStateStatusEnum::DEAD => "dead: the engine could not take it away".to_owned(),
        _ if state.oom_killed == Some(true) => format!("killed because its memory was used up (exit code {code})"),
        _ => format!("stopped (exit code {code})"),
    };
    Some(why)
}

/// Enough of a digest to tell two apart.
fn shown(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

fn identity(found: &mut DiffBuilder, wanted: &ContainerSpec, seen: &ContainerInspectResponse) {
    let name = seen.name.as_deref().unwrap_or_default().trim_start_matches('/');
    found.compare("name", &wanted.name, name, RepairKind::Rename);
    found.compare("image", shown(&wanted.image.id), shown(seen.image.as_deref().unwrap_or_default()), RepairKind::Replace);
    let digest = digest_of_labels(|name| label_of(seen, name));
    let as_made = label_of(seen, LABELS_DIGEST).is_none_or(|made| made == digest.as_str());
    for name in OWNER_LABELS.into_iter().filter(|name| !as_made || IMMUTABLE_LABELS.contains(name)) {
        let recorded = wanted.labels.get(name).map_or("none", String::as_str);
        found.compare(&format!("label.{name}"), recorded, label_of(seen, name).unwrap_or("none"), RepairKind::Replace);
    }
    for (name, value) in &wanted.extra_labels {
        found.compare(&format!("label.{name}"), value, label_of(seen, name).unwrap_or("none"), RepairKind::Replace);
    }
}

/// Shows bytes in the unit of the manifest.
fn memory(value: Option<i64>) -> String {
    let bytes = unlimited(value).and_then(|value| u64::try_from(value).ok());
    bytes.map_or("no limit".to_owned(), |bytes| ByteSize::from_bytes(bytes).to_string())
}

fn unlimited(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value > 0)
}

fn limits(found: &mut DiffBuilder, wanted: &ContainerSpec, host: &HostConfig) {
    let number = |value: Option<i64>| unlimited(value).map_or("no limit".to_owned(), |value| value.to_string());
    // An engine changes a limit where it is, and cannot lift one.
    let change = |wanted: Option<i64>| if unlimited(wanted).is_some() { RepairKind::Update } else { RepairKind::Replace };
    let limits = &wanted.limits;
    found.compare("resources.memory", memory(limits.memory), memory(host.memory), change(limits.memory));
    if limits.no_swap {
        found.compare("resources.swap", memory(limits.memory), memory(host.memory_swap), change(limits.memory));
    }
    let is_written_otherwise = unlimited(host.nano_cpus).is_none() && unlimited(host.cpu_quota).is_some();
    // Nor does it take the one way of writing it in the place of the other.
    let repair = if is_written_otherwise { RepairKind::Replace } else { change(limits.nano_cpus) };
    found.compare("resources.cpus", cpus(limits.nano_cpus), cpus(nano_cpus(host)), repair);
    if limits.processes.is_some() {
        found.compare("resources.processes", number(limits.processes), number(host.pids_limit), RepairKind::Update);
    }
    // What we never set.
    found.compare("resources.memory_reservation", "no limit", memory(host.memory_reservation), RepairKind::Replace);
    found.compare("resources.cpu_shares", "no limit", number(host.cpu_shares), RepairKind::Replace);
    let policy = host.restart_policy.as_ref().and_then(|policy| policy.name).map(|name| name.to_string());
    let policy = policy.filter(|name| !name.is_empty()).unwrap_or_else(|| "no".to_owned());
    // A container that goes away by itself takes no other policy.
    let repair = if host.auto_remove == Some(true) { RepairKind::Replace } else { RepairKind::Update };
    found.compare("restart", "unless-stopped", policy, repair);
}

/// How much processor a container may use, in billionths, whichever way that is written.
pub(super) fn nano_cpus(host: &HostConfig) -> Option<i64> {
    unlimited(host.nano_cpus).or_else(|| {
        let period = unlimited(host.cpu_period).unwrap_or(100_000);
        unlimited(host.cpu_quota).map(|quota| quota.saturating_mul(1_000_000_000) / period)
    })
}

fn cpus(nano: Option<i64>) -> String {
    unlimited(nano).map_or("no limit".to_owned(), |nano| {
        let milli = nano / 1_000_000;
        format!("{}.{:03}", milli / 1000, milli % 1000)
    })
}

fn networks(found: &mut DiffBuilder, wanted: &ContainerSpec, seen: &ContainerInspectResponse) {
    let networks = seen.network_settings.as_ref().and_then(|settings| settings.networks.clone()).unwrap_or_default();
    let names: BTreeSet<String> = networks.keys().cloned().collect();
    found.compare("network", list(&wanted.networks.iter().cloned().collect()), list(&names), RepairKind::Reconnect);
    for endpoint in wanted.networks.iter().filter_map(|name| networks.get(name)) {
        let aliases = endpoint.aliases.clone().unwrap_or_default();
        let is_known = |wanted: &String| aliases.iter().chain(endpoint.dns_names.iter().flatten()).any(|alias| alias == wanted);
        if let Some(missing) = wanted.aliases.iter().find(|alias| !is_known(alias)) {
            found.add("network_alias", missing, list(&aliases.into_iter().collect()), RepairKind::Reconnect);
            return;
        }
    }
}

/// What runs in it: the command line, the variables, how it is stopped and looked after.
fn process(found: &mut DiffBuilder, wanted: &ContainerSpec, seen: &ContainerInspectResponse) {
    let config = seen.config.clone().unwrap_or_default();
    if wanted.entry_point.is_some() && wanted.entry_point != config.entrypoint {
        found.add("entry_point", "ours", "another one", RepairKind::Replace);
    }
    if let Some(command) = &wanted.command {
        let seen = config.cmd.clone().unwrap_or_default();
        if *command != seen {
            found.add("command", command.join(" "), redact_arguments(&seen, command), RepairKind::Replace);
        }
    }
    found.compare("hostname", wanted.host_name(), config.hostname.clone().unwrap_or_default(), RepairKind::Replace);
    found.compare("user", wanted.image.user.as_str(), config.user.unwrap_or_default(), RepairKind::Replace);
    found.compare("stop_signal", STOP_SIGNAL, config.stop_signal.unwrap_or_default(), RepairKind::Replace);
    let grace = config.stop_timeout.map_or("default".to_owned(), |seconds| seconds.to_string());
    found.compare("stop_timeout", wanted.grace_s.to_string(), grace, RepairKind::Replace);
    health(found, wanted, config.healthcheck.unwrap_or_default());
    variables(found, wanted, &config.env.unwrap_or_default());
}

fn health(found: &mut DiffBuilder, wanted: &ContainerSpec, seen: HealthConfig) {
    let made = wanted.health_config();
    if seen.test.unwrap_or_default() != wanted.health {
        found.add("health", wanted.health.join(" "), "another command", RepairKind::Replace);
    }
    let seconds = |nanoseconds: Option<i64>| match unlimited(nanoseconds) {
        Some(nanoseconds) => format!("{} s", nanoseconds / SECOND_NS),
        None => "the engine's own".to_owned(),
    };
    for (path, made, seen) in [
        ("health.interval", made.interval, seen.interval),
        ("health.timeout", made.timeout, seen.timeout),
        ("health.start_period", made.start_period, seen.start_period),
    ] {
        if unlimited(made) != unlimited(seen) {
            found.add(path, seconds(made), seconds(seen), RepairKind::Replace);
        }
    }
    let retries = |count: Option<i64>| unlimited(count).map_or("the engine's own".to_owned(), |count| count.to_string());
    found.compare("health.retries", retries(made.retries), retries(seen.retries), RepairKind::Replace);
}

fn variables(found: &mut DiffBuilder, wanted: &ContainerSpec, seen: &[String]) {
    let parsed = |all: &[String]| -> BTreeMap<String, String> {
        all.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut recorded = parsed(&wanted.image.environment);
    recorded.extend(wanted.environment.clone());
    let observed = parsed(seen);
    for name in recorded.keys().chain(observed.keys()).collect::<BTreeSet<_>>() {
        let path = format!("variable.{}", redact_untrusted(name, ""));
        match (recorded.get(name), observed.get(name)) {
            (Some(recorded), Some(observed)) if recorded == observed => {}
            // Set by hand, it may hold a secret.
            (Some(recorded), Some(observed)) => found.add(&path, recorded, redact_value(observed), RepairKind::Replace),
            (Some(recorded), None) => found.add(&path, recorded, "(not set)", RepairKind::Replace),
            (None, Some(_)) => found.add(&path, "(not set)", "(set)", RepairKind::Replace),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_exited_and_failed_are_distinguished() {
        use ContainerStateStatusEnum as Status;
        let state = |status, exit_code, oom_killed, error: &str| ContainerState {
            status: Some(status),
            exit_code: Some(exit_code),
            oom_killed: Some(oom_killed),
            error: Some(error.to_owned()),
            ..ContainerState::default()
        };
        for (state, words, run) in [
            (state(Status::RUNNING, 0, false, ""), None, RunState::Running),
            (state(Status::EXITED, 0, false, ""), Some("stopped (exit code 0)"), RunState::Stopped),
            (
                state(Status::EXITED, 137, true, ""),
                Some("killed because its memory was used up (exit code 137)"),
                RunState::Stopped,
            ),
            (state(Status::RESTARTING, 7, false, ""), Some("restarting again and again (exit code 7)"), RunState::Stopped),
            (state(Status::PAUSED, 0, false, ""), Some("paused"), RunState::Unready),
            (state(Status::CREATED, 128, false, "no such network"), Some("never started: no such network"), RunState::Stopped),
            (state(Status::DEAD, 0, false, ""), Some("dead: the engine could not take it away"), RunState::Stopped),
        ] {
            assert_eq!((stopped(Some(&state)).as_deref(), run_state(Some(&state))), (words, run));
        }
    }

    #[test]
    fn a_foreign_value_is_not_shown() {
        let mut found = DiffBuilder::new("");
        let wanted = ContainerSpec {
            role: super::super::labels::ResourceRole::Dashboard,
            name: String::new(),
            image: super::super::image::Image {
                reference: String::new(),
                id: String::new(),
                digest: None,
                environment: vec!["PATH=/bin".to_owned()],
                user: String::new(),
                revision: None,
                created: None,
            },
            entry_point: None,
            command: None,
            environment: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            volume: None,
            scratch: Vec::new(),
            is_read_only: false,
            capabilities: Vec::new(),
            ports: Vec::new(),
            networks: Vec::new(),
            aliases: Vec::new(),
            hosts: Vec::new(),
            dns: Vec::new(),
            mounts: Vec::new(),
            shm_size: None,
            health: Vec::new(),
            limits: super::super::desired::ContainerLimits::default(),
            grace_s: 0,
            labels: BTreeMap::new(),
            extra_labels: BTreeMap::new(),
            files: None,
        };
        variables(&mut found, &wanted, &["PATH=/bin".to_owned(), "TOKEN=hunter2".to_owned()]);
        let all = found.finish();
        let seen: Vec<(&str, &str)> =
            all.iter().map(|difference| (difference.drift.path.as_str(), difference.drift.observed.as_str())).collect();
        assert_eq!(seen, [("variable.A", "(not set)"), ("variable.TOKEN", "(set)")]);
    }
}
