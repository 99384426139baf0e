//! Rules about one specification of any origin: a manifest, or a client that sends JSON.
//!
//! The reader of manifests reports the same violations with a span and, where one edit repairs it, that edit. The
//! authority checks what comes over the wire with [`violations`], so that no client can record what a manifest may not say.

use super::formats::{self, TextFormat, quoted};
use super::violation::Violation;
use crate::model::{
    BackendName, BackendSpec, BucketNames, DESCRIPTORS, Diagnostic, Files, Release, ReleaseSource, RouteTls, SecretSource,
    ServerStorage, TextShape, TextValue, Tls,
};

/// The most bytes of a specification as JSON, without variables and certificates, which have limits of their own. Every look at
/// a project reads the specifications of all its backends.
const MAX_SPECIFICATION_BYTES: usize = 32 * 1024;
/// The longest origin that is shown as part of a line to be copied, in bytes: no host name is longer.
const MAX_QUOTED_LINE: usize = 300;
/// The most variables that Convex keeps.
pub(crate) const MAX_VARIABLES: usize = 512;
/// The most bytes that Convex takes for the value of one variable.
pub(crate) const MAX_VARIABLE_BYTES: usize = 8 * 1024;
/// The largest count in `tuning`: far above what any machine can do, far below what overflows.
pub(crate) const MAX_COUNT: u32 = 100_000;
/// The two variables that every deployment sets by itself.
pub(crate) const BUILT_IN_VARIABLES: [&str; 2] = ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"];

impl From<Violation> for Diagnostic {
    fn from(Violation { code, message, help }: Violation) -> Self {
        Self::new(code, message).with_help(help)
    }
}

/// Returns every rule that a specification breaks.
pub(crate) fn violations(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Some(violation) = too_large(name, spec) {
        // Lists and texts of any length are not gone through.
        return vec![violation.into()];
    }
    check_texts(spec, &mut found);
    check_counts(spec, &mut found);
    check_origins(spec, &mut found);
    check_variables(name, spec, &mut found);
    check_storage(name, spec, &mut found);
    check_certificates(spec, &mut found);
    check_settings(name, spec, &mut found);
    if spec.provider.descriptor().releases == ReleaseSource::Archives && matches!(spec.release, Some(Release::Digest(_))) {
        found.push(release_for_images(name.as_str()));
    }
    found.into_iter().map(Diagnostic::from).collect()
}

fn check_texts(spec: &BackendSpec, found: &mut Vec<Violation>) {
    let mut check = |path: &str, format: &TextFormat, text: Option<&str>| {
        found.extend(text.and_then(|text| format.violation(&quoted(path), text)));
    };
    check("region", &formats::REGION, spec.region.as_deref());
    check("origins.api", &formats::API_ORIGIN, spec.origins.api.as_deref());
    check("origins.site", &formats::SITE_ORIGIN, spec.origins.site.as_deref());
    check("origins.dashboard", &formats::API_ORIGIN, spec.origins.dashboard.as_deref());
    check(RouteTls::ACME, &formats::ACME_DIRECTORY, spec.route_tls().and_then(RouteTls::acme));
    check("storage.region", &formats::REGION, spec.storage.server().and_then(|server| server.region.as_deref()));
    if let Files::S3(s3) = &spec.files {
        match &s3.buckets {
            BucketNames::Single(bucket) => check("files.bucket", &formats::BUCKET, Some(bucket)),
            BucketNames::Prefix(prefix) => check("files.bucket_prefix", &formats::BUCKET_PREFIX, Some(prefix)),
            BucketNames::Named(named) => {
                for (part, bucket) in named.parts() {
                    check(&format!("files.buckets.{part}"), &formats::BUCKET, Some(bucket));
                }
            }
        }
        check("files.region", &formats::REGION, Some(&s3.region));
        if let Some(TextValue::Literal(endpoint)) = &s3.endpoint {
            check("files.endpoint", &formats::ENDPOINT, Some(endpoint));
        }
    }
    check("tuning.log_level", &formats::LINE, spec.tuning.log_level.as_deref());
    for setting in DESCRIPTORS.iter().flat_map(|descriptor| (descriptor.texts)(&spec.settings)) {
        check(setting.path, format_of(setting.shape), Some(setting.text));
    }
}

/// Returns the pattern of a shape.
pub(crate) const fn format_of(shape: TextShape) -> &'static TextFormat {
    match shape {
        TextShape::Path => &formats::PATH,
        TextShape::Line => &formats::LINE,
        TextShape::Word => &formats::WORD,
        TextShape::Label => &formats::LABEL,
        TextShape::Image => &formats::IMAGE,
        TextShape::Address => &formats::ADDRESS,
        TextShape::Region => &formats::REGION,
        TextShape::HostEntry => &formats::HOST_ENTRY,
        TextShape::Mount => &formats::MOUNT,
        TextShape::Sha256 => &formats::SHA256,
        TextShape::Gateway => &formats::GATEWAY,
        TextShape::SshHost => &formats::SSH_HOST,
        TextShape::HostKey => &formats::HOST_KEY,
        TextShape::Socket => &formats::SOCKET,
    }
}

/// A manifest names a file; a request has its content. A path would be one of the control plane's own disk, and a digest is what
/// it records itself.
fn check_certificates(spec: &BackendSpec, found: &mut Vec<Violation>) {
    let named = match spec.storage.server().map(|server| &server.tls) {
        Some(Tls::Ca(path)) => format!("the file {}", quoted(path)),
        Some(Tls::Sealed(digest)) => format!("the digest {}", quoted(digest.as_str())),
        Some(Tls::Verify | Tls::Disable | Tls::Pem(_)) | None => return,
    };
    found.push(Violation::new(
        "control.certificate_path",
        format!("`storage.tls` names {named}, and a control plane takes certificates as their text"),
        "send `tls = { \"pem\": … }`; the command of this release does, so upgrade an older one",
    ));
}

fn check_settings(name: &BackendName, spec: &BackendSpec, found: &mut Vec<Violation>) {
    let others = DESCRIPTORS.iter().filter(|descriptor| descriptor.kind != spec.provider);
    for other in others.filter(|descriptor| (descriptor.has_settings)(&spec.settings)) {
        found.push(other_provider(name.as_str(), spec.provider.as_str(), other.kind.as_str()));
    }
}

fn check_counts(spec: &BackendSpec, found: &mut Vec<Violation>) {
    let tuning = &spec.tuning;
    let counts = [
        ("tuning.max_concurrent_queries", tuning.max_concurrent_queries),
        ("tuning.max_concurrent_mutations", tuning.max_concurrent_mutations),
        ("tuning.max_concurrent_v8_actions", tuning.max_concurrent_v8_actions),
        ("tuning.max_concurrent_node_actions", tuning.max_concurrent_node_actions),
        ("tuning.scheduled_job_parallelism", tuning.scheduled_job_parallelism),
    ];
    for (path, count) in counts {
        if let Some(count) = count.filter(|count| !(1..=MAX_COUNT).contains(count)) {
            found.push(bad_count(&quoted(path), &count.to_string(), MAX_COUNT));
        }
    }
}

fn check_origins(spec: &BackendSpec, found: &mut Vec<Violation>) {
    match (spec.origins.api.as_deref(), spec.origins.site.as_deref()) {
        (Some(api), Some(site)) if api == site => found.push(same_origins(api)),
        (Some(api), None) => found.push(lonely_origin("site", Some(api))),
        (None, Some(_)) => found.push(lonely_origin("api", None)),
        _ => {}
    }
    if spec.origins.dashboard.is_some() && spec.route_tls().is_none() {
        found.push(unserved_dashboard());
    }
}

fn check_variables(name: &BackendName, spec: &BackendSpec, found: &mut Vec<Violation>) {
    if spec.env.len() > MAX_VARIABLES {
        found.push(too_many_variables(name.as_str(), spec.env.len()));
        return;
    }
    for (variable, source) in &spec.env {
        if BUILT_IN_VARIABLES.contains(&variable.as_str()) {
            found.push(built_in_variable(variable));
        } else if !(formats::CONVEX_VARIABLE.matches)(variable) {
            found.push(bad_variable_name(variable));
        }
        if let SecretSource::Literal(value) = source
            && value.len() > MAX_VARIABLE_BYTES
        {
            found.push(variable_too_long(&quoted(&format!("env.{variable}")), value.len()));
        }
    }
}

fn check_storage(name: &BackendName, spec: &BackendSpec, found: &mut Vec<Violation>) {
    let Some(ServerStorage { url, managed, role, .. }) = spec.storage.server() else { return };
    if *managed && *role != crate::model::DatabaseRole::default() {
        found.push(role_and_managed(name.as_str()));
    }
    match (url, managed) {
        (Some(_), true) => found.push(url_and_managed(name.as_str())),
        (None, false) => found.push(storage_without_server(name.as_str(), spec.storage.engine())),
        _ => {}
    }
}

/// Returns that a specification is larger than any that means something.
pub(crate) fn too_large(name: &BackendName, spec: &BackendSpec) -> Option<Violation> {
    fn size(part: &impl serde::Serialize) -> usize {
        serde_json::to_vec(part).map_or(usize::MAX, |json| json.len())
    }
    let elsewhere = size(&spec.env) + spec.storage.server().map_or(0, |server| size(&server.tls));
    let bytes = size(spec).saturating_sub(elsewhere);
    (bytes > MAX_SPECIFICATION_BYTES).then(|| {
        Violation::new(
            "manifest.specification_too_large",
            format!("what is written about `{name}` has {bytes} bytes beside its variables, and at most {MAX_SPECIFICATION_BYTES} are kept"),
            "shorten its lists and texts",
        )
    })
}

/// A count of `tuning` that is out of its range; `path` is quoted.
pub(crate) fn bad_count(path: &str, count: &str, most: u32) -> Violation {
    Violation::new(
        "manifest.bad_count",
        format!("{path} cannot be {}", quoted(count)),
        format!("it is a whole number from 1 to {most}"),
    )
}

/// One of the two origins without the other; `api` is the origin of the API where that is the one that is given.
pub(crate) fn lonely_origin(lacks: &str, api: Option<&str>) -> Violation {
    let given = if lacks == "site" { "api" } else { "site" };
    // The site may always be served below the API's own host.
    let help = match api {
        Some(api) => format!("add {}, or the host of your HTTP actions", site_below(api)),
        None => format!("add `{lacks}`"),
    };
    let message = format!("`origins.{given}` is there and `origins.{lacks}` is not; Convex takes both or neither");
    Violation::new("manifest.lonely_origin", message, help)
}

/// An origin of a dashboard to which nothing leads.
pub(crate) fn unserved_dashboard() -> Violation {
    Violation::new(
        "manifest.dashboard_origin_unused",
        "`origins.dashboard` is there, and no proxy of convexinfra's own leads to the dashboard".to_owned(),
        "add `tls` on provider `docker`, or leave `origins.dashboard` out",
    )
}

/// The line that puts the HTTP actions below the host of the API; one that is too long to be copied is described.
fn site_below(api: &str) -> String {
    if api.len() <= MAX_QUOTED_LINE {
        format!("`site = \"{api}/http\"`")
    } else {
        "`site` with that origin and `/http`".to_owned()
    }
}

/// The API and the HTTP actions at the same place.
pub(crate) fn same_origins(one: &str) -> Violation {
    Violation::new(
        "manifest.same_origins",
        format!("{} cannot serve the API and the HTTP actions at the same paths", quoted(one)),
        format!("write {}, or a host of its own", site_below(one)),
    )
}

/// More variables than Convex keeps.
pub(crate) fn too_many_variables(name: &str, count: usize) -> Violation {
    Violation::new(
        "manifest.too_many_env",
        format!("`{name}` has {count} variables, and Convex keeps at most {MAX_VARIABLES}"),
        "remove some, or join them into one JSON text",
    )
}

/// A variable that every deployment sets by itself.
pub(crate) fn built_in_variable(variable: &str) -> Violation {
    Violation::new(
        "manifest.builtin_env",
        format!("`{variable}` is built into Convex and cannot be set; the deployment sets it itself"),
        "remove it; `origins` decides what it is",
    )
}

/// A name that Convex takes for no variable.
pub(crate) fn bad_variable_name(variable: &str) -> Violation {
    let format = &formats::CONVEX_VARIABLE;
    Violation::new(format.code, format!("{} is not {}", quoted(variable), format.noun), format.allowed)
}

/// A value that Convex does not take; `path` is quoted.
pub(crate) fn variable_too_long(path: &str, bytes: usize) -> Violation {
    Violation::new(
        "manifest.env_value_too_long",
        format!("the value of {path} has {bytes} bytes, and Convex takes at most {MAX_VARIABLE_BYTES}"),
        "keep it in a file of the app, or split it",
    )
}

/// A role beside a server that the provider runs.
pub(crate) fn role_and_managed(name: &str) -> Violation {
    Violation::new(
        "manifest.role_and_managed",
        format!("the server of `{name}` is its provider's, which makes the only role there is"),
        "remove `role`",
    )
}

/// Two servers for one backend.
pub(crate) fn url_and_managed(name: &str) -> Violation {
    Violation::new(
        "manifest.storage_url_and_managed",
        format!("`{name}` has a database of its own and is to use another one"),
        "keep `url` for a server of yours, or `managed = true` for one that the provider runs",
    )
}

/// A database engine without a server.
pub(crate) fn storage_without_server(name: &str, engine: &str) -> Violation {
    let variable = format!("{}_STORAGE_URL", name.to_uppercase().replace('-', "_"));
    Violation::new(
        "manifest.storage_without_server",
        format!("`{name}` keeps its documents in {engine}, and nothing says on which server"),
        format!("add `url = {{ env = \"{variable}\" }}`, or `managed = true` for one that the provider runs"),
    )
}

/// Settings of a provider that was not chosen.
pub(crate) fn other_provider(name: &str, chosen: &str, table: &str) -> Violation {
    Violation::new(
        "manifest.other_provider",
        format!("`{name}` runs on `{chosen}`, so its table `{table}` would have no effect"),
        format!("remove the table, or write `provider = \"{table}\"`"),
    )
}

/// A digest of an image where a binary runs.
pub(crate) fn release_for_images(name: &str) -> Violation {
    Violation::new(
        "manifest.release_for_images",
        format!("`{name}` runs a binary, and a digest `sha256:…` names an image"),
        "write a tag such as `precompiled-2026-08-22-652b828`, or a commit",
    )
}
