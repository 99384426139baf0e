//! A specification as flat fields, so that two of them can be compared without knowing what each field is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::database::DatabaseRole;
use super::secret::{SecretRef, SecretSource};
use super::spec::{BackendSpec, BucketNames, Files, Storage, TextValue, Tls};

/// The dotted path of a field inside a backend's block, such as `resources.memory`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct FieldPath(String);

impl FieldPath {
    /// Takes a dotted path.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The field with the URL of a database server: who enters it, and how.
pub const STORAGE_URL: &str = "storage.url";

/// The field with what [`STORAGE_URL`] says about which server it is. It is read from the same place and compared by
/// a fingerprint of its own, because other credentials are a restart and another server is other data.
pub const STORAGE_SERVER: &str = "storage.server";

/// What the fields of a process's further variables begin with; the rest is the name of the variable.
pub const EXTRA_ENV: &str = "docker.extra_env.";

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// Anything that may be shown.
    Text(String),
    /// Anything that may be shown only as a fingerprint.
    Secret(SecretSource),
}

/// Every field that is set, by its path. What is left out is left out here too.
pub fn fields(spec: &BackendSpec) -> BTreeMap<FieldPath, FieldValue> {
    let mut fields = Fields(BTreeMap::new());
    fields.text("provider", Some(spec.provider));
    fields.text("release", spec.release.as_ref());
    fields.text("region", spec.region.as_ref());
    fields.flag("dashboard", spec.dashboard);
    fields.flag("protected", spec.protected);
    fields.text("ttl", spec.ttl);
    if !spec.depends_on.is_empty() {
        let names: Vec<&str> = spec.depends_on.iter().map(super::name::BackendName::as_str).collect();
        fields.text("depends_on", Some(names.join(", ")));
    }
    storage_fields(&mut fields, &spec.storage);
    fields.secret(STORAGE_SERVER, spec.storage.server().and_then(|server| server.url.as_ref()));
    files_fields(&mut fields, &spec.files);
    fields.text("resources.cpus", spec.resources.cpus);
    fields.text("resources.memory", spec.resources.memory);
    fields.text("resources.disk", spec.resources.disk);
    fields.text("origins.api", spec.origins.api.as_ref());
    fields.text("origins.site", spec.origins.site.as_ref());
    tuning_fields(&mut fields, spec);
    for (name, source) in &spec.env {
        fields.0.insert(FieldPath(format!("env.{name}")), FieldValue::Secret(source.clone()));
    }
    settings_fields(&mut fields, spec);
    fields.0
}

/// Every field whose value is compared by fingerprint, with where the value comes from.
pub fn secret_slots(spec: &BackendSpec) -> Vec<(FieldPath, SecretSource)> {
    let mut fields = Fields(BTreeMap::new());
    storage_fields(&mut fields, &spec.storage);
    files_fields(&mut fields, &spec.files);
    for (name, source) in &spec.env {
        fields.0.insert(FieldPath(format!("env.{name}")), FieldValue::Secret(source.clone()));
    }
    if spec.provider == super::provider::ProviderKind::Docker {
        extra_env_fields(&mut fields, &spec.settings.docker);
    }
    fields
        .0
        .into_iter()
        .filter_map(|(path, value)| match value {
            FieldValue::Secret(source) => Some((path, source)),
            FieldValue::Text(_) => None,
        })
        .collect()
}

struct Fields(BTreeMap<FieldPath, FieldValue>);

impl Fields {
    fn text(&mut self, path: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.0.insert(FieldPath(path.to_owned()), FieldValue::Text(value.to_string()));
        }
    }

    /// A switch that is off is the same as one that is not there.
    fn flag(&mut self, path: &str, value: bool) {
        self.text(path, value.then_some("true"));
    }

    fn secret(&mut self, path: &str, reference: Option<&SecretRef>) {
        if let Some(reference) = reference {
            self.0.insert(FieldPath(path.to_owned()), FieldValue::Secret(SecretSource::Reference(reference.clone())));
        }
    }
}

fn storage_fields(fields: &mut Fields, storage: &Storage) {
    fields.text("storage.engine", Some(storage.engine()));
    let Some(server) = storage.server() else { return };
    fields.secret(STORAGE_URL, server.url.as_ref());
    fields.flag("storage.managed", server.managed);
    fields.text("storage.region", server.region.as_ref());
    match &server.tls {
        Tls::Verify => {}
        Tls::Disable => fields.text("storage.tls", Some("disable")),
        Tls::Ca(path) => fields.text("storage.tls", Some(format!("ca {path}"))),
    }
    fields.text("storage.role", (server.role == DatabaseRole::LeastPrivilege).then_some("least_privilege"));
}

fn files_fields(fields: &mut Fields, files: &Files) {
    let Files::S3(s3) = files else {
        return fields.text("files.engine", Some("local"));
    };
    fields.text("files.engine", Some("s3"));
    match &s3.buckets {
        BucketNames::Single(name) => fields.text("files.bucket", Some(name)),
        BucketNames::Prefix(prefix) => fields.text("files.bucket_prefix", Some(prefix)),
    }
    fields.text("files.region", Some(&s3.region));
    match &s3.endpoint {
        None => {}
        Some(TextValue::Literal(url)) => fields.text("files.endpoint", Some(url)),
        Some(TextValue::Reference(reference)) => fields.secret("files.endpoint", Some(reference)),
    }
    fields.flag("files.path_style", s3.path_style);
    fields.secret("files.access_key_id", s3.credentials.as_ref().map(|c| &c.access_key_id));
    fields.secret("files.secret_access_key", s3.credentials.as_ref().map(|c| &c.secret_access_key));
}

fn tuning_fields(fields: &mut Fields, spec: &BackendSpec) {
    let tuning = &spec.tuning;
    fields.text("tuning.max_concurrent_queries", tuning.max_concurrent_queries);
    fields.text("tuning.max_concurrent_mutations", tuning.max_concurrent_mutations);
    fields.text("tuning.max_concurrent_v8_actions", tuning.max_concurrent_v8_actions);
    fields.text("tuning.max_concurrent_node_actions", tuning.max_concurrent_node_actions);
    fields.text("tuning.scheduled_job_parallelism", tuning.scheduled_job_parallelism);
    fields.text("tuning.document_retention", tuning.document_retention);
    fields.text("tuning.index_retention", tuning.index_retention);
    fields.text("tuning.http_timeout", tuning.http_timeout);
    fields.text("tuning.v8_action_timeout", tuning.v8_action_timeout);
    fields.text("tuning.node_action_timeout", tuning.node_action_timeout);
    fields.text("tuning.index_cache", tuning.index_cache);
    fields.text("tuning.redact_logs", tuning.redact_logs);
    fields.text("tuning.beacon", tuning.beacon);
    fields.text("tuning.log_level", tuning.log_level.as_ref());
}

/// What only the container of a backend has.
fn docker_container_fields(fields: &mut Fields, docker: &super::spec::DockerSettings) {
    for (path, list) in [
        ("docker.networks", &docker.networks),
        ("docker.aliases", &docker.aliases),
        ("docker.extra_hosts", &docker.extra_hosts),
        ("docker.dns", &docker.dns),
        ("docker.mounts", &docker.mounts),
    ] {
        fields.text(path, (!list.is_empty()).then(|| list.join(", ")));
    }
    fields.text("docker.arguments", (!docker.arguments.is_empty()).then(|| docker.arguments.join(" ")));
    for (name, value) in &docker.labels {
        fields.text(&format!("docker.labels.{name}"), Some(value));
    }
    fields.text("docker.api_port", docker.api_port);
    fields.text("docker.site_port", docker.site_port);
    fields.text("docker.shm_size", docker.shm_size);
    extra_env_fields(fields, docker);
}

fn extra_env_fields(fields: &mut Fields, docker: &super::spec::DockerSettings) {
    for (name, source) in &docker.extra_env {
        fields.0.insert(FieldPath(format!("{EXTRA_ENV}{name}")), FieldValue::Secret(source.clone()));
    }
}

fn settings_fields(fields: &mut Fields, spec: &BackendSpec) {
    use super::provider::ProviderKind as Kind;
    let settings = &spec.settings;
    match spec.provider {
        Kind::Simulated => fields.text("simulated.listen", (!settings.simulated.listen).then_some("false")),
        Kind::Local => {
            fields.text("local.binary", settings.local.binary.as_ref());
            fields.text("release.sha256", settings.local.archive_digest.as_ref());
        }
        Kind::Docker => {
            fields.text("docker.image", settings.docker.image.as_ref());
            fields.text("docker.dashboard_image", settings.docker.dashboard_image.as_ref());
            fields.text("docker.database_image", settings.docker.database_image.as_ref());
            fields.text(
                "docker.pull",
                (settings.docker.pull != super::spec::PullPolicy::Missing).then_some(settings.docker.pull),
            );
            fields.text("docker.publish", settings.docker.publish.as_ref());
            fields.text("docker.network", settings.docker.network.as_ref());
            docker_container_fields(fields, &settings.docker);
        }
        Kind::Fly => {
            fields.text("fly.org", settings.fly.org.as_ref());
            fields.text("fly.app", settings.fly.app.as_ref());
            fields.text("fly.image", settings.fly.image.as_ref());
            let kind = settings.fly.cpu_kind;
            fields.text("fly.cpu_kind", (kind != super::fly::CpuKind::Shared).then_some(kind));
            let fallback = &settings.fly.fallback_regions;
            fields.text("fly.fallback_regions", (!fallback.is_empty()).then(|| fallback.join(", ")));
        }
        Kind::Kubernetes => {
            fields.text("kubernetes.context", settings.kubernetes.context.as_ref());
            fields.text("kubernetes.namespace", settings.kubernetes.namespace.as_ref());
            fields.text("kubernetes.storage_class", settings.kubernetes.storage_class.as_ref());
            fields.text("kubernetes.image", settings.kubernetes.image.as_ref());
        }
    }
}
