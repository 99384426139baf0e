//! What is read out of objects of others, without a cluster.

use serde_json::{Value, json};

use super::workload::Workload;
use super::*;
use crate::model::kubernetes::Exposure;

fn workload(object: &Value) -> Workload<'_> {
    Workload { kind: Kind::StatefulSet, object, namespace: "shop", name: "convex" }
}

fn object(container: &Value, more: &Value) -> Value {
    let mut spec = json!({ "containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always" });
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let claim = json!({ "metadata": { "name": "data" } });
    json!({ "spec": { "template": { "metadata": { "labels": { "app": "convex" } }, "spec": spec }, "volumeClaimTemplates": [claim] } })
}

fn container(mount: &Value) -> Value {
    json!({ "name": "convex", "image": "ghcr.io/get-convex/convex-backend:latest", "volumeMounts": [mount] })
}

#[test]
fn names_are_those_of_kubernetes() {
    let name = |text: &str| text.parse::<WorkloadName>().ok().map(|name| (name.namespace, name.name));
    assert_eq!(name("shop/convex"), Some((Some("shop".to_owned()), "convex".to_owned())));
    assert_eq!(name("convex"), Some((None, "convex".to_owned())));
    for wrong in ["", "/", "a/", "/b", "a/b/c", "A/b", "a/b;rm", "a b"] {
        assert_eq!(name(wrong), None, "{wrong}");
    }
}

#[test]
fn the_claim_is_that_of_a_template_or_of_a_volume() {
    let data = json!({ "name": "data", "mountPath": "/convex/data/" });
    let of = |more: Value, mount: &Value| {
        let object = object(&container(mount), &more);
        let workload = workload(&object);
        workload.claim(workload.container().unwrap()).map_err(|error| error.split(' ').take(4).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(of(json!({}), &data), Ok("data-convex-0".to_owned()));
    let own = json!({ "name": "own", "mountPath": "/convex/data" });
    let volumes = json!({ "volumes": [{ "name": "own", "persistentVolumeClaim": { "claimName": "shop" } }] });
    assert_eq!(of(volumes, &own), Ok("shop".to_owned()));
    let empty = json!({ "volumes": [{ "name": "own", "emptyDir": {} }] });
    assert_eq!(of(empty, &own), Err("keeps its data in".to_owned()));
    let elsewhere = json!({ "name": "data", "mountPath": "/data" });
    assert_eq!(of(json!({}), &elsewhere), Err("has no volume at".to_owned()));
}

#[test]
fn whatever_is_set_is_named_unless_it_is_kept() {
    let mount = json!({ "name": "data", "mountPath": "/convex/data" });
    let dropped = |more: Value, change: &dyn Fn(&mut Value)| {
        let mut container = container(&mount);
        change(&mut container);
        let object = object(&container, &more);
        let workload = workload(&object);
        workload.dropped(workload.container().unwrap()).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(dropped(json!({ "serviceAccountName": "default", "schedulerName": "default-scheduler" }), &|_| {}), [""; 0]);
    let more = json!({
        "nodeSelector": { "disk": "ssd" },
        "serviceAccountName": "shop",
        "hostNetwork": true,
        "initContainers": [{ "name": "x" }],
        "somethingNew": 1,
    });
    let change = |container: &mut Value| {
        container["workingDir"] = json!("/x");
        container["resources"] = json!({ "requests": { "cpu": "1" }, "limits": { "memory": "1Gi" } });
    };
    assert_eq!(
        dropped(more, &change),
        [
            "hostNetwork",
            "initContainers",
            "nodeSelector",
            "resources.requests.cpu",
            "serviceAccountName",
            "somethingNew",
            "workingDir"
        ]
    );
}

#[test]
fn the_build_that_runs_counts_where_its_tag_moves() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let pod = json!({ "status": { "containerStatuses": [{ "name": "convex", "imageID": format!("ghcr.io/x@{digest}") }] } });
    let of = |image: &str| build_of(&json!({ "name": "convex", "image": image }), &pod);
    let official = "ghcr.io/get-convex/convex-backend";
    let commit = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";
    assert_eq!(of(&format!("{official}:latest")), (Release::parse(&digest).ok(), None));
    assert_eq!(of(&format!("{official}:{commit}")), (Release::parse(commit).ok(), None));
    assert_eq!(of("registry.example.com/convex:1"), (None, Some("registry.example.com/convex:1".to_owned())));
}

#[test]
fn the_exposure_comes_closest_to_what_leads_there() {
    let exposed = |ways: Ways, origin: Option<&str>| ways.exposed(KubernetesSettings::default(), origin);
    let service = |kind: &str| json!({ "metadata": { "name": "convex" }, "spec": { "type": kind } });
    let ingress = json!({
        "metadata": { "name": "convex" },
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{ "host": "api.example.com" }],
            "tls": [{ "secretName": "tls" }],
        },
    });
    let ways = || Ways::of(vec![service("ClusterIP")], vec![ingress.clone()], Vec::new());
    let found = exposed(ways(), Some("https://api.example.com"));
    assert_eq!(
        (found.expose, found.ingress_class.as_deref(), found.tls_secret.as_deref()),
        (Exposure::Ingress, Some("nginx"), Some("tls"))
    );
    assert_eq!(exposed(ways(), Some("https://other.example.com")).expose, Exposure::PortForward);
    assert_eq!(exposed(ways(), None).expose, Exposure::ClusterIp);
    for (kind, expose) in [("NodePort", Exposure::NodePort), ("LoadBalancer", Exposure::LoadBalancer)] {
        assert_eq!(exposed(Ways::of(vec![service(kind)], Vec::new(), Vec::new()), None).expose, expose);
    }
    let route = json!({
        "metadata": { "name": "convex" },
        "spec": { "hostnames": ["api.example.com"], "parentRefs": [{ "name": "web", "namespace": "infra" }] },
    });
    let found = exposed(Ways::of(Vec::new(), Vec::new(), vec![route]), Some("https://api.example.com"));
    assert_eq!((found.expose, found.gateway.as_deref()), (Exposure::Gateway, Some("infra/web")));
    assert_eq!(exposed(Ways::of(Vec::new(), Vec::new(), Vec::new()), None).expose, Exposure::PortForward);
}
