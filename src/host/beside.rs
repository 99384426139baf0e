//! Services that have their name only where a backend runs, such as those of a compose network.

use std::net::IpAddr;

use super::Host;
use crate::model::ResolvedBackend;

/// Returns the address of a service whose name is known only where the backend runs, such as one of a compose network. A question
/// that fails says nothing: the name is looked up here then, and the error names it.
pub(super) async fn address_beside_backend(host: &Host, placement: &ResolvedBackend, name: &str) -> Option<IpAddr> {
    if name.is_empty() || name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
        return None;
    }
    host.provider(placement.spec.provider).ok()?.address_of(placement, name).await.ok()?
}
