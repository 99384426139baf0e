//! Machines: making one exactly once, waiting for it, taking it away.
//!
//! A machine's name is unique in its app, so a fixed name makes a second attempt harmless: Fly itself turns it away.
//!
//! Must not do: choose regions or volumes, or change a machine that is there.

use serde_json::{Value, json};

use super::answers::{Event, Machine};
use super::apps::Work;
use super::calls;
use super::client::{Declined, failed, read};
use super::error::FlyError;
use super::leases::Lease;
use super::refusal::{Refusal, words};
use super::volumes::NotMade;
use super::wanted::OWNER;
use crate::fault;

/// How often an answer that was lost is followed by another try.
const TRIES: u32 = 3;
/// How long the API waits for a state at a time. Leases are renewed in between.
const WAIT_S: u64 = 15;

/// A machine that was made, or found where it was about to be made.
#[derive(Debug)]
pub(super) enum Came {
    /// It was made as asked.
    New(Machine),
    /// It was there: from an attempt whose answer was lost.
    Adopted(Machine),
}

impl Work<'_> {
    /// Looks for the one machine of this name.
    ///
    /// # Errors
    /// [`FlyError::Foreign`] when somebody else made it.
    pub(super) fn ours<'m>(&self, machines: &'m [Machine], name: &str) -> Result<Option<&'m Machine>, FlyError> {
        let Some(machine) = machines.iter().find(|machine| machine.name == name) else { return Ok(None) };
        match machine.metadata(OWNER) {
            Some(owner) if owner == self.placement.id.as_str() => Ok(Some(machine)),
            // While its host does not answer, what is known of it may lack the metadata.
            _ if !machine.host_answers() => Ok(Some(machine)),
            _ => Err(self.foreign_machine(&machine.id)),
        }
    }

    /// Whether a machine is somebody else's and not in the way: it has another name than the one that belongs here, and
    /// nothing says that this backend owns it.
    pub(super) fn is_strange(&self, machine: &Machine) -> bool {
        machine.name != self.parts.machine && machine.metadata(OWNER) != Some(self.placement.id.as_str())
    }

    pub(super) fn host_unreachable(&self, machine: &str) -> FlyError {
        FlyError::HostUnreachable { app: self.app.clone(), what: format!("machine `{machine}`") }
    }

    pub(super) fn foreign_machine(&self, id: &str) -> FlyError {
        FlyError::Foreign {
            app: self.app.clone(),
            what: format!("the machine `{id}`"),
            command: format!("fly machine destroy {id} --app {} --force", self.app),
        }
    }

    /// Looks at one machine.
    pub(super) async fn machine(&self, id: &str) -> Result<Option<Machine>, FlyError> {
        let found: Option<Machine> = self.client.find(calls::machine(&self.app, id)).await?;
        Ok(found.filter(Machine::is_live))
    }

    /// Makes a machine, once.
    pub(super) async fn make_machine(
        &self,
        name: &'static str,
        region: &str,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<Came, NotMade> {
        let mut request = json!({ "name": name, "region": region, "skip_launch": false, "config": configuration });
        if let Some(version) = secrets_version {
            // Without it a new machine may start with the vault as it was.
            request["min_secrets_version"] = version.into();
        }
        let mut tries = 0;
        loop {
            let call = calls::create_machine(&self.app, request.clone());
            let what = call.shown();
            let said = match self.client.ask(call).await {
                Ok(reply) => {
                    fault::point("provider.fly.machine_created");
                    return Ok(Came::New(read(&what, &reply)?));
                }
                Err(Declined::Refused(Refusal::MachineNameTaken(id), _)) => return Ok(self.adopt(name, id).await?),
                Err(Declined::Uncertain(said)) => said,
                // The secrets or the volume are not seen everywhere yet, or somebody works on them.
                Err(Declined::Refused(Refusal::Stale | Refusal::VolumeBound, reply)) => words(&reply),
                Err(Declined::Refused(Refusal::VolumeNotFound, reply)) => {
                    let volume = configuration.pointer("/mounts/0/volume").and_then(Value::as_str).unwrap_or_default();
                    let (app, volume, said) = (self.app.clone(), volume.to_owned(), words(&reply));
                    return Err(FlyError::VolumeGone { app, volume, said }.into());
                }
                Err(declined) => return Err(NotMade::of(&what, declined)),
            };
            // One look that finds none is no proof: lists lag behind. Should it be there after all, its name says so.
            self.client.pause().await;
            let machines = self.machines().await?;
            if let Some(found) = self.ours(&machines, name)? {
                return Ok(Came::Adopted(found.clone()));
            }
            if tries >= TRIES {
                return Err(FlyError::Unreachable { what, said }.into());
            }
            tries += 1;
        }
    }

    async fn adopt(&self, name: &'static str, id: Option<String>) -> Result<Came, FlyError> {
        let machine = match &id {
            Some(id) => self.machine(id).await?,
            None => None,
        };
        let found = match machine {
            Some(machine) => vec![machine],
            None => self.machines().await?,
        };
        match self.ours(&found, name)? {
            Some(machine) => Ok(Came::Adopted(machine.clone())),
            None => Err(self.foreign_machine(id.as_deref().unwrap_or(name))),
        }
    }

    fn not_ready(&self, id: &str, why: impl Into<String>) -> FlyError {
        FlyError::NotReady { app: self.app.clone(), machine: id.to_owned(), why: why.into() }
    }

    /// Waits until a machine runs and passes its checks.
    ///
    /// # Errors
    /// [`FlyError::NotReady`] when it ended, or does not get there in time.
    pub(super) async fn until_ready(
        &self,
        id: &str,
        version: Option<&str>,
        mut lease: Option<&mut Lease>,
    ) -> Result<Machine, FlyError> {
        self.until_settled(id, version, &mut lease).await?;
        let deadline = self.client.deadline(self.client.patience.ready);
        let unchecked = self.client.deadline(self.client.patience.unchecked);
        let mut ended = 0;
        loop {
            let machine = self.machine(id).await?.ok_or_else(|| self.not_ready(id, "it is gone"))?;
            if !machine.host_answers() {
                return Err(self.host_unreachable(id));
            }
            let health = machine.health();
            // A check that is not listed has not passed. Only a server that lists none at all is believed after a while:
            // whether the backend answers is asked once more from outside.
            let passing = !health.is_empty() && health.iter().all(|check| check.status == "passing");
            match machine.state.as_str() {
                "started" if passing => return Ok(machine),
                "started" if health.is_empty() && self.client.left(unchecked).is_none() => return Ok(machine),
                "failed" | "launch_failed" => return Err(self.not_ready(id, self.last_exit(id, &machine.state).await)),
                // A machine that restarts is stopped for a moment.
                "stopped" | "suspended" | "created" => {
                    ended += 1;
                    if ended > TRIES {
                        return Err(self.not_ready(id, self.last_exit(id, &machine.state).await));
                    }
                }
                _ => {}
            }
            if self.client.left(deadline).is_none() {
                let failing = health.iter().find(|check| check.status != "passing");
                let why = match failing {
                    Some(check) => {
                        let output = check.output.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
                        format!(
                            "its check `{}` is {}{}",
                            check.name,
                            check.status,
                            if output.is_empty() { String::new() } else { format!(": {output}") }
                        )
                    }
                    None => format!("it is still {}", machine.state),
                };
                return Err(self.not_ready(id, why));
            }
            if let Some(lease) = lease.as_deref_mut() {
                self.keep(lease).await?;
            }
            self.client.pause().await;
        }
    }

    /// Waits until a machine's state does not change by itself any more.
    async fn until_settled(&self, id: &str, version: Option<&str>, lease: &mut Option<&mut Lease>) -> Result<(), FlyError> {
        let deadline = self.client.deadline(self.client.patience.settle);
        loop {
            let call = calls::wait_until_settled(&self.app, id, version, WAIT_S);
            // Sent once: how long it may take is said in it.
            let reply = self.client.port.send(call).await;
            match reply {
                Ok(reply) if reply.is_success() => return Ok(()),
                // Its time is over, or it waits for a word that it does not know.
                Ok(reply) if reply.status == 408 => {
                    let machine = self.machine(id).await?;
                    if machine.is_none_or(|machine| machine.is_settled()) {
                        return Ok(());
                    }
                }
                // A server that does not know the word, or not the machine yet: looking at it tells as well.
                Ok(reply) if matches!(reply.status, 400 | 404) => return Ok(()),
                Ok(reply) if reply.status == 401 => return Err(FlyError::Token { said: words(&reply) }),
                Ok(_) | Err(_) => self.client.pause().await,
            }
            if self.client.left(deadline).is_none() {
                return Ok(());
            }
            if let Some(lease) = lease.as_deref_mut() {
                self.keep(lease).await?;
            }
        }
    }

    /// How a machine's program ended last, or the state that it is in.
    async fn last_exit(&self, id: &str, state: &str) -> String {
        let events: Result<Vec<Event>, FlyError> = self.client.list(calls::events(&self.app, id)).await;
        match events.ok().and_then(|events| events.iter().find_map(Event::exit)) {
            Some(exit) => format!("it is {state}: {exit}"),
            None => format!("it is {state}"),
        }
    }

    /// Starts a machine that does not run, under its lease.
    pub(super) async fn start_machine(&self, id: &str, lease: &Lease) -> Result<(), NotMade> {
        let mut tries = 0;
        loop {
            let call = calls::start_machine(&self.app, id, lease.nonce.as_ref());
            let what = call.shown();
            match self.client.ask_idempotent(call).await {
                Ok(_) => {
                    fault::point("provider.fly.machine_started");
                    return Ok(());
                }
                // A host that is full now may have room in a moment.
                Err(Declined::Refused(Refusal::HostFull, _)) if tries < TRIES => self.client.pause().await,
                // It may be on its way up or down: what it is now says more than what it was.
                Err(Declined::Refused(Refusal::WrongState, _)) if tries < TRIES => {
                    self.client.pause().await;
                    let now = self.machine(id).await?.ok_or_else(|| self.not_ready(id, "it is gone"))?;
                    if matches!(now.state.as_str(), "started" | "starting" | "restarting") {
                        return Ok(());
                    }
                }
                Err(declined) => return Err(NotMade::of(&what, declined)),
            }
            tries += 1;
        }
    }

    /// Stops a machine as Convex wants to be stopped, and waits until it has.
    pub(super) async fn stop_machine(&self, id: &str) -> Result<(), FlyError> {
        let lease = self.lease(id).await?;
        let call = calls::stop_machine(&self.app, id, lease.nonce.as_ref());
        let what = call.shown();
        let stopped = self.client.ask_idempotent(call).await;
        self.release(lease).await;
        match stopped {
            Ok(_) | Err(Declined::Refused(Refusal::NotFound, _)) => {}
            Err(declined) => return Err(failed(&what, declined)),
        }
        let deadline = self.client.deadline(self.client.patience.gone);
        while let Some(machine) = self.machine(id).await? {
            if matches!(machine.state.as_str(), "stopped" | "created" | "failed" | "suspended") {
                break;
            }
            if self.client.left(deadline).is_none() {
                return Err(self.not_ready(id, "it does not stop"));
            }
            self.client.pause().await;
        }
        Ok(())
    }

    /// Takes a machine away and waits until it is gone.
    pub(super) async fn delete_machine(&self, id: &str) -> Result<(), FlyError> {
        let lease = match self.machine(id).await? {
            None => return Ok(()),
            // The lease of a machine on a host that does not answer cannot be had.
            Some(machine) if !machine.host_answers() => None,
            Some(_) => Some(self.lease(id).await?),
        };
        let call = calls::delete_machine(&self.app, id, lease.as_ref().and_then(|lease| lease.nonce.as_ref()));
        let what = call.shown();
        match self.client.ask(call).await {
            Ok(_) | Err(Declined::Refused(Refusal::NotFound, _)) => {}
            Err(declined) => {
                if let Some(lease) = lease {
                    self.release(lease).await;
                }
                return Err(failed(&what, declined));
            }
        }
        fault::point("provider.fly.machine_deleted");
        let patience = self.client.patience.gone;
        let deadline = self.client.deadline(patience);
        while self.machine_is_there(id).await? {
            if self.client.left(deadline).is_none() {
                let (app, what) = (self.app.clone(), format!("machine `{id}`"));
                return Err(FlyError::StillThere { app, what, seconds: patience.as_secs() });
            }
            self.client.pause().await;
        }
        Ok(())
    }

    /// Whether anything of a machine is left; one that is being destroyed is.
    async fn machine_is_there(&self, id: &str) -> Result<bool, FlyError> {
        let found: Option<Machine> = self.client.find(calls::machine(&self.app, id)).await?;
        Ok(found.is_some_and(|machine| machine.state != "destroyed"))
    }
}
