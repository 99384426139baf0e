//! Bringing a backend about: app, addresses, secrets, volume, machine, in this order, each looked for before it is made.
//!
//! Must not do: go on where a look failed, or make a second of anything.

use std::collections::BTreeSet;

use super::answers::{Machine, Volume};
use super::apps::{BACKEND_PARTS, Made, ORGANISATION, Work, organisation};
use super::client::Client;
use super::difference::{Difference, differences};
use super::error::FlyError;
use super::images::{BACKEND_NOTES, Image, Notes, image};
use super::machines::Came;
use super::update::Updated;
use super::volumes::{Found, NotMade, Origin, Room, VOLUME_NOTE};
use super::wanted::{OWNER, Wanted, app_of};
use super::{Settings, dashboard, wanted};
use crate::convex::release::BACKEND_IMAGE;
use crate::fault;
use crate::model::fly::{APP, REGION, app_url};
use crate::model::{Placement, REACH, References};
use crate::provider::{Notice, ProviderError};

/// The note about fields that the server does not give back: they cannot be compared.
const UNSAID: &str = "unsaid";
/// What stands in it for the checks of a machine, where a server lists none.
pub(super) const CHECKS: &str = "checks";

/// How often a volume is looked for again that went away before a machine was made over it.
const TRIES: u32 = 3;
/// How many hosts of one region are tried with an empty volume.
const HOSTS: u32 = 2;

/// Where a backend runs.
pub(super) struct Seat {
    pub(super) machine: Machine,
    pub(super) volume: Option<Volume>,
    /// Volumes of the app that are not in use.
    pub(super) spare: Vec<Volume>,
}

/// What a machine should be, with everything that was found out about it.
pub(super) struct Order<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) image: &'a Image,
    pub(super) secrets_version: Option<u64>,
}

/// Brings a backend about.
pub(super) async fn ensure(
    client: &Client,
    settings: &Settings,
    placement: &Placement,
    notice: Notice<'_>,
) -> Result<References, ProviderError> {
    let wanted = wanted::backend(placement)?;
    let app = app_of(placement)?.to_owned();
    let org = organisation(client, settings, placement).await?;
    let mut references = References::from([
        (APP.to_owned(), app.clone()),
        (REACH.to_owned(), app_url(&app)),
        (ORGANISATION.to_owned(), org.clone()),
    ]);
    let work = Work { client, placement, app, notice, parts: BACKEND_PARTS };
    let (made, machines) = work.ensure_app(&org).await?;
    work.ensure_addresses().await?;
    let own = placement.spec.settings.fly.image.as_ref();
    let image = image(client, placement, BACKEND_IMAGE, own, BACKEND_NOTES, &mut references).await?;
    let secrets_version = work.ensure_secrets(&wanted, &mut references).await?;
    let order = Order { wanted: &wanted, image: &image, secrets_version };
    let seat = work.seat(&order, made, &machines).await?;
    note(&mut references, &wanted, image, BACKEND_NOTES, &seat);
    work.ensure_certificates(&wanted.hosts).await?;
    dashboard::ensure(&work, &org, &mut references).await?;
    work.clear_machines(&seat.machine, &machines).await?;
    work.clear_volumes(&seat.spare).await?;
    work.clear_addresses().await?;
    Ok(references)
}

fn note(references: &mut References, wanted: &Wanted, image: Image, notes: Notes, seat: &Seat) {
    references.insert(BACKEND_PARTS.machine_note.to_owned(), seat.machine.id.clone());
    references.insert(REGION.to_owned(), seat.machine.region.clone());
    let volume = seat.volume.as_ref().map(|volume| volume.id.as_str());
    if let Some(volume) = volume {
        references.insert(VOLUME_NOTE.to_owned(), volume.to_owned());
    }
    image.pinned_to(seat.machine.image_digest()).note(notes, references);
    let empty = serde_json::Value::Null;
    let seen = seat.machine.config.as_ref().unwrap_or(&empty);
    let mut unsaid: Vec<String> = differences(&wanted.comparable(volume), seen)
        .into_iter()
        .filter(|difference| difference.seen.is_none())
        .map(|difference| difference.path)
        .collect();
    // It was waited for them, and for the backend to answer from outside.
    unsaid.extend(seat.machine.health().is_empty().then(|| CHECKS.to_owned()));
    if !unsaid.is_empty() {
        references.insert(UNSAID.to_owned(), unsaid.join("\n"));
    }
}

/// The fields that the server is known not to give back.
pub(super) fn unsaid(placement: &Placement) -> BTreeSet<&str> {
    placement.references.get(UNSAID).map(|paths| paths.lines().collect()).unwrap_or_default()
}

/// Where a machine differs from what was asked for, as far as its server gives back what it was sent.
pub(super) fn differing(
    placement: &Placement,
    wanted: &Wanted,
    image: Option<&Image>,
    machine: &Machine,
    volume: Option<&str>,
) -> Vec<Difference> {
    let unsaid = unsaid(placement);
    let empty = serde_json::Value::Null;
    let mut found = differences(&wanted.comparable(volume), machine.config.as_ref().unwrap_or(&empty));
    found.retain(|difference| difference.seen.is_some() || !unsaid.contains(difference.path.as_str()));
    // Without a digest on both sides nobody can tell.
    if let (Some(wanted), Some(seen)) = (image.and_then(Image::digest), machine.image_digest())
        && wanted != seen
    {
        found.push(Difference { path: "image".to_owned(), wanted: wanted.to_owned(), seen: Some(seen.to_owned()) });
    }
    found
}

impl Work<'_> {
    fn keeps_data(&self, wanted: &Wanted) -> bool {
        self.placement.has_been_ready && wanted.keeps_data
    }

    fn data_missing(&self) -> ProviderError {
        let volume = self.placement.references.get(VOLUME_NOTE).map_or_else(|| "its volume".to_owned(), Clone::clone);
        ProviderError::DataMissing {
            instance: self.placement.instance_name.to_string(),
            place: format!("volume {volume} of the app {}", self.app),
        }
    }

    /// Finds or makes the volume and the machine. A volume that went away in between is looked for again.
    async fn seat(&self, order: &Order<'_>, made: Made, machines: &[Machine]) -> Result<Seat, ProviderError> {
        let mut seated = self.seat_once(order, made, machines).await;
        for _ in 0..TRIES {
            let Err(ProviderError::Fly(FlyError::VolumeGone { .. })) = &seated else { break };
            self.client.pause().await;
            let machines = self.machines().await?;
            seated = self.seat_once(order, Made::Before, &machines).await;
        }
        seated
    }

    async fn seat_once(&self, order: &Order<'_>, made: Made, machines: &[Machine]) -> Result<Seat, ProviderError> {
        let found = self.find_volume(made, machines).await?;
        let current = self.ours(machines, order.wanted.machine)?;
        if let Found::One(volume, _) = &found {
            self.reached(volume)?;
        }
        match (current, found) {
            (Some(machine), Found::One(volume, spare)) => {
                let mounted = machine.volume();
                if mounted.is_none_or(|mounted| mounted == volume.id) {
                    return self.bring(order, machine, *volume, spare).await;
                }
                // A machine keeps the volume that it was made with.
                self.delete_machine(&machine.id).await?;
                self.take_seat(order, *volume, spare).await
            }
            (None, Found::One(volume, spare)) => self.take_seat(order, *volume, spare).await,
            (_, Found::None) if self.keeps_data(order.wanted) => Err(self.data_missing()),
            (current, Found::None) => {
                if let Some(machine) = current {
                    self.delete_machine(&machine.id).await?;
                }
                Ok(self.new_seat(order).await?)
            }
        }
    }

    /// Makes a machine that is there what it should be.
    async fn bring(
        &self,
        order: &Order<'_>,
        machine: &Machine,
        mut volume: Volume,
        spare: Vec<Volume>,
    ) -> Result<Seat, ProviderError> {
        if !machine.host_answers() {
            return Err(self.host_unreachable(&machine.id).into());
        }
        let needs_restart = self.grow_volume(order.wanted, &mut volume).await?;
        let differing = differing(self.placement, order.wanted, Some(order.image), machine, Some(&volume.id));
        // An update that changes nothing is what makes a machine see the vault anew.
        let updates = !differing.is_empty() || needs_restart || order.secrets_version.is_some();
        let updated = match machine.state.as_str() {
            "created" | "failed" | "launch_failed" => self.update(order, machine, &volume).await?,
            _ if updates => self.update(order, machine, &volume).await?,
            "started" => Updated::Ready(Box::new(machine.clone())),
            "stopped" | "suspended" => self.wake_machine(machine).await?,
            // It is on its way.
            _ => Updated::Ready(Box::new(self.until_ready(&machine.id, None, None).await?)),
        };
        match updated {
            Updated::Ready(machine) => Ok(Seat { machine: *machine, volume: Some(volume), spare }),
            Updated::NoRoom(said) => {
                (self.notice)(format!("the host of machine {} has no room for it any more ({said}); it moves", machine.id));
                self.delete_machine(&machine.id).await?;
                self.take_seat(order, volume, spare).await
            }
        }
    }

    async fn update(&self, order: &Order<'_>, machine: &Machine, volume: &Volume) -> Result<Updated, FlyError> {
        let configuration = order.wanted.configuration(order.image.reference(), Some(&volume.id));
        self.update_machine(&machine.id, &configuration, order.secrets_version).await
    }

    /// Makes a machine over a volume, and waits until it is ready. It comes with the volume that it really is over: if
    /// somebody else was faster, that is theirs.
    async fn place_on(&self, order: &Order<'_>, volume: &Volume, origin: Origin) -> Result<(Machine, Volume), NotMade> {
        let configuration = order.wanted.configuration(order.image.reference(), Some(&volume.id));
        let came = self.make_machine(order.wanted.machine, &volume.region, &configuration, order.secrets_version).await?;
        let machine = match came {
            Came::New(machine) => {
                let machine = self.until_ready(&machine.id, machine.instance_id.as_deref(), None).await?;
                return Ok((machine, volume.clone()));
            }
            Came::Adopted(machine) => machine,
        };
        let volume = self.volume_under(&machine, volume, origin).await?;
        let differing = differing(self.placement, order.wanted, Some(order.image), &machine, Some(&volume.id));
        if differing.is_empty() && order.secrets_version.is_none() {
            return Ok((self.until_ready(&machine.id, None, None).await?, volume));
        }
        match self.update(order, &machine, &volume).await? {
            Updated::Ready(machine) => Ok((*machine, volume)),
            Updated::NoRoom(said) => Err(NotMade::Full(Room::Host, said)),
        }
    }

    /// Makes a machine over a volume that was there. Where its host has no room, the volume is copied to another host if
    /// it holds data, and made anew if it does not.
    async fn take_seat(&self, order: &Order<'_>, volume: Volume, mut spare: Vec<Volume>) -> Result<Seat, ProviderError> {
        let said = match self.place_on(order, &volume, Origin::Found).await {
            Ok((machine, seat)) => {
                if seat.id != volume.id {
                    spare.push(volume);
                }
                spare.retain(|spare| spare.id != seat.id);
                return Ok(Seat { machine, volume: Some(seat), spare });
            }
            Err(NotMade::Full(_, said)) => said,
            Err(NotMade::Failed(error)) => return Err(error.into()),
        };
        if !(self.may_hold_data() && order.wanted.keeps_data) {
            self.delete_volume(&volume.id).await?;
            let mut seat = self.new_seat(order).await?;
            seat.spare.append(&mut spare);
            return Ok(seat);
        }
        (self.notice)(format!("the host of volume {} has no room for a machine ({said}); it is copied to another", volume.id));
        let full = |said| FlyError::Full { regions: vec![volume.region.clone()], said };
        let made = self.make_volume(order.wanted, &volume.region, order.image.reference(), Some(&volume)).await;
        let (copy, origin) = match made {
            Ok(made) => made,
            Err(NotMade::Full(_, said)) => return Err(full(said).into()),
            Err(NotMade::Failed(error)) => return Err(error.into()),
        };
        fault::point("provider.fly.volume_copied");
        match self.place_on(order, &copy, origin).await {
            Ok((machine, seat)) => {
                if seat.id == copy.id {
                    // The machine is ready on the copy, so the copy is whole. The old one stays recoverable for a day; left
                    // as it is, somebody would come upon two volumes one day and not know which to take.
                    self.delete_volume(&volume.id).await?;
                    (self.notice)(format!("volume {} took the place of {}", copy.id, volume.id));
                }
                spare.retain(|spare| spare.id != seat.id);
                Ok(Seat { machine, volume: Some(seat), spare })
            }
            Err(NotMade::Full(_, said)) => {
                self.delete_volume(&copy.id).await?;
                Err(full(said).into())
            }
            Err(NotMade::Failed(error)) => Err(error.into()),
        }
    }

    /// Makes an empty volume and a machine over it, in the first region that has room.
    async fn new_seat(&self, order: &Order<'_>) -> Result<Seat, FlyError> {
        let regions = &order.wanted.regions;
        let mut last = (Room::Region, String::new());
        for (index, region) in regions.iter().enumerate() {
            for _ in 0..HOSTS {
                let full = match self.make_volume(order.wanted, region, order.image.reference(), None).await {
                    Ok((volume, origin)) => match self.place_on(order, &volume, origin).await {
                        Ok((machine, seat)) => return Ok(Seat { machine, volume: Some(seat), spare: Vec::new() }),
                        Err(NotMade::Full(room, said)) => {
                            self.delete_volume(&volume.id).await?;
                            (room, said)
                        }
                        Err(NotMade::Failed(error)) => return Err(error),
                    },
                    Err(NotMade::Full(room, said)) => (room, said),
                    Err(NotMade::Failed(error)) => return Err(error),
                };
                last = full;
                if last.0 != Room::Host {
                    break;
                }
            }
            if let Some(next) = regions.get(index + 1) {
                (self.notice)(format!("no room in {region} ({}); trying {next}", last.1));
            }
        }
        Err(match last {
            (Room::Quota, said) => FlyError::Quota { said },
            (_, said) => FlyError::Full { regions: regions.clone(), said },
        })
    }

    /// Takes away machines that are ours and of no use. What somebody else put into the app is left: looks name it.
    pub(super) async fn clear_machines(&self, seated: &Machine, machines: &[Machine]) -> Result<(), FlyError> {
        let id = self.placement.id.as_str();
        for machine in machines.iter().filter(|machine| machine.id != seated.id && !self.is_strange(machine)) {
            // One of the same name is what this run replaced, or made by a server where names are not unique.
            if machine.name == seated.name && self.machine(&machine.id).await?.is_none() {
                continue;
            }
            match machine.metadata(OWNER) {
                // A copy of ours that somebody made: it would answer in our place.
                Some(owner) if owner == id => {
                    self.delete_machine(&machine.id).await?;
                    (self.notice)(format!("machine {} was one too many and is gone", machine.id));
                }
                _ => return Err(self.foreign_machine(&machine.id)),
            }
        }
        Ok(())
    }

    /// Takes away volumes under our name that are of no use. Where one may hold data, somebody has to decide.
    async fn clear_volumes(&self, spare: &[Volume]) -> Result<(), FlyError> {
        for volume in spare {
            self.reached(volume)?;
            // There is nothing to lose: this is from an attempt whose answer was lost.
            if !self.may_hold_data() && volume.machine().is_none() {
                self.delete_volume(&volume.id).await?;
            } else {
                return Err(FlyError::Foreign {
                    app: self.app.clone(),
                    what: format!("the volume `{}`", volume.id),
                    command: format!("fly volumes destroy {} --app {}", volume.id, self.app),
                });
            }
        }
        Ok(())
    }
}
