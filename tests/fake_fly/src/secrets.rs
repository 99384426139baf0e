//! Secrets of apps, by versions: every change makes one, and a machine sees the vault of some version.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::reply::{Reply, failed_precondition, invalid_argument, not_found};
use super::request::Request;
use super::world::World;

/// The vault of one app.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    pub version: u64,
    entries: BTreeMap<String, Entry>,
    /// The values of one version ago.
    before: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Entry {
    value: String,
    created: String,
    updated: String,
}

impl Vault {
    /// What a machine gets that asks for at least this version.
    ///
    /// # Errors
    /// The refusal of a version that does not exist yet.
    pub fn for_machine(&self, wanted: Option<u64>, lags: bool) -> Result<BTreeMap<String, String>, Reply> {
        match wanted {
            Some(version) if version > self.version => {
                Err(failed_precondition(format!("minimum secrets version {version} is not available")))
            }
            None if lags => Ok(self.before.clone()),
            Some(_) | None => Ok(self.values()),
        }
    }

    fn values(&self) -> BTreeMap<String, String> {
        self.entries.iter().map(|(name, entry)| (name.clone(), entry.value.clone())).collect()
    }

    fn change(&mut self, changes: &[(String, Option<String>)], now: &str) {
        self.before = self.values();
        self.version += 1;
        for (name, value) in changes {
            match value {
                None => drop(self.entries.remove(name)),
                Some(value) => {
                    let created = self.entries.get(name).map_or(now, |entry| entry.created.as_str()).to_owned();
                    let entry = Entry { value: value.clone(), created, updated: now.to_owned() };
                    self.entries.insert(name.clone(), entry);
                }
            }
        }
    }

    fn described(&self, name: &str, shown: bool) -> Option<Value> {
        let entry = self.entries.get(name)?;
        let digest = hex::encode(&Sha256::digest(format!("stand-in {}", entry.value))[..8]);
        let mut described = json!({ "name": name, "digest": digest, "created_at": entry.created, "updated_at": entry.updated });
        if shown {
            described["value"] = json!(entry.value);
        }
        Some(described)
    }

    fn list(&self, shown: bool) -> Vec<Value> {
        self.entries.keys().filter_map(|name| self.described(name, shown)).collect()
    }
}

pub fn list(world: &mut World, app: &str, request: &Request) -> Result<Reply, Reply> {
    let vault = &world.look_at_app(app)?.vault;
    Ok(Reply::ok(json!({ "secrets": vault.list(request.is_set("show_secrets")) })))
}

pub fn show(world: &mut World, app: &str, name: &str, request: &Request) -> Result<Reply, Reply> {
    let vault = &world.look_at_app(app)?.vault;
    vault.described(name, request.is_set("show_secrets")).map(Reply::ok).ok_or_else(|| not_found("secret"))
}

/// Sets many at once; `null` takes one away.
pub fn change(world: &mut World, app: &str, request: &Request) -> Result<Reply, Reply> {
    let Some(values) = request.body.get("values").and_then(Value::as_object) else {
        return Err(invalid_argument("values are missing"));
    };
    let mut changes = Vec::new();
    for (name, value) in values {
        match value {
            Value::Null => changes.push((name.clone(), None)),
            Value::String(text) => changes.push((name.clone(), Some(text.clone()))),
            _ => return Err(invalid_argument(format!("value of {name} is not a string"))),
        }
    }
    let now = world.now_text();
    let vault = &mut world.look_at_app(app)?.vault;
    vault.change(&changes, &now);
    Ok(Reply::ok(json!({ "secrets": vault.list(false), "version": vault.version })))
}

pub fn set(world: &mut World, app: &str, name: &str, request: &Request) -> Result<Reply, Reply> {
    let Some(value) = request.body.get("value").and_then(Value::as_str) else {
        return Err(invalid_argument("value is missing"));
    };
    let now = world.now_text();
    let vault = &mut world.look_at_app(app)?.vault;
    vault.change(&[(name.to_owned(), Some(value.to_owned()))], &now);
    let mut reply = vault.described(name, false).unwrap_or_default();
    reply["version"] = json!(vault.version);
    Ok(Reply::json(201, reply))
}

pub fn remove(world: &mut World, app: &str, name: &str) -> Result<Reply, Reply> {
    let now = world.now_text();
    let vault = &mut world.look_at_app(app)?.vault;
    vault.described(name, false).ok_or_else(|| not_found("secret"))?;
    vault.change(&[(name.to_owned(), None)], &now);
    Ok(Reply::ok(json!({ "version": vault.version })))
}
