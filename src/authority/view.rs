//! What the authority lets others see: a project's rows, credentials, history.
//!
//! Must not do: change a row, or show a secret in clear except where credentials were asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::quota::effective_quota;
use super::{Authority, AuthorityError, allocation, lease, removal};
use crate::api::{ControlError, Credentials, OperationOutcome};
use crate::model::fly::REGION_KEY;
use crate::model::{
    Actor, ActualBackend, BackendId, BackendName, BackendSpec, DASHBOARD_URL, Observation, OperationRecord, OperationState,
    OperationStep, ProjectName, ProviderState, Quota, RELEASE_CREATED, ResolvedBackend, RetainedData, Revision, RunState,
    Timestamp, Usage,
};
use crate::store::{BackendRow, OperationRow, RetainedRow, Store};

/// One project in the rows, and what its providers need to look at it.
#[derive(Debug)]
pub struct ProjectView {
    /// How often its record has changed.
    pub revision: Revision,
    /// Where it was last applied from.
    pub origin: Option<String>,
    /// Its backends as recorded, none of them looked at yet.
    pub backends: Vec<ActualBackend>,
    /// For every backend that is more than a record, by its position in `backends`, what a provider needs to look.
    pub to_observe: Vec<(usize, ResolvedBackend)>,
    /// Its ceilings.
    pub quota: Quota,
    /// Its operations that have not ended.
    pub operations: Vec<OperationRecord>,
    /// What its destroyed backends left behind.
    pub retained: Vec<RetainedData>,
    /// The backends that were removed because their time was over, and when it was.
    pub expired: BTreeMap<BackendName, Timestamp>,
}

/// Says how much there is over all projects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Projects.
    pub projects: usize,
    /// Their backends together.
    pub backends: usize,
    /// Pairs of ports that were handed out.
    pub port_pairs_used: usize,
    /// Pairs of ports that can be handed out.
    pub port_pairs_free: usize,
}

/// Says where a backend was made, as its provider recorded it.
#[derive(Debug, Clone)]
pub struct RecordedPlace {
    /// The backend.
    pub id: BackendId,
    /// What was recorded of it last.
    pub spec: BackendSpec,
    /// What the provider recorded.
    pub state: ProviderState,
}

impl<S: Store> Authority<S> {
    /// Returns where a backend was made.
    pub fn place_of(&self, project: &ProjectName, name: &BackendName) -> Result<Option<RecordedPlace>, AuthorityError> {
        let row = self.store.read(|rows| Ok::<_, AuthorityError>(rows.backend(project, name)?))?;
        Ok(row.map(|row| RecordedPlace { id: row.id, spec: row.spec, state: row.references }))
    }

    /// Returns whether a backend is recorded, in whichever project; what a destroyed one left behind counts.
    pub fn is_recorded(&self, id: &BackendId) -> Result<bool, AuthorityError> {
        self.store.read(|rows| {
            Ok::<_, AuthorityError>(rows.backend_by_id(id)?.is_some() || rows.retained(None)?.iter().any(|row| row.id == *id))
        })
    }

    /// Returns one project in the rows.
    pub fn view(&self, project: &ProjectName) -> Result<ProjectView, AuthorityError> {
        let (row, mut backends, quota, open, retained, expired) = self.store.read(|rows| {
            let open = rows.open_operations(Some(project))?;
            Ok::<_, AuthorityError>((
                rows.project(project)?,
                rows.backends(project)?,
                effective_quota(rows, Some(project))?,
                open,
                rows.retained(Some(project))?,
                rows.expired_names(project)?,
            ))
        })?;
        let mut to_observe = Vec::new();
        for (index, backend) in backends.iter_mut().enumerate() {
            self.with_server_fingerprint(backend)?;
            if !backend.spec.is_record_only() {
                to_observe.push((index, self.resolve(backend)?));
            }
        }
        Ok(ProjectView {
            revision: row.as_ref().map_or(Revision(0), |row| row.revision),
            origin: row.and_then(|row| row.origin),
            backends: backends.into_iter().map(to_actual).collect(),
            to_observe,
            quota,
            operations: open.into_iter().filter_map(operation_record).collect(),
            retained: retained.into_iter().map(to_retained).collect(),
            expired,
        })
    }

    /// Returns the ids of all backends.
    pub fn backend_ids(&self) -> Result<BTreeSet<String>, AuthorityError> {
        self.store.read(|rows| {
            let mut known = rows.backend_ids()?;
            known.extend(rows.retained(None)?.into_iter().map(|row| row.id.to_string()));
            Ok(known)
        })
    }

    /// Returns the names of all projects.
    pub fn projects(&self) -> Result<Vec<ProjectName>, AuthorityError> {
        self.store.read(|rows| Ok(rows.projects()?))
    }

    /// Returns what all backends of a project ask for together.
    pub fn usage(&self, project: &ProjectName) -> Result<Usage, AuthorityError> {
        self.store.read(|rows| Ok(rows.usage(project)?))
    }

    /// Returns how much there is over all projects.
    pub fn totals(&self) -> Result<Totals, AuthorityError> {
        self.store.read(|rows| {
            let projects = rows.projects()?;
            let mut totals = Totals { projects: projects.len(), ..Totals::default() };
            for project in &projects {
                totals.backends += rows.usage(project)?.backends as usize;
            }
            totals.backends += rows.registered()? as usize;
            totals.port_pairs_used = rows.ports()?.len();
            totals.port_pairs_free = allocation::port_pair_count(self.first_port).saturating_sub(totals.port_pairs_used);
            Ok(totals)
        })
    }

    /// Returns one backend as its provider gets it.
    pub fn resolve_backend(&self, project: &ProjectName, name: &BackendName) -> Result<ResolvedBackend, AuthorityError> {
        let row = self.store.read(|rows| Ok::<_, AuthorityError>(rows.backend(project, name)?))?;
        match row {
            Some(row) => self.resolve(&row),
            None => Err(ControlError::NoSuchBackend { project: project.clone(), backend: name.clone() }.into()),
        }
    }

    /// Returns where a backend is and the key that opens it.
    ///
    /// # Errors
    /// [`ControlError::Refused`] when the project is at home in another repository than `origin`.
    pub fn credentials(
        &self,
        project: &ProjectName,
        name: &BackendName,
        origin: Option<&str>,
    ) -> Result<Credentials, AuthorityError> {
        self.store.read(|rows| lease::check_origin(rows, project, origin))?;
        let placement = self.resolve_backend(project, name)?;
        if !placement.has_been_ready || placement.spec.is_record_only() {
            return Err(ControlError::NotReady { backend: name.clone() }.into());
        }
        Ok(Credentials { url: placement.endpoints.url, site_url: placement.endpoints.site_url, admin_key: placement.admin_key })
    }
}

fn to_retained(row: RetainedRow) -> RetainedData {
    RetainedData {
        name: row.name,
        id: row.id,
        database: row.spec.has_own_server().then(|| row.instance_name.database()),
        instance_name: row.instance_name,
        provider: row.spec.provider,
        place: row.place,
        retained_at: row.retained_at,
    }
}

pub(super) fn to_actual(mut row: BackendRow) -> ActualBackend {
    // A row from before they were sealed has their text.
    row.spec.storage.take_certificates();
    let record_only = row.spec.is_record_only();
    let removal = removal::requested(&row);
    ActualBackend {
        id: row.id,
        name: row.name,
        instance_name: row.instance_name,
        recorded: row.spec,
        newest_release: row.newest_release,
        secrets: row.fingerprints,
        phase: row.phase,
        generation: row.generation,
        region: row.references.get(REGION_KEY).cloned(),
        dashboard_url: row.references.get(DASHBOARD_URL).cloned(),
        endpoints: row.endpoints.filter(|_| !record_only),
        admin_key: row.admin_key,
        removal,
        created_at: row.created_at,
        expires_at: row.expires_at,
        stopped: row.stopped,
        observation: Observation::as_recorded(RunState::Recorded),
        unmanaged_env: BTreeSet::new(),
        data_size: None,
        last_snapshot: None,
        takes_snapshots: false,
        observe_error: None,
        internal_url: None,
        built_on: row.references.get(RELEASE_CREATED).and_then(|created| created.get(..10)).map(str::to_owned),
    }
}

/// Returns a row as clients see it.
pub(super) fn operation_record(row: OperationRow) -> Option<OperationRecord> {
    let outcome: Option<OperationOutcome> = row.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let (state, error) = match outcome {
        None => (OperationState::Running, None),
        Some(OperationOutcome::Done { .. }) => (OperationState::Done, None),
        Some(OperationOutcome::Failed { finding, .. }) => (OperationState::Failed, Some(finding)),
    };
    Some(OperationRecord {
        id: row.id?,
        backend: row.backend,
        kind: row.kind,
        step: row.step,
        actor: row.actor.unwrap_or_else(Actor::control_plane),
        accepted_at: row.accepted_at,
        ended_at: row.ended_at,
        progress: OperationStep::from_number(row.progress.furthest).filter(|_| state == OperationState::Running),
        state,
        error,
    })
}
