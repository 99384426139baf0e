//! Leases of machines: while one is held no other run changes the machine, and one that is not renewed expires soon.
//!
//! The nonce of a lease is recorded while it is held, so that the operation takes it up again that was killed in the middle.
//!
//! Must not do: break the lease of another run.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, pending, select};

use super::api_error::{ApiErrorKind, error_message};
use super::api_types::LeaseResponse;
use super::apps::AppReconciler;
use super::client::{CallError, call_failed, parse, rejection};
use super::error::FlyError;
use super::requests;
use crate::failpoint;
use crate::model::Secret;

/// How often the release of a lease is retried: the next run waits for it.
const RELEASE_ATTEMPTS: u32 = 3;

/// The prefix of the keys in the provider state that have nonces; the id of the machine follows.
const LEASE_KEY_PREFIX: &str = "lease.";

/// A lease that is held.
#[derive(Debug)]
pub(super) struct MachineLease {
    machine: String,
    pub(super) nonce: Option<Secret>,
    /// The version of the machine that it is a lease of.
    pub(super) version: Option<String>,
}

impl AppReconciler<'_> {
    /// Acquires a machine's lease, and waits for one that is held.
    pub(super) async fn acquire_lease(&self, machine: &str) -> Result<MachineLease, FlyError> {
        let timeouts = &self.client.timeouts;
        let deadline = self.client.deadline(timeouts.lease_wait);
        let mut said_so = false;
        let key = format!("{LEASE_KEY_PREFIX}{machine}");
        // One that ran out meanwhile is taken anew, as without a nonce.
        let mut recorded = self.placement.provider_state.get(&key).map(Secret::new);
        loop {
            let own = recorded.take();
            let call = requests::acquire_lease(&self.app, machine, timeouts.lease.as_secs().max(1), own.as_ref());
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(reply) => {
                    failpoint::hit("provider.fly.leased");
                    let answer: LeaseResponse = parse(&what, &reply)?;
                    let nonce = answer.nonce().map(Secret::new);
                    let version = answer.version().map(str::to_owned);
                    self.record_lease(machine, nonce.as_ref());
                    failpoint::hit("provider.fly.lease_recorded");
                    return Ok(MachineLease { machine: machine.to_owned(), nonce, version });
                }
                // It is another one's by now, or Fly does not know the nonce any more.
                Err(CallError::Rejected(_, _)) if own.is_some() => continue,
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

    fn record_lease(&self, machine: &str, nonce: Option<&Secret>) {
        if let Some(journal) = self.journal {
            journal.record(&format!("{LEASE_KEY_PREFIX}{machine}"), nonce.map(Secret::expose));
        }
    }

    /// Runs `work` while the lease is renewed in the background, and releases it at the end, however that comes.
    ///
    /// # Errors
    /// Those of `work`, and [`FlyError::LeaseHeld`] as soon as another holder has the lease.
    pub(super) async fn under_lease<T, E: From<FlyError>>(
        &self,
        lease: &MachineLease,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let ended = match select(pin!(work), pin!(self.renew_until_lost(lease))).await {
            Either::Left((ended, _)) => ended,
            Either::Right((lost, _)) => Err(lost.into()),
        };
        self.release_lease(lease).await;
        self.record_lease(&lease.machine, None);
        ended
    }

    /// Renews a lease for ever; returns only when it is lost.
    async fn renew_until_lost(&self, lease: &MachineLease) -> FlyError {
        let Some(nonce) = &lease.nonce else { return pending().await };
        let ttl = self.client.timeouts.lease;
        loop {
            self.client.transport.sleep(ttl / 3).await;
            let call = requests::acquire_lease(&self.app, &lease.machine, ttl.as_secs().max(1), Some(nonce)).within(ttl / 3);
            // The work itself meets any other failure sooner or later, or the next renewal succeeds.
            let Ok(reply) = self.client.send_once(call).await else { continue };
            let said = match rejection(&reply) {
                Some((ApiErrorKind::LeaseHeld, said)) => said,
                Some(_) => continue,
                None => match serde_json::from_str::<LeaseResponse>(&reply.body).ok().as_ref().and_then(LeaseResponse::nonce) {
                    // It had run out, so this is another one, and there may have been another holder in between.
                    Some(other) if other != nonce.expose() => {
                        let call = requests::release_lease(&self.app, &lease.machine, &Secret::new(other));
                        let _ = self.client.send_once(call).await;
                        "the lease ran out before it could be renewed".to_owned()
                    }
                    _ => continue,
                },
            };
            return FlyError::LeaseHeld { app: self.app.clone(), machine: lease.machine.clone(), said };
        }
    }

    /// Releases a lease. One that cannot be released runs out by itself.
    async fn release_lease(&self, lease: &MachineLease) {
        if let Some(nonce) = &lease.nonce {
            let call = requests::release_lease(&self.app, &lease.machine, nonce).within(Duration::from_secs(5));
            for _ in 0..RELEASE_ATTEMPTS {
                match self.client.send_once(call.clone()).await.map(|reply| rejection(&reply)) {
                    Ok(Some((ApiErrorKind::RateLimited(_) | ApiErrorKind::Uncertain, _))) | Err(_) => self.client.pause().await,
                    Ok(_) => return,
                }
            }
        }
    }
}
