//! Rollout: brings the one Pod of a StatefulSet to its template, in place where only resources differ, by a restart otherwise.
//!
//! The StatefulSet replaces no Pod by itself, so what runs is ended here, once the template is what it should be. Must not do:
//! change a template.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::diff::container_differs;
use super::error::KubernetesError;
use super::inventory::is_terminating;
use super::kind::Kind;
use super::labels::{FINGERPRINT, ObjectNames};
use super::logs;
use super::pod::CONTAINER;
use super::pod_state::{PodState, condition, pod_state, warnings};
use super::quantity;
use crate::failpoint;
use crate::provider::ProgressFn;

/// How often a Pod is looked at.
const INTERVAL: Duration = Duration::from_millis(300);
/// How long a Pod may take to end: its own time at most, and something for the node.
pub(super) const ENDS_WITHIN: Duration = Duration::from_secs(400);
/// How long a Pod may be missing before what keeps it from being made counts.
const MISSING_FOR: Duration = Duration::from_secs(8);

/// Where a Pod is brought to its template.
pub(super) struct Rollout<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) names: &'a ObjectNames,
    pub(super) ready_within: Duration,
    pub(super) progress: ProgressFn<'a>,
}

impl Rollout<'_> {
    /// Waits until the Pod is what the template says and ready, and returns it.
    ///
    /// # Errors
    /// [`KubernetesError::NotReady`] says why it does not become ready.
    pub(super) async fn run(&self, template: &Value) -> Result<Value, KubernetesError> {
        let (started, name) = (Instant::now(), self.names.pod());
        let (mut restarted, mut resized, mut told) = (false, false, String::new());
        let mut missing_since = None;
        loop {
            let state = match self.cluster.get(Kind::Pod, self.namespace, &name).await? {
                None => {
                    let since = *missing_since.get_or_insert_with(Instant::now);
                    self.why_missing(since.elapsed()).await?
                }
                Some(pod) if is_terminating(&pod) => PodState::Waiting("the Pod from before is ending".to_owned()),
                // What kept it from running may be gone since, and the kubelet's pauses grow to minutes.
                Some(pod) if !is_made_from(&pod, template) || (!restarted && needs_restart(template, &pod)) => {
                    (self.progress)("restarts its Pod".to_owned());
                    self.cluster.delete(Kind::Pod, &pod).await?;
                    failpoint::hit("provider.kubernetes.pod_deleted");
                    PodState::Waiting("the Pod from before is ending".to_owned())
                }
                Some(pod) if !resized && resources_differ(template, &pod) => {
                    resized = true;
                    self.resize(template, &pod).await?;
                    PodState::Waiting("its Pod is given other resources".to_owned())
                }
                Some(pod) => match (resize_state(&pod), pod_state(&pod)) {
                    (Some(pending), PodState::Ready) => PodState::Waiting(pending),
                    (None, PodState::Ready) => return Ok(pod),
                    (_, other) => other,
                },
            };
            restarted = true;
            let (reason, is_final) = match state {
                PodState::Stuck(reason) => (reason, true),
                PodState::Waiting(reason) => (reason, started.elapsed() > self.ready_within),
                PodState::Ready => return Ok(Value::Null),
            };
            if is_final {
                return Err(self.not_ready(reason).await);
            }
            if told != reason {
                (self.progress)(reason.clone());
                told = reason;
            }
            sleep(INTERVAL).await;
        }
    }

    /// Waits until the Pod is gone.
    pub(super) async fn wait_until_gone(&self, within: Duration) -> Result<(), KubernetesError> {
        let started = Instant::now();
        while let Some(pod) = self.cluster.get(Kind::Pod, self.namespace, &self.names.pod()).await? {
            if started.elapsed() > within {
                let holders = pod["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let holders: Vec<&str> = holders.collect();
                let held = if holders.is_empty() { String::new() } else { format!(", held by {}", holders.join(", ")) };
                let reason = format!("its Pod has not ended within {} s{held}", within.as_secs());
                return Err(KubernetesError::NotReady { reason, log: Vec::new() });
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Returns why there is no Pod: a refusal is told in an event only.
    async fn why_missing(&self, missing_for: Duration) -> Result<PodState, KubernetesError> {
        let waiting = || PodState::Waiting("its Pod has not been made yet".to_owned());
        if missing_for < MISSING_FOR {
            return Ok(waiting());
        }
        let warned = warnings_of(self.cluster, self.namespace, Kind::StatefulSet, self.names.backend()).await;
        Ok(warned.last().map_or_else(waiting, |warning| PodState::Stuck(warning.clone())))
    }

    async fn not_ready(&self, reason: String) -> KubernetesError {
        let pod = self.names.pod();
        let warned = warnings_of(self.cluster, self.namespace, Kind::Pod, &pod).await;
        let reason = match warned.last().filter(|warning| !reason.contains(warning.as_str())) {
            Some(warning) => format!("{reason}; last event: {warning}"),
            None => reason,
        };
        KubernetesError::NotReady { reason, log: logs::last_lines(self.cluster, self.namespace, &pod).await }
    }

    /// Gives a running Pod other resources; restarts it where that cannot be done.
    async fn resize(&self, template: &Value, pod: &Value) -> Result<(), KubernetesError> {
        let resources = &template["spec"]["containers"][0]["resources"];
        let patch = json!({ "spec": { "containers": [{ "name": CONTAINER, "resources": resources }] } });
        let resized = self.cluster.merge(Kind::Pod, self.namespace, &self.names.pod(), Some("resize"), &patch).await;
        match resized {
            Ok(_) => failpoint::hit("provider.kubernetes.resized"),
            // An old server, another class of service, a node that is full, or an account without this right.
            Err(KubernetesError::Refused { reason, .. } | KubernetesError::Forbidden { reason, .. }) => {
                (self.progress)(format!("restarts its Pod, because it cannot be resized in place: {reason}"));
                self.cluster.delete(Kind::Pod, pod).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Returns what warnings say about an object; nothing where events cannot be read.
pub(super) async fn warnings_of(cluster: &Cluster, namespace: &str, kind: Kind, name: &str) -> Vec<String> {
    let fields = format!("involvedObject.kind={},involvedObject.name={name}", kind.noun());
    let events = cluster.list_by(Kind::Event, namespace, &[("fieldSelector", &fields)]).await;
    warnings(&events.unwrap_or_default())
}

/// Whether a Pod that was there before is of no use: it runs something else than its template says, or does not run.
fn needs_restart(template: &Value, pod: &Value) -> bool {
    container_differs(template, pod) || matches!(pod_state(pod), PodState::Stuck(_))
}

/// Whether a Pod was made from a template, or from one that differs in resources alone.
pub(super) fn is_made_from(pod: &Value, template: &Value) -> bool {
    let fingerprint = |object: &Value| object["metadata"]["annotations"][FINGERPRINT].clone();
    fingerprint(pod) == fingerprint(template) && !fingerprint(pod).is_null()
}

/// Whether a Pod has other resources than its template.
pub(super) fn resources_differ(template: &Value, pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let Some(seen) = containers.into_iter().find(|container| container["name"] == CONTAINER) else { return false };
    let wanted = &template["spec"]["containers"][0]["resources"];
    ["limits", "requests"].into_iter().any(|part| {
        let amounts = wanted[part].as_object().into_iter().flatten();
        amounts.into_iter().any(|(name, amount)| {
            let seen = seen["resources"][part][name].as_str().unwrap_or_default();
            !quantity::equal(amount.as_str().unwrap_or_default(), seen)
        })
    })
}

/// Returns what a resize in place waits for.
fn resize_state(pod: &Value) -> Option<String> {
    let pending = condition(pod, "PodResizePending").or(condition(pod, "PodResizeInProgress"))?;
    let message = pending["message"].as_str().filter(|message| !message.is_empty());
    Some(format!("its resize is not done: {}", message.or(pending["reason"].as_str()).unwrap_or("in progress")))
}
