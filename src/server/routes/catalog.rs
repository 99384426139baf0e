//! The catalog and the capacity: what this control plane has to offer, and how much of it is left.
//!
//! Must not do: guess what is not known.

use std::sync::Arc;

use axum::extract::State;

use super::{HandlerResult, Route, json, route};
use crate::api::{ProviderCatalog, ProviderOffer, endpoints};
use crate::model::{ProviderKind, ReleaseSource};
use crate::server::ApiServer;
use crate::server::extract::{NoQuery, QueryParams};

pub(super) fn routes() -> Vec<Route> {
    vec![route(&endpoints::GET_CATALOG, catalog), route(&endpoints::GET_CAPACITY, capacity)]
}

async fn catalog(State(server): State<Arc<ApiServer>>, _: QueryParams<NoQuery>) -> HandlerResult {
    let available = server.host.provider_kinds();
    let providers = ProviderKind::ALL.into_iter().map(|provider| offer(provider, available.contains(&provider))).collect();
    json(&ProviderCatalog { providers })
}

/// Returns what is known of a provider without a request to it.
fn offer(provider: ProviderKind, available: bool) -> ProviderOffer {
    let descriptor = provider.descriptor();
    let here = descriptor.location.is_on_this_machine();
    ProviderOffer {
        provider,
        available,
        // What runs on one machine has no regions, and takes what the machine has.
        regions: here.then(Vec::new),
        sizes: here.then(Vec::new),
        releases: (descriptor.releases == ReleaseSource::Any).then(Vec::new),
    }
}

async fn capacity(State(server): State<Arc<ApiServer>>, _: QueryParams<NoQuery>) -> HandlerResult {
    json(&server.host.capacity()?)
}
