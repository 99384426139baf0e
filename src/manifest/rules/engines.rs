//! Which keys of `storage` and `files` go with which engine, and which of them go together.

use std::ops::Range;

use super::super::tree::{EngineTable, Value};
use super::{BackendView, ManifestView};
use crate::model::Diagnostic;
use crate::policy::specification;

/// The keys of `files.buckets`.
const BUCKET_PARTS: [&str; 5] = ["exports", "snapshot_imports", "modules", "files", "search"];

/// Where to point when something is not there: the table, else the backend.
fn place<'a>(backend: &BackendView<'a, '_>, view: &EngineTable<'a, '_>, key: &str) -> &'a Range<usize> {
    let own = backend.view.own.and_then(|node| node.get(key)).map(|entry| &entry.key);
    own.or_else(|| view.get("engine").map(|entry| &entry.key)).unwrap_or(backend.key)
}

fn is_broken(backend: &BackendView<'_, '_>, key: &str) -> bool {
    matches!(backend.view.get(key).map(|entry| &entry.value), Some(Value::Broken))
}

/// The chosen engine; nothing when it is broken, which has been said.
fn engine(view: &EngineTable<'_, '_>, otherwise: &'static str) -> Option<&'static str> {
    match view.get("engine").map(|entry| &entry.value) {
        None => Some(otherwise),
        Some(Value::Word(word)) => Some(word),
        Some(_) => None,
    }
}

/// Keys that the engine has no use for, as one problem.
fn mismatch(
    backend: &BackendView<'_, '_>,
    view: &EngineTable<'_, '_>,
    table: &str,
    engine: &str,
    keys: &[&str],
    meant: &str,
) -> Option<Diagnostic> {
    let own = view.view.own.into_iter().chain(view.view.base);
    let mut useless = own.flat_map(|node| node.entries.iter()).filter(|(name, _)| keys.contains(name));
    let (name, entry) = useless.next()?;
    let more = useless.count();
    let message = match view.get("engine") {
        Some(_) => format!("`{table}.{name}` means nothing for the engine `{engine}` of `{}`", backend.name),
        None => format!(
            "`{}` has `{table}.{name}` and no `{table}.engine`, so the engine is `{engine}`, for which it means nothing",
            backend.name
        ),
    };
    let more = if more > 0 { format!(" and {more} more like it") } else { String::new() };
    Some(
        Diagnostic::at("manifest.engine_mismatch", &entry.key, message)
            .with_help(format!("remove it{more}, or write `engine = {meant}`")),
    )
}

/// What `storage` must be.
pub(super) fn storage(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let view = &backend.storage;
        if (view.view.own.is_none() && view.view.base.is_none()) || is_broken(backend, "storage") {
            continue;
        }
        let Some(engine) = engine(view, "sqlite") else { continue };
        if engine == "sqlite" {
            problems.extend(mismatch(
                backend,
                view,
                "storage",
                "sqlite",
                &["url", "managed", "region", "tls", "role"],
                "\"postgres\"` or `\"mysql\"",
            ));
            continue;
        }
        let managed = view.get("managed");
        if let Some(role) = view.get("role").filter(|_| view.flag("managed")) {
            problems.push(specification::role_and_managed(backend.name).at(&role.key));
        }
        match (view.get("url"), view.flag("managed")) {
            (Some(url), true) => {
                problems.push(specification::url_and_managed(backend.name).at(&url.key));
            }
            (None, false) if !managed.is_some_and(|entry| matches!(entry.value, Value::Broken)) => {
                let violation = specification::storage_without_server(backend.name, engine);
                problems.push(violation.at(place(backend, view, "storage")).with_allowed(["url", "managed"]));
            }
            _ => {}
        }
    }
}

/// Says which buckets have no name, where neither one bucket nor a prefix names those that `buckets` leaves out.
fn unnamed_buckets(backend: &BackendView<'_, '_>, view: &EngineTable<'_, '_>, place: &Range<usize>) -> Option<Diagnostic> {
    let Some(entry) = view.get("buckets") else {
        let message = format!("`{}` keeps its files in S3, and nothing names the bucket", backend.name);
        return Some(
            Diagnostic::at("manifest.missing_bucket", place, message)
                .with_help("add `bucket = \"…\"` for one bucket, or `bucket_prefix = \"…\"` for five")
                .with_allowed(["bucket", "bucket_prefix"]),
        );
    };
    if matches!(entry.value, Value::Broken) {
        return None;
    }
    let named = view.table("buckets");
    let missing: Vec<&str> = BUCKET_PARTS.into_iter().filter(|part| named.get(part).is_none()).collect();
    let all = missing.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ");
    let message = format!("`{}` keeps its files in S3, and nothing names the bucket of {all}", backend.name);
    (!missing.is_empty()).then(|| {
        Diagnostic::at("manifest.missing_bucket", &entry.key, message)
            .with_help(
                "name it in `buckets`, or add `bucket = \"…\"` or `bucket_prefix = \"…\"` for all that `buckets` leaves out",
            )
            .with_allowed(missing)
    })
}

/// What `files` must be.
pub(super) fn files(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let view = &backend.files;
        if (view.view.own.is_none() && view.view.base.is_none()) || is_broken(backend, "files") {
            continue;
        }
        let Some(engine) = engine(view, "local") else { continue };
        if engine == "local" {
            let keys = [
                "bucket",
                "bucket_prefix",
                "buckets",
                "region",
                "endpoint",
                "path_style",
                "access_key_id",
                "secret_access_key",
                "create_buckets",
            ];
            problems.extend(mismatch(backend, view, "files", "local", &keys, "\"s3\""));
            continue;
        }
        let place = place(backend, view, "files");
        if view.get("region").is_none() {
            problems.push(
                Diagnostic::at(
                    "manifest.missing_key",
                    place,
                    format!("`{}` keeps its files in S3, and `files.region` is not there", backend.name),
                )
                .with_help("add `region = \"us-east-1\"`; services without regions take `auto`")
                .with_allowed(["region"]),
            );
        }
        match (view.get("bucket"), view.get("bucket_prefix")) {
            (Some(_), Some(prefix)) => problems.push(
                Diagnostic::at(
                    "manifest.bucket_and_prefix",
                    &prefix.key,
                    format!("`{}` names one bucket and a prefix for five", backend.name),
                )
                .with_help("keep `bucket` for one bucket or `bucket_prefix` for five, not both"),
            ),
            (None, None) => problems.extend(unnamed_buckets(backend, view, place)),
            _ => {}
        }
        let (present, missing) = match (view.get("access_key_id"), view.get("secret_access_key")) {
            (Some(id), None) => (id, "secret_access_key"),
            (None, Some(secret)) => (secret, "access_key_id"),
            _ => continue,
        };
        problems.push(
            Diagnostic::at(
                "manifest.half_credentials",
                &present.key,
                format!("`{}` has half of its S3 credentials: `{missing}` is not there", backend.name),
            )
            .with_help(format!("add `{missing}`, or remove both to use the machine's role")),
        );
    }
}
