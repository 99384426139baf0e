//! What the authority hands out: identities, instance names, ports, secrets, endpoints.

use std::collections::BTreeSet;

use super::{AuthorityError, Entropy};
use crate::api::ControlError;
use crate::model::{
    Addressing, BackendId, BackendName, BackendSpec, CLIENT_SITE_URL, CLIENT_URL, Diagnostic, Endpoints, InstanceName,
    PortPair, ProjectName, ProviderState,
};
use crate::store::{BackendRow, Rows};

/// The first port that is handed out unless another is asked for. Above Convex's own 3210, which other tools take
/// by habit.
pub(super) const FIRST_PORT: u16 = 4210;
/// The last one, below the range from which systems choose ports for outgoing connections.
const LAST_PORT: u16 = 29_999;

/// Marks ports that were handed out and that their backend has never answered at: no client knows them.
pub(super) const UNUSED_PORTS: &str = "unused_ports";

/// How many projects may share one joined name before it is an error.
const MAX_NAME_SUFFIX: u32 = 99;

/// Returns how many pairs of ports there are from this one on.
pub(super) fn port_pair_count(first: u16) -> usize {
    (first..LAST_PORT).step_by(2).len()
}

/// Returns a fresh identity: 80 random bits as 16 letters and digits, which suits directories and every provider.
pub(super) fn backend_id(entropy: Entropy) -> Result<BackendId, AuthorityError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 16];
    entropy(&mut bytes)?;
    Ok(BackendId::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect::<String>()))
}

/// Returns the instance name of a new backend: the preferred one, or the first numbered one that is free.
pub(super) fn instance_name(
    rows: &dyn Rows,
    project: &ProjectName,
    backend: &BackendName,
) -> Result<InstanceName, AuthorityError> {
    let refused = |message: String| ControlError::Refused(Diagnostic::new("control.instance_name", message));
    let preferred =
        InstanceName::preferred(project, backend).map_err(|error| refused(format!("`{project}-{backend}`: {error}")))?;
    if !rows.instance_name_taken(&preferred)? {
        return Ok(preferred);
    }
    for number in 2..=MAX_NAME_SUFFIX {
        let candidate = preferred.numbered(number).map_err(|error| refused(format!("`{preferred}-{number}`: {error}")))?;
        if !rows.instance_name_taken(&candidate)? {
            return Ok(candidate);
        }
    }
    Err(refused(format!("`{preferred}` and its numbered forms are all taken; choose another name for the backend")).into())
}

/// Returns the first pair of neighbouring ports that no backend holds and that is not known to be taken.
pub(super) fn ports(rows: &dyn Rows, first: u16, strangers: &BTreeSet<u16>) -> Result<PortPair, AuthorityError> {
    let held: BTreeSet<u16> = rows.ports()?.into_iter().flat_map(|pair| [pair.api, pair.site]).collect();
    let free = |port: &u16| !held.contains(port) && !strangers.contains(port);
    (first..LAST_PORT)
        .step_by(2)
        .map(|api| PortPair { api, site: api + 1 })
        .find(|pair| free(&pair.api) && free(&pair.site))
        .ok_or_else(|| {
            let message = format!("every port from {first} to {LAST_PORT} is taken");
            ControlError::Refused(Diagnostic::new("control.no_ports", message)).into()
        })
}

/// Returns where clients reach a backend as its provider noted it, where only the place itself knows.
pub(super) fn noted_endpoints(spec: &BackendSpec, state: &ProviderState) -> Option<Endpoints> {
    let (url, site_url) = state.get(CLIENT_URL).zip(state.get(CLIENT_SITE_URL))?;
    let (api, site) = (spec.origins.api.as_ref(), spec.origins.site.as_ref());
    Some(Endpoints { url: api.unwrap_or(url).clone(), site_url: site.unwrap_or(site_url).clone() })
}

/// Records where clients reach a backend as its provider noted it now. A backend that has moved to a place that says nothing
/// is reached at its ports again.
pub(super) fn take_noted_endpoints(row: &mut BackendRow) {
    if matches!(row.spec.provider.descriptor().addressing, Addressing::Noted) {
        let own = || row.ports.map(|ports| endpoints(&row.spec, ports));
        row.endpoints = noted_endpoints(&row.spec, &row.references).or_else(own).or(row.endpoints.take());
    }
}

/// Returns where clients reach a backend on this machine. The API's URL equals the cloud origin that the process is told.
pub(super) fn endpoints(spec: &BackendSpec, ports: PortPair) -> Endpoints {
    let host = spec.port_host();
    let own = |port: u16| format!("http://{host}:{port}");
    Endpoints {
        url: spec.origins.api.clone().unwrap_or_else(|| own(ports.api)),
        site_url: spec.origins.site.clone().unwrap_or_else(|| own(ports.site)),
    }
}
