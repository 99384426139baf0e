//! Looking at all backends of a project at once.
//!
//! Must not do: change anything, or ask one backend after another.

use std::collections::BTreeSet;

use futures_util::StreamExt;

use super::{Host, environment, perform};
use crate::model::{Deviation, FieldPath, Finding, FingerprintKey, Observation, Placement, RunState, chain};

/// How many backends are looked at at the same time.
const AT_ONCE: usize = 32;

/// What is seen of a backend.
pub(super) struct Seen {
    pub(super) observation: Observation,
    /// The variables that it has and that nobody asked for.
    pub(super) other_variables: BTreeSet<String>,
    /// Why the look failed, where it did.
    pub(super) failed: Option<Finding>,
}

impl Seen {
    fn nothing(why: Finding) -> Self {
        Self { observation: Observation::unknown(), other_variables: BTreeSet::new(), failed: Some(why) }
    }
}

impl Host {
    /// Looks at every backend. A lookup that fails says that nothing is known, never that nothing is there.
    pub(super) async fn observe_all(
        &self,
        placements: &[(usize, Placement)],
        fingerprints: &FingerprintKey,
    ) -> Vec<(usize, Seen)> {
        let mut looks = Vec::with_capacity(placements.len());
        for (index, placement) in placements {
            looks.push(async move { (*index, self.observe_one(placement, fingerprints).await) });
        }
        futures_util::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
    }

    async fn observe_one(&self, placement: &Placement, fingerprints: &FingerprintKey) -> Seen {
        let provider = match self.provider(placement.spec.provider) {
            Ok(provider) => provider,
            Err(finding) => return Seen::nothing(finding),
        };
        let observation = match provider.observe(placement).await {
            Ok(observation) => observation,
            Err(error) => return Seen::nothing(perform::failure(placement, &error).finding),
        };
        let mut seen = Seen { observation, other_variables: BTreeSet::new(), failed: None };
        if seen.observation.state == RunState::Running && !placement.spec.env.is_empty() {
            let url = Self::reach(placement);
            match environment::look(&self.connections, &url, placement, fingerprints).await {
                Ok(environment) => {
                    seen.observation.deviations.extend(environment.deviations);
                    seen.other_variables = environment.others;
                }
                // What could not be looked at is not known to be as it was.
                Err(error) => {
                    let message = format!("it runs, but its environment variables could not be read: {}", chain(&error));
                    seen.observation.state = RunState::Unknown;
                    seen.failed = Some(Finding::new("convex.environment", message));
                }
            }
        }
        if seen.observation.state == RunState::Absent && seen.observation.deviations.is_empty() {
            seen.observation.deviations.push(Deviation {
                path: FieldPath::new("process"),
                recorded: "running".to_owned(),
                observed: "absent".to_owned(),
            });
        }
        seen
    }
}
