//! Metadata of machines, which is changed without a new version, and their events.

use serde_json::{Value, json};

use super::machines::{self, event};
use super::reply::{Reply, failed_precondition, invalid_argument, not_found};
use super::request::Request;
use super::world::World;

pub fn list(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    let machine = world.look_at_app(app)?.machine(id)?;
    let metadata = machine.config.value.get("metadata").cloned();
    Ok(Reply::ok(metadata.unwrap_or_else(|| json!({}))))
}

pub fn show(world: &mut World, app: &str, id: &str, key: &str) -> Result<Reply, Reply> {
    let machine = world.look_at_app(app)?.machine(id)?;
    let value = machine.config.metadata(key).ok_or_else(|| not_found("metadata key"))?;
    Ok(Reply::ok(json!({ "value": value })))
}

pub fn set(world: &mut World, app: &str, id: &str, key: &str, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    let value = request.body.get("value").and_then(Value::as_str).ok_or_else(|| invalid_argument("value is missing"))?;
    world.app(app)?.machine(id)?.config.value["metadata"][key] = json!(value);
    Ok(Reply::empty(204))
}

pub fn remove(world: &mut World, app: &str, id: &str, key: &str, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    let machine = world.app(app)?.machine(id)?;
    machine.config.value["metadata"].as_object_mut().map(|metadata| metadata.remove(key));
    Ok(Reply::empty(204))
}

/// `PUT` replaces all of it, `PATCH` what is named; both are refused for another version of the machine.
pub fn change(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    let machine = world.app(app)?.machine(id)?;
    if request.text("machine_version").is_some_and(|version| version != machine.instance_id) {
        return Err(failed_precondition(format!("machine version mismatch, current version is {}", machine.instance_id)));
    }
    let Some(metadata) = request.body.get("metadata").and_then(Value::as_object) else {
        return Err(invalid_argument("metadata is missing"));
    };
    if request.method == "PUT" {
        machine.config.value["metadata"] = json!({});
    }
    for (key, value) in metadata {
        machine.config.value["metadata"][key] = value.clone();
    }
    Ok(Reply::empty(204))
}

pub fn events(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    let limit = request.parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(20_usize);
    if limit > 50 {
        return Err(invalid_argument("limit must be at most 50"));
    }
    let machine = world.look_at_app(app)?.machine(id)?;
    Ok(Reply::ok(machine.events.iter().rev().take(limit).map(event).collect()))
}

pub fn versions(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    let machine = world.look_at_app(app)?.machine(id)?;
    let version = |(version, config): &(String, Value)| json!({ "version": version, "user_config": config });
    Ok(Reply::ok(machine.versions.iter().rev().map(version).collect()))
}
