//! Volumes: which one holds the data, and making, forking, growing and removing one.
//!
//! Must not do: make an empty volume where there was data, or remove one that may hold any.

use std::collections::BTreeSet;

use super::answers::{Extended, Machine, Volume};
use super::apps::{Made, Work};
use super::calls;
use super::client::{Declined, failed, read};
use super::error::FlyError;
use super::refusal::{Refusal, words};
use super::wanted::{BACKEND, OWNER, VOLUME, Wanted};
use crate::fault;

/// The note under which the volume is kept.
pub(super) const VOLUME_NOTE: &str = "volume";

/// How often an answer that was lost is followed by another try.
const TRIES: u32 = 3;

/// Which volume is the backend's.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// This one; the others are not in use.
    One(Box<Volume>, Vec<Volume>),
    /// There is none.
    None,
}

/// How a volume went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was taken away.
    Now,
    /// Fly knows of no such volume.
    Before,
}

/// Where a volume comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This run made it, and was told so.
    Made,
    /// It was there, or nobody can tell.
    Found,
}

/// Why something was not made.
#[derive(Debug)]
pub(super) enum NotMade {
    /// There is no room: in the region, or on the one host that the volume is on.
    Full(Room, String),
    /// Something else.
    Failed(FlyError),
}

/// Where there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Region,
    Host,
    Quota,
}

impl From<FlyError> for NotMade {
    fn from(error: FlyError) -> Self {
        Self::Failed(error)
    }
}

impl NotMade {
    /// What a refusal means to whoever makes something.
    pub(super) fn of(what: &str, declined: Declined) -> Self {
        match declined {
            Declined::Refused(Refusal::RegionFull, reply) => Self::Full(Room::Region, words(&reply)),
            Declined::Refused(Refusal::HostFull, reply) => Self::Full(Room::Host, words(&reply)),
            Declined::Refused(Refusal::Quota, reply) => Self::Full(Room::Quota, words(&reply)),
            declined => Self::Failed(failed(what, declined)),
        }
    }
}

impl Work<'_> {
    /// The volumes of the app that are there to stay, whatever their names. Lists lag behind, so the one that was noted
    /// is asked for by its id where it is not listed.
    pub(super) async fn volumes(&self) -> Result<Vec<Volume>, FlyError> {
        let mut volumes: Vec<Volume> = self.client.list(calls::volumes(&self.app)).await?;
        if let Some(noted) = self.parts.volume_note.and_then(|note| self.placement.references.get(note))
            && !volumes.iter().any(|volume| volume.id == *noted)
        {
            volumes.extend(self.client.find::<Volume>(calls::volume(&self.app, noted)).await?);
        }
        volumes.retain(Volume::is_live);
        Ok(volumes)
    }

    /// Whether a volume of the app may hold what somebody wants. An app that the manifest names may have been kept for its
    /// data; one whose name follows from this backend's identity holds none before the backend was ready.
    pub(super) fn may_hold_data(&self) -> bool {
        self.placement.has_been_ready || self.placement.spec.settings.fly.app.is_some()
    }

    /// Finds the backend's volume. One look that finds none is no proof that there is none: lists lag behind.
    pub(super) async fn find_volume(&self, made: Made, machines: &[Machine]) -> Result<Found, FlyError> {
        let mut volumes = self.volumes().await?;
        if volumes.is_empty() && made == Made::Before {
            self.client.pause().await;
            volumes = self.volumes().await?;
        }
        self.choose(volumes, machines)
    }

    /// The volume that our machine has, else the one that was noted, else the only one. Where there is
    /// nothing to lose, any will do.
    pub(super) fn choose(&self, volumes: Vec<Volume>, machines: &[Machine]) -> Result<Found, FlyError> {
        let mut volumes: Vec<Volume> = volumes.into_iter().filter(|volume| volume.name == VOLUME).collect();
        let noted = self.placement.references.get(VOLUME_NOTE);
        let id = self.placement.id.as_str();
        let ours = machines.iter().find(|machine| machine.name == BACKEND && machine.metadata(OWNER) == Some(id));
        let mounted = ours.and_then(Machine::volume);
        let attached = |volume: &Volume| ours.is_some_and(|machine| volume.machine() == Some(machine.id.as_str()));
        let position = volumes
            .iter()
            .position(|volume| Some(volume.id.as_str()) == mounted || attached(volume))
            .or_else(|| volumes.iter().position(|volume| Some(&volume.id) == noted));
        let position = match position {
            Some(position) => position,
            None if volumes.is_empty() => return Ok(Found::None),
            None if volumes.len() > 1 && self.may_hold_data() => {
                let volumes = volumes.into_iter().map(|volume| volume.id).collect();
                return Err(FlyError::VolumesUnclear { app: self.app.clone(), volumes });
            }
            // The newest.
            None => {
                let newest = volumes.iter().enumerate().max_by(|(_, a), (_, b)| a.created_at.cmp(&b.created_at));
                newest.map_or(0, |(index, _)| index)
            }
        };
        let chosen = volumes.swap_remove(position);
        Ok(Found::One(Box::new(chosen), volumes))
    }

    /// Sees to it that nothing is done with a volume whose host does not answer.
    pub(super) fn reached(&self, volume: &Volume) -> Result<(), FlyError> {
        match volume.host_answers() {
            true => Ok(()),
            false => Err(FlyError::HostUnreachable { app: self.app.clone(), what: format!("volume `{}`", volume.id) }),
        }
    }

    /// Makes a volume; with a source it is a copy of that one, on another host.
    pub(super) async fn make_volume(
        &self,
        wanted: &Wanted,
        region: &str,
        image: &str,
        source: Option<&Volume>,
    ) -> Result<(Volume, Origin), NotMade> {
        let least = source.map_or(0, |source| source.size_gb);
        let gb = wanted.volume_gb.unwrap_or_default().max(least);
        let known: BTreeSet<String> = self.volumes().await?.into_iter().map(|volume| volume.id).collect();
        let request = wanted.volume(region, gb, image, source.map(|source| source.id.as_str()));
        let mut tries = 0;
        let (volume, origin) = loop {
            let call = calls::create_volume(&self.app, request.clone());
            let what = call.shown();
            let said = match self.client.ask(call).await {
                Ok(reply) => break (read::<Volume>(&what, &reply)?, Origin::Made),
                Err(Declined::Uncertain(said)) => said,
                Err(declined) => return Err(NotMade::of(&what, declined)),
            };
            // It may have been made. Names of volumes are not unique, so it is looked for twice before another is made.
            let mut found = None;
            for _ in 0..2 {
                self.client.pause().await;
                found = self.volumes().await?.into_iter().find(|volume| !known.contains(&volume.id));
                if found.is_some() {
                    break;
                }
            }
            match found {
                Some(volume) => break (volume, Origin::Found),
                None if tries >= TRIES => return Err(FlyError::Unreachable { what, said }.into()),
                None => tries += 1,
            }
        };
        fault::point("provider.fly.volume_created");
        Ok((self.until_usable(volume).await?, origin))
    }

    /// Waits until a volume is made, or filled with the copy that it is to be.
    async fn until_usable(&self, mut volume: Volume) -> Result<Volume, FlyError> {
        let deadline = self.client.deadline(self.client.patience.ready);
        while !volume.is_usable() {
            if self.client.left(deadline).is_none() {
                let what = format!("GET volume {} ({})", volume.id, volume.state);
                return Err(FlyError::Unreachable { what, said: "it did not become usable in time".to_owned() });
            }
            self.client.pause().await;
            if let Some(now) = self.client.find::<Volume>(calls::volume(&self.app, &volume.id)).await? {
                volume = now;
            }
        }
        Ok(volume)
    }

    /// Makes a volume as large as it should be; whether its machine has to be restarted for that. Never smaller.
    pub(super) async fn grow_volume(&self, wanted: &Wanted, volume: &mut Volume) -> Result<bool, FlyError> {
        let Some(gb) = wanted.volume_gb.filter(|gb| volume.size_gb != 0 && volume.size_gb < *gb) else { return Ok(false) };
        let call = calls::extend_volume(&self.app, &volume.id, gb);
        let what = call.shown();
        let reply = self.client.ask(call).await.map_err(|declined| failed(&what, declined))?;
        fault::point("provider.fly.volume_extended");
        volume.size_gb = gb;
        (self.notice)(format!("volume {} has {gb} GiB now", volume.id));
        Ok(read::<Extended>(&what, &reply).unwrap_or_default().needs_restart)
    }

    /// The volume of a machine that was there when one over this volume was to be made. Where it is another one, somebody
    /// was faster, and what this run made for itself goes.
    pub(super) async fn volume_under(&self, machine: &Machine, volume: &Volume, origin: Origin) -> Result<Volume, FlyError> {
        let Some(theirs) = machine.volume().filter(|theirs| *theirs != volume.id) else { return Ok(volume.clone()) };
        (self.notice)(format!("machine {} was made meanwhile, over volume {theirs}", machine.id));
        if origin == Origin::Made {
            self.withdraw_volume(&volume.id).await?;
        }
        let found = self.client.find::<Volume>(calls::volume(&self.app, theirs)).await?.filter(Volume::is_live);
        found.ok_or_else(|| FlyError::NotReady {
            app: self.app.clone(),
            machine: machine.id.clone(),
            why: format!("its volume {theirs} is not there"),
        })
    }

    /// Takes a volume away that this run made and has no use for, unless somebody uses it by now.
    async fn withdraw_volume(&self, id: &str) -> Result<(), FlyError> {
        let call = calls::delete_volume(&self.app, id);
        let what = call.shown();
        match self.client.ask(call).await {
            Ok(_) => fault::point("provider.fly.volume_withdrawn"),
            Err(Declined::Refused(Refusal::NotFound | Refusal::VolumeNotFound | Refusal::VolumeBound, _)) => {}
            Err(declined) => return Err(failed(&what, declined)),
        }
        Ok(())
    }

    /// Takes a volume away. It may stay bound for a while to a machine that is gone.
    pub(super) async fn delete_volume(&self, id: &str) -> Result<Gone, FlyError> {
        let deadline = self.client.deadline(self.client.patience.gone);
        loop {
            let call = calls::delete_volume(&self.app, id);
            let what = call.shown();
            let declined = match self.client.ask(call).await {
                Ok(_) => break,
                Err(Declined::Refused(Refusal::NotFound | Refusal::VolumeNotFound, _)) => return Ok(Gone::Before),
                Err(declined @ Declined::Refused(Refusal::VolumeBound, _)) => declined,
                Err(declined) => return Err(failed(&what, declined)),
            };
            if self.client.left(deadline).is_none() {
                return Err(failed(&what, declined));
            }
            self.client.pause().await;
        }
        fault::point("provider.fly.volume_deleted");
        Ok(Gone::Now)
    }
}
