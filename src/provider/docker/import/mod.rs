//! Import: reading everything of a container that something else started, such as the official compose file.
//!
//! Nothing is changed here. The next apply replaces the container and keeps its volume, so everything that the record does not
//! hold would be lost then: what a manifest has a key for is recorded, and the rest is named.

mod data_paths;
mod dropped;
mod settings;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use bollard::models::ContainerInspectResponse;

pub(super) use self::settings::address_of;
use self::settings::{DroppedSettings, check_supervision, published_pair};
pub use self::spec::missing_lines;
use super::Docker;
use super::container_diff::nano_cpus;
use super::engine::{Engine, is_absent};
use super::image::{ImagePin, backend_reference};
use super::inventory::{ADOPTED_CONTAINER, ADOPTED_VOLUME, id_of, inspect_container, label_of, name_of, read_archive};
use super::labels::ID;
use super::launch_file::DATA;
use super::neighbour;
use super::volume_users::{self, VolumeUser};
use crate::convex::release::BACKEND_IMAGE;
use crate::model::{
    ByteSize, Cpus, DockerSettings, INTERNAL_URL, PortPair, ProviderState, Release, ResolvedBackend, Resources, Secret,
    is_local_url,
};
use crate::provider::ProviderError;
use crate::provider::kit::external::ExternalLaunch;
use crate::provider::kit::image_reference::ImageReference;

/// The key under which the provider state names what the next apply drops of a container that is being taken over.
pub(super) const DROPPED: &str = "adopted_dropped";

/// A container of a Convex backend that something else started.
#[derive(Debug, Clone)]
pub struct ExternalContainer {
    /// Its name.
    pub name: String,
    /// What its backend calls itself.
    pub instance_name: String,
    /// The secret that its keys are made from.
    pub instance_secret: Secret,
    /// The ports of the engine's machine that lead to it; none where it publishes none.
    pub ports: Option<PortPair>,
    /// The URL under which this machine reaches its API now.
    pub address: String,
    /// What its variables say; origins that lead nowhere are left out.
    pub launch: ExternalLaunch,
    /// Whether other machines reach its ports.
    pub is_public: bool,
    /// The address that its ports are published on, where that is not loopback.
    pub publish: Option<String>,
    /// Its limits.
    pub resources: Resources,
    /// Networks, aliases, labels and all else that `[backends.NAME.docker]` has keys for.
    pub settings: DockerSettings,
    /// Variables that the manifest has no other key for, and their values.
    pub extra_env: BTreeMap<String, Secret>,
    /// Settings that the manifest has no key for.
    pub dropped: BTreeSet<String>,
    /// The compose service that starts it.
    pub compose: Option<ComposeService>,
    /// The release, where the name of its image says it.
    pub release: Option<Release>,
    /// Its image, where that is not the official one.
    pub image: Option<String>,
    id: String,
    image_id: String,
    volume: String,
    engine: ProviderState,
    /// Why its database server is not reached from this machine, where that is known.
    database_conflict: Option<String>,
}

/// A service of a compose project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeService {
    /// The project.
    pub project: String,
    /// The service.
    pub service: String,
}

impl ExternalContainer {
    /// Returns the provider state of the backend that the container becomes, until it is replaced.
    pub fn provider_state(&self, resolved: &ResolvedBackend) -> ProviderState {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut state = self.engine.clone();
        state.extend([
            entry(ADOPTED_CONTAINER, &self.id),
            entry(ADOPTED_VOLUME, &self.volume),
            entry(INTERNAL_URL, &self.address),
        ]);
        if !self.dropped.is_empty() {
            let names: Vec<&str> = self.dropped.iter().map(String::as_str).collect();
            state.insert(DROPPED.to_owned(), names.join(", "));
        }
        // The same build goes on, even if its tag has moved by now.
        if let Ok(reference) = backend_reference(resolved) {
            ImagePin::BACKEND.record_id(&reference, &self.image_id, &mut state);
        }
        state
    }
}

impl Docker {
    /// Reads everything of a container that is needed to go on with it.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] says why it cannot be taken over.
    pub async fn inspect_for_import(&self, container: &str) -> Result<ExternalContainer, ProviderError> {
        let engine = self.engine().await?;
        let refused = |reason: String| ProviderError::Unsupported(format!("container `{container}` {reason}"));
        let seen = inspect_container(engine, container).await?.ok_or_else(|| refused("is not there".to_owned()))?;
        if let Some(id) = label_of(&seen, ID) {
            return Err(refused(format!(
                "was made by convexinfra: it belongs to a backend already (identity {id}); if its record is lost, take it up \
                 again with\n    convexinfra recover"
            )));
        }
        let image = image_config(engine, &seen).await?;
        let variables = environment(&seen);
        let given = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let volume = data_paths::data_volume(&seen).map_err(refused)?;
        check_supervision(&seen, &volume).map_err(refused)?;
        data_paths::check(&seen, &variables, image.entrypoint.as_deref()).map_err(refused)?;
        if let Some(other) = volume_users::writers(engine, &volume, &[id_of(&seen)]).await?.first() {
            return Err(refused(shared(&volume, other)));
        }
        let own: BTreeMap<String, String> = variables
            .iter()
            .filter(|(name, value)| image.environment.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut launch = ExternalLaunch::read("container", &variables, &own).map_err(refused)?;
        let api_origin = launch.origins.0.clone();
        let published = published_pair(&seen, api_origin.as_deref()).map_err(refused)?;
        let address = address_of(&seen, engine.remote_host.as_deref()).ok_or_else(|| {
            refused("does not publish its port 3210, and does not run, so it has no address either: start it first".to_owned())
        })?;
        let folder = given("CREDENTIALS_DIR").unwrap_or_else(|| format!("{DATA}/credentials"));
        let credential = async |variable: &str, file: &str| match given(variable) {
            Some(value) => Ok(value),
            None => read_file(engine, container, &format!("{folder}/{file}")).await?.ok_or_else(|| {
                refused(format!(
                    "has no {}: neither in `{variable}` nor in `{folder}/{file}`; has it ever run?",
                    file.replace('_', " ")
                ))
            }),
        };
        let instance_name = credential("INSTANCE_NAME", "instance_name").await?;
        let instance_secret = credential("INSTANCE_SECRET", "instance_secret").await?;
        let database_conflict = match launch.storage.url() {
            Some(url) => require_resolvable(engine, &seen, url).await.err(),
            None => None,
        };
        let extra_env =
            launch.inexpressible.iter().filter_map(|name| Some((name.clone(), Secret::new(own.get(name)?)))).collect();
        let reference = seen.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default();
        let parsed = ImageReference::parse(&reference);
        let version = parsed.digest.or(parsed.tag).unwrap_or("latest");
        let release = Release::parse(version).ok().filter(|_| parsed.name == BACKEND_IMAGE);
        let DroppedSettings { settings, mut dropped } = settings::read(&seen, &image, &published, api_origin.as_deref());
        let grace_s = i64::try_from(self.grace.as_secs()).unwrap_or(i64::MAX);
        dropped.extend(seen.config.as_ref().and_then(|config| dropped::of_stop(config, grace_s)));
        dropped.extend(launch.without_effect.iter().cloned());
        let leads_nowhere = |origin: &mut String| published.pair.is_none() && is_local_url(origin);
        launch.origins.0.take_if(|origin| leads_nowhere(origin));
        launch.origins.1.take_if(|origin| leads_nowhere(origin));
        let mut recorded_engine = ProviderState::new();
        engine.identity.record(engine.url(), &mut recorded_engine);
        Ok(ExternalContainer {
            engine: recorded_engine,
            name: name_of(&seen).to_owned(),
            instance_name,
            instance_secret: Secret::new(instance_secret),
            ports: published.pair,
            address,
            launch,
            database_conflict,
            is_public: published.is_public,
            publish: published.address,
            resources: resources(&seen),
            settings,
            extra_env,
            dropped,
            compose: compose_service(&seen),
            image: release.is_none().then(|| reference.clone()),
            release,
            id: id_of(&seen).to_owned(),
            image_id: seen.image.clone().unwrap_or_default(),
            volume,
        })
    }
}

/// Says that another container writes to the same volume, and what to do about it.
pub(super) fn shared(volume: &str, user: &VolumeUser) -> String {
    format!(
        "is not alone on its volume: {user} uses `{volume}` as well, and two backends on one database destroy it; end that one \
         with\n    docker rm -f {}",
        user.name
    )
}

/// What the image of a container says, which the container has from it.
#[derive(Debug, Default)]
pub(super) struct ImageDefaults {
    pub(super) environment: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) command: Vec<String>,
    pub(super) exposed: BTreeSet<String>,
    pub(super) user: String,
    pub(super) working_dir: String,
}

async fn image_config(engine: &Engine, seen: &ContainerInspectResponse) -> Result<ImageDefaults, ProviderError> {
    let config = match engine.client.inspect_image(seen.image.as_deref().unwrap_or_default()).await {
        Ok(image) => image.config.unwrap_or_default(),
        // An image can go while its container runs on.
        Err(error) if is_absent(&error) => return Ok(ImageDefaults::default()),
        Err(error) => return Err(engine.failed("look at the image", error)),
    };
    Ok(ImageDefaults {
        environment: pairs(&config.env.unwrap_or_default()),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        entrypoint: config.entrypoint,
        command: config.cmd.unwrap_or_default(),
        exposed: config.exposed_ports.unwrap_or_default().into_iter().collect(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
    })
}

fn pairs(lines: &[String]) -> BTreeMap<String, String> {
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the variables of a container.
pub(super) fn environment(seen: &ContainerInspectResponse) -> BTreeMap<String, String> {
    pairs(seen.config.as_ref().and_then(|config| config.env.as_deref()).unwrap_or_default())
}

fn compose_service(seen: &ContainerInspectResponse) -> Option<ComposeService> {
    let label = |name: &str| label_of(seen, name).map(str::to_owned);
    Some(ComposeService { project: label("com.docker.compose.project")?, service: label("com.docker.compose.service")? })
}

/// Returns the limits of a container.
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

/// Refuses a database server that this machine does not reach, although the container does: the database is prepared from here.
/// A container of the same networks is reached at its address.
async fn require_resolvable(engine: &Engine, seen: &ContainerInspectResponse, url: &Secret) -> Result<(), String> {
    let Ok(parsed) = url::Url::parse(url.expose()) else { return Ok(()) };
    let Some(host) = parsed.host_str().filter(|host| neighbour::may_be_neighbour(host)).map(str::to_owned) else {
        return Ok(());
    };
    let networks = seen.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let mut names: Vec<String> = networks.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    names.sort();
    // A question that fails counts as none: the name is looked up as well.
    let found = neighbour::find(engine, &names, &host).await.ok().flatten();
    let is_reached = match &found {
        Some(neighbour) => engine.remote_host.is_none() && neighbour.address.is_some(),
        None => tokio::net::lookup_host((host.as_str(), 1)).await.is_ok(),
    };
    if is_reached {
        return Ok(());
    }
    let network = names.first().cloned().unwrap_or_else(|| "its own".to_owned());
    let port = parsed.port().unwrap_or(if parsed.scheme() == "mysql" { 3306 } else { 5432 });
    let who = found.as_ref().map(|found| format!(" (the container `{}`)", found.container)).unwrap_or_default();
    let stopped = if found.is_some_and(|found| found.address.is_none()) { "start it, or " } else { "" };
    Err(format!(
        "keeps its documents on `{host}:{port}`{who}, a name that only the network `{network}` knows, and convexinfra prepares \
         the database from this machine; {stopped}publish the server's port in its compose file\n    ports: \
         [\"127.0.0.1:{port}:{port}\"]\nand write the URL with `127.0.0.1:{port}` into the container and the manifest"
    ))
}

/// Reads a small file of a container, which need not run.
pub(super) async fn read_file(engine: &Engine, container: &str, path: &str) -> Result<Option<String>, ProviderError> {
    /// Far more than any credential has.
    const MAX_ARCHIVE: usize = 64 << 10;
    let Some(start) = read_archive(engine, container, path, MAX_ARCHIVE).await?.filter(|start| start.is_whole) else {
        return Ok(None);
    };
    let mut archive = tar::Archive::new(start.bytes.as_slice());
    let mut text = String::new();
    if let Ok(mut entries) = archive.entries()
        && let Some(Ok(mut entry)) = entries.next()
    {
        let _ = entry.read_to_string(&mut text);
    }
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}
