//! `convexinfra import`: takes over what something else started.
//!
//! It writes down what the container is now. The next apply puts a container of ours in its place, with the same volume,
//! the same name, the same secret and the same ports. Must not do: change the container, or guess what the manifest means.

use std::collections::BTreeMap;

use super::plan;
use crate::api::{ControlPlane, IfMissing};
use crate::authority::Adoption;
use crate::cli::args::Import as Args;
use crate::cli::context::{Context, LoadedManifest};
use crate::cli::error::CliError;
use crate::cli::secrets::ComparisonMode;
use crate::convex::tuning::without_defaults;
use crate::host::own_holder;
use crate::model::{
    BackendName, BackendSpec, Diagnostic, Exit, FieldValue, Files, InstanceName, Origins, ProviderKind, Resources, Secret,
    Storage, Tuning, error_chain, fields,
};
use crate::plan::BackendSelection;
use crate::provider::docker::{ExternalContainer, ExternalStorage};

/// Takes a container over as a backend of the manifest.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let Some(container) = &args.container else {
        let finding = Diagnostic::new("usage.container", "nothing says which container is to be taken over");
        let help = format!("list them with `docker ps`, and name one\n    convexinfra import {} --container ID", args.name);
        return Err(CliError::new(Exit::Usage, finding.with_help(help)));
    };
    let (loaded, values) = context.load_with_secrets(IfMissing::Create, ComparisonMode::Strict).await?;
    let spec = &target_spec(&loaded, args)?.clone();
    plan::require_readable_secrets(&values, &BackendSelection::Only([args.name.clone()].into()))?;
    let docker = context.docker()?;
    let foreign = docker.inspect_for_import(container).await.map_err(|error| {
        let exit = if error.code() == "provider.unreachable" { Exit::Unreachable } else { Exit::Refused };
        CliError::new(exit, Diagnostic::new("import.not_possible", error_chain(&error)))
    })?;
    let secrets = values.found().get(&args.name).cloned().unwrap_or_default();
    let url = secrets.get(&crate::model::FieldPath::new("storage.url"));
    let recorded = spec_from_container(spec, &foreign, url).map_err(|(message, help)| refused(&message, &help))?;
    let instance_name = InstanceName::parse(&foreign.instance_name).map_err(|error| {
        refused(
            &format!("the instance is called `{}`, which cannot be kept: {error}", foreign.instance_name),
            "move its data instead: `npx convex export` there, `npx convex import --replace-all` here",
        )
    })?;
    let adoption = Adoption {
        name: args.name.clone(),
        instance_name,
        instance_secret: foreign.instance_secret.clone(),
        spec: recorded.clone(),
        secrets,
        ports: foreign.ports,
    };
    let host = context.embedded(&loaded.desired)?;
    let project = &loaded.desired.project;
    host.adopt(project, own_holder(), &loaded.desired.origin, adoption, |placement| foreign.references(placement)).await?;
    let snapshot = host.snapshot(project).await?;
    let url = snapshot
        .backends
        .iter()
        .find(|backend| backend.name == args.name)
        .and_then(|backend| backend.endpoints.clone())
        .map(|endpoints| endpoints.url);
    let mut text =
        format!("`{}` is now the container `{}`, the instance `{}`\n", args.name, foreign.name, foreign.instance_name);
    text.push_str(
        "it runs on as it is; a container of convexinfra takes its place and its volume with\n    convexinfra apply\n",
    );
    let notices = notices(&args.name, spec, &recorded, &foreign);
    for notice in &notices {
        text.push_str(notice);
        text.push('\n');
    }
    context.printer.output(&text);
    context.printer.json(
        "convexinfra.import/1",
        serde_json::json!({
            "name": args.name,
            "container": foreign.name,
            "instance_name": foreign.instance_name,
            "url": url,
            "not_kept": dropped_fields(spec, &recorded),
            "inexpressible": foreign.unsupported_variables,
            "notices": notices,
        }),
    );
    Ok(Exit::Done)
}

/// What the next apply changes of the container, unless somebody does something about it.
fn notices(name: &BackendName, spec: &BackendSpec, recorded: &BackendSpec, foreign: &ExternalContainer) -> Vec<String> {
    let mut notices = Vec::new();
    if foreign.is_public && spec.settings.docker.publish.is_none() {
        let words = "other machines reach its ports now, and will not after that, unless `publish` in the manifest says so";
        notices.push(words.to_owned());
    }
    let lines: Vec<String> =
        dropped_fields(spec, recorded).iter().map(|(path, value)| format!("\n    {path} = {value}")).collect();
    if !lines.is_empty() {
        notices.push(format!(
            "the manifest does not say what the container has, so the next apply changes it; to keep it, write\n    \
             [backends.{name}]{}",
            lines.concat()
        ));
    }
    if !foreign.unsupported_variables.is_empty() {
        let names: Vec<String> = foreign.unsupported_variables.iter().map(|name| format!("`{name}`")).collect();
        notices.push(format!(
            "it has variables that a manifest has no word for, and the next apply drops them: {}",
            names.join(", ")
        ));
    }
    notices
}

/// The fields that the container has and the manifest says nothing of, or something else, with the values that keep them.
fn dropped_fields(spec: &BackendSpec, recorded: &BackendSpec) -> BTreeMap<String, String> {
    let wanted = fields(spec);
    let is_kept_apart =
        |path: &str| path.starts_with("tuning.") || path.starts_with("resources.") || path.starts_with("origins.");
    let mut kept = BTreeMap::new();
    for (path, value) in fields(recorded) {
        let FieldValue::Text(text) = &value else { continue };
        if is_kept_apart(path.as_str()) && wanted.get(&path) != Some(&value) {
            let is_number = text.starts_with(|first: char| first.is_ascii_digit()) && text.parse::<f64>().is_ok();
            let is_bare = is_number || matches!(text.as_str(), "true" | "false");
            kept.insert(path.to_string(), if is_bare { text.clone() } else { toml::Value::from(text.as_str()).to_string() });
        }
    }
    kept
}

fn refused(message: &str, help: &str) -> CliError {
    CliError::new(Exit::Refused, Diagnostic::new("import.not_possible", message).with_help(help))
}

/// The backend of the manifest that the container is to become.
fn target_spec<'a>(loaded: &'a LoadedManifest, args: &Args) -> Result<&'a BackendSpec, CliError> {
    let name = &args.name;
    let block = format!("[backends.{name}]\nprovider = \"docker\"").replace('\n', "\n    ");
    match loaded.desired.backends.get(name).map(|backend| &backend.spec) {
        Some(spec) if spec.provider == ProviderKind::Docker => Ok(spec),
        Some(spec) => Err(refused(
            &format!("`{name}` has the provider `{}`, and a container can only become a backend of `docker`", spec.provider),
            "change the provider in the manifest, or choose another name",
        )),
        None => Err(refused(
            &format!("the manifest has no backend `{name}`"),
            &format!("write what it is to be into the manifest first\n    {block}"),
        )),
    }
}

/// What the container is now, in the words of the manifest. What would move its data must agree already.
fn spec_from_container(
    spec: &BackendSpec,
    foreign: &ExternalContainer,
    url: Option<&Secret>,
) -> Result<BackendSpec, (String, String)> {
    let mut recorded = spec.clone();
    let there = match &foreign.storage {
        ExternalStorage::Sqlite => None,
        ExternalStorage::Postgres(url) | ExternalStorage::Mysql(url) => Some(url),
    };
    let agrees = match (&foreign.storage, &spec.storage) {
        (ExternalStorage::Sqlite, Storage::Sqlite) => true,
        (ExternalStorage::Postgres(_), Storage::Postgres(server)) | (ExternalStorage::Mysql(_), Storage::Mysql(server)) => {
            !server.managed
        }
        _ => false,
    };
    let engine = match &foreign.storage {
        ExternalStorage::Sqlite => "sqlite",
        ExternalStorage::Postgres(_) => "postgres",
        ExternalStorage::Mysql(_) => "mysql",
    };
    if !agrees {
        let message =
            format!("the container keeps its documents in {engine}, and the manifest says `{}`", spec.storage.engine());
        return Err((message, format!("write `storage = {{ engine = \"{engine}\", … }}` into the manifest first")));
    }
    if let (Some(there), Some(url)) = (there, url)
        && there.expose().trim_end_matches('/') != url.expose().trim_end_matches('/')
    {
        let message = "the container has another database URL than `storage.url` in the manifest";
        return Err((message.to_owned(), "let the manifest refer to the same URL first".to_owned()));
    }
    if foreign.has_s3 != matches!(spec.files, Files::S3(_)) {
        let (now, then) = if foreign.has_s3 { ("S3", "local") } else { ("its volume", "s3") };
        let message = format!("the container keeps its files in {now}, and the manifest says `{then}`");
        return Err((message, "let `files` in the manifest say the same first".to_owned()));
    }
    recorded.release = foreign.release.clone();
    recorded.settings.docker.image = foreign.image.clone();
    recorded.dashboard = false;
    recorded.env.clear();
    recorded.settings.docker.publish = match (&foreign.publish, &spec.settings.docker.publish) {
        // Loopback, written or left out.
        (None, Some(written)) if written == "127.0.0.1" => Some(written.clone()),
        (publish, _) => publish.clone(),
    };
    let host = recorded.port_host();
    let own = |port: u16| format!("http://{host}:{port}");
    let (api, site) = (own(foreign.ports.api), own(foreign.ports.site));
    let origins = (foreign.origins.0.clone().unwrap_or(api.clone()), foreign.origins.1.clone().unwrap_or(site.clone()));
    recorded.origins = match origins {
        (there, site_there) if there == api && site_there == site => Origins::default(),
        // Convex takes both or neither.
        (api, site) => Origins { api: Some(api), site: Some(site) },
    };
    recorded.resources = Resources { disk: spec.resources.disk, ..foreign.resources.clone() };
    recorded.tuning = merged_tuning(&spec.tuning, &foreign.tuning);
    Ok(recorded)
}

/// The knobs that the container was started with. Where the manifest says what they are anyway, they are as written.
fn merged_tuning(wanted: &Tuning, there: &Tuning) -> Tuning {
    let plain = without_defaults(wanted);
    let mut tuning = there.clone();
    if plain.document_retention == there.document_retention {
        tuning.document_retention = wanted.document_retention;
    }
    if plain.redact_logs == there.redact_logs {
        tuning.redact_logs = wanted.redact_logs;
    }
    if plain.beacon == there.beacon {
        tuning.beacon = wanted.beacon;
    }
    if plain.log_level == there.log_level {
        tuning.log_level.clone_from(&wanted.log_level);
    }
    tuning
}
