//! A specification as flat fields.

use std::collections::BTreeMap;

use super::certificates::Certificates;
use super::database::DatabaseRole;
use super::field::{FieldPath, FieldSet, FieldValue, STORAGE_SERVER, STORAGE_TLS, STORAGE_URL};
use super::secret::SecretSource;
use super::spec::{BackendSpec, BucketNames, Files, Storage, TextValue, Tls};

/// Every field that is set, by its path. What is left out is left out here too.
pub fn fields(spec: &BackendSpec) -> BTreeMap<FieldPath, FieldValue> {
    let mut fields = FieldSet::default();
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
    fields.text("origins.dashboard", spec.origins.dashboard.as_ref());
    tuning_fields(&mut fields, spec);
    for (name, source) in &spec.env {
        fields.source(&format!("env.{name}"), source);
    }
    (spec.provider.descriptor().fields)(&spec.settings, &mut fields);
    fields.into_fields()
}

/// Every field whose value is compared by fingerprint, with where the value comes from.
pub fn secret_slots(spec: &BackendSpec) -> Vec<(FieldPath, SecretSource)> {
    let mut fields = FieldSet::default();
    storage_fields(&mut fields, &spec.storage);
    files_fields(&mut fields, &spec.files);
    for (name, source) in &spec.env {
        fields.source(&format!("env.{name}"), source);
    }
    (spec.provider.descriptor().fields)(&spec.settings, &mut fields);
    fields
        .into_fields()
        .into_iter()
        .filter_map(|(path, value)| match value {
            FieldValue::Secret(source) => Some((path, source)),
            FieldValue::Text(_) => None,
        })
        .collect()
}

fn storage_fields(fields: &mut FieldSet, storage: &Storage) {
    fields.text("storage.engine", Some(storage.engine()));
    let Some(server) = storage.server() else { return };
    fields.secret(STORAGE_URL, server.url.as_ref());
    fields.flag("storage.managed", server.managed);
    fields.text("storage.region", server.region.as_ref());
    match &server.tls {
        Tls::Verify => {}
        Tls::Disable => fields.text(STORAGE_TLS, Some("disable")),
        Tls::Ca(path) => fields.text(STORAGE_TLS, Some(format!("ca {path}"))),
        Tls::Pem(certificates) => fields.text(STORAGE_TLS, Some(format!("ca {certificates}"))),
        Tls::Sealed(digest) => fields.text(STORAGE_TLS, Some(format!("ca sha256:{}", Certificates::shortened(digest)))),
    }
    fields.text("storage.role", (server.role == DatabaseRole::LeastPrivilege).then_some("least_privilege"));
}

fn files_fields(fields: &mut FieldSet, files: &Files) {
    let Files::S3(s3) = files else {
        return fields.text("files.engine", Some("local"));
    };
    fields.text("files.engine", Some("s3"));
    match &s3.buckets {
        BucketNames::Single(name) => fields.text("files.bucket", Some(name)),
        BucketNames::Prefix(prefix) => fields.text("files.bucket_prefix", Some(prefix)),
        BucketNames::Named(named) => {
            for (part, bucket) in named.parts() {
                fields.text(&format!("files.buckets.{part}"), Some(bucket));
            }
        }
    }
    fields.text("files.region", Some(&s3.region));
    match &s3.endpoint {
        None => {}
        Some(TextValue::Literal(url)) => fields.text("files.endpoint", Some(url)),
        Some(TextValue::Reference(reference)) => fields.secret("files.endpoint", Some(reference)),
    }
    fields.flag("files.path_style", s3.path_style);
    fields.flag("files.create_buckets", s3.create_buckets);
    fields.secret("files.access_key_id", s3.credentials.as_ref().map(|c| &c.access_key_id));
    fields.secret("files.secret_access_key", s3.credentials.as_ref().map(|c| &c.secret_access_key));
}

fn tuning_fields(fields: &mut FieldSet, spec: &BackendSpec) {
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
