//! Which cluster it is: a kubeconfig that leads to another one has nothing of a backend, and that is not "absent".

use super::cluster::Cluster;
use super::kind::Kind;
use crate::model::{ProviderState, ResolvedBackend};
use crate::provider::ProviderError;

/// The key under which the cluster is noted.
const CLUSTER: &str = "cluster";
/// The key under which its address is noted.
const SERVER: &str = "server";

/// Returns what tells a cluster from all others; none where the account may not see it.
async fn identity(cluster: &Cluster) -> Option<String> {
    let system = cluster.get(Kind::Namespace, "", "kube-system").await.ok()??;
    system["metadata"]["uid"].as_str().map(str::to_owned)
}

/// Notes a cluster.
pub(super) async fn record(cluster: &Cluster, state: &mut ProviderState) {
    state.insert(SERVER.to_owned(), cluster.server.clone());
    state.extend(identity(cluster).await.map(|identity| (CLUSTER.to_owned(), identity)));
}

/// Checks that a cluster is the one that a backend was made in.
///
/// # Errors
/// [`ProviderError::OtherCluster`] where it is known to be another one.
pub(super) async fn require_same(cluster: &Cluster, resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    let state = &resolved.provider_state;
    let Some(recorded) = state.get(SERVER) else { return Ok(()) };
    let is_other = match (state.get(CLUSTER), identity(cluster).await) {
        (Some(recorded), Some(found)) => *recorded != found,
        // An address may change; nothing else tells them apart here.
        _ => *recorded != cluster.server,
    };
    if is_other {
        return Err(ProviderError::OtherCluster {
            name: resolved.name.to_string(),
            recorded: recorded.clone(),
            found: cluster.server.clone(),
        });
    }
    Ok(())
}
