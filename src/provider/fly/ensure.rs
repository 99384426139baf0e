//! Bringing a backend about: app, addresses, secrets, volume, machine, in this order, each looked for before it is made.
//!
//! Must not do: go on where a look failed, or make a second of anything.

use super::api_types::{Machine, Volume};
use super::apps::{AppOrigin, AppReconciler, BACKEND_ROLE, EnsuredApp, ORG_KEY, resolve_org};
use super::client::ApiClient;
use super::config_diff::diff;
use super::desired::{MachineSpec, app_name_of};
use super::drift::{UNREPORTED_CHECKS, UNREPORTED_KEY, config_drift};
use super::error::FlyError;
use super::images::{BACKEND_IMAGE_KEYS, ImageKeys, ResolvedImage, resolve_image};
use super::machines::CreateOutcome;
use super::update::UpdateOutcome;
use super::volumes::{CapacityScope, CreateError, VOLUME_KEY, VolumeChoice, VolumeOrigin};
use super::{FlyConfig, dashboard, desired};
use crate::convex::release::BACKEND_IMAGE;
use crate::failpoint;
use crate::model::fly::{APP_KEY, REGION_KEY, RETAINED_BACKEND_KEY, app_url};
use crate::model::{INTERNAL_URL, ProviderState, ResolvedBackend};
use crate::provider::kit::owner::Ownership;
use crate::provider::{ProgressFn, ProviderError, StateJournal};

/// How often a volume is looked for again that went away before a machine was made over it.
const MAX_ATTEMPTS: u32 = 3;
/// How many hosts of one region are tried with an empty volume.
const MAX_HOSTS: u32 = 2;

/// Where a backend runs.
pub(super) struct Instance {
    pub(super) machine: Machine,
    pub(super) volume: Option<Volume>,
    /// Volumes of the app that are not in use.
    pub(super) spare: Vec<Volume>,
}

/// What a machine should be, with everything that was found out about it.
pub(super) struct InstanceRequest<'a> {
    pub(super) spec: &'a MachineSpec,
    pub(super) image: &'a ResolvedImage,
    pub(super) secrets_version: Option<u64>,
}

/// Brings a backend about.
pub(super) async fn ensure(
    client: &ApiClient,
    settings: &FlyConfig,
    placement: &ResolvedBackend,
    notice: ProgressFn<'_>,
    journal: Option<&dyn StateJournal>,
) -> Result<ProviderState, ProviderError> {
    let wanted = desired::backend_spec(placement)?;
    let app = app_name_of(placement)?.to_owned();
    let org = resolve_org(client, settings, placement).await?;
    let mut references = ProviderState::from([(APP_KEY.to_owned(), app.clone()), (INTERNAL_URL.to_owned(), app_url(&app))]);
    let retained = placement.provider_state.get(RETAINED_BACKEND_KEY);
    references.extend(retained.map(|backend| (RETAINED_BACKEND_KEY.to_owned(), backend.clone())));
    let work = AppReconciler { client, placement, app, notice, journal, role: BACKEND_ROLE };
    let EnsuredApp { origin, org, machines } = work.ensure_app(&org).await?;
    references.insert(ORG_KEY.to_owned(), org.clone());
    work.ensure_addresses().await?;
    let own = placement.spec.settings.fly.image.as_ref();
    let image = resolve_image(client, placement, BACKEND_IMAGE, own, BACKEND_IMAGE_KEYS, &mut references).await?;
    let secrets = work.ensure_secrets(origin, &wanted, &mut references).await?;
    let order = InstanceRequest { spec: &wanted, image: &image, secrets_version: secrets.version };
    let seat = work.ensure_instance(&order, origin, &machines).await?;
    record_state(&mut references, &wanted, image, BACKEND_IMAGE_KEYS, &seat);
    work.ensure_certificates(&wanted.custom_hosts).await?;
    dashboard::ensure(&work, &org, &mut references).await?;
    work.delete_extra_machines(&seat.machine, &machines).await?;
    work.delete_extra_volumes(&seat.spare).await?;
    work.release_extra_addresses().await?;
    if secrets.are_marked_retained {
        work.unmark_retained().await?;
    }
    Ok(references)
}

fn record_state(references: &mut ProviderState, wanted: &MachineSpec, image: ResolvedImage, notes: ImageKeys, seat: &Instance) {
    references.insert(BACKEND_ROLE.machine_key.to_owned(), seat.machine.id.clone());
    references.insert(REGION_KEY.to_owned(), seat.machine.region.clone());
    let volume = seat.volume.as_ref().map(|volume| volume.id.as_str());
    if let Some(volume) = volume {
        references.insert(VOLUME_KEY.to_owned(), volume.to_owned());
    }
    image.pinned_to(seat.machine.image_digest()).record(notes, references);
    let empty = serde_json::Value::Null;
    let seen = seat.machine.config.as_ref().unwrap_or(&empty);
    let mut unsaid: Vec<String> = diff(&wanted.comparable(volume), seen)
        .into_iter()
        .filter(|difference| difference.observed.is_none())
        .map(|difference| difference.path)
        .collect();
    // It was waited for them, and for the backend to answer from outside.
    unsaid.extend(seat.machine.health_checks().is_empty().then(|| UNREPORTED_CHECKS.to_owned()));
    if !unsaid.is_empty() {
        references.insert(UNREPORTED_KEY.to_owned(), unsaid.join("\n"));
    }
}

impl AppReconciler<'_> {
    fn keeps_data(&self, wanted: &MachineSpec) -> bool {
        self.placement.has_been_ready && wanted.keeps_data
    }

    fn data_missing(&self) -> ProviderError {
        let volume = self.placement.provider_state.get(VOLUME_KEY).map_or_else(|| "its volume".to_owned(), Clone::clone);
        ProviderError::DataMissing {
            instance: self.placement.instance_name.to_string(),
            place: format!("volume {volume} of the app {}", self.app),
        }
    }

    /// Finds or makes the volume and the machine. A volume that went away in between is looked for again.
    async fn ensure_instance(
        &self,
        order: &InstanceRequest<'_>,
        made: AppOrigin,
        machines: &[Machine],
    ) -> Result<Instance, ProviderError> {
        let mut seated = self.try_ensure_instance(order, made, machines).await;
        for _ in 0..MAX_ATTEMPTS {
            let Err(ProviderError::Fly(FlyError::VolumeGone { .. })) = &seated else { break };
            self.client.pause().await;
            let machines = self.list_machines().await?;
            seated = self.try_ensure_instance(order, AppOrigin::Existing, &machines).await;
        }
        seated
    }

    async fn try_ensure_instance(
        &self,
        order: &InstanceRequest<'_>,
        made: AppOrigin,
        machines: &[Machine],
    ) -> Result<Instance, ProviderError> {
        let found = self.find_volume(made, machines).await?;
        let current = self.find_own_machine(machines, order.spec.machine)?;
        if let VolumeChoice::One(volume, _) = &found {
            self.require_reachable(volume)?;
        }
        match (current, found) {
            (Some(machine), VolumeChoice::One(volume, spare)) => {
                let mounted = machine.mounted_volume();
                if mounted.is_none_or(|mounted| mounted == volume.id) {
                    return self.converge(order, machine, *volume, spare).await;
                }
                // A machine keeps the volume that it was made with.
                self.delete_machine(&machine.id).await?;
                self.launch_on_existing(order, *volume, spare).await
            }
            (None, VolumeChoice::One(volume, spare)) => self.launch_on_existing(order, *volume, spare).await,
            (_, VolumeChoice::None) if self.keeps_data(order.spec) => Err(self.data_missing()),
            (current, VolumeChoice::None) => {
                if let Some(machine) = current {
                    self.delete_machine(&machine.id).await?;
                }
                Ok(self.launch_new(order).await?)
            }
        }
    }

    /// Makes a machine that is there what it should be.
    async fn converge(
        &self,
        order: &InstanceRequest<'_>,
        machine: &Machine,
        mut volume: Volume,
        spare: Vec<Volume>,
    ) -> Result<Instance, ProviderError> {
        if !machine.is_host_reachable() {
            return Err(self.host_unreachable(&machine.id).into());
        }
        let needs_restart = self.grow_volume(order.spec, &mut volume).await?;
        let differing = config_drift(self.placement, order.spec, Some(order.image), machine, Some(&volume.id));
        // An update that changes nothing is what makes a machine see the vault anew.
        let updates = !differing.is_empty() || needs_restart || order.secrets_version.is_some();
        let updated = match machine.state.as_str() {
            "failed" | "launch_failed" => self.update_to_spec(order, machine, &volume).await?,
            _ if updates => self.update_to_spec(order, machine, &volume).await?,
            "created" => self.launch_created(order, machine, &volume).await?,
            "started" => UpdateOutcome::Ready(Box::new(machine.clone())),
            "stopped" | "suspended" => self.start_and_wait(machine).await?,
            // It is on its way.
            _ => UpdateOutcome::Ready(Box::new(self.wait_until_ready(&machine.id, None).await?)),
        };
        match updated {
            UpdateOutcome::Ready(machine) => Ok(Instance { machine: *machine, volume: Some(volume), spare }),
            UpdateOutcome::NoCapacity(said) => {
                (self.notice)(format!("the host of machine {} has no room for it any more ({said}); it moves", machine.id));
                self.delete_machine(&machine.id).await?;
                self.launch_on_existing(order, volume, spare).await
            }
        }
    }

    /// Waits for a machine whose launch is under way. One that was never launched gets the update that launches it.
    async fn launch_created(
        &self,
        order: &InstanceRequest<'_>,
        machine: &Machine,
        volume: &Volume,
    ) -> Result<UpdateOutcome, FlyError> {
        let error = match self.wait_until_ready(&machine.id, None).await {
            Ok(machine) => return Ok(UpdateOutcome::Ready(Box::new(machine))),
            Err(error) => error,
        };
        match self.find_machine(&machine.id).await? {
            Some(machine) if machine.state == "created" => self.update_to_spec(order, &machine, volume).await,
            _ => Err(error),
        }
    }

    async fn update_to_spec(
        &self,
        order: &InstanceRequest<'_>,
        machine: &Machine,
        volume: &Volume,
    ) -> Result<UpdateOutcome, FlyError> {
        let configuration = order.spec.configuration(order.image.reference(), Some(&volume.id));
        self.update_machine(&machine.id, &configuration, order.secrets_version).await
    }

    /// Makes a machine over a volume, and waits until it is ready. It comes with the volume that it really is over: if
    /// another client was faster, that is theirs.
    async fn launch_on(
        &self,
        order: &InstanceRequest<'_>,
        volume: &Volume,
        origin: VolumeOrigin,
    ) -> Result<(Machine, Volume), CreateError> {
        let configuration = order.spec.configuration(order.image.reference(), Some(&volume.id));
        let came = self.create_machine(order.spec.machine, &volume.region, &configuration, order.secrets_version).await;
        let came = match came {
            Err(CreateError::Failed(error @ FlyError::ForeignResource { .. })) if origin == VolumeOrigin::Created => {
                // Another backend has the app: what this run created in it would be paid for and never used.
                self.withdraw_volume(&volume.id).await?;
                return Err(error.into());
            }
            came => came?,
        };
        let machine = match came {
            CreateOutcome::Created(machine) => {
                let machine = self.wait_until_ready(&machine.id, machine.instance_id.as_deref()).await?;
                return Ok((machine, volume.clone()));
            }
            CreateOutcome::Adopted(machine) => machine,
        };
        let volume = self.volume_of_machine(&machine, volume, origin).await?;
        let differing = config_drift(self.placement, order.spec, Some(order.image), &machine, Some(&volume.id));
        if differing.is_empty() && order.secrets_version.is_none() {
            return Ok((self.wait_until_ready(&machine.id, None).await?, volume));
        }
        match self.update_to_spec(order, &machine, &volume).await? {
            UpdateOutcome::Ready(machine) => Ok((*machine, volume)),
            UpdateOutcome::NoCapacity(said) => Err(CreateError::NoCapacity(CapacityScope::Host, said)),
        }
    }

    /// Makes a machine over a volume that was there. Where its host has no room, the volume is copied to another host if
    /// it holds data, and made anew if it does not.
    async fn launch_on_existing(
        &self,
        order: &InstanceRequest<'_>,
        volume: Volume,
        mut spare: Vec<Volume>,
    ) -> Result<Instance, ProviderError> {
        let said = match self.launch_on(order, &volume, VolumeOrigin::Existing).await {
            Ok((machine, seat)) => {
                if seat.id != volume.id {
                    spare.push(volume);
                }
                spare.retain(|spare| spare.id != seat.id);
                return Ok(Instance { machine, volume: Some(seat), spare });
            }
            Err(CreateError::NoCapacity(_, said)) => said,
            Err(CreateError::Failed(error)) => return Err(error.into()),
        };
        if !(self.may_hold_data() && order.spec.keeps_data) {
            self.delete_volume(&volume.id).await?;
            let mut seat = self.launch_new(order).await?;
            seat.spare.append(&mut spare);
            return Ok(seat);
        }
        (self.notice)(format!("the host of volume {} has no room for a machine ({said}); it is copied to another", volume.id));
        let full = |said| FlyError::NoCapacity { regions: vec![volume.region.clone()], said };
        let made = self.create_volume(order.spec, &volume.region, order.image.reference(), Some(&volume)).await;
        let (copy, origin) = match made {
            Ok(made) => made,
            Err(CreateError::NoCapacity(_, said)) => return Err(full(said).into()),
            Err(CreateError::Failed(error)) => return Err(error.into()),
        };
        failpoint::hit("provider.fly.volume_copied");
        match self.launch_on(order, &copy, origin).await {
            Ok((machine, seat)) => {
                if seat.id == copy.id {
                    // The machine is ready on the copy, so the copy is whole. The old one stays recoverable for a day; left
                    // as it is, a later run would find two volumes and not know which one to take.
                    self.delete_volume(&volume.id).await?;
                    (self.notice)(format!("volume {} took the place of {}", copy.id, volume.id));
                }
                spare.retain(|spare| spare.id != seat.id);
                Ok(Instance { machine, volume: Some(seat), spare })
            }
            Err(CreateError::NoCapacity(_, said)) => {
                self.delete_volume(&copy.id).await?;
                Err(full(said).into())
            }
            Err(CreateError::Failed(error)) => Err(error.into()),
        }
    }

    /// Makes an empty volume and a machine over it, in the first region that has room.
    async fn launch_new(&self, order: &InstanceRequest<'_>) -> Result<Instance, FlyError> {
        let regions = &order.spec.regions;
        let mut last = (CapacityScope::Region, String::new());
        for (index, region) in regions.iter().enumerate() {
            for _ in 0..MAX_HOSTS {
                let full = match self.create_volume(order.spec, region, order.image.reference(), None).await {
                    Ok((volume, origin)) => match self.launch_on(order, &volume, origin).await {
                        Ok((machine, seat)) => return Ok(Instance { machine, volume: Some(seat), spare: Vec::new() }),
                        Err(CreateError::NoCapacity(room, said)) => {
                            self.delete_volume(&volume.id).await?;
                            (room, said)
                        }
                        Err(CreateError::Failed(error)) => return Err(error),
                    },
                    Err(CreateError::NoCapacity(room, said)) => (room, said),
                    Err(CreateError::Failed(error)) => return Err(error),
                };
                last = full;
                if last.0 != CapacityScope::Host {
                    break;
                }
            }
            if let Some(next) = regions.get(index + 1) {
                (self.notice)(format!("no room in {region} ({}); trying {next}", last.1));
            }
        }
        Err(match last {
            (CapacityScope::Quota, said) => FlyError::Quota { said },
            (_, said) => FlyError::NoCapacity { regions: regions.clone(), said },
        })
    }

    /// Deletes machines of ours that are in excess. What others put into the app is left, and shown as drift.
    pub(super) async fn delete_extra_machines(&self, seated: &Machine, machines: &[Machine]) -> Result<(), FlyError> {
        for machine in machines.iter().filter(|machine| machine.id != seated.id && !self.is_unmanaged(machine)) {
            // One of the same name is what this run replaced, or made by a server where names are not unique.
            if machine.name == seated.name && self.find_machine(&machine.id).await?.is_none() {
                continue;
            }
            match self.ownership(machine) {
                // A copy of ours that was made by hand: it would answer in our place.
                Ownership::Ours => {
                    self.delete_machine(&machine.id).await?;
                    (self.notice)(format!("machine {} was one too many and is gone", machine.id));
                }
                _ => return Err(self.foreign_machine(&machine.id)),
            }
        }
        Ok(())
    }

    /// Deletes volumes under our name that are in excess. Where one may hold data, the user has to decide.
    async fn delete_extra_volumes(&self, spare: &[Volume]) -> Result<(), FlyError> {
        for volume in spare {
            self.require_reachable(volume)?;
            // There is nothing to lose: this is from an attempt whose answer was lost.
            if !self.may_hold_data() && volume.attached_machine().is_none() {
                self.delete_volume(&volume.id).await?;
            } else {
                return Err(FlyError::ForeignResource {
                    app: self.app.clone(),
                    what: format!("the volume `{}`", volume.id),
                    command: format!("fly volumes destroy {} --app {}", volume.id, self.app),
                });
            }
        }
        Ok(())
    }
}
