//! The dashboard beside a backend.
//!
//! Must not do: give it the admin key. Whoever opens the page would get it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::backend::Setting;
use super::confinement::published;
use super::image::Image;
use super::look::Seen;
use super::names::{Role, labels};
use super::wanted::{Limits, Wanted};
use crate::model::{DASHBOARD_URL, Placement, References};

/// The port inside the container, which the image has built in.
const INSIDE: u16 = 6791;
/// The ports that dashboards get: from Convex's own one on.
pub(super) const PORTS: RangeInclusive<u16> = 6791..=6990;
const PORT: &str = "dashboard_port";

/// The port of a dashboard that was there before; its URL is known, so it stays.
pub(super) fn known_port(placement: &Placement, seen: &Seen) -> Option<u16> {
    let noted = placement.references.get(PORT).and_then(|port| port.parse().ok());
    noted.or_else(|| {
        let host = seen.of(Role::Dashboard).next()?.host_config.as_ref()?;
        published(host).first().map(|port| port.outside)
    })
}

/// What is noted of a dashboard.
pub(super) fn note(setting: &Setting, port: u16, references: &mut References) {
    references.insert(PORT.to_owned(), port.to_string());
    references.insert(DASHBOARD_URL.to_owned(), setting.reach(port));
}

/// The container of a dashboard that is reached on this port.
pub(super) fn wanted(placement: &Placement, image: &Image, setting: &Setting, port: u16) -> Wanted {
    let name = setting.names.container(Role::Dashboard);
    Wanted {
        role: Role::Dashboard,
        alias: name.clone(),
        name,
        image: image.clone(),
        entry_point: None,
        command: None,
        // What the browser is to connect to, which is not what the container could reach.
        environment: BTreeMap::from([("NEXT_PUBLIC_DEPLOYMENT_URL".to_owned(), placement.endpoints.url.clone())]),
        volume: None,
        // Its server writes a cache beside its own files, so its file system stays writable.
        scratch: Vec::new(),
        is_read_only: false,
        capabilities: Vec::new(),
        ports: vec![setting.port(INSIDE, port)],
        network: setting.network.clone(),
        hosts: Vec::new(),
        health: vec!["CMD-SHELL".to_owned(), format!("curl -fsS http://127.0.0.1:{INSIDE}/ > /dev/null")],
        limits: Limits::processes(setting.enforces),
        grace_s: setting.grace_s,
        labels: labels(placement, Role::Dashboard, &setting.control_plane),
        files: None,
    }
}
