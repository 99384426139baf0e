//! Bringing the container of a backend to what it should be, from whatever is there.
//!
//! At most one container writes to the volume at any time. So a replacement stops the container from before, gives it
//! another name and keeps it until the new one answers; if that does not happen, the one from before runs again. What a
//! killed command has left is read from the names: a container called `…-previous` means that the other one is not
//! proven yet. Must not do: start anything where data has been lost.

use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, RestartPolicyNameEnum};

use super::backend::{Setting, data_path};
use super::compare::{differences, label_of, stopped};
use super::engine::Engine;
use super::hands::{Made, PAUSE};
use super::launch_file::{DATA, LAUNCH_VARIABLE, PrivateFiles};
use super::logs::last_lines;
use super::look::{Seen, has_file, id_of, inspect, look, name_of};
use super::mend::{Remedy, Tried, remedy};
use super::names::{ID, Names};
use super::wait::restarts;
use super::wanted::Wanted;
use crate::convex::deployment::Connections;
use crate::fault;
use crate::model::Placement;
use crate::provider::{Notice, ProviderError};

/// More rounds than any way from a left-over to a running backend has.
const ROUNDS: u32 = 12;

/// What is to be brought up, and with what.
pub(super) struct Work<'a> {
    pub(super) engine: &'a Engine,
    pub(super) placement: &'a Placement,
    pub(super) setting: &'a Setting,
    pub(super) wanted: &'a Wanted,
    pub(super) connections: &'a Connections,
    /// How long a replacement may take until it answers.
    pub(super) ready_within: Duration,
    /// How long a container that nothing depends on yet is watched for an early end.
    pub(super) watched_for: Duration,
    pub(super) notice: Notice<'a>,
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

impl Work<'_> {
    fn names(&self) -> &Names {
        &self.setting.names
    }

    /// Brings the backend up.
    pub(super) async fn bring_up(&self) -> Result<(), ProviderError> {
        let mut tried = Tried::default();
        for _ in 0..ROUNDS {
            let seen = look(self.engine, self.placement).await?;
            for stray in seen.strays(self.names()) {
                (self.notice)(format!("removing a second container of {}: {}", self.placement.name, name_of(stray)));
                self.take_away(stray).await?;
            }
            let done = match seen.current(self.names()) {
                Some(current) => self.settle(&seen, current, &mut tried).await?,
                None => self.begin(&seen).await?,
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
    async fn settle(&self, seen: &Seen, current: &ContainerInspectResponse, tried: &mut Tried) -> Result<bool, ProviderError> {
        self.require_data(id_of(current)).await?;
        let found = differences("", Some(self.wanted), current);
        let remedy = remedy(&found, *tried);
        if remedy == Remedy::Anew {
            *tried = Tried::default();
            return self.make_room(seen, current).await;
        }
        if remedy == Remedy::InPlace {
            tried.in_place = true;
            self.engine.change_in_place(current, self.wanted, &found).await?;
            return Ok(false);
        }
        let predecessor = self.predecessor(seen);
        let id = id_of(current);
        if remedy == Remedy::Start {
            if let Some(old) = &predecessor {
                self.quiet(old).await?;
            }
            if let Err(error) = self.engine.run_again(current, self.wanted).await {
                if matches!(error, ProviderError::Engine { .. }) {
                    tried.start = true;
                    return Ok(false);
                }
                return Err(error);
            }
        } else if predecessor.is_none() && self.hangs(current).await {
            (self.notice)(format!("{} runs and does not answer: starting it anew", self.placement.name));
            self.engine.stop(current).await?;
            self.engine.run_again(current, self.wanted).await?;
        }
        if predecessor.is_none() && remedy == Remedy::Nothing {
            return Ok(true);
        }
        self.conclude(id, restarts(current), predecessor).await.map(|()| true)
    }

    /// Takes the container that is there out of the way.
    async fn make_room(&self, seen: &Seen, current: &ContainerInspectResponse) -> Result<bool, ProviderError> {
        let never_ran = current.state.as_ref().and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED);
        let unproven = seen.previous(self.names()).is_some() || seen.adopted.is_some();
        if never_ran || unproven || !self.placement.has_been_ready {
            // There is no way back to it, or a better one.
            self.take_away(current).await?;
            return Ok(false);
        }
        (self.notice)(format!("stopping {} to start it anew", self.placement.name));
        self.engine.stop(current).await?;
        self.engine.rename(id_of(current), &self.names().previous()).await?;
        Ok(false)
    }

    /// From no container at all. Says whether that was all.
    async fn begin(&self, seen: &Seen) -> Result<bool, ProviderError> {
        let predecessor = self.predecessor(seen);
        if let Some(old) = &predecessor {
            self.require_data(id_of(old.container())).await?;
            self.quiet(old).await?;
        }
        let id = match self.engine.make(self.wanted).await? {
            Made::Here(id) => id,
            Made::NameTaken(reason) => {
                tokio::time::sleep(PAUSE).await;
                return self.whose(&reason).await;
            }
        };
        if let Err(missing) = self.require_data(&id).await {
            self.engine.remove(&id, true).await?;
            return Err(missing);
        }
        match self.engine.start(&id, &self.wanted.ports).await {
            Ok(()) => self.conclude(&id, 0, predecessor).await.map(|()| true),
            Err(error @ ProviderError::EngineUnreachable { .. }) => Err(error),
            Err(error) => {
                // Nothing has run in it, so nothing is lost with it, and other ports may be tried.
                self.engine.remove(&id, true).await?;
                if let Some(old) = predecessor {
                    self.go_back(&old).await?;
                }
                Err(error)
            }
        }
    }

    /// After a name was taken: a container of ours, made by a command that was killed, is found in the next round.
    async fn whose(&self, reason: &str) -> Result<bool, ProviderError> {
        let holder = inspect(self.engine, &self.wanted.name).await?;
        match holder {
            Some(holder) if label_of(&holder, ID) != Some(self.placement.id.as_str()) => {
                Err(ProviderError::Unsupported(format!(
                    "the container `{}` was not made by this control plane, and its name is needed: rename or remove it\n({reason})",
                    self.wanted.name
                )))
            }
            _ => Ok(false),
        }
    }

    fn predecessor<'s>(&self, seen: &'s Seen) -> Option<Predecessor<'s>> {
        let previous = seen.previous(self.names()).map(Predecessor::Previous);
        previous.or_else(|| seen.adopted.as_ref().map(Predecessor::Adopted))
    }

    /// Sees to it that the container from before does not write.
    async fn quiet(&self, old: &Predecessor<'_>) -> Result<(), ProviderError> {
        let container = old.container();
        if matches!(old, Predecessor::Adopted(_)) {
            self.engine.retire(id_of(container)).await?;
        }
        match stopped(container.state.as_ref()) {
            Some(how) if how != "paused" && !how.starts_with("restarting") => Ok(()),
            _ => self.engine.stop(container).await,
        }
    }

    /// Waits until a replacement answers, and only then gives up the container from before.
    async fn conclude(&self, id: &str, restarts: i64, predecessor: Option<Predecessor<'_>>) -> Result<(), ProviderError> {
        let Some(old) = predecessor else { return self.watch(id, restarts).await };
        match self.until_ready(id, restarts).await? {
            Ok(()) => {
                fault::point("provider.docker.replacement_ready");
                self.scrub(id, &old).await?;
                self.engine.remove(id_of(old.container()), matches!(old, Predecessor::Previous(_))).await
            }
            Err(reason) => {
                let log = last_lines(self.engine, id).await;
                if let Some(new) = inspect(self.engine, id).await? {
                    self.take_away(&new).await?;
                }
                self.go_back(&old).await?;
                Err(ProviderError::NotReplaced { reason, log })
            }
        }
    }

    /// Lets the container from before run again.
    async fn go_back(&self, old: &Predecessor<'_>) -> Result<(), ProviderError> {
        let id = id_of(old.container());
        match old {
            Predecessor::Previous(_) => self.engine.rename(id, &self.wanted.name).await?,
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
        (self.notice)(format!("the container of {} from before runs again", self.placement.name));
        self.engine.start(id, &self.wanted.ports).await
    }

    /// Empties the file with the secrets of the launch from before.
    async fn scrub(&self, id: &str, old: &Predecessor<'_>) -> Result<(), ProviderError> {
        let variable = |container: &ContainerInspectResponse| {
            let environment = container.config.as_ref()?.env.clone()?;
            let prefix = format!("{LAUNCH_VARIABLE}={DATA}/");
            environment.iter().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        };
        let now = self.wanted.environment.get(LAUNCH_VARIABLE).and_then(|path| path.strip_prefix(&format!("{DATA}/")));
        match (variable(old.container()), &self.wanted.files) {
            (Some(before), Some(files)) if Some(before.as_str()) != now => {
                let mut empty = PrivateFiles::new(files.target, files.owner);
                empty.add(before, b"");
                self.engine.fill(id, &empty).await
            }
            _ => Ok(()),
        }
    }

    async fn take_away(&self, container: &ContainerInspectResponse) -> Result<(), ProviderError> {
        self.engine.stop(container).await?;
        self.engine.remove(id_of(container), true).await
    }

    /// Fails when the data of a backend that was ready before is not in the volume of this container.
    async fn require_data(&self, container: &str) -> Result<(), ProviderError> {
        let Some(path) = data_path(self.placement).filter(|_| self.placement.has_been_ready) else { return Ok(()) };
        if has_file(self.engine, container, &path).await? || inspect(self.engine, container).await?.is_none() {
            return Ok(());
        }
        let volume = self.wanted.volume.as_ref().map_or("", |(volume, _)| volume.as_str());
        Err(ProviderError::DataMissing {
            instance: self.placement.instance_name.to_string(),
            place: format!("{path} in the volume {volume}"),
        })
    }
}
