//! What keeps a container apart from the machine: mounts, the log, ports, rights, and the spaces of its own.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, HostConfig, MountPoint};

use super::desired::{ContainerSpec, PortProtocol, PublishedPort};
use super::diff::{DiffBuilder, RepairKind, list};

/// What follows a mount that cannot be written to.
const READ_ONLY: &str = ", read only";
/// A path that every engine hides from containers unless it is told otherwise.
const ALWAYS_MASKED: &str = "/proc/kcore";
/// One that it lets them read only.
const ALWAYS_READ_ONLY: &str = "/proc/sys";

/// What is mounted, and where the log goes.
pub(super) fn diff_mounts(found: &mut DiffBuilder, wanted: &ContainerSpec, seen: &ContainerInspectResponse, host: &HostConfig) {
    let scratch: BTreeMap<String, String> = host.tmpfs.clone().unwrap_or_default().into_iter().collect();
    let own = wanted.volume.iter().map(|(volume, target)| mount(volume, target));
    let extra = wanted.mounts.iter().map(|extra| {
        let read_only = if extra.is_read_only { READ_ONLY } else { "" };
        format!("{}{read_only}", mount(&extra.source, &extra.target))
    });
    let recorded: BTreeSet<String> = own.chain(extra).collect();
    let mounts = seen.mounts.as_deref().unwrap_or_default();
    let is_scratch = |mount: &MountPoint| {
        mount.typ.as_deref() == Some("tmpfs") && mount.destination.as_ref().is_some_and(|path| scratch.contains_key(path))
    };
    let observed: BTreeSet<String> = mounts
        .iter()
        .filter(|mount| !is_scratch(mount))
        .map(|seen| {
            let named = [&seen.name, &seen.source, &seen.typ].into_iter().flatten().find(|text| !text.is_empty());
            let read_only = if seen.rw == Some(false) { READ_ONLY } else { "" };
            let source = named.map_or("?", String::as_str);
            format!("{}{read_only}", mount(source, seen.destination.as_deref().unwrap_or("?")))
        })
        .collect();
    found.compare("mounts", list(&recorded), list(&observed), RepairKind::Replace);
    let written = |all: &BTreeMap<String, String>| {
        list(&all.iter().map(|(path, options)| format!("{path} {}", if options.is_empty() { "-" } else { options })).collect())
    };
    found.compare("scratch", written(&wanted.scratch_options()), written(&scratch), RepairKind::Replace);
    logging(found, host);
}

fn logging(found: &mut DiffBuilder, host: &HostConfig) {
    let log = host.log_config.clone().unwrap_or_default();
    let options: BTreeMap<String, String> = log.config.unwrap_or_default().into_iter().collect();
    let ours = ContainerSpec::log_options();
    let driver = log.typ.as_deref().unwrap_or("none");
    if driver == "json-file" && options == ours {
        return;
    }
    // Other drivers have tokens among their options.
    let option = |(name, value): (&String, &String)| match ours.contains_key(name) {
        true => format!("{name}={value}"),
        false => format!("{name}=(set)"),
    };
    let written = |options: &BTreeMap<String, String>| list(&options.iter().map(option).collect());
    found.add(
        "logging",
        format!("json-file {}", written(&ours)),
        format!("{driver} {}", written(&options)),
        RepairKind::Replace,
    );
}

fn mount(source: &str, target: &str) -> String {
    format!("{source} at {target}")
}

/// The ports that a container publishes.
pub(super) fn published_ports(host: &HostConfig) -> Vec<PublishedPort> {
    let bindings = host.port_bindings.clone().unwrap_or_default();
    let mut ports = Vec::new();
    for (name, bindings) in bindings {
        let inside = name.split('/').next().and_then(|port| port.parse().ok()).unwrap_or_default();
        for binding in bindings.unwrap_or_default() {
            let outside = binding.host_port.and_then(|port| port.parse().ok()).unwrap_or_default();
            let address = binding.host_ip.unwrap_or_default();
            ports.push(PublishedPort { inside, transport: PortProtocol::of(&name), address, outside });
        }
    }
    ports
}

/// Which ports are published, and where.
pub(super) fn diff_ports(found: &mut DiffBuilder, wanted: &ContainerSpec, host: &HostConfig) {
    let written = |ports: &[PublishedPort]| {
        let all = ports.iter().map(|port| {
            let address = if port.address.is_empty() { "0.0.0.0" } else { &port.address };
            let transport = match port.transport {
                PortProtocol::Tcp => String::new(),
                other => format!("/{}", other.as_str()),
            };
            format!("{address}:{} to {}{transport}", port.outside, port.inside)
        });
        list(&all.collect())
    };
    found.compare("ports", written(&wanted.ports), written(&published_ports(host)), RepairKind::Replace);
    found.compare("publish_all_ports", "no", yes(host.publish_all_ports), RepairKind::Replace);
}

fn yes(value: Option<bool>) -> &'static str {
    if value.unwrap_or(false) { "yes" } else { "no" }
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    list(&names.into_iter().cloned().collect())
}

/// The rights of its processes.
pub(super) fn diff_privileges(found: &mut DiffBuilder, wanted: &ContainerSpec, host: &HostConfig) {
    found.compare("privileged", "no", yes(host.privileged), RepairKind::Replace);
    found.compare("read_only", yes(Some(wanted.is_read_only)), yes(host.readonly_rootfs), RepairKind::Replace);
    let capabilities = |names: &[String]| {
        let plain = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
        list(&names.iter().map(plain).collect())
    };
    let recorded: Vec<String> = wanted.capabilities.iter().map(|name| (*name).to_owned()).collect();
    let added = capabilities(host.cap_add.as_deref().unwrap_or_default());
    found.compare("capabilities", capabilities(&recorded), added, RepairKind::Replace);
    let dropped = capabilities(host.cap_drop.as_deref().unwrap_or_default());
    found.compare("capabilities_dropped", "ALL", dropped, RepairKind::Replace);
    // A profile is given as a whole.
    let profile = |option: &String| match option.split_once(['=', ':']) {
        Some((name, value)) if value.len() > 40 => format!("{name}=(another)"),
        _ => option.clone(),
    };
    let options: BTreeSet<String> = host.security_opt.iter().flatten().map(profile).collect();
    found.compare("security", "no-new-privileges", list(&options), RepairKind::Replace);
    // An engine that does not say what it hides is asked for nothing.
    for (path, list, always) in
        [("masked_paths", &host.masked_paths, ALWAYS_MASKED), ("readonly_paths", &host.readonly_paths, ALWAYS_READ_ONLY)]
    {
        if let Some(paths) = list.as_ref().filter(|paths| !paths.iter().any(|path| path == always)) {
            found.add(path, "the engine's own", names(paths), RepairKind::Replace);
        }
    }
    found.compare("groups", "none", names(host.group_add.iter().flatten()), RepairKind::Replace);
}

/// What of the machine it sees that it should not, and what it has that we never set.
pub(super) fn diff_host_access(found: &mut DiffBuilder, wanted: &ContainerSpec, host: &HostConfig) {
    found.compare("hosts", names(&wanted.hosts), names(host.extra_hosts.iter().flatten()), RepairKind::Replace);
    let wanted_dns = if wanted.dns.is_empty() { "the engine's own".to_owned() } else { names(&wanted.dns) };
    found.compare("dns", wanted_dns, dns(host), RepairKind::Replace);
    if let Some(size) = wanted.shm_size {
        found.compare("shm_size", size.to_string(), host.shm_size.unwrap_or_default().to_string(), RepairKind::Replace);
    }
    let count = |count: usize| count.to_string();
    found.compare("devices", "0", count(host.devices.iter().flatten().count()), RepairKind::Replace);
    found.compare("device_requests", "0", count(host.device_requests.iter().flatten().count()), RepairKind::Replace);
    found.compare("device_cgroup_rules", "none", names(host.device_cgroup_rules.iter().flatten()), RepairKind::Replace);
    found.compare("init", "no", yes(host.init), RepairKind::Replace);
    let sysctls: BTreeSet<String> = host.sysctls.iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    found.compare("sysctls", "none", list(&sysctls), RepairKind::Replace);
    found.compare("oom_kill", "yes", if host.oom_kill_disable == Some(true) { "no" } else { "yes" }, RepairKind::Replace);
    let all = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "all".to_owned());
    found.compare("cpuset", "all", all(&host.cpuset_cpus), RepairKind::Replace);
    found.compare("cpuset_mems", "all", all(&host.cpuset_mems), RepairKind::Replace);
    for (name, mode) in [
        ("pid_mode", host.pid_mode.as_deref()),
        ("user_namespace", host.userns_mode.as_deref()),
        ("uts_mode", host.uts_mode.as_deref()),
        // Engines differ in what they call one of its own.
        ("ipc_mode", host.ipc_mode.as_deref().filter(|mode| *mode == "host" || mode.starts_with("container:"))),
        ("cgroup_parent", host.cgroup_parent.as_deref()),
    ] {
        found.compare(name, "own", mode.filter(|mode| !mode.is_empty()).unwrap_or("own"), RepairKind::Replace);
    }
}

fn dns(host: &HostConfig) -> String {
    let all: Vec<&String> =
        host.dns.iter().flatten().chain(host.dns_search.iter().flatten()).chain(host.dns_options.iter().flatten()).collect();
    if all.is_empty() { "the engine's own".to_owned() } else { names(all) }
}
