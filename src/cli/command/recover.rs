//! `convexinfra recover`: takes up again what a control plane made whose records are lost.
//!
//! Containers and volumes carry the identity of their backend in labels, and the secret lies in the volume; so a record can be
//! made anew that continues with both. Nothing on the engine is changed. Backends that are processes have their identity in
//! their directory.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{ControlPlane, IfMissing};
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, Session, plan, require_ownership};
use crate::authority::{Adoption, AdoptionProof};
use crate::cli::args::Recover as Args;
use crate::cli::context::Context;
use crate::host::{ControlSession, own_holder};
use crate::model::{
    BackendId, BackendName, BackendSpec, Diagnostic, Exit, FieldPath, Files, InstanceName, Location, ProjectName, ProviderKind,
    ProviderState, Release, ResolvedBackend, Secret, error_chain,
};
use crate::plan::BackendSelection;
use crate::provider::process::{self, BackendIdentity};
use crate::provider::{Provider, ProviderError};

/// Records every backend of the project that has no record, or the one that is named.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let context = &context.accepting_unrecorded_backends();
    let manifest = context.load()?;
    let control = context.control(Some(&manifest.desired))?;
    require_ownership(control, &manifest.desired.project, Some(&manifest.desired)).await?;
    let session = Session::open(control, manifest, IfMissing::Create, ComparisonMode::Strict).await?;
    let host = context.embedded(Some(&session.manifest.desired))?;
    let project = &session.manifest.desired.project;
    let snapshot = host.snapshot(project).await?;
    let known = snapshot.backends.into_iter().map(|backend| backend.id).collect();
    let retained = snapshot.retained.into_iter().map(|data| data.id).collect();
    let recovery = Recovery { context, session: &session, host, known, retained, only: args.name.as_ref() };
    let mut recovered = recovery.take_up_directories().await?;
    let declared = &session.manifest.desired.backends;
    let is_on_engine = |name: &BackendName| {
        declared.get(name).is_none_or(|backend| backend.spec.provider.descriptor().location != Location::Process)
    };
    let asks_engine = match &args.name {
        Some(name) => !recovered.contains(name) && is_on_engine(name),
        None => declared.is_empty() || declared.keys().any(is_on_engine),
    };
    if asks_engine {
        recovered.extend(recovery.take_up_containers().await?);
    }
    report(context, &recovered);
    Ok(Exit::Done)
}

/// What a recovery works with.
struct Recovery<'a> {
    context: &'a Context,
    session: &'a Session<'a>,
    host: &'a ControlSession,
    known: BTreeSet<BackendId>,
    /// What destroyed backends left behind on purpose: it has records of its own, and the next backend of its name takes it up.
    retained: BTreeSet<BackendId>,
    /// The one backend to take up; all when there is none.
    only: Option<&'a BackendName>,
}

impl Recovery<'_> {
    fn project(&self) -> &ProjectName {
        &self.session.manifest.desired.project
    }

    /// Takes up the processes of this machine whose record was dropped or lost. Each gets another instance secret: the one
    /// before went with its record.
    async fn take_up_directories(&self) -> Result<Vec<BackendName>, AppError> {
        let home = self.context.home()?;
        process::take_back_recorded(&home, self.project(), &self.known).map_err(failed)?;
        let found = process::find_unrecorded(&home, self.project(), &self.known).map_err(failed)?;
        let mut recovered = Vec::new();
        for identity in found.into_iter().filter(|identity| self.only.is_none_or(|name| identity.name == *name)) {
            let BackendIdentity { id, name, instance_name, provider, ports, release, provider_state, .. } = identity.clone();
            let spec = self.target_spec(&name, provider)?.clone();
            let spec = recorded_spec(spec, &name, [&identity.storage, &identity.files], release)?;
            let adoption = Adoption {
                name: name.clone(),
                instance_name,
                instance_secret: None,
                spec,
                secrets: self.secrets(&name)?,
                ports: Some(ports),
                id: Some(id.clone()),
                proof: AdoptionProof::OwnDirectory,
            };
            self.adopt(adoption, |_| provider_state).await?;
            process::take_back_recorded(&home, self.project(), &[id].into()).map_err(failed)?;
            recovered.push(name);
        }
        Ok(recovered)
    }

    /// Takes up the containers on the engine whose record is lost.
    async fn take_up_containers(&self) -> Result<Vec<BackendName>, AppError> {
        let docker = self.context.docker()?;
        let mut recovered = Vec::new();
        let recorded: BTreeSet<BackendId> = self.known.union(&self.retained).cloned().collect();
        for orphan in docker.find_orphans(self.project(), &recorded).await.map_err(failed)? {
            if self.only.is_some_and(|name| orphan.name != name.as_str()) {
                continue;
            }
            let name = BackendName::parse(&orphan.name).map_err(|error| refused(&error.to_string(), ""))?;
            let spec = self.target_spec(&name, docker.kind())?.clone();
            let secrets = self.secrets(&name)?;
            let backend = docker.inspect_for_recovery(orphan).await.map_err(failed)?;
            let instance_name = InstanceName::parse(&backend.orphan.instance_name)
                .map_err(|error| refused(&format!("`{}`: {error}", backend.orphan.instance_name), ""))?;
            let adoption = Adoption {
                name: name.clone(),
                instance_name,
                instance_secret: Some(backend.instance_secret.clone()),
                spec: recorded_spec(spec, &name, [backend.storage, backend.files], backend.release.clone())?,
                secrets,
                ports: backend.ports,
                id: Some(backend.orphan.id.clone()),
                proof: AdoptionProof::OwnerLabels,
            };
            self.adopt(adoption, |resolved| backend.provider_state(resolved)).await?;
            recovered.push(name);
        }
        Ok(recovered)
    }

    async fn adopt(&self, adoption: Adoption, note: impl FnOnce(&ResolvedBackend) -> ProviderState) -> Result<(), AppError> {
        let origin = &self.session.manifest.desired.origin;
        Ok(self.host.adopt(self.project(), own_holder(), origin, adoption, note).await?)
    }

    /// Returns the values of a backend's secrets.
    fn secrets(&self, name: &BackendName) -> Result<BTreeMap<FieldPath, Secret>, AppError> {
        let values = &self.session.secrets;
        plan::require_readable_secrets(values, &BackendSelection::Only([name.clone()].into()))?;
        Ok(values.found().get(name).cloned().unwrap_or_default())
    }

    fn target_spec(&self, name: &BackendName, provider: ProviderKind) -> Result<&BackendSpec, AppError> {
        match self.session.manifest.desired.backends.get(name).map(|backend| &backend.spec) {
            Some(spec) if spec.provider == provider => Ok(spec),
            _ => Err(refused(
                &format!("there is a backend `{name}` of this project, and the manifest has no such backend of `{provider}`"),
                &format!("write it into the manifest first\n    [backends.{name}]\n    provider = \"{provider}\""),
            )),
        }
    }
}

fn report(context: &Context, recovered: &[BackendName]) {
    let mut text: String = recovered.iter().map(|name| format!("recovered backend.{name}\n")).collect();
    if recovered.is_empty() {
        text.push_str("nothing to recover: no backend of this project is without a record\n");
    } else {
        text.push_str("what differs from the manifest is repaired with\n    convexinfra apply\n");
    }
    context.printer.output(&text);
    context.printer.json("convexinfra.recover/1", serde_json::json!({ "recovered": recovered }));
}

/// Returns what is recorded of a recovered backend: what the manifest says, with the release that ran. Where its data is must
/// agree already.
fn recorded_spec(
    mut spec: BackendSpec,
    name: &BackendName,
    [storage, files]: [&str; 2],
    release: Option<Release>,
) -> Result<BackendSpec, AppError> {
    let written = [spec.storage.engine(), if matches!(spec.files, Files::S3(_)) { "s3" } else { "local" }];
    for ((field, there), written) in [("storage", storage), ("files", files)].into_iter().zip(written) {
        if there != written {
            return Err(refused(
                &format!("`{name}` runs with {field} `{there}`, and the manifest says `{written}`"),
                &format!("let `{field}` in the manifest say the same first"),
            ));
        }
    }
    spec.release = release.or(spec.release);
    spec.env.clear();
    Ok(spec)
}

fn failed(error: ProviderError) -> AppError {
    let exit = if error.code() == "provider.unreachable" { Exit::Unreachable } else { Exit::Refused };
    AppError::new(exit, Diagnostic::new("recover.not_possible", error_chain(&error)))
}

fn refused(message: &str, help: &str) -> AppError {
    let diagnostic = Diagnostic::new("recover.not_possible", message);
    AppError::new(Exit::Refused, if help.is_empty() { diagnostic } else { diagnostic.with_help(help) })
}
