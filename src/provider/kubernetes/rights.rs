//! The rights that a driver needs in a namespace: as a Role for the administrator who grants them, and as questions to the API server.

use serde_json::{Value, json};

use super::cluster::{Cluster, Run};
use super::error::KubernetesError;
use super::kind::Kind;
use crate::model::BackendSpec;
use crate::model::kubernetes::Exposure;

/// What may be done with objects that are ours to keep.
const KEEP: [&str; 5] = ["get", "list", "create", "patch", "delete"];

/// One rule: resources of a group, and what may be done with them.
struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// The rules of every backend.
const RULES: [Rule; 6] = [
    Rule { group: "", resources: &["secrets", "services", "persistentvolumeclaims"], verbs: &KEEP },
    Rule { group: "apps", resources: &["statefulsets", "deployments"], verbs: &KEEP },
    Rule { group: "networking.k8s.io", resources: &["ingresses", "networkpolicies"], verbs: &KEEP },
    Rule { group: "", resources: &["pods"], verbs: &["get", "list", "delete"] },
    Rule { group: "", resources: &["pods/log", "events", "resourcequotas"], verbs: &["get", "list"] },
    // The way of this program to a backend goes through the API server.
    Rule { group: "", resources: &["pods/portforward"], verbs: &["get", "create"] },
];
/// The rules that some clusters or some backends do without.
const OPTIONAL: [Rule; 2] = [
    Rule { group: "gateway.networking.k8s.io", resources: &["httproutes"], verbs: &KEEP },
    Rule { group: "", resources: &["pods/resize"], verbs: &["patch"] },
];

/// Returns the least Role that the provider works with, as YAML that can be applied.
pub fn role_text(namespace: &str) -> String {
    super::yaml::documents(&[role(namespace)]).unwrap_or_default()
}

/// Returns the least Role that the provider works with, as an object of the API.
fn role(namespace: &str) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .chain(&OPTIONAL)
        .map(|rule| json!({ "apiGroups": [rule.group], "resources": rule.resources, "verbs": rule.verbs }))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": "convexinfra", "namespace": namespace },
        "rules": rules,
    })
}

/// Asks the API server for every right that a backend needs, and returns those that are missing; nothing where it does not
/// say.
pub(super) async fn missing(cluster: &Cluster, namespace: &str, spec: &BackendSpec) -> Result<Vec<String>, KubernetesError> {
    let expose = spec.settings.kubernetes.expose;
    let is_needed = |resource: &str| match resource {
        "deployments" => spec.dashboard,
        "ingresses" => expose == Exposure::Ingress,
        "networkpolicies" => spec.settings.kubernetes.network_policy,
        "httproutes" => expose == Exposure::Gateway,
        "pods/resize" | "resourcequotas" => false,
        _ => true,
    };
    let questions = RULES.iter().chain(&OPTIONAL).flat_map(|rule| {
        let resources = rule.resources.iter().copied().filter(|resource| is_needed(resource));
        resources.flat_map(move |resource| rule.verbs.iter().map(move |verb| (rule.group, resource, *verb)))
    });
    let ask = |(group, resource, verb): (&'static str, &'static str, &'static str)| async move {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = json!({
            "group": group, "namespace": namespace, "resource": resource, "subresource": subresource, "verb": verb,
        });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let answer = cluster.post(Kind::AccessReview, "", &review, Run::Real).await?;
        let name = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        Ok((answer["status"]["allowed"] == json!(false)).then(|| format!("{verb} {name}")))
    };
    let answers: Vec<Result<Option<String>, KubernetesError>> = futures_util::future::join_all(questions.map(ask)).await;
    answers.into_iter().filter_map(Result::transpose).collect()
}
