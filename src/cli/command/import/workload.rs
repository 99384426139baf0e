//! Takes over what a cluster runs: a StatefulSet or Deployment of a chart or of manifests by hand.
//!
//! It writes down what that is now, and a block of the manifest where there is none. The next apply puts a StatefulSet of ours on
//! the same claim, with the same name and secret. Nothing in the cluster is changed here.

use super::refused;
use crate::api::{ControlPlane, IfMissing};
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, LoadedManifest, Session, plan, provision, require_ownership};
use crate::authority::{Adoption, AdoptionProof};
use crate::cli::context::Context;
use crate::host::own_holder;
use crate::manifest::FieldLiteral;
use crate::model::{BackendName, BackendSpec, Diagnostic, Exit, FieldValue, InstanceName, ProviderKind, error_chain, fields};
use crate::plan::BackendSelection;
use crate::provider::Provider as _;
use crate::provider::kubernetes::{ExternalWorkload, WorkloadKind, WorkloadName};

/// Takes a workload over as a backend of the manifest.
pub(super) async fn run(
    context: &Context,
    name: &BackendName,
    kind: WorkloadKind,
    asked: &WorkloadName,
) -> Result<Exit, AppError> {
    let written = context.load()?;
    let control = context.control(Some(&written.desired))?;
    require_ownership(control, &written.desired.project, Some(&written.desired)).await?;
    // It keeps a tunnel open, by which the backend is seen to be what it seems.
    let kubernetes = context.kubernetes();
    let declared = declared_spec(&written, name, kubernetes.kind())?;
    let place = declared.clone().unwrap_or_else(|| BackendSpec::new(kubernetes.kind()));
    let foreign = kubernetes.inspect_for_import(kind, asked, &place).await.map_err(|error| {
        let exit = if error.code().ends_with(".unreachable") { Exit::Unreachable } else { Exit::Refused };
        AppError::new(exit, Diagnostic::new("import.not_possible", error_chain(&error)))
    })?;
    let manifest = match declared {
        Some(_) => written.clone(),
        None => written.with_text(provision::with_block(&written, name, &block(&foreign))?)?,
    };
    let text = manifest.text.clone();
    let session = Session::open(control, manifest, IfMissing::Create, ComparisonMode::Strict).await?;
    let (loaded, values) = (&session.manifest, &session.secrets);
    plan::require_readable_secrets(values, &BackendSelection::Only([name.clone()].into()))?;
    let spec = loaded.desired.backends.get(name).map_or_else(|| place.clone(), |backend| backend.spec.clone());
    let secrets = values.found().get(name).cloned().unwrap_or_default();
    let imported = foreign.to_spec(&spec, &secrets).map_err(|conflict| refused(&conflict.message, &conflict.help))?;
    let instance_name = InstanceName::parse(&foreign.instance_name).map_err(|error| {
        refused(
            &format!("the instance is called `{}`, which cannot be kept: {error}", foreign.instance_name),
            "move its data instead: `npx convex export` there, `npx convex import --replace-all` here",
        )
    })?;
    let recorded = imported.spec.clone();
    let adoption = Adoption {
        name: name.clone(),
        instance_name,
        instance_secret: Some(foreign.instance_secret.clone()),
        spec: imported.spec,
        secrets: imported.secrets,
        ports: None,
        id: None,
        proof: AdoptionProof::Answers { url: foreign.address.clone() },
    };
    let host = context.embedded(Some(&loaded.desired))?;
    let project = &loaded.desired.project;
    host.adopt(project, own_holder(), &loaded.desired.origin, adoption, |resolved| foreign.provider_state(resolved)).await?;
    // Written last: with a block and no record, an apply would make a second backend, and an empty one.
    provision::write_manifest(&written, &text)?;
    let id = host.snapshot(project).await?.backend(name).map(|backend| backend.id.to_string()).unwrap_or_default();
    let changes = changes(&spec, &recorded);
    report(context, &written, name, &foreign, &Takeover { id, changes });
    Ok(Exit::Done)
}

/// What an import has come to.
struct Takeover {
    /// The identity of the backend.
    id: String,
    /// The fields that the next apply changes.
    changes: Vec<[String; 3]>,
}

fn report(context: &Context, written: &LoadedManifest, name: &BackendName, foreign: &ExternalWorkload, takeover: &Takeover) {
    let kind = foreign.kind;
    let is_block_new = !written.desired.backends.contains_key(name);
    let mut notices = notices(name, foreign, &takeover.changes);
    notices.extend(left_notice(foreign, &takeover.id));
    let mut out = format!(
        "`{name}` is now the {kind} `{}/{}`, the instance `{}`\n",
        foreign.namespace, foreign.name, foreign.instance_name
    );
    if is_block_new {
        out.push_str(&format!("its block was written into `{}`\n", written.path.display()));
    }
    for notice in &notices {
        out.push_str(notice);
        out.push('\n');
    }
    context.printer.output(&context.printer.out_style().wrap(&out, 0));
    context.printer.json(
        "convexinfra.import/1",
        serde_json::json!({
            "name": name,
            "workload": { "kind": kind.to_string(), "namespace": foreign.namespace, "name": foreign.name },
            "claim": foreign.claim,
            "instance_name": foreign.instance_name,
            "block_written": is_block_new,
            "changes": takeover.changes,
            "dropped": foreign.dropped,
            "left": foreign.left,
            "notices": notices,
        }),
    );
}

/// Returns what the manifest says of the backend already.
fn declared_spec(loaded: &LoadedManifest, name: &BackendName, kind: ProviderKind) -> Result<Option<BackendSpec>, AppError> {
    match loaded.desired.backends.get(name).map(|backend| &backend.spec) {
        Some(spec) if spec.provider != kind => Err(refused(
            &format!("`{name}` has the provider `{}`, and this can only become a backend of `{kind}`", spec.provider),
            "change the provider in the manifest, or choose another name",
        )),
        declared => Ok(declared.cloned()),
    }
}

fn block(foreign: &ExternalWorkload) -> Vec<(String, FieldLiteral)> {
    foreign.manifest_entry().into_iter().map(|(path, value)| (path, FieldLiteral::Toml(value))).collect()
}

/// Returns the fields that the next apply changes, each with what it is and what it becomes.
fn changes(spec: &BackendSpec, recorded: &BackendSpec) -> Vec<[String; 3]> {
    let (wanted, there) = (fields(spec), fields(recorded));
    let shown = |value: Option<&FieldValue>| match value {
        None => "none".to_owned(),
        Some(FieldValue::Text(text)) => text.clone(),
        Some(_) => "a secret".to_owned(),
    };
    let paths: std::collections::BTreeSet<_> = wanted.keys().chain(there.keys()).collect();
    let differing = paths.into_iter().filter(|path| wanted.get(*path) != there.get(*path));
    differing.map(|path| [path.to_string(), shown(there.get(path)), shown(wanted.get(path))]).collect()
}

/// Says what the next apply does.
fn notices(name: &BackendName, foreign: &ExternalWorkload, changes: &[[String; 3]]) -> Vec<String> {
    let (kind, claim) = (foreign.kind, &foreign.claim);
    let mut notices = vec![format!(
        "it runs on as it is; the next apply ends its Pod, makes a StatefulSet of convexinfra that goes on with the claim `{claim}`, and \
         deletes the {kind} once that is ready; if it does not become ready, the {kind} is started again\n    convexinfra apply {name}"
    )];
    if !changes.is_empty() {
        let lines: String = changes.iter().map(|[path, from, to]| format!("\n    {path}: {from} -> {to}")).collect();
        notices.push(format!("the manifest says something else than it has, so the next apply changes{lines}"));
    }
    if !foreign.dropped.is_empty() {
        let names: Vec<String> = foreign.dropped.iter().map(|name| format!("`{name}`")).collect();
        notices.push(format!("it has what a manifest has no key for, and the next apply drops: {}", names.join(", ")));
    }
    notices.push(
        "take it out of the manifests that it was made from: applied again, it would be a second writer on its data".to_owned(),
    );
    notices
}

/// Says what leads nowhere once its Pod is gone, and how that is led to the new one or deleted.
fn left_notice(foreign: &ExternalWorkload, id: &str) -> Option<String> {
    if foreign.left.is_empty() {
        return None;
    }
    let namespace = &foreign.namespace;
    let services = foreign.left.iter().filter(|object| object.starts_with("service/"));
    let commands: String = services
        .map(|object| {
            format!("\n    kubectl -n {namespace} set selector {object} convexinfra/id={id},convexinfra/role=backend")
        })
        .collect();
    Some(format!(
        "these lead to its Pod, and to none after the next apply: {}; delete them then, or have Services lead to the new Pod, whose ports \
         are called `api` and `site`, with{commands}",
        foreign.left.join(", ")
    ))
}
