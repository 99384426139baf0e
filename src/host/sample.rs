//! Samples what runs, for metrics.

use futures_util::StreamExt;

use super::Host;
use super::observe::OBSERVE_CONCURRENCY;
use crate::api::ControlError;
use crate::model::{BackendName, ProjectName, ProviderKind, Quota, ResolvedBackend, RunState, Timestamp, Usage};

/// One project as metrics count it.
#[derive(Debug, Clone)]
pub struct ProjectSample {
    /// The project.
    pub project: ProjectName,
    /// Its quota.
    pub quota: Quota,
    /// What its backends ask for together.
    pub usage: Usage,
    /// Its backends.
    pub backends: Vec<BackendSample>,
}

/// One backend as metrics count it.
#[derive(Debug, Clone)]
pub struct BackendSample {
    /// Its name.
    pub name: BackendName,
    /// Where it runs.
    pub provider: ProviderKind,
    /// Whether it was seen to run.
    pub is_up: bool,
    /// When it may be removed.
    pub expires_at: Option<Timestamp>,
}

impl Host {
    /// Samples every project. A backend that cannot be observed is not up.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn sample(&self) -> Result<Vec<ProjectSample>, ControlError> {
        let mut samples = Vec::new();
        let mut looks = Vec::new();
        for project in self.projects()? {
            let Some(view) = self.read_rows(|authority| authority.view(&project))? else { continue };
            let usage = Usage::of(view.backends.iter().map(|backend| &backend.recorded));
            let backends = view.backends.iter().map(|backend| BackendSample {
                name: backend.name.clone(),
                provider: backend.recorded.provider,
                is_up: false,
                expires_at: backend.expires_at,
            });
            let at = samples.len();
            looks.extend(
                view.to_observe
                    .into_iter()
                    .map(|(index, resolved)| async move { (at, index, self.is_running(&resolved).await) }),
            );
            samples.push(ProjectSample { project, quota: view.quota, usage, backends: backends.collect() });
        }
        let seen: Vec<(usize, usize, bool)> =
            futures_util::stream::iter(looks).buffer_unordered(OBSERVE_CONCURRENCY).collect().await;
        for (at, index, is_up) in seen {
            if let Some(backend) = samples.get_mut(at).and_then(|sample| sample.backends.get_mut(index)) {
                backend.is_up = is_up;
            }
        }
        Ok(samples)
    }

    async fn is_running(&self, resolved: &ResolvedBackend) -> bool {
        let Ok(provider) = self.provider(resolved.spec.provider) else { return false };
        matches!(provider.observe(resolved).await, Ok(seen) if seen.state == RunState::Running)
    }
}
