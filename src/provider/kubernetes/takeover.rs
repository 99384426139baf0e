//! Takeover: a StatefulSet of ours takes the place of what something else made, and goes on with its claim.
//!
//! Two writers on one database destroy it. So the workload from before is scaled to none first, and ours is made once no Pod uses
//! the claim any more; the one from before is deleted when ours is ready, and scaled up again when ours does not become ready.
//! Must not do: touch what a tool owns that would undo it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::diff::drift;
use super::error::KubernetesError;
use super::exec::{self, ContainerOf};
use super::inventory::{Inventory, is_terminating};
use super::kind::Kind;
use super::labels::{ADOPTED_CLAIM, ID, ObjectNames};
use super::owners::Tool;
use super::pod_state::condition;
use super::rollout::ENDS_WITHIN;
use crate::failpoint;
use crate::model::{DataState, FieldDrift, Observation, ProviderState, ResolvedBackend, RunState};
use crate::provider::ProgressFn;

/// The keys of the provider state with the workload that is being taken over: kind and name, its uid, and its container.
const WORKLOAD: &str = "adopted_workload";
const UID: &str = "adopted_uid";
const CONTAINER: &str = "adopted_container";
/// The key with what the next apply drops of it.
const DROPPED: &str = "adopted_dropped";
/// How often the Pods of a claim are looked at.
const INTERVAL: Duration = Duration::from_millis(300);
/// How long the controller may take to let go of a claim that it was to delete.
const CLAIM_FREE_WITHIN: Duration = Duration::from_secs(30);

/// The workload that a backend was before, while it is there.
pub(super) struct Predecessor<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    kind: Kind,
    object: Value,
    claim: &'a str,
    container: &'a str,
    dropped: Option<&'a str>,
}

/// Notes a workload that is to be taken over.
pub(super) fn record(kind: Kind, object: &Value, container: &str, claim: &str, dropped: &str, state: &mut ProviderState) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    for (key, value) in [
        (WORKLOAD, format!("{}/{}", kind.noun(), text("name"))),
        (UID, text("uid").to_owned()),
        (CONTAINER, container.to_owned()),
        (ADOPTED_CLAIM, claim.to_owned()),
        (DROPPED, dropped.to_owned()),
    ] {
        if !value.is_empty() {
            state.insert(key.to_owned(), value);
        }
    }
}

/// Keeps what is to be remembered of a takeover that is done.
pub(super) fn copy_claim(before: &ProviderState, state: &mut ProviderState) {
    state.extend(before.get(ADOPTED_CLAIM).map(|claim| (ADOPTED_CLAIM.to_owned(), claim.clone())));
}

/// Lists what there is of a backend, with the claim that it goes on with: that has no labels of ours at first.
pub(super) async fn inventory(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
) -> Result<Inventory, KubernetesError> {
    let seen = Inventory::take(cluster, namespace, &format!("{ID}={}", resolved.id)).await?;
    with_claim(cluster, resolved, namespace, seen).await
}

/// Adds the claim that a backend goes on with to what was listed by labels.
pub(super) async fn with_claim(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
    mut seen: Inventory,
) -> Result<Inventory, KubernetesError> {
    if let Some(claim) = resolved.provider_state.get(ADOPTED_CLAIM)
        && seen.get(Kind::Claim, claim).is_none()
        && let Some(found) = cluster.get(Kind::Claim, namespace, claim).await?
    {
        seen.add(Kind::Claim, found);
    }
    Ok(seen)
}

/// Lists the Pods that use a claim, and have not ended.
pub(super) async fn users_of(cluster: &Cluster, namespace: &str, claim: &str) -> Result<Vec<Value>, KubernetesError> {
    let pods = cluster.list(Kind::Pod, namespace, "").await?;
    let uses = |pod: &Value| {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let has_ended = pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
        !has_ended && volumes.any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
    };
    Ok(pods.into_iter().filter(uses).collect())
}

/// Names the Pods that use the claim of a backend beside its own.
pub(super) async fn other_writers(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
) -> Result<Vec<String>, KubernetesError> {
    // A claim of ours is used by what carries our labels alone.
    let Some(claim) = resolved.provider_state.get(ADOPTED_CLAIM) else { return Ok(Vec::new()) };
    let own = ObjectNames::of(resolved).pod();
    let users = users_of(cluster, namespace, claim).await?;
    let names = users.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    Ok(names.filter(|name| *name != own).map(str::to_owned).collect())
}

impl<'a> Predecessor<'a> {
    /// Finds the workload that a backend was before; none where it is gone, or another one has its name.
    pub(super) async fn find(
        cluster: &'a Cluster,
        namespace: &'a str,
        state: &'a ProviderState,
    ) -> Result<Option<Self>, KubernetesError> {
        let text = |key: &str| state.get(key).map(String::as_str);
        let Some((noun, name)) = text(WORKLOAD).and_then(|workload| workload.split_once('/')) else { return Ok(None) };
        let kind = if noun == Kind::Deployment.noun() { Kind::Deployment } else { Kind::StatefulSet };
        let found = cluster.get(kind, namespace, name).await?;
        let is_it = |object: &Value| object["metadata"]["uid"].as_str() == text(UID) && !is_terminating(object);
        Ok(found.filter(is_it).map(|object| Self {
            cluster,
            namespace,
            kind,
            object,
            claim: text(ADOPTED_CLAIM).unwrap_or_default(),
            container: text(CONTAINER).unwrap_or_default(),
            dropped: text(DROPPED),
        }))
    }

    fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Returns what it is, as `import` is told.
    fn words(&self) -> String {
        format!("{} {}/{}", self.kind.noun().to_lowercase(), self.namespace, self.name())
    }

    /// Returns a Pod of it that runs.
    pub(super) async fn pod(&self) -> Result<Option<String>, KubernetesError> {
        let users = users_of(self.cluster, self.namespace, self.claim).await?;
        let pod = users.iter().find(|pod| !is_terminating(pod) && pod["metadata"]["labels"][ID].is_null());
        Ok(pod.and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)))
    }

    /// Observes what runs until it is replaced.
    pub(super) async fn observe(&self) -> Result<Observation, KubernetesError> {
        let claim = self.cluster.get(Kind::Claim, self.namespace, self.claim).await?;
        let data = if claim.is_some() { DataState::Present } else { DataState::Missing };
        let users = users_of(self.cluster, self.namespace, self.claim).await?;
        let is_ready = |pod: &Value| condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
        let state = match users.iter().any(is_ready) {
            true => RunState::Running,
            false if users.is_empty() && self.object["spec"]["replicas"] == 0 => RunState::Stopped,
            false => RunState::Unready,
        };
        let mut found = vec![Observation::drift_of_taken_over(&self.words())];
        found.extend(self.dropped.map(|dropped| -> FieldDrift {
            drift("container.dropped", "none", format!("{dropped}: no key of the manifest keeps them"))
        }));
        if users.len() > 1 {
            found.push(drift("claim", "used by one Pod", format!("used by {} Pods", users.len())));
        }
        Ok(Observation { state, data, drift: found, notes: Vec::new() })
    }

    /// Ends it and leaves its claim: returns once no Pod uses that any more.
    pub(super) async fn stop(&self, progress: ProgressFn<'_>) -> Result<(), KubernetesError> {
        if let Some(tool) = Tool::of(&self.object) {
            let object = format!("the {} `{}`", self.kind.noun(), self.name());
            return Err(KubernetesError::Foreign { object, owner: tool.words() });
        }
        self.keep_claim().await?;
        progress(format!("ends the {} `{}`, whose data it goes on with", self.kind.noun(), self.name()));
        let pod = self.pod().await?;
        self.scale(0).await?;
        failpoint::hit("provider.kubernetes.predecessor_scaled_down");
        if let Some(pod) = pod {
            let place = ContainerOf { namespace: self.namespace.to_owned(), pod, container: self.container.to_owned() };
            // Convex ends in order on this signal only; without the right to send it, the kubelet kills it after a while.
            let _ = exec::run(self.cluster, &place, &["/bin/sh", "-c", "kill -INT 1"]).await;
        }
        let started = Instant::now();
        loop {
            let users = users_of(self.cluster, self.namespace, self.claim).await?;
            let Some(user) = users.iter().find(|pod| pod["metadata"]["labels"][ID].is_null()) else { return Ok(()) };
            if started.elapsed() > ENDS_WITHIN {
                let user = user["metadata"]["name"].as_str().unwrap_or_default();
                let reason = format!(
                    "the Pod `{user}` still uses the claim `{}` after {} s, and two writers would destroy its data",
                    self.claim,
                    ENDS_WITHIN.as_secs()
                );
                return Err(KubernetesError::NotReady { reason, log: Vec::new() });
            }
            sleep(INTERVAL).await;
        }
    }

    /// Makes the claim outlive the StatefulSet that made it: one may be set to delete it when it is scaled down.
    async fn keep_claim(&self) -> Result<(), KubernetesError> {
        let policy = &self.object["spec"]["persistentVolumeClaimRetentionPolicy"];
        if [&policy["whenDeleted"], &policy["whenScaled"]].into_iter().any(|when| *when == "Delete") {
            let kept = json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
            let patch = json!({ "spec": { "persistentVolumeClaimRetentionPolicy": kept } });
            self.cluster.merge(self.kind, self.namespace, self.name(), None, &patch).await?;
            failpoint::hit("provider.kubernetes.predecessor_keeps_claim");
        }
        let started = Instant::now();
        loop {
            let claim = self.cluster.get(Kind::Claim, self.namespace, self.claim).await?.unwrap_or_default();
            let owners = claim["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            let owners: Vec<&str> = owners.filter_map(|owner| owner["name"].as_str()).collect();
            if owners.is_empty() && !is_terminating(&claim) {
                return Ok(());
            }
            if started.elapsed() > CLAIM_FREE_WITHIN {
                let reason = format!("the claim `{}` would go with `{}`, which owns it", self.claim, owners.join("`, `"));
                return Err(KubernetesError::Refused { verb: "keep the data".to_owned(), reason });
            }
            sleep(INTERVAL).await;
        }
    }

    /// Starts it again, after what was to take its place did not come up. Nothing else may use its claim by then.
    pub(super) async fn start_again(&self) -> Result<(), KubernetesError> {
        self.scale(1).await
    }

    async fn scale(&self, replicas: u32) -> Result<(), KubernetesError> {
        let patch = json!({ "spec": { "replicas": replicas } });
        self.cluster.merge(self.kind, self.namespace, self.name(), None, &patch).await.map(drop)
    }

    /// Deletes it, once what took its place is ready. Its claim stays.
    pub(super) async fn delete(&self) -> Result<(), KubernetesError> {
        self.cluster.delete(self.kind, &self.object).await?;
        failpoint::hit("provider.kubernetes.predecessor_deleted");
        Ok(())
    }
}
