//! `convexinfra recover`: takes up again what a control plane made whose records are lost.
//!
//! Containers and volumes carry the identity of their backend in labels, and the secret lies in the volume; so a record can be
//! made anew that continues with both. Nothing on the engine is changed.

use std::collections::BTreeSet;

use crate::api::{ControlPlane, IfMissing};
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, LoadedManifest, Session, plan};
use crate::authority::{Adoption, AdoptionProof};
use crate::cli::args::Recover as Args;
use crate::cli::context::Context;
use crate::host::own_holder;
use crate::model::{BackendName, BackendSpec, Diagnostic, Exit, Files, InstanceName, error_chain};
use crate::plan::BackendSelection;
use crate::provider::ProviderError;
use crate::provider::docker::{Orphan, RecoveredBackend};

/// Records every orphan of the project, or the one that is named.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    let session = Session::open(control, manifest, IfMissing::Create, ComparisonMode::Strict).await?;
    let (loaded, values) = (&session.manifest, &session.secrets);
    let project = &loaded.desired.project;
    let host = context.embedded(&loaded.desired)?;
    let snapshot = host.snapshot(project).await?;
    let known: BTreeSet<_> = snapshot.backends.iter().map(|backend| backend.id.clone()).collect();
    let docker = context.docker()?;
    let found = docker.find_orphans(project, &known).await.map_err(failed)?;
    let chosen: Vec<Orphan> = match &args.name {
        Some(name) => found.into_iter().filter(|orphan| orphan.name == name.as_str()).collect(),
        None => found,
    };
    let mut recovered = Vec::new();
    for orphan in chosen {
        let name = BackendName::parse(&orphan.name).map_err(|error| refused(&error.to_string(), ""))?;
        let spec = target_spec(loaded, &name)?.clone();
        plan::require_readable_secrets(values, &BackendSelection::Only([name.clone()].into()))?;
        let backend = docker.inspect_for_recovery(orphan).await.map_err(failed)?;
        let instance_name = InstanceName::parse(&backend.orphan.instance_name)
            .map_err(|error| refused(&format!("`{}`: {error}", backend.orphan.instance_name), ""))?;
        let adoption = Adoption {
            name: name.clone(),
            instance_name,
            instance_secret: backend.instance_secret.clone(),
            spec: recorded_spec(spec, &backend)?,
            secrets: values.found().get(&name).cloned().unwrap_or_default(),
            ports: backend.ports,
            id: Some(backend.orphan.id.clone()),
            proof: AdoptionProof::OwnerLabels,
        };
        let state = |resolved: &crate::model::ResolvedBackend| backend.provider_state(resolved);
        host.adopt(project, own_holder(), &loaded.desired.origin, adoption, state).await?;
        recovered.push(name);
    }
    report(context, &recovered);
    Ok(Exit::Done)
}

fn report(context: &Context, recovered: &[BackendName]) {
    let mut text: String = recovered.iter().map(|name| format!("recovered backend.{name}\n")).collect();
    if recovered.is_empty() {
        text.push_str("nothing to recover: the engine has no backend of this project without a record\n");
    } else {
        text.push_str("what differs from the manifest is repaired with\n    convexinfra apply\n");
    }
    context.printer.output(&text);
    context.printer.json("convexinfra.recover/1", serde_json::json!({ "recovered": recovered }));
}

/// Returns what is recorded of a recovered backend: what the manifest says, with the release that runs. Where its data is must
/// agree already.
fn recorded_spec(mut spec: BackendSpec, backend: &RecoveredBackend) -> Result<BackendSpec, AppError> {
    let (storage, files) = (spec.storage.engine(), if matches!(spec.files, Files::S3(_)) { "s3" } else { "local" });
    for (field, there, written) in [("storage", backend.storage, storage), ("files", backend.files, files)] {
        if there != written {
            return Err(refused(
                &format!("`{}` runs with {field} `{there}`, and the manifest says `{written}`", backend.orphan.name),
                &format!("let `{field}` in the manifest say the same first"),
            ));
        }
    }
    spec.release = backend.release.clone().or(spec.release);
    spec.env.clear();
    Ok(spec)
}

fn target_spec<'a>(loaded: &'a LoadedManifest, name: &BackendName) -> Result<&'a BackendSpec, AppError> {
    match loaded.desired.backends.get(name).map(|backend| &backend.spec) {
        Some(spec) if spec.provider.descriptor().imports => Ok(spec),
        _ => Err(refused(
            &format!("the engine has a backend `{name}` of this project, and the manifest has no such backend of `docker`"),
            &format!("write it into the manifest first\n    [backends.{name}]\n    provider = \"docker\""),
        )),
    }
}

fn failed(error: ProviderError) -> AppError {
    let exit = if error.code() == "provider.unreachable" { Exit::Unreachable } else { Exit::Refused };
    AppError::new(exit, Diagnostic::new("recover.not_possible", error_chain(&error)))
}

fn refused(message: &str, help: &str) -> AppError {
    let diagnostic = Diagnostic::new("recover.not_possible", message);
    AppError::new(Exit::Refused, if help.is_empty() { diagnostic } else { diagnostic.with_help(help) })
}
