//! What a plan says before anything is made: room, admission, and what the account may not see.

use fixture::wait_until;

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::rig::{Cluster, Project};

/// Plans, and checks that the plan refuses with this code and these words, and that nothing was made.
fn refused(project: &Project, code: &str, words: &str) {
    let run = project.world.run_expecting(4, &["plan", "--json"]);
    let document = run.document();
    let refusal = &document["refusals"][0];
    assert_eq!(refusal["code"], code, "{run}");
    assert!(refusal["message"].as_str().unwrap().contains(words), "{run}");
    assert_eq!(project.get("statefulsets").len(), project.get("pods").len());
}

fn lints(project: &Project) -> Vec<String> {
    let document = project.world.run(&["plan", "--json"]).document();
    let lints = document["lints"].as_array().cloned().unwrap_or_default();
    let codes = lints.iter().map(|lint| lint["code"].as_str().unwrap().to_owned());
    codes.filter(|code| code.starts_with("kubernetes.")).collect()
}

/// Applies an object of the whole cluster or of a namespace.
pub(crate) fn put(project: &Project, object: &str) {
    project.world.write("object.json", object);
    project.kubectl(&["apply", "-f", project.world.folder.join("object.json").to_str().unwrap()]);
}

#[test]
fn a_quota_that_is_used_up_is_told_by_the_plan() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.kubectl(&["create", "quota", "small", "--hard=limits.memory=64Mi"]);
    refused(&project, "kubernetes.refused", "exceeded quota: small");
    project.kubectl(&["delete", "quota", "small"]);
    // What runs is replaced, so a quota that it fills does not stand in the way of the same amount.
    project.kubectl(&["create", "quota", "full", "--hard=limits.memory=128Mi,limits.cpu=1"]);
    project.world.apply();
    project.world.assert_converged();
    project.manifest(&ONE.replace("128 MiB", "160 MiB"));
    refused(&project, "kubernetes.no_room", "exceeded quota: full");
    project.manifest(&ONE.replace("cpus = 0.2", "cpus = 0.25"));
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn admission_is_told_by_the_plan_in_its_own_words() {
    let project = Project::new(cluster_or_skip!(), ONE);
    let label = "pod-security.kubernetes.io/enforce";
    project.cluster.kubectl(&["label", "namespace", &project.name, &format!("{label}=restricted")]);
    refused(&project, "kubernetes.refused", "violates PodSecurity \"restricted");
    project.cluster.kubectl(&["label", "namespace", &project.name, &format!("{label}-")]);
    let range = r#"{"apiVersion":"v1","kind":"LimitRange","metadata":{"name":"tiny"},
        "spec":{"limits":[{"type":"Container","max":{"memory":"64Mi"}},{"type":"PersistentVolumeClaim","max":{"storage":"2Gi"}}]}}"#;
    put(&project, range);
    refused(&project, "kubernetes.refused", "maximum memory usage per Container is 64Mi");
    project.manifest(&ONE.replace("1 GiB", "3 GiB").replace("128 MiB", "64 MiB"));
    refused(&project, "kubernetes.refused", "maximum storage usage per PersistentVolumeClaim is 2Gi");
    project.kubectl(&["delete", "limitrange", "tiny"]);
    project.manifest(ONE);
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn a_policy_and_a_dead_webhook_are_told_by_the_plan() {
    let project = Project::new(cluster_or_skip!(), ONE);
    let webhook = format!(
        r#"{{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{{"name":"{name}"}},
        "webhooks":[{{"name":"dead.test.invalid","admissionReviewVersions":["v1"],"sideEffects":"None","failurePolicy":"Fail","timeoutSeconds":1,
        "clientConfig":{{"url":"https://127.0.0.1:9/"}},
        "namespaceSelector":{{"matchLabels":{{"kubernetes.io/metadata.name":"{name}"}}}},
        "rules":[{{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["statefulsets"]}}]}}]}}"#,
        name = project.name
    );
    put(&project, &webhook);
    refused(&project, "kubernetes.refused", "failed calling webhook");
    project.cluster.kubectl(&["delete", "validatingwebhookconfiguration", &project.name]);
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn a_storage_class_and_a_namespace_that_are_not_there_are_told_by_the_plan() {
    let project = Project::new(cluster_or_skip!(), &format!("{ONE}storage_class = \"none\"\n"));
    refused(&project, "kubernetes.no_room", "no storage class `none`; it has `standard`");
    project.manifest(&ONE.replace("PLACE", "namespace = \"not-there\"\nIMAGE"));
    refused(&project, "kubernetes.namespace_missing", "`not-there` does not exist");
    project.manifest(&ONE.replace("PLACE", "namespace = \"not-there\"\ncreate_namespace = true\nIMAGE"));
    project.world.run_expecting(0, &["plan"]);
}

#[test]
fn a_pod_that_no_node_has_room_for_is_a_warning() {
    let project = Project::new(cluster_or_skip!(), &ONE.replace("cpus = 0.2", "cpus = 500"));
    assert_eq!(lints(&project), ["kubernetes.no_node"]);
    project.manifest(ONE);
    assert_eq!(lints(&project), Vec::<String>::new());
}

#[test]
fn no_cluster_is_not_known_and_refuses_no_plan() {
    let cluster: &Cluster = cluster_or_skip!();
    let mut project = Project::new(cluster, ONE);
    project.world.set("KUBECONFIG", "/nonexistent/config");
    assert_eq!(lints(&project), ["kubernetes.unseen"]);
}

#[test]
fn what_fits_alone_and_not_together_is_told_by_the_plan() {
    let two = format!("{ONE}{}", ONE.replace("backends.dev", "backends.two"));
    let project = Project::new(cluster_or_skip!(), &two);
    project.kubectl(&["create", "quota", "team", "--hard=limits.memory=200Mi,persistentvolumeclaims=5"]);
    refused(&project, "plan.no_room", "`dev`, `two` together need 256 MiB of limits.memory, and the quota `team`");
    project.kubectl(&["delete", "quota", "team"]);
    project.kubectl(&["create", "quota", "team", "--hard=limits.memory=256Mi,limits.cpu=1"]);
    project.world.apply();
    // What runs is replaced, so it counts as far as it grows.
    project.manifest(&two.replace("128 MiB", "192 MiB"));
    project.kubectl(&["delete", "quota", "team"]);
    project.kubectl(&["create", "quota", "team", "--hard=limits.memory=340Mi,limits.cpu=1"]);
    wait_until("the quota is counted", || {
        project.kubectl(&["get", "quota", "team", "-o", "jsonpath={.status.used.limits\\.memory}"]) == "256Mi"
    });
    refused(&project, "plan.no_room", "together need 128 MiB of limits.memory, and the quota `team`");
    // All nodes together are told as a warning: there may be more of them.
    project.kubectl(&["delete", "quota", "team"]);
    project.manifest(&two.replace("cpus = 0.2", "cpus = 1.6").replace("128 MiB", "192 MiB"));
    assert!(project.world.run_expecting(0, &["plan"]).out.contains("all nodes of the cluster together"));
}
