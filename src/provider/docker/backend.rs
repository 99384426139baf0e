//! From a placement to the container of its backend.
//!
//! Must not do: ask the engine anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::database;
use super::desired::{ContainerLimits, ContainerSpec, PortProtocol, PublishedPort};
use super::engine::Engine;
use super::image::Image;
use super::labels::{ControlPlaneId, ResourceNames, ResourceRole, network_name, owner_labels};
use super::launch_file::{DATA, ENTRY, FileOwner, LAUNCH_VARIABLE, SecretFiles, extract_secrets, launch_path};
use super::limits::EngineCapabilities;
use crate::convex::database_url::{CONTAINER_HOST, Reachability, container_url};
use crate::convex::launch::{LaunchTarget, SecretDelivery, launch};
use crate::model::{Digest, FieldPath, Files, ResolvedBackend, Secret, Storage, TextValue, Tls};
use crate::provider::ProviderError;

/// The file that SQLite keeps the documents in.
pub(super) const DATABASE_FILE: &str = "/convex/data/db.sqlite3";

/// What all containers of a backend have in common.
#[derive(Debug, Clone)]
pub(super) struct BackendContext {
    pub(super) names: ResourceNames,
    pub(super) control_plane: ControlPlaneId,
    pub(super) capabilities: EngineCapabilities,
    /// The network that they are on.
    pub(super) network: String,
    /// Whether that network is ours.
    pub(super) owns_network: bool,
    /// The address that ports are published on.
    pub(super) publish: IpAddr,
    /// The host under which this machine reaches published ports.
    pub(super) reach_host: String,
    /// How long a container has to end by itself, in seconds.
    pub(super) grace_s: i64,
}

impl BackendContext {
    /// Takes the parts that do not depend on images from the placement, and refuses what cannot work.
    pub(super) fn new(
        placement: &ResolvedBackend,
        engine: &Engine,
        control_plane: &ControlPlaneId,
        grace_s: i64,
    ) -> Result<Self, ProviderError> {
        let settings = &placement.spec.settings.docker;
        let refused = |reason: String| Err(ProviderError::Unsupported(reason));
        let publish = match settings.publish.as_deref().map(|text| (text, text.trim_matches(['[', ']']).parse())) {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some((_, Ok(address))) => address,
            Some((text, Err(_))) => return refused(format!("`docker.publish` is `{text}`, and it should be an IP address")),
        };
        if let Some(network @ ("host" | "none" | "bridge" | "default")) = settings.network.as_deref() {
            return refused(format!(
                "`docker.network` is `{network}`, where containers have no names for each other: leave it out, or name a \
                 network of your own"
            ));
        }
        let reach_host = match &engine.remote_host {
            None => match publish {
                address if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
                IpAddr::V4(address) => address.to_string(),
            },
            Some(host) if publish.is_loopback() || placement.spec.origins.api.is_none() => {
                return refused(format!(
                    "the Docker engine runs on `{host}`, and `{}` would be reached there on a loopback address only: write \
                     `publish = \"0.0.0.0\"` (or one of its addresses) into `[backends.{}.docker]`, and the URLs that clients \
                     use into `origins.api` and `origins.site`",
                    placement.name, placement.name
                ));
            }
            Some(host) => host.clone(),
        };
        Ok(Self {
            names: ResourceNames::of(placement),
            control_plane: control_plane.clone(),
            capabilities: engine.capabilities,
            network: settings.network.clone().unwrap_or_else(|| network_name(placement, control_plane)),
            owns_network: settings.network.is_none(),
            publish,
            reach_host,
            grace_s,
        })
    }

    /// A port that is the same inside as outside.
    fn same_port(&self, port: u16) -> PublishedPort {
        self.port(port, port)
    }

    /// A published port.
    pub(super) fn port(&self, inside: u16, outside: u16) -> PublishedPort {
        PublishedPort { inside, transport: PortProtocol::Tcp, address: self.publish.to_string(), outside }
    }

    /// The URL under which this machine reaches a published port.
    pub(super) fn internal_url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.reach_host)
    }
}

/// The container of a backend.
pub(super) fn container_spec(
    placement: &ResolvedBackend,
    image: &Image,
    setting: &BackendContext,
) -> Result<ContainerSpec, ProviderError> {
    let mut files = SecretFiles::new(DATA, FileOwner::of_image(&image.reference, &image.user)?);
    let inside = container_view(placement, setting, &mut files)?;
    let target = LaunchTarget {
        data: PathBuf::from(DATA),
        interface: Ipv4Addr::UNSPECIFIED,
        ports: placement.ports,
        secret: SecretDelivery::OutOfBand,
        release: image.revision.clone(),
    };
    let made = launch(&inside.placement, &target).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        ProviderError::Unsupported(format!("`{}` cannot be started: {error}{source}", placement.name))
    })?;
    let parts = extract_secrets(&made, placement);
    let launch_file = launch_path(&parts.file);
    // The two that the image itself keeps there, so that its own scripts go on working.
    files.add("credentials/instance_name", placement.instance_name.as_str().as_bytes());
    files.add("credentials/instance_secret", placement.instance_secret.expose().as_bytes());
    files.add(launch_file.clone(), parts.file.as_bytes());
    let mut environment: BTreeMap<String, String> = parts.environment.into_iter().collect();
    environment.insert("TMPDIR".to_owned(), format!("{DATA}/tmp"));
    environment.insert("npm_config_cache".to_owned(), format!("{DATA}/tmp/npm"));
    environment.insert(LAUNCH_VARIABLE.to_owned(), format!("{DATA}/{launch_file}"));
    let port = placement.ports.api;
    Ok(ContainerSpec {
        role: ResourceRole::Backend,
        name: setting.names.backend(),
        image: image.clone(),
        entry_point: Some(["/bin/sh", "-c", ENTRY, "convexinfra"].map(str::to_owned).to_vec()),
        command: Some(parts.arguments),
        environment,
        volume: Some((volume_name(placement, &setting.names), DATA)),
        scratch: vec!["/root", "/tmp"],
        is_read_only: true,
        // A volume that was taken over may hold files of other users.
        capabilities: vec!["DAC_OVERRIDE"],
        ports: vec![setting.same_port(port), setting.same_port(placement.ports.site)],
        network: setting.network.clone(),
        alias: placement.instance_name.to_string(),
        hosts: inside.hosts,
        health: vec!["CMD-SHELL".to_owned(), format!("curl -fsS http://127.0.0.1:{port}/version > /dev/null")],
        limits: ContainerLimits::of(&placement.spec.resources, setting.capabilities),
        grace_s: setting.grace_s,
        labels: owner_labels(placement, ResourceRole::Backend, &setting.control_plane),
        files: Some(files),
    })
}

/// The volume of a backend: its own, or the one that was taken over.
pub(super) fn volume_name(placement: &ResolvedBackend, names: &ResourceNames) -> String {
    placement.provider_state.get(super::inventory::ADOPTED_VOLUME).cloned().unwrap_or_else(|| names.volume(ResourceRole::Data))
}

/// Whether a backend keeps something in its volume without which its data is gone, and which path shows that.
pub(super) fn data_path(placement: &ResolvedBackend) -> Option<String> {
    match (&placement.spec.storage, &placement.spec.files) {
        (Storage::Sqlite, _) => Some(DATABASE_FILE.to_owned()),
        (_, Files::Local) => Some(format!("{DATA}/storage")),
        (_, Files::S3(_)) => None,
    }
}

/// A placement as it reads from inside the container, and the names that have to resolve there.
struct ContainerView {
    placement: ResolvedBackend,
    hosts: Vec<String>,
}

fn container_view(
    placement: &ResolvedBackend,
    setting: &BackendContext,
    files: &mut SecretFiles,
) -> Result<ContainerView, ProviderError> {
    let mut inside = placement.clone();
    if database::is_managed(placement) {
        database::connect(&mut inside, &setting.names);
    }
    if let Storage::Postgres(server) | Storage::Mysql(server) = &mut inside.spec.storage
        && let Tls::Ca(path) = &mut server.tls
    {
        let bytes = crate::system::read_regular(std::path::Path::new(path.as_str()), 256 << 10)
            .map_err(std::io::Error::from)
            .map_err(|source| ProviderError::File { path: path.clone(), verb: "read", source })?;
        let content = certificates_in(&String::from_utf8_lossy(&bytes));
        let digest: String = Digest::of(content.as_bytes()).as_str().chars().skip("sha256:".len()).take(12).collect();
        let name = format!("credentials/database-ca-{digest}.pem");
        files.add(name.clone(), content.as_bytes());
        *path = format!("{DATA}/{name}");
    }
    let mut needs_host = false;
    for field in ["storage.url", "files.endpoint"] {
        if let Some(secret) = inside.secrets.get_mut(&FieldPath::new(field))
            && let Some(url) = rewrite_loopback_url(secret.expose())
        {
            *secret = Secret::new(url);
            needs_host = true;
        }
    }
    if let Files::S3(s3) = &mut inside.spec.files
        && let Some(TextValue::Literal(endpoint)) = &mut s3.endpoint
        && let Some(url) = rewrite_loopback_url(endpoint)
    {
        *endpoint = url;
        needs_host = true;
    }
    let hosts = needs_host.then(|| format!("{CONTAINER_HOST}:host-gateway"));
    Ok(ContainerView { placement: inside, hosts: hosts.into_iter().collect() })
}

/// The certificates of a PEM file and nothing else of it: whoever named the file may have named one that has a private
/// key too, and that stays where it is.
fn certificates_in(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim_end) {
        inside |= line == "-----BEGIN CERTIFICATE-----";
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line != "-----END CERTIFICATE-----";
    }
    kept
}

/// A URL of this machine as a container has to write it; none for any other.
fn rewrite_loopback_url(text: &str) -> Option<String> {
    let made = container_url(&Secret::new(text)).ok().filter(|made| made.reachability == Reachability::HostGateway)?;
    let inside = made.url.expose();
    // What was written without a path stays without one.
    Some(if text.ends_with('/') { inside } else { inside.trim_end_matches('/') }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_beside_a_certificate_stays_where_it_is() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nMIIC\n-----END PRIVATE KEY-----\n";
        let bundle = format!("# ours\r\n{key}{certificate}{key}{}", certificate.replace('\n', "\r\n"));
        assert_eq!(certificates_in(&bundle), certificate.repeat(2));
        assert_eq!(certificates_in(key), "");
    }

    #[test]
    fn this_machine_has_another_name_inside_a_container() {
        for (outside, inside) in [
            ("postgres://u:p@localhost:5432", Some("postgres://u:p@host.docker.internal:5432")),
            (
                "postgres://u:p@127.0.0.1:5432/?sslmode=disable",
                Some("postgres://u:p@host.docker.internal:5432/?sslmode=disable"),
            ),
            ("mysql://u:p@[::1]", Some("mysql://u:p@host.docker.internal")),
            ("http://localhost:9000", Some("http://host.docker.internal:9000")),
            ("postgres://u:p@db.example.com", None),
            ("no URL", None),
        ] {
            assert_eq!(rewrite_loopback_url(outside).as_deref(), inside, "{outside}");
        }
    }
}
