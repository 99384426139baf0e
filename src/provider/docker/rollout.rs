//! Rollout: brings the container of a backend from its actual to its desired state, with rollback.
//!
//! At most one container writes to the volume at any time. So a replacement stops the container from before, gives it
//! another name and keeps it until the new one answers; if that does not happen, the one from before runs again. What a
//! killed command has left is read from the names: a container called `…-previous` means that the other one is not
//! proven yet. Nothing is started where data has been lost.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, RestartPolicyNameEnum};

use super::backend::data_path;
use super::container_diff::{diff_container, stopped};
use super::container_ops::{CreateOutcome, RETRY_PAUSE};
use super::context::BackendContext;
use super::desired::ContainerSpec;
use super::diff::{ContainerDifference, RepairKind, field_drift};
use super::engine::Engine;
use super::inventory::{
    Inventory, environment_of, has_file, id_of, inspect_container, label_of, name_of, take_inventory, volume_at,
};
use super::labels::{ID, ResourceNames};
use super::launch_file::{DATA, LAUNCH_VARIABLE, SecretFiles};
use super::logs::{LAST_LINES, last_lines};
use super::readiness::{ReadinessProbe, restart_count};
use super::repair::{Attempts, RepairAction, choose_repair};
use super::{volume_users, written_data};
use crate::failpoint;
use crate::model::ResolvedBackend;
use crate::provider::{ProgressFn, ProviderError};

/// More rounds than any way from a left-over to a running backend has.
const MAX_ROUNDS: u32 = 12;

/// What is left where a replacement does not come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// The container from before runs again.
    Predecessor,
    /// Nothing runs: the data may be that of the replacement's release by now.
    Stopped,
}

/// What is to be brought up, and with what.
pub(super) struct Rollout<'a> {
    pub(super) engine: &'a Engine,
    pub(super) resolved: &'a ResolvedBackend,
    pub(super) context: &'a BackendContext,
    pub(super) wanted: &'a ContainerSpec,
    pub(super) probe: ReadinessProbe<'a>,
    pub(super) fallback: Fallback,
    pub(super) progress: ProgressFn<'a>,
}

/// The container that ran before.
enum Predecessor<'a> {
    /// Ours, under another name.
    Previous(&'a ContainerInspectResponse),
    /// One that something else started and that is taken over.
    Adopted(&'a ContainerInspectResponse),
}

impl Predecessor<'_> {
    fn container(&self) -> &ContainerInspectResponse {
        match self {
            Self::Previous(container) | Self::Adopted(container) => container,
        }
    }
}

impl Rollout<'_> {
    fn names(&self) -> &ResourceNames {
        &self.context.names
    }

    /// Brings the backend up.
    pub(super) async fn run(&self) -> Result<(), ProviderError> {
        let mut tried = Attempts::default();
        for _ in 0..MAX_ROUNDS {
            let seen = take_inventory(self.engine, &self.resolved.id, &self.resolved.provider_state).await?;
            self.require_sole_writer(&seen).await?;
            for stray in seen.duplicates(self.names()) {
                (self.progress)(format!("removing a second container of {}: {}", self.resolved.name, name_of(stray)));
                self.stop_and_remove(stray).await?;
            }
            let done = match seen.current(self.names()) {
                Some(current) => self.converge(&seen, current, &mut tried).await?,
                None => self.create_and_start(&seen).await?,
            };
            if done {
                return Ok(());
            }
        }
        Err(ProviderError::Engine {
            verb: format!("bring the container `{}` up", self.wanted.name),
            reason: "something else keeps changing it".to_owned(),
        })
    }

    /// From a container that is there. Says whether that was all.
    async fn converge(
        &self,
        seen: &Inventory,
        current: &ContainerInspectResponse,
        tried: &mut Attempts,
    ) -> Result<bool, ProviderError> {
        let mut found = diff_container("", Some(self.wanted), current);
        if self.is_on_our_volume(current) {
            self.require_data(id_of(current)).await?;
        }
        found.extend(missing_launch_file(self.engine, current, self.wanted).await?);
        let remedy = choose_repair(&found, *tried);
        if remedy == RepairAction::Replace {
            *tried = Attempts::default();
            return self.set_current_aside(seen, current).await;
        }
        if remedy == RepairAction::UpdateInPlace {
            tried.in_place = true;
            self.engine.update_in_place(current, self.wanted, &found).await?;
            return Ok(false);
        }
        let predecessor = self.predecessor(seen);
        let id = id_of(current);
        let mut restarts = restart_count(current);
        if remedy == RepairAction::Start {
            if let Some(old) = &predecessor {
                self.stop_old(old).await?;
            }
            restarts = match self.engine.resume_or_start(current, self.wanted).await {
                Ok(restarts) => restarts,
                Err(ProviderError::Engine { .. }) => {
                    tried.start = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
        } else if predecessor.is_none() && self.probe.is_unresponsive(current).await {
            (self.progress)(format!("{} runs and does not answer: restarting it", self.resolved.name));
            self.engine.restart_with_files(current, self.wanted).await?;
        }
        if predecessor.is_none() && remedy == RepairAction::Keep {
            return Ok(true);
        }
        self.commit(id, restarts, predecessor).await.map(|()| true)
    }

    /// Takes the container that is there out of the way.
    async fn set_current_aside(&self, seen: &Inventory, current: &ContainerInspectResponse) -> Result<bool, ProviderError> {
        let never_ran = current.state.as_ref().and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED);
        let unproven = seen.previous(self.names()).is_some() || seen.adopted.is_some();
        if never_ran || unproven || !self.resolved.has_been_ready {
            // There is no way back to it, or a better one.
            self.stop_and_remove(current).await?;
            return Ok(false);
        }
        (self.progress)(format!("restarting {}", self.resolved.name));
        self.engine.stop_container(current).await?;
        self.engine.rename_container(id_of(current), &self.names().previous()).await?;
        Ok(false)
    }

    /// From no container at all. Says whether that was all.
    async fn create_and_start(&self, seen: &Inventory) -> Result<bool, ProviderError> {
        let predecessor = self.predecessor(seen);
        if let Some(old) = &predecessor {
            if self.is_on_our_volume(old.container()) {
                self.require_data(id_of(old.container())).await?;
            }
            self.engine.require_free_ports(&self.wanted.ports, old.container()).await?;
            self.stop_old(old).await?;
        }
        let id = match self.engine.create_container(self.wanted).await? {
            CreateOutcome::Created(id) => id,
            CreateOutcome::NameTaken(reason) => {
                tokio::time::sleep(RETRY_PAUSE).await;
                return self.check_name_holder(&reason).await;
            }
        };
        if let Err(missing) = self.require_data(&id).await {
            self.engine.remove_container(&id, true).await?;
            return Err(missing);
        }
        match self.engine.start_container(&id, &self.wanted.ports).await {
            Ok(()) => self.commit(&id, 0, predecessor).await.map(|()| true),
            Err(error @ ProviderError::EngineUnreachable { .. }) => Err(error),
            Err(error) => {
                // Nothing has run in it, so nothing is lost with it, and other ports may be tried.
                self.engine.remove_container(&id, true).await?;
                if let Some(old) = predecessor {
                    self.roll_back(&old).await?;
                }
                Err(error)
            }
        }
    }

    /// After a name was taken: a container of ours, made by a command that was killed, is found in the next round.
    async fn check_name_holder(&self, reason: &str) -> Result<bool, ProviderError> {
        let holder = inspect_container(self.engine, &self.wanted.name).await?;
        match holder {
            Some(holder) if label_of(&holder, ID) != Some(self.resolved.id.as_str()) => {
                Err(ProviderError::Unsupported(format!(
                    "the container `{}` was not made by this control plane, and its name is needed: rename or remove it\n({reason})",
                    self.wanted.name
                )))
            }
            _ => Ok(false),
        }
    }

    fn predecessor<'s>(&self, seen: &'s Inventory) -> Option<Predecessor<'s>> {
        let previous = seen.previous(self.names()).map(Predecessor::Previous);
        previous.or_else(|| seen.adopted.as_ref().map(Predecessor::Adopted))
    }

    /// Sees to it that the container from before does not write.
    async fn stop_old(&self, old: &Predecessor<'_>) -> Result<(), ProviderError> {
        let container = old.container();
        if matches!(old, Predecessor::Adopted(_)) {
            self.engine.disable_restart(id_of(container)).await?;
        }
        match stopped(container.state.as_ref()) {
            Some(how) if how != "paused" && !how.starts_with("restarting") => Ok(()),
            _ => self.engine.stop_container(container).await,
        }
    }

    /// Waits until a replacement answers, and only then gives up the container from before.
    async fn commit(&self, id: &str, restarts: i64, predecessor: Option<Predecessor<'_>>) -> Result<(), ProviderError> {
        let Some(old) = predecessor else { return self.probe.watch_for_early_exit(id, restarts).await };
        match self.probe.wait_until_ready(id, restarts).await? {
            Ok(()) => {
                failpoint::hit("provider.docker.replacement_ready");
                self.erase_old_launch_file(id, &old).await?;
                self.engine.remove_container(id_of(old.container()), matches!(old, Predecessor::Previous(_))).await
            }
            Err(reason) => {
                let log = last_lines(self.engine, id, LAST_LINES).await;
                let mut has_written = false;
                if let Some(new) = inspect_container(self.engine, id).await? {
                    self.engine.stop_container(&new).await?;
                    has_written = self.may_roll_back(&old)
                        && written_data::by_another_build(self.engine, self.resolved, &new, old.container()).await?;
                    self.engine.remove_container(id, self.is_on_our_volume(&new)).await?;
                }
                if has_written {
                    let previous = name_of(old.container()).to_owned();
                    return Err(ProviderError::NotRolledBack { reason, previous, log });
                }
                self.roll_back(&old).await?;
                Err(ProviderError::NotReplaced { reason, log })
            }
        }
    }

    /// Returns whether the container from before may run again. What was switched away from is given back by the operation, or by
    /// none.
    fn may_roll_back(&self, old: &Predecessor<'_>) -> bool {
        self.fallback == Fallback::Predecessor && self.is_on_our_volume(old.container())
    }

    /// Performs the rollback: the container from before runs again, where it may.
    async fn roll_back(&self, old: &Predecessor<'_>) -> Result<(), ProviderError> {
        if !self.may_roll_back(old) {
            return Ok(());
        }
        let id = id_of(old.container());
        match old {
            Predecessor::Previous(_) => self.engine.rename_container(id, &self.wanted.name).await?,
            Predecessor::Adopted(container) => {
                let host = container.host_config.as_ref();
                let policy = host.and_then(|host| host.restart_policy.clone()).filter(|policy| {
                    !matches!(policy.name, None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO))
                });
                let body = bollard::models::ContainerUpdateBody { restart_policy: policy, ..Default::default() };
                if body.restart_policy.is_some() {
                    let updated = self.engine.client.update_container(id, body).await;
                    updated.map_err(|error| self.engine.failed("change the restart policy", error))?;
                }
            }
        }
        (self.progress)(format!("the container of {} from before runs again", self.resolved.name));
        self.engine.start_container(id, &self.wanted.ports).await
    }

    /// Empties the file with the secrets of the launch from before.
    async fn erase_old_launch_file(&self, id: &str, old: &Predecessor<'_>) -> Result<(), ProviderError> {
        let variable = |container: &ContainerInspectResponse| {
            let prefix = format!("{LAUNCH_VARIABLE}={DATA}/");
            environment_of(container).find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        };
        let now = self.wanted.environment.get(LAUNCH_VARIABLE).and_then(|path| path.strip_prefix(&format!("{DATA}/")));
        match (variable(old.container()), &self.wanted.files) {
            (Some(before), Some(files)) if Some(before.as_str()) != now => {
                let mut empty = SecretFiles::new(files.target, files.owner);
                empty.add(before, b"");
                self.engine.upload_files(id, &empty).await
            }
            _ => Ok(()),
        }
    }

    /// Stops and removes a container. What it wrote to a volume that is not ours stays.
    async fn stop_and_remove(&self, container: &ContainerInspectResponse) -> Result<(), ProviderError> {
        self.engine.stop_container(container).await?;
        self.engine.remove_container(id_of(container), self.is_on_our_volume(container)).await
    }

    /// Whether the data of a container is the data of the backend.
    fn is_on_our_volume(&self, container: &ContainerInspectResponse) -> bool {
        volume_at(container, DATA) == Some(self.context.data_volume.as_str())
    }

    /// Refuses to go on while another container runs as a backend on the same volume.
    async fn require_sole_writer(&self, inventory: &Inventory) -> Result<(), ProviderError> {
        let own = inventory.container_ids();
        let writers = volume_users::writers(self.engine, &self.context.data_volume, &own).await?;
        match writers.first() {
            None => Ok(()),
            Some(user) => Err(ProviderError::VolumeShared {
                volume: self.context.data_volume.clone(),
                user: user.to_string(),
                container: user.name.clone(),
                is_composed: user.compose.is_some(),
            }),
        }
    }

    /// Fails when the data of a backend that was ready before is not in the volume of this container.
    async fn require_data(&self, container: &str) -> Result<(), ProviderError> {
        let Some(path) = data_path(self.resolved).filter(|_| self.resolved.has_been_ready) else { return Ok(()) };
        if has_file(self.engine, container, &path).await? || inspect_container(self.engine, container).await?.is_none() {
            return Ok(());
        }
        Err(ProviderError::DataMissing {
            instance: self.resolved.instance_name.to_string(),
            place: format!("{path} in the volume {}", self.context.data_volume),
        })
    }
}

/// Returns the difference that the file with the secrets of a launch is not where its container looks for it.
pub(super) async fn missing_launch_file(
    engine: &Engine,
    container: &ContainerInspectResponse,
    spec: &ContainerSpec,
) -> Result<Option<ContainerDifference>, ProviderError> {
    let Some(path) = spec.environment.get(LAUNCH_VARIABLE) else { return Ok(None) };
    // Another launch has another file, and is another difference.
    let is_its_own = environment_of(container).any(|line| line.strip_prefix(LAUNCH_VARIABLE) == Some(&format!("={path}")));
    if !is_its_own
        || has_file(engine, id_of(container), path).await?
        || inspect_container(engine, id_of(container)).await?.is_none()
    {
        return Ok(None);
    }
    Ok(Some(ContainerDifference { drift: field_drift("launch_file", path.as_str(), "missing"), repair: RepairKind::Refill }))
}
