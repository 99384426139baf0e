//! From a resolved backend to the desired container.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::context::BackendContext;
use super::database;
use super::desired::{ContainerLimits, ContainerSpec, ExtraMount};
use super::image::Image;
use super::labels::{ResourceRole, owner_labels};
use super::launch_file::{DATA, ENTRY, FileOwner, LAUNCH_VARIABLE, SecretFiles, launch_path};
use crate::convex::database_url::{CONTAINER_HOST, Reachability, container_url};
use crate::convex::launch::{Argument, Launch, LaunchTarget, SecretDelivery};
use crate::model::{Certificates, EXTRA_ENV, FieldPath, Files, ResolvedBackend, RoutePart, Secret, Storage, TextValue, Tls};
use crate::provider::ProviderError;
use crate::provider::kit::launch_file::{extract_secrets, render_launch};

/// The file that SQLite keeps the documents in.
pub(super) const DATABASE_FILE: &str = "/convex/data/db.sqlite3";

/// Returns the desired container of a backend.
///
/// # Errors
/// [`ProviderError::Unsupported`] says what cannot be started.
pub(super) fn container_spec(
    resolved: &ResolvedBackend,
    image: &Image,
    context: &BackendContext,
) -> Result<ContainerSpec, ProviderError> {
    let mut files = SecretFiles::new(DATA, FileOwner::of_image(&image.reference, &image.user)?);
    let view = container_view(resolved, context, &mut files)?;
    let target = LaunchTarget {
        data: PathBuf::from(DATA),
        interface: Ipv4Addr::UNSPECIFIED,
        ports: context.ports_inside,
        secret: SecretDelivery::OutOfBand,
        release: image.revision.clone(),
        certificate_file: view.certificate_file.clone(),
    };
    let mut made = render_launch(&view.resolved, &target)?;
    add_extra_environment(&mut made, resolved)?;
    let parts = extract_secrets(&made, resolved, DATA);
    let launch_file = launch_path(&parts.file);
    // The two that the image itself keeps there, so that its own scripts go on working.
    files.add("credentials/instance_name", resolved.instance_name.as_str().as_bytes());
    files.add("credentials/instance_secret", resolved.instance_secret.expose().as_bytes());
    files.add(launch_file.clone(), parts.file.as_bytes());
    let mut environment = parts.environment;
    environment.insert(LAUNCH_VARIABLE.to_owned(), format!("{DATA}/{launch_file}"));
    let docker = &resolved.spec.settings.docker;
    let (inside, outside) = (context.ports_inside, resolved.ports);
    // The positional argument of the database comes last.
    let command = docker.arguments.iter().cloned().chain(parts.arguments).collect();
    let hosts = view.hosts.into_iter().filter(|entry| !docker.extra_hosts.contains(entry));
    let mut spec = ContainerSpec {
        role: ResourceRole::Backend,
        name: context.names.backend(),
        image: image.clone(),
        entry_point: Some(["/bin/sh", "-c", ENTRY, "convexinfra"].map(str::to_owned).to_vec()),
        command: Some(command),
        environment,
        volume: Some((context.data_volume.clone(), DATA)),
        scratch: vec!["/root", "/tmp"],
        is_read_only: true,
        // A volume that was taken over may hold files of other users.
        capabilities: vec!["DAC_OVERRIDE"],
        ports: [(inside.api, outside.api), (inside.site, outside.site)]
            .into_iter()
            .filter_map(|(inside, outside)| context.port(inside, outside))
            .collect(),
        networks: context.networks(),
        aliases: std::iter::once(resolved.instance_name.to_string()).chain(docker.aliases.iter().cloned()).collect(),
        hosts: hosts.chain(docker.extra_hosts.iter().cloned()).collect(),
        dns: docker.dns.clone(),
        mounts: docker.mounts.iter().filter_map(|text| ExtraMount::parse(text)).collect(),
        shm_size: docker.shm_size.map(|size| i64::try_from(size.bytes()).unwrap_or(i64::MAX)),
        health: vec!["CMD-SHELL".to_owned(), format!("curl -fsS http://127.0.0.1:{}/version > /dev/null", inside.api)],
        limits: ContainerLimits::of(&resolved.spec.resources, context.capabilities),
        grace_s: context.grace_s,
        labels: owner_labels(resolved, ResourceRole::Backend, &context.control_plane),
        extra_labels: docker.labels.clone(),
        files: Some(files),
    };
    if let Some(proxy) = &context.external_proxy {
        proxy.add_routes(&mut spec, resolved, inside.api, &[RoutePart::Api, RoutePart::Site]);
    }
    Ok(spec)
}

/// Adds the variables of the user's own. Their values may be secrets, so they go the way of secrets.
fn add_extra_environment(made: &mut Launch, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    for name in resolved.spec.settings.docker.extra_env.keys() {
        let path = FieldPath::new(format!("{EXTRA_ENV}{name}"));
        let Some(value) = resolved.secrets.get(&path) else {
            return Err(ProviderError::Unsupported(format!("the value of `{path}` is missing")));
        };
        made.environment.insert(name.clone(), Argument::Secret(value.clone()));
    }
    Ok(())
}

/// Whether a backend keeps something in its volume without which its data is gone, and which path shows that.
pub(super) fn data_path(resolved: &ResolvedBackend) -> Option<String> {
    match (&resolved.spec.storage, &resolved.spec.files) {
        (Storage::Sqlite, _) => Some(DATABASE_FILE.to_owned()),
        (_, Files::Local) => Some(format!("{DATA}/storage")),
        (_, Files::S3(_)) => None,
    }
}

/// A resolved as it reads from inside the container, and the names that have to resolve there.
struct ContainerView {
    resolved: ResolvedBackend,
    hosts: Vec<String>,
    /// Where the certificates of its database server are.
    certificate_file: Option<PathBuf>,
}

fn container_view(
    resolved: &ResolvedBackend,
    context: &BackendContext,
    files: &mut SecretFiles,
) -> Result<ContainerView, ProviderError> {
    let mut inside = resolved.clone();
    if database::is_managed(resolved) {
        database::connect(&mut inside, &context.names);
    }
    let certificates = certificates(inside.spec.storage.server().map(|server| &server.tls))?;
    let certificate_file = certificates.map(|certificates| {
        let name = format!("credentials/database-ca-{}.pem", certificates.short_digest());
        files.add(name.clone(), certificates.as_str().as_bytes());
        PathBuf::from(format!("{DATA}/{name}"))
    });
    let mut needs_host = false;
    for field in ["storage.url", "files.endpoint"] {
        if let Some(secret) = inside.secrets.get_mut(&FieldPath::new(field))
            && let Some(url) = rewrite_loopback_url(secret.expose())
        {
            if context.is_on_server() {
                return Err(ProviderError::Unsupported(format!(
                    "`{field}` names this machine, and `{}` runs on a server: write the address under which that server reaches it",
                    resolved.name
                )));
            }
            *secret = Secret::new(url);
            needs_host = true;
        }
    }
    if let Files::S3(s3) = &mut inside.spec.files
        && let Some(TextValue::Literal(endpoint)) = &mut s3.endpoint
        && let Some(url) = rewrite_loopback_url(endpoint)
    {
        *endpoint = url;
        needs_host = true;
    }
    let hosts = needs_host.then(|| format!("{CONTAINER_HOST}:host-gateway"));
    Ok(ContainerView { resolved: inside, hosts: hosts.into_iter().collect(), certificate_file })
}

/// Returns the certificates of a database server. Rows of control planes up to 0.1 name a file instead.
fn certificates(tls: Option<&Tls>) -> Result<Option<Certificates>, ProviderError> {
    let path = match tls {
        Some(Tls::Pem(certificates)) => return Ok(Some(certificates.clone())),
        Some(Tls::Ca(path)) => path,
        Some(Tls::Verify | Tls::Disable | Tls::Sealed(_)) | None => return Ok(None),
    };
    let failed = |source| ProviderError::File { path: path.clone(), verb: "read", source };
    let text = crate::system::read_regular_text(std::path::Path::new(path), Certificates::MAX_BYTES as u64)
        .map_err(|error| failed(error.into()))?;
    Certificates::parse(&text).map(Some).map_err(|error| failed(std::io::Error::other(error)))
}

/// A URL of this machine as a container has to write it; none for any other.
fn rewrite_loopback_url(text: &str) -> Option<String> {
    let made = container_url(&Secret::new(text)).ok().filter(|made| made.reachability == Reachability::HostGateway)?;
    let inside = made.url.expose();
    // What was written without a path stays without one.
    Some(if text.ends_with('/') { inside } else { inside.trim_end_matches('/') }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_another_name_inside_a_container() {
        for (outside, inside) in [
            ("postgres://u:p@localhost:5432", Some("postgres://u:p@host.docker.internal:5432")),
            (
                "postgres://u:p@127.0.0.1:5432/?sslmode=disable",
                Some("postgres://u:p@host.docker.internal:5432/?sslmode=disable"),
            ),
            ("mysql://u:p@[::1]", Some("mysql://u:p@host.docker.internal")),
            ("http://localhost:9000", Some("http://host.docker.internal:9000")),
            ("postgres://u:p@db.example.com", None),
            ("no URL", None),
        ] {
            assert_eq!(rewrite_loopback_url(outside).as_deref(), inside, "{outside}");
        }
    }
}
