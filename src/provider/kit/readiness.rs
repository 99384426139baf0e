//! Readiness of a backend on this machine: one question with a deadline, and what its answer says of the backend's state.

use std::time::Duration;

use crate::convex::deployment::{DeploymentClient, DeploymentError};
use crate::convex::readiness::{Readiness, probe_readiness};
use crate::model::{FieldDrift, ResolvedBackend, RunState};

/// How long a healthy backend may take for an answer: it takes milliseconds, and a suspended one never gives any.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks a backend once whether it answers as itself and accepts its key. Returns none when there is no answer in time.
pub async fn ask(connections: &DeploymentClient, url: &str, resolved: &ResolvedBackend) -> Option<Readiness> {
    let asked = probe_readiness(connections, url, resolved.instance_name.as_str(), &resolved.admin_key);
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.ok()
}

/// Asks once, and adds what keeps the backend from being ready to the drift. A question that could not be asked leaves its
/// state unknown.
pub async fn observe(
    connections: &DeploymentClient,
    url: &str,
    resolved: &ResolvedBackend,
    drift: &mut Vec<FieldDrift>,
) -> RunState {
    let port = resolved.ports.api;
    let answering = || format!("answering on {port}");
    drift.push(match ask(connections, url, resolved).await {
        Some(Readiness::Ready) => return RunState::Running,
        Some(Readiness::Failing(DeploymentError::NotAsked { .. })) => return RunState::Unknown,
        Some(Readiness::OtherInstance { name }) => FieldDrift::new("instance_name", resolved.instance_name.as_str(), name),
        Some(Readiness::KeyRefused) => FieldDrift::new("admin_key", "accepted", "refused"),
        Some(Readiness::NotListening) => {
            FieldDrift::new("port", format!("listening on {port}"), format!("not listening on {port}"))
        }
        Some(Readiness::Failing(error)) => FieldDrift::new("port", answering(), error.to_string()),
        None => FieldDrift::new("port", answering(), format!("no answer on {port}")),
    });
    RunState::Unready
}
