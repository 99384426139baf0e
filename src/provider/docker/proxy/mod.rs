//! Our own proxy: one container of Caddy on each engine that has routes, shared by all projects and control planes there.
//!
//! The files in its volume are the only record of the routes: one for each backend, which no other control plane touches, all of
//! them validated together before one of them counts. The proxy is on the network of each project that has routes, where the
//! public names are aliases of it, so that calls from inside stay inside; a backend's own container knows nothing of it. It is
//! removed with the last route, and its certificates are kept. Must not do: have the engine's socket, or touch a proxy of
//! other software.

mod configuration;
mod container;
mod error;
mod external;
mod holder;
mod network;
mod site;

use std::collections::BTreeSet;

use bollard::models::ContainerInspectResponse;

use self::configuration::{Configuration, main_file, reload};
pub use self::error::ProxyError;
pub(super) use self::external::discover;
pub(super) use self::holder::PROXY as NAME;
pub(super) use self::holder::holders;
pub use self::holder::{PortHolder, ProxyProduct};
use self::site::{Site, SiteHeader, file_name};
use super::container_diff::diff_container;
use super::context::BackendContext;
use super::diff::field_drift;
use super::engine::Engine;
use super::image::Image;
use super::inventory::id_of;
use super::labels::ResourceNames;
use crate::model::{FieldDrift, ResolvedBackend, routes};
use crate::provider::ProviderError;

/// The official image of Caddy, with the features that sites use. An engine keeps what it fetched first.
const IMAGE: &str = "docker.io/library/caddy:2.11";

/// Returns the image of the proxy that a backend's routes need.
pub(super) fn image_reference(resolved: &ResolvedBackend) -> &str {
    resolved.spec.settings.docker.proxy_image.as_deref().unwrap_or(IMAGE)
}

/// Returns whether the origins of a backend are served by the proxy.
pub(super) fn is_routed(resolved: &ResolvedBackend) -> bool {
    resolved.spec.settings.docker.tls.is_some()
}

/// Checks what the engine has in the way of a backend's routes, and changes nothing. Hosts of the same project are left to the
/// control plane, which knows which backend gives one up first.
///
/// # Errors
/// [`ProxyError`] for what an apply would be refused for.
pub(super) async fn preflight(engine: &Engine, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    // What cannot be a route, the descriptor refuses.
    let hosts: BTreeSet<String> = routes(&resolved.spec).unwrap_or_default().into_iter().map(|route| route.host).collect();
    if hosts.is_empty() {
        return Ok(());
    }
    let found = container::find(engine).await?;
    container::require_ports(engine, found.as_ref()).await?;
    let Some(proxy) = found else { return Ok(()) };
    let seen = Configuration::read(engine, id_of(&proxy)).await?;
    let own = file_name(&ResourceNames::of(resolved));
    let stale = network::stale_sites(engine, &seen, &own).await?;
    let same_project = format!("{}-", resolved.project);
    let others = seen.headers().filter(|(file, header)| {
        *file != own && !stale.iter().any(|name| name == file) && !header.instance.starts_with(&same_project)
    });
    Ok(require_free(&hosts, others.map(|(_, header)| header))?)
}

/// Refuses hosts that another backend has.
fn require_free(hosts: &BTreeSet<String>, others: impl Iterator<Item = SiteHeader>) -> Result<(), ProxyError> {
    for header in others {
        if let Some(host) = header.hosts.intersection(hosts).next() {
            return Err(ProxyError::HostTaken { host: host.clone(), instance: header.instance });
        }
    }
    Ok(())
}

/// Ensures the routes of a backend: the proxy, the site, its networks, in this order, and loads them at once. What is refused
/// changes nothing.
pub(super) async fn ensure_route(
    engine: &Engine,
    resolved: &ResolvedBackend,
    context: &BackendContext,
    image: &Image,
) -> Result<(), ProviderError> {
    let Some(site) = Site::of(resolved, context)? else { return Ok(()) };
    // Files that were changed by hand may keep it from starting, and then nothing can be validated in it.
    let was_failing = is_failing(engine).await?;
    let proxy = container::ensure(engine, image).await?;
    let id = id_of(&proxy);
    let before = Configuration::read(engine, id).await?;
    let stale = network::stale_sites(engine, &before, &site.file).await?;
    let is_live = |file: &str| file != site.file && !stale.iter().any(|name| name == file);
    require_free(&site.header.hosts, before.headers().filter(|(file, _)| is_live(file)).map(|(_, header)| header))?;
    let mut after = before.clone();
    after.sites.retain(|file, _| is_live(file));
    after.sites.insert(site.file.clone(), site.text.clone());
    after.main = Some(main_file());
    if let Some(pair) = &site.certificate {
        let mut files = configuration::files();
        files.add(format!("{}.crt", pair.path), pair.cert.expose().as_bytes());
        if let Some(key) = &pair.key {
            files.add(format!("{}.key", pair.path), key.expose().as_bytes());
        }
        engine.upload_files(id, &files).await?;
    }
    if was_failing {
        write(engine, id, &before, &after).await?;
        container::restart(engine, id).await?;
    } else if after != before {
        match after.validate(engine, id).await {
            Ok(()) => write(engine, id, &before, &after).await?,
            // Between two starts it seemed to run.
            Err(ProviderError::Engine { .. }) if is_failing(engine).await? => {
                write(engine, id, &before, &after).await?;
                container::restart(engine, id).await?;
            }
            Err(refused) => {
                erase_certificates(engine, id, &after, &before).await?;
                return Err(refused);
            }
        }
    }
    network::attach(engine, &proxy, &after).await?;
    let loaded = reload(engine, id).await;
    if loaded.is_err() && after != before {
        write(engine, id, &after, &before).await?;
    }
    loaded?;
    erase_certificates(engine, id, &before, &after).await
}

/// Whether the proxy is there and ends again and again.
async fn is_failing(engine: &Engine) -> Result<bool, ProviderError> {
    Ok(container::find(engine).await?.as_ref().is_some_and(container::is_restarting))
}

/// Empties the private keys that no site names any more.
async fn erase_certificates(
    engine: &Engine,
    id: &str,
    before: &Configuration,
    after: &Configuration,
) -> Result<(), ProviderError> {
    let named = |sites: &Configuration| -> BTreeSet<String> {
        sites.sites.values().flat_map(|text| Site::certificates_in(text)).map(str::to_owned).collect()
    };
    let kept = named(after);
    let gone: Vec<String> = named(before).into_iter().filter(|path| !kept.contains(path)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mut files = configuration::files();
    for path in gone {
        files.add(format!("{path}.key"), b"");
    }
    engine.upload_files(id, &files).await
}

/// Removes the routes of a backend, and the proxy with the last ones of the engine.
pub(super) async fn remove_route(engine: &Engine, names: &ResourceNames) -> Result<(), ProviderError> {
    let Some(proxy) = container::find(engine).await? else { return Ok(()) };
    let id = id_of(&proxy);
    let before = Configuration::read(engine, id).await?;
    let file = file_name(names);
    if !before.sites.contains_key(&file) {
        return Ok(());
    }
    let mut after = before.clone();
    after.sites.remove(&file);
    let stale = network::stale_sites(engine, &after, &file).await?;
    after.sites.retain(|name, _| !stale.contains(name));
    if after.sites.is_empty() {
        return container::remove(engine, &proxy).await;
    }
    write(engine, id, &before, &after).await?;
    network::attach(engine, &proxy, &after).await?;
    if container::is_running(&proxy) {
        reload(engine, id).await?;
    }
    erase_certificates(engine, id, &before, &after).await
}

/// Writes the files that differ. An engine takes no file out of a volume, so one that is to go becomes empty.
async fn write(engine: &Engine, id: &str, before: &Configuration, after: &Configuration) -> Result<(), ProviderError> {
    let mut files = configuration::files();
    if let Some(main) = after.main.as_ref().filter(|_| after.main != before.main) {
        files.add(configuration::MAIN_FILE, main.as_bytes());
    }
    for (file, text) in after.sites.iter().filter(|(file, text)| before.sites.get(*file) != Some(*text)) {
        files.add(format!("conf/sites/{file}"), text.as_bytes());
    }
    for file in before.sites.keys().filter(|file| !after.sites.contains_key(*file)) {
        files.add(format!("conf/sites/{file}"), b"");
    }
    engine.upload_files(id, &files).await
}

/// Returns in what the routes of a backend differ from what they should be. `image` is the one that was noted for the proxy.
pub(super) async fn observe_route(
    engine: &Engine,
    resolved: &ResolvedBackend,
    context: &BackendContext,
    image: Option<&Image>,
) -> Result<Vec<FieldDrift>, ProviderError> {
    if let Some(proxy) = &context.external_proxy {
        return external::observe(engine, proxy).await;
    }
    // A secret may not be at hand where a command only looks.
    let Ok(Some(wanted)) = Site::of(resolved, context) else { return Ok(Vec::new()) };
    let Some(proxy) = container::find(engine).await? else {
        return Ok(vec![field_drift("proxy.container", "running", "absent")]);
    };
    let spec = image.map(|image| container::spec(engine, image, &container::networks_of(&proxy)));
    let mut drift: Vec<FieldDrift> =
        diff_container("proxy.", spec.as_ref(), &proxy).into_iter().map(|found| found.drift).collect();
    let seen = Configuration::read(engine, id_of(&proxy)).await?;
    if seen.main.as_deref() != Some(main_file().as_str()) {
        drift.push(field_drift("proxy.configuration", "as made", "another one"));
    }
    match seen.sites.get(&wanted.file) {
        None => drift.push(field_drift("proxy.site", hosts(&wanted), "absent")),
        Some(text) if *text != wanted.text => drift.push(field_drift("proxy.site", hosts(&wanted), "another configuration")),
        Some(_) => drift.extend(missing_alias(&proxy, &wanted)),
    }
    Ok(drift)
}

fn hosts(site: &Site) -> String {
    site.header.hosts.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Returns the drift that the proxy is not known by a public name where the backend is.
fn missing_alias(proxy: &ContainerInspectResponse, wanted: &Site) -> Option<FieldDrift> {
    let is_known = network::is_attached(proxy, &wanted.header.network, &wanted.header.hosts);
    (!is_known)
        .then(|| field_drift("proxy.network", format!("{} in {}", hosts(wanted), wanted.header.network), "not known there"))
}
