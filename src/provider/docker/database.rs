//! A database server that the provider runs beside a backend.
//!
//! Its password is derived from the instance secret, so there is nothing more to keep. Must not do: publish a port; only
//! the backend reaches it.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::context::BackendContext;
use super::desired::{ContainerLimits, ContainerSpec};
use super::image::Image;
use super::labels::{ResourceNames, ResourceRole, owner_labels};
use super::launch_file::{FileOwner, SecretFiles};
use crate::model::{DatabaseRole, FieldPath, ResolvedBackend, Secret, SecretRef, ServerStorage, Storage, Tls};
use crate::provider::ProviderError;

/// Where the image keeps its data.
const DATA: &str = "/var/lib/postgresql/data";
/// Whom the backend connects as.
const USER: &str = "convex";
const PASSWORD_FILE: &str = "password";

/// Whether the provider runs the database server of a backend.
pub(super) fn is_managed(resolved: &ResolvedBackend) -> bool {
    resolved.spec.storage.server().is_some_and(|server| server.managed)
}

/// Refuses a server that the provider does not run.
pub(super) fn require_supported(resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    match &resolved.spec.storage {
        Storage::Mysql(server) if server.managed => Err(ProviderError::Unsupported(format!(
            "`docker` runs PostgreSQL servers of its own and no MySQL: write `engine = \"postgres\"` for `{}`, or give it a \
             server with `storage.url`",
            resolved.name
        ))),
        _ => Ok(()),
    }
}

/// The password of the server, derived from the instance secret.
pub(super) fn password(resolved: &ResolvedBackend) -> Secret {
    let key = resolved.instance_secret.expose().as_bytes();
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).map(|mac| mac.chain_update(b"convexinfra managed database"));
    // HMAC takes a key of any length, so there is always a result.
    let bytes = mac.map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
    Secret::new(hex::encode(bytes))
}

/// Sets the managed server as the storage of a resolved backend, as if the manifest had its URL.
pub(super) fn connect(resolved: &mut ResolvedBackend, names: &ResourceNames) {
    let field = FieldPath::new("storage.url");
    let url = format!("postgres://{USER}:{}@{}:5432", password(resolved).expose(), names.container(ResourceRole::Database));
    resolved.secrets.insert(field, Secret::new(url));
    resolved.spec.storage = Storage::Postgres(ServerStorage {
        url: Some(SecretRef::Env("managed".to_owned())),
        managed: true,
        region: None,
        // The connection does not leave the network of the two containers.
        tls: Tls::Disable,
        role: DatabaseRole::Url,
    });
}

/// The container of the server.
pub(super) fn container_spec(resolved: &ResolvedBackend, image: &Image, context: &BackendContext) -> ContainerSpec {
    let mut files = SecretFiles::new(DATA, FileOwner::default());
    files.add(PASSWORD_FILE, password(resolved).expose().as_bytes());
    let name = context.names.container(ResourceRole::Database);
    let database = resolved.instance_name.database();
    let ready = format!("pg_isready -q -h 127.0.0.1 -U {USER} -d {database}");
    let variable = |name: &str, value: String| (name.to_owned(), value);
    ContainerSpec {
        role: ResourceRole::Database,
        aliases: vec![name.clone()],
        name,
        image: image.clone(),
        entry_point: None,
        command: None,
        environment: BTreeMap::from([
            variable("POSTGRES_USER", USER.to_owned()),
            variable("POSTGRES_DB", database),
            variable("POSTGRES_PASSWORD_FILE", format!("{DATA}/{PASSWORD_FILE}")),
            variable("PGDATA", format!("{DATA}/pgdata")),
        ]),
        volume: Some((context.names.volume(ResourceRole::DatabaseData), DATA)),
        scratch: vec!["/tmp", "/var/run/postgresql"],
        is_read_only: true,
        // The image starts as root, gives the directories to its own user, and goes on as that.
        capabilities: vec!["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
        ports: Vec::new(),
        networks: vec![context.network.clone()],
        hosts: Vec::new(),
        dns: Vec::new(),
        mounts: Vec::new(),
        shm_size: None,
        health: vec!["CMD-SHELL".to_owned(), ready],
        limits: ContainerLimits::processes(context.capabilities),
        grace_s: context.grace_s.max(30),
        labels: owner_labels(resolved, ResourceRole::Database, &context.control_plane),
        extra_labels: BTreeMap::new(),
        files: Some(files),
    }
}
