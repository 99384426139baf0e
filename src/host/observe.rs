//! Looking at all backends of a project at once.
//!
//! Must not do: change anything, or ask one backend after another.

use std::collections::BTreeSet;

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
    ) -> Vec<(usize, Observation, BTreeSet<String>)> {
        let mut looks = Vec::with_capacity(placements.len());
        for (index, placement) in placements {
            looks.push(async move {
                let (observation, others) = self.observe_one(placement, fingerprints).await;
                (*index, observation, others)
            });
        }
        futures_util::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
    }

    /// What is seen of a backend, and which variables it has that nobody asked for.
    async fn observe_one(&self, placement: &Placement, fingerprints: &FingerprintKey) -> (Observation, BTreeSet<String>) {
        let mut others = BTreeSet::new();
        let Ok(provider) = self.provider(placement.spec.provider) else { return (Observation::unknown(), others) };
        let Ok(mut observation) = provider.observe(placement).await else { return (Observation::unknown(), others) };
        if observation.state == RunState::Running && !placement.spec.env.is_empty() {
            let url = Self::reach(placement);
            match environment::look(&self.connections, &url, placement, fingerprints).await {
                Ok(seen) => {
                    observation.deviations.extend(seen.deviations);
                    others = seen.others;
                }
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
        (observation, others)
    }
}
