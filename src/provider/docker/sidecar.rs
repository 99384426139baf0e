//! Containers beside a backend, such as its dashboard and its database server: they may be replaced at any time.

use std::time::{Duration, Instant};

use bollard::models::HealthStatusEnum;

use super::container_diff::diff_container;
use super::container_ops::CreateOutcome;
use super::desired::ContainerSpec;
use super::engine::Engine;
use super::inventory::{Inventory, id_of, inspect_container, name_of};
use super::labels::ResourceRole;
use super::logs::{LAST_LINES, last_lines};
use super::repair::{Attempts, RepairAction, choose_repair};
use crate::provider::ProviderError;

/// How long a database server may take until it is ready: the first start makes its files.
const DATABASE_READY: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// Brings a container beside the backend to what it should be. It may be replaced at any time.
pub(super) async fn ensure_sidecar(engine: &Engine, seen: &Inventory, wanted: &ContainerSpec) -> Result<String, ProviderError> {
    let mut all: Vec<_> = seen.with_role(wanted.role).collect();
    all.sort_by_key(|container| name_of(container) != wanted.name);
    for (place, container) in all.into_iter().enumerate() {
        if place == 0 && repair_in_place(engine, id_of(container), wanted).await? {
            return Ok(id_of(container).to_owned());
        }
        engine.stop_container(container).await?;
        engine.remove_container(id_of(container), true).await?;
    }
    let id = match engine.create_container(wanted).await? {
        CreateOutcome::Created(id) => id,
        CreateOutcome::NameTaken(reason) => {
            return Err(ProviderError::Unsupported(format!(
                "the container `{}` was not made by this control plane, and its name is needed: rename or remove it\n({reason})",
                wanted.name
            )));
        }
    };
    if let Err(error) = engine.start_container(&id, &wanted.ports).await {
        if !matches!(error, ProviderError::EngineUnreachable { .. }) {
            engine.remove_container(&id, true).await?;
        }
        return Err(error);
    }
    Ok(id)
}

/// Whether a container could be made what it should be without another one in its place.
async fn repair_in_place(engine: &Engine, id: &str, wanted: &ContainerSpec) -> Result<bool, ProviderError> {
    let mut tried = Attempts::default();
    loop {
        let Some(container) = inspect_container(engine, id).await? else { return Ok(false) };
        let found = diff_container("", Some(wanted), &container);
        let (done, is_last) = match choose_repair(&found, tried) {
            RepairAction::Keep => return Ok(true),
            RepairAction::Replace => return Ok(false),
            RepairAction::UpdateInPlace => (engine.update_in_place(&container, wanted, &found).await, false),
            RepairAction::Start => (engine.resume_or_start(&container, wanted).await.map(drop), true),
        };
        match done {
            Ok(()) if is_last => return Ok(true),
            Ok(()) => tried.in_place = true,
            Err(error @ ProviderError::EngineUnreachable { .. }) => return Err(error),
            Err(_) => return Ok(false),
        }
    }
}

/// Takes the containers of one kind away.
pub(super) async fn remove_sidecars(engine: &Engine, seen: &Inventory, role: ResourceRole) -> Result<(), ProviderError> {
    for container in seen.with_role(role) {
        engine.stop_container(container).await?;
        engine.remove_container(id_of(container), true).await?;
    }
    Ok(())
}

/// Waits until the engine finds a container healthy.
pub(super) async fn wait_until_healthy(engine: &Engine, id: &str) -> Result<(), ProviderError> {
    let deadline = Instant::now() + DATABASE_READY;
    loop {
        let state = inspect_container(engine, id).await?.and_then(|seen| seen.state).unwrap_or_default();
        let health = state.health.and_then(|health| health.status);
        if health == Some(HealthStatusEnum::HEALTHY) {
            return Ok(());
        }
        let ended = state.running != Some(true) || state.restarting == Some(true);
        if ended || Instant::now() >= deadline {
            let status = match ended {
                true => format!("its database server ended with exit code {}", state.exit_code.unwrap_or_default()),
                false => format!("its database server was not ready within {} s", DATABASE_READY.as_secs()),
            };
            return Err(ProviderError::Exited { status, log: last_lines(engine, id, LAST_LINES).await });
        }
        tokio::time::sleep(POLL).await;
    }
}
