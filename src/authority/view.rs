//! What the authority lets others see: a project's rows, credentials, history.
//!
//! Must not do: change a row, or show a secret in clear except where credentials were asked for.

use std::collections::BTreeSet;

use super::{Authority, AuthorityError};
use crate::control::{ControlError, Credentials, HistoryEntry};
use crate::model::{ActualBackend, BackendName, Observation, Placement, ProjectName, Revision, RunState};
use crate::store::{BackendRow, Store};

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
    pub to_observe: Vec<(usize, Placement)>,
}

impl<S: Store> Authority<S> {
    /// One project in the rows.
    pub fn view(&self, project: &ProjectName) -> Result<ProjectView, AuthorityError> {
        let (row, mut backends) =
            self.store.read(|rows| Ok::<_, AuthorityError>((rows.project(project)?, rows.backends(project)?)))?;
        let mut to_observe = Vec::new();
        for (index, backend) in backends.iter_mut().enumerate() {
            self.with_server_fingerprint(backend)?;
            if !backend.spec.is_record_only() {
                to_observe.push((index, self.placement(backend)?));
            }
        }
        Ok(ProjectView {
            revision: row.as_ref().map_or(Revision(0), |row| row.revision),
            origin: row.and_then(|row| row.origin),
            backends: backends.into_iter().map(recorded).collect(),
            to_observe,
        })
    }

    /// One backend as its provider gets it.
    pub fn place_of(&self, project: &ProjectName, name: &BackendName) -> Result<Placement, AuthorityError> {
        let row = self.store.read(|rows| Ok::<_, AuthorityError>(rows.backend(project, name)?))?;
        match row {
            Some(row) => self.placement(&row),
            None => Err(ControlError::NoSuchBackend { project: project.clone(), backend: name.clone() }.into()),
        }
    }

    /// Where a backend is and the key that opens it.
    pub fn credentials(&self, project: &ProjectName, name: &BackendName) -> Result<Credentials, AuthorityError> {
        let placement = self.place_of(project, name)?;
        if !placement.has_been_ready || placement.spec.is_record_only() {
            return Err(ControlError::NotReady { backend: name.clone() }.into());
        }
        Ok(Credentials { url: placement.endpoints.url, site_url: placement.endpoints.site_url, admin_key: placement.admin_key })
    }

    /// What has happened to a project.
    pub fn history(&self, project: &ProjectName, limit: u32) -> Result<Vec<HistoryEntry>, AuthorityError> {
        let events = self.store.read(|rows| Ok::<_, AuthorityError>(rows.events(project, limit)?))?;
        Ok(events
            .into_iter()
            .map(|event| HistoryEntry {
                sequence: event.sequence,
                at: event.at,
                kind: event.kind,
                backend: event.backend,
                detail: event.detail,
            })
            .collect())
    }
}

fn recorded(row: BackendRow) -> ActualBackend {
    let record_only = row.spec.is_record_only();
    ActualBackend {
        id: row.id,
        name: row.name,
        instance_name: row.instance_name,
        recorded: row.spec,
        newest_release: row.newest_release,
        secrets: row.fingerprints,
        phase: row.phase,
        generation: row.generation,
        endpoints: row.endpoints.filter(|_| !record_only),
        admin_key: row.admin_key,
        created_at: row.created_at,
        expires_at: row.expires_at,
        observation: Observation::as_recorded(RunState::Recorded),
        other_variables: BTreeSet::new(),
    }
}
