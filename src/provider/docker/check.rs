//! What is true of a server, found out without changing anything there: its engine, its room, its ports, its names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::Serialize;

use super::volume_users::name_in;
use super::{Docker, proxy};
use crate::model::{Diagnostic, Server};
use crate::provider::ProviderError;

/// Below this much free disk, images and data soon fail to be written, in kibibytes.
const LOW_DISK_KIB: u64 = 5 << 20;
/// With less memory than this a backend and its proxy do not run well, in bytes.
const LOW_MEMORY: u64 = 1 << 30;
/// How far two clocks may be apart: leases and authorities go by them.
const CLOCKS_APART: Duration = Duration::from_secs(30);
/// How long a name may take to be looked up.
const LOOKUP_WITHIN: Duration = Duration::from_secs(10);

/// What is true of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// The address at which SSH reached it, as the server sees it.
    pub address: Option<IpAddr>,
    /// How the engine is reached: `socket`, or `dial-stdio`.
    pub way: &'static str,
    /// The version of its engine.
    pub engine: Option<String>,
    /// The identity of its engine.
    pub engine_id: Option<String>,
    /// The system that it runs.
    pub system: Option<String>,
    /// Whether its engine runs without the rights of root.
    pub rootless: bool,
    /// Processors.
    pub cpus: Option<i64>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Free disk where the engine keeps its data, in bytes.
    pub disk_free: Option<u64>,
    /// How far its clock is ahead of this machine's, in seconds.
    pub clock_ahead: Option<i64>,
    /// Who has the ports of the web.
    pub web_ports: BTreeMap<u16, String>,
}

/// Facts, and what of them is worth a look.
#[derive(Debug, Clone)]
pub struct ServerCheck {
    /// What is true.
    pub facts: ServerFacts,
    /// What is wrong, or may become so.
    pub findings: Vec<Diagnostic>,
}

/// What the shell of a server is asked: where it was reached, its clock, the disk below a folder, and what listens.
fn questions(folder: &str) -> String {
    // A folder of another shape would be read as more than a folder.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    let folder = if folder.starts_with('/') && folder.chars().all(is_plain) { folder } else { "/" };
    format!(
        "exec /bin/sh -c 'echo \"connection $SSH_CONNECTION\"; echo \"time $(date +%s)\"; \
         df -Pk {folder} | while read -r line; do echo \"disk $line\"; done; \
         cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r line; do echo \"tcp $line\"; done'"
    )
}

/// What the shell of a server answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    address: Option<IpAddr>,
    time: Option<i64>,
    disk_free_kib: Option<u64>,
    /// The ports of the web on which something listens.
    listening: Vec<u16>,
}

impl Answers {
    fn parse(text: &str) -> Self {
        let mut answers = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("connection") => answers.address = words.nth(2).and_then(|address| address.parse().ok()),
                Some("time") => answers.time = words.next().and_then(|time| time.parse().ok()),
                Some("disk") => {
                    answers.disk_free_kib = words.nth(3).and_then(|free| free.parse().ok()).or(answers.disk_free_kib)
                }
                Some("tcp") => {
                    // Its number, the local address, the other one, the state, of which `0A` listens.
                    let (local, state) = (words.nth(1), words.nth(1));
                    let port = local.and_then(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok());
                    if let (Some(port @ (80 | 443)), Some("0A")) = (port, state)
                        && !answers.listening.contains(&port)
                    {
                        answers.listening.push(port);
                    }
                }
                _ => {}
            }
        }
        answers
    }
}

impl Docker {
    /// Finds out what is true of a server, and where its backends' hosts lead. Changes nothing.
    ///
    /// # Errors
    /// [`ProviderError`] when the server or its engine is not reached.
    pub async fn check_server(&self, server: &Server, hosts: &[String]) -> Result<ServerCheck, ProviderError> {
        let engine = self.servers.engine(server).await?;
        let failed = |error| engine.failed("describe itself", error);
        let list = ListContainersOptionsBuilder::default().build();
        let asked = tokio::try_join!(engine.client.info(), engine.client.version(), engine.client.list_containers(Some(list)));
        let (info, version, containers) = asked.map_err(failed)?;
        let folder = info.docker_root_dir.clone().unwrap_or_default();
        let mut findings = Vec::new();
        let answers = match &engine.link {
            Some(link) => match link.connection.run(&questions(&folder)).await {
                Ok(text) => Answers::parse(&text),
                Err(error) => {
                    let message = format!("its shell could not be asked for disk, clock and ports: {error}");
                    findings.push(Diagnostic::warning("server.no_shell", message));
                    Answers::default()
                }
            },
            None => Answers::default(),
        };
        let security = info.security_options.unwrap_or_default();
        let facts = ServerFacts {
            address: answers.address,
            way: engine.link.as_ref().map_or("socket", |link| link.connection.way()),
            engine: version.version,
            engine_id: info.id,
            system: info.operating_system,
            rootless: security.iter().any(|option| option.contains("rootless")),
            cpus: info.ncpu,
            memory: info.mem_total.and_then(|memory| u64::try_from(memory).ok()),
            disk_free: answers.disk_free_kib.map(|free| free.saturating_mul(1024)),
            clock_ahead: answers.time.map(|time| time.saturating_sub(now())),
            web_ports: web_ports(&containers, &answers.listening),
        };
        findings.extend(machine(&facts));
        findings.extend(ports(&facts, &containers, !hosts.is_empty()));
        for host in hosts {
            findings.extend(name(host, facts.address).await);
        }
        Ok(ServerCheck { facts, findings })
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Returns who has the ports of the web: containers by their names, and processes outside of containers.
fn web_ports(containers: &[ContainerSummary], listening: &[u16]) -> BTreeMap<u16, String> {
    let mut holders: BTreeMap<u16, String> =
        listening.iter().map(|port| (*port, "a process outside of containers".to_owned())).collect();
    for (port, holder) in proxy::holders(containers) {
        holders.insert(port, holder.to_string());
    }
    holders
}

/// Returns what of the machine and its engine is worth a look.
fn machine(facts: &ServerFacts) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut warn = |code: &str, message: String, help: &str| findings.push(Diagnostic::warning(code, message).with_help(help));
    if let Some(free) = facts.disk_free.filter(|free| *free < LOW_DISK_KIB * 1024) {
        let message = format!("only {} MiB of disk are free where its engine keeps images and data", free >> 20);
        warn("server.disk_low", message, "see what is on it with `docker system df` there, and make room");
    }
    if let Some(memory) = facts.memory.filter(|memory| *memory < LOW_MEMORY) {
        warn(
            "server.memory_low",
            format!("it has {} MiB of memory", memory >> 20),
            "a backend needs about 1 GiB with its proxy",
        );
    }
    if let Some(ahead) = facts.clock_ahead.filter(|ahead| ahead.unsigned_abs() > CLOCKS_APART.as_secs()) {
        let message = format!("its clock and the one of this machine are {} s apart", ahead.unsigned_abs());
        warn("server.clock_skew", message, "have both set by NTP: leases and authorities of certificates go by them");
    }
    if facts.rootless {
        let message = "its engine runs without the rights of root, and publishes no port below 1024 by itself".to_owned();
        warn("server.rootless", message, "for routes, set `net.ipv4.ip_unprivileged_port_start=80` there");
    }
    findings
}

/// Returns what of its ports is worth a look.
fn ports(facts: &ServerFacts, containers: &[ContainerSummary], has_routes: bool) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let led: BTreeSet<u16> =
        proxy::holders(containers).filter(|(_, holder)| holder.product.takes_routes()).map(|(port, _)| port).collect();
    for (port, holder) in facts.web_ports.iter().filter(|(_, holder)| !holder.contains(proxy::NAME)) {
        let message = format!("port {port} is taken by {holder}");
        if led.contains(port) {
            let help = "it stays in charge: backends with `domain` or `tls` join it, and a plan says how it leads to them";
            findings.push(Diagnostic::warning("server.port_taken", message).with_help(help));
            continue;
        }
        let finding = match has_routes {
            true => Diagnostic::new("server.port_taken", format!("{message}, and the proxy of its routes needs it")),
            false => Diagnostic::warning("server.port_taken", message),
        };
        let help = "it stays in charge: write `origins`, leave `tls` and `domain` out, and lead the names there in its own configuration";
        findings.push(finding.with_help(help));
    }
    for container in containers.iter().filter(|container| name_in(container) != proxy::NAME) {
        let published = container.ports.as_deref().unwrap_or_default();
        let is_public = |ip: Option<&str>| ip.is_none_or(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()));
        let mut open: Vec<u16> = published
            .iter()
            .filter(|port| is_public(port.ip.as_deref()))
            .filter_map(|port| port.public_port)
            .filter(|port| !matches!(port, 80 | 443))
            .collect();
        open.sort_unstable();
        open.dedup();
        for port in open {
            let message = format!("the container `{}` is open to everybody on port {port}", name_in(container));
            let help = "Docker's ports pass a firewall such as UFW unseen: publish it on 127.0.0.1, or not at all";
            findings.push(Diagnostic::warning("server.port_public", message).with_help(help));
        }
    }
    findings
}

/// Returns what is worth a look about where a host leads, as it is seen from here.
async fn name(host: &str, server: Option<IpAddr>) -> Option<Diagnostic> {
    let found = tokio::time::timeout(LOOKUP_WITHIN, tokio::net::lookup_host((host, 443))).await;
    let found = found.map_err(|_| "no answer in time".to_owned()).and_then(|found| found.map_err(|error| error.to_string()));
    let addresses: Vec<IpAddr> = match found {
        Ok(found) => found.map(|address| address.ip().to_canonical()).collect(),
        Err(reason) => {
            let message = format!("`{host}` has no address as seen from here: {reason}");
            return Some(Diagnostic::warning("dns.missing", message).with_help(record(host, server)));
        }
    };
    judge(host, &addresses, server)
}

fn record(host: &str, server: Option<IpAddr>) -> String {
    match server {
        Some(address @ IpAddr::V4(_)) => format!("set the record\n    {host}. A {address}"),
        Some(address @ IpAddr::V6(_)) => format!("set the record\n    {host}. AAAA {address}"),
        None => format!("set a record of {host} to the address of the server"),
    }
}

/// Returns whether an address says where a machine is in the internet.
fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()),
    }
}

/// Compares the addresses of a host with the one of the server.
fn judge(host: &str, addresses: &[IpAddr], server: Option<IpAddr>) -> Option<Diagnostic> {
    let shown = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some(server) = server else {
        return Some(Diagnostic::warning(
            "dns.unknown",
            format!("`{host}` leads to {shown}, and the address of the server is not known"),
        ));
    };
    let others: Vec<&IpAddr> = addresses.iter().filter(|address| **address != server).collect();
    let same_family = |address: &&&IpAddr| address.is_ipv4() == server.is_ipv4();
    if others.is_empty() {
        return None;
    }
    if !is_public(&server) && addresses.iter().any(is_public) {
        let message = format!("`{host}` leads to {shown}, and the server knows itself as {server} only, behind a router");
        return Some(Diagnostic::warning("dns.unknown", message).with_help("see that this router leads there to the server"));
    }
    if others.iter().any(|address| same_family(&address)) {
        let message = format!("`{host}` leads to {shown}, and the server is at {server}");
        return Some(Diagnostic::new("dns.elsewhere", message).with_help(record(host, Some(server))));
    }
    let message = format!("`{host}` also leads to {shown}, of another family than {server}, by which the server was reached");
    let help = "see that this is the server as well: authorities try IPv6 first, and a wrong answer there is final";
    Some(Diagnostic::warning("dns.other_family", message).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_shell_are_read_line_by_line() {
        let text = "motd of the machine\nconnection 192.0.2.9 50000 192.0.2.1 22\ntime 1796087360\n\
                    disk Filesystem 1024-blocks Used Available Capacity Mounted on\ndisk /dev/vda1 1000 400 600 40% /\n\
                    tcp sl local_address rem_address st\ntcp 0: 00000000:01BB 00000000:0000 0A 0\n\
                    tcp 1: 0100007F:0050 0100007F:9999 01 0\n";
        let expected = Answers {
            address: Some("192.0.2.1".parse().unwrap()),
            time: Some(1_796_087_360),
            disk_free_kib: Some(600),
            listening: vec![443],
        };
        assert_eq!(Answers::parse(text), expected);
        assert_eq!(Answers::parse(""), Answers::default());
    }

    #[test]
    fn only_a_plain_folder_comes_into_a_command() {
        assert!(questions("/var/lib/docker").contains("df -Pk /var/lib/docker |"));
        for folder in ["", "relative", "/x; rm -rf /", "/x'$(id)'"] {
            assert!(questions(folder).contains("df -Pk / |"), "{folder}");
        }
    }

    #[test]
    fn names_are_compared_with_the_server() {
        let code = |addresses: &[&str], server: Option<&str>| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            judge("api.x.test", &addresses, server.map(|server| server.parse().unwrap())).map(|finding| finding.code)
        };
        assert_eq!(code(&["203.0.113.1"], Some("203.0.113.1")), None);
        assert_eq!(code(&["203.0.113.2"], Some("203.0.113.1")).as_deref(), Some("dns.elsewhere"));
        assert_eq!(code(&["203.0.113.1", "203.0.113.2"], Some("203.0.113.1")).as_deref(), Some("dns.elsewhere"));
        assert_eq!(code(&["203.0.113.1", "2001:db8::1"], Some("203.0.113.1")).as_deref(), Some("dns.other_family"));
        assert_eq!(code(&["203.0.113.1"], Some("10.0.0.5")).as_deref(), Some("dns.unknown"));
        assert_eq!(code(&["203.0.113.1"], None).as_deref(), Some("dns.unknown"));
    }
}
