//! Addresses of an app: those that it lacks, and those that it has one too many of.

use super::api_types::{IpAssignment, IpAssignments};
use super::apps::AppReconciler;
use super::client::{CallError, call_failed};
use super::error::FlyError;
use super::requests;
use crate::failpoint;

/// How often a call whose answer was lost is retried.
const MAX_ATTEMPTS: u32 = 3;

impl AppReconciler<'_> {
    /// Assigns the addresses that the app lacks. Without one its name resolves to nothing.
    pub(super) async fn ensure_addresses(&self) -> Result<(), FlyError> {
        let addresses: IpAssignments = self.client.get(requests::list_addresses(&self.app)).await?;
        let missing = missing_addresses(&addresses);
        for kind in missing {
            self.assign_address(kind).await?;
            failpoint::hit("provider.fly.address_assigned");
        }
        Ok(())
    }

    async fn assign_address(&self, kind: &str) -> Result<(), FlyError> {
        let mut tries = 0;
        loop {
            let call = requests::assign_address(&self.app, kind);
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(_) => return Ok(()),
                // Another client was faster: an app has each of these once. If it were anything else, the next look says so.
                Err(CallError::Rejected(_, reply)) if matches!(reply.status, 409 | 422) => return Ok(()),
                Err(CallError::Uncertain(said)) => said,
                Err(declined) => return Err(call_failed(&what, declined)),
            };
            self.client.pause().await;
            let addresses: IpAssignments = self.client.get(requests::list_addresses(&self.app)).await?;
            if !missing_addresses(&addresses).contains(&kind) {
                return Ok(());
            }
            if tries >= MAX_ATTEMPTS {
                return Err(FlyError::Unreachable { what, said });
            }
            tries += 1;
        }
    }

    /// Releases all but the first of the IPv6 addresses that concurrent runs assigned to a new app: all runs agree on which is
    /// the first. An app that the manifest names is left as it is, because its addresses may be in use.
    pub(super) async fn release_extra_addresses(&self) -> Result<(), FlyError> {
        if self.may_hold_data() {
            return Ok(());
        }
        let mut addresses: IpAssignments = self.client.get(requests::list_addresses(&self.app)).await?;
        addresses.ips.retain(IpAssignment::is_v6);
        addresses.ips.sort_by(|a, b| (&a.created_at, &a.ip).cmp(&(&b.created_at, &b.ip)));
        for extra in addresses.ips.iter().skip(1) {
            let call = requests::release_address(&self.app, &extra.ip);
            let what = call.label();
            match self.client.call(call).await {
                Ok(_) => {}
                Err(CallError::Rejected(kind, _)) if kind.is_not_found() => {}
                Err(declined) => return Err(call_failed(&what, declined)),
            }
        }
        Ok(())
    }
}

/// Returns the kinds of address that an app lacks.
pub(super) fn missing_addresses(addresses: &IpAssignments) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !addresses.ips.iter().any(IpAssignment::is_v6) {
        missing.push("v6");
    }
    if !addresses.ips.iter().any(IpAssignment::is_v4) {
        missing.push("shared_v4");
    }
    missing
}
