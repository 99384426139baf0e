//! Data that outlives its backend: noted when a removal ends that keeps it, and taken up by the next backend of its name.
//!
//! A backend that takes data up gets the identity and the instance name of the one that left it. So its provider finds the
//! files where they were, and its database knows its owner. A backend of another name that names a retained app keeps its
//! own identity, and is told whose the app was. Only the project that retained an app may name it.

use super::put_request::PutRequest;
use super::retired_keys::RetiredKeys;
use super::{Authority, AuthorityError, allocation, removal};
use crate::api::ControlError;
use crate::convex::database_url::server_endpoint;
use crate::model::{
    BackendName, BackendSpec, Diagnostic, FieldPath, Generation, Phase, ProjectName, ProviderState, STORAGE_SERVER,
    STORAGE_URL, Timestamp, VolumeReclaim, fly,
};
use crate::store::{BackendRow, RetainedRow, Rows, Store};

/// Marks a backend that its provider was never reached for: no resource of it can exist.
pub(super) const NEVER_ENSURED: &str = "never_ensured";

impl<S: Store> Authority<S> {
    /// Returns the row of a backend that is new: with an identity of its own, or with that of the data that it takes up.
    pub(super) fn new_row(
        &self,
        rows: &dyn Rows,
        project: &ProjectName,
        name: &BackendName,
        put: &PutRequest,
        now: Timestamp,
    ) -> Result<BackendRow, AuthorityError> {
        let new = |id, instance_name, references| BackendRow {
            id,
            project: project.clone(),
            name: name.clone(),
            instance_name,
            phase: Phase::Creating,
            generation: Generation(1),
            spec: put.spec.clone(),
            fingerprints: Default::default(),
            managed_env: Default::default(),
            endpoints: None,
            admin_key: None,
            ports: None,
            references,
            newest_release: None,
            has_been_ready: false,
            created_at: now,
            expires_at: None,
            sealed: Vec::new(),
            stopped: false,
        };
        let Some(kept) = self.find_retained(rows, project, name, put)? else {
            let id = allocation::backend_id(self.entropy)?;
            let instance_name = allocation::instance_name(rows, project, name)?;
            let mut references = ProviderState::from([(NEVER_ENSURED.to_owned(), String::new())]);
            let left = retained_app(rows, project, &put.spec)?;
            if let Some(left) = &left {
                let owner = left.provider_state.get(fly::RETAINED_BACKEND_KEY).cloned();
                references.insert(fly::RETAINED_BACKEND_KEY.to_owned(), owner.unwrap_or_else(|| left.id.to_string()));
            }
            // Its data may be in the format of the release that wrote it.
            let newest_release = left.and_then(|left| left.newest_release);
            return Ok(BackendRow { newest_release, ..new(id, instance_name, references) });
        };
        rows.delete_retained(&kept.id)?;
        Ok(BackendRow {
            project: kept.project,
            name: kept.name,
            phase: Phase::Updating,
            generation: kept.generation.next(),
            newest_release: kept.newest_release,
            // There is data to lose: neither database nor files are made anew where they are missing.
            has_been_ready: true,
            ..new(kept.id, kept.instance_name, kept.provider_state)
        })
    }

    /// Returns the data that a new backend takes up, where there is any.
    pub(super) fn find_retained(
        &self,
        rows: &dyn Rows,
        project: &ProjectName,
        name: &BackendName,
        put: &PutRequest,
    ) -> Result<Option<RetainedRow>, AuthorityError> {
        let kept = rows.retained(Some(project))?.into_iter().filter(|kept| kept.name == *name);
        let retired = self.retired_keys(rows)?;
        Ok(kept.rev().find(|kept| self.takes_up(kept, put, &retired)))
    }

    /// Returns whether a new backend is one that the data belongs to: on the same server with its files beside it, or in
    /// the app that it names.
    fn takes_up(&self, kept: &RetainedRow, put: &PutRequest, retired: &RetiredKeys) -> bool {
        let BackendSpec { provider, storage, .. } = &put.spec;
        if *provider != kept.spec.provider || storage.engine() != kept.spec.storage.engine() {
            return false;
        }
        if !kept.spec.has_split_data() {
            let place = |spec: &BackendSpec| (spec.provider.descriptor().volume_place)(&spec.settings);
            if let Some(place_before) = place(&kept.spec) {
                return !put.spec.has_split_data() && place(&put.spec) == Some(place_before);
            }
            let named = put.spec.named_place();
            return named.is_some() && named == app_of(kept);
        }
        let server = put.secrets.get(&FieldPath::new(STORAGE_URL)).and_then(|url| server_endpoint(storage, url).ok());
        let (Some(server), Some(noted)) = (server, kept.fingerprints.get(&FieldPath::new(STORAGE_SERVER))) else {
            return false;
        };
        // It was noted under the key of that time.
        let mut keys = retired.fingerprint_keys(&kept.project).chain([self.vault.fingerprint_key(&kept.project)]);
        put.spec.has_split_data() && keys.any(|key| key.fingerprint(&server) == *noted)
    }
}

/// Returns the app that data was retained in.
fn app_of(row: &RetainedRow) -> Option<&str> {
    row.provider_state.get(fly::APP_KEY).map(String::as_str)
}

/// Returns what a project retained in the app that a specification names.
fn retained_app(rows: &dyn Rows, project: &ProjectName, spec: &BackendSpec) -> Result<Option<RetainedRow>, AuthorityError> {
    let Some(app) = spec.named_place() else { return Ok(None) };
    Ok(rows.retained(Some(project))?.into_iter().rev().find(|row| app_of(row) == Some(app)))
}

/// Returns whether a new backend takes up data that its project retained in an app.
pub(super) fn takes_up_app(rows: &dyn Rows, project: &ProjectName, spec: &BackendSpec) -> Result<bool, AuthorityError> {
    Ok(retained_app(rows, project, spec)?.is_some())
}

/// Refuses an app that holds what another project retained: apps of one organisation are within reach of every project,
/// and one without a machine says nothing of whose it is.
pub(super) fn check_app(rows: &dyn Rows, project: &ProjectName, spec: &BackendSpec) -> Result<(), AuthorityError> {
    let Some(app) = spec.named_place() else { return Ok(()) };
    let is_others = |row: &RetainedRow| row.project != *project && app_of(row) == Some(app);
    if !rows.retained(None)?.iter().any(is_others) {
        return Ok(());
    }
    let message = format!("the app `{app}` holds data that another project retained, and only that project may take it up");
    let help = "leave `fly.app` out to have a name derived, or name another one";
    Err(ControlError::Refused(Diagnostic::new("fly.app_foreign", message).with_help(help)).into())
}

/// Forgets what was retained in the app of a backend that has it now, or that took it away with it.
pub(super) fn forget_app(rows: &dyn Rows, row: &BackendRow) -> Result<(), AuthorityError> {
    let Some(app) = row.references.get(fly::APP_KEY).map(String::as_str) else { return Ok(()) };
    for left in rows.retained(Some(&row.project))? {
        if left.id != row.id && app_of(&left) == Some(app) {
            rows.delete_retained(&left.id)?;
        }
    }
    Ok(())
}

/// Notes what a removal that has ended left behind.
pub(super) fn retain(rows: &dyn Rows, row: &BackendRow, place: Option<String>, now: Timestamp) -> Result<(), AuthorityError> {
    if !row.has_been_ready || removal::volume_disposal(&row.references) == VolumeReclaim::Delete {
        return Ok(());
    }
    let mut provider_state = row.references.clone();
    removal::forget(&mut provider_state);
    let mut spec = row.spec.clone();
    spec.storage.take_certificates();
    Ok(rows.put_retained(&RetainedRow {
        id: row.id.clone(),
        project: row.project.clone(),
        name: row.name.clone(),
        instance_name: row.instance_name.clone(),
        spec,
        fingerprints: row.fingerprints.clone(),
        provider_state,
        newest_release: row.newest_release.clone(),
        generation: row.generation,
        place,
        retained_at: now,
    })?)
}
