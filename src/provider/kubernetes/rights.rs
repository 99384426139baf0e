//! The rights that a driver needs in a namespace: as a Role for the administrator who grants them, and as questions to the API server.

use std::collections::BTreeMap;

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
const RULES: [Rule; 7] = [
    Rule { group: "", resources: &["secrets", "services", "persistentvolumeclaims"], verbs: &KEEP },
    Rule { group: "apps", resources: &["statefulsets", "deployments"], verbs: &KEEP },
    Rule { group: "networking.k8s.io", resources: &["ingresses", "networkpolicies"], verbs: &KEEP },
    Rule { group: "", resources: &["pods"], verbs: &["get", "list", "delete"] },
    Rule { group: "", resources: &["pods/log"], verbs: &["get"] },
    Rule { group: "", resources: &["events", "resourcequotas"], verbs: &["list"] },
    // The way of this program to a backend goes through the API server.
    Rule { group: "", resources: &["pods/portforward"], verbs: &["get", "create"] },
];
/// The rules that some clusters or some backends do without.
const OPTIONAL: [Rule; 6] = [
    Rule { group: "gateway.networking.k8s.io", resources: &["httproutes"], verbs: &KEEP },
    Rule { group: "", resources: &["pods/resize"], verbs: &["patch"] },
    // Admission looks at a Pod as a trial only: who may create a StatefulSet has Pods anyway.
    Rule { group: "", resources: &["pods"], verbs: &["create"] },
    // An import reads variables there, and ends the Pod that it takes over in order.
    Rule { group: "", resources: &["configmaps"], verbs: &["get"] },
    Rule { group: "", resources: &["pods/exec"], verbs: &["get", "create"] },
    // What scales a backend is named.
    Rule { group: "autoscaling", resources: &["horizontalpodautoscalers"], verbs: &["list"] },
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

/// A right that an account lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
}

impl Right {
    fn attributes(self, namespace: &str) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        json!({
            "group": self.group, "namespace": namespace, "resource": resource, "subresource": subresource, "verb": self.verb,
        })
    }
}

/// The right to make volumes outlive their claims, in the whole cluster.
pub(super) const KEEP_VOLUMES: Right = Right { group: "", resource: "persistentvolumes", verb: "patch" };

/// Asks the API server whether the account has a right.
pub(super) async fn has(cluster: &Cluster, namespace: &str, right: Right) -> Result<bool, KubernetesError> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": right.attributes(namespace) },
    });
    let answer = cluster.post(Kind::AccessReview, "", &review, Run::Real).await?;
    Ok(answer["status"]["allowed"] != json!(false))
}

/// Returns the rights that a backend needs.
pub(super) fn needs(spec: &BackendSpec) -> Vec<Right> {
    let expose = spec.settings.kubernetes.expose;
    let is_needed = |resource: &str| match resource {
        "deployments" => spec.dashboard,
        "ingresses" => expose == Exposure::Ingress,
        "networkpolicies" => spec.settings.kubernetes.network_policy,
        "httproutes" => expose == Exposure::Gateway,
        "resourcequotas" => false,
        _ => true,
    };
    let gateway = OPTIONAL.iter().filter(|rule| rule.resources == ["httproutes"]);
    let rights = RULES.iter().chain(gateway).flat_map(|rule| {
        let resources = rule.resources.iter().copied().filter(|resource| is_needed(resource));
        resources.flat_map(move |resource| rule.verbs.iter().map(move |verb| Right { group: rule.group, resource, verb }))
    });
    rights.collect()
}

/// Asks the API server for each of these rights, and returns those that are missing; none where it does not say.
pub(super) async fn missing(cluster: &Cluster, namespace: &str, needs: &[Right]) -> Result<Vec<Right>, KubernetesError> {
    let ask = |right: Right| async move { Ok((!has(cluster, namespace, right).await?).then_some(right)) };
    let answers: Vec<Result<Option<Right>, KubernetesError>> =
        futures_util::future::join_all(needs.iter().copied().map(ask)).await;
    answers.into_iter().filter_map(Result::transpose).collect()
}

/// Returns rights as rules of a Role, one a line.
pub(super) fn rules_text(rights: &[Right]) -> String {
    let mut verbs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for right in rights {
        verbs.entry((right.group, right.resource)).or_default().push(right.verb);
    }
    let rule = |((group, resource), verbs): ((&str, &str), Vec<&str>)| {
        format!("- {{ apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{}\"] }}", verbs.join("\", \""))
    };
    verbs.into_iter().map(rule).collect::<Vec<_>>().join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_rules_that_can_be_added() {
        let right = |group, resource, verb| Right { group, resource, verb };
        let rights =
            [right("apps", "statefulsets", "create"), right("", "secrets", "get"), right("apps", "statefulsets", "patch")];
        assert_eq!(
            rules_text(&rights),
            "- { apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"get\"] }\n    \
             - { apiGroups: [\"apps\"], resources: [\"statefulsets\"], verbs: [\"create\", \"patch\"] }"
        );
    }
}
