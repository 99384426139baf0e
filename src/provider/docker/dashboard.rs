//! The dashboard beside a backend.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::context::BackendContext;
use super::desired::{ContainerLimits, ContainerSpec};
use super::engine::Engine;
use super::hardening::published_ports;
use super::image::{Image, ImagePin};
use super::inventory::Inventory;
use super::labels::{ResourceRole, owner_labels};
use super::sidecar::ensure_sidecar;
use crate::model::{DASHBOARD_URL, ProviderState, ResolvedBackend, RoutePart};
use crate::provider::ProviderError;

/// The port inside the container, which the image has built in.
pub(super) const INSIDE: u16 = 6791;
/// The ports that dashboards get: from Convex's own one on.
const PORTS: RangeInclusive<u16> = 6791..=6990;
const PORT: &str = "dashboard_port";

/// Returns the port of a dashboard that was there before; its URL is known, so it is kept where it is free.
pub(super) fn known_port(resolved: &ResolvedBackend, seen: &Inventory) -> Option<u16> {
    let noted = resolved.provider_state.get(PORT).and_then(|port| port.parse().ok());
    noted.or_else(|| {
        let host = seen.with_role(ResourceRole::Dashboard).next()?.host_config.as_ref()?;
        published_ports(host).first().map(|port| port.outside)
    })
}

/// What is noted of a dashboard.
fn note(resolved: &ResolvedBackend, context: &BackendContext, port: u16, references: &mut ProviderState) {
    references.insert(PORT.to_owned(), port.to_string());
    if let Some(origin) = &resolved.spec.origins.dashboard {
        references.insert(DASHBOARD_URL.to_owned(), origin.clone());
        return;
    }
    // On a server nothing leads there but what its user forwards.
    if !context.is_on_server() {
        references.insert(DASHBOARD_URL.to_owned(), context.internal_url(port));
    }
}

/// The container of a dashboard that is reached on this port.
pub(super) fn container_spec(resolved: &ResolvedBackend, image: &Image, context: &BackendContext, port: u16) -> ContainerSpec {
    let name = context.names.container(ResourceRole::Dashboard);
    let mut spec = ContainerSpec {
        role: ResourceRole::Dashboard,
        aliases: vec![name.clone()],
        name,
        image: image.clone(),
        entry_point: None,
        command: None,
        // What the browser is to connect to, which is not what the container could reach.
        environment: BTreeMap::from([("NEXT_PUBLIC_DEPLOYMENT_URL".to_owned(), resolved.endpoints.url.clone())]),
        volume: None,
        // Its server writes a cache beside its own files, so its file system stays writable.
        scratch: Vec::new(),
        is_read_only: false,
        capabilities: Vec::new(),
        ports: context.port(INSIDE, port).into_iter().collect(),
        networks: vec![context.network.clone()],
        hosts: Vec::new(),
        dns: Vec::new(),
        mounts: Vec::new(),
        shm_size: None,
        health: vec!["CMD-SHELL".to_owned(), format!("curl -fsS http://127.0.0.1:{INSIDE}/ > /dev/null")],
        limits: ContainerLimits::processes(context.capabilities),
        grace_s: context.grace_s,
        labels: owner_labels(resolved, ResourceRole::Dashboard, &context.control_plane),
        extra_labels: BTreeMap::new(),
        files: None,
    };
    if let Some(proxy) = &context.external_proxy {
        proxy.add_routes(&mut spec, resolved, INSIDE, &[RoutePart::Dashboard]);
    }
    spec
}

/// Ensures the dashboard, on the port that it has, or on the first that is free.
pub(super) async fn ensure(
    engine: &Engine,
    resolved: &ResolvedBackend,
    seen: &Inventory,
    context: &BackendContext,
    image: &Image,
    references: &mut ProviderState,
) -> Result<(), ProviderError> {
    ImagePin::DASHBOARD.record(image, references);
    let known = known_port(resolved, seen);
    // No env file names a dashboard: it keeps its port where that is free, and moves where it is not.
    let ports: Vec<u16> = known.into_iter().chain(PORTS.filter(|port| Some(*port) != known)).collect();
    let mut taken = ports.first().copied().unwrap_or_default();
    for port in ports {
        let wanted = container_spec(resolved, image, context, port);
        match ensure_sidecar(engine, seen, &wanted).await {
            Ok(_) => {
                note(resolved, context, port, references);
                return Ok(());
            }
            Err(ProviderError::PortTaken { port, .. } | ProviderError::PortPublished { port, .. }) => taken = port,
            Err(error) => return Err(error),
        }
    }
    Err(ProviderError::PortTaken { port: taken, holder: None })
}
