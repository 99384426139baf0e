//! Observation of a backend on an engine: everything that is not as it was made, by name. Nothing is changed, and no image is
//! pulled.

use super::backend::{container_spec, data_path};
use super::container_diff::{diff_container, run_state};
use super::context::BackendContext;
use super::diff::field_drift;
use super::engine::Engine;
use super::image::{Image, ImagePin, ImageStore};
use super::import::{DROPPED, address_of};
use super::inventory::{Inventory, has_file, id_of, inspect_container, name_of, volume_at};
use super::labels::ResourceRole;
use super::launch_file::DATA;
use super::redact::redactor_of;
use super::rollout::missing_launch_file;
use super::{Docker, dashboard, database, image, logs, network, proxy, volume, volume_users};
use crate::model::{DataState, FieldDrift, Observation, ResolvedBackend, RunState};
use crate::provider::ProviderError;
use crate::provider::kit::readiness;

/// How many lines of a stopped container's log are told.
const LOG_LINES: usize = 3;

impl Docker {
    /// Looks at a backend, and shows none of its secrets, wherever they were put by hand.
    pub(super) async fn observe_redacted(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let secrets = redactor_of(resolved);
        match self.observe_backend(resolved).await {
            Ok(seen) => Ok(secrets.redact_observation(seen)),
            Err(error) => Err(secrets.redact_error(error)),
        }
    }

    async fn observe_backend(&self, resolved: &ResolvedBackend) -> Result<Observation, ProviderError> {
        let engine = &self.engine_of(&resolved.spec).await?;
        let seen = self.inventory(engine, resolved).await?;
        let context = self.context(resolved, engine, &seen).await?;
        let mut drift = Vec::new();
        self.diff_sidecars(engine, resolved, &seen, &context, &mut drift).await?;
        if proxy::is_routed(resolved) {
            let noted = ImagePin::PROXY.reference(&resolved.provider_state);
            let image = match noted {
                Some(reference) => self.known_image(engine, resolved, reference, &ImagePin::PROXY, None).await?,
                None => None,
            };
            drift.extend(proxy::observe_route(engine, resolved, &context, image.as_ref()).await?);
        }
        let data = self.probe_data(engine, resolved, &seen, &context).await?;
        let mut notes = Vec::new();
        if data == DataState::Missing {
            notes.extend(volume::restored_volume(engine, resolved, &seen, &context).await?);
        }
        for user in volume_users::writers(engine, &context.data_volume, &seen.container_ids()).await? {
            drift.push(field_drift("volume", "used by this backend alone", format!("used by {user} as well")));
        }
        if let Some(adopted) = &seen.adopted {
            drift.push(Observation::drift_of_taken_over(name_of(adopted)));
            if let Some(dropped) = resolved.provider_state.get(DROPPED) {
                drift.push(field_drift("container.dropped", "none", format!("{dropped}: no key of the manifest keeps them")));
            }
        }
        let Some(current) = seen.current(&context.names) else {
            let state = match (&seen.adopted, seen.previous(&context.names)) {
                (Some(adopted), _) => {
                    let address = address_of(adopted, engine.remote_host.as_deref());
                    let url = address.unwrap_or_else(|| context.internal_url(resolved.ports.api));
                    readiness::observe(&self.connections, &url, resolved, &mut drift).await
                }
                (None, Some(_)) => RunState::Stopped,
                (None, None) => RunState::Absent,
            };
            if seen.adopted.is_none() && (resolved.has_been_ready || state == RunState::Stopped) {
                drift.push(field_drift("container", "running", "absent"));
            }
            return Ok(Observation { state, data, drift, notes });
        };
        if seen.previous(&context.names).is_some() {
            drift.push(field_drift("container", "one", "two: a replacement was not brought to its end"));
        }
        for duplicate in seen.duplicates(&context.names) {
            drift.push(field_drift("container", "one", format!("two: also {}", name_of(duplicate))));
        }
        let image = self.image(engine, resolved, current.image.as_deref()).await?;
        let spec = image.and_then(|image| container_spec(resolved, &image, &context).ok());
        let mut found = diff_container("", spec.as_ref(), current);
        if let Some(spec) = &spec {
            found.extend(missing_launch_file(engine, current, spec).await?);
        }
        drift.extend(found.into_iter().map(|difference| difference.drift));
        let mut state = run_state(current.state.as_ref());
        if state == RunState::Stopped {
            self.add_log_tail(engine, id_of(current), &mut drift).await;
        }
        if state == RunState::Running {
            let url = context.internal_url(resolved.ports.api);
            state = readiness::observe(&self.connections, &url, resolved, &mut drift).await;
        }
        Ok(Observation { state, data, drift, notes })
    }

    /// Adds the last lines of its log to the drift of a container that does not run.
    async fn add_log_tail(&self, engine: &Engine, id: &str, drift: &mut [FieldDrift]) {
        let tail = logs::last_lines(engine, id, LOG_LINES).await;
        if let Some(stopped) = drift.iter_mut().find(|drift| drift.path.as_str() == "container")
            && !tail.is_empty()
        {
            stopped.observed = format!("{}; its log ends with: {}", stopped.observed, tail.join(" / "));
        }
    }

    /// The image that was noted; else the one that the container has, when it is the one that is asked for.
    async fn image(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
        running: Option<&str>,
    ) -> Result<Option<Image>, ProviderError> {
        let Ok(reference) = image::backend_reference(resolved) else { return Ok(None) };
        self.known_image(engine, resolved, &reference, &ImagePin::BACKEND, running).await
    }

    async fn known_image(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
        reference: &str,
        noted: &ImagePin,
        running: Option<&str>,
    ) -> Result<Option<Image>, ProviderError> {
        let images = ImageStore { engine, source: &self.source, policy: crate::model::PullPolicy::Never };
        let id = noted.id(&resolved.provider_state, reference);
        if let Some(image) = images.inspect(id.unwrap_or(reference), reference).await? {
            return Ok(Some(image));
        }
        // An image can go while its container runs on; then only its identity is compared.
        Ok(id.or(running).map(|id| Image {
            reference: reference.to_owned(),
            id: id.to_owned(),
            digest: None,
            environment: Vec::new(),
            user: String::new(),
            revision: None,
            created: None,
        }))
    }

    /// Network, dashboard and database server.
    async fn diff_sidecars(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
        seen: &Inventory,
        context: &BackendContext,
        drift: &mut Vec<FieldDrift>,
    ) -> Result<(), ProviderError> {
        if seen.with_role(ResourceRole::Backend).next().is_some() {
            let networks = network::networks_named(engine, &context.network).await?;
            if networks.is_empty() {
                drift.push(field_drift("network", &context.network, "missing"));
            } else if context.owns_network && !networks.iter().all(|network| network::is_owned(network, resolved, context)) {
                drift.push(field_drift("network", "made by convexinfra", "made by something else"));
            } else if context.owns_network && networks.len() > 1 {
                drift.push(field_drift("network", "one", format!("{} of the name {}", networks.len(), context.network)));
            }
        }
        for (role, prefix, noted, is_wanted) in [
            (ResourceRole::Dashboard, "dashboard.", ImagePin::DASHBOARD, resolved.spec.dashboard),
            (ResourceRole::Database, "database.", ImagePin::DATABASE, database::is_managed(resolved)),
        ] {
            let there: Vec<_> = seen.with_role(role).collect();
            let Some(container) = there.first().copied().filter(|_| is_wanted) else {
                if is_wanted && resolved.has_been_ready {
                    drift.push(field_drift(&format!("{prefix}container"), "running", "absent"));
                } else if !there.is_empty() {
                    drift.push(field_drift(&format!("{prefix}container"), "none", "running"));
                }
                continue;
            };
            // What was noted is the only thing that is known of its image without asking a registry.
            let noted_reference = noted.reference(&resolved.provider_state);
            let wanted = match noted_reference {
                Some(reference) => {
                    let running = container.image.as_deref();
                    let image = self.known_image(engine, resolved, reference, &noted, running).await?;
                    image.map(|image| match role {
                        ResourceRole::Database => database::container_spec(resolved, &image, context),
                        _ => {
                            let port = dashboard::known_port(resolved, seen).unwrap_or_default();
                            dashboard::container_spec(resolved, &image, context, port)
                        }
                    })
                }
                None => None,
            };
            drift.extend(diff_container(prefix, wanted.as_ref(), container).into_iter().map(|found| found.drift));
        }
        Ok(())
    }

    async fn probe_data(
        &self,
        engine: &Engine,
        resolved: &ResolvedBackend,
        seen: &Inventory,
        context: &BackendContext,
    ) -> Result<DataState, ProviderError> {
        let absent = if resolved.has_been_ready { DataState::Missing } else { DataState::None };
        if database::is_managed(resolved) && seen.volume(ResourceRole::DatabaseData, resolved).is_none() {
            return Ok(absent);
        }
        let Some(path) = data_path(resolved) else {
            return Ok(if resolved.has_been_ready { DataState::Present } else { DataState::None });
        };
        if seen.volume(ResourceRole::Data, resolved).is_none() {
            return Ok(absent);
        }
        let container = seen.current(&context.names).or(seen.previous(&context.names)).or(seen.adopted.as_ref());
        // A container on another volume says nothing about ours.
        let container = container.filter(|container| volume_at(container, DATA) == Some(context.data_volume.as_str()));
        if let Some(container) = container.filter(|_| resolved.has_been_ready)
            && !has_file(engine, id_of(container), &path).await?
            // It may have gone between two questions.
            && inspect_container(engine, id_of(container)).await?.is_some()
        {
            return Ok(DataState::Missing);
        }
        Ok(DataState::Present)
    }
}
