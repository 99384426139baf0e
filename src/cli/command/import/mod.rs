//! `convexinfra import`: takes over what something else started.
//!
//! It writes down what the container is now. The next apply puts a container of ours in its place, with the same volume,
//! the same name, the same secret and the same ports. Nothing of the container is changed, and nothing of the manifest guessed.

mod workload;

use std::collections::BTreeMap;

use crate::api::{ControlPlane, IfMissing};
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, Session, plan, require_ownership};
use crate::authority::{Adoption, AdoptionProof};
use crate::cli::args::Import as Args;
use crate::host::own_holder;
use crate::model::{BackendName, BackendSpec, Diagnostic, Exit, FieldValue, InstanceName, Tls, error_chain, fields};
use crate::plan::BackendSelection;
use crate::provider::docker::{ExternalContainer, missing_lines};
use crate::provider::kubernetes::{WorkloadKind, WorkloadName};
use crate::{app::LoadedManifest, cli::context::Context};

/// Takes something over as a backend of the manifest.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    match named_workload(args) {
        Some((kind, named)) => workload::run(context, &args.name, kind, named).await,
        None => import_container(context, args).await,
    }
}

async fn import_container(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let Some(container) = &args.container else {
        let finding = Diagnostic::new("usage.container", "nothing says which container is to be taken over");
        let name = &args.name;
        let help = format!(
            "list them with `docker ps`, and name one\n    convexinfra import {name} --container ID\nor what a cluster runs\n    \
             convexinfra import {name} --statefulset NAMESPACE/NAME"
        );
        return Err(AppError::new(Exit::Usage, finding.with_help(help)));
    };
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    require_ownership(control, &manifest.desired.project, Some(&manifest.desired)).await?;
    let session = Session::open(control, manifest, IfMissing::Create, ComparisonMode::Strict).await?;
    let (loaded, values) = (&session.manifest, &session.secrets);
    let spec = &target_spec(loaded, args)?.clone();
    plan::require_readable_secrets(values, &BackendSelection::Only([args.name.clone()].into()))?;
    let docker = context.docker()?;
    let foreign = docker.inspect_for_import(container).await.map_err(|error| {
        let exit = if error.code() == "provider.unreachable" { Exit::Unreachable } else { Exit::Refused };
        AppError::new(exit, Diagnostic::new("import.not_possible", error_chain(&error)))
    })?;
    let secrets = values.found().get(&args.name).cloned().unwrap_or_default();
    let imported = foreign.to_spec(spec, &secrets).map_err(|conflict| refused(&conflict.message, &conflict.help))?;
    let recorded = imported.spec.clone();
    let instance_name = InstanceName::parse(&foreign.instance_name).map_err(|error| {
        refused(
            &format!("the instance is called `{}`, which cannot be kept: {error}", foreign.instance_name),
            "move its data instead: `npx convex export` there, `npx convex import --replace-all` here",
        )
    })?;
    let adoption = Adoption {
        name: args.name.clone(),
        instance_name,
        instance_secret: Some(foreign.instance_secret.clone()),
        spec: imported.spec,
        secrets: imported.secrets,
        ports: foreign.ports,
        id: None,
        proof: AdoptionProof::Answers { url: foreign.address.clone() },
    };
    let host = context.embedded(Some(&loaded.desired))?;
    let project = &loaded.desired.project;
    host.adopt(project, own_holder(), &loaded.desired.origin, adoption, |resolved| foreign.provider_state(resolved)).await?;
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
    let allocated = url.as_deref().and_then(|url| url::Url::parse(url).ok()?.port());
    let api_port = foreign.ports.map(|ports| ports.api).or(allocated);
    let notices = notices(&args.name, spec, &recorded, &foreign, api_port);
    for notice in &notices {
        text.push_str(notice);
        text.push('\n');
    }
    context.printer.output(&context.printer.out_style().wrap(&text, 0));
    context.printer.json(
        "convexinfra.import/1",
        serde_json::json!({
            "name": args.name,
            "container": foreign.name,
            "instance_name": foreign.instance_name,
            "url": url,
            "not_kept": dropped_fields(spec, &recorded),
            "not_kept_docker": missing_lines(&spec.settings.docker, &recorded.settings.docker),
            "inexpressible": foreign.extra_env.keys().collect::<Vec<_>>(),
            "dropped": foreign.dropped,
            "notices": notices,
        }),
    );
    Ok(Exit::Done)
}

/// What the next apply changes of the container, unless the manifest keeps it.
fn notices(
    name: &BackendName,
    spec: &BackendSpec,
    recorded: &BackendSpec,
    foreign: &ExternalContainer,
    api_port: Option<u16>,
) -> Vec<String> {
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
    let has_tls = |spec: &BackendSpec| spec.storage.server().is_some_and(|server| server.tls != Tls::Disable);
    if has_tls(spec) && !has_tls(recorded) {
        notices.push(
            "it enters its database without TLS, and the next apply asks for a certificate that is checked, unless `storage` says \
             `tls = \"disable\"`"
                .to_owned(),
        );
    }
    let lines = missing_lines(&spec.settings.docker, &recorded.settings.docker);
    if !lines.is_empty() {
        let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
        notices.push(format!(
            "networks, labels, variables and the like that the next apply drops; to keep them, write\n    \
             [backends.{name}.docker]{lines}"
        ));
    }
    let variables: Vec<String> = foreign
        .extra_env
        .keys()
        .filter(|name| !spec.settings.docker.extra_env.contains_key(*name))
        .map(|name| format!("`{name}`"))
        .collect();
    if !variables.is_empty() {
        notices.push(format!(
            "their values are read from variables of the same names where convexinfra runs: {}",
            variables.join(", ")
        ));
    }
    if !foreign.dropped.is_empty() {
        let names: Vec<String> = foreign.dropped.iter().map(|name| format!("`{name}`")).collect();
        notices.push(format!(
            "it has settings that a manifest has no key for, and the next apply drops them: {}",
            names.join(", ")
        ));
    }
    notices.extend(reachability_notices(recorded, foreign, api_port));
    if let Some(compose) = &foreign.compose {
        notices.push(format!(
            "after the next apply, take the service `{}` out of the compose file of the project `{}`: started again, it would be a \
             second backend on the same volume",
            compose.service, compose.project
        ));
    }
    notices
}

/// What changes in how a container is reached.
fn reachability_notices(recorded: &BackendSpec, foreign: &ExternalContainer, api_port: Option<u16>) -> Vec<String> {
    let mut notices = Vec::new();
    if let (Some(api), Some(site)) = &foreign.launch.origins
        && api == site
    {
        notices.push(format!(
            "`CONVEX_SITE_ORIGIN` is the API's own origin, at which HTTP actions do not answer; the next apply makes it `{site}/http`"
        ));
    }
    if foreign.ports.is_none() {
        notices.push(format!(
            "it publishes no ports and is reached at {} until the next apply, which publishes them on loopback",
            foreign.address
        ));
    }
    if let Some(port) = api_port.filter(|port| *port != 3210 && recorded.settings.docker.api_port.is_none()) {
        notices.push(format!(
            "inside its networks its port becomes {port} instead of 3210, because node actions call back to the loopback origin from \
             inside; `origins` that lead there from everywhere, and `api_port = 3210`, keep it"
        ));
    }
    notices
}

fn named_workload(args: &Args) -> Option<(WorkloadKind, &WorkloadName)> {
    let set = args.statefulset.as_ref().map(|name| (WorkloadKind::StatefulSet, name));
    set.or(args.deployment.as_ref().map(|name| (WorkloadKind::Deployment, name)))
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

fn refused(message: &str, help: &str) -> AppError {
    AppError::new(Exit::Refused, Diagnostic::new("import.not_possible", message).with_help(help))
}

/// The backend of the manifest that the container is to become.
fn target_spec<'a>(loaded: &'a LoadedManifest, args: &Args) -> Result<&'a BackendSpec, AppError> {
    let name = &args.name;
    let block = format!("[backends.{name}]\nprovider = \"docker\"").replace('\n', "\n    ");
    match loaded.desired.backends.get(name).map(|backend| &backend.spec) {
        Some(spec) if spec.provider.descriptor().imports => Ok(spec),
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
