//! From the differences of a container to what is done about them: the same way for the backend and for those beside it.
//!
//! Whatever can be changed where the container is comes first, then it is started; what cannot be changed, or was and did
//! not help, needs another container. Must not do: make or remove a container.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};

use super::compare::{Difference, Repair};
use super::engine::Engine;
use super::look::id_of;
use super::wanted::Wanted;
use crate::provider::ProviderError;

/// What is to be done about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It is as it should be.
    Nothing,
    /// Name, limits or networks, where it is.
    InPlace,
    /// It is as it should be, and does not run.
    Start,
    /// Another container.
    Anew,
}

/// What was tried with one container.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried {
    /// It was changed where it is.
    pub(super) in_place: bool,
    /// It could not be started.
    pub(super) start: bool,
}

/// What is to be done next, after what was tried.
pub(super) fn remedy(found: &[Difference], tried: Tried) -> Remedy {
    let needs = |repair| found.iter().any(|difference| difference.repair == repair);
    let in_place = needs(Repair::Rename) || needs(Repair::Update) || needs(Repair::Reconnect);
    if needs(Repair::Replace) || (in_place && tried.in_place) || tried.start {
        return Remedy::Anew;
    }
    match (in_place, needs(Repair::Start)) {
        (true, _) => Remedy::InPlace,
        (false, true) => Remedy::Start,
        (false, false) => Remedy::Nothing,
    }
}

impl Engine {
    /// Changes whatever can be changed where the container is.
    pub(super) async fn change_in_place(
        &self,
        container: &ContainerInspectResponse,
        wanted: &Wanted,
        found: &[Difference],
    ) -> Result<(), ProviderError> {
        let needs = |repair| found.iter().any(|difference| difference.repair == repair);
        let id = id_of(container);
        if needs(Repair::Rename) {
            self.rename(id, &wanted.name).await?;
        }
        if needs(Repair::Update) {
            self.update(id, wanted).await?;
        }
        if needs(Repair::Reconnect) {
            self.reconnect(container, wanted).await?;
        }
        Ok(())
    }

    /// Lets a container run that is there. Its files may be missing when a killed command had only just made it.
    pub(super) async fn run_again(&self, container: &ContainerInspectResponse, wanted: &Wanted) -> Result<(), ProviderError> {
        let id = id_of(container);
        if container.state.as_ref().and_then(|state| state.status) == Some(ContainerStateStatusEnum::PAUSED) {
            let unpaused = self.client.unpause_container(id).await;
            return unpaused.map_err(|error| self.failed("let the container go on", error));
        }
        if let Some(files) = &wanted.files {
            self.fill(id, files).await?;
        }
        self.start(id, &wanted.ports).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::docker::compare::deviation;

    #[test]
    fn a_container_is_changed_before_it_is_started_and_made_anew_when_that_did_not_help() {
        let all = |repairs: &[Repair]| -> Vec<Difference> {
            let one = |repair: &Repair| Difference { deviation: deviation("a", "b", "c"), repair: *repair };
            repairs.iter().map(one).collect()
        };
        let fresh = Tried::default();
        let changed = Tried { in_place: true, start: false };
        for (repairs, tried, expected) in [
            (&[][..], fresh, Remedy::Nothing),
            (&[Repair::Start, Repair::Rename], fresh, Remedy::InPlace),
            (&[Repair::Start, Repair::Update], fresh, Remedy::InPlace),
            (&[Repair::Reconnect, Repair::Start], fresh, Remedy::InPlace),
            (&[Repair::Start], changed, Remedy::Start),
            (&[Repair::Update], changed, Remedy::Anew),
            (&[Repair::Start], Tried { in_place: false, start: true }, Remedy::Anew),
            (&[Repair::Replace, Repair::Start], fresh, Remedy::Anew),
        ] {
            assert_eq!(remedy(&all(repairs), tried), expected, "{repairs:?} {tried:?}");
        }
    }
}
