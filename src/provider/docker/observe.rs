//! Looking at a backend on an engine, and naming everything that is not as it was made.
//!
//! Must not do: change anything, or fetch an image.

use super::backend::{Setting, data_path};
use super::compare::{deviation, differences, run_state};
use super::discreet::Secrets;
use super::engine::Engine;
use super::image::{Image, Images, Noted};
use super::look::{Seen, has_file, id_of, inspect, look, name_of};
use super::names::Role;
use super::wait::PATIENCE;
use super::{Docker, dashboard, database, image, logs, surroundings};
use crate::convex::deployment::{Readiness, ready};
use crate::model::{Data, Deviation, Observation, Placement, RunState};
use crate::provider::ProviderError;

/// How many lines of a stopped container's log are told.
const LOG_LINES: usize = 3;

impl Docker {
    /// Looks at a backend, and tells none of its secrets, wherever somebody has put them.
    pub(super) async fn look_at(&self, placement: &Placement) -> Result<Observation, ProviderError> {
        let secrets = Secrets::of(placement);
        let mut seen = self.look_closely(placement).await.map_err(|error| secrets.hide_in_error(error))?;
        seen.deviations = seen.deviations.iter().map(|deviation| secrets.hide_in(deviation)).collect();
        Ok(seen)
    }

    async fn look_closely(&self, placement: &Placement) -> Result<Observation, ProviderError> {
        let engine = self.engine().await?;
        let seen = look(engine, placement).await?;
        let setting = self.setting(placement, engine)?;
        let mut deviations = Vec::new();
        self.beside(engine, placement, &seen, &setting, &mut deviations).await?;
        let data = self.data(engine, placement, &seen, &setting).await?;
        if let Some(adopted) = &seen.adopted {
            deviations.push(deviation("container", "made by convexinfra", format!("{}, taken over", name_of(adopted))));
        }
        let Some(current) = seen.current(&setting.names) else {
            if seen.adopted.is_some() {
                let state = self.answers(placement, &setting, &mut deviations).await;
                return Ok(Observation { state, data, deviations, notes: Vec::new() });
            }
            if placement.has_been_ready || seen.previous(&setting.names).is_some() {
                deviations.push(deviation("container", "running", "absent"));
            }
            let state = if seen.previous(&setting.names).is_some() { RunState::Stopped } else { RunState::Absent };
            return Ok(Observation { state, data, deviations, notes: Vec::new() });
        };
        if seen.previous(&setting.names).is_some() {
            deviations.push(deviation("container", "one", "two: a replacement was not brought to its end"));
        }
        for stray in seen.strays(&setting.names) {
            deviations.push(deviation("container", "one", format!("two: also {}", name_of(stray))));
        }
        let image = self.image(engine, placement, current.image.as_deref()).await?;
        let wanted = image.as_ref().and_then(|image| self.wanted(placement, &setting, image));
        deviations.extend(differences("", wanted.as_ref(), current).into_iter().map(|difference| difference.deviation));
        let mut state = run_state(current.state.as_ref());
        if state == RunState::Stopped {
            let tail = logs::last_lines(engine, id_of(current)).await;
            let tail = &tail[tail.len().saturating_sub(LOG_LINES)..];
            if let Some(stopped) = deviations.iter_mut().find(|deviation| deviation.path.as_str() == "container")
                && !tail.is_empty()
            {
                stopped.observed = format!("{}; its log ends with: {}", stopped.observed, tail.join(" / "));
            }
        }
        if state == RunState::Running {
            state = self.answers(placement, &setting, &mut deviations).await;
        }
        Ok(Observation { state, data, deviations, notes: Vec::new() })
    }

    /// The image that was noted; else the one that the container has, when it is the one that is asked for.
    async fn image(
        &self,
        engine: &Engine,
        placement: &Placement,
        running: Option<&str>,
    ) -> Result<Option<Image>, ProviderError> {
        let Ok(reference) = image::backend_reference(placement) else { return Ok(None) };
        self.known_image(engine, placement, &reference, &Noted::BACKEND, running).await
    }

    async fn known_image(
        &self,
        engine: &Engine,
        placement: &Placement,
        reference: &str,
        noted: &Noted,
        running: Option<&str>,
    ) -> Result<Option<Image>, ProviderError> {
        let images = Images { engine, source: &self.source, policy: crate::model::PullPolicy::Never };
        let id = noted.id(&placement.references, reference);
        if let Some(image) = images.look_up(id.unwrap_or(reference), reference).await? {
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
        }))
    }

    /// Network, dashboard and database server.
    async fn beside(
        &self,
        engine: &Engine,
        placement: &Placement,
        seen: &Seen,
        setting: &Setting,
        deviations: &mut Vec<Deviation>,
    ) -> Result<(), ProviderError> {
        if seen.of(Role::Backend).next().is_some() {
            match surroundings::network(engine, setting).await? {
                None => deviations.push(deviation("network", &setting.network, "missing")),
                Some(network) if setting.network_is_ours && !surroundings::is_ours(&network, placement, setting) => {
                    deviations.push(deviation("network", "made by convexinfra", "made by something else"));
                }
                Some(_) => {}
            }
        }
        for (role, prefix, noted, is_wanted) in [
            (Role::Dashboard, "dashboard.", Noted::DASHBOARD, placement.spec.dashboard),
            (Role::Database, "database.", Noted::DATABASE, database::is_managed(placement)),
        ] {
            let there: Vec<_> = seen.of(role).collect();
            let Some(container) = there.first().copied().filter(|_| is_wanted) else {
                if is_wanted && placement.has_been_ready {
                    deviations.push(deviation(&format!("{prefix}container"), "running", "absent"));
                } else if !there.is_empty() {
                    deviations.push(deviation(&format!("{prefix}container"), "none", "running"));
                }
                continue;
            };
            // What was noted is the only thing that is known of its image without asking a registry.
            let noted_reference = noted.reference(&placement.references);
            let wanted = match noted_reference {
                Some(reference) => {
                    let running = container.image.as_deref();
                    let image = self.known_image(engine, placement, reference, &noted, running).await?;
                    image.map(|image| match role {
                        Role::Database => database::wanted(placement, &image, setting),
                        _ => {
                            let port = dashboard::known_port(placement, seen).unwrap_or_default();
                            dashboard::wanted(placement, &image, setting, port)
                        }
                    })
                }
                None => None,
            };
            deviations.extend(differences(prefix, wanted.as_ref(), container).into_iter().map(|found| found.deviation));
        }
        Ok(())
    }

    async fn data(
        &self,
        engine: &Engine,
        placement: &Placement,
        seen: &Seen,
        setting: &Setting,
    ) -> Result<Data, ProviderError> {
        let absent = if placement.has_been_ready { Data::Missing } else { Data::None };
        if database::is_managed(placement) && seen.volume(Role::DatabaseData, placement).is_none() {
            return Ok(absent);
        }
        let Some(path) = data_path(placement) else {
            return Ok(if placement.has_been_ready { Data::Present } else { Data::None });
        };
        if seen.volume(Role::Data, placement).is_none() {
            return Ok(absent);
        }
        let container = seen.current(&setting.names).or(seen.previous(&setting.names)).or(seen.adopted.as_ref());
        if let Some(container) = container.filter(|_| placement.has_been_ready)
            && !has_file(engine, id_of(container), &path).await?
            // It may have gone between two questions.
            && inspect(engine, id_of(container)).await?.is_some()
        {
            return Ok(Data::Missing);
        }
        Ok(Data::Present)
    }

    async fn answers(&self, placement: &Placement, setting: &Setting, deviations: &mut Vec<Deviation>) -> RunState {
        let port = placement.ports.api;
        let expected = placement.instance_name.as_str();
        let url = setting.reach(port);
        let asked = ready(&self.connections, &url, expected, &placement.admin_key);
        deviations.push(match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Readiness::Ready) => return RunState::Running,
            Ok(Readiness::OtherInstance { name }) => deviation("instance_name", expected, name),
            Ok(Readiness::KeyRefused) => deviation("admin_key", "accepted", "refused"),
            Ok(Readiness::NotListening) => {
                deviation("port", format!("listening on {port}"), format!("not listening on {port}"))
            }
            Ok(Readiness::Failing(error)) => deviation("port", format!("answering on {port}"), error.to_string()),
            Err(_) => deviation("port", format!("answering on {port}"), format!("no answer on {port}")),
        });
        RunState::Unready
    }
}
