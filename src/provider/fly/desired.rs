//! What an app should hold, as data that follows from a placement alone.
//!
//! Secrets never stand in a machine's configuration, which everybody with a look at the app may read: they go to the
//! app's vault, and only their keyed digest is noted beside the machine.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::FlyError;
use crate::convex::image::{API_PORT, DASHBOARD_PORT, DATA_DIR, SITE_PORT, image_environment};
use crate::convex::launch::Argument;
use crate::model::fly::{self, APP_KEY, DASHBOARD_GUEST, Guest, volume_gb};
use crate::model::{Digest, Files, FingerprintKey, INTERNAL_URL, ResolvedBackend, Secret, Storage};

/// The name of the one machine of a backend's app.
pub(super) const BACKEND_MACHINE: &str = "convex";
/// The name of the one machine of a dashboard's app.
pub(super) const DASHBOARD_MACHINE: &str = "dashboard";
/// The name of the one volume of a backend's app.
pub(super) const VOLUME_NAME: &str = "convex_data";

/// Metadata: the identity of the backend that a machine belongs to.
pub(super) const OWNER_KEY: &str = "convexinfra_backend";
/// Metadata: the digest of the configuration that was asked for.
pub(super) const CONFIG_DIGEST_KEY: &str = "convexinfra_config";
/// Metadata: the keyed digest of the secrets that a machine was started with.
pub(super) const SECRETS_DIGEST_KEY: &str = "convexinfra_secrets";

/// What one app should hold.
#[derive(Debug, Clone)]
pub(super) struct MachineSpec {
    /// The name of the machine.
    pub(super) machine: &'static str,
    /// The regions that it may be in, the preferred one first.
    pub(super) regions: Vec<String>,
    /// The size of the machine.
    pub(super) guest: Guest,
    /// The size of the volume; none where there is none.
    pub(super) volume_gb: Option<u32>,
    /// Whether what would be lost with the volume is lost for good.
    pub(super) keeps_data: bool,
    /// The vault.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// The configuration without image, mounts and metadata.
    base: Value,
    /// The metadata.
    metadata: Value,
    /// Hosts that need a certificate.
    pub(super) custom_hosts: Vec<String>,
}

/// The name of a backend's app.
pub(super) fn app_name_of(placement: &ResolvedBackend) -> Result<&str, FlyError> {
    placement.provider_state.get(APP_KEY).map(String::as_str).ok_or_else(|| {
        FlyError::Unsupported(format!("no name was chosen for the app of `{}`; this is a bug in convexinfra", placement.name))
    })
}

fn regions(placement: &ResolvedBackend) -> Result<Vec<String>, FlyError> {
    let spec = &placement.spec;
    if spec.region.is_none() {
        return Err(FlyError::Unsupported(format!(
            "`{}` has no region, and a volume on Fly is in exactly one",
            placement.name
        )));
    }
    Ok(fly::regions(spec).into_iter().map(str::to_owned).collect())
}

/// What the app of a backend should hold.
pub(super) fn backend_spec(placement: &ResolvedBackend) -> Result<MachineSpec, FlyError> {
    let spec = &placement.spec;
    let unsupported = |message: String| FlyError::Unsupported(message);
    let too_large = |error: crate::model::fly::SizeError| unsupported(error.to_string());
    if let Some(server) = spec.storage.server() {
        if server.managed {
            return Err(unsupported(
                "provider `fly` runs no database server of its own: name one with `storage.url`".to_owned(),
            ));
        }
        if server.tls.has_own_authorities() {
            return Err(unsupported(
                "provider `fly` has no way to bring a file of certificates along: use a server with a public certificate"
                    .to_owned(),
            ));
        }
    }
    let environment = image_environment(placement, spec.release.as_ref())
        .map_err(|error| unsupported(format!("`{}` cannot be started: {error}", placement.name)))?;
    let (mut plain, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in environment {
        match value {
            Argument::Secret(secret) => drop(secrets.insert(name, secret)),
            Argument::Plain(text) => drop(plain.insert(name, text.to_string_lossy().into_owned())),
        }
    }
    let guest = Guest::from_spec(spec).map_err(too_large)?;
    let mut services = vec![service(API_PORT, &[443], "/version")];
    let site = CustomHost::of(&placement.endpoints.site_url);
    if let Some(port) = site.as_ref().and_then(|site| site.port) {
        services.push(service(SITE_PORT, &[port], "/version"));
    }
    let base = configuration(guest, &plain, services);
    let metadata = metadata(placement, &base, &secrets);
    Ok(MachineSpec {
        machine: BACKEND_MACHINE,
        regions: regions(placement)?,
        guest,
        volume_gb: Some(volume_gb(spec).map_err(too_large)?),
        keeps_data: spec.storage == Storage::Sqlite || spec.files == Files::Local,
        secrets,
        base,
        metadata,
        custom_hosts: custom_hosts(placement),
    })
}

/// What the app of a backend's dashboard should hold.
pub(super) fn dashboard_spec(placement: &ResolvedBackend) -> Result<MachineSpec, FlyError> {
    let environment = BTreeMap::from([
        ("NEXT_PUBLIC_DEPLOYMENT_URL".to_owned(), placement.endpoints.url.clone()),
        ("HOSTNAME".to_owned(), "0.0.0.0".to_owned()),
        ("PORT".to_owned(), DASHBOARD_PORT.to_string()),
    ]);
    let base = configuration(DASHBOARD_GUEST, &environment, vec![service(DASHBOARD_PORT, &[443], "/")]);
    let metadata = metadata(placement, &base, &BTreeMap::new());
    Ok(MachineSpec {
        machine: DASHBOARD_MACHINE,
        regions: regions(placement)?,
        guest: DASHBOARD_GUEST,
        volume_gb: None,
        keeps_data: false,
        secrets: BTreeMap::new(),
        base,
        metadata,
        custom_hosts: Vec::new(),
    })
}

/// One service: the ports of the world that lead to a port of the machine. Port 80 sends on to 443.
fn service(internal: u16, ports: &[u16], check: &str) -> Value {
    let mut listed: Vec<Value> = Vec::new();
    if ports.contains(&443) {
        listed.push(json!({ "port": 80, "handlers": ["http"], "force_https": true }));
    }
    listed.extend(ports.iter().map(|port| json!({ "port": port, "handlers": ["tls", "http"] })));
    json!({
        "protocol": "tcp",
        "internal_port": internal,
        // Crons run inside the process: a machine that sleeps would miss them, and might find no room to wake up in.
        "autostart": true,
        "autostop": false,
        // One browser holds a connection open all the time; the usual limit of 20 would turn the next ones away.
        "concurrency": { "type": "connections", "soft_limit": 1000, "hard_limit": 2000 },
        "ports": listed,
        "checks": [{
            "type": "http", "port": internal, "method": "GET", "path": check,
            "interval": "5s", "timeout": "30s", "grace_period": "30s",
        }],
    })
}

fn configuration(guest: Guest, environment: &BTreeMap<String, String>, services: Vec<Value>) -> Value {
    json!({
        "env": environment,
        "guest": size(guest),
        "services": services,
        // A backend that loses its database lease ends with exit code 0, and has to come back all the same.
        "restart": { "policy": "always" },
        // Convex ends in good order on this signal alone.
        "stop_config": { "signal": "SIGINT", "timeout": "30s" },
    })
}

fn size(guest: Guest) -> Value {
    json!({ "cpu_kind": guest.cpu_kind.as_str(), "cpus": guest.cpus, "memory_mb": guest.memory_mb })
}

fn metadata(placement: &ResolvedBackend, base: &Value, secrets: &BTreeMap<String, Secret>) -> Value {
    let mut metadata = json!({
        "managed_by": "convexinfra",
        "convexinfra_project": placement.project.as_str(),
        OWNER_KEY: placement.id.as_str(),
        CONFIG_DIGEST_KEY: Digest::of_json(base).as_str(),
    });
    if !secrets.is_empty() {
        metadata[SECRETS_DIGEST_KEY] = secrets_digest(placement, secrets).into();
    }
    metadata
}

/// A digest of secrets from which none of them can be guessed: it is keyed with the backend's own secret.
pub(super) fn secrets_digest(placement: &ResolvedBackend, secrets: &BTreeMap<String, Secret>) -> String {
    let exposed: BTreeMap<&str, &str> = secrets.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    let text = zeroize::Zeroizing::new(serde_json::to_string(&exposed).unwrap_or_default());
    match FingerprintKey::from_hex(placement.instance_secret.expose()) {
        Some(key) => key.fingerprint(&text).to_string(),
        // Without a key there must be no digest: everything counts as changed.
        None => String::new(),
    }
}

impl MachineSpec {
    /// The whole configuration of the machine.
    pub(super) fn configuration(&self, image: &str, volume: Option<&str>) -> Value {
        let mut whole = self.base.clone();
        whole["image"] = image.into();
        whole["metadata"] = self.metadata.clone();
        if let Some(volume) = volume {
            whole["mounts"] = json!([{ "volume": volume, "path": DATA_DIR }]);
        }
        whole
    }

    /// What is compared with a machine's configuration. The image is compared by its digest.
    pub(super) fn comparable(&self, volume: Option<&str>) -> Value {
        let mut whole = self.configuration("", volume);
        if let Some(whole) = whole.as_object_mut() {
            whole.remove("image");
        }
        whole
    }

    /// The request for the volume. It says what machine will run there, so that a host is chosen that has room for both.
    pub(super) fn volume_request(&self, region: &str, gb: u32, image: &str, source: Option<&str>) -> Value {
        let mut request = json!({
            "name": VOLUME_NAME,
            "region": region,
            "size_gb": gb,
            "encrypted": true,
            "snapshot_retention": 5,
            "auto_backup_enabled": true,
            "require_unique_zone": source.is_some(),
            "compute": size(self.guest),
            "compute_image": image,
        });
        if let Some(source) = source {
            request["source_volume_id"] = source.into();
        }
        request
    }

    /// Whether a region is one of those that may be used.
    pub(super) fn allows_region(&self, region: &str) -> bool {
        self.regions.iter().any(|allowed| allowed == region)
    }
}

/// The host and the port of an origin.
struct CustomHost {
    name: String,
    port: Option<u16>,
}

impl CustomHost {
    fn of(origin: &str) -> Option<Self> {
        let url = url::Url::parse(origin).ok().filter(|url| url.scheme() == "https")?;
        Some(Self { name: url.host_str()?.to_owned(), port: url.port() })
    }
}

/// The hosts that are not the app's own. HTTP actions on a host of their own need either the path `/http` or a port:
/// Fly leads requests by port alone, so anything else is answered by something in front of it, with its own certificate.
fn custom_hosts(placement: &ResolvedBackend) -> Vec<String> {
    let own = placement.provider_state.get(INTERNAL_URL).and_then(|url| CustomHost::of(url)).map(|host| host.name);
    let site = &placement.endpoints.site_url;
    let mut hosts: Vec<String> = CustomHost::of(&placement.endpoints.url).map(|host| host.name).into_iter().collect();
    hosts.extend(CustomHost::of(site).filter(|host| host.port.is_some() || site.ends_with("/http")).map(|host| host.name));
    hosts.sort();
    hosts.dedup();
    hosts.retain(|host| Some(host) != own.as_ref());
    // Without an own URL nothing says which of them is foreign.
    if own.is_none() { Vec::new() } else { hosts }
}
