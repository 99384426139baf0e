//! A backend that something else started, such as the official compose file: reading all that is needed to go on with it.
//!
//! Must not do: change it. Taking it over happens at the next apply, which replaces its container and keeps its volume.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::Ipv4Addr;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt;

use super::Docker;
use super::desired::PortProtocol;
use super::diff::{label_of, nano_cpus};
use super::engine::{Engine, is_absent};
use super::hardening::published_ports;
use super::image::{ImagePin, backend_reference};
use super::inventory::{ADOPTED_CONTAINER, ADOPTED_VOLUME, id_of, inspect_container, name_of};
use super::labels::ID;
use super::launch_file::DATA;
use super::registry::split_tag;
use crate::convex::release::BACKEND_IMAGE;
use crate::convex::tuning;
use crate::model::{
    ByteSize, Cpus, INTERNAL_URL, PortPair, ProviderState, Release, ResolvedBackend, Resources, Secret, Tuning,
};
use crate::provider::ProviderError;

/// The ports that the official image listens on.
const API: u16 = 3210;
const SITE: u16 = 3211;
const BIND_MOUNT: &str = "keeps its data in a directory of the engine's machine: copy it into a volume first, with\n    \
    docker run --rm -v DIRECTORY:/from -v VOLUME:/to IMAGE cp -a /from/. /to\nand start the container with that volume";

/// A container of the official image that somebody else started.
#[derive(Debug, Clone)]
pub struct ExternalContainer {
    /// Its name.
    pub name: String,
    /// What its backend calls itself.
    pub instance_name: String,
    /// The secret that its keys are made from.
    pub instance_secret: Secret,
    /// The ports of the machine that it is reached on.
    pub ports: PortPair,
    /// Its cloud and its site origin, where they were given.
    pub origins: (Option<String>, Option<String>),
    /// Where its documents are.
    pub storage: ExternalStorage,
    /// Whether its files are in S3.
    pub has_s3: bool,
    /// Whether other machines reach its ports.
    pub is_public: bool,
    /// The address that its ports are published on, where that is not the usual one.
    pub publish: Option<String>,
    /// The knobs that it was started with.
    pub tuning: Tuning,
    /// Its limits.
    pub resources: Resources,
    /// The names of variables that a manifest has no word for.
    pub unsupported_variables: BTreeSet<String>,
    /// The release, where the name of its image says it.
    pub release: Option<Release>,
    /// Its image, where that is not the official one.
    pub image: Option<String>,
    id: String,
    image_id: String,
    volume: String,
}

/// Where the documents of somebody else's backend are.
#[derive(Debug, Clone)]
pub enum ExternalStorage {
    /// In its volume.
    Sqlite,
    /// On a PostgreSQL server with this URL.
    Postgres(Secret),
    /// On a MySQL server with this URL.
    Mysql(Secret),
}

impl ExternalContainer {
    /// What is noted of it until it is replaced.
    pub fn references(&self, placement: &ResolvedBackend) -> ProviderState {
        let note = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut references = ProviderState::from([
            note(ADOPTED_CONTAINER, &self.id),
            note(ADOPTED_VOLUME, &self.volume),
            note(INTERNAL_URL, &format!("http://{}:{}", placement.spec.port_host(), self.ports.api)),
        ]);
        // The very same build goes on, whatever its tag means by now.
        if let Ok(reference) = backend_reference(placement) {
            ImagePin::BACKEND.record_id(&reference, &self.image_id, &mut references);
        }
        references
    }
}

impl Docker {
    /// Reads what is needed to go on with a container.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] says why it cannot be taken over.
    pub async fn inspect_for_import(&self, container: &str) -> Result<ExternalContainer, ProviderError> {
        let engine = self.engine().await?;
        let refused = |reason: String| ProviderError::Unsupported(format!("container `{container}` {reason}"));
        let seen = inspect_container(engine, container).await?.ok_or_else(|| refused("is not there".to_owned()))?;
        if label_of(&seen, ID).is_some() {
            return Err(refused("was made by convexinfra: it belongs to a backend already".to_owned()));
        }
        let variables = variables(&seen);
        let given = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let volume = volume(&seen).map_err(refused)?;
        let (ports, address, is_public) = ports(&seen).map_err(refused)?;
        let instance_name = match given("INSTANCE_NAME") {
            Some(name) => name,
            None => credential(engine, container, "instance_name").await?.ok_or_else(|| no_credential(container, "name"))?,
        };
        let instance_secret = match given("INSTANCE_SECRET") {
            Some(secret) => secret,
            None => {
                credential(engine, container, "instance_secret").await?.ok_or_else(|| no_credential(container, "secret"))?
            }
        };
        let storage = match (given("POSTGRES_URL").or_else(|| given("DATABASE_URL")), given("MYSQL_URL")) {
            (Some(url), None) => ExternalStorage::Postgres(Secret::new(url)),
            (None, Some(url)) => ExternalStorage::Mysql(Secret::new(url)),
            (None, None) => ExternalStorage::Sqlite,
            (Some(_), Some(_)) => return Err(refused("has the URLs of two database servers".to_owned())),
        };
        let read = tuning::parse_tuning(&own_variables(engine, &seen, &variables).await?);
        let reference = seen.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default();
        let (name, _) = split_tag(&reference);
        let tag = reference[name.len()..].trim_start_matches([':', '@']);
        let release = Release::parse(if tag.is_empty() { "latest" } else { tag }).ok().filter(|_| name == BACKEND_IMAGE);
        Ok(ExternalContainer {
            name: name_of(&seen).to_owned(),
            instance_name,
            instance_secret: Secret::new(instance_secret),
            ports,
            origins: (given("CONVEX_CLOUD_ORIGIN"), given("CONVEX_SITE_ORIGIN")),
            storage,
            has_s3: given("S3_STORAGE_FILES_BUCKET").is_some(),
            is_public,
            publish: Some(address).filter(|address| *address != Ipv4Addr::LOCALHOST.to_string()),
            tuning: read.tuning,
            resources: resources(&seen),
            unsupported_variables: read.inexpressible,
            image: release.is_none().then_some(reference),
            release,
            id: id_of(&seen).to_owned(),
            image_id: seen.image.clone().unwrap_or_default(),
            volume,
        })
    }
}

fn no_credential(container: &str, what: &str) -> ProviderError {
    ProviderError::Unsupported(format!(
        "container `{container}` has no instance {what}: neither in a variable nor in `{DATA}/credentials`; has it ever run?"
    ))
}

fn variables(seen: &ContainerInspectResponse) -> BTreeMap<String, String> {
    let environment = seen.config.as_ref().and_then(|config| config.env.clone()).unwrap_or_default();
    let pairs = environment.iter().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The variables that its image does not have anyway.
async fn own_variables(
    engine: &Engine,
    seen: &ContainerInspectResponse,
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ProviderError> {
    let image = match engine.client.inspect_image(seen.image.as_deref().unwrap_or_default()).await {
        Ok(image) => image.config.and_then(|config| config.env).unwrap_or_default(),
        // An image can go while its container runs on.
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(engine.failed("look at the image", error)),
    };
    let of_image = |name: &str, value: &str| image.iter().any(|line| line.split_once('=') == Some((name, value)));
    let own = variables.iter().filter(|(name, value)| !of_image(name, value));
    Ok(own.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The limits that it has.
fn resources(seen: &ContainerInspectResponse) -> Resources {
    let host = seen.host_config.clone().unwrap_or_default();
    let milli = nano_cpus(&host).map(|nano| u32::try_from(nano / 1_000_000).unwrap_or(u32::MAX));
    let memory = host.memory.and_then(|memory| u64::try_from(memory).ok()).filter(|memory| *memory > 0);
    Resources {
        cpus: milli.filter(|milli| *milli > 0).map(Cpus::from_milli),
        memory: memory.map(ByteSize::from_bytes),
        disk: None,
    }
}

/// The named volume that holds the data.
fn volume(seen: &ContainerInspectResponse) -> Result<String, String> {
    let mounts = seen.mounts.as_deref().unwrap_or_default();
    let mount = mounts.iter().find(|mount| mount.destination.as_deref() == Some(DATA));
    match mount.map(|mount| (mount.typ.as_deref(), mount.name.clone())) {
        Some((Some("volume"), Some(name))) => Ok(name),
        Some((Some("bind"), _)) => Err(BIND_MOUNT.to_owned()),
        _ => Err(format!("has no volume at `{DATA}`, so it is not a Convex backend, or its data goes with it")),
    }
}

/// The published ports of the API and of the HTTP actions.
/// With them the address that they are published on, and whether other machines reach that.
fn ports(seen: &ContainerInspectResponse) -> Result<(PortPair, String, bool), String> {
    let published = seen.host_config.as_ref().map(published_ports).unwrap_or_default();
    let outside = |inside: u16| {
        let found =
            published.iter().find(|port| port.inside == inside && port.transport == PortProtocol::Tcp && port.outside != 0);
        found.ok_or_else(|| {
            format!(
                "does not publish its port {inside} under a fixed one: start it with `-p 127.0.0.1:{inside}:{inside}` first"
            )
        })
    };
    let (api, site) = (outside(API)?, outside(SITE)?);
    let is_public = published.iter().any(|port| !port.address.starts_with("127.") && port.address != "::1");
    let address = if api.address.is_empty() { Ipv4Addr::UNSPECIFIED.to_string() } else { api.address.clone() };
    Ok((PortPair { api: api.outside, site: site.outside }, address, is_public))
}

/// One of the files that the official image keeps its credentials in.
async fn credential(engine: &Engine, container: &str, name: &str) -> Result<Option<String>, ProviderError> {
    let options = DownloadFromContainerOptionsBuilder::default().path(&format!("{DATA}/credentials/{name}")).build();
    let mut stream = engine.client.download_from_container(container, Some(options)).boxed();
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(engine.failed("read the credentials", error)),
        }
    }
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut text = String::new();
    if let Ok(mut entries) = archive.entries()
        && let Some(Ok(mut entry)) = entries.next()
    {
        let _ = entry.read_to_string(&mut text);
    }
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}
