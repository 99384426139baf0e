//! A backend as a request would have it, before anything is accepted: what a look at its dependencies needs.
//!
//! Must not do: write rows, or allocate anything.

use super::policy_check::PutChange;
use super::put_request::PutRequest;
use super::{Authority, AuthorityError, allocation, lease};
use crate::api::{ControlError, OperationRequest, Work};
use crate::model::{
    BackendId, BackendSpec, Diagnostic, Endpoints, Generation, InstanceName, PortPair, ProjectName, ProviderState,
    ResolvedBackend, Secret,
};
use crate::store::Store;

/// Returns the identity that stands for a backend until it has one. No backend has it, so it owns nothing; files that are put
/// where it would keep them are taken up by the backend.
pub fn preview_id(instance_name: &InstanceName) -> BackendId {
    BackendId::new(format!("new-{instance_name}"))
}

impl<S: Store> Authority<S> {
    /// Returns the backend that a request is about as it would be afterwards; none where nothing would be started, and where
    /// there is none to remove.
    ///
    /// # Errors
    /// [`ControlError::Refused`] for the refusal that accepting the request would meet.
    pub fn preview(
        &self,
        project: &ProjectName,
        request: &OperationRequest,
    ) -> Result<Option<ResolvedBackend>, AuthorityError> {
        self.store.read(|rows| {
            lease::check_origin(rows, project, request.origin.as_deref())?;
            let Work::Put { spec, secrets, renamed_from, .. } = &request.work else {
                let row = rows.backend(project, &request.backend)?;
                return row.map(|row| self.resolve(&row)).transpose();
            };
            let row = match (rows.backend(project, &request.backend)?, renamed_from) {
                (None, Some(old)) => rows.backend(project, old)?,
                (row, _) => row,
            };
            let put = PutRequest { spec: (**spec).clone(), secrets: secrets.clone(), may_adopt: false, role_password: None };
            let change = self.check_put(rows, project, request, row.as_ref(), &put)?;
            let placement = match &row {
                // What it moves to has nothing of it yet.
                Some(row) if change == PutChange::Move => self.resolve(row)?.into_move_target(),
                Some(row) => self.resolve(row)?,
                None => match self.find_retained(rows, project, &request.backend, &put)? {
                    Some(kept) => ResolvedBackend {
                        id: kept.id,
                        provider_state: kept.provider_state,
                        has_been_ready: true,
                        ..new_placement(project, request, spec, kept.instance_name)
                    },
                    None => {
                        let instance_name = allocation::instance_name(rows, project, &request.backend)?;
                        new_placement(project, request, spec, instance_name)
                    }
                },
            };
            Ok(Some(with_request(placement, request)))
        })
    }
}

/// Returns the backend that a request is about where there is no store yet; none where nothing would be started.
///
/// # Errors
/// [`ControlError::Refused`] for a name that no instance may have.
pub fn preview_without_store(
    project: &ProjectName,
    request: &OperationRequest,
) -> Result<Option<ResolvedBackend>, ControlError> {
    let Work::Put { spec, .. } = &request.work else { return Ok(None) };
    let instance_name = InstanceName::preferred(project, &request.backend).map_err(|error| {
        let message = format!("`{project}-{}`: {error}", request.backend);
        ControlError::Refused(Diagnostic::new("control.instance_name", message))
    })?;
    Ok(Some(with_request(new_placement(project, request, spec, instance_name), request)))
}

/// Returns a backend with the specification and the secrets of a request.
fn with_request(mut placement: ResolvedBackend, request: &OperationRequest) -> ResolvedBackend {
    if let Work::Put { spec, secrets, .. } = &request.work {
        placement.name = request.backend.clone();
        placement.spec = (**spec).clone();
        placement.secrets.extend(secrets.iter().map(|(path, value)| (path.clone(), value.clone())));
    }
    placement
}

fn new_placement(
    project: &ProjectName,
    request: &OperationRequest,
    spec: &BackendSpec,
    instance_name: InstanceName,
) -> ResolvedBackend {
    ResolvedBackend {
        id: preview_id(&instance_name),
        project: project.clone(),
        name: request.backend.clone(),
        instance_name,
        spec: spec.clone(),
        generation: Generation(1),
        instance_secret: Secret::new(""),
        admin_key: Secret::new(""),
        secrets: Default::default(),
        ports: PortPair { api: 0, site: 0 },
        endpoints: Endpoints { url: String::new(), site_url: String::new() },
        has_been_ready: false,
        provider_state: ProviderState::new(),
    }
}
