//! The lease of a machine: nobody else changes it meanwhile, and a driver that dies blocks nobody for long.
//!
//! Must not do: break somebody else's lease.

use std::time::Duration;

use super::answers::LeaseAnswer;
use super::apps::Work;
use super::calls;
use super::client::{Deadline, Declined, failed, read};
use super::error::FlyError;
use super::refusal::{Refusal, words};
use crate::fault;
use crate::model::Secret;

/// A lease that is held.
#[derive(Debug)]
pub(super) struct Lease {
    machine: String,
    pub(super) nonce: Option<Secret>,
    /// The version of the machine that it is a lease of.
    pub(super) version: Option<String>,
    renew: Deadline,
}

impl Work<'_> {
    /// Takes a machine's lease. Somebody else's is waited for.
    pub(super) async fn lease(&self, machine: &str) -> Result<Lease, FlyError> {
        let patience = &self.client.patience;
        let deadline = self.client.deadline(patience.lease_held);
        let mut said_so = false;
        loop {
            let call = calls::lease(&self.app, machine, patience.lease.as_secs().max(1), None);
            let what = call.shown();
            let said = match self.client.ask(call).await {
                Ok(reply) => {
                    fault::point("provider.fly.leased");
                    let answer: LeaseAnswer = read(&what, &reply)?;
                    let nonce = answer.nonce().map(Secret::new);
                    let version = answer.version().map(str::to_owned);
                    return Ok(Lease { machine: machine.to_owned(), nonce, version, renew: self.renewal() });
                }
                Err(Declined::Refused(Refusal::LeaseHeld | Refusal::Stale, reply)) => words(&reply),
                // If it was granted, it runs out.
                Err(Declined::Uncertain(said)) => said,
                Err(declined) => return Err(failed(&what, declined)),
            };
            if self.client.left(deadline).is_none() {
                return Err(FlyError::LeaseHeld { app: self.app.clone(), machine: machine.to_owned(), said });
            }
            if !said_so {
                (self.notice)(format!("waiting for machine {machine}: {said}"));
                said_so = true;
            }
            self.client.pause().await;
        }
    }

    fn renewal(&self) -> Deadline {
        self.client.deadline(self.client.patience.lease / 3)
    }

    /// Keeps a lease for as long again, when it is time to.
    pub(super) async fn keep(&self, lease: &mut Lease) -> Result<(), FlyError> {
        if self.client.left(lease.renew).is_some() {
            return Ok(());
        }
        let Some(nonce) = lease.nonce.clone() else { return Ok(()) };
        let seconds = self.client.patience.lease.as_secs().max(1);
        let call = calls::lease(&self.app, &lease.machine, seconds, Some(&nonce));
        let what = call.shown();
        match self.client.ask(call).await {
            Ok(_) | Err(Declined::Uncertain(_)) => {
                lease.renew = self.renewal();
                Ok(())
            }
            Err(Declined::Refused(Refusal::LeaseHeld, reply)) => {
                Err(FlyError::LeaseHeld { app: self.app.clone(), machine: lease.machine.clone(), said: words(&reply) })
            }
            Err(declined) => Err(failed(&what, declined)),
        }
    }

    /// Gives a lease back. One that cannot be given back runs out by itself.
    pub(super) async fn release(&self, lease: Lease) {
        if let Some(nonce) = &lease.nonce {
            let call = calls::release(&self.app, &lease.machine, nonce).within(Duration::from_secs(5));
            let _ = self.client.port.send(call).await;
        }
    }
}
