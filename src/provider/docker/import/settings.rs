//! Networks, labels, mounts and all else that `[backends.NAME.docker]` has a key for, read from a container, and the names
//! of what it has no key for.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bollard::models::{ContainerInspectResponse, EndpointSettings, MountPoint};

use super::ImageDefaults;
use super::dropped::{of_endpoint, of_host};
use crate::model::{ByteSize, DockerSettings, PortPair, is_local_url};
use crate::provider::docker::desired::{PortProtocol, PublishedPort};
use crate::provider::docker::hardening::published_ports;
use crate::provider::docker::inventory::{id_of, label_of, name_of};
use crate::provider::docker::launch_file::DATA;
use crate::provider::docker::redact::redact_untrusted;

/// The ports that the official image listens on.
pub(super) const API: u16 = 3210;
pub(super) const SITE: u16 = 3211;
/// The network that containers are on when nothing is said.
const DEFAULT_NETWORK: &str = "bridge";
/// The shared memory that a container has when nothing is said.
const DEFAULT_SHM: i64 = 64 << 20;

/// The settings of a container.
pub(super) struct DroppedSettings {
    /// Those that the manifest has keys for.
    pub(super) settings: DockerSettings,
    /// The names of the others.
    pub(super) dropped: BTreeSet<String>,
}

/// Where a container is reached from outside its networks.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// The two ports; none where it publishes none.
    pub(super) pair: Option<PortPair>,
    /// The address that they are published on, where that is not loopback.
    pub(super) address: Option<String>,
    /// Whether other machines reach them.
    pub(super) is_public: bool,
}

fn is_on_host_network(seen: &ContainerInspectResponse) -> bool {
    seen.host_config.as_ref().and_then(|host| host.network_mode.as_deref()) == Some("host")
}

fn ports_of(seen: &ContainerInspectResponse) -> Vec<PublishedPort> {
    seen.host_config.as_ref().map(published_ports).unwrap_or_default()
}

fn fixed(ports: &[PublishedPort], inside: u16) -> Option<&PublishedPort> {
    ports.iter().find(|port| port.inside == inside && port.transport == PortProtocol::Tcp && port.outside != 0)
}

/// Returns the container whose network a container has instead of one of its own.
fn network_of(seen: &ContainerInspectResponse) -> Option<&str> {
    seen.host_config.as_ref()?.network_mode.as_deref()?.strip_prefix("container:")
}

/// Refuses a container that something would start again beside ours, that ends with what a way back needs, or that is reached through
/// another container only.
pub(super) fn check_supervision(seen: &ContainerInspectResponse, volume: &str) -> Result<(), String> {
    let name = name_of(seen);
    if let Some(service) = label_of(seen, "com.docker.swarm.service.name") {
        return Err(format!(
            "is a task of the Swarm service `{service}`, and Swarm starts another one on the same volume as soon as it ends: end the \
             service with\n    docker service scale {service}=0\nthen start a container of your own with its image, its variables and \
             the volume `{volume}` at `{DATA}`, and import that"
        ));
    }
    let host = seen.host_config.clone().unwrap_or_default();
    if host.auto_remove == Some(true) {
        let image = seen.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or("IMAGE");
        let (first, last) = if is_generated(volume) {
            let first = format!(
                "; its volume has no name of its own and would go with it, so hold on to it first with\n    docker create --name \
                 {name}-volume --volumes-from {name} {image}\nthen"
            );
            (first, format!("\nand let go of it again\n    docker rm {name}-volume"))
        } else {
            (":".to_owned(), String::new())
        };
        return Err(format!(
            "was started with `--rm`, so the engine removes it as soon as it ends, and there would be no way back to it{first} stop it \
             and start it without `--rm`, with\n    -v {volume}:{DATA}{last}"
        ));
    }
    let mounts = host.mounts.as_deref().unwrap_or_default();
    let data = mounts.iter().find(|mount| mount.target.as_deref() == Some(DATA));
    if let Some(folder) =
        data.and_then(|mount| mount.volume_options.as_ref()?.subpath.as_deref()).filter(|path| !path.is_empty())
    {
        return Err(format!(
            "keeps its data in the folder `{folder}` of the volume `{volume}`, and a backend of convexinfra has a volume for itself: \
             stop it, copy the folder into a volume of its own, and start the container with that"
        ));
    }
    match network_of(seen) {
        Some(other) => Err(format!(
            "has no network of its own but that of the container `{}`, through which it is reached: start it on a network of its own \
             first",
            &other[..other.len().min(12)]
        )),
        None => Ok(()),
    }
}

/// Returns the published ports of the API and of the HTTP actions. Neither is the usual case behind a proxy; one of them is
/// fine where clients use another origin anyway.
pub(super) fn published_pair(seen: &ContainerInspectResponse, api_origin: Option<&str>) -> Result<Published, String> {
    if is_on_host_network(seen) {
        let address = Some(Ipv4Addr::UNSPECIFIED.to_string());
        return Ok(Published { pair: Some(PortPair { api: API, site: SITE }), address, is_public: true });
    }
    let ports = ports_of(seen);
    let is_public = ports.iter().any(|port| !port.address.starts_with("127.") && port.address != "::1");
    let (api, site) = match (fixed(&ports, API), fixed(&ports, SITE)) {
        (Some(api), Some(site)) => (api, site),
        (None, None) => return Ok(Published::default()),
        (Some(_), None) | (None, Some(_)) if api_origin.is_some_and(|origin| !is_local_url(origin)) => {
            return Ok(Published { is_public, ..Published::default() });
        }
        (one, _) => {
            let inside = if one.is_some() { SITE } else { API };
            return Err(format!(
                "does not publish its port {inside} under a fixed one: start it with `-p 127.0.0.1:{inside}:{inside}` first"
            ));
        }
    };
    let address = if api.address.is_empty() { Ipv4Addr::UNSPECIFIED.to_string() } else { api.address.clone() };
    Ok(Published {
        pair: Some(PortPair { api: api.outside, site: site.outside }),
        address: Some(address).filter(|address| *address != Ipv4Addr::LOCALHOST.to_string()),
        is_public,
    })
}

/// Returns the URL under which this machine reaches the API of a container: its published port, else its address in one of
/// its networks, which only the engine's own machine reaches.
pub(in crate::provider::docker) fn address_of(seen: &ContainerInspectResponse, remote_host: Option<&str>) -> Option<String> {
    if is_on_host_network(seen) {
        let host = remote_host.map_or_else(|| Ipv4Addr::LOCALHOST.to_string(), str::to_owned);
        return Some(format!("http://{host}:{API}"));
    }
    if let Some(port) = fixed(&ports_of(seen), API) {
        let host = match (remote_host, port.address.as_str()) {
            (Some(host), _) => host.to_owned(),
            (None, "" | "0.0.0.0" | "::") => Ipv4Addr::LOCALHOST.to_string(),
            (None, address) if address.contains(':') => format!("[{address}]"),
            (None, address) => address.to_owned(),
        };
        return Some(format!("http://{host}:{}", port.outside));
    }
    let address = endpoints(seen).into_iter().find_map(|(_, endpoint)| endpoint.ip_address.filter(|ip| !ip.is_empty()));
    address.filter(|_| remote_host.is_none()).map(|ip| format!("http://{ip}:{API}"))
}

/// The networks of a container, in order of their names.
fn endpoints(seen: &ContainerInspectResponse) -> Vec<(String, EndpointSettings)> {
    let networks = seen.network_settings.as_ref().and_then(|settings| settings.networks.clone()).unwrap_or_default();
    let mut networks: Vec<_> = networks.into_iter().collect();
    networks.sort_by(|(a, _), (b, _)| a.cmp(b));
    networks
}

/// Reads the settings of a container. `published` and the API's origin say which ports it will listen on inside.
pub(super) fn read(
    seen: &ContainerInspectResponse,
    image: &ImageDefaults,
    published: &Published,
    api_origin: Option<&str>,
) -> DroppedSettings {
    let host = seen.host_config.clone().unwrap_or_default();
    let mut dropped = BTreeSet::new();
    let mut settings = DockerSettings::default();
    networks(seen, &mut settings);
    let labels = seen.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
    settings.labels = labels
        .into_iter()
        .filter(|(name, value)| image.labels.get(name) != Some(value) && !name.starts_with("com.docker.compose."))
        .collect();
    settings.extra_hosts = host.extra_hosts.clone().unwrap_or_default();
    settings.dns = host.dns.clone().unwrap_or_default();
    let shm = host.shm_size.filter(|size| *size > 0 && *size != DEFAULT_SHM);
    settings.shm_size = shm.and_then(|size| u64::try_from(size).ok()).map(ByteSize::from_bytes);
    for mount in seen.mounts.as_deref().unwrap_or_default() {
        match written_mount(mount) {
            _ if mount.destination.as_deref() == Some(DATA) => {}
            Some(text) => settings.mounts.push(text),
            None => drop(dropped.insert(format!("mount at {}", mount.destination.as_deref().unwrap_or("?")))),
        }
    }
    settings.mounts.sort();
    let config = seen.config.clone().unwrap_or_default();
    let command = config.cmd.clone().unwrap_or_default();
    if command != image.command {
        // What may be a secret goes into no manifest.
        if command.iter().all(|word| redact_untrusted(word, "") == *word) {
            settings.arguments = command;
        } else {
            dropped.insert("command".to_owned());
        }
    }
    // Node actions call back to a loopback origin from inside, so there both sides have the same port.
    let calls_back_inside = api_origin.is_none_or(is_local_url);
    if !calls_back_inside && published.pair.is_none_or(|pair| (pair.api, pair.site) != (API, SITE)) {
        settings.api_port = Some(API);
        settings.site_port = Some(SITE);
    }
    for port in ports_of(seen).iter().filter(|port| ![API, SITE].contains(&port.inside)) {
        dropped.insert(format!("port {}", port.inside));
    }
    let exposed = config.exposed_ports.clone().unwrap_or_default();
    let published: BTreeSet<u16> = ports_of(seen).iter().map(|port| port.inside).chain([API, SITE]).collect();
    for port in exposed.into_iter().filter(|port| !image.exposed.contains(port)) {
        let number = port.split('/').next().and_then(|number| number.parse().ok());
        if number.is_none_or(|number| !published.contains(&number)) {
            dropped.insert(format!("expose {port}"));
        }
    }
    let is_other = |own: Option<&Vec<String>>, image: Option<&Vec<String>>| own != image && own.is_some();
    for (name, is_set) in [
        ("entrypoint", is_other(config.entrypoint.as_ref(), image.entrypoint.as_ref())),
        ("user", config.user.unwrap_or_default() != image.user),
        ("working_dir", config.working_dir.unwrap_or_default() != image.working_dir),
        ("tty", config.tty == Some(true)),
        ("stdin_open", config.open_stdin == Some(true)),
        ("domainname", config.domainname.is_some_and(|name| !name.is_empty())),
        ("hostname", config.hostname.is_some_and(|name| !id_of(seen).starts_with(&name))),
    ] {
        if is_set {
            dropped.insert(name.to_owned());
        }
    }
    dropped.extend(of_host(&host));
    dropped.extend(endpoints(seen).iter().flat_map(|(_, endpoint)| of_endpoint(endpoint)));
    DroppedSettings { settings, dropped }
}

/// Reads networks and aliases. Every container is known by its own name and its short identity in them; the name is kept as
/// an alias, because others may use it.
fn networks(seen: &ContainerInspectResponse, settings: &mut DockerSettings) {
    let mut aliases = BTreeSet::new();
    let mut names = Vec::new();
    for (name, endpoint) in endpoints(seen) {
        if matches!(name.as_str(), DEFAULT_NETWORK | "host" | "none") {
            continue;
        }
        names.push(name);
        let own: Vec<String> = endpoint.aliases.unwrap_or_default();
        aliases.extend(own.into_iter().filter(|alias| !id_of(seen).starts_with(alias.as_str())));
        aliases.insert(name_of(seen).to_owned());
    }
    let mut names = names.into_iter();
    settings.network = names.next();
    settings.networks = names.collect();
    settings.aliases = aliases.into_iter().collect();
}

/// Returns a mount as the manifest writes it, where it can.
fn written_mount(mount: &MountPoint) -> Option<String> {
    let target = mount.destination.as_deref()?;
    let source = match mount.typ.as_deref()? {
        "bind" => mount.source.as_deref()?,
        "volume" => mount.name.as_deref().filter(|name| !is_generated(name))?,
        _ => return None,
    };
    if source.contains(':') || target.contains(':') {
        return None;
    }
    let read_only = if mount.rw == Some(false) { ":ro" } else { "" };
    Some(format!("{source}:{target}{read_only}"))
}

/// Whether an engine made up the name of a volume.
fn is_generated(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
