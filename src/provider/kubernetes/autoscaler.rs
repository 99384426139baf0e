//! Autoscalers: what changes the number of Pods of a workload. A backend is one Pod, so none of them belongs on one.

use serde_json::Value;

use super::cluster::Cluster;
use super::error::KubernetesError;
use super::kind::Kind;

/// Names the autoscalers of a workload; none where the account may not look.
pub(super) async fn autoscalers_of(
    cluster: &Cluster,
    namespace: &str,
    kind: Kind,
    name: &str,
) -> Result<Vec<String>, KubernetesError> {
    match cluster.list(Kind::Autoscaler, namespace, "").await {
        Ok(all) => Ok(named(&all, kind, name)),
        Err(KubernetesError::Forbidden { .. } | KubernetesError::Refused { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn named(all: &[Value], kind: Kind, name: &str) -> Vec<String> {
    let scales = |scaler: &&Value| {
        let target = &scaler["spec"]["scaleTargetRef"];
        target["kind"] == kind.noun() && target["name"] == name
    };
    all.iter().filter(scales).filter_map(|scaler| scaler["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_autoscaler_is_known_by_what_it_scales() {
        let scaler = |name: &str, kind: &str, target: &str| json!({ "metadata": { "name": name }, "spec": { "scaleTargetRef": { "kind": kind, "name": target } } });
        let all = [scaler("a", "StatefulSet", "shop"), scaler("b", "Deployment", "shop"), scaler("c", "StatefulSet", "other")];
        assert_eq!(named(&all, Kind::StatefulSet, "shop"), ["a"]);
        assert_eq!(named(&all, Kind::Deployment, "shop"), ["b"]);
        assert!(named(&all, Kind::Deployment, "other").is_empty());
    }
}
