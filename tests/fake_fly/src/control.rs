//! What is said to the stand-in itself, where it runs as a process of its own: faults, and the state of the world.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::faults;
use super::reply::{Reply, Shortage};
use super::request::Request;
use super::server::Shared;
use super::world::LaunchOutcomes;

/// Where this is listened to, beside `/v1`.
pub const PREFIX: &str = "/stand-in/";

/// Changes of the world. What is left out stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    pub foreign_apps: Option<Vec<String>>,
    pub full_regions: Option<std::collections::BTreeMap<String, Shortage>>,
    pub full_hosts: Option<std::collections::BTreeMap<String, Shortage>>,
    pub unreachable_hosts: Option<Vec<String>>,
    pub dns: Option<std::collections::BTreeMap<String, Vec<String>>>,
    pub omens: Option<LaunchOutcomes>,
    /// How far the world's clock is put forward.
    pub advance_seconds: Option<u64>,
}

/// `POST` and `DELETE stand-in/faults`, `POST stand-in/world`, `GET stand-in/requests`, `GET stand-in/violations`.
pub fn answer(shared: &Shared, request: &Request) -> Reply {
    let what = request.path.strip_prefix(PREFIX).unwrap_or_default();
    match (request.method.as_str(), what) {
        ("POST", "faults") => match faults::read(&request.body) {
            Ok(read) => {
                let mut faults = shared.faults.lock().unwrap();
                read.into_iter().for_each(|fault| faults.order(fault));
                Reply::empty(204)
            }
            Err(error) => Reply::error(400, error.to_string()),
        },
        ("GET", "faults") => Reply::ok(json!(shared.faults.lock().unwrap().outstanding())),
        ("DELETE", "faults") => {
            shared.faults.lock().unwrap().clear();
            Reply::empty(204)
        }
        ("POST", "world") => match serde_json::from_value(request.body.clone()) {
            Ok(change) => {
                apply(shared, change);
                Reply::empty(204)
            }
            Err(error) => Reply::error(400, error.to_string()),
        },
        ("GET", "requests") => {
            let requests = shared.requests.lock().unwrap();
            Reply::ok(requests.iter().map(|seen| json!({ "line": seen.line, "status": seen.status })).collect::<Value>())
        }
        ("GET", "violations") => Reply::ok(json!(*shared.violations.lock().unwrap())),
        _ => Reply::error(404, format!("the stand-in has no `{}`", request.path)),
    }
}

pub fn apply(shared: &Shared, change: Change) {
    let mut world = shared.world.lock().unwrap();
    if let Some(names) = change.foreign_apps {
        world.foreign_apps = names.into_iter().collect();
    }
    if let Some(regions) = change.full_regions {
        world.full_regions = regions;
    }
    if let Some(hosts) = change.full_hosts {
        world.full_hosts = hosts;
    }
    if let Some(hosts) = change.unreachable_hosts {
        world.unreachable_hosts = hosts.into_iter().collect();
    }
    if let Some(dns) = change.dns {
        world.dns = dns;
    }
    if let Some(omens) = change.omens {
        world.omens = omens;
    }
    world.ahead += Duration::from_secs(change.advance_seconds.unwrap_or_default());
}
