//! Observation of a backend in a cluster: everything that is not as it was applied, by name, and why its Pod does not run.
//! Nothing is changed.

use serde_json::Value;

use super::autoscaler::autoscalers_of;
use super::cluster::Cluster;
use super::diff::{container_differs, diff, drift};
use super::exposure::{ClusterAddress, IngressController};
use super::inventory::{Inventory, is_terminating, require_namespace};
use super::kind::Kind;
use super::labels::{ObjectNames, foreign_owner};
use super::pod::moved_image;
use super::pod_state::{PodState, last_end_of, pod_state};
use super::render::{Objects, RenderInput, claim_over, render};
use super::rollout::{is_made_from, resources_differ, warnings_of};
use super::takeover::{self, Predecessor};
use super::{ensure, identity, image, quantity, volume};
use crate::model::kubernetes::Exposure;
use crate::model::{
    CLIENT_SITE_URL, CLIENT_URL, DataState, Endpoints, FieldDrift, Observation, ResolvedBackend, RunState, UNMANAGED_PREFIX,
};
use crate::provider::ProviderError;
use crate::provider::kit::redact::Redactor;

/// Looks at a backend.
pub(super) async fn observe(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
    project: &Inventory,
) -> Result<Observation, ProviderError> {
    let names = ObjectNames::of(resolved);
    if let Some(predecessor) = Predecessor::find(cluster, namespace, &resolved.provider_state).await? {
        return Ok(predecessor.observe().await?);
    }
    let seen = takeover::with_claim(cluster, resolved, namespace, project.of(resolved)).await?;
    if seen.is_empty() {
        // Nothing in a namespace that is not there, or in another cluster, is not "absent".
        require_namespace(cluster, namespace).await?;
        identity::require_same(cluster, resolved).await?;
    }
    let objects = wanted(resolved, namespace);
    let mut drift_found = objects.as_ref().map(|objects| object_drift(resolved, objects, &seen)).unwrap_or_default();
    let template = objects.as_ref().map(|objects| &objects.stateful_set["spec"]["template"]);
    let (state, pod_drift) = run_state(cluster, resolved, namespace, &seen, template).await;
    drift_found.extend(pod_drift);
    let mut notes = notes(resolved);
    let mut data = volume::data_state(resolved, &seen);
    if data == DataState::Missing
        && let Some(kept) = volume::kept_volume(cluster, namespace, &names.claim()).await
    {
        // The next apply takes it up.
        data = DataState::Present;
        notes.push(format!("its claim is gone, and its volume `{kept}` was kept: an apply takes it up"));
    }
    if seen.get(Kind::StatefulSet, names.backend()).is_some_and(|set| set["spec"]["replicas"].as_u64() > Some(1)) {
        for scaler in autoscalers_of(cluster, namespace, Kind::StatefulSet, names.backend()).await? {
            let observed =
                format!("the HorizontalPodAutoscaler `{scaler}` scales it, and a second Pod has no claim: delete it");
            drift_found.push(drift(&format!("{UNMANAGED_PREFIX}statefulset.autoscaler"), "none", observed));
        }
    }
    if let Some(claim) = seen.get(Kind::Claim, &names.claim()) {
        drift_found.extend(claim_drift(claim));
        notes.extend(claim_alarm(resolved, claim));
        notes.extend(growth_note(claim));
    }
    for writer in takeover::other_writers(cluster, resolved, namespace).await? {
        drift_found.push(drift("claim", "used by its own Pod alone", format!("used by the Pod `{writer}` as well")));
    }
    for kind in &seen.unknown {
        notes.push(format!("the account may not list {}, so nothing is known of those", kind.plural()));
    }
    let redactor = Redactor::of(resolved);
    let drift = drift_found.iter().map(|found| redactor.redact_drift(found)).collect();
    Ok(Observation { state, data, drift, notes })
}

/// Returns how the objects differ from what was last applied.
fn object_drift(resolved: &ResolvedBackend, objects: &Objects, seen: &Inventory) -> Vec<FieldDrift> {
    let is_there = seen.all(Kind::StatefulSet).next().is_some();
    let mut found = Vec::new();
    for object in objects.all() {
        let Ok(kind) = Kind::of(object) else { continue };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = path_of(kind, object);
        match seen.get(kind, name) {
            Some(live) => {
                if let Some(owner) = foreign_owner(live, resolved) {
                    found.push(drift(&path, "made by convexinfra", format!("taken over by {owner}")));
                    continue;
                }
                if is_terminating(live) && kind != Kind::Claim {
                    found.push(drift(&path, "present", "being deleted"));
                }
                let wanted = if kind == Kind::Claim { claim_over(object, live) } else { object.clone() };
                found.extend(diff(&path, &wanted, live));
            }
            // What was never made is no drift, and neither is what is missing with everything else.
            None if seen.unknown.contains(&kind) => {}
            None if is_there || resolved.has_been_ready => found.push(drift(&path, "present", "missing")),
            None => {}
        }
    }
    for (kind, object) in seen.objects().filter(|(kind, _)| !matches!(kind, Kind::Claim | Kind::Pod | Kind::Secret)) {
        let is_wanted = objects
            .all()
            .any(|wanted| wanted["kind"] == kind.noun() && wanted["metadata"]["name"] == object["metadata"]["name"]);
        if !is_wanted && foreign_owner(object, resolved).is_none() {
            found.push(drift(&path_of(kind, object), "none", "left over"));
        }
    }
    found
}

/// Returns what the last apply made; none where a secret or an image is not at hand for a command that only observes.
fn wanted(resolved: &ResolvedBackend, namespace: &str) -> Option<Objects> {
    let mut resolved = resolved.clone();
    let state = &resolved.provider_state;
    let known = state.get(CLIENT_URL).zip(state.get(CLIENT_SITE_URL));
    let endpoints = known.map(|(url, site)| Endpoints { url: url.clone(), site_url: site.clone() });
    let address = ClusterAddress { namespace: namespace.to_owned(), ..ClusterAddress::default() };
    resolved.endpoints = address.endpoints(&resolved).or(endpoints)?;
    let images = image::images(&resolved).ok()?;
    let database_ca = ensure::database_ca(&resolved).ok()?;
    render(&resolved, &RenderInput { namespace: namespace.to_owned(), images, database_ca }).ok()
}

/// Returns what a reader calls an object.
fn path_of(kind: Kind, object: &Value) -> String {
    let is_dashboard = object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-dashboard"));
    let word = match kind {
        Kind::Secret => "secret",
        Kind::Claim => "claim",
        Kind::Service => "service",
        Kind::StatefulSet => "statefulset",
        Kind::Deployment => "deployment",
        Kind::Ingress => "ingress",
        Kind::NetworkPolicy => "networkpolicy",
        Kind::HttpRoute => "httproute",
        other => other.noun(),
    };
    if is_dashboard { format!("dashboard.{word}") } else { word.to_owned() }
}

/// Returns whether the backend runs, and why it does not.
async fn run_state(
    cluster: &Cluster,
    resolved: &ResolvedBackend,
    namespace: &str,
    seen: &Inventory,
    template: Option<&Value>,
) -> (RunState, Vec<FieldDrift>) {
    let names = ObjectNames::of(resolved);
    let set = seen.get(Kind::StatefulSet, names.backend());
    let Some(pod) = seen.pod() else {
        let Some(set) = set else { return (RunState::Absent, Vec::new()) };
        if set["spec"]["replicas"].as_u64() == Some(0) {
            return (RunState::Stopped, Vec::new());
        }
        let warned = warnings_of(cluster, namespace, Kind::StatefulSet, names.backend()).await;
        let why = warned.last().cloned().unwrap_or("absent".to_owned());
        return (RunState::Unready, vec![drift("pod", "running", why)]);
    };
    let mut found = Vec::new();
    if let Some(template) = template {
        if !is_made_from(pod, template) {
            found.push(drift("pod", "made from its template", "made from another one"));
        } else if container_differs(template, pod) {
            found.push(drift("pod", "as in its template", "started with something else"));
        } else if resources_differ(template, pod) {
            found.push(drift("pod.resources", "as in its template", "other amounts"));
        }
    }
    if let Some((before, now)) = moved_image(pod, &resolved.provider_state) {
        found.push(drift("pod.image_digest", before, now));
    }
    let extra = seen.all(Kind::Pod).filter(|other| {
        other["metadata"]["name"] != pod["metadata"]["name"] && other["metadata"]["labels"] == pod["metadata"]["labels"]
    });
    for other in extra {
        let name = other["metadata"]["name"].as_str().unwrap_or_default();
        found.push(drift("pod", "one", format!("two: also {name}")));
    }
    match pod_state(pod) {
        PodState::Ready => return (RunState::Running, found),
        PodState::Waiting(why) | PodState::Stuck(why) => {
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let warned = warnings_of(cluster, namespace, Kind::Pod, pod_name).await;
            let why = match (warned.last(), last_end_of(pod)) {
                (Some(warning), _) if !why.contains(warning.as_str()) => format!("{why}; last event: {warning}"),
                _ => why,
            };
            if resolved.has_been_ready {
                found.push(drift("pod", "ready", why));
            }
        }
    }
    (RunState::Unready, found)
}

/// Returns the alarm of a claim that is being deleted under its Pod, or has lost its volume.
fn claim_drift(claim: &Value) -> Option<FieldDrift> {
    if is_terminating(claim) {
        let observed = "being deleted, and gone when the Pod ends: an apply has its volume outlive it, where the account may, and takes \
                        it up again with a restart; where it may not, export the data now with `npx convex export`";
        return Some(drift("claim", "kept", observed));
    }
    (claim["status"]["phase"] == "Lost").then(|| drift("claim", "bound to its volume", "its volume is gone"))
}

/// Says that data is about to be lost, and what saves it.
fn claim_alarm(resolved: &ResolvedBackend, claim: &Value) -> Option<String> {
    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
    is_terminating(claim).then(|| {
        format!(
            "ALARM: the claim `{name}` of `{}` is being deleted, and its data may go with it when its Pod ends; save it with\n    \
             convexinfra apply",
            resolved.name
        )
    })
}

/// Says that a volume is not as large as was asked for yet.
fn growth_note(claim: &Value) -> Option<String> {
    let asked = claim["spec"]["resources"]["requests"]["storage"].as_str()?;
    let has = claim["status"]["capacity"]["storage"].as_str()?;
    let is_smaller = quantity::milli(has)? < quantity::milli(asked)?;
    is_smaller
        .then(|| format!("its volume has {has} of the {asked} that it is to grow to; the storage class does that when it can"))
}

/// Returns what has to be done elsewhere before clients reach a backend.
fn notes(resolved: &ResolvedBackend) -> Vec<String> {
    let settings = &resolved.spec.settings.kubernetes;
    match settings.expose {
        Exposure::PortForward => {
            vec![format!("its URL answers while this runs: convexinfra forward {}", resolved.name)]
        }
        Exposure::ClusterIp => vec!["its URL answers inside the cluster only".to_owned()],
        Exposure::Ingress => {
            let controller = IngressController::of_class(settings.ingress_class.as_deref());
            controller.remark().map(str::to_owned).into_iter().collect()
        }
        Exposure::NodePort | Exposure::LoadBalancer | Exposure::Gateway => Vec::new(),
    }
}
