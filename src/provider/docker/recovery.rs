//! Recovery: backends of this tool on an engine that no record of the control plane knows, because its home is lost or
//! another one. Making a second backend beside one of them would leave its data behind without a word.

use std::collections::{BTreeMap, BTreeSet};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder};

use super::Docker;
use super::engine::Engine;
use super::hardening::published_ports;
use super::image::{ImagePin, backend_reference};
use super::import::{environment, read_file};
use super::inventory::{ADOPTED_VOLUME, id_of, inspect_container, label_filter, label_of, name_of, volume_at};
use super::labels::{BACKEND, CONTROL_PLANE, ID, INSTANCE, PROJECT, ROLE, ResourceRole};
use super::launch_file::DATA;
use crate::model::{BackendId, BackendName, PortPair, ProjectName, ProviderState, Release, ResolvedBackend, Secret};
use crate::provider::{FoundBackend, ProviderError};

/// A backend that an engine has and that is not among those that a control plane knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its identity, from its labels.
    pub id: BackendId,
    /// What it was called in its project when it was made.
    pub name: String,
    /// What its process calls itself.
    pub instance_name: String,
    /// The control plane that made it, in short.
    pub control_plane: String,
    /// Its container, by name; none where only its volume is left.
    pub container: Option<String>,
}

/// Everything of an orphan that its record needs.
#[derive(Debug, Clone)]
pub struct RecoveredBackend {
    /// What was found.
    pub orphan: Orphan,
    /// The secret that its keys are made from.
    pub instance_secret: Secret,
    /// The ports that it is published on.
    pub ports: Option<PortPair>,
    /// The release that it runs, where the container says it.
    pub release: Option<Release>,
    /// The manifest's word for the engine of its documents.
    pub storage: &'static str,
    /// The manifest's word for the engine of its files.
    pub files: &'static str,
    image_id: String,
    /// The volume that its container mounts: another one may hold what its data was before.
    volume: Option<String>,
    engine: ProviderState,
}

impl RecoveredBackend {
    /// Returns the provider state with which its record begins: the very same image goes on.
    pub fn provider_state(&self, resolved: &ResolvedBackend) -> ProviderState {
        let mut state = self.engine.clone();
        if let Ok(reference) = backend_reference(resolved) {
            ImagePin::BACKEND.record_id(&reference, &self.image_id, &mut state);
        }
        state.extend(self.volume.clone().map(|volume| (ADOPTED_VOLUME.to_owned(), volume)));
        state
    }
}

/// Lists the backends of a project that are not among the known ones.
pub(super) async fn orphans(
    engine: &Engine,
    project: &ProjectName,
    known: &BTreeSet<BackendId>,
) -> Result<Vec<Orphan>, ProviderError> {
    let filters = label_filter(PROJECT, project.as_str());
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let (containers, volumes) =
        tokio::join!(engine.client.list_containers(Some(containers)), engine.client.list_volumes(Some(volumes)));
    let containers = containers.map_err(|error| engine.failed("list the containers", error))?;
    let volumes = volumes.map_err(|error| engine.failed("list the volumes", error))?.volumes.unwrap_or_default();
    let mut found: BTreeMap<String, Orphan> = BTreeMap::new();
    let mut add = |labels: &std::collections::HashMap<String, String>, role: ResourceRole, container: Option<String>| {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        if label(ROLE) != role.as_str() || label(ID).is_empty() || known.iter().any(|id| id.as_str() == label(ID)) {
            return;
        }
        let orphan = found.entry(label(ID)).or_insert_with(|| Orphan {
            id: BackendId::new(label(ID)),
            name: label(BACKEND),
            instance_name: label(INSTANCE),
            control_plane: label(CONTROL_PLANE),
            container: None,
        });
        orphan.container = orphan.container.take().or(container);
    };
    for container in &containers {
        let name = container.names.as_deref().and_then(<[String]>::first).map(|name| name.trim_start_matches('/').to_owned());
        add(&container.labels.clone().unwrap_or_default(), ResourceRole::Backend, name);
    }
    for volume in &volumes {
        add(&volume.labels, ResourceRole::Data, None);
        add(&volume.labels, ResourceRole::RestoredData, None);
    }
    Ok(found.into_values().collect())
}

/// Finds the backends of one name.
pub(super) async fn find(
    engine: &Engine,
    project: &ProjectName,
    name: &BackendName,
) -> Result<Vec<FoundBackend>, ProviderError> {
    let all = orphans(engine, project, &BTreeSet::new()).await?;
    let found = all.into_iter().filter(|orphan| orphan.name == name.as_str()).map(|orphan| FoundBackend {
        id: orphan.id,
        thing: orphan.container.map_or("a volume with its data".to_owned(), |name| format!("the container `{name}`")),
    });
    Ok(found.collect())
}

impl Docker {
    /// Lists the backends of a project that are on the engine and not among the known ones.
    ///
    /// # Errors
    /// [`ProviderError`] when the engine does not answer: that is not "none".
    pub async fn find_orphans(&self, project: &ProjectName, known: &BTreeSet<BackendId>) -> Result<Vec<Orphan>, ProviderError> {
        orphans(self.engine().await?, project, known).await
    }

    /// Reads what a record needs of an orphan.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] says what of it is missing.
    pub async fn inspect_for_recovery(&self, orphan: Orphan) -> Result<RecoveredBackend, ProviderError> {
        let engine = self.engine().await?;
        let refused = |reason: String| ProviderError::Unsupported(format!("`{}` {reason}", orphan.name));
        let Some(container) = &orphan.container else {
            return Err(refused(format!(
                "has a volume on the engine and no container that says how it ran: look for it with\n    \
                 docker volume ls --filter label={ID}={}",
                orphan.id
            )));
        };
        let seen = inspect_container(engine, container).await?;
        let seen = seen.ok_or_else(|| refused(format!("has lost its container `{container}` a moment ago")))?;
        if label_of(&seen, ID) != Some(orphan.id.as_str()) {
            return Err(refused(format!("is not the container `{container}` any more")));
        }
        let secret = read_file(engine, id_of(&seen), &format!("{DATA}/credentials/instance_secret")).await?;
        let secret = secret.ok_or_else(|| {
            refused(format!(
                "has no instance secret in `{DATA}/credentials/instance_secret` of its container `{}`: put the file back, and \
                 run the same command again",
                name_of(&seen)
            ))
        })?;
        let command = seen.config.as_ref().and_then(|config| config.cmd.clone()).unwrap_or_default();
        let after = |flag: &str| command.iter().skip_while(|word| *word != flag).nth(1).cloned();
        let inside = |flag: &str| after(flag).and_then(|port| port.parse::<u16>().ok());
        let ports = seen.host_config.as_ref().map(published_ports).unwrap_or_default();
        let outside =
            |inside: u16| ports.iter().find(|port| port.inside == inside && port.outside != 0).map(|port| port.outside);
        let ports = match (inside("--port").and_then(outside), inside("--site-proxy-port").and_then(outside)) {
            (Some(api), Some(site)) => Some(PortPair { api, site }),
            _ => None,
        };
        let release = environment(&seen).get("CONVEX_RELEASE_VERSION_DEV").and_then(|text| Release::parse(text).ok());
        let storage = match after("--db").as_deref() {
            Some("postgres-v5") => "postgres",
            Some("mysql-v5") => "mysql",
            _ => "sqlite",
        };
        let files = if command.iter().any(|word| word == "--s3-storage") { "s3" } else { "local" };
        let mut recorded_engine = ProviderState::new();
        engine.identity.record(engine.url(), &mut recorded_engine);
        Ok(RecoveredBackend {
            engine: recorded_engine,
            instance_secret: Secret::new(secret),
            ports,
            release,
            storage,
            files,
            image_id: seen.image.clone().unwrap_or_default(),
            volume: volume_at(&seen, DATA).map(str::to_owned),
            orphan,
        })
    }
}
