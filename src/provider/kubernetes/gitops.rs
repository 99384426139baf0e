//! The objects of a backend as YAML for those who apply them with Argo CD, Flux or `kubectl`: what a control plane would decide is
//! decided by the names alone, and secrets are references. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ensure::database_ca;
use super::exposure::ClusterAddress;
use super::image;
use super::labels::ObjectNames;
use super::render::{RenderInput, render};
use super::yaml;
use crate::convex::image::{API_PORT, SITE_PORT};
use crate::model::kubernetes::Exposure;
use crate::model::{
    BackendId, BackendName, BackendSpec, DatabaseRole, Diagnostic, Digest, Endpoints, FieldPath, Files, Generation,
    InstanceName, PortPair, ProjectName, ProviderState, ResolvedBackend, STORAGE_URL, Secret, Storage, TextValue,
};
use crate::provider::ProviderError;

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
    if spec.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege) {
        let message = format!("`{name}` has a database role of its own, whose password a control plane makes and keeps");
        return Err(Diagnostic::new("render.secrets", message)
            .with_help("leave `storage.role` out and name a user in the URL, or apply it with\n    convexinfra apply"));
    }
    let references = secret_references(spec);
    let resolved = resolved(project, name, spec, &references)?;
    let failed = |error: ProviderError| Diagnostic::new(error.code(), error.to_string());
    let namespace = spec.settings.kubernetes.namespace.clone().unwrap_or("default".to_owned());
    let images = image::images(&resolved).map_err(failed)?;
    let input = RenderInput { namespace: namespace.clone(), images, database_ca: database_ca(&resolved).map_err(failed)? };
    let objects = render(&resolved, &input).map_err(failed)?;
    let secret = format!("{}-launch", ObjectNames::of(&resolved).backend());
    let files = secret_files(&objects.secret, &references);
    let mut documents = Vec::new();
    if spec.settings.kubernetes.create_namespace {
        documents.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
    }
    if let Some(store) = store {
        documents.push(external_secret(&secret, &namespace, store, &resolved, &references, &files));
    }
    for object in objects.all().filter(|object| object["kind"] != "Secret") {
        documents.push(adapted(object, &secret));
    }
    let text = yaml::documents(&documents).map_err(|error| Diagnostic::new("render.yaml", error))?;
    Ok(match store {
        Some(_) => text,
        None => format!("{}{text}", comment(&secret, &namespace, &resolved, &references, &files)),
    })
}

/// Refers to one secret of a backend, which another tool or a person puts into the rendered objects.
struct SecretReference {
    /// Its field; none for the instance secret, which the manifest does not name.
    field: Option<&'static str>,
    /// Its key in the template of an ExternalSecret.
    key: &'static str,
    /// The value that is rendered in its place. A URL is looked at when it is rendered, so a URL stands for it.
    stand_in: String,
    /// What its value has to be, for people.
    meaning: String,
}

impl SecretReference {
    fn new(field: Option<&'static str>, key: &'static str, meaning: &str) -> Self {
        Self { field, key, stand_in: format!("{{{{ .{key} }}}}"), meaning: meaning.to_owned() }
    }

    /// Returns what External Secrets replaces with the value.
    fn template(&self) -> String {
        format!("{{{{ .{} }}}}", self.key)
    }
}

/// Returns the secrets that a backend is started with.
fn secret_references(spec: &BackendSpec) -> Vec<SecretReference> {
    let instance = "64 hexadecimal digits that never change, such as `openssl rand -hex 32` prints";
    let mut references = vec![SecretReference::new(None, "instance_secret", instance)];
    if spec.has_own_server() {
        let scheme = if matches!(spec.storage, Storage::Mysql(_)) { "mysql" } else { "postgres" };
        let meaning = format!("`{scheme}://USER:PASSWORD@HOST:PORT`, without a path and parameters");
        let mut url = SecretReference::new(Some(STORAGE_URL), "storage_url", &meaning);
        url.stand_in = format!("{scheme}://stand-in:stand-in@storage-url.invalid");
        references.push(url);
    }
    if let Files::S3(s3) = &spec.files {
        if matches!(s3.endpoint, Some(TextValue::Reference(_))) {
            references.push(SecretReference::new(Some("files.endpoint"), "files_endpoint", "the URL of the S3 service"));
        }
        if s3.credentials.is_some() {
            references.extend([
                SecretReference::new(Some("files.access_key_id"), "access_key_id", "the id of the access key to the buckets"),
                SecretReference::new(
                    Some("files.secret_access_key"),
                    "secret_access_key",
                    "the secret access key to the buckets",
                ),
            ]);
        }
    }
    references
}

/// Returns a backend as a control plane would resolve it, with an identity that follows from its names.
fn resolved(
    project: &ProjectName,
    name: &BackendName,
    spec: &BackendSpec,
    references: &[SecretReference],
) -> Result<ResolvedBackend, Diagnostic> {
    let stand_in =
        |field: Option<&str>| references.iter().find(|reference| reference.field == field).map(|found| &*found.stand_in);
    let named =
        references.iter().filter_map(|reference| Some((FieldPath::new(reference.field?), Secret::new(&*reference.stand_in))));
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
        instance_secret: Secret::new(stand_in(None).unwrap_or_default()),
        admin_key: Secret::new(""),
        secrets: named.collect(),
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

/// Returns the files of a backend's Secret, with references where its secrets stand.
fn secret_files(secret: &Value, references: &[SecretReference]) -> BTreeMap<String, String> {
    use base64::Engine as _;
    let decoded = |content: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(content.as_str().unwrap_or_default()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        references.iter().fold(text, |text, reference| text.replace(&reference.stand_in, &reference.template()))
    };
    secret["data"].as_object().into_iter().flatten().map(|(name, content)| (name.clone(), decoded(content))).collect()
}

fn external_secret(
    name: &str,
    namespace: &str,
    store: &str,
    resolved: &ResolvedBackend,
    references: &[SecretReference],
    files: &BTreeMap<String, String>,
) -> Value {
    let remote = |reference: &SecretReference| {
        let key = format!("{}-{}", resolved.instance_name, reference.key.replace('_', "-"));
        json!({ "secretKey": reference.key, "remoteRef": { "key": key } })
    };
    json!({
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "secretStoreRef": { "kind": "ClusterSecretStore", "name": store },
            "target": { "name": name, "template": { "data": files } },
            "data": references.iter().map(remote).collect::<Vec<_>>(),
        },
    })
}

/// Says which Secret has to be made, and what follows from it.
fn comment(
    secret: &str,
    namespace: &str,
    resolved: &ResolvedBackend,
    references: &[SecretReference],
    files: &BTreeMap<String, String>,
) -> String {
    let by_hand = |reference: &SecretReference| reference.key.to_uppercase();
    let mut lines = vec![format!("The Secret `{secret}` of the namespace `{namespace}` is not in here. It has these files:")];
    for (name, content) in files {
        let content =
            references.iter().fold(content.clone(), |text, reference| text.replace(&reference.template(), &by_hand(reference)));
        lines.push(format!("`{name}`:"));
        lines.extend(content.trim_end().lines().map(|line| format!("    {line}")));
    }
    lines.extend(references.iter().map(|reference| format!("{}: {}.", by_hand(reference), reference.meaning)));
    if resolved.spec.has_own_server() {
        lines.push(format!("The server has to have the database `{}`.", resolved.instance_name.database()));
    }
    lines.push("The admin key:".to_owned());
    lines.push(format!("    CONVEXINFRA_INSTANCE_SECRET=INSTANCE_SECRET convexinfra key issue {}", resolved.instance_name));
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
    use crate::model::{BucketNames, ProviderKind, Release, S3Credentials, S3Files, SecretRef, ServerStorage, Tls};

    fn backend(change: impl FnOnce(&mut BackendSpec)) -> Result<String, Diagnostic> {
        rendered(change, None)
    }

    fn with_store(change: impl FnOnce(&mut BackendSpec)) -> Result<String, Diagnostic> {
        rendered(change, Some("vault"))
    }

    fn rendered(change: impl FnOnce(&mut BackendSpec), store: Option<&str>) -> Result<String, Diagnostic> {
        let mut spec = BackendSpec::new(ProviderKind::Kubernetes);
        spec.release = Some(Release::parse("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf").unwrap());
        spec.settings.kubernetes.namespace = Some("convex".to_owned());
        change(&mut spec);
        let (project, name) = (ProjectName::parse("atlas").unwrap(), BackendName::parse("dev").unwrap());
        manifests(&project, &name, &spec, store)
    }

    #[test]
    fn objects_for_other_tools_name_another_manager_and_hold_no_secret() {
        let text = backend(|_| {}).unwrap();
        assert_eq!(text, backend(|_| {}).unwrap());
        for absent in ["kind: Secret", MANAGED_BY, "OnDelete", "{{ ."] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        for present in ["kind: StatefulSet", "type: RollingUpdate", "Prune=false", "--instance-secret 'INSTANCE_SECRET'"] {
            assert!(text.contains(present), "{present}: {text}");
        }
    }

    #[test]
    fn a_store_of_external_secrets_is_a_reference() {
        let text = with_store(|_| {}).unwrap();
        assert!(text.contains("kind: ExternalSecret") && text.contains("name: vault"), "{text}");
        assert!(text.contains("key: atlas-dev-instance-secret") && text.contains("{{ .instance_secret }}"), "{text}");
    }

    /// A backend on PostgreSQL without TLS, with buckets and their keys.
    fn on_servers(spec: &mut BackendSpec) {
        let reference = || SecretRef::Env("ELSEWHERE".to_owned());
        spec.storage =
            Storage::Postgres(ServerStorage { url: Some(reference()), tls: Tls::Disable, ..ServerStorage::default() });
        spec.files = Files::S3(S3Files {
            buckets: BucketNames::Single("atlas".to_owned()),
            region: "eu-central-1".to_owned(),
            endpoint: Some(TextValue::Reference(reference())),
            path_style: false,
            credentials: Some(S3Credentials { access_key_id: reference(), secret_access_key: reference() }),
            create_buckets: false,
        });
    }

    #[test]
    fn secrets_of_servers_and_buckets_are_references() {
        let text = backend(on_servers).unwrap();
        for present in [
            "#     export AWS_ACCESS_KEY_ID='ACCESS_KEY_ID'",
            "#     export AWS_SECRET_ACCESS_KEY='SECRET_ACCESS_KEY'",
            "#     export S3_ENDPOINT_URL='FILES_ENDPOINT'",
            "--instance-secret 'INSTANCE_SECRET' 'STORAGE_URL?sslmode=disable'",
            "the database `atlas_dev`",
        ] {
            assert!(text.contains(present), "{present}: {text}");
        }
        for absent in ["stand-in", ".invalid", "{{ ."] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        assert!(
            text.lines().take_while(|line| *line != "---" && !line.starts_with("apiVersion")).all(|line| line.starts_with('#'))
        );
        let text = with_store(on_servers).unwrap();
        for key in ["storage-url", "files-endpoint", "access-key-id", "secret-access-key"] {
            assert!(text.contains(&format!("key: atlas-dev-{key}")), "{key}: {text}");
        }
        assert!(text.contains("{{ .storage_url }}?sslmode=disable"), "{text}");
    }

    #[test]
    fn certificates_of_a_server_are_a_file_of_the_secret() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let text = backend(|spec| {
            on_servers(spec);
            if let Storage::Postgres(server) = &mut spec.storage {
                server.tls = Tls::Pem(serde_json::from_value(json!(pem)).unwrap());
            }
        });
        let text = text.unwrap();
        assert!(text.contains("# `database-ca.pem`:\n#     -----BEGIN CERTIFICATE-----\n"), "{text}");
        assert!(text.contains("/run/convexinfra/database-ca.pem"), "{text}");
    }

    #[test]
    fn a_role_that_a_control_plane_makes_is_refused() {
        let refused = backend(|spec| {
            on_servers(spec);
            if let Storage::Postgres(server) = &mut spec.storage {
                server.role = DatabaseRole::LeastPrivilege;
            }
        });
        assert_eq!(refused.unwrap_err().code, "render.secrets");
    }

    #[test]
    fn what_only_a_cluster_knows_is_refused() {
        let refused = backend(|spec| spec.settings.kubernetes.expose = Exposure::LoadBalancer).unwrap_err();
        assert_eq!(refused.code, "render.address");
    }
}
