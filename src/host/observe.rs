//! Looking at all backends of a project at once.
//!
//! Must not do: change anything, or ask one backend after another.

use futures_util::StreamExt;

use super::{Host, environment};
use crate::model::{Deviation, FieldPath, FingerprintKey, Observation, Placement, RunState};

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
            let url = Self::reach(placement);
            match environment::deviations(&self.connections, &url, placement, fingerprints).await {
                Ok(deviations) => observation.deviations.extend(deviations),
                // What could not be looked at is not known to be as it was.
                Err(_) => observation.state = RunState::Unknown,
            }
        }
        if observation.state == RunState::Absent && observation.deviations.is_empty() {
            observation.deviations.push(Deviation {
                path: FieldPath::new("process"),
                recorded: "running".to_owned(),
                observed: "absent".to_owned(),
            });
        }
        observation
    }
}
