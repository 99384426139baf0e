//! Machines: making one exactly once, waiting for it, taking it away.
//!
//! A machine's name is unique in its app, so a fixed name makes a second attempt harmless: Fly itself turns it away.
//!
//! Must not do: choose regions or volumes, or change a machine that is there.

use serde_json::{Value, json};

use super::api_error::{ApiErrorKind, error_message};
use super::api_types::{Machine, MachineEvent};
use super::apps::AppReconciler;
use super::client::{CallError, call_failed, parse_created};
use super::desired::OWNER_KEY;
use super::error::FlyError;
use super::leases::MachineLease;
use super::requests;
use super::volumes::CreateError;
use crate::failpoint;
use crate::provider::kit::owner::Ownership;

/// How often a call whose answer was lost is retried.
const MAX_ATTEMPTS: u32 = 3;
/// How long the API waits for a state at a time. Leases are renewed in between.
const WAIT_SECONDS: u64 = 15;

/// A machine that was made, or found where it was about to be made.
#[derive(Debug)]
pub(super) enum CreateOutcome {
    /// It was made as asked.
    Created(Machine),
    /// It was there: from an attempt whose answer was lost.
    Adopted(Machine),
}

impl AppReconciler<'_> {
    /// Looks for the one machine of this name.
    ///
    /// # Errors
    /// [`FlyError::Foreign`] when its metadata names no backend, or another one.
    pub(super) fn find_own_machine<'m>(&self, machines: &'m [Machine], name: &str) -> Result<Option<&'m Machine>, FlyError> {
        let Some(machine) = machines.iter().find(|machine| machine.name == name) else { return Ok(None) };
        match self.ownership(machine) {
            Ownership::Ours => Ok(Some(machine)),
            // While its host does not answer, what is known of it may lack the metadata.
            _ if !machine.is_host_reachable() => Ok(Some(machine)),
            _ => Err(self.foreign_machine(&machine.id)),
        }
    }

    /// Returns the ownership of a machine, by the identity in its metadata.
    pub(super) fn ownership<'m>(&self, machine: &'m Machine) -> Ownership<'m> {
        Ownership::of(machine.metadata(OWNER_KEY), &self.placement.id)
    }

    /// Whether a machine is foreign and not in the way: it has another name than the one that belongs here, and
    /// nothing says that this backend owns it.
    pub(super) fn is_unmanaged(&self, machine: &Machine) -> bool {
        machine.name != self.role.machine_name && !self.ownership(machine).is_ours()
    }

    pub(super) fn host_unreachable(&self, machine: &str) -> FlyError {
        FlyError::HostUnreachable { app: self.app.clone(), what: format!("machine `{machine}`") }
    }

    pub(super) fn foreign_machine(&self, id: &str) -> FlyError {
        FlyError::ForeignResource {
            app: self.app.clone(),
            what: format!("the machine `{id}`"),
            command: format!("fly machine destroy {id} --app {} --force", self.app),
        }
    }

    /// Looks at one machine.
    pub(super) async fn find_machine(&self, id: &str) -> Result<Option<Machine>, FlyError> {
        let found: Option<Machine> = self.client.find(requests::get_machine(&self.app, id)).await?;
        Ok(found.filter(Machine::is_live))
    }

    /// Makes a machine, once.
    pub(super) async fn create_machine(
        &self,
        name: &'static str,
        region: &str,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<CreateOutcome, CreateError> {
        let mut request = json!({ "name": name, "region": region, "skip_launch": false, "config": configuration });
        if let Some(version) = secrets_version {
            // Without it a new machine may start with the vault as it was.
            request["min_secrets_version"] = version.into();
        }
        let mut tries = 0;
        loop {
            let call = requests::create_machine(&self.app, request.clone());
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(reply) => {
                    failpoint::hit("provider.fly.machine_created");
                    let machine: Machine = parse_created(&what, &reply)?;
                    self.client.expect_visible(&requests::get_machine(&self.app, &machine.id));
                    return Ok(CreateOutcome::Created(machine));
                }
                Err(CallError::Rejected(ApiErrorKind::MachineNameTaken(id), _)) => {
                    return Ok(self.adopt_machine(name, id).await?);
                }
                Err(CallError::Uncertain(said)) => said,
                // The secrets or the volume are not seen everywhere yet, or are being changed.
                Err(CallError::Rejected(ApiErrorKind::Conflict | ApiErrorKind::VolumeBound, reply)) => error_message(&reply),
                Err(CallError::Rejected(ApiErrorKind::VolumeNotFound, reply)) => {
                    let volume = configuration.pointer("/mounts/0/volume").and_then(Value::as_str).unwrap_or_default();
                    let (app, volume, said) = (self.app.clone(), volume.to_owned(), error_message(&reply));
                    return Err(FlyError::VolumeGone { app, volume, said }.into());
                }
                Err(declined) => return Err(CreateError::from_call(&what, declined)),
            };
            // One look that finds none is no proof: lists lag behind. Should it be there after all, its name says so.
            self.client.pause().await;
            let machines = self.list_machines().await?;
            if let Some(found) = self.find_own_machine(&machines, name)? {
                return Ok(CreateOutcome::Adopted(found.clone()));
            }
            if tries >= MAX_ATTEMPTS {
                return Err(FlyError::Unreachable { what, said }.into());
            }
            tries += 1;
        }
    }

    async fn adopt_machine(&self, name: &'static str, id: Option<String>) -> Result<CreateOutcome, FlyError> {
        let machine = match &id {
            Some(id) => {
                // Its name is known over there already, though perhaps not everywhere.
                self.client.expect_visible(&requests::get_machine(&self.app, id));
                self.find_machine(id).await?
            }
            None => None,
        };
        let found = match machine {
            Some(machine) => vec![machine],
            None => self.list_machines().await?,
        };
        match self.find_own_machine(&found, name)? {
            Some(machine) => Ok(CreateOutcome::Adopted(machine.clone())),
            None => Err(self.foreign_machine(id.as_deref().unwrap_or(name))),
        }
    }

    fn not_ready(&self, id: &str, why: impl Into<String>) -> FlyError {
        FlyError::NotReady { app: self.app.clone(), machine: id.to_owned(), why: why.into() }
    }

    /// Waits until a machine that was launched runs and passes its checks. Until its image is there, it is `created`.
    ///
    /// # Errors
    /// [`FlyError::NotReady`] when it ended, or does not get there in time.
    pub(super) async fn wait_until_ready(&self, id: &str, version: Option<&str>) -> Result<Machine, FlyError> {
        let deadline = self.client.deadline(self.client.timeouts.ready);
        self.wait_until_settled(id, version).await?;
        let mut unchecked = None;
        let mut ended = 0;
        loop {
            let machine = self.find_machine(id).await?.ok_or_else(|| self.not_ready(id, "it is gone"))?;
            if !machine.is_host_reachable() {
                return Err(self.host_unreachable(id));
            }
            let health = machine.health_checks();
            // A check that is not listed has not passed. Only a server that lists none at all is believed after a while:
            // whether the backend answers is asked once more from outside.
            let passing = !health.is_empty() && health.iter().all(|check| check.status == "passing");
            match machine.state.as_str() {
                "started" if passing => return Ok(machine),
                "started" if health.is_empty() => {
                    let since = *unchecked.get_or_insert_with(|| self.client.deadline(self.client.timeouts.unchecked));
                    if self.client.remaining(since).is_none() {
                        return Ok(machine);
                    }
                }
                "failed" | "launch_failed" => return Err(self.not_ready(id, self.last_exit(id, &machine.state).await)),
                // A machine that restarts is stopped for a moment.
                "stopped" | "suspended" => {
                    ended += 1;
                    if ended > MAX_ATTEMPTS {
                        return Err(self.not_ready(id, self.last_exit(id, &machine.state).await));
                    }
                }
                _ => {}
            }
            if self.client.remaining(deadline).is_none() {
                return Err(self.not_ready(id, why_not_ready(&machine)));
            }
            self.client.pause().await;
        }
    }

    /// Waits until a machine's state does not change by itself any more.
    pub(super) async fn wait_until_settled(&self, id: &str, version: Option<&str>) -> Result<(), FlyError> {
        let deadline = self.client.deadline(self.client.timeouts.settle);
        while self.client.remaining(deadline).is_some() {
            let call = requests::wait_until_settled(&self.app, id, version, WAIT_SECONDS);
            // Sent once: how long it may take is said in it.
            match self.client.send_once(call).await {
                Ok(reply) if reply.is_success() => return Ok(()),
                // Its time is over, or it waits for a word that it does not know.
                Ok(reply) if reply.status == 408 => {
                    let machine = self.find_machine(id).await?;
                    if machine.is_none_or(|machine| machine.is_settled()) {
                        return Ok(());
                    }
                }
                // A server that does not know the word, or not the machine yet: looking at it tells as well.
                Ok(reply) if matches!(reply.status, 400 | 404) => return Ok(()),
                Ok(reply) if matches!(reply.status, 401 | 403) => {
                    // A node that does not know a new app says so too; a look tells which it is.
                    self.find_machine(id).await?;
                    return Ok(());
                }
                Ok(_) | Err(_) => self.client.pause().await,
            }
        }
        Ok(())
    }

    /// How a machine's program ended last, or the state that it is in.
    async fn last_exit(&self, id: &str, state: &str) -> String {
        let events: Result<Vec<MachineEvent>, FlyError> = self.client.list(requests::list_events(&self.app, id)).await;
        match events.ok().and_then(|events| events.iter().find_map(MachineEvent::exit_reason)) {
            Some(exit) => format!("it is {state}: {exit}"),
            None => format!("it is {state}"),
        }
    }

    /// Starts a machine that does not run, under its lease.
    pub(super) async fn start_machine(&self, id: &str, lease: &MachineLease) -> Result<(), CreateError> {
        let mut tries = 0;
        loop {
            let call = requests::start_machine(&self.app, id, lease.nonce.as_ref());
            let what = call.label();
            match self.client.call_idempotent(call).await {
                Ok(_) => {
                    failpoint::hit("provider.fly.machine_started");
                    return Ok(());
                }
                // A host that is full now may have room in a moment.
                Err(CallError::Rejected(ApiErrorKind::HostFull, _)) if tries < MAX_ATTEMPTS => self.client.pause().await,
                // It may be on its way up or down: what it is now says more than what it was.
                Err(CallError::Rejected(ApiErrorKind::WrongState, _)) if tries < MAX_ATTEMPTS => {
                    self.client.pause().await;
                    let now = self.find_machine(id).await?.ok_or_else(|| self.not_ready(id, "it is gone"))?;
                    if matches!(now.state.as_str(), "started" | "starting" | "restarting") {
                        return Ok(());
                    }
                }
                Err(declined) => return Err(CreateError::from_call(&what, declined)),
            }
            tries += 1;
        }
    }

    /// Stops a machine as Convex wants to be stopped, and waits until it has.
    pub(super) async fn stop_machine(&self, id: &str) -> Result<(), FlyError> {
        let lease = self.acquire_lease(id).await?;
        let call = requests::stop_machine(&self.app, id, lease.nonce.as_ref());
        let stopping = async {
            let what = call.label();
            match self.client.call_idempotent(call).await {
                Ok(_) => Ok(()),
                Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(()),
                Err(declined) => Err(call_failed(&what, declined)),
            }
        };
        self.under_lease(&lease, stopping).await?;
        let deadline = self.client.deadline(self.client.timeouts.deletion);
        while let Some(machine) = self.find_machine(id).await? {
            if matches!(machine.state.as_str(), "stopped" | "created" | "failed" | "suspended") {
                break;
            }
            if self.client.remaining(deadline).is_none() {
                return Err(self.not_ready(id, "it does not stop"));
            }
            self.client.pause().await;
        }
        Ok(())
    }

    /// Takes a machine away and waits until it is gone.
    pub(super) async fn delete_machine(&self, id: &str) -> Result<(), FlyError> {
        let lease = match self.find_machine(id).await? {
            None => return Ok(()),
            // The lease of a machine on a host that does not answer cannot be had.
            Some(machine) if !machine.is_host_reachable() => None,
            Some(_) => Some(self.acquire_lease(id).await?),
        };
        let call = requests::delete_machine(&self.app, id, lease.as_ref().and_then(|lease| lease.nonce.as_ref()));
        let deleting = async {
            let what = call.label();
            match self.client.call(call).await {
                Ok(_) => Ok(()),
                Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(()),
                Err(declined) => Err(call_failed(&what, declined)),
            }
        };
        match lease {
            Some(lease) => self.under_lease(&lease, deleting).await?,
            None => deleting.await?,
        }
        failpoint::hit("provider.fly.machine_deleted");
        let patience = self.client.timeouts.deletion;
        let deadline = self.client.deadline(patience);
        while self.machine_exists(id).await? {
            if self.client.remaining(deadline).is_none() {
                let (app, what) = (self.app.clone(), format!("machine `{id}`"));
                return Err(FlyError::NotDeleted { app, what, seconds: patience.as_secs() });
            }
            self.client.pause().await;
        }
        Ok(())
    }

    /// Whether anything of a machine is left; one that is being destroyed is.
    async fn machine_exists(&self, id: &str) -> Result<bool, FlyError> {
        let found: Option<Machine> = self.client.find(requests::get_machine(&self.app, id)).await?;
        Ok(found.is_some_and(|machine| machine.state != "destroyed"))
    }
}

/// Returns what a machine lacks that did not become ready in time.
fn why_not_ready(machine: &Machine) -> String {
    match machine.health_checks().iter().find(|check| check.status != "passing") {
        Some(check) => {
            let output = check.output.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
            let said = if output.is_empty() { String::new() } else { format!(": {output}") };
            format!("its check `{}` is {}{said}", check.name, check.status)
        }
        None => format!("it is still {}", machine.state),
    }
}
