//! The objects of a backend as YAML for those who apply them with Argo CD, Flux or `kubectl`: what a control plane would decide is
//! decided by the names alone, and secrets are references. Pure.

use serde_json::{Value, json};

use super::exposure::ClusterAddress;
use super::image;
use super::labels::ObjectNames;
use super::render::{RenderInput, render};
use super::yaml;
use crate::convex::image::{API_PORT, SITE_PORT};
use crate::model::kubernetes::Exposure;
use crate::model::{
    BackendId, BackendName, BackendSpec, Diagnostic, Digest, Endpoints, Generation, InstanceName, PortPair, ProjectName,
    ProviderState, ResolvedBackend, Secret,
};
use crate::provider::ProviderError;

/// What stands for the instance secret; External Secrets puts it in.
const PLACEHOLDER: &str = "{{ .instance_secret }}";
/// The label that says who applies an object, which is not this program here.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Renders the objects of a backend. With a `store` of External Secrets its instance secret is fetched from there; without one, a
/// comment says which Secret has to be made.
///
/// # Errors
/// Why its objects are not known without a control plane.
pub fn manifests(
    project: &ProjectName,
    name: &BackendName,
    spec: &BackendSpec,
    store: Option<&str>,
) -> Result<String, Diagnostic> {
    if spec.has_own_server() || spec.has_buckets() {
        return Err(Diagnostic::new(
            "render.secrets",
            format!("`{name}` has a database server or buckets, and there is no reference yet for the secrets of those"),
        )
        .with_help("apply it with\n    convexinfra apply"));
    }
    let resolved = resolved(project, name, spec)?;
    let failed = |error: ProviderError| Diagnostic::new(error.code(), error.to_string());
    let namespace = spec.settings.kubernetes.namespace.clone().unwrap_or("default".to_owned());
    let images = image::images(&resolved).map_err(failed)?;
    let input = RenderInput { namespace: namespace.clone(), images, database_ca: None };
    let objects = render(&resolved, &input).map_err(failed)?;
    let secret = format!("{}-launch", ObjectNames::of(&resolved).backend());
    let mut documents = Vec::new();
    if spec.settings.kubernetes.create_namespace {
        documents.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
    }
    if let Some(store) = store {
        documents.push(external_secret(&secret, &namespace, store, &resolved, &launch_file(&objects.secret)));
    }
    for object in objects.all().filter(|object| object["kind"] != "Secret") {
        documents.push(adapted(object, &secret));
    }
    let text = yaml::documents(&documents).map_err(|error| Diagnostic::new("render.yaml", error))?;
    Ok(match store {
        Some(_) => text,
        None => format!("{}{text}", comment(&secret, &namespace, &resolved, &launch_file(&objects.secret))),
    })
}

/// Returns a backend as a control plane would resolve it, with an identity that follows from its names.
fn resolved(project: &ProjectName, name: &BackendName, spec: &BackendSpec) -> Result<ResolvedBackend, Diagnostic> {
    let digest = Digest::of(format!("{project}/{name}").as_bytes());
    let id: String = digest.as_str().chars().skip("sha256:".len()).take(16).collect();
    let instance_name =
        InstanceName::preferred(project, name).map_err(|error| Diagnostic::new("control.instance_name", error.to_string()))?;
    let mut resolved = ResolvedBackend {
        id: BackendId::new(id),
        project: project.clone(),
        name: name.clone(),
        instance_name,
        spec: spec.clone(),
        generation: Generation(1),
        instance_secret: Secret::new(PLACEHOLDER),
        admin_key: Secret::new(""),
        secrets: Default::default(),
        ports: PortPair { api: API_PORT, site: SITE_PORT },
        endpoints: Endpoints { url: String::new(), site_url: String::new() },
        has_been_ready: false,
        provider_state: ProviderState::new(),
    };
    let settings = &spec.settings.kubernetes;
    let namespace = settings.namespace.clone().unwrap_or("default".to_owned());
    let address = ClusterAddress { namespace, ..ClusterAddress::default() };
    resolved.endpoints = address.endpoints(&resolved).ok_or_else(|| {
        let message = format!(
            "the address of `{name}` is only known once the cluster has given it (`expose = \"{}\"`), and it has to know it when it \
             starts",
            settings.expose
        );
        Diagnostic::new("render.address", message).with_help("name it in `origins`, with both `api` and `site`")
    })?;
    Ok(resolved)
}

/// Returns an object as another tool applies it: that tool is its manager, a changed template restarts the Pod by itself, and
/// nothing prunes the claim.
fn adapted(object: &Value, secret: &str) -> Value {
    let mut object = object.clone();
    drop_manager(&mut object);
    match object["kind"].as_str() {
        Some("StatefulSet") => {
            object["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate" });
            object["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"] = json!(secret);
        }
        Some("PersistentVolumeClaim") => {
            object["metadata"]["annotations"] = json!({
                "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
                "kustomize.toolkit.fluxcd.io/prune": "disabled",
            });
        }
        _ => {}
    }
    object
}

fn drop_manager(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove(MANAGED_BY);
            fields.values_mut().for_each(drop_manager);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_manager),
        _ => {}
    }
}

/// Returns the file that sets what is secret, with the placeholder in it.
fn launch_file(secret: &Value) -> String {
    use base64::Engine as _;
    let encoded = secret["data"]["launch"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn external_secret(name: &str, namespace: &str, store: &str, resolved: &ResolvedBackend, launch: &str) -> Value {
    json!({
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "secretStoreRef": { "kind": "ClusterSecretStore", "name": store },
            "target": { "name": name, "template": { "data": { "launch": launch } } },
            "data": [{
                "secretKey": "instance_secret",
                "remoteRef": { "key": format!("{}-instance-secret", resolved.instance_name) },
            }],
        },
    })
}

/// Says which Secret has to be made, and what follows from it.
fn comment(secret: &str, namespace: &str, resolved: &ResolvedBackend, launch: &str) -> String {
    let launch = launch.replace(PLACEHOLDER, "INSTANCE_SECRET");
    let mut lines = vec![
        format!("The Secret `{secret}` of the namespace `{namespace}` is not in here. It has one file, `launch`:"),
        format!("    {}", launch.trim_end()),
        "INSTANCE_SECRET is 64 hexadecimal digits that never change, such as `openssl rand -hex 32` prints. The admin key:"
            .to_owned(),
        format!("    CONVEXINFRA_INSTANCE_SECRET=INSTANCE_SECRET convexinfra key issue {}", resolved.instance_name),
    ];
    if resolved.spec.settings.kubernetes.expose == Exposure::PortForward {
        let backend = ObjectNames::of(resolved);
        lines.push(format!("It answers at {} while this runs:", resolved.endpoints.url));
        lines.push(format!(
            "    kubectl --namespace {namespace} port-forward service/{} {API_PORT} {SITE_PORT}",
            backend.backend()
        ));
    }
    lines.iter().map(|line| format!("# {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProviderKind, Release};

    fn backend(change: impl FnOnce(&mut BackendSpec)) -> Result<String, Diagnostic> {
        let mut spec = BackendSpec::new(ProviderKind::Kubernetes);
        spec.release = Some(Release::parse("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf").unwrap());
        spec.settings.kubernetes.namespace = Some("convex".to_owned());
        change(&mut spec);
        let (project, name) = (ProjectName::parse("atlas").unwrap(), BackendName::parse("dev").unwrap());
        manifests(&project, &name, &spec, None)
    }

    #[test]
    fn objects_for_other_tools_name_another_manager_and_hold_no_secret() {
        let text = backend(|_| {}).unwrap();
        assert_eq!(text, backend(|_| {}).unwrap());
        for absent in ["kind: Secret", MANAGED_BY, "OnDelete", PLACEHOLDER] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        for present in ["kind: StatefulSet", "type: RollingUpdate", "Prune=false", "--instance-secret 'INSTANCE_SECRET'"] {
            assert!(text.contains(present), "{present}: {text}");
        }
    }

    #[test]
    fn a_store_of_external_secrets_is_a_reference() {
        let spec = BackendSpec::new(ProviderKind::Kubernetes);
        let (project, name) = (ProjectName::parse("atlas").unwrap(), BackendName::parse("dev").unwrap());
        let text = manifests(&project, &name, &spec, Some("vault")).unwrap();
        assert!(text.contains("kind: ExternalSecret") && text.contains("name: vault"), "{text}");
        assert!(text.contains("key: atlas-dev-instance-secret") && text.contains(PLACEHOLDER), "{text}");
    }

    #[test]
    fn what_only_a_cluster_knows_is_refused() {
        let refused = backend(|spec| spec.settings.kubernetes.expose = Exposure::LoadBalancer).unwrap_err();
        assert_eq!(refused.code, "render.address");
    }
}
