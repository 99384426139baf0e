//! The claim of a backend and the volume behind it: what is done so that data outlives mistakes.

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::error::KubernetesError;
use super::inventory::Inventory;
use super::kind::Kind;
use super::labels::{DISCARDED, ObjectNames, RECLAIM_BEFORE};
use crate::model::{DataState, Files, ResolvedBackend, Storage};
use crate::provider::ProviderError;

/// Whether a backend keeps something in its volume without which its data is gone.
pub(super) fn keeps_data(resolved: &ResolvedBackend) -> bool {
    resolved.spec.storage == Storage::Sqlite || resolved.spec.files == Files::Local
}

/// Returns whether the data of a backend is there, as far as its claim says it.
pub(super) fn data_state(resolved: &ResolvedBackend, seen: &Inventory) -> DataState {
    let claim = seen.get(Kind::Claim, &ObjectNames::of(resolved).claim());
    match (claim, resolved.has_been_ready) {
        // The server has lost what was bound to it.
        (Some(claim), true) if claim["status"]["phase"] == "Lost" => DataState::Missing,
        (Some(_), _) => DataState::Present,
        (None, true) if keeps_data(resolved) => DataState::Missing,
        (None, true) => DataState::Present,
        (None, false) => DataState::None,
    }
}

/// Checks that a Pod can be started without losing data or beginning with none.
///
/// # Errors
/// [`ProviderError::DataMissing`] for a claim that was there.
pub(super) async fn guard_claim(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
    seen: &Inventory,
) -> Result<(), ProviderError> {
    let name = ObjectNames::of(resolved).claim();
    match data_state(resolved, seen) {
        DataState::Missing if kept_volume(cluster, namespace, &name).await.is_some() => Ok(()),
        DataState::Missing => Err(ProviderError::DataMissing {
            instance: resolved.instance_name.to_string(),
            place: format!("the claim `{name}` in the namespace `{namespace}`"),
        }),
        DataState::Present | DataState::None | DataState::Unknown => Ok(()),
    }
}

/// Returns the volume that a claim of this name left behind when it went, where the account may see it.
pub(super) async fn kept_volume(cluster: &Cluster, namespace: &str, claim: &str) -> Option<String> {
    let volumes = cluster.list(Kind::Volume, "", "").await.ok()?;
    let kept = volumes.iter().find(|volume| is_kept(volume, namespace, claim));
    kept.and_then(|volume| volume["metadata"]["name"].as_str().map(str::to_owned))
}

/// Whether a volume outlived the claim of this name for the next one. One that the cluster is about to delete has the same
/// phase: a claim that named it would wait for ever, or have data that was to go.
fn is_kept(volume: &Value, namespace: &str, claim: &str) -> bool {
    let (metadata, spec) = (&volume["metadata"], &volume["spec"]);
    let is_its = spec["claimRef"]["namespace"] == namespace && spec["claimRef"]["name"] == claim;
    let stays = spec["persistentVolumeReclaimPolicy"] == "Retain" && metadata["deletionTimestamp"].is_null();
    is_its && stays && volume["status"]["phase"] == "Released" && metadata["annotations"][DISCARDED].is_null()
}

/// Returns a claim that takes up the volume that the one of its name left behind; unchanged where there is none.
pub(super) async fn claim_of_kept_volume(cluster: &Cluster, claim: &Value) -> Result<Value, KubernetesError> {
    let text = |field: &str| claim["metadata"][field].as_str().unwrap_or_default();
    let Some(name) = kept_volume(cluster, text("namespace"), text("name")).await else { return Ok(claim.clone()) };
    let Some(volume) = cluster.get(Kind::Volume, "", &name).await? else { return Ok(claim.clone()) };
    // It is bound to the claim that went; without that it is there for the one that names it.
    let patch = json!({ "spec": { "claimRef": Value::Null } });
    cluster.merge(Kind::Volume, "", &name, None, &patch).await?;
    let mut claim = claim.clone();
    claim["spec"]["volumeName"] = json!(name);
    claim["spec"]["storageClassName"] = volume["spec"]["storageClassName"].clone();
    claim["spec"]["accessModes"] = volume["spec"]["accessModes"].clone();
    claim["spec"]["resources"]["requests"]["storage"] = volume["spec"]["capacity"]["storage"].clone();
    Ok(claim)
}

/// What was done so that a volume outlives its claim.
pub(super) enum Retention {
    /// It does.
    Kept(String),
    /// There is no volume yet.
    NoVolume,
    /// It could not be looked at.
    NotKnown { volume: String, reason: String },
}

impl Retention {
    /// Returns what was done, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Kept(volume) => format!("the volume `{volume}` is set to outlive it"),
            Self::NoVolume => "it has no volume".to_owned(),
            Self::NotKnown { volume, reason } => format!(
                "whether the volume `{volume}` outlives it is not known ({reason}); set it with\n    kubectl patch pv {volume} -p \
                 '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'"
            ),
        }
    }
}

/// Makes the volume of a claim outlive it, where the account may.
pub(super) async fn retain_volume(cluster: &Cluster, claim: &Value) -> Retention {
    let Some(volume) = claim["spec"]["volumeName"].as_str().filter(|name| !name.is_empty()) else { return Retention::NoVolume };
    let not_known = |error: KubernetesError| Retention::NotKnown { volume: volume.to_owned(), reason: error.to_string() };
    let seen = match cluster.get(Kind::Volume, "", volume).await {
        Ok(Some(seen)) => seen,
        Ok(None) => return Retention::NoVolume,
        Err(error) => return not_known(error),
    };
    let policy = seen["spec"]["persistentVolumeReclaimPolicy"].as_str().unwrap_or("Delete");
    if policy == "Retain" {
        return Retention::Kept(volume.to_owned());
    }
    let patch = json!({
        "metadata": { "annotations": { RECLAIM_BEFORE: policy } },
        "spec": { "persistentVolumeReclaimPolicy": "Retain" },
    });
    match cluster.merge(Kind::Volume, "", volume, None, &patch).await {
        Ok(_) => Retention::Kept(volume.to_owned()),
        Err(error) => not_known(error),
    }
}

/// Lets the volume of a claim go: it gets the policy back that it had before it was made to outlive the claim, and where that
/// keeps it, a mark, so that no later claim takes up data that was to go.
pub(super) async fn release_volume(cluster: &Cluster, claim: &Value) -> Result<(), KubernetesError> {
    let Some(volume) = claim["spec"]["volumeName"].as_str().filter(|name| !name.is_empty()) else { return Ok(()) };
    let seen = match cluster.get(Kind::Volume, "", volume).await {
        Ok(Some(seen)) => seen,
        // An account that may not look at volumes has never changed one.
        Ok(None) | Err(KubernetesError::Forbidden { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let before = seen["metadata"]["annotations"][RECLAIM_BEFORE].as_str();
    let policy = before.or(seen["spec"]["persistentVolumeReclaimPolicy"].as_str()).unwrap_or("Delete");
    if before.is_none() && policy != "Retain" {
        return Ok(());
    }
    let patch = json!({
        "metadata": { "annotations": { RECLAIM_BEFORE: Value::Null, DISCARDED: "true" } },
        "spec": { "persistentVolumeReclaimPolicy": policy },
    });
    match cluster.merge(Kind::Volume, "", volume, None, &patch).await {
        // It was not this account that made the volume stay.
        Err(KubernetesError::Forbidden { .. }) if before.is_none() => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_volume_that_stays_is_taken_up_by_the_next_claim() {
        let volume = |policy: &str, phase: &str, metadata: Value| {
            json!({
                "metadata": metadata,
                "spec": {
                    "claimRef": { "namespace": "convex", "name": "atlas-dev" },
                    "persistentVolumeReclaimPolicy": policy,
                },
                "status": { "phase": phase },
            })
        };
        let kept = |volume: &Value| is_kept(volume, "convex", "atlas-dev");
        assert!(kept(&volume("Retain", "Released", json!({}))));
        for (policy, phase, metadata) in [
            ("Delete", "Released", json!({})),
            ("Retain", "Bound", json!({})),
            ("Retain", "Released", json!({ "deletionTimestamp": "2026-12-01T00:00:00Z" })),
            ("Retain", "Released", json!({ "annotations": { DISCARDED: "true" } })),
        ] {
            let volume = volume(policy, phase, metadata);
            assert!(!kept(&volume), "{volume}");
        }
        let other = volume("Retain", "Released", json!({}));
        assert!(!is_kept(&other, "convex", "atlas-prod") && !is_kept(&other, "other", "atlas-dev"));
    }
}
