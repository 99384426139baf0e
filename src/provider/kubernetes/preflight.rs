//! What a cluster would say to a backend, asked before anything of it is made or replaced: rights, room, and the server's own
//! trial of every object and of the Pod. Nothing is changed.

use serde_json::{Value, json};

use super::cluster::{Cluster, Run};
use super::ensure::{database_ca, is_changed_key, require_ours};
use super::error::KubernetesError;
use super::exposure::ClusterAddress;
use super::hosts::shared_hosts;
use super::inventory::{Inventory, is_terminating};
use super::kind::Kind;
use super::labels::ADOPTED_CLAIM;
use super::pod_state::{PodState, pod_state};
use super::render::{Objects, RenderInput, claim_over, render};
use super::rights::{self, Right};
use super::{fit, image, takeover};
use crate::convex::image::{API_PORT, SITE_PORT};
use crate::model::{BackendId, Diagnostic, PortPair, ResolvedBackend, STORAGE_URL};
use crate::provider::kit::redact::Redactor;
use crate::provider::{PlaceFindings, ProviderError};

/// The identity of a backend that has none yet.
const PREVIEW: &str = "preview";
/// A place that stands for the one that only the cluster gives.
const SOME_ADDRESS: &str = "192.0.2.1";

/// Asks a cluster what it would refuse of a backend.
pub(super) async fn look(cluster: &Cluster, resolved: &ResolvedBackend, namespace: &str, missing: &[Right]) -> PlaceFindings {
    let mut look = Look {
        cluster,
        namespace,
        resolved: named(resolved),
        found: PlaceFindings::default(),
        nodes: Vec::new(),
        quotas: Vec::new(),
    };
    if !missing.is_empty() {
        // Without them the trials would say nothing else.
        look.refuse(&KubernetesError::RightsMissing { namespace: namespace.to_owned(), rules: rights::rules_text(missing) });
    } else if let Err(error) = look.run().await {
        look.not_seen(&error);
    }
    redacted(look.found, &Redactor::of(resolved))
}

/// Returns what could not be seen, because there is no cluster to ask.
pub(super) fn unseen(error: &KubernetesError) -> PlaceFindings {
    match error {
        KubernetesError::ContextRefused { .. } => {
            PlaceFindings { refusals: vec![diagnostic(error)], ..PlaceFindings::default() }
        }
        _ => PlaceFindings { notes: vec![not_seen(error)], ..PlaceFindings::default() },
    }
}

struct Look<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    resolved: ResolvedBackend,
    found: PlaceFindings,
    /// What the account sees of the room that all backends share.
    nodes: Vec<Value>,
    quotas: Vec<Value>,
}

impl Look<'_> {
    async fn run(&mut self) -> Result<(), KubernetesError> {
        if !self.has_namespace().await? {
            return Ok(());
        }
        let seen = takeover::inventory(self.cluster, &self.resolved, self.namespace).await?;
        let Some(objects) = self.objects() else { return Ok(()) };
        self.look_for_room(&objects, &seen).await?;
        self.look_for_shared_hosts(&objects).await?;
        self.try_objects(&objects, &seen).await;
        Ok(())
    }

    /// Whether there is a namespace to try anything in. Where the account may not look, the trial says it.
    async fn has_namespace(&mut self) -> Result<bool, KubernetesError> {
        let namespace = self.namespace.to_owned();
        match self.cluster.get(Kind::Namespace, "", &namespace).await {
            Ok(Some(found)) if is_terminating(&found) => {
                let reason = format!("the namespace `{namespace}` is being deleted");
                self.refuse(&KubernetesError::NoRoom { reason });
                Ok(false)
            }
            Ok(None) if self.resolved.spec.settings.kubernetes.create_namespace => Ok(false),
            Ok(None) => {
                self.refuse(&KubernetesError::NamespaceMissing { namespace });
                Ok(false)
            }
            Ok(Some(_)) | Err(KubernetesError::Forbidden { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Returns the objects of the backend, as far as they are known before the cluster has given it an address.
    fn objects(&mut self) -> Option<Objects> {
        let resolved = &self.resolved;
        // A secret that is not at hand is told by the plan itself.
        if resolved.spec.has_own_server() && !resolved.secrets.keys().any(|path| path.as_str() == STORAGE_URL) {
            return None;
        }
        let made = image::images(resolved).and_then(|images| {
            let input = RenderInput { namespace: self.namespace.to_owned(), images, database_ca: database_ca(resolved)? };
            render(resolved, &input)
        });
        match made {
            Ok(objects) => Some(objects),
            Err(error @ ProviderError::Unsupported(_)) => {
                self.found.refusals.push(Diagnostic::new(error.code(), error.to_string()));
                None
            }
            // What cannot be read or found out here, an apply tells.
            Err(_) => None,
        }
    }

    async fn look_for_room(&mut self, objects: &Objects, seen: &Inventory) -> Result<(), KubernetesError> {
        let template = &objects.stateful_set["spec"]["template"];
        let mut unknown = Vec::new();
        match known(self.cluster.list(Kind::Node, "", "").await)? {
            Some(nodes) => {
                let short = fit::no_node(template, &nodes).map(|text| Diagnostic::new("kubernetes.no_node", text));
                self.found.notes.extend(short);
                self.nodes = nodes;
            }
            None => unknown.push("nodes"),
        }
        self.quotas = known(self.cluster.list(Kind::Quota, self.namespace, "").await)?.unwrap_or_default();
        if let Some(pod) = seen.pod()
            && let Some(reason) = fit::over_quota(template, pod, &self.quotas)
        {
            self.refuse(&KubernetesError::NoRoom { reason });
        }
        if seen.all(Kind::Claim).next().is_some() {
            return Ok(());
        }
        match known(self.cluster.list(Kind::StorageClass, "", "").await)? {
            Some(classes) => match fit::storage_class(&objects.claim, &classes) {
                Ok(class) => self.look_at_reclaiming(class).await?,
                Err(reason) => self.refuse(&KubernetesError::NoRoom { reason }),
            },
            None => unknown.push("storage classes"),
        }
        if !unknown.is_empty() {
            let message =
                format!("the account may not see {}, so whether it fits there shows when it is made", unknown.join(" or "));
            self.found.notes.push(Diagnostic::new("kubernetes.room_unknown", message));
        }
        Ok(())
    }

    /// Notes what else of the namespace answers for a host of the backend.
    async fn look_for_shared_hosts(&mut self, objects: &Objects) -> Result<(), KubernetesError> {
        for kind in [Kind::Ingress, Kind::HttpRoute] {
            let own: Vec<&Value> = objects.all().filter(|object| object["kind"] == kind.noun()).collect();
            if !own.is_empty()
                && let Ok(others) = self.cluster.list(kind, self.namespace, "").await
            {
                // The items of a list do not say their kind.
                let others: Vec<Value> = others.into_iter().map(|other| kind.named(other)).collect();
                self.found.notes.extend(shared_hosts(own.into_iter(), &others, self.resolved.id.as_str()));
            }
        }
        Ok(())
    }

    /// Notes a volume that the account cannot make outlive its claim.
    async fn look_at_reclaiming(&mut self, class: &Value) -> Result<(), KubernetesError> {
        let is_deleted = class["reclaimPolicy"].as_str().unwrap_or("Delete") == "Delete";
        if is_deleted && !rights::has(self.cluster, "", rights::KEEP_VOLUMES).await? {
            let name = class["metadata"]["name"].as_str().unwrap_or_default();
            let message = format!(
                "volumes of the storage class `{name}` are deleted with their claim, and the account may not change that: who deletes \
                 the claim by hand deletes the data"
            );
            self.found.notes.push(Diagnostic::new("kubernetes.volume_not_kept", message));
        }
        Ok(())
    }

    /// Has the server try every object, and the Pod that would be made of them.
    async fn try_objects(&mut self, objects: &Objects, seen: &Inventory) {
        let tries = objects.all().filter_map(|object| {
            let live = seen.get(Kind::Claim, object["metadata"]["name"].as_str().unwrap_or_default());
            match live.filter(|_| object["kind"] == "PersistentVolumeClaim") {
                // What comes of it is an alarm of its own.
                Some(live) if is_terminating(live) => None,
                Some(live) => Some(claim_over(object, live)),
                None => Some(object.clone()),
            }
        });
        let (cluster, namespace, resolved) = (self.cluster, self.namespace, &self.resolved);
        let attempt = |object: Value| async move {
            require_ours(cluster, namespace, resolved, seen, &object).await?;
            match cluster.apply(&object, Run::Dry).await {
                // An apply replaces such a list.
                Err(error) if is_changed_key(&error) => Ok(Value::Null),
                answer => answer,
            }
        };
        let answers = futures_util::future::join_all(tries.map(attempt)).await;
        let pod = pod_of(&objects.stateful_set, self.namespace);
        let tried = self.cluster.post(Kind::Pod, self.namespace, &pod, Run::Dry).await;
        let is_running = seen.pod().is_some_and(|pod| pod_state(pod) == PodState::Ready);
        for error in answers.into_iter().filter_map(Result::err) {
            self.judge(&error, false);
        }
        let claim = Some(&objects.claim).filter(|_| seen.all(Kind::Claim).next().is_none());
        let made = tried.as_ref().unwrap_or(&pod);
        self.found.room = fit::Demand { pod: made, running: seen.pod(), claim }.room(namespace, &self.quotas, &self.nodes);
        match tried {
            Ok(made) => self.found.notes.extend(given_limits(&pod, &made)),
            // A quota counts the Pod that it would replace as well.
            Err(error) => self.judge(&error, is_running),
        }
    }

    /// Refuses what the server refused, and notes what it could not say.
    fn judge(&mut self, error: &KubernetesError, replaces: bool) {
        match error {
            // A webhook that has no trial, and an account that may not try, say nothing about the object.
            KubernetesError::Refused { reason, .. } if reason.contains("does not support dry run") => self.not_seen(error),
            KubernetesError::Refused { reason, .. } if replaces && reason.contains("exceeded quota") => {}
            KubernetesError::Refused { .. } | KubernetesError::Foreign { .. } | KubernetesError::NamespaceMissing { .. } => {
                self.refuse(error);
            }
            KubernetesError::Forbidden { .. } => {}
            _ => self.not_seen(error),
        }
    }

    fn refuse(&mut self, error: &KubernetesError) {
        let refusal = diagnostic(error);
        // A Pod and its StatefulSet are often refused for one reason.
        if !self.found.refusals.contains(&refusal) {
            self.found.refusals.push(refusal);
        }
    }

    fn not_seen(&mut self, error: &KubernetesError) {
        let note = not_seen(error);
        if !self.found.notes.contains(&note) {
            self.found.notes.push(note);
        }
    }
}

/// Returns a backend with what every object has to have, where it is not there yet.
fn named(resolved: &ResolvedBackend) -> ResolvedBackend {
    let mut resolved = resolved.clone();
    if resolved.ports.api == 0 {
        resolved.id = BackendId::new(PREVIEW);
        // A claim that was retained belongs to the identity that it gets back.
        resolved.provider_state.remove(ADOPTED_CLAIM);
        resolved.ports = PortPair { api: API_PORT, site: SITE_PORT };
    }
    let address = ClusterAddress {
        namespace: "preview".to_owned(),
        node: Some(SOME_ADDRESS.to_owned()),
        node_ports: Some(PortPair { api: 30000, site: 30001 }),
        balancer: Some(SOME_ADDRESS.to_owned()),
    };
    if resolved.endpoints.url.is_empty()
        && let Some(endpoints) = address.endpoints(&resolved)
    {
        resolved.endpoints = endpoints;
    }
    resolved
}

/// Returns the Pod that a StatefulSet would make.
fn pod_of(stateful_set: &Value, namespace: &str) -> Value {
    let template = &stateful_set["spec"]["template"];
    let name = stateful_set["metadata"]["name"].as_str().unwrap_or_default();
    let mut metadata = template["metadata"].clone();
    metadata["generateName"] = json!(format!("{name}-"));
    metadata["namespace"] = json!(namespace);
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}

/// Says which limits a namespace gives a Pod that asks for none.
fn given_limits(asked: &Value, made: &Value) -> Option<Diagnostic> {
    let limits = |pod: &Value| pod["spec"]["containers"][0]["resources"]["limits"].clone();
    let (asked, made) = (limits(asked), limits(made));
    let given: Vec<String> = made
        .as_object()?
        .iter()
        .filter(|(name, _)| asked[name.as_str()].is_null())
        .map(|(name, amount)| format!("{name} {}", amount.as_str().unwrap_or_default()))
        .collect();
    (!given.is_empty()).then(|| {
        let message = format!("a LimitRange of the namespace limits it to {}, as `resources` names none", given.join(" and "));
        Diagnostic::new("kubernetes.limits_given", message)
    })
}

/// Returns what an account sees; none where it may not look.
fn known(answer: Result<Vec<Value>, KubernetesError>) -> Result<Option<Vec<Value>>, KubernetesError> {
    match answer {
        Ok(items) => Ok(Some(items)),
        Err(KubernetesError::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn diagnostic(error: &KubernetesError) -> Diagnostic {
    let refusal = Diagnostic::new(error.code(), error.to_string());
    match error.help() {
        Some(help) => refusal.with_help(help),
        None => refusal,
    }
}

fn not_seen(error: &KubernetesError) -> Diagnostic {
    Diagnostic::new("kubernetes.unseen", format!("what the cluster says to it is not known before it is made: {error}"))
}

fn redacted(mut found: PlaceFindings, redactor: &Redactor) -> PlaceFindings {
    for finding in found.refusals.iter_mut().chain(&mut found.notes) {
        finding.message = redactor.redact(&finding.message);
    }
    found
}
