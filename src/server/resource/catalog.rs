//! The catalog and the capacity: what this control plane has to offer, and how much of it is left.
//!
//! Must not do: guess what is not known.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;

use super::{Handled, document};
use crate::control::{Capacity, Catalog, Offer};
use crate::model::ProviderKind;
use crate::server::Server;
use crate::server::input::{Asked, Nothing};
use crate::server::route::{Access, Route, Verb};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Verb::Get, "/v1/catalog", "getCatalog", Access::Token, "Providers, regions, sizes, releases and prices.")
            .answers::<Catalog>(200, "The catalog; what is not known is null.")
            .by(get(catalog)),
        Route::new(Verb::Get, "/v1/capacity", "getCapacity", Access::Token, "What is used and what is left.")
            .answers::<Capacity>(200, "The capacity.")
            .by(get(capacity)),
    ]
}

async fn catalog(State(server): State<Arc<Server>>, _: Asked<Nothing>) -> Handled {
    let available = server.host.provider_kinds();
    let providers = ProviderKind::ALL.into_iter().map(|provider| offer(provider, available.contains(&provider))).collect();
    document(&Catalog { providers })
}

/// What is known of a provider without asking anybody.
fn offer(provider: ProviderKind, available: bool) -> Offer {
    let here = matches!(provider, ProviderKind::Simulated | ProviderKind::Local | ProviderKind::Docker);
    Offer {
        provider,
        available,
        // What runs on one machine has no regions, and takes what the machine has.
        regions: here.then(Vec::new),
        sizes: here.then(Vec::new),
        // The stand-in answers as any release.
        releases: (provider == ProviderKind::Simulated).then(Vec::new),
    }
}

async fn capacity(State(server): State<Arc<Server>>, _: Asked<Nothing>) -> Handled {
    document(&server.host.capacity()?)
}
