//! The lease of a machine: nobody else changes it meanwhile, and a driver that dies blocks nobody for long.
//!
//! Must not do: break somebody else's lease.

use std::time::Duration;

use super::api_error::{ApiErrorKind, error_message};
use super::api_types::LeaseResponse;
use super::apps::AppReconciler;
use super::client::{CallError, Deadline, call_failed, parse};
use super::error::FlyError;
use super::requests;
use crate::failpoint;
use crate::model::Secret;

/// A lease that is held.
#[derive(Debug)]
pub(super) struct MachineLease {
    machine: String,
    pub(super) nonce: Option<Secret>,
    /// The version of the machine that it is a lease of.
    pub(super) version: Option<String>,
    renew_at: Deadline,
}

impl AppReconciler<'_> {
    /// Takes a machine's lease. Somebody else's is waited for.
    pub(super) async fn acquire_lease(&self, machine: &str) -> Result<MachineLease, FlyError> {
        let patience = &self.client.timeouts;
        let deadline = self.client.deadline(patience.lease_wait);
        let mut said_so = false;
        loop {
            let call = requests::acquire_lease(&self.app, machine, patience.lease.as_secs().max(1), None);
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(reply) => {
                    failpoint::hit("provider.fly.leased");
                    let answer: LeaseResponse = parse(&what, &reply)?;
                    let nonce = answer.nonce().map(Secret::new);
                    let version = answer.version().map(str::to_owned);
                    return Ok(MachineLease { machine: machine.to_owned(), nonce, version, renew_at: self.next_renewal() });
                }
                Err(CallError::Rejected(ApiErrorKind::LeaseHeld | ApiErrorKind::Conflict, reply)) => error_message(&reply),
                // If it was granted, it runs out.
                Err(CallError::Uncertain(said)) => said,
                Err(declined) => return Err(call_failed(&what, declined)),
            };
            if self.client.remaining(deadline).is_none() {
                return Err(FlyError::LeaseHeld { app: self.app.clone(), machine: machine.to_owned(), said });
            }
            if !said_so {
                (self.notice)(format!("waiting for machine {machine}: {said}"));
                said_so = true;
            }
            self.client.pause().await;
        }
    }

    fn next_renewal(&self) -> Deadline {
        self.client.deadline(self.client.timeouts.lease / 3)
    }

    /// Keeps a lease for as long again, when it is time to.
    pub(super) async fn renew_lease_if_due(&self, lease: &mut MachineLease) -> Result<(), FlyError> {
        if self.client.remaining(lease.renew_at).is_some() {
            return Ok(());
        }
        let Some(nonce) = lease.nonce.clone() else { return Ok(()) };
        let seconds = self.client.timeouts.lease.as_secs().max(1);
        let call = requests::acquire_lease(&self.app, &lease.machine, seconds, Some(&nonce));
        let what = call.label();
        match self.client.call(call).await {
            Ok(_) | Err(CallError::Uncertain(_)) => {
                lease.renew_at = self.next_renewal();
                Ok(())
            }
            Err(CallError::Rejected(ApiErrorKind::LeaseHeld, reply)) => {
                Err(FlyError::LeaseHeld { app: self.app.clone(), machine: lease.machine.clone(), said: error_message(&reply) })
            }
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Gives a lease back. One that cannot be given back runs out by itself.
    pub(super) async fn release_lease(&self, lease: MachineLease) {
        if let Some(nonce) = &lease.nonce {
            let call = requests::release_lease(&self.app, &lease.machine, nonce).within(Duration::from_secs(5));
            let _ = self.client.transport.send(call).await;
        }
    }
}
