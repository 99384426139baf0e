//! A Pod in a real cluster, as the contract of all drivers wants it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use convexinfra::model::{BackendId, BackendSpec, ProjectName, ProviderKind, ResolvedBackend};
use convexinfra::provider::Provider;
use convexinfra::provider::kubernetes::Kubernetes;
use serde_json::Value;

use crate::kubernetes_rig::{BACKEND, Cluster, Project};
use crate::promises::ContractFixture;
use crate::provider_world::{placement, ports};

/// What a namespace has of a backend. What is in its Secrets is for the backend only.
const READABLE: &str = "statefulsets,pods,services,persistentvolumeclaims";

pub(super) struct PodFixture {
    project: Project,
    provider: Kubernetes,
    placement: ResolvedBackend,
    folder: tempfile::TempDir,
}

impl PodFixture {
    pub(super) fn new(cluster: &'static Cluster) -> Self {
        let project = Project::new(cluster, "");
        let mut spec = BackendSpec::new(ProviderKind::Kubernetes);
        spec.settings.kubernetes.image = Some(BACKEND.to_owned());
        spec.settings.kubernetes.namespace = Some(project.name.clone());
        let mut placement = placement(spec, ports());
        placement.id = BackendId::new(project.name.chars().rev().collect::<String>());
        placement.project = ProjectName::parse(&project.name).unwrap();
        let provider =
            Kubernetes::new().with_kubeconfig(PathBuf::from(cluster.kubeconfig())).with_ready_within(Duration::from_secs(300));
        Self { project, provider, placement, folder: tempfile::tempdir().unwrap() }
    }

    /// Returns the name of the StatefulSet and of its Service.
    fn name(&self) -> String {
        let id: String = self.placement.id.as_str().chars().take(6).collect();
        format!("{}-{id}", self.placement.instance_name)
    }
}

impl ContractFixture for PodFixture {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn unreachable_provider(&self) -> Box<dyn Provider> {
        let path = self.folder.path().join("config");
        let config = "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
                      clusters: [{ name: x, cluster: { server: 'https://127.0.0.1:1' } }]\n\
                      contexts: [{ name: x, context: { cluster: x, user: x } }]\n\
                      users: [{ name: x, user: { token: x } }]\n";
        std::fs::write(&path, config).unwrap();
        Box::new(Kubernetes::new().with_kubeconfig(path))
    }

    fn resolved(&mut self) -> &mut ResolvedBackend {
        &mut self.placement
    }

    fn inventory(&self) -> Vec<String> {
        let kinds = ["statefulset", "pod", "service", "secret", "persistentvolumeclaim"];
        let listed = kinds.iter().flat_map(|kind| self.project.get(kind).into_iter().map(move |object| (*kind, object)));
        // What is going goes by itself.
        let staying = listed.filter(|(_, object)| object["metadata"]["deletionTimestamp"].is_null());
        staying.map(|(kind, object)| format!("{kind} {}", text(&object["metadata"]["name"]))).collect()
    }

    async fn kill(&mut self) {
        // A Pod alone would be started again at once.
        self.project.kubectl(&["scale", &format!("statefulset/{}", self.name()), "--replicas=0"]);
        self.project.kubectl(&["wait", "--for=delete", &format!("pod/{}-0", self.name()), "--timeout=300s"]);
    }

    fn mark_data(&self) {
        self.project.shell("echo kept > /convex/data/mark");
    }

    fn has_mark(&self) -> bool {
        self.project.shell("cat /convex/data/mark") == "kept"
    }

    async fn add_foreign(&self) -> String {
        self.project.kubectl(&["create", "service", "clusterip", &self.name(), "--tcp=80"]);
        format!("service {}", self.name())
    }

    fn readable_texts(&self) -> Vec<String> {
        vec![self.project.kubectl(&["get", READABLE, "-o", "json"])]
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
