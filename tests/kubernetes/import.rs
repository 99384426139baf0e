//! What a chart or manifests by hand made becomes a backend, with its claim.

use fixture::{get, wait_until};
use serde_json::{Value, json};

use crate::cluster_or_skip;
use crate::rig::{BACKEND, BROKEN, Project};

const SECRET: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// A StatefulSet as people write it by hand: its claim goes with it, and its variables come from everywhere.
fn hand_written(project: &Project) -> Vec<Value> {
    let from = |field: &str, name: &str, key: &str| json!({ "valueFrom": { field: { "name": name, "key": key } } });
    let variable = |name: &str, source: Value| {
        let mut variable = source;
        variable["name"] = json!(name);
        variable
    };
    let container = json!({
        "name": "convex",
        "image": BACKEND,
        "envFrom": [{ "configMapRef": { "name": "convex" } }],
        "env": [
            variable("INSTANCE_NAME", json!({ "value": "shop-$(STAGE)" })),
            variable("INSTANCE_SECRET", from("secretKeyRef", "convex", "secret")),
            { "name": "SENTRY_DSN", "value": "https://sentry.example.com" },
        ],
        "ports": [{ "containerPort": 3210, "name": "http" }],
        "readinessProbe": { "httpGet": { "path": "/version", "port": 3210 }, "periodSeconds": 1 },
        "resources": { "limits": { "cpu": "300m", "memory": "200Mi" }, "requests": { "cpu": "100m", "memory": "200Mi" } },
        "volumeMounts": [{ "name": "data", "mountPath": "/convex/data" }],
    });
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } },
    });
    let labels = json!({ "app": "convex" });
    let namespace = &project.name;
    let metadata = json!({ "name": "convex", "namespace": namespace });
    vec![
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "secret": SECRET } }),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {
                "STAGE": "live",
                "CONVEX_CLOUD_ORIGIN": "http://127.0.0.1:3210",
                "CONVEX_SITE_ORIGIN": "http://127.0.0.1:3211",
                "APPLICATION_MAX_CONCURRENT_QUERIES": "32",
            },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": { "selector": labels, "ports": [{ "port": 3210, "targetPort": 3210 }] },
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "serviceName": "convex",
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete", "whenScaled": "Delete" },
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [container], "terminationGracePeriodSeconds": 20 },
                },
                "volumeClaimTemplates": [claim],
            },
        }),
    ]
}

fn create(project: &Project, objects: &[Value]) {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    project.world.write("foreign.json", &list.to_string());
    project.kubectl(&["create", "-f", project.world.folder.join("foreign.json").to_str().unwrap()]);
}

/// A project whose namespace has such a StatefulSet, with something in its volume, and whose manifest says nothing of it.
pub(crate) fn with_hand_written(cluster: &'static crate::rig::Cluster) -> Project {
    let project = Project::new(cluster, "");
    create(&project, &hand_written(&project));
    wait_until("a Pod is there", || !project.get("pods").is_empty());
    project.until_ready();
    project.shell("echo kept > /convex/data/mark");
    project
}

fn import(project: &Project) -> fixture::CommandResult {
    project.world.run(&["import", "dev", "--statefulset", &format!("{}/convex", project.name)])
}

#[test]
fn a_statefulset_is_taken_over_with_its_data() {
    let project = with_hand_written(cluster_or_skip!());
    let world = &project.world;
    let (set, pod, claim) = (project.one("statefulsets"), project.one("pods"), project.one("persistentvolumeclaims"));
    let run = import(&project);
    assert_eq!(run.code(), 0, "{run}");
    assert!(run.out.contains("`SENTRY_DSN`") && run.out.contains("service/convex"), "{run}");
    assert!(run.out.contains("`resources.requests.cpu`") && !run.out.contains(SECRET), "{run}");
    // Nothing was touched, and the block says what it is.
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&project.one("statefulsets")), version(&set));
    assert_eq!(version(&project.one("persistentvolumeclaims")), version(&claim));
    let manifest = world.read("convex.toml");
    for words in ["max_concurrent_queries = 32", "disk = \"2 GiB\"", "cpus = 0.3", "access_mode = \"ReadWriteOnce\""] {
        assert!(manifest.contains(words), "{words}: {manifest}");
    }
    assert!(world.run_expecting(3, &["drift"]).out.contains("taken over"));
    assert_eq!(import(&project).code(), 4);
    let forgotten = world.run_expecting(0, &["forget", "dev", "--yes"]);
    let again = format!("convexinfra import dev --statefulset {}/convex", project.name);
    assert!(forgotten.err.contains(&again), "{forgotten}");
    assert_eq!(import(&project).code(), 0);

    world.apply();
    world.assert_converged();
    let own = project.one("statefulsets");
    assert!(own["metadata"]["name"] != "convex" && project.one("pods")["metadata"]["uid"] != pod["metadata"]["uid"]);
    assert_eq!(project.one("persistentvolumeclaims")["metadata"]["uid"], claim["metadata"]["uid"]);
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    let services = project.get("services");
    let service = services.iter().find(|service| service["metadata"]["name"] != "convex").unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    assert_eq!(get(&format!("http://{address}:3210/instance_name")).1, "shop-live");

    // The claim keeps its name for life.
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev", "--keep-data"]);
    wait_until("no Pod is left", || project.get("pods").is_empty());
    world.apply();
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    assert_eq!(project.one("persistentvolumeclaims")["metadata"]["uid"], claim["metadata"]["uid"]);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    wait_until("its data is gone", || project.get("persistentvolumeclaims").is_empty());
}

#[test]
fn what_does_not_come_up_leaves_what_ran_before() {
    let project = Project::new(cluster_or_skip!(), "");
    let mut objects = hand_written(&project);
    // A Deployment with a claim of its own, whose secret is nowhere but in its volume.
    let set = objects.pop().unwrap();
    let mut template = set["spec"]["template"].clone();
    template["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "convex" } }]);
    let container = &mut template["spec"]["containers"][0];
    container["env"] = json!([]);
    container["securityContext"] = json!({ "runAsUser": 0 });
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "convex", "namespace": project.name },
        "spec": set["spec"]["volumeClaimTemplates"][0]["spec"],
    }));
    objects.push(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "convex", "namespace": project.name },
        "spec": { "replicas": 1, "selector": set["spec"]["selector"], "strategy": { "type": "Recreate" }, "template": template },
    }));
    create(&project, &objects);
    wait_until("a Pod is there", || !project.get("pods").is_empty());
    project.until_ready();
    project.shell("echo kept > /convex/data/mark");
    let world = &project.world;
    world.run_expecting(0, &["import", "dev", "--deployment", &format!("{}/convex", project.name)]);
    let manifest = world.read("convex.toml");
    world.write("convex.toml", &manifest.replace(BACKEND, BROKEN));
    let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
    assert!(run.out.contains("\"provider.not_replaced\""), "{run}");
    project.until_ready();
    assert_eq!(project.one("pods")["spec"]["containers"][0]["image"], BACKEND);
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    assert!(world.run_expecting(3, &["drift"]).out.contains("taken over"));

    world.write("convex.toml", &manifest);
    world.apply();
    world.assert_converged();
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    assert!(project.get("deployments").is_empty());
    // A second writer is refused by nothing but an alarm.
    let second = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "second", "namespace": project.name },
        "spec": template["spec"],
    });
    create(&project, &[second]);
    wait_until("the second Pod is seen", || project.drift().contains(&"claim".to_owned()));
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_the_way_out() {
    let project = with_hand_written(cluster_or_skip!());
    let refused = |words: &[&str]| {
        let run = import(&project);
        assert_eq!(run.code(), 4, "{run}");
        for words in words {
            assert!(run.err.contains(words), "{words}: {run}");
        }
    };
    let label = |what: &str, on: &str| project.kubectl(&[what, "statefulset", "convex", "--overwrite", on]);
    label("annotate", "meta.helm.sh/release-name=shop");
    refused(&["the Helm release `shop`", "owner=helm,name=shop"]);
    label("annotate", "meta.helm.sh/release-name-");
    label("label", "argocd.argoproj.io/instance=shop");
    refused(&["Argo CD application `shop`", "argocd app delete shop --cascade=false"]);
    label("label", "argocd.argoproj.io/instance-");
    project.kubectl(&["annotate", "persistentvolumeclaim", "data-convex-0", "meta.helm.sh/release-name=shop"]);
    refused(&["the claim `data-convex-0` of the Helm release", "persistentvolumeclaim/data-convex-0"]);
    project.kubectl(&["annotate", "persistentvolumeclaim", "data-convex-0", "meta.helm.sh/release-name-"]);
    // Another Pod on the claim.
    let second = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "second", "namespace": project.name },
        "spec": {
            "containers": [{ "name": "shell", "image": BACKEND, "command": ["sleep", "600"] }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data-convex-0" } }],
        },
    });
    create(&project, &[second]);
    refused(&["the Pod `second` uses `data-convex-0`"]);
    project.kubectl(&["delete", "pod", "second", "--grace-period=1"]);
    // Each of these only changes what the description says; no Pod has to follow.
    project.kubectl(&[
        "patch",
        "statefulset",
        "convex",
        "--type=merge",
        "-p",
        r#"{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}"#,
    ]);
    let original = project.one("statefulsets")["spec"]["template"]["spec"]["containers"][0].clone();
    for (field, value, words) in [
        ("command", json!(["/bin/sh", "-c", "exec ./convex-local-backend"]), "a command of its own"),
        ("args", json!(["--local-storage", "/x"]), "a command of its own"),
        ("env", json!([{ "name": "STORAGE_DIR", "value": "/convex/data/files" }]), "(`STORAGE_DIR`)"),
        (
            "env",
            json!([{ "name": "INSTANCE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]),
            "only its Pod knows",
        ),
        ("env", json!([{ "name": "POSTGRES_URL", "value": "postgres://u:p@127.0.0.1:5432" }]), "another container of its Pod"),
        ("volumeMounts", json!([{ "name": "data", "mountPath": "/convex/data", "subPath": "convex" }]), "(`subPath`)"),
        ("volumeMounts", json!([{ "name": "data", "mountPath": "/data" }]), "has no container with a volume"),
    ] {
        let mut container = original.clone();
        container[field] = value;
        let patch = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0", "value": container }]);
        project.kubectl(&["patch", "statefulset", "convex", "--type=json", "-p", &patch.to_string()]);
        refused(&[words]);
    }
    project.kubectl(&["scale", "statefulset", "convex", "--replicas=0"]);
    refused(&["does not run", "--replicas=1"]);
    assert!(!project.world.read("convex.toml").contains("[backends"), "a refusal has written");
}
