//! Changing a machine that is there: under its lease, as a whole, and back again when it does not come up.
//!
//! Must not do: change a machine from what is known of it in part only, or leave one down that ran before.

use serde_json::{Value, json};

use super::answers::Machine;
use super::apps::Work;
use super::calls;
use super::client::{Declined, read};
use super::error::FlyError;
use super::leases::Lease;
use super::refusal::{Refusal, words};
use super::volumes::{NotMade, Room};
use super::wanted::CONFIGURATION;
use crate::fault;

/// How often a change is tried that somebody else's change came before, or whose answer was lost.
const TRIES: u32 = 3;

/// How a machine came to be as it should be.
#[derive(Debug)]
pub(super) enum Updated {
    /// It runs and is ready.
    Ready(Box<Machine>),
    /// Its host has no room for it, and it does not run.
    NoRoom(String),
}

impl Work<'_> {
    /// Gives a machine this configuration and waits until it is ready.
    ///
    /// # Errors
    /// [`FlyError::Restored`] when it did not become ready and runs as before.
    pub(super) async fn update_machine(
        &self,
        id: &str,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<Updated, FlyError> {
        let mut lease = self.lease(id).await?;
        let updated = self.update_under(&mut lease, id, configuration, secrets_version).await;
        self.release(lease).await;
        updated
    }

    async fn update_under(
        &self,
        lease: &mut Lease,
        id: &str,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<Updated, FlyError> {
        // What is seen from here on nobody else changes.
        let before = self.whole_machine(id).await?;
        let ran = before.state == "started";
        let after = match self.put(lease, &before, configuration, secrets_version).await {
            Ok(after) => after,
            Err(NotMade::Full(Room::Host, said)) if !ran => return Ok(Updated::NoRoom(said)),
            Err(NotMade::Full(_, said)) => return Err(FlyError::Full { regions: vec![before.region], said }),
            Err(NotMade::Failed(error)) => return Err(error),
        };
        fault::point("provider.fly.machine_updated");
        let why = match self.until_ready(id, after.instance_id.as_deref(), Some(lease)).await {
            Ok(machine) => return Ok(Updated::Ready(Box::new(machine))),
            Err(FlyError::NotReady { why, .. }) => why,
            Err(error) => return Err(error),
        };
        let Some(previous) = before.config.as_ref().filter(|_| ran) else {
            return Err(FlyError::NotReady { app: self.app.clone(), machine: id.to_owned(), why });
        };
        (self.notice)(format!("machine {id} did not become ready ({why}); putting its previous configuration back"));
        let now = self.whole_machine(id).await?;
        match self.put(lease, &now, previous, None).await {
            Ok(back) => {
                // Whether it answers is told by the next look; it is as it was.
                let _ = self.until_ready(id, back.instance_id.as_deref(), Some(lease)).await;
                Err(FlyError::Restored { app: self.app.clone(), machine: id.to_owned(), why })
            }
            Err(_) => Err(FlyError::NotReady { app: self.app.clone(), machine: id.to_owned(), why }),
        }
    }

    /// Starts a machine that is as it should be and does not run, and waits until it is ready.
    pub(super) async fn wake_machine(&self, machine: &Machine) -> Result<Updated, FlyError> {
        let mut lease = self.lease(&machine.id).await?;
        let started = self.start_machine(&machine.id, &lease).await;
        let woken = match started {
            Ok(()) => {
                let ready = self.until_ready(&machine.id, None, Some(&mut lease)).await;
                ready.map(|machine| Updated::Ready(Box::new(machine)))
            }
            Err(NotMade::Full(_, said)) => Ok(Updated::NoRoom(said)),
            Err(NotMade::Failed(error)) => Err(error),
        };
        self.release(lease).await;
        woken
    }

    /// A machine with its whole configuration.
    async fn whole_machine(&self, id: &str) -> Result<Machine, FlyError> {
        let machine = self.machine(id).await?;
        let machine = machine.ok_or_else(|| FlyError::NotReady {
            app: self.app.clone(),
            machine: id.to_owned(),
            why: "it went away meanwhile".to_owned(),
        })?;
        if !machine.host_answers() || (machine.config.is_none() && machine.incomplete_config.is_some()) {
            return Err(self.host_unreachable(id));
        }
        Ok(machine)
    }

    /// Sends the whole configuration for the version of the machine that was seen.
    async fn put(
        &self,
        lease: &mut Lease,
        seen: &Machine,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<Machine, NotMade> {
        let mut version = seen.instance_id.clone().or_else(|| lease.version.clone());
        let mut tries = 0;
        loop {
            let mut request = json!({ "config": configuration });
            if let Some(version) = &version {
                request["current_version"] = version.as_str().into();
            }
            if let Some(version) = secrets_version {
                request["min_secrets_version"] = version.into();
            }
            let call = calls::update_machine(&self.app, &seen.id, request, lease.nonce.as_ref());
            let what = call.shown();
            let said = match self.client.ask(call).await {
                Ok(reply) => return Ok(read(&what, &reply)?),
                Err(Declined::Uncertain(said)) => said,
                Err(Declined::Refused(Refusal::Stale, reply)) => words(&reply),
                Err(Declined::Refused(Refusal::HostFull, _)) if tries < TRIES => {
                    tries += 1;
                    self.client.pause().await;
                    continue;
                }
                Err(Declined::Refused(Refusal::LeaseHeld, reply)) => {
                    let said = words(&reply);
                    return Err(FlyError::LeaseHeld { app: self.app.clone(), machine: seen.id.clone(), said }.into());
                }
                Err(declined) => return Err(NotMade::of(&what, declined)),
            };
            if tries >= TRIES {
                return Err(FlyError::Unreachable { what, said }.into());
            }
            tries += 1;
            self.client.pause().await;
            let now = self.whole_machine(&seen.id).await?;
            let digest = |configuration: Option<&Value>| {
                configuration.and_then(|configuration| configuration.get("metadata")?.get(CONFIGURATION).cloned())
            };
            if now.instance_id != version && digest(now.config.as_ref()) == digest(Some(configuration)) {
                // It was done, and only the answer was lost.
                return Ok(now);
            }
            version.clone_from(&now.instance_id);
        }
    }
}
