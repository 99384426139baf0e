//! A container as it is beside a container as it should be: every difference by name, and what repairs it.
//!
//! Must not do: ask the engine anything, or show a value that may be a secret.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HostConfig};

use super::names::{FINGERPRINT, LASTING};
use super::wanted::{Port, STOP_SIGNAL, Wanted};
use crate::model::{Deviation, FieldPath, RunState};

/// What repairs a difference, from the mildest to the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repair {
    /// Another name, while it runs.
    Rename,
    /// Other limits or another restart policy, while it runs.
    Update,
    /// Other networks, while it runs.
    Reconnect,
    /// It has to run.
    Start,
    /// Another container.
    Replace,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) deviation: Deviation,
    pub(super) repair: Repair,
}

/// A difference of some path below a container.
pub(super) fn deviation(path: &str, recorded: impl Into<String>, observed: impl Into<String>) -> Deviation {
    Deviation { path: FieldPath::new(path), recorded: recorded.into(), observed: observed.into() }
}

struct Found {
    prefix: &'static str,
    all: Vec<Difference>,
}

impl Found {
    fn add(&mut self, path: &str, recorded: impl Into<String>, observed: impl Into<String>, repair: Repair) {
        let path = format!("{}{path}", self.prefix);
        self.all.push(Difference { deviation: deviation(&path, recorded, observed), repair });
    }

    fn same(&mut self, path: &str, recorded: impl Into<String>, observed: impl Into<String>, repair: Repair) {
        let (recorded, observed) = (recorded.into(), observed.into());
        if recorded != observed {
            self.add(path, recorded, observed, repair);
        }
    }
}

/// Everything in which a container differs. Without a wanted container (a secret may not be at hand where somebody only
/// looks) only its state is looked at.
pub(super) fn differences(prefix: &'static str, wanted: Option<&Wanted>, seen: &ContainerInspectResponse) -> Vec<Difference> {
    let mut found = Found { prefix, all: Vec::new() };
    if let Some(stopped) = stopped(seen.state.as_ref()) {
        found.add("container", "running", stopped, Repair::Start);
    }
    if let Some(wanted) = wanted {
        identity(&mut found, wanted, seen);
        let host = seen.host_config.clone().unwrap_or_default();
        limits(&mut found, wanted, &host);
        surroundings(&mut found, wanted, seen, &host);
        ports(&mut found, wanted, &host);
        security(&mut found, wanted, &host);
        networks(&mut found, wanted, seen);
        process(&mut found, wanted, seen);
        let fingerprint = wanted.fingerprint();
        let label = label_of(seen, FINGERPRINT).unwrap_or("none");
        // Whatever is named above explains it; what is left is what nobody can see, such as a secret.
        if label != fingerprint.as_str() && !found.all.iter().any(|difference| difference.repair == Repair::Replace) {
            found.add("launch", shown(fingerprint.as_str()), shown(label), Repair::Replace);
        }
    }
    found.all
}

/// The value of one of a container's labels.
pub(super) fn label_of<'a>(seen: &'a ContainerInspectResponse, name: &str) -> Option<&'a str> {
    seen.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str)
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

fn identity(found: &mut Found, wanted: &Wanted, seen: &ContainerInspectResponse) {
    let name = seen.name.as_deref().unwrap_or_default().trim_start_matches('/');
    found.same("name", &wanted.name, name, Repair::Rename);
    found.same("image", shown(&wanted.image.id), shown(seen.image.as_deref().unwrap_or_default()), Repair::Replace);
    for name in LASTING {
        let recorded = wanted.labels.get(name).map_or("none", String::as_str);
        found.same(&format!("label.{name}"), recorded, label_of(seen, name).unwrap_or("none"), Repair::Replace);
    }
}

fn unlimited(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value > 0)
}

fn limits(found: &mut Found, wanted: &Wanted, host: &HostConfig) {
    let number = |value: Option<i64>| unlimited(value).map_or("no limit".to_owned(), |value| value.to_string());
    let limits = &wanted.limits;
    found.same("resources.memory", number(limits.memory), number(host.memory), Repair::Update);
    if limits.no_swap {
        found.same("resources.swap", number(limits.memory), number(host.memory_swap), Repair::Update);
    }
    let quota = match (unlimited(host.nano_cpus), unlimited(host.cpu_quota), unlimited(host.cpu_period)) {
        (None, Some(quota), period) => Some(quota * 1_000_000_000 / period.unwrap_or(100_000)),
        (nano_cpus, ..) => nano_cpus,
    };
    found.same("resources.cpus", cpus(limits.nano_cpus), cpus(quota), Repair::Update);
    if limits.processes.is_some() {
        found.same("resources.processes", number(limits.processes), number(host.pids_limit), Repair::Update);
    }
    let policy = host.restart_policy.as_ref().and_then(|policy| policy.name).map(|name| name.to_string());
    let policy = policy.filter(|name| !name.is_empty()).unwrap_or_else(|| "no".to_owned());
    found.same("restart", "unless-stopped", policy, Repair::Update);
}

fn cpus(nano: Option<i64>) -> String {
    unlimited(nano).map_or("no limit".to_owned(), |nano| {
        let milli = nano / 1_000_000;
        format!("{}.{:03}", milli / 1000, milli % 1000)
    })
}

/// What is mounted, and where the log goes.
fn surroundings(found: &mut Found, wanted: &Wanted, seen: &ContainerInspectResponse, host: &HostConfig) {
    let recorded: BTreeSet<String> = wanted.volume.iter().map(|(volume, target)| mount(volume, target)).collect();
    let mounts = seen.mounts.as_deref().unwrap_or_default();
    let observed: BTreeSet<String> = mounts
        .iter()
        .filter(|mount| mount.typ.as_deref() != Some("tmpfs"))
        .map(|seen| {
            let source = seen.name.as_deref().or(seen.source.as_deref()).unwrap_or("?");
            let read_only = if seen.rw == Some(false) { ", read only" } else { "" };
            format!("{}{read_only}", mount(source, seen.destination.as_deref().unwrap_or("?")))
        })
        .collect();
    found.same("mounts", list(&recorded), list(&observed), Repair::Replace);
    let scratch = |options: &BTreeMap<String, String>| list(&options.keys().cloned().collect());
    let observed: BTreeMap<String, String> = host.tmpfs.clone().unwrap_or_default().into_iter().collect();
    found.same("scratch", scratch(&wanted.scratch_options()), scratch(&observed), Repair::Replace);

    let log = host.log_config.clone().unwrap_or_default();
    let options: BTreeMap<String, String> = log.config.unwrap_or_default().into_iter().collect();
    let written = |driver: &str, options: &BTreeMap<String, String>| {
        let options: BTreeSet<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{driver} {}", list(&options))
    };
    let observed = written(log.typ.as_deref().unwrap_or("none"), &options);
    found.same("logging", written("json-file", &Wanted::log_options()), observed, Repair::Replace);
}

fn mount(source: &str, target: &str) -> String {
    format!("{source} at {target}")
}

fn list(items: &BTreeSet<String>) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().cloned().collect::<Vec<_>>().join("; ") }
}

/// The ports that a container publishes.
pub(super) fn published(host: &HostConfig) -> Vec<Port> {
    let bindings = host.port_bindings.clone().unwrap_or_default();
    let mut ports = Vec::new();
    for (inside, bindings) in bindings {
        let inside = inside.split('/').next().and_then(|port| port.parse().ok()).unwrap_or_default();
        for binding in bindings.unwrap_or_default() {
            let outside = binding.host_port.and_then(|port| port.parse().ok()).unwrap_or_default();
            ports.push(Port { inside, address: binding.host_ip.unwrap_or_default(), outside });
        }
    }
    ports
}

fn ports(found: &mut Found, wanted: &Wanted, host: &HostConfig) {
    let written = |ports: &[Port]| {
        let all = ports.iter().map(|port| {
            let address = if port.address.is_empty() { "0.0.0.0" } else { &port.address };
            format!("{address}:{} to {}", port.outside, port.inside)
        });
        list(&all.collect())
    };
    found.same("ports", written(&wanted.ports), written(&published(host)), Repair::Replace);
}

fn security(found: &mut Found, wanted: &Wanted, host: &HostConfig) {
    let is = |value: Option<bool>| if value.unwrap_or(false) { "yes" } else { "no" };
    found.same("privileged", "no", is(host.privileged), Repair::Replace);
    found.same("read_only", is(Some(wanted.is_read_only)), is(host.readonly_rootfs), Repair::Replace);
    let names = |names: &[String]| {
        let plain = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
        list(&names.iter().map(plain).collect())
    };
    let recorded: Vec<String> = wanted.capabilities.iter().map(|name| (*name).to_owned()).collect();
    found.same("capabilities", names(&recorded), names(host.cap_add.as_deref().unwrap_or_default()), Repair::Replace);
    let dropped = host.cap_drop.clone().unwrap_or_default();
    found.same("capabilities_dropped", names(&["ALL".to_owned()]), names(&dropped), Repair::Replace);
    let options: BTreeSet<String> = host.security_opt.iter().flatten().cloned().collect();
    found.same("security", "no-new-privileges", list(&options), Repair::Replace);
    let hosts = |hosts: &[String]| list(&hosts.iter().cloned().collect());
    found.same("hosts", hosts(&wanted.hosts), hosts(host.extra_hosts.as_deref().unwrap_or_default()), Repair::Replace);
    let devices = host.devices.iter().flatten().count();
    found.same("devices", "0", devices.to_string(), Repair::Replace);
    for (name, mode) in [("pid_mode", &host.pid_mode), ("user_namespace", &host.userns_mode)] {
        found.same(name, "own", mode.as_deref().filter(|mode| !mode.is_empty()).unwrap_or("own"), Repair::Replace);
    }
}

fn networks(found: &mut Found, wanted: &Wanted, seen: &ContainerInspectResponse) {
    let networks = seen.network_settings.as_ref().and_then(|settings| settings.networks.clone()).unwrap_or_default();
    let names: BTreeSet<String> = networks.keys().cloned().collect();
    found.same("network", &wanted.network, list(&names), Repair::Reconnect);
    if let Some(endpoint) = networks.get(&wanted.network) {
        let aliases = endpoint.aliases.clone().unwrap_or_default();
        let known = aliases.iter().chain(endpoint.dns_names.iter().flatten()).any(|alias| *alias == wanted.alias);
        if !known {
            found.add("network_alias", &wanted.alias, list(&aliases.into_iter().collect()), Repair::Reconnect);
        }
    }
}

/// What runs in it: the command line, the variables, how it is stopped and looked after.
fn process(found: &mut Found, wanted: &Wanted, seen: &ContainerInspectResponse) {
    let config = seen.config.clone().unwrap_or_default();
    if wanted.entry_point.is_some() && wanted.entry_point != config.entrypoint {
        found.add("entry_point", "ours", "another one", Repair::Replace);
    }
    if let Some(command) = &wanted.command {
        found.same("command", command.join(" "), config.cmd.clone().unwrap_or_default().join(" "), Repair::Replace);
    }
    found.same("user", wanted.image.user.as_str(), config.user.unwrap_or_default(), Repair::Replace);
    found.same("stop_signal", STOP_SIGNAL, config.stop_signal.unwrap_or_default(), Repair::Replace);
    let grace = config.stop_timeout.map_or("default".to_owned(), |seconds| seconds.to_string());
    found.same("stop_timeout", wanted.grace_s.to_string(), grace, Repair::Replace);
    let test = config.healthcheck.and_then(|health| health.test).unwrap_or_default();
    found.same("health", wanted.health.join(" "), test.join(" "), Repair::Replace);
    variables(found, wanted, &config.env.unwrap_or_default());
}

fn variables(found: &mut Found, wanted: &Wanted, seen: &[String]) {
    let parsed = |all: &[String]| -> BTreeMap<String, String> {
        all.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut recorded = parsed(&wanted.image.environment);
    recorded.extend(wanted.environment.clone());
    let observed = parsed(seen);
    for name in recorded.keys().chain(observed.keys()).collect::<BTreeSet<_>>() {
        let path = format!("variable.{name}");
        match (recorded.get(name), observed.get(name)) {
            (Some(recorded), Some(observed)) => found.same(&path, recorded, observed, Repair::Replace),
            (Some(recorded), None) => found.add(&path, recorded, "(not set)", Repair::Replace),
            // Whoever set it by hand may have put a secret there.
            (None, Some(_)) => found.add(&path, "(not set)", "(set)", Repair::Replace),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_not_to_run_are_told_apart() {
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
    fn a_value_that_somebody_set_is_not_shown() {
        let mut found = Found { prefix: "", all: Vec::new() };
        let wanted = Wanted {
            role: super::super::names::Role::Dashboard,
            name: String::new(),
            image: super::super::image::Image {
                reference: String::new(),
                id: String::new(),
                digest: None,
                environment: vec!["PATH=/bin".to_owned()],
                user: String::new(),
                revision: None,
            },
            entry_point: None,
            command: None,
            environment: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            volume: None,
            scratch: Vec::new(),
            is_read_only: false,
            capabilities: Vec::new(),
            ports: Vec::new(),
            network: String::new(),
            alias: String::new(),
            hosts: Vec::new(),
            health: Vec::new(),
            limits: super::super::wanted::Limits::default(),
            grace_s: 0,
            labels: BTreeMap::new(),
            files: None,
        };
        variables(&mut found, &wanted, &["PATH=/bin".to_owned(), "TOKEN=hunter2".to_owned()]);
        let seen: Vec<(&str, &str)> = found
            .all
            .iter()
            .map(|difference| (difference.deviation.path.as_str(), difference.deviation.observed.as_str()))
            .collect();
        assert_eq!(seen, [("variable.A", "(not set)"), ("variable.TOKEN", "(set)")]);
    }
}
