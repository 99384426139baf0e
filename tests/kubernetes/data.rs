//! What happens to data: a claim that is kept, one that is deleted under its Pod, and one that is gone.

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::rig::Project;
use fixture::wait_until;

#[test]
fn a_claim_that_was_kept_is_taken_up() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.shell("echo kept > /convex/data/mark");
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev", "--keep-data"]);
    wait_until("only the claim is left", || project.everything().len() == 1);
    assert_eq!(project.get("persistentvolumeclaims").len(), 1);
    project.world.apply();
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    project.world.assert_converged();
}

#[test]
fn a_claim_that_is_deleted_under_its_pod_is_an_alarm_and_an_apply_saves_its_volume() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.shell("echo kept > /convex/data/mark");
    let claim = project.name_of("persistentvolumeclaims");
    project.kubectl(&["delete", "persistentvolumeclaim", &claim, "--wait=false"]);
    assert_eq!(project.drift(), ["claim"]);
    assert!(project.world.run(&["status"]).out.contains("is being deleted"), "{}", project.world.run(&["status"]));
    project.world.apply();
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    project.world.assert_converged();
}

#[test]
fn a_claim_that_was_deleted_by_hand_takes_no_data_along() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.shell("echo kept > /convex/data/mark");
    project.world.run_expecting(0, &["stop", "dev"]);
    let claim = project.one("persistentvolumeclaims");
    let volume = claim["spec"]["volumeName"].as_str().unwrap();
    project.kubectl(&["delete", "persistentvolumeclaim", claim["metadata"]["name"].as_str().unwrap()]);
    wait_until("the volume is kept", || {
        project.cluster.kubectl(&["get", "pv", volume, "-o", "jsonpath={.status.phase}"]) == "Released"
    });
    project.world.run_expecting(0, &["start", "dev"]);
    project.until_ready();
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    project.world.assert_converged();
    // Its removal is what takes the data away.
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    wait_until("the volume is gone", || project.cluster.try_kubectl(&["get", "pv", volume]).is_err());
}

#[test]
fn data_that_was_destroyed_is_not_taken_up_where_the_class_keeps_volumes() {
    let project = Project::new(cluster_or_skip!(), "");
    let class = format!("{}-keeps", project.name);
    let object = serde_json::json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": class },
        "provisioner": "kubernetes.io/host-path",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    project.world.write("class.json", &object.to_string());
    project.cluster.kubectl(&["create", "-f", project.world.folder.join("class.json").to_str().unwrap()]);
    project.manifest(&ONE.replace("PLACE", &format!("PLACE\nstorage_class = \"{class}\"")));
    project.world.apply();
    project.shell("echo given up > /convex/data/mark");
    let volume = project.one("persistentvolumeclaims")["spec"]["volumeName"].as_str().unwrap().to_owned();
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    wait_until("the claim is gone", || project.get("persistentvolumeclaims").is_empty());
    project.world.apply();
    assert_eq!(project.shell("ls /convex/data/mark 2>/dev/null || echo none"), "none");
    project.world.assert_converged();
    // The class says that it stays, and so it does.
    assert_eq!(project.cluster.kubectl(&["get", "pv", &volume, "-o", "jsonpath={.status.phase}"]), "Released");
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    project.cluster.kubectl(&["delete", "storageclass", &class]);
}

#[test]
fn a_claim_that_is_gone_with_its_volume_is_never_made_anew() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.world.run_expecting(0, &["stop", "dev"]);
    let claim = project.one("persistentvolumeclaims");
    let volume = claim["spec"]["volumeName"].as_str().unwrap();
    project.kubectl(&["delete", "persistentvolumeclaim", claim["metadata"]["name"].as_str().unwrap()]);
    project.cluster.kubectl(&["delete", "pv", volume]);
    let run = project.world.run_expecting(4, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors(), ["plan.data_missing"], "{run}");
    assert!(project.get("persistentvolumeclaims").is_empty());
}

#[test]
fn a_namespace_that_is_gone_is_not_absent() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.cluster.kubectl(&["delete", "namespace", &project.name]);
    let run = project.world.run(&["status", "--json"]);
    let status = run.document();
    assert_eq!(status["backends"][0]["state"], "unknown", "{run}");
}

/// A control plane that has lost its records makes no second backend beside the one that is there.
#[test]
fn a_backend_without_a_record_is_found_in_its_namespace() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.world.run_expecting(0, &["forget", "dev", "--yes"]);
    let run = project.world.run(&["apply", "--yes"]);
    assert!(run.code() != 0 && run.err.contains(&project.name_of("statefulsets")), "{run}");
    assert_eq!(project.get("statefulsets").len(), 1);
}
