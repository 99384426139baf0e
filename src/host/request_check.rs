//! What a host refuses before it accepts a request: what its disk, its operator, a provider or a place rules out. What the rows
//! rule out, the authority refuses.

use super::{Host, LocalBinaries, effects};
use crate::api::{ControlError, OperationRequest, Work};
use crate::model::{BackendName, BackendSpec, Diagnostic, ProjectName};
use crate::policy;
use crate::provider::{FoundBackend, ProviderError};

impl Host {
    /// Refuses a provider that is not available here, and executables that a client names, unless the server was started
    /// with them allowed.
    pub(super) fn check_allowed(&self, request: &OperationRequest) -> Result<(), ControlError> {
        let Work::Put { spec, .. } = &request.work else { return Ok(()) };
        if let Some(refusal) = policy::provider_available(&request.backend, spec, &self.provider_kinds()) {
            return Err(ControlError::Refused(refusal));
        }
        match (&spec.settings.local.binary, self.local_binaries) {
            (Some(binary), LocalBinaries::ReleasesOnly) => {
                let message = format!("`{}` wants to run `{binary}` on the control plane's machine", request.backend);
                let help = "leave `binary` out to run a published release, or have the operator start the server with\n    convexinfra serve --allow-local-binaries";
                Err(ControlError::Refused(Diagnostic::new("control.local_binary", message).with_help(help)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what the operator lets no specification name. It comes first: what is looked up afterwards is looked up in the
    /// name of the specification, with the credentials of this control plane.
    pub(super) async fn check_authorized(&self, project: &ProjectName, request: &OperationRequest) -> Result<(), ControlError> {
        let Work::Put { spec, .. } = &request.work else { return Ok(()) };
        let Ok(provider) = self.provider(spec.provider) else { return Ok(()) };
        let Err(error) = provider.authorize(spec).await else { return Ok(()) };
        // What a plan refuses is refused in its words, wherever it is sent.
        self.read_rows(|authority| authority.preview(project, request))?;
        Err(cannot_be_created(&request.backend, &error))
    }

    /// Refuses what its provider could never do, and what its place shows to be about something else than the record: a backend
    /// of this name that is not recorded, or a recorded one that is elsewhere.
    pub(super) async fn check_supported(&self, project: &ProjectName, request: &OperationRequest) -> Result<(), ControlError> {
        let name = &request.backend;
        let spec = if let Work::Put { spec, .. } = &request.work { Some(spec) } else { None };
        self.check_authorized(project, request).await?;
        self.check_place(project, request).await?;
        self.check_data_work(project, name, &request.work)?;
        if spec.is_some() {
            self.check_put(project, request).await?;
        }
        match spec {
            Some(spec) => self.check_with_provider(project, name, spec).await,
            None => Ok(()),
        }
    }

    /// Refuses to work on a backend where its place is known to be another one than the one that is reached. A record may be
    /// given up wherever its backend is.
    pub(super) async fn check_place(&self, project: &ProjectName, request: &OperationRequest) -> Result<(), ControlError> {
        if matches!(request.work, Work::Forget {}) {
            return Ok(());
        }
        let (name, recorded) = (&request.backend, self.read_rows(|authority| authority.place_of(project, &request.backend))?);
        let Some(place) = recorded.flatten() else { return Ok(()) };
        let Ok(provider) = self.provider(place.spec.provider) else { return Ok(()) };
        // The way to it may be another one now.
        let spec = match &request.work {
            Work::Put { spec, .. } if spec.provider == place.spec.provider => spec,
            _ => &place.spec,
        };
        match provider.check_place(&place.id, name, spec, &place.state).await {
            Err(error @ ProviderError::OtherEngine { .. }) => {
                let help = effects::other_engine_help(name, &error);
                let help = format!("nothing was changed; {}", help.unwrap_or_default());
                Err(ControlError::Refused(Diagnostic::new(error.code(), error.to_string()).with_help(help)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what a provider says it can never do, and a backend that is at its place without a record.
    pub(super) async fn check_with_provider(
        &self,
        project: &ProjectName,
        name: &BackendName,
        spec: &BackendSpec,
    ) -> Result<(), ControlError> {
        let Ok(provider) = self.provider(spec.provider) else { return Ok(()) };
        if let Err(error @ ProviderError::Unsupported(_)) = provider.validate(spec).await {
            return Err(cannot_be_created(name, &error));
        }
        // Other failures show in the attempt, which is resumed from there.
        for found in provider.find(project, name, spec).await.unwrap_or_default() {
            if self.read_rows(|authority| authority.is_recorded(&found.id))? != Some(true) {
                return Err(ControlError::Refused(orphaned(project, name, &found)));
            }
        }
        Ok(())
    }

    /// Refuses what fills a disk that has room for removals only.
    pub(super) fn check_room(&self, work: &Work) -> Result<(), ControlError> {
        if matches!(work, Work::Remove { .. } | Work::Forget {} | Work::Stop {} | Work::DropPrevious {}) {
            self.platform.release_reserve();
            return Ok(());
        }
        if !self.platform.lacks_reserve() {
            return Ok(());
        }
        let message = "the disk of this control plane has no room but what removing backends needs";
        let help = "make room, or destroy a backend, and run the same command again; nothing was changed";
        Err(ControlError::Record(Diagnostic::new("store.full", message).with_help(help)))
    }
}

fn cannot_be_created(name: &BackendName, error: &ProviderError) -> ControlError {
    let finding = Diagnostic::new(error.code(), format!("`{name}` cannot be created: {error}"));
    ControlError::Unsupported(match error {
        #[cfg(feature = "native")]
        ProviderError::Kubernetes(error) => match error.help() {
            Some(help) => finding.with_help(help),
            None => finding,
        },
        _ => finding,
    })
}

/// Says that a backend is there without a record, and how it is taken up.
fn orphaned(project: &ProjectName, name: &BackendName, found: &FoundBackend) -> Diagnostic {
    let message = format!(
        "`{name}` of the project `{project}` is there already, and this control plane has no record of it: {} (identity {})",
        found.thing, found.id
    );
    Diagnostic::new("provider.orphaned", message).with_help(format!(
        "take it up again with\n    convexinfra recover {name}\nor give this backend or its project another name"
    ))
}
