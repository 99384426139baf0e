//! Changes by hand: each is found by its name, and put right by an apply.

use crate::cluster_or_skip;
use crate::commands::ONE;
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
