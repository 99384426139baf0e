//! Changes by hand: each is found by its name, and put right by an apply.

use fixture::wait_until;

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::foresight::put;
use crate::rig::{BACKEND_TWO, Project};

/// Makes a change, and checks that it is found and put right.
fn repaired(project: &Project, path: &str, change: &[&str]) {
    project.kubectl(change);
    let drift = project.drift();
    assert!(drift.iter().any(|found| found.starts_with(path)), "{change:?}: {drift:?}");
    project.world.apply();
    project.world.assert_converged();
    assert_eq!(project.drift(), Vec::<String>::new(), "{change:?}");
}

#[test]
fn every_change_by_hand_is_found_and_put_right() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    let set = project.name_of("statefulsets");
    let set_path = format!("statefulset/{set}");
    let image = format!("backend={BACKEND_TWO}");
    let secret = project.name_of("secrets");
    repaired(&project, "statefulset.replicas", &["scale", &set_path, "--replicas=0"]);
    repaired(&project, "statefulset.replicas", &["scale", &set_path, "--replicas=2"]);
    repaired(&project, "statefulset.containers.backend.image", &["set", "image", &set_path, &image]);
    repaired(
        &project,
        "statefulset.containers.backend.resources",
        &["set", "resources", &set_path, "--limits=cpu=150m", "--requests=cpu=150m"],
    );
    repaired(&project, "statefulset.containers.backend.env.NO_COLOR", &["set", "env", &set_path, "NO_COLOR=0"]);
    let grace = r#"{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":1}}}}"#;
    repaired(&project, "statefulset.terminationGracePeriodSeconds", &["patch", &set_path, "-p", grace]);
    let strategy = r#"{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}"#;
    repaired(&project, "statefulset.updateStrategy.type", &["patch", &set_path, "-p", strategy]);
    // The numbers of ports tell the items of a list apart, so a changed one is another item to the server.
    let ports = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/ports/0/containerPort","value":9999}]"#;
    repaired(&project, "statefulset.containers.backend.ports", &["patch", &set_path, "--type=json", "-p", ports]);
    let probe = r#"[{"op":"remove","path":"/spec/template/spec/containers/0/readinessProbe"}]"#;
    repaired(&project, "statefulset.containers.backend.readinessProbe", &["patch", &set_path, "--type=json", "-p", probe]);
    let hook = r#"[{"op":"remove","path":"/spec/template/spec/containers/0/lifecycle"}]"#;
    repaired(&project, "statefulset.containers.backend.lifecycle", &["patch", &set_path, "--type=json", "-p", hook]);
    let writable =
        r#"[{"op":"replace","path":"/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem","value":false}]"#;
    repaired(&project, "statefulset.containers.backend.securityContext", &["patch", &set_path, "--type=json", "-p", writable]);
    let service = format!("service/{set}");
    let port = r#"[{"op":"replace","path":"/spec/ports/0/port","value":9999}]"#;
    repaired(&project, "service.ports.api", &["patch", &service, "--type=json", "-p", port]);
    repaired(&project, "service.type", &["patch", &service, "-p", r#"{"spec":{"type":"NodePort"}}"#]);
    let selector = r#"{"spec":{"selector":{"convexinfra/role":"nobody"}}}"#;
    repaired(&project, "service.selector", &["patch", &service, "-p", selector]);
    repaired(&project, "service.labels", &["label", &service, "app.kubernetes.io/part-of-"]);
    let claim = format!("persistentvolumeclaim/{set}-data");
    repaired(&project, "claim.labels", &["label", &claim, "--overwrite", "app.kubernetes.io/name=other"]);
    repaired(&project, "service", &["delete", "service", &set]);
    repaired(&project, "secret.data", &["patch", "secret", &secret, "-p", r#"{"data":{"launch":"aGk="}}"#]);
    repaired(&project, "secret", &["delete", "secret", &secret]);
    repaired(&project, "statefulset", &["delete", &set_path]);
}

#[test]
fn what_others_add_is_named_and_left() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    let set = format!("statefulset/{}", project.name_of("statefulsets"));
    project.kubectl(&["set", "env", &set, "TOKEN=hunter2"]);
    assert_eq!(project.drift(), ["foreign.statefulset.containers.backend.env.TOKEN"]);
    let run = project.world.run(&["drift"]);
    assert!(!run.out.contains("hunter2") && !run.err.contains("hunter2"), "{run}");
    project.kubectl(&["set", "env", &set, "TOKEN-"]);
    assert_eq!(project.drift(), Vec::<String>::new());
}

#[test]
fn an_autoscaler_is_named() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    let set = project.name_of("statefulsets");
    let scaler = serde_json::json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "eager" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set }, "minReplicas": 2, "maxReplicas": 3,
        },
    });
    put(&project, &scaler.to_string());
    wait_until("it scales", || project.one("statefulsets")["spec"]["replicas"] == 2);
    let run = project.world.run_expecting(3, &["drift"]);
    assert!(run.out.contains("the HorizontalPodAutoscaler `eager`"), "{run}");
    project.kubectl(&["delete", "hpa", "eager"]);
    project.world.apply();
    wait_until("one Pod is left", || project.get("pods").len() == 1);
    project.world.assert_converged();
}

#[test]
fn another_build_under_the_same_name_is_drift() {
    let cluster = cluster_or_skip!();
    let image = "docker.io/convexinfra-test/backend:moving";
    cluster.load(image, "");
    let project = Project::new(cluster, "");
    project.manifest(&ONE.replace("PLACE", &format!("namespace = \"{}\"\nimage = \"{image}\"", project.name)));
    project.world.apply();
    project.world.assert_converged();
    // Another build of it lies on the node, which the next Pod is made of.
    cluster.load(image, "another");
    project.kubectl(&["delete", "pod", &project.name_of("pods")]);
    project.until_ready();
    assert_eq!(project.drift(), ["pod.image_digest"]);
    project.world.apply();
    project.world.assert_converged();
}
