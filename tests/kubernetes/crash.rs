//! The command killed at every point of the provider: the next run converges, and nothing is there twice.

use std::collections::BTreeSet;
use std::fs;

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::import::with_hand_written;
use crate::rig::{BACKEND, BACKEND_TWO, BROKEN, Cluster, Project};

#[derive(Clone, Copy, Debug)]
enum Story {
    First,
    Update,
    Takeover,
    Destroy,
}

impl Story {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::First | Self::Update | Self::Takeover => &["apply", "--yes"],
            Self::Destroy => &["destroy", "--yes", "--allow-destroy", "dev"],
        }
    }

    fn project(self, cluster: &'static Cluster) -> Project {
        if matches!(self, Self::Takeover) {
            let project = with_hand_written(cluster);
            project.world.run_expecting(0, &["import", "dev", "--statefulset", &format!("{}/convex", project.name)]);
            return project;
        }
        let project = Project::new(cluster, ONE);
        if matches!(self, Self::Update | Self::Destroy) {
            project.world.apply();
        }
        if matches!(self, Self::Update) {
            project.shell("echo kept > /convex/data/mark");
            let place = format!("namespace = \"{}\"\nimage = \"{BACKEND_TWO}\"", project.name);
            project.manifest(&ONE.replace("PLACE", &place).replace("cpus = 0.2", "cpus = 0.25"));
        }
        project
    }
}

fn survives_every_point(story: Story) {
    let cluster = cluster_or_skip!();
    let mut project = story.project(cluster);
    let trace = project.world.root().join("trace");
    project.world.set("CONVEXINFRA_FAULT_TRACE", trace.to_str().unwrap());
    project.world.run_expecting(0, story.words());
    let text = fs::read_to_string(&trace).unwrap();
    let points: BTreeSet<&str> = text.lines().filter(|name| name.starts_with("provider.kubernetes.")).collect();
    assert!(points.len() >= 2, "{story:?}: {points:?}");
    for point in points {
        let mut project = story.project(cluster);
        project.world.set("CONVEXINFRA_FAULT", &format!("{point}:1"));
        let killed = project.world.run(story.words());
        assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
        project.world.unset("CONVEXINFRA_FAULT");
        project.world.run_expecting(0, story.words());
        match story {
            Story::First | Story::Update | Story::Takeover => {
                project.world.assert_converged();
                for kind in ["statefulsets", "pods", "persistentvolumeclaims"] {
                    project.one(kind);
                }
                // What led to it before is left.
                let left = usize::from(matches!(story, Story::Takeover));
                for kind in ["services", "secrets"] {
                    assert_eq!(project.get(kind).len(), 1 + left, "{point}: {kind}");
                }
                if matches!(story, Story::Update | Story::Takeover) {
                    assert_eq!(project.shell("cat /convex/data/mark"), "kept", "{point}");
                }
            }
            Story::Destroy => fixture::wait_until("everything is gone", || project.everything().is_empty()),
        }
    }
}

#[test]
fn a_first_apply_survives_every_point() {
    survives_every_point(Story::First);
}

#[test]
fn an_update_survives_every_point() {
    survives_every_point(Story::Update);
}

#[test]
fn a_takeover_survives_every_point() {
    survives_every_point(Story::Takeover);
}

#[test]
fn a_destroy_survives_every_point() {
    survives_every_point(Story::Destroy);
}

/// An update that never becomes ready is taken back by the next run as well, wherever the first one was killed.
#[test]
fn a_bad_update_that_was_killed_is_rolled_back() {
    let cluster = cluster_or_skip!();
    for point in ["stateful_set_applied", "pod_deleted", "rolled_back"] {
        let mut project = Project::new(cluster, ONE);
        project.world.apply();
        project.shell("echo kept > /convex/data/mark");
        project.manifest(&ONE.replace("PLACE", &format!("namespace = \"{}\"\nimage = \"{BROKEN}\"", project.name)));
        project.world.set("CONVEXINFRA_FAULT", &format!("provider.kubernetes.{point}:1"));
        let killed = project.world.run(&["apply", "--yes"]);
        assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
        project.world.unset("CONVEXINFRA_FAULT");
        let run = project.world.run_expecting(1, &["apply", "--yes"]);
        assert!(run.err.contains("provider.not_replaced"), "{point}: {run}");
        project.until_ready();
        assert_eq!(project.one("pods")["spec"]["containers"][0]["image"], BACKEND, "{point}");
        assert_eq!(project.shell("cat /convex/data/mark"), "kept", "{point}");
        let noted = project.one("statefulsets")["metadata"]["annotations"]["convexinfra/template-before"].clone();
        assert_eq!(noted, serde_json::Value::Null, "{point}");
    }
}
