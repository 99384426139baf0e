//! Changing a machine that is there: under its lease, as a whole, and back again when it does not come up.
//!
//! Must not do: change a machine from what is known of it in part only, or leave one down that ran before.

use serde_json::{Value, json};

use super::api_error::{ApiErrorKind, error_message};
use super::api_types::Machine;
use super::apps::AppReconciler;
use super::client::{CallError, parse_created};
use super::desired::CONFIG_DIGEST_KEY;
use super::error::FlyError;
use super::leases::MachineLease;
use super::requests;
use super::volumes::{CapacityScope, CreateError};
use crate::failpoint;

/// How often an update is retried after a conflict or a lost answer.
const MAX_ATTEMPTS: u32 = 3;

/// How a machine came to be as it should be.
#[derive(Debug)]
pub(super) enum UpdateOutcome {
    /// It runs and is ready.
    Ready(Box<Machine>),
    /// Its host has no room for it, and it does not run.
    NoCapacity(String),
}

impl AppReconciler<'_> {
    /// Gives a machine this configuration and waits until it is ready.
    ///
    /// # Errors
    /// [`FlyError::RolledBack`] when it did not become ready and runs as before.
    pub(super) async fn update_machine(
        &self,
        id: &str,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<UpdateOutcome, FlyError> {
        let lease = self.acquire_lease(id).await?;
        self.under_lease(&lease, self.update_with_lease(&lease, id, configuration, secrets_version)).await
    }

    async fn update_with_lease(
        &self,
        lease: &MachineLease,
        id: &str,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<UpdateOutcome, FlyError> {
        // Under the lease no one else changes what is observed from here on.
        let before = self.machine_with_config(id).await?;
        let ran = before.state == "started";
        let after = match self.replace_config(lease, &before, configuration, secrets_version).await {
            Ok(after) => after,
            Err(CreateError::NoCapacity(CapacityScope::Host, said)) if !ran => return Ok(UpdateOutcome::NoCapacity(said)),
            Err(CreateError::NoCapacity(_, said)) => return Err(FlyError::NoCapacity { regions: vec![before.region], said }),
            Err(CreateError::Failed(error)) => return Err(error),
        };
        failpoint::hit("provider.fly.machine_updated");
        let why = match self.wait_until_ready(id, after.instance_id.as_deref()).await {
            Ok(machine) => return Ok(UpdateOutcome::Ready(Box::new(machine))),
            Err(FlyError::NotReady { why, .. }) => why,
            Err(error) => return Err(error),
        };
        let Some(previous) = before.config.as_ref().filter(|_| ran) else {
            return Err(FlyError::NotReady { app: self.app.clone(), machine: id.to_owned(), why });
        };
        (self.notice)(format!("machine {id} did not become ready ({why}); putting its previous configuration back"));
        let now = self.machine_with_config(id).await?;
        match self.replace_config(lease, &now, previous, None).await {
            Ok(back) => {
                // Whether it answers is told by the next look; it is as it was.
                let _ = self.wait_until_ready(id, back.instance_id.as_deref()).await;
                Err(FlyError::RolledBack { app: self.app.clone(), machine: id.to_owned(), why })
            }
            Err(_) => Err(FlyError::NotReady { app: self.app.clone(), machine: id.to_owned(), why }),
        }
    }

    /// Starts a machine that is as it should be and does not run, and waits until it is ready.
    pub(super) async fn start_and_wait(&self, machine: &Machine) -> Result<UpdateOutcome, FlyError> {
        let lease = self.acquire_lease(&machine.id).await?;
        let starting = async {
            match self.start_machine(&machine.id, &lease).await {
                Ok(()) => Ok(UpdateOutcome::Ready(Box::new(self.wait_until_ready(&machine.id, None).await?))),
                Err(CreateError::NoCapacity(_, said)) => Ok(UpdateOutcome::NoCapacity(said)),
                Err(CreateError::Failed(error)) => Err(error),
            }
        };
        self.under_lease(&lease, starting).await
    }

    /// A machine with its whole configuration.
    async fn machine_with_config(&self, id: &str) -> Result<Machine, FlyError> {
        let machine = self.find_machine(id).await?;
        let machine = machine.ok_or_else(|| FlyError::NotReady {
            app: self.app.clone(),
            machine: id.to_owned(),
            why: "it went away meanwhile".to_owned(),
        })?;
        if !machine.is_host_reachable() || (machine.config.is_none() && machine.incomplete_config.is_some()) {
            return Err(self.host_unreachable(id));
        }
        Ok(machine)
    }

    /// Sends the whole configuration for the version of the machine that was seen.
    async fn replace_config(
        &self,
        lease: &MachineLease,
        seen: &Machine,
        configuration: &Value,
        secrets_version: Option<u64>,
    ) -> Result<Machine, CreateError> {
        let mut version = seen.instance_id.clone().or_else(|| lease.version.clone());
        let mut tries = 0;
        let deadline = self.client.deadline(self.client.timeouts.settle);
        loop {
            let mut request = json!({ "config": configuration });
            if let Some(version) = &version {
                request["current_version"] = version.as_str().into();
            }
            if let Some(version) = secrets_version {
                request["min_secrets_version"] = version.into();
            }
            let call = requests::update_machine(&self.app, &seen.id, request, lease.nonce.as_ref());
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(reply) => return Ok(parse_created(&what, &reply)?),
                Err(CallError::Uncertain(said)) => said,
                Err(CallError::Rejected(ApiErrorKind::Conflict, reply)) => {
                    // Another change is under way, or the vault lags behind: both are over in a while.
                    let said = error_message(&reply);
                    if self.client.remaining(deadline).is_none() {
                        return Err(FlyError::LeaseHeld { app: self.app.clone(), machine: seen.id.clone(), said }.into());
                    }
                    self.client.pause().await;
                    self.wait_until_settled(&seen.id, None).await?;
                    tries = 0;
                    said
                }
                Err(CallError::Rejected(ApiErrorKind::HostFull, _)) if tries < MAX_ATTEMPTS => {
                    tries += 1;
                    self.client.pause().await;
                    continue;
                }
                Err(CallError::Rejected(ApiErrorKind::LeaseHeld, reply)) => {
                    let said = error_message(&reply);
                    return Err(FlyError::LeaseHeld { app: self.app.clone(), machine: seen.id.clone(), said }.into());
                }
                Err(declined) => return Err(CreateError::from_call(&what, declined)),
            };
            if tries >= MAX_ATTEMPTS {
                return Err(FlyError::Unreachable { what, said }.into());
            }
            tries += 1;
            self.client.pause().await;
            let now = self.machine_with_config(&seen.id).await?;
            let digest = |configuration: Option<&Value>| {
                configuration.and_then(|configuration| configuration.get("metadata")?.get(CONFIG_DIGEST_KEY).cloned())
            };
            if now.instance_id != version && digest(now.config.as_ref()) == digest(Some(configuration)) {
                // It was done, and only the answer was lost.
                return Ok(now);
            }
            version.clone_from(&now.instance_id);
        }
    }
}
