//! Volumes: which one holds the data, and making, forking, growing and removing one.
//!
//! Must not do: make an empty volume where there was data, or remove one that may hold any.

use std::collections::BTreeSet;

use super::api_error::{ApiErrorKind, error_message};
use super::api_types::{ExtendResponse, Machine, Volume};
use super::apps::{AppOrigin, AppReconciler};
use super::client::{CallError, call_failed, parse, parse_created};
use super::desired::{BACKEND_MACHINE, MachineSpec, VOLUME_NAME};
use super::error::FlyError;
use super::requests;
use crate::failpoint;

/// The note under which the volume is kept.
pub(super) const VOLUME_KEY: &str = "volume";

/// How often a call whose answer was lost is retried.
const MAX_ATTEMPTS: u32 = 3;

/// Which volume is the backend's.
#[derive(Debug, Clone)]
pub(super) enum VolumeChoice {
    /// This one; the others are not in use.
    One(Box<Volume>, Vec<Volume>),
    /// There is none.
    None,
}

/// How a volume went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeDeletion {
    /// It was taken away.
    Deleted,
    /// Fly knows of no such volume.
    NotFound,
}

/// Where a volume comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeOrigin {
    /// This run made it, and was told so.
    Created,
    /// It was there, or this is not known.
    Existing,
}

/// Why something was not made.
#[derive(Debug)]
pub(super) enum CreateError {
    /// There is no room: in the region, or on the one host that the volume is on.
    NoCapacity(CapacityScope, String),
    /// Something else.
    Failed(FlyError),
}

/// Where there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CapacityScope {
    Region,
    Host,
    Quota,
}

impl From<FlyError> for CreateError {
    fn from(error: FlyError) -> Self {
        Self::Failed(error)
    }
}

impl CreateError {
    /// Returns the outcome of a creation that was rejected.
    pub(super) fn from_call(what: &str, declined: CallError) -> Self {
        match declined {
            CallError::Rejected(ApiErrorKind::RegionFull, reply) => {
                Self::NoCapacity(CapacityScope::Region, error_message(&reply))
            }
            CallError::Rejected(ApiErrorKind::HostFull, reply) => Self::NoCapacity(CapacityScope::Host, error_message(&reply)),
            CallError::Rejected(ApiErrorKind::Quota, reply) => Self::NoCapacity(CapacityScope::Quota, error_message(&reply)),
            declined => Self::Failed(call_failed(what, declined)),
        }
    }
}

impl AppReconciler<'_> {
    /// Lists the volumes of the app that are not being destroyed, of any name. Lists lag behind, so the one that was noted
    /// is asked for by its id where it is not listed.
    pub(super) async fn list_volumes(&self) -> Result<Vec<Volume>, FlyError> {
        let mut volumes: Vec<Volume> = self.client.list(requests::list_volumes(&self.app)).await?;
        if let Some(noted) = self.role.volume_key.and_then(|note| self.placement.provider_state.get(note))
            && !volumes.iter().any(|volume| volume.id == *noted)
        {
            volumes.extend(self.client.find::<Volume>(requests::get_volume(&self.app, noted)).await?);
        }
        volumes.retain(Volume::is_live);
        Ok(volumes)
    }

    /// Whether a volume of the app may hold data that is wanted. An app that the manifest names may have been kept for its
    /// data; one whose name follows from this backend's identity holds none before the backend was ready.
    pub(super) fn may_hold_data(&self) -> bool {
        self.placement.has_been_ready || self.placement.spec.settings.fly.app.is_some()
    }

    /// Finds the backend's volume. One look that finds none is no proof that there is none: lists lag behind.
    pub(super) async fn find_volume(&self, made: AppOrigin, machines: &[Machine]) -> Result<VolumeChoice, FlyError> {
        let mut volumes = self.list_volumes().await?;
        if volumes.is_empty() && made == AppOrigin::Existing {
            self.client.pause().await;
            volumes = self.list_volumes().await?;
        }
        self.choose_volume(volumes, machines)
    }

    /// The volume that our machine has, else the one that was noted, else the only one. Where there is
    /// nothing to lose, any will do.
    pub(super) fn choose_volume(&self, volumes: Vec<Volume>, machines: &[Machine]) -> Result<VolumeChoice, FlyError> {
        let mut volumes: Vec<Volume> = volumes.into_iter().filter(|volume| volume.name == VOLUME_NAME).collect();
        let noted = self.placement.provider_state.get(VOLUME_KEY);
        let ours = machines.iter().find(|machine| machine.name == BACKEND_MACHINE && self.ownership(machine).is_ours());
        let mounted = ours.and_then(Machine::mounted_volume);
        let attached = |volume: &Volume| ours.is_some_and(|machine| volume.attached_machine() == Some(machine.id.as_str()));
        let position = volumes
            .iter()
            .position(|volume| Some(volume.id.as_str()) == mounted || attached(volume))
            .or_else(|| volumes.iter().position(|volume| Some(&volume.id) == noted));
        let position = match position {
            Some(position) => position,
            None if volumes.is_empty() => return Ok(VolumeChoice::None),
            None if volumes.len() > 1 && self.may_hold_data() => {
                let volumes = volumes.into_iter().map(|volume| volume.id).collect();
                return Err(FlyError::AmbiguousVolumes { app: self.app.clone(), volumes });
            }
            // The newest.
            None => {
                let newest = volumes.iter().enumerate().max_by(|(_, a), (_, b)| a.created_at.cmp(&b.created_at));
                newest.map_or(0, |(index, _)| index)
            }
        };
        let chosen = volumes.swap_remove(position);
        Ok(VolumeChoice::One(Box::new(chosen), volumes))
    }

    /// Refuses to go on with a volume whose host does not answer.
    pub(super) fn require_reachable(&self, volume: &Volume) -> Result<(), FlyError> {
        match volume.is_host_reachable() {
            true => Ok(()),
            false => Err(FlyError::HostUnreachable { app: self.app.clone(), what: format!("volume `{}`", volume.id) }),
        }
    }

    /// Makes a volume; with a source it is a copy of that one, on another host.
    pub(super) async fn create_volume(
        &self,
        wanted: &MachineSpec,
        region: &str,
        image: &str,
        source: Option<&Volume>,
    ) -> Result<(Volume, VolumeOrigin), CreateError> {
        let least = source.map_or(0, |source| source.size_gb);
        let gb = wanted.volume_gb.unwrap_or_default().max(least);
        let known: BTreeSet<String> = self.list_volumes().await?.into_iter().map(|volume| volume.id).collect();
        let request = wanted.volume_request(region, gb, image, source.map(|source| source.id.as_str()));
        let mut tries = 0;
        let (volume, origin) = loop {
            let call = requests::create_volume(&self.app, request.clone());
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(reply) => {
                    let volume: Volume = parse_created(&what, &reply)?;
                    self.client.expect_visible(&requests::get_volume(&self.app, &volume.id));
                    break (volume, VolumeOrigin::Created);
                }
                Err(CallError::Uncertain(said)) => said,
                Err(declined) => return Err(CreateError::from_call(&what, declined)),
            };
            // It may have been made. Names of volumes are not unique, so it is looked for twice before another is made.
            let mut found = None;
            for _ in 0..2 {
                self.client.pause().await;
                found = self.list_volumes().await?.into_iter().find(|volume| !known.contains(&volume.id));
                if found.is_some() {
                    break;
                }
            }
            match found {
                Some(volume) => break (volume, VolumeOrigin::Existing),
                None if tries >= MAX_ATTEMPTS => return Err(FlyError::Unreachable { what, said }.into()),
                None => tries += 1,
            }
        };
        failpoint::hit("provider.fly.volume_created");
        Ok((self.wait_until_usable(volume).await?, origin))
    }

    /// Waits until a volume is made, or filled with the copy that it is to be.
    async fn wait_until_usable(&self, mut volume: Volume) -> Result<Volume, FlyError> {
        let deadline = self.client.deadline(self.client.timeouts.ready);
        while !volume.is_usable() {
            if self.client.remaining(deadline).is_none() {
                let what = format!("GET volume {} ({})", volume.id, volume.state);
                return Err(FlyError::Unreachable { what, said: "it did not become usable in time".to_owned() });
            }
            self.client.pause().await;
            if let Some(now) = self.client.find::<Volume>(requests::get_volume(&self.app, &volume.id)).await? {
                volume = now;
            }
        }
        Ok(volume)
    }

    /// Makes a volume as large as it should be; whether its machine has to be restarted for that. Never smaller.
    pub(super) async fn grow_volume(&self, wanted: &MachineSpec, volume: &mut Volume) -> Result<bool, FlyError> {
        let Some(gb) = wanted.volume_gb.filter(|gb| volume.size_gb != 0 && volume.size_gb < *gb) else { return Ok(false) };
        let call = requests::extend_volume(&self.app, &volume.id, gb);
        let what = call.label();
        let reply = self.client.call(call).await.map_err(|declined| call_failed(&what, declined))?;
        failpoint::hit("provider.fly.volume_extended");
        volume.size_gb = gb;
        (self.notice)(format!("volume {} has {gb} GiB now", volume.id));
        Ok(parse::<ExtendResponse>(&what, &reply).unwrap_or_default().needs_restart)
    }

    /// The volume of a machine that was there when one over this volume was to be made. Where it is another one, another client
    /// was faster, and what this run made for itself goes.
    pub(super) async fn volume_of_machine(
        &self,
        machine: &Machine,
        volume: &Volume,
        origin: VolumeOrigin,
    ) -> Result<Volume, FlyError> {
        let Some(theirs) = machine.mounted_volume().filter(|theirs| *theirs != volume.id) else { return Ok(volume.clone()) };
        (self.notice)(format!("machine {} was made meanwhile, over volume {theirs}", machine.id));
        if origin == VolumeOrigin::Created {
            self.withdraw_volume(&volume.id).await?;
        }
        let found = self.client.find::<Volume>(requests::get_volume(&self.app, theirs)).await?.filter(Volume::is_live);
        found.ok_or_else(|| FlyError::NotReady {
            app: self.app.clone(),
            machine: machine.id.clone(),
            why: format!("its volume {theirs} is not there"),
        })
    }

    /// Takes a volume away that this run made and has no use for, unless it is in use by now.
    pub(super) async fn withdraw_volume(&self, id: &str) -> Result<(), FlyError> {
        let call = requests::delete_volume(&self.app, id);
        let what = call.label();
        match self.client.call(call).await {
            Ok(_) => failpoint::hit("provider.fly.volume_withdrawn"),
            Err(CallError::Rejected(
                ApiErrorKind::NotFound | ApiErrorKind::AppNotFound | ApiErrorKind::VolumeNotFound | ApiErrorKind::VolumeBound,
                _,
            )) => {}
            Err(declined) => return Err(call_failed(&what, declined)),
        }
        Ok(())
    }

    /// Deletes a volume. It may stay bound for a while to a machine that is gone.
    pub(super) async fn delete_volume(&self, id: &str) -> Result<VolumeDeletion, FlyError> {
        let deadline = self.client.deadline(self.client.timeouts.deletion);
        loop {
            let call = requests::delete_volume(&self.app, id);
            let what = call.label();
            let declined = match self.client.call(call).await {
                Ok(_) => break,
                Err(CallError::Rejected(
                    ApiErrorKind::NotFound | ApiErrorKind::AppNotFound | ApiErrorKind::VolumeNotFound,
                    _,
                )) => {
                    return Ok(VolumeDeletion::NotFound);
                }
                Err(declined @ CallError::Rejected(ApiErrorKind::VolumeBound, _)) => declined,
                Err(declined) => return Err(call_failed(&what, declined)),
            };
            if self.client.remaining(deadline).is_none() {
                return Err(call_failed(&what, declined));
            }
            self.client.pause().await;
        }
        failpoint::hit("provider.fly.volume_deleted");
        Ok(VolumeDeletion::Deleted)
    }
}
