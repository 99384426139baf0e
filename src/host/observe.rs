//! Looking at all backends of a project at once.

use std::collections::BTreeSet;

use futures_util::StreamExt;

use super::{Host, effects, environment};
use crate::model::{Diagnostic, FieldDrift, FingerprintKey, Observation, ResolvedBackend, RunState, error_chain};
use crate::provider::kit::redact::Redactor;

/// How many backends are looked at at the same time.
pub(super) const OBSERVE_CONCURRENCY: usize = 32;

/// Describes what is seen of a backend.
pub(super) struct ObservedBackend {
    pub(super) observation: Observation,
    /// Its unmanaged variables.
    pub(super) other_variables: BTreeSet<String>,
    /// Why the look failed, where it did.
    pub(super) failed: Option<Diagnostic>,
}

impl ObservedBackend {
    fn unknown(why: Diagnostic) -> Self {
        Self { observation: Observation::unknown(), other_variables: BTreeSet::new(), failed: Some(why) }
    }
}

impl Host {
    /// Looks at every backend. A lookup that fails says that nothing is known, never that nothing is there.
    pub(super) async fn observe_all(
        &self,
        placements: &[(usize, ResolvedBackend)],
        fingerprints: &FingerprintKey,
    ) -> Vec<(usize, ObservedBackend)> {
        let mut looks = Vec::with_capacity(placements.len());
        for (index, placement) in placements {
            looks.push(async move { (*index, self.observe_one(placement, fingerprints).await) });
        }
        futures_util::stream::iter(looks).buffer_unordered(OBSERVE_CONCURRENCY).collect().await
    }

    async fn observe_one(&self, placement: &ResolvedBackend, fingerprints: &FingerprintKey) -> ObservedBackend {
        let provider = match self.provider(placement.spec.provider) {
            Ok(provider) => provider,
            Err(finding) => return ObservedBackend::unknown(finding),
        };
        let observation = match provider.observe(placement).await {
            Ok(observation) if observation.drift.is_empty() && observation.notes.is_empty() => observation,
            // A value that was set by hand at the provider may be one of ours.
            Ok(observation) => Redactor::of(placement).redact_observation(observation),
            Err(error) => return ObservedBackend::unknown(effects::effect_failure(placement, &error).finding),
        };
        let mut seen = ObservedBackend { observation, other_variables: BTreeSet::new(), failed: None };
        if seen.observation.state == RunState::Running && !placement.spec.env.is_empty() {
            let url = match self.internal_url(placement).await {
                Ok(url) => url,
                Err(error) => return ObservedBackend::unknown(effects::effect_failure(placement, &error).finding),
            };
            match environment::diff(&self.connections, &url, placement, fingerprints).await {
                Ok(environment) => {
                    seen.observation.drift.extend(environment.deviations);
                    seen.other_variables = environment.others;
                }
                // What could not be looked at is not known to be as it was.
                Err(error) => {
                    let message = format!("it runs, but its environment variables could not be read: {}", error_chain(&error));
                    seen.observation.state = RunState::Unknown;
                    seen.failed = Some(Diagnostic::new("convex.environment", message));
                }
            }
        }
        if seen.observation.state == RunState::Absent && seen.observation.drift.is_empty() {
            seen.observation.drift.push(FieldDrift::new("process", "running", "absent"));
        }
        seen
    }
}
