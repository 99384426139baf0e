//! The names of what the engine was asked for and `[backends.NAME.docker]` has no key for.
//!
//! Everything that is set counts, also what a later engine adds: what is kept or read elsewhere is listed, and not what is named.

use std::collections::BTreeSet;

use bollard::models::{ContainerConfig, EndpointSettings, HostConfig};
use serde_json::Value;

/// What is kept, read elsewhere, or means nothing once a container of ours takes the place: it has all capabilities but one dropped
/// and its root file system read-only anyway, and the cgroup namespace is the engine's default of its machine.
const READ_ELSEWHERE: [&str; 18] = [
    "AutoRemove",
    "Binds",
    "CapDrop",
    "Cgroup",
    "CgroupnsMode",
    "ConsoleSize",
    "ContainerIDFile",
    "CpuPeriod",
    "CpuQuota",
    "Dns",
    "ExtraHosts",
    "Memory",
    "Mounts",
    "NanoCpus",
    "PortBindings",
    "PublishAllPorts",
    "ReadonlyRootfs",
    "ShmSize",
];

/// The words of compose files for keys of the engine, where they are others.
const WORDS: [(&str, &str); 28] = [
    ("BlkioDeviceReadBps", "blkio_config"),
    ("BlkioDeviceReadIOps", "blkio_config"),
    ("BlkioDeviceWriteBps", "blkio_config"),
    ("BlkioDeviceWriteIOps", "blkio_config"),
    ("BlkioWeight", "blkio_config"),
    ("BlkioWeightDevice", "blkio_config"),
    ("CpuRealtimePeriod", "cpu_rt_period"),
    ("CpuRealtimeRuntime", "cpu_rt_runtime"),
    ("CpusetCpus", "cpuset"),
    ("CpusetMems", "cpuset"),
    ("DeviceRequests", "gpus"),
    ("DnsOptions", "dns_opt"),
    ("IOMaximumBandwidth", "io_maximum_bandwidth"),
    ("IOMaximumIOps", "io_maximum_iops"),
    ("IpcMode", "ipc"),
    ("LogConfig", "logging"),
    ("MaskedPaths", "security_opt"),
    ("MemoryReservation", "mem_reservation"),
    ("MemorySwap", "memswap_limit"),
    ("MemorySwappiness", "mem_swappiness"),
    ("NetworkMode", "network_mode host"),
    ("PidMode", "pid"),
    ("ReadonlyPaths", "security_opt"),
    ("RestartPolicy", "restart on-failure"),
    ("UTSMode", "uts"),
    ("UsernsMode", "userns_mode"),
    ("OomScoreAdj", "oom_score_adj"),
    ("CgroupParent", "cgroup_parent"),
];

/// Returns the names of the engine's own settings that are not as they are when nothing is said.
pub(super) fn of_host(host: &HostConfig) -> BTreeSet<String> {
    let Ok(Value::Object(settings)) = serde_json::to_value(host) else { return BTreeSet::new() };
    let memory = host.memory.unwrap_or_default();
    settings
        .iter()
        .filter(|(key, value)| !READ_ELSEWHERE.contains(&key.as_str()) && is_set(key, value, memory))
        .map(|(key, _)| {
            let word = WORDS.iter().find(|(name, _)| name == key);
            word.map_or_else(|| snake_case(key), |(_, word)| (*word).to_owned())
        })
        .collect()
}

fn is_set(key: &str, value: &Value, memory: i64) -> bool {
    let text = value.as_str().unwrap_or_default();
    match key {
        "MemorySwap" => memory > 0 && value.as_i64().is_some_and(|swap| swap != 0 && swap != memory.saturating_mul(2)),
        "MemorySwappiness" => value.as_i64().is_some_and(|swappiness| swappiness >= 0),
        "PidsLimit" => value.as_i64().is_some_and(|limit| limit > 0),
        "IpcMode" | "PidMode" | "UTSMode" | "UsernsMode" | "Isolation" => {
            !matches!(text, "" | "private" | "shareable" | "default")
        }
        "Runtime" => !matches!(text, "" | "runc" | "io.containerd.runc.v2"),
        "NetworkMode" => text == "host",
        "RestartPolicy" => value["Name"] == "on-failure",
        "LogConfig" => !matches!(value["Type"].as_str(), None | Some("" | "json-file")) || is_filled(&value["Config"]),
        // Both are lists unless an option of security has emptied them.
        "MaskedPaths" | "ReadonlyPaths" => value.as_array().is_some_and(Vec::is_empty),
        _ => is_filled(value),
    }
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// Returns `CpuShares` as `cpu_shares`.
fn snake_case(key: &str) -> String {
    let mut word = String::new();
    for letter in key.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

/// Returns the names of what a container was given in one of its networks, besides names.
pub(super) fn of_endpoint(endpoint: &EndpointSettings) -> BTreeSet<String> {
    let address = endpoint.ipam_config.clone().unwrap_or_default();
    let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    [
        ("ipv4_address", has(&address.ipv4_address)),
        ("ipv6_address", has(&address.ipv6_address)),
        ("link_local_ips", address.link_local_ips.is_some_and(|all| !all.is_empty())),
        ("links", endpoint.links.as_ref().is_some_and(|all| !all.is_empty())),
        ("driver_opts", endpoint.driver_opts.as_ref().is_some_and(|all| !all.is_empty())),
        ("gw_priority", endpoint.gw_priority.is_some_and(|priority| priority != 0)),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .map(|(name, _)| name.to_owned())
    .collect()
}

/// Returns the name of a time to stop that is longer than ours.
pub(super) fn of_stop(config: &ContainerConfig, ours: i64) -> Option<String> {
    config.stop_timeout.filter(|seconds| *seconds > ours).map(|_| "stop_grace_period".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an engine says of a container for which nothing was asked.
    fn plain() -> Value {
        serde_json::json!({
            "NetworkMode": "default", "RestartPolicy": { "Name": "unless-stopped", "MaximumRetryCount": 0 }, "AutoRemove": false,
            "LogConfig": { "Type": "json-file", "Config": {} }, "IpcMode": "private", "PidMode": "", "UTSMode": "", "UsernsMode": "",
            "CgroupnsMode": "host", "ShmSize": 67_108_864, "Runtime": "runc", "ConsoleSize": [0, 0], "Isolation": "", "Memory": 1_000,
            "MemorySwap": 2_000, "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": -1, "CpuShares": 0, "BlkioWeight": 0,
            "MaskedPaths": ["/proc/acpi"], "ReadonlyPaths": ["/proc/bus"], "Privileged": false, "GroupAdd": null, "Devices": [],
            "Binds": ["v:/convex/data"], "PortBindings": {},
        })
    }

    fn named(key: &str, value: Value) -> Vec<String> {
        let mut settings = plain();
        settings[key] = value;
        of_host(&serde_json::from_value(settings).unwrap()).into_iter().collect()
    }

    #[test]
    fn what_nobody_asked_for_is_not_named() {
        assert!(of_host(&serde_json::from_value(plain()).unwrap()).is_empty());
    }

    /// Every key that the engine's own documentation has is named when it is set, unless it is kept.
    #[test]
    fn whatever_is_set_is_named_by_the_word_of_compose_files() {
        let list = || serde_json::json!(["x"]);
        let map = || serde_json::json!({ "a": "b" });
        let throttle = || serde_json::json!([{ "Path": "/dev/sda", "Rate": 1 }]);
        for (key, value, word) in [
            ("CpuShares", 512.into(), "cpu_shares"),
            ("CgroupParent", "/x".into(), "cgroup_parent"),
            ("BlkioWeight", 300.into(), "blkio_config"),
            ("BlkioDeviceReadBps", throttle(), "blkio_config"),
            ("BlkioDeviceWriteIOps", throttle(), "blkio_config"),
            ("CpuRealtimePeriod", 1.into(), "cpu_rt_period"),
            ("CpusetCpus", "0".into(), "cpuset"),
            ("CpusetMems", "0".into(), "cpuset"),
            ("Devices", serde_json::json!([{ "PathOnHost": "/dev/fuse" }]), "devices"),
            ("DeviceCgroupRules", list(), "device_cgroup_rules"),
            ("DeviceRequests", serde_json::json!([{ "Driver": "nvidia" }]), "gpus"),
            ("MemoryReservation", 1.into(), "mem_reservation"),
            ("MemorySwap", 5_000.into(), "memswap_limit"),
            ("MemorySwappiness", 0.into(), "mem_swappiness"),
            ("OomKillDisable", true.into(), "oom_kill_disable"),
            ("Init", true.into(), "init"),
            ("PidsLimit", 500.into(), "pids_limit"),
            ("Ulimits", serde_json::json!([{ "Name": "nofile", "Soft": 1, "Hard": 1 }]), "ulimits"),
            ("LogConfig", serde_json::json!({ "Type": "json-file", "Config": { "max-size": "9m" } }), "logging"),
            ("LogConfig", serde_json::json!({ "Type": "journald", "Config": {} }), "logging"),
            ("NetworkMode", "host".into(), "network_mode host"),
            ("RestartPolicy", serde_json::json!({ "Name": "on-failure", "MaximumRetryCount": 3 }), "restart on-failure"),
            ("VolumeDriver", "nfs".into(), "volume_driver"),
            ("VolumesFrom", list(), "volumes_from"),
            ("Annotations", map(), "annotations"),
            ("CapAdd", list(), "cap_add"),
            ("DnsOptions", list(), "dns_opt"),
            ("DnsSearch", list(), "dns_search"),
            ("GroupAdd", list(), "group_add"),
            ("IpcMode", "host".into(), "ipc"),
            ("Links", list(), "links"),
            ("OomScoreAdj", (-500).into(), "oom_score_adj"),
            ("PidMode", "host".into(), "pid"),
            ("Privileged", true.into(), "privileged"),
            ("SecurityOpt", list(), "security_opt"),
            ("MaskedPaths", serde_json::json!([]), "security_opt"),
            ("StorageOpt", map(), "storage_opt"),
            ("Tmpfs", map(), "tmpfs"),
            ("UTSMode", "host".into(), "uts"),
            ("UsernsMode", "host".into(), "userns_mode"),
            ("Sysctls", map(), "sysctls"),
            ("Runtime", "runsc".into(), "runtime"),
        ] {
            assert_eq!(named(key, value), [word], "{key}");
        }
    }

    #[test]
    fn addresses_and_options_of_a_network_are_named() {
        let endpoint = |value: Value| of_endpoint(&serde_json::from_value(value).unwrap()).into_iter().collect::<Vec<_>>();
        assert!(endpoint(serde_json::json!({ "IPAddress": "172.1.0.2", "Aliases": ["a"], "IPAMConfig": {} })).is_empty());
        let fixed = serde_json::json!({ "IPAMConfig": { "IPv4Address": "172.20.0.5" }, "DriverOpts": { "a": "b" } });
        assert_eq!(endpoint(fixed), ["driver_opts", "ipv4_address"]);
    }
}
