//! Bringing a backend up: objects in an order in which nothing waits for what comes after it, then the Pod, then what is left
//! over.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Run};
use super::error::KubernetesError;
use super::exposure::{ClusterAddress, inside_ports, service};
use super::inventory::{Inventory, is_terminating, require_namespace};
use super::kind::Kind;
use super::labels::{ObjectNames, foreign_owner};
use super::pod_state::condition;
use super::render::{Objects, RenderInput, claim_over, render};
use super::rollout::{ENDS_WITHIN, Rollout};
use super::takeover::{self, Predecessor};
use super::volume::Retention;
use super::{identity, image, pod, rollback, volume};
use crate::failpoint;
use crate::model::kubernetes::Exposure;
use crate::model::{CLIENT_SITE_URL, CLIENT_URL, INTERNAL_URL, ProviderState, ResolvedBackend, Tls};
use crate::provider::{ProgressFn, ProviderError};

/// How long a load balancer may take to give an address.
const BALANCER_WITHIN: Duration = Duration::from_secs(180);
/// The most bytes of a file of certificates.
const CERTIFICATES_MAX: u64 = 256 << 10;

/// One backend that is brought up.
pub(super) struct Ensure<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) ready_within: Duration,
    pub(super) progress: ProgressFn<'a>,
}

impl Ensure<'_> {
    /// Brings a backend up and returns what is to be remembered of it.
    pub(super) async fn run(&self, resolved: &ResolvedBackend) -> Result<ProviderState, ProviderError> {
        let names = ObjectNames::of(resolved);
        self.ensure_namespace(resolved).await?;
        let mut seen = takeover::inventory(self.cluster, resolved, self.namespace).await?;
        if seen.is_empty() {
            require_namespace(self.cluster, self.namespace).await?;
            identity::require_same(self.cluster, resolved).await?;
        }
        if let Some(claim) = seen.get(Kind::Claim, &names.claim()).filter(|claim| is_terminating(claim)) {
            self.save_volume(claim, seen.pod()).await?;
            seen = takeover::inventory(self.cluster, resolved, self.namespace).await?;
        }
        volume::guard_claim(self.cluster, resolved, self.namespace, &seen).await?;
        let images = image::images(resolved)?;
        // The cluster says where clients reach it, and the backend has to know that when it starts.
        let wanted = service(resolved, self.namespace);
        require_ours(self.cluster, self.namespace, resolved, &seen, &wanted).await?;
        let applied = self.put(&wanted).await?;
        failpoint::hit("provider.kubernetes.service_applied");
        let endpoints = self.endpoints(resolved, applied).await?;
        let resolved = &ResolvedBackend { endpoints, ..resolved.clone() };
        let input = RenderInput { namespace: self.namespace.to_owned(), images, database_ca: database_ca(resolved)? };
        let objects = render(resolved, &input)?;
        for object in objects.all() {
            require_ours(self.cluster, self.namespace, resolved, &seen, object).await?;
        }
        let predecessor = Predecessor::find(self.cluster, self.namespace, &resolved.provider_state).await?;
        let pod = self.apply_all(resolved, &objects, &seen, predecessor.as_ref()).await?;
        self.prune(resolved, &objects, &seen).await?;
        self.keep_volume(resolved, &names).await?;
        let mut state = ProviderState::new();
        pod::note_image(&pod, &mut state);
        image::copy_commit(resolved, &mut state);
        takeover::copy_claim(&resolved.provider_state, &mut state);
        identity::record(self.cluster, &mut state).await;
        state.insert("namespace".to_owned(), self.namespace.to_owned());
        let port = inside_ports(resolved).api;
        state.insert(INTERNAL_URL.to_owned(), format!("http://{}.{}.svc:{port}", names.backend(), self.namespace));
        if resolved.spec.settings.kubernetes.expose != Exposure::PortForward {
            state.insert(CLIENT_URL.to_owned(), resolved.endpoints.url.clone());
            state.insert(CLIENT_SITE_URL.to_owned(), resolved.endpoints.site_url.clone());
        }
        Ok(state)
    }

    /// Ends the Pod of a claim that is being deleted, once its volume is known to outlive it, and waits until the volume can be
    /// taken up again.
    async fn save_volume(&self, claim: &Value, pod: Option<&Value>) -> Result<(), KubernetesError> {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        let retention = volume::retain_volume(self.cluster, claim).await;
        if !matches!(retention, Retention::Kept(_)) {
            return Err(KubernetesError::ClaimTerminating { claim: name.to_owned(), volume: retention.words() });
        }
        failpoint::hit("provider.kubernetes.volume_saved");
        (self.progress)(format!("the claim `{name}` is being deleted: ends its Pod, and takes its volume up again"));
        if let Some(pod) = pod {
            self.cluster.delete(Kind::Pod, pod).await?;
        }
        let started = Instant::now();
        while self.cluster.get(Kind::Claim, self.namespace, name).await?.is_some_and(|claim| is_terminating(&claim))
            || volume::kept_volume(self.cluster, self.namespace, name).await.is_none()
        {
            if started.elapsed() > ENDS_WITHIN {
                let reason = format!("the claim `{name}` is being deleted and has not gone within {} s", ENDS_WITHIN.as_secs());
                return Err(KubernetesError::NotReady { reason, log: Vec::new() });
            }
            sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }

    /// Makes the volume of the backend outlive its claim, where the account may: a claim that is deleted by hand takes no data
    /// along then. A plan says where it may not.
    async fn keep_volume(&self, resolved: &ResolvedBackend, names: &ObjectNames) -> Result<(), KubernetesError> {
        if volume::keeps_data(resolved)
            && let Some(claim) = self.cluster.get(Kind::Claim, self.namespace, &names.claim()).await?
        {
            volume::retain_volume(self.cluster, &claim).await;
            failpoint::hit("provider.kubernetes.volume_kept");
        }
        Ok(())
    }

    async fn ensure_namespace(&self, resolved: &ResolvedBackend) -> Result<(), KubernetesError> {
        if !resolved.spec.settings.kubernetes.create_namespace {
            return Ok(());
        }
        // A namespace that others made stays as it is.
        if self.cluster.get(Kind::Namespace, "", self.namespace).await?.is_none() {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.namespace } });
            self.cluster.apply(&object, Run::Real).await?;
            failpoint::hit("provider.kubernetes.namespace_made");
        }
        Ok(())
    }

    /// Returns where clients reach the backend.
    async fn endpoints(
        &self,
        resolved: &ResolvedBackend,
        mut service: Value,
    ) -> Result<crate::model::Endpoints, KubernetesError> {
        let expose = resolved.spec.settings.kubernetes.expose;
        let deadline = Instant::now() + BALANCER_WITHIN;
        loop {
            let mut address = ClusterAddress::of_service(self.namespace, &service);
            if expose == Exposure::NodePort && resolved.spec.origins.api.is_none() {
                address.node = Some(self.node_address().await?);
            }
            if let Some(endpoints) = address.endpoints(resolved) {
                return Ok(endpoints);
            }
            if expose != Exposure::LoadBalancer || Instant::now() > deadline {
                let reason = match expose {
                    Exposure::LoadBalancer => format!(
                        "no load balancer has given the Service an address within {} s; clusters without one never do",
                        BALANCER_WITHIN.as_secs()
                    ),
                    _ => format!("`expose = \"{expose}\"` needs `origins`"),
                };
                return Err(KubernetesError::NoAddress { reason });
            }
            (self.progress)("waits for an address of the load balancer".to_owned());
            sleep(Duration::from_secs(1)).await;
            let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            service = self.cluster.get(Kind::Service, self.namespace, &name).await?.unwrap_or_default();
        }
    }

    async fn node_address(&self) -> Result<String, KubernetesError> {
        let nodes = self.cluster.list(Kind::Node, "", "").await.map_err(|error| KubernetesError::NoAddress {
            reason: format!("the addresses of nodes cannot be read ({error}); name one in `origins`"),
        })?;
        let ready = nodes.iter().filter(|node| condition(node, "Ready").is_some_and(|ready| ready["status"] == "True"));
        let addresses: Vec<&Value> = ready.filter_map(|node| node["status"]["addresses"].as_array()).flatten().collect();
        ["ExternalIP", "InternalIP"]
            .into_iter()
            .find_map(|kind| addresses.iter().find(|address| address["type"] == kind))
            .and_then(|address| address["address"].as_str().map(str::to_owned))
            .ok_or_else(|| KubernetesError::NoAddress { reason: "no node that is ready has an address".to_owned() })
    }

    /// Applies everything, and waits for the Pod.
    async fn apply_all(
        &self,
        resolved: &ResolvedBackend,
        objects: &Objects,
        seen: &Inventory,
        predecessor: Option<&Predecessor<'_>>,
    ) -> Result<Value, ProviderError> {
        let names = &ObjectNames::of(resolved);
        self.put(&objects.secret).await?;
        failpoint::hit("provider.kubernetes.secret_applied");
        let claim = match seen.get(Kind::Claim, &names.claim()) {
            Some(live) => claim_over(&objects.claim, live),
            None => volume::claim_of_kept_volume(self.cluster, &objects.claim).await?,
        };
        self.put(&claim).await?;
        failpoint::hit("provider.kubernetes.claim_applied");
        if let Some(policy) = &objects.network_policy {
            self.put(policy).await?;
        }
        let pod = match predecessor {
            Some(predecessor) => self.take_over(resolved, objects, predecessor).await?,
            None => {
                self.require_one_writer(resolved).await?;
                self.roll_out(objects, names, rollback::template(seen, names, &objects.stateful_set)).await?
            }
        };
        failpoint::hit("provider.kubernetes.rolled_out");
        for object in objects.dashboard.iter().chain(&objects.ingress).chain(&objects.routes) {
            self.put(object).await?;
        }
        Ok(pod)
    }

    /// Puts the StatefulSet into the place of what was there before; starts that again where its Pod does not become ready.
    async fn take_over(
        &self,
        resolved: &ResolvedBackend,
        objects: &Objects,
        predecessor: &Predecessor<'_>,
    ) -> Result<Value, ProviderError> {
        let names = &ObjectNames::of(resolved);
        let rollout = self.rollout(names);
        let done = async {
            predecessor.stop(self.progress).await?;
            failpoint::hit("provider.kubernetes.predecessor_stopped");
            self.require_one_writer(resolved).await?;
            self.put(&objects.stateful_set).await?;
            failpoint::hit("provider.kubernetes.stateful_set_applied");
            rollout.run(&objects.stateful_set["spec"]["template"]).await
        };
        match done.await {
            Ok(pod) => {
                predecessor.delete().await?;
                Ok(pod)
            }
            Err(KubernetesError::NotReady { reason, log }) => {
                (self.progress)(format!("goes back to what ran before: {reason}"));
                if self.cluster.get(Kind::StatefulSet, self.namespace, names.backend()).await?.is_some() {
                    let none = json!({ "spec": { "replicas": 0 } });
                    self.cluster.merge(Kind::StatefulSet, self.namespace, names.backend(), None, &none).await?;
                    rollout.wait_until_gone(ENDS_WITHIN).await?;
                }
                predecessor.start_again().await?;
                Err(ProviderError::NotReplaced { reason, log })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses to start a Pod beside another one that writes to its claim.
    async fn require_one_writer(&self, resolved: &ResolvedBackend) -> Result<(), KubernetesError> {
        match takeover::other_writers(self.cluster, resolved, self.namespace).await?.first() {
            None => Ok(()),
            Some(writer) => Err(KubernetesError::SecondWriter {
                claim: ObjectNames::of(resolved).claim(),
                pod: writer.clone(),
                namespace: self.namespace.to_owned(),
            }),
        }
    }

    fn rollout<'a>(&'a self, names: &'a ObjectNames) -> Rollout<'a> {
        Rollout {
            cluster: self.cluster,
            namespace: self.namespace,
            names,
            ready_within: self.ready_within,
            progress: self.progress,
        }
    }

    /// Applies the StatefulSet and waits for its Pod; rolls back to the template from before where that does not become ready.
    async fn roll_out(&self, objects: &Objects, names: &ObjectNames, before: Option<Value>) -> Result<Value, ProviderError> {
        let rollout = self.rollout(names);
        let wanted = &objects.stateful_set;
        let Some(before) = before else {
            self.put(wanted).await?;
            failpoint::hit("provider.kubernetes.stateful_set_applied");
            return Ok(rollout.run(&wanted["spec"]["template"]).await?);
        };
        // Noted in the StatefulSet itself, so that the next run rolls back as well where this one is killed.
        self.put(&rollback::noted(wanted, &before)).await?;
        failpoint::hit("provider.kubernetes.stateful_set_applied");
        match rollout.run(&wanted["spec"]["template"]).await {
            Ok(pod) => {
                failpoint::hit("provider.kubernetes.rolled_forward");
                self.put(wanted).await?;
                Ok(pod)
            }
            Err(KubernetesError::NotReady { reason, log }) => {
                (self.progress)(format!("goes back to what ran before: {reason}"));
                let mut old = wanted.clone();
                old["spec"]["template"] = before.clone();
                self.put(&rollback::noted(&old, &before)).await?;
                failpoint::hit("provider.kubernetes.rolled_back");
                rollout.run(&before).await?;
                self.put(&old).await?;
                Err(ProviderError::NotReplaced { reason, log })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Applies one object.
    async fn put(&self, object: &Value) -> Result<Value, KubernetesError> {
        match self.cluster.apply(object, Run::Real).await {
            Err(error) if is_changed_key(&error) => {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let patch = json!({ "spec": object["spec"] });
                self.cluster.merge(Kind::of(object)?, text("namespace"), text("name"), None, &patch).await?;
                self.cluster.apply(object, Run::Real).await
            }
            answer => answer,
        }
    }

    /// Removes what belongs to the backend and is not wanted any more. Never a claim.
    async fn prune(&self, resolved: &ResolvedBackend, objects: &Objects, seen: &Inventory) -> Result<(), KubernetesError> {
        let wanted: Vec<(Kind, String)> = objects
            .all()
            .filter_map(|object| Some((Kind::of(object).ok()?, object["metadata"]["name"].as_str()?.to_owned())))
            .collect();
        for (kind, object) in seen.objects().filter(|(kind, _)| !matches!(kind, Kind::Claim | Kind::Pod)) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let is_wanted = wanted.iter().any(|(known, wanted)| *known == kind && wanted == name);
            if !is_wanted && foreign_owner(object, resolved).is_none() {
                self.cluster.delete(kind, object).await?;
            }
        }
        Ok(())
    }
}

/// Refuses an object of this name that is not ours.
pub(super) async fn require_ours(
    cluster: &Cluster,
    namespace: &str,
    resolved: &ResolvedBackend,
    seen: &Inventory,
    wanted: &Value,
) -> Result<(), KubernetesError> {
    let kind = Kind::of(wanted)?;
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let found = match seen.get(kind, name) {
        Some(object) => Some(object.clone()),
        // Without our labels it would not have been listed.
        None => cluster.get(kind, namespace, name).await?,
    };
    match found.and_then(|object| foreign_owner(&object, resolved)) {
        Some(owner) => Err(KubernetesError::Foreign {
            object: format!("the {} `{name}` in the namespace `{namespace}`", kind.noun()),
            owner,
        }),
        None => Ok(()),
    }
}

/// Whether an apply was refused because the number of a port was changed by hand: to the server that is another item of the list,
/// with a name that is taken. The list as a whole is replaced then.
pub(super) fn is_changed_key(error: &KubernetesError) -> bool {
    matches!(error, KubernetesError::Refused { reason, .. } if reason.contains("Duplicate value"))
}

/// Returns the certificates that a backend checks its database server with: those that came along, or those of a file here.
pub(super) fn database_ca(resolved: &ResolvedBackend) -> Result<Option<Vec<u8>>, ProviderError> {
    let path = match resolved.spec.storage.server().map(|server| &server.tls) {
        Some(Tls::Pem(certificates)) => return Ok(Some(certificates.as_str().as_bytes().to_vec())),
        Some(Tls::Ca(path)) => path,
        Some(Tls::Verify | Tls::Disable | Tls::Sealed(_)) | None => return Ok(None),
    };
    crate::system::read_regular(std::path::Path::new(path.as_str()), CERTIFICATES_MAX)
        .map(Some)
        .map_err(std::io::Error::from)
        .map_err(|source| ProviderError::File { path: path.clone(), verb: "read", source })
}
