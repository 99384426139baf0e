//! The configuration of machines: what is refused, and how it comes back.
//!
//! It comes back with more than was sent and in other words, which a comparison has to see through.

use serde_json::{Map, Value, json};

use super::registry;
use super::reply::{Reply, go_duration, invalid_argument, read_duration};
use super::volumes::Volume;

const SHARED_CPUS: [u64; 5] = [1, 2, 4, 6, 8];
const PERFORMANCE_CPUS: [u64; 12] = [1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128];

/// A configuration as it comes back.
#[derive(Debug, Clone)]
pub struct Config {
    pub value: Value,
}

/// One check that a configuration asks for.
#[derive(Debug, Clone)]
pub struct Check {
    pub name: String,
    pub port: u16,
    pub path: Option<String>,
}

impl Config {
    pub fn read(body: &Value) -> Result<Self, Reply> {
        let Some(config) = body.get("config").filter(|config| config.is_object()) else {
            return Err(invalid_argument("config is missing"));
        };
        let mut value = config.clone();
        let image = value["image"].as_str().unwrap_or_default();
        if image.is_empty() {
            return Err(invalid_argument("config.image is missing"));
        }
        if image.contains("unpullable") {
            return Err(Reply::error(400, format!("failed to get manifest {image}: unauthorized")));
        }
        if value["mounts"].as_array().is_some_and(|mounts| mounts.len() > 1) {
            return Err(invalid_argument("config.mounts has more than one volume"));
        }
        guest(&mut value)?;
        for (place, name) in [("services", "checks"), ("", "checks")] {
            durations(&mut value, place, name)?;
        }
        services(&mut value)?;
        stop(&mut value)?;
        value.as_object_mut().map(fill_in);
        Ok(Self { value })
    }

    pub fn image(&self) -> &str {
        self.value["image"].as_str().unwrap_or_default()
    }

    pub fn volume(&self) -> Option<&str> {
        self.value["mounts"][0]["volume"].as_str()
    }

    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.value["metadata"][key].as_str()
    }

    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        let env = self.value["env"].as_object().into_iter().flatten();
        env.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// A mount comes back with what is known about its volume.
    pub fn fill_mount(&mut self, volume: &Volume) {
        if let Some(mount) = self.value["mounts"].get_mut(0) {
            mount["name"] = json!(volume.name);
            mount["size_gb"] = json!(volume.size_gb);
            mount["encrypted"] = json!(true);
        }
    }

    /// The signal and the seconds with which programs are asked to stop.
    pub fn stop(&self) -> (&str, std::time::Duration) {
        let stop = &self.value["stop_config"];
        let timeout = read_duration(&stop["timeout"]).unwrap_or(std::time::Duration::from_secs(5));
        (stop["signal"].as_str().unwrap_or("SIGINT"), timeout)
    }

    pub fn restart_policy(&self) -> (&str, u64) {
        let restart = &self.value["restart"];
        (restart["policy"].as_str().unwrap_or("on-failure"), restart["max_retries"].as_u64().unwrap_or(10))
    }

    /// The port inside that the public port leads to.
    pub fn internal_port(&self, public: u16) -> Option<u16> {
        let services = self.value["services"].as_array()?;
        let leads = |service: &&Value| {
            service["ports"].as_array().into_iter().flatten().any(|port| port["port"].as_u64() == Some(u64::from(public)))
        };
        u16::try_from(services.iter().find(leads)?["internal_port"].as_u64()?).ok()
    }

    pub fn checks(&self) -> Vec<Check> {
        let port_of = |check: &Value, otherwise: &Value| {
            check["port"].as_u64().or(otherwise.as_u64()).and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
        };
        let kind = |check: &Value| check["type"].as_str().unwrap_or("tcp").to_owned();
        let path = |check: &Value| (kind(check) == "http").then(|| check["path"].as_str().unwrap_or("/").to_owned());
        let mut all = Vec::new();
        for service in self.value["services"].as_array().into_iter().flatten() {
            for check in service["checks"].as_array().into_iter().flatten() {
                let port = port_of(check, &service["internal_port"]);
                let name = format!("servicecheck-{:02}-{}-{port}", all.len(), kind(check));
                all.push(Check { name, port, path: path(check) });
            }
        }
        for (name, check) in self.value["checks"].as_object().into_iter().flatten() {
            all.push(Check { name: name.clone(), port: port_of(check, &Value::Null), path: path(check) });
        }
        all
    }
}

fn guest(value: &mut Value) -> Result<(), Reply> {
    let guest = &value["guest"];
    let kind = guest["cpu_kind"].as_str().unwrap_or("shared").to_owned();
    let cpus = guest["cpus"].as_u64().unwrap_or(1);
    let (allowed, step, least, most): (&[u64], _, _, _) = match kind.as_str() {
        "shared" => (&SHARED_CPUS, 256, 256, 2_048),
        "performance" => (&PERFORMANCE_CPUS, 1_024, 2_048, 8_192),
        _ => return Err(invalid_argument(format!("invalid config.guest.cpu_kind \"{kind}\""))),
    };
    if !allowed.contains(&cpus) {
        return Err(invalid_argument(format!("invalid config.guest.cpus, {cpus} is not one of {allowed:?}")));
    }
    let memory = guest["memory_mb"].as_u64().unwrap_or(least * cpus);
    if memory < least * cpus {
        return Err(invalid_argument(format!("invalid config.guest.memory_mb, minimum required {} MiB", least * cpus)));
    }
    if memory > most * cpus || !memory.is_multiple_of(step) {
        return Err(invalid_argument(format!(
            "invalid config.guest.memory_mb, must be a multiple of {step} up to {} MiB",
            most * cpus
        )));
    }
    let mut filled = guest.as_object().cloned().unwrap_or_default();
    filled.insert("cpu_kind".to_owned(), json!(kind));
    filled.insert("cpus".to_owned(), json!(cpus));
    filled.insert("memory_mb".to_owned(), json!(memory));
    value["guest"] = Value::Object(filled);
    Ok(())
}

/// Brings the times of checks into the words in which they come back.
fn durations(value: &mut Value, place: &str, name: &str) -> Result<(), Reply> {
    let Some(top) = (if place.is_empty() { Some(&mut *value) } else { value.get_mut(place) }) else { return Ok(()) };
    let holders: Vec<&mut Value> = match top {
        Value::Array(entries) => entries.iter_mut().collect(),
        other => vec![other],
    };
    for holder in holders {
        let checks: Vec<&mut Value> = match holder.get_mut(name) {
            Some(Value::Array(entries)) => entries.iter_mut().collect(),
            Some(Value::Object(entries)) => entries.values_mut().collect(),
            _ => continue,
        };
        for check in checks {
            for key in ["interval", "timeout", "grace_period"] {
                rewrite(check, key)?;
            }
        }
    }
    Ok(())
}

fn rewrite(holder: &mut Value, key: &str) -> Result<(), Reply> {
    let Some(time) = holder.get(key) else { return Ok(()) };
    let read = read_duration(time).ok_or_else(|| invalid_argument(format!("invalid duration {time} in {key}")))?;
    holder[key] = json!(go_duration(read));
    Ok(())
}

fn services(value: &mut Value) -> Result<(), Reply> {
    for service in value.get_mut("services").and_then(Value::as_array_mut).into_iter().flatten() {
        if service.get("autostart").is_some_and(|autostart| !autostart.is_boolean()) {
            return Err(invalid_argument("invalid config.services.autostart, not a boolean"));
        }
        match service.get("autostop") {
            Some(Value::String(word)) if word == "off" => service["autostop"] = json!(false),
            Some(Value::String(word)) if word == "stop" => service["autostop"] = json!(true),
            Some(Value::String(word)) if word == "suspend" => {}
            Some(Value::Bool(_)) | None => {}
            Some(other) => return Err(invalid_argument(format!("invalid config.services.autostop {other}"))),
        }
    }
    Ok(())
}

fn stop(value: &mut Value) -> Result<(), Reply> {
    let Some(stop) = value.get_mut("stop_config") else { return Ok(()) };
    if read_duration(&stop["timeout"]).is_some_and(|timeout| timeout.as_secs() > 300) {
        return Err(invalid_argument("invalid config.stop_config.timeout, must be at most 5m0s"));
    }
    rewrite(stop, "timeout")
}

/// What comes back though nobody sent it.
fn fill_in(config: &mut Map<String, Value>) {
    config.entry("init").or_insert_with(|| json!({}));
    config.entry("dns").or_insert_with(|| json!({}));
    config.entry("restart").or_insert_with(|| json!({ "policy": "on-failure", "max_retries": 10 }));
}

/// An image's name, taken apart.
pub fn image_ref(image: &str) -> Value {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let has_host = |host: &str| host.contains(['.', ':']);
    let (registry, rest) = name.split_once('/').filter(|(host, _)| has_host(host)).unwrap_or(("registry-1.docker.io", name));
    let (repository, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
    let digest = digest.map_or_else(|| registry::digest(repository, tag), str::to_owned);
    json!({ "registry": registry, "repository": repository, "tag": tag, "digest": digest, "labels": {} })
}
