//! The objects of backends as YAML, and what is seen as a difference.

use serde_json::{Value, json};

use super::diff::diff;
use super::exposure::ClusterAddress;
use super::image::Images;
use super::labels::{MANAGER, ObjectNames, foreign_owner};
use super::render::{RenderInput, claim_over, render};
use crate::model::kubernetes::Exposure;
use crate::model::{
    BackendId, BackendName, BackendSpec, ByteSize, Cpus, Endpoints, FieldPath, Generation, InstanceName, Origins, PortPair,
    ProjectName, ProviderKind, ProviderState, Release, ResolvedBackend, STORAGE_URL, Secret, SecretRef, ServerStorage, Storage,
};

const COMMIT: &str = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";

fn resolved(change: impl FnOnce(&mut ResolvedBackend)) -> ResolvedBackend {
    let mut spec = BackendSpec::new(ProviderKind::Kubernetes);
    spec.release = Some(Release::parse(COMMIT).unwrap());
    spec.resources.cpus = Some(Cpus::from_milli(500));
    spec.resources.memory = Some(ByteSize::parse("1 GiB").unwrap());
    spec.resources.disk = Some(ByteSize::parse("20 GiB").unwrap());
    let mut resolved = ResolvedBackend {
        id: BackendId::new("abcdefgh23456789"),
        project: ProjectName::parse("atlas").unwrap(),
        name: BackendName::parse("dev").unwrap(),
        instance_name: InstanceName::parse("atlas-dev").unwrap(),
        spec,
        generation: Generation(1),
        instance_secret: Secret::new("5e".repeat(32)),
        admin_key: Secret::new("atlas-dev|01aa22bb"),
        secrets: [].into(),
        ports: PortPair { api: 4210, site: 4211 },
        endpoints: Endpoints { url: String::new(), site_url: String::new() },
        has_been_ready: false,
        provider_state: ProviderState::new(),
    };
    change(&mut resolved);
    let address = ClusterAddress {
        namespace: "convex".to_owned(),
        node: Some("10.0.0.7".to_owned()),
        node_ports: Some(PortPair { api: 30001, site: 30002 }),
        balancer: Some("2001:db8::1".to_owned()),
    };
    resolved.endpoints = address.endpoints(&resolved).unwrap();
    resolved
}

fn objects(resolved: &ResolvedBackend) -> Vec<Value> {
    let images = super::image::images(resolved).unwrap();
    let input = RenderInput { namespace: "convex".to_owned(), images, database_ca: None };
    render(resolved, &input).unwrap().all().cloned().collect()
}

fn yaml(resolved: &ResolvedBackend) -> String {
    super::yaml::documents(&objects(resolved)).unwrap()
}

fn origins() -> Origins {
    Origins { api: Some("https://api.example.com".to_owned()), site: Some("https://example.com".to_owned()), dashboard: None }
}

fn by_kind(objects: &[Value], kind: &str) -> Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}")).clone()
}

#[test]
fn a_forwarded_backend_as_yaml() {
    insta::assert_snapshot!(yaml(&resolved(|_| {})));
}

#[test]
fn a_backend_behind_an_ingress_with_a_dashboard_as_yaml() {
    insta::assert_snapshot!(yaml(&resolved(|resolved| {
        resolved.spec.dashboard = true;
        resolved.spec.origins = origins();
        let settings = &mut resolved.spec.settings.kubernetes;
        settings.expose = Exposure::Ingress;
        settings.ingress_class = Some("nginx".to_owned());
        settings.cluster_issuer = Some("letsencrypt".to_owned());
        settings.network_policy = true;
    })));
}

#[test]
fn routes_of_a_gateway_as_yaml() {
    let resolved = resolved(|resolved| {
        resolved.spec.origins = origins();
        let settings = &mut resolved.spec.settings.kubernetes;
        settings.expose = Exposure::Gateway;
        settings.gateway = Some("infra/public".to_owned());
    });
    let routes: Vec<Value> = objects(&resolved).into_iter().filter(|object| object["kind"] == "HTTPRoute").collect();
    insta::assert_snapshot!(super::yaml::documents(&routes).unwrap());
}

#[test]
fn every_exposure_has_its_url() {
    for (expose, url, site, kind) in [
        (Exposure::PortForward, "http://127.0.0.1:4210", "http://127.0.0.1:4211", "ClusterIP"),
        (
            Exposure::ClusterIp,
            "http://atlas-dev-abcdef.convex.svc:3210",
            "http://atlas-dev-abcdef.convex.svc:3211",
            "ClusterIP",
        ),
        (Exposure::NodePort, "http://10.0.0.7:30001", "http://10.0.0.7:30002", "NodePort"),
        (Exposure::LoadBalancer, "http://[2001:db8::1]:3210", "http://[2001:db8::1]:3211", "LoadBalancer"),
    ] {
        let resolved = resolved(|resolved| resolved.spec.settings.kubernetes.expose = expose);
        assert_eq!((resolved.endpoints.url.as_str(), resolved.endpoints.site_url.as_str()), (url, site));
        let set = by_kind(&objects(&resolved), "StatefulSet");
        let arguments = set["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(arguments.contains(&format!("\"--convex-origin\",\"{url}\"")), "{arguments}");
        assert_eq!(by_kind(&objects(&resolved), "Service")["spec"]["type"], kind);
    }
}

#[test]
fn no_secret_stands_outside_of_the_secret() {
    let resolved = resolved(|resolved| {
        let url = SecretRef::Env("URL".to_owned());
        resolved.spec.storage = Storage::Postgres(ServerStorage { url: Some(url), ..ServerStorage::default() });
        resolved.secrets.insert(FieldPath::new(STORAGE_URL), Secret::new("postgres://convex:hunter2@db.data.svc:5432"));
    });
    for object in objects(&resolved).iter().filter(|object| object["kind"] != "Secret") {
        let text = object.to_string();
        assert!(!text.contains("hunter2") && !text.contains(resolved.instance_secret.expose()), "{text}");
    }
}

#[test]
fn a_database_on_this_machine_is_refused_with_the_reason() {
    let mut resolved = resolved(|_| {});
    let url = SecretRef::Env("URL".to_owned());
    resolved.spec.storage = Storage::Postgres(ServerStorage { url: Some(url), ..ServerStorage::default() });
    resolved.secrets.insert(FieldPath::new(STORAGE_URL), Secret::new("postgres://convex:hunter2@localhost:5432"));
    let images = Images { backend: "i".to_owned(), dashboard: None, release: None };
    let input = RenderInput { namespace: "convex".to_owned(), images, database_ca: None };
    let message = render(&resolved, &input).unwrap_err().to_string();
    assert!(message.contains("inside a Pod that is the Pod itself") && !message.contains("hunter2"), "{message}");
}

/// Returns an object as a server answers it: with what it adds by itself.
fn served(object: &Value) -> Value {
    let mut live = object.clone();
    live["metadata"]["uid"] = json!("1");
    live["metadata"]["managedFields"] = json!([{ "manager": MANAGER }]);
    if object["kind"] == "StatefulSet" {
        live["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({ "whenDeleted": "Retain" });
        let container = &mut live["spec"]["template"]["spec"]["containers"][0];
        container["terminationMessagePath"] = json!("/dev/termination-log");
        container["resources"]["limits"]["memory"] = json!("1024Mi");
    }
    live
}

#[test]
fn an_object_as_it_was_applied_has_no_difference() {
    for object in objects(&resolved(|_| {})) {
        assert_eq!(diff("it", &object, &served(&object)), []);
    }
}

#[test]
fn every_change_by_hand_is_named() {
    let set = by_kind(&objects(&resolved(|_| {})), "StatefulSet");
    let pod = "/spec/template/spec";
    let changes: [(String, Value, &str); 11] = [
        ("/spec/replicas".to_owned(), json!(2), "it.replicas"),
        (format!("{pod}/containers/0/image"), json!("evil:1"), "it.containers.backend.image"),
        (format!("{pod}/containers/0/resources/limits/cpu"), json!("2"), "it.containers.backend.resources.limits.cpu"),
        (
            format!("{pod}/containers/0/env/0/value"),
            json!("false"),
            "it.containers.backend.env.CONVEX_RELEASE_VERSION_DEV.value",
        ),
        (
            format!("{pod}/containers/0/securityContext/readOnlyRootFilesystem"),
            json!(false),
            "it.containers.backend.securityContext.readOnlyRootFilesystem",
        ),
        (format!("{pod}/containers/0/lifecycle"), Value::Null, "it.containers.backend.lifecycle"),
        (format!("{pod}/containers/0/command"), json!(["sh"]), "it.containers.backend.command"),
        (format!("{pod}/terminationGracePeriodSeconds"), json!(1), "it.terminationGracePeriodSeconds"),
        (
            format!("{pod}/volumes/0/persistentVolumeClaim/claimName"),
            json!("other"),
            "it.volumes.data.persistentVolumeClaim.claimName",
        ),
        ("/spec/updateStrategy/type".to_owned(), json!("RollingUpdate"), "it.updateStrategy.type"),
        ("/metadata/labels".to_owned(), json!({}), "it.labels.app.kubernetes.io/component"),
    ];
    for (pointer, value, path) in changes {
        let mut live = served(&set);
        *live.pointer_mut(&pointer).unwrap() = value;
        let found = diff("it", &set, &live);
        assert!(found.iter().any(|drift| drift.path.as_str() == path), "{path}: {found:?}");
    }
}

#[test]
fn what_others_add_is_named_as_foreign_and_shows_no_value() {
    let set = by_kind(&objects(&resolved(|_| {})), "StatefulSet");
    let mut live = served(&set);
    let spec = &mut live["spec"]["template"]["spec"];
    spec["containers"].as_array_mut().unwrap().push(json!({ "name": "istio-proxy", "image": "proxy" }));
    spec["containers"][0]["env"].as_array_mut().unwrap().push(json!({ "name": "TOKEN", "value": "hunter2" }));
    live["spec"]["template"]["metadata"]["annotations"]["sidecar.istio.io/inject"] = json!("true");
    let found = diff("it", &set, &live);
    let paths: Vec<&str> = found.iter().map(|drift| drift.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "foreign.it.annotations.sidecar.istio.io/inject",
            "foreign.it.containers.backend.env.TOKEN",
            "foreign.it.containers.istio-proxy"
        ]
    );
    assert!(!format!("{found:?}").contains("hunter2"));
    assert!(found.iter().all(|drift| !drift.is_repaired_by_apply()));
}

#[test]
fn a_changed_secret_is_named_and_not_shown() {
    let secret = by_kind(&objects(&resolved(|_| {})), "Secret");
    let mut live = served(&secret);
    live["data"]["launch"] = json!("aHVudGVyMg==");
    let found = diff("secret", &secret, &live);
    assert_eq!((found.len(), found[0].observed.as_str()), (1, "changed"));
}

#[test]
fn a_claim_grows_when_it_is_bound_and_never_shrinks() {
    let claim = |size: &str| {
        by_kind(&objects(&resolved(|r| r.spec.resources.disk = Some(ByteSize::parse(size).unwrap()))), "PersistentVolumeClaim")
    };
    let storage = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap().to_owned();
    let mut live = claim("20 GiB");
    live["spec"]["volumeName"] = json!("pv-1");
    live["spec"]["storageClassName"] = json!("standard");
    assert_eq!(storage(&claim_over(&claim("30 GiB"), &live)), "20Gi", "it is not bound yet");
    live["status"]["phase"] = json!("Bound");
    let grown = claim_over(&claim("30 GiB"), &live);
    assert_eq!((storage(&grown).as_str(), &grown["spec"]["storageClassName"]), ("30Gi", &json!("standard")));
    assert_eq!(storage(&claim_over(&claim("10 GiB"), &live)), "20Gi");
}

#[test]
fn labels_alone_prove_nothing() {
    let resolved = resolved(|_| {});
    let service = by_kind(&objects(&resolved), "Service");
    assert_eq!(foreign_owner(&served(&service), &resolved), None);
    let mut copied = served(&service);
    copied["metadata"]["managedFields"] = json!([{ "manager": "kubectl" }]);
    assert_eq!(foreign_owner(&copied, &resolved).unwrap(), "`kubectl`");
    copied["metadata"]["annotations"] = json!({ "meta.helm.sh/release-name": "convex" });
    assert_eq!(foreign_owner(&copied, &resolved).unwrap(), "the Helm release `convex`");
}

#[test]
fn names_leave_room_for_what_the_cluster_adds() {
    let long = resolved(|resolved| {
        resolved.instance_name = InstanceName::parse(&"x".repeat(48)).unwrap();
    });
    let names = ObjectNames::of(&long);
    assert!(names.backend().len() <= 52 && names.dashboard().len() <= 63, "{names:?}");
    assert!(names.backend().ends_with("-abcdef"));
}

#[test]
fn other_secrets_are_another_secret_and_another_pod() {
    let one = objects(&resolved(|_| {}));
    let two = objects(&resolved(|resolved| resolved.instance_secret = Secret::new("6f".repeat(32))));
    for kind in ["Secret", "StatefulSet"] {
        assert_ne!(by_kind(&one, kind), by_kind(&two, kind));
    }
    let more = objects(&resolved(|resolved| resolved.spec.resources.cpus = Some(Cpus::from_milli(700))));
    let fingerprint = |all: &[Value]| by_kind(all, "StatefulSet")["spec"]["template"]["metadata"]["annotations"].clone();
    assert_eq!(fingerprint(&one), fingerprint(&more), "another amount is no other Pod");
}
