//! Stopping a backend, and taking it away: what leads to it first, its data last.

use std::time::Duration;

use serde_json::json;

use super::cluster::Cluster;
use super::error::KubernetesError;
use super::identity;
use super::inventory::require_namespace;
use super::kind::Kind;
use super::labels::{ObjectNames, foreign_owner};
use super::rollout::{ENDS_WITHIN, Rollout};
use super::takeover::{self, Predecessor};
use super::volume::{Retention, kept_volume, release_volume, retain_volume};
use crate::failpoint;
use crate::model::{ResolvedBackend, VolumeReclaim};
use crate::provider::{ProgressFn, ProviderError};

/// The order in which objects go; a claim follows where its data is to go.
const ORDER: [Kind; 7] =
    [Kind::HttpRoute, Kind::Ingress, Kind::Deployment, Kind::StatefulSet, Kind::Service, Kind::NetworkPolicy, Kind::Secret];

/// Stops a backend and leaves everything that belongs to it.
pub(super) async fn stop(cluster: &Cluster, resolved: &ResolvedBackend, namespace: &str) -> Result<(), ProviderError> {
    if let Some(predecessor) = Predecessor::find(cluster, namespace, &resolved.provider_state).await? {
        return Ok(predecessor.stop(&|_| {}).await?);
    }
    let names = ObjectNames::of(resolved);
    let Some(live) = cluster.get(Kind::StatefulSet, namespace, names.backend()).await? else {
        require_namespace(cluster, namespace).await?;
        return Ok(());
    };
    if let Some(owner) = foreign_owner(&live, resolved) {
        return Err(foreign(Kind::StatefulSet, names.backend(), owner).into());
    }
    let patch = json!({ "spec": { "replicas": 0 } });
    cluster.merge(Kind::StatefulSet, namespace, names.backend(), None, &patch).await?;
    failpoint::hit("provider.kubernetes.scaled_down");
    Ok(rollout(cluster, namespace, &names, &|_| {}).wait_until_gone(ENDS_WITHIN).await?)
}

/// Takes a backend away, with its data or without.
pub(super) async fn remove(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
    reclaim: VolumeReclaim,
    progress: ProgressFn<'_>,
) -> Result<(), ProviderError> {
    let names = ObjectNames::of(resolved);
    let seen = takeover::inventory(cluster, resolved, namespace).await?;
    if let Some(predecessor) = Predecessor::find(cluster, namespace, &resolved.provider_state).await? {
        predecessor.stop(progress).await?;
        predecessor.delete().await?;
    }
    if seen.is_empty() {
        match require_namespace(cluster, namespace).await {
            // A namespace that was made here and is gone took everything along.
            Ok(()) | Err(KubernetesError::NamespaceMissing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        return identity::require_same(cluster, resolved).await;
    }
    for (kind, object) in seen.objects().filter(|(kind, _)| *kind != Kind::Pod) {
        if let Some(owner) = foreign_owner(object, resolved) {
            return Err(foreign(kind, object["metadata"]["name"].as_str().unwrap_or_default(), owner).into());
        }
    }
    let claim = seen.get(Kind::Claim, &names.claim());
    if let (VolumeReclaim::Retain, Some(claim)) = (reclaim, claim)
        && let Retention::NotKnown { volume, reason } = retain_volume(cluster, claim).await
    {
        progress(format!("whether the volume `{volume}` outlives its claim is not known: {reason}"));
    }
    for kind in ORDER {
        for object in seen.all(kind) {
            cluster.delete(kind, object).await?;
        }
        if kind == Kind::StatefulSet {
            failpoint::hit("provider.kubernetes.stateful_set_removed");
            rollout(cluster, namespace, &names, progress).wait_until_gone(ENDS_WITHIN).await?;
        }
    }
    match (reclaim, claim) {
        (VolumeReclaim::Retain, _) => {}
        (VolumeReclaim::Delete, Some(claim)) => {
            release_volume(cluster, claim).await?;
            cluster.delete(Kind::Claim, claim).await?;
            failpoint::hit("provider.kubernetes.claim_removed");
        }
        // The claim went by hand, and its volume was kept for the next one.
        (VolumeReclaim::Delete, None) => {
            if let Some(volume) = kept_volume(cluster, namespace, &names.claim()).await {
                release_volume(cluster, &json!({ "spec": { "volumeName": volume } })).await?;
            }
        }
    }
    Ok(())
}

fn rollout<'a>(cluster: &'a Cluster, namespace: &'a str, names: &'a ObjectNames, progress: ProgressFn<'a>) -> Rollout<'a> {
    Rollout { cluster, namespace, names, ready_within: Duration::ZERO, progress }
}

fn foreign(kind: Kind, name: &str, owner: String) -> KubernetesError {
    KubernetesError::Foreign { object: format!("the {} `{name}`", kind.noun()), owner }
}
