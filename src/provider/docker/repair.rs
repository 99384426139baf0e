//! From the differences of a container to the action that repairs them: the same way for the backend and for its sidecars.
//!
//! What can be changed in place comes first, then it is started; what cannot be changed, or was and did
//! not help, needs another container.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};

use super::desired::ContainerSpec;
use super::diff::{ContainerDifference, RepairKind};
use super::engine::Engine;
use super::inventory::id_of;
use super::readiness::{in_start_period, restart_count};
use crate::provider::ProviderError;

/// What is to be done about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepairAction {
    /// It is as it should be.
    Keep,
    /// Name, limits or networks, where it is.
    UpdateInPlace,
    /// It is as it should be, and does not run.
    Start,
    /// Another container.
    Replace,
}

/// What was tried with one container.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempts {
    /// It was changed where it is.
    pub(super) in_place: bool,
    /// It could not be started.
    pub(super) start: bool,
}

/// What is to be done next, after what was tried.
pub(super) fn choose_repair(found: &[ContainerDifference], tried: Attempts) -> RepairAction {
    let needs = |repair| found.iter().any(|difference| difference.repair == repair);
    let in_place = needs(RepairKind::Rename) || needs(RepairKind::Update) || needs(RepairKind::Reconnect);
    if needs(RepairKind::Replace) || (in_place && tried.in_place) || tried.start {
        return RepairAction::Replace;
    }
    match (in_place, needs(RepairKind::Start) || needs(RepairKind::Refill)) {
        (true, _) => RepairAction::UpdateInPlace,
        (false, true) => RepairAction::Start,
        (false, false) => RepairAction::Keep,
    }
}

impl Engine {
    /// Changes what can be changed in place.
    pub(super) async fn update_in_place(
        &self,
        container: &ContainerInspectResponse,
        wanted: &ContainerSpec,
        found: &[ContainerDifference],
    ) -> Result<(), ProviderError> {
        let needs = |repair| found.iter().any(|difference| difference.repair == repair);
        let id = id_of(container);
        if needs(RepairKind::Rename) {
            self.rename_container(id, &wanted.name).await?;
        }
        if needs(RepairKind::Update) {
            self.update_limits(id, wanted).await?;
        }
        if needs(RepairKind::Reconnect) {
            self.reconnect_networks(container, wanted).await?;
        }
        Ok(())
    }

    /// Stops a container and starts it with its files put into its volume again.
    pub(super) async fn restart_with_files(
        &self,
        container: &ContainerInspectResponse,
        wanted: &ContainerSpec,
    ) -> Result<(), ProviderError> {
        let id = id_of(container);
        self.stop_container(container).await?;
        if let Some(files) = &wanted.files {
            self.upload_files(id, files).await?;
        }
        self.start_container(id, &wanted.ports).await
    }

    /// Lets a container run that is there, with its files put into its volume again: a killed command may have only just made
    /// it. Returns the restart count from which an early exit is to be told: only a start by hand resets the engine's.
    pub(super) async fn resume_or_start(
        &self,
        container: &ContainerInspectResponse,
        wanted: &ContainerSpec,
    ) -> Result<i64, ProviderError> {
        let id = id_of(container);
        let resume = choose_resume(container);
        match resume {
            Resume::Unpause => {
                let unpaused = self.client.unpause_container(id).await;
                unpaused.map_err(|error| self.failed("let the container go on", error))?;
            }
            Resume::Restart => self.restart_with_files(container, wanted).await?,
            Resume::Refill | Resume::Start => {
                if let Some(files) = &wanted.files {
                    self.upload_files(id, files).await?;
                }
                if resume == Resume::Start {
                    self.start_container(id, &wanted.ports).await?;
                }
            }
        }
        Ok(match resume {
            Resume::Unpause | Resume::Refill => restart_count(container),
            Resume::Restart | Resume::Start => 0,
        })
    }
}

/// How a container that is there comes to run with its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resume {
    /// It is paused.
    Unpause,
    /// It runs and has read its files long ago: they are put back without an interruption.
    Refill,
    /// It ends again and again, or was started a moment ago and may be about to end: it is stopped, so that it starts with
    /// the files.
    Restart,
    /// It does not run.
    Start,
}

fn choose_resume(container: &ContainerInspectResponse) -> Resume {
    match container.state.as_ref().and_then(|state| state.status) {
        Some(ContainerStateStatusEnum::PAUSED) => Resume::Unpause,
        Some(ContainerStateStatusEnum::RESTARTING) => Resume::Restart,
        Some(ContainerStateStatusEnum::RUNNING) if in_start_period(container) => Resume::Restart,
        Some(ContainerStateStatusEnum::RUNNING) => Resume::Refill,
        _ => Resume::Start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::docker::diff::field_drift;

    #[test]
    fn a_container_is_changed_before_it_is_started_and_recreated_when_that_did_not_help() {
        let all = |repairs: &[RepairKind]| -> Vec<ContainerDifference> {
            let one = |repair: &RepairKind| ContainerDifference { drift: field_drift("a", "b", "c"), repair: *repair };
            repairs.iter().map(one).collect()
        };
        let fresh = Attempts::default();
        let changed = Attempts { in_place: true, start: false };
        for (repairs, tried, expected) in [
            (&[][..], fresh, RepairAction::Keep),
            (&[RepairKind::Start, RepairKind::Rename], fresh, RepairAction::UpdateInPlace),
            (&[RepairKind::Start, RepairKind::Update], fresh, RepairAction::UpdateInPlace),
            (&[RepairKind::Reconnect, RepairKind::Start], fresh, RepairAction::UpdateInPlace),
            (&[RepairKind::Refill], fresh, RepairAction::Start),
            (&[RepairKind::Start], changed, RepairAction::Start),
            (&[RepairKind::Update], changed, RepairAction::Replace),
            (&[RepairKind::Start], Attempts { in_place: false, start: true }, RepairAction::Replace),
            (&[RepairKind::Replace, RepairKind::Start], fresh, RepairAction::Replace),
        ] {
            assert_eq!(choose_repair(&all(repairs), tried), expected, "{repairs:?} {tried:?}");
        }
    }

    #[test]
    fn a_container_between_two_of_its_ends_is_restarted_and_one_that_is_up_is_not() {
        use bollard::models::ContainerState;
        let at = |seconds: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string();
        for (status, started, expected) in [
            (ContainerStateStatusEnum::RUNNING, at(0), Resume::Restart),
            (ContainerStateStatusEnum::RUNNING, at(600), Resume::Refill),
            (ContainerStateStatusEnum::RESTARTING, at(600), Resume::Restart),
            (ContainerStateStatusEnum::PAUSED, at(0), Resume::Unpause),
            (ContainerStateStatusEnum::EXITED, at(0), Resume::Start),
            (ContainerStateStatusEnum::CREATED, String::new(), Resume::Start),
        ] {
            let state = ContainerState { status: Some(status), started_at: Some(started), ..ContainerState::default() };
            let container = ContainerInspectResponse { state: Some(state), ..ContainerInspectResponse::default() };
            assert_eq!(choose_resume(&container), expected, "{status:?}");
        }
    }
}
