//! Taking a backend over that something else started on this machine.

use super::{ControlSession, Host};
use crate::api::{ControlError, ControlPlane, LeaseHolder};
use crate::authority::{Adoption, AdoptionProof, AuthorityError};
use crate::convex::admin_key::{InstanceSecret, KeyKind, issue};
use crate::convex::readiness::{Readiness, probe_readiness};
use crate::model::{Diagnostic, ProjectName, ProviderState, ResolvedBackend, Timestamp};

impl ControlSession {
    /// Takes a backend over: checks that it is what it seems to be, and writes it down as ready.
    ///
    /// # Errors
    /// [`ControlError::Refused`] says why it cannot be taken over; nothing is written then.
    pub async fn adopt(
        &self,
        project: &ProjectName,
        holder: LeaseHolder,
        origin: &str,
        adoption: Adoption,
        note: impl FnOnce(&ResolvedBackend) -> ProviderState,
    ) -> Result<(), ControlError> {
        self.host.verify_running(&adoption).await?;
        let lease = self.acquire_lease(project, holder).await?;
        let now = self.host.now();
        let adopted = self.host.write_rows(|authority| authority.adopt(&lease, &self.actor, adoption, note, now).map(drop));
        if adopted.is_ok() {
            self.set_origin(&lease, origin, crate::api::OriginPolicy::IfUnclaimed).await?;
        }
        // A lease that cannot be given back runs out by itself.
        let _ = self.release_lease(&lease).await;
        adopted
    }
}

impl Host {
    async fn verify_running(&self, adoption: &Adoption) -> Result<(), ControlError> {
        let refused = |message: String, help: &str| {
            Err(ControlError::Refused(Diagnostic::new("control.not_adopted", message).with_help(help)))
        };
        let instance = adoption.instance_name.as_str();
        let Some(secret) = &adoption.instance_secret else { return Ok(()) };
        let Ok(secret) = InstanceSecret::parse(secret.expose()) else {
            return refused(format!("the instance secret of `{instance}` is not 64 hex digits"), "give it such a one first");
        };
        let Timestamp(now) = self.now();
        let issued_s = u64::try_from(now / 1000).unwrap_or(1).max(1);
        let mut nonce = [0; 12];
        if getrandom::fill(&mut nonce).is_err() {
            return refused("the system gives no random numbers".to_owned(), "try again");
        }
        let key = issue(instance, &secret, KeyKind::Admin { member_id: 0 }, issued_s, nonce).map_err(AuthorityError::from)?;
        let AdoptionProof::Answers { url } = &adoption.proof else { return Ok(()) };
        match probe_readiness(&self.connections, url, instance, &key).await {
            Readiness::Ready => Ok(()),
            Readiness::OtherInstance { name } => refused(
                format!("`{url}` is answered by `{name}` and not by `{instance}`"),
                "name the container that listens there",
            ),
            Readiness::KeyRefused => refused(
                format!("`{instance}` refuses a key that is made from the secret found"),
                "its secret was changed while it ran: restart it first",
            ),
            Readiness::NotListening | Readiness::Failing(_) => {
                refused(format!("`{instance}` does not answer at `{url}`"), "start its container first")
            }
        }
    }
}
