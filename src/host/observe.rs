//! Looking at all backends of a project at once.
//!
//! Must not do: change anything, or ask one backend after another.

use futures_util::StreamExt;

use super::{Host, environment};
use crate::model::{FingerprintKey, Observation, Placement, RunState};

/// How many backends are looked at at the same time.
const AT_ONCE: usize = 32;

impl Host {
    /// Looks at every backend. A lookup that fails says that nothing is known, never that nothing is there.
    pub(super) async fn observe_all(
        &self,
        placements: &[(usize, Placement)],
        fingerprints: &FingerprintKey,
    ) -> Vec<(usize, Observation)> {
        let mut looks = Vec::with_capacity(placements.len());
        for (index, placement) in placements {
            looks.push(async move { (*index, self.observe_one(placement, fingerprints).await) });
        }
        futures_util::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
    }

    async fn observe_one(&self, placement: &Placement, fingerprints: &FingerprintKey) -> Observation {
        let Ok(provider) = self.provider(placement.spec.provider) else { return Observation::unknown() };
        let Ok(mut observation) = provider.observe(placement).await else { return Observation::unknown() };
        if observation.state == RunState::Running && !placement.spec.env.is_empty() {
            let deviations = environment::deviations(&self.connections, &Self::reach(placement), placement, fingerprints).await;
            observation.deviations.extend(deviations);
        }
        observation
    }
}
