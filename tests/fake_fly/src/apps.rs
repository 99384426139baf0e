//! Apps: global names, appearance after a while, and deletion that takes its time.

use std::time::Duration;

use serde_json::{Value, json};

use super::processes;
use super::reply::{Reply, failed_precondition, forbidden, name_not_allowed, name_taken, unauthenticated};
use super::request::Request;
use super::tokens::{Scope, Token};
use super::volumes::VolumeState;
use super::world::{App, World};

/// How many apps of one organization are deleted in a minute.
const DELETIONS_PER_MINUTE: usize = 100;

pub fn create(world: &mut World, token: &Token, request: &Request) -> Result<Reply, Reply> {
    let Some(org) = request.text("org_slug") else {
        return Err(Reply::error(400, "authorization: request doesn't contain org_slug"));
    };
    let org = world.real_org(org);
    if token.scope != Scope::Organization || org != token.org {
        return Err(forbidden());
    }
    // Both keys are in use; what happens when both are sent is not known, so they have to agree.
    let name = match (request.text("name"), request.text("app_name")) {
        (Some(name), Some(other)) if name != other => return Err(name_not_allowed()),
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(name_not_allowed()),
    };
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.len() >= 64 || !name.bytes().all(is_plain) || name.starts_with('-') || name.ends_with('-') {
        return Err(name_not_allowed());
    }
    if world.apps.contains_key(name) || world.foreign_apps.contains(name) {
        return Err(name_taken());
    }
    let network = request.text("network").unwrap_or("default");
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if !network.starts_with(|c: char| c.is_ascii_alphabetic()) || !network.bytes().all(is_fit) {
        return Err(Reply::error(422, "Validation failed: Network starts with a letter, then letters, digits, dashes"));
    }
    let (number, digits) = world.fresh();
    let app = App {
        id: digits[..12].to_owned(),
        number,
        name: name.to_owned(),
        org: org.to_owned(),
        network: network.to_owned(),
        hidden: world.settings.app_hidden_for,
        node: 0,
        known_elsewhere: world.instant() + world.settings.app_on_one_node_for,
        ends: None,
        machines: Vec::new(),
        volumes: Vec::new(),
        snapshots: Vec::new(),
        addresses: Vec::new(),
        vault: Default::default(),
        certificates: Vec::new(),
    };
    let reply = json!({ "id": app.id, "created_at": world.second() * 1_000 });
    world.apps.insert(name.to_owned(), app);
    Ok(Reply::json(201, reply))
}

/// A new app is not there for a while, or the token seems to be no good for it.
pub fn show(world: &mut World, name: &str) -> Result<Reply, Reply> {
    let app = world.app(name)?;
    if app.hidden > 0 && app.hidden % 2 == 0 {
        app.hidden -= 1;
        return Err(unauthenticated());
    }
    world.look_at_app(name).map(|app| Reply::ok(described(app)))
}

pub fn list(world: &World, token: &Token, request: &Request) -> Result<Reply, Reply> {
    let Some(org) = request.parameter("org_slug") else {
        return Err(Reply::error(400, "authorization: request doesn't contain org_slug"));
    };
    let org = world.real_org(org);
    if org != token.org {
        return Err(forbidden());
    }
    let apps: Vec<Value> = world.apps.values().filter(|app| app.org == org && app.hidden == 0).map(described).collect();
    Ok(Reply::ok(json!({ "total_apps": apps.len(), "apps": apps })))
}

pub fn delete(world: &mut World, token: &Token, name: &str, request: &Request) -> Result<Reply, Reply> {
    if token.scope != Scope::Organization {
        return Err(forbidden());
    }
    let now = world.instant();
    let takes = world.settings.deletion_takes;
    world.deletions.retain(|at| now.duration_since(*at) < Duration::from_secs(60) / world.settings.hurry.max(1));
    if world.deletions.len() >= DELETIONS_PER_MINUTE {
        return Err(super::limits::too_many(&world.settings));
    }
    let app = world.app(name)?;
    if !request.is_set("force") && app.machines.iter().any(|machine| machine.state.is_running()) {
        return Err(failed_precondition("app still has running machines: stop them first or use force"));
    }
    app.ends.get_or_insert(now + takes);
    world.deletions.push(now);
    Ok(Reply::empty(202))
}

/// Takes away the apps whose time has come, with everything that belongs to them.
pub fn settle(world: &mut World) {
    let now = world.instant();
    let ended: Vec<String> =
        world.apps.values().filter(|app| app.ends.is_some_and(|end| end <= now)).map(|app| app.name.clone()).collect();
    for name in ended {
        let Some(app) = world.apps.remove(&name) else { continue };
        for mut machine in app.machines {
            processes::kill(&mut machine);
        }
        for mut volume in app.volumes {
            if volume.state.is_live() {
                volume.state = VolumeState::PendingDestroy;
                volume.deleted = Some(now);
                volume.attached = None;
            }
            world.remains.push((name.clone(), volume));
        }
        if !world.settings.names_are_reused {
            world.foreign_apps.insert(name);
        }
    }
}

fn described(app: &App) -> Value {
    let live = app.volumes.iter().filter(|volume| volume.state.is_live()).count();
    json!({
        "id": app.id,
        "name": app.name,
        "status": if app.machines.is_empty() { "pending" } else { "deployed" },
        "network": app.network,
        "internal_numeric_id": app.number,
        "machine_count": app.machines.iter().filter(|machine| !machine.state.is_gone()).count(),
        "volume_count": live,
        "organization": { "name": app.org, "slug": app.org, "internal_numeric_id": 1 },
    })
}
