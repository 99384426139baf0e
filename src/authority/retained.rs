//! Data that outlives its backend: noted when a removal ends that keeps it, and taken up by the next backend of its name.
//!
//! A backend that takes data up gets the identity and the instance name of the one that left it. So its provider finds the
//! files where they were, and its database knows its owner.

use super::{Authority, AuthorityError, allocation, removal};
use crate::model::{
    BackendName, BackendSpec, FieldPath, Generation, Phase, ProjectName, ProviderState, STORAGE_SERVER, STORAGE_URL, Timestamp,
    VolumeReclaim, fly,
};
use crate::store::{BackendRow, RetainedRow, Rows, Store};

use super::operation::{NEVER_ENSURED, PutRequest};

impl<S: Store> Authority<S> {
    /// The row of a backend that is new: with an identity of its own, or with that of the data that it takes up.
    pub(super) fn new_row(
        &self,
        rows: &dyn Rows,
        project: &ProjectName,
        name: &BackendName,
        put: &PutRequest,
        now: Timestamp,
    ) -> Result<BackendRow, AuthorityError> {
        let kept = rows.retained(Some(project))?.into_iter().filter(|kept| kept.name == *name);
        let Some(kept) = kept.rev().find(|kept| self.takes_up(kept, put)) else {
            let id = allocation::backend_id(self.entropy)?;
            let instance_name = allocation::instance_name(rows, project, name)?;
            return Ok(BackendRow {
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
                references: ProviderState::from([(NEVER_ENSURED.to_owned(), String::new())]),
                newest_release: None,
                has_been_ready: false,
                created_at: now,
                expires_at: None,
                sealed: Vec::new(),
                stopped: false,
            });
        };
        rows.delete_retained(&kept.id)?;
        Ok(BackendRow {
            id: kept.id,
            project: kept.project,
            name: kept.name,
            instance_name: kept.instance_name,
            phase: Phase::Updating,
            generation: kept.generation.next(),
            spec: put.spec.clone(),
            fingerprints: Default::default(),
            managed_env: Default::default(),
            endpoints: None,
            admin_key: None,
            ports: None,
            references: kept.provider_state,
            newest_release: kept.newest_release,
            // There is data to lose: neither database nor files are made anew where they are missing.
            has_been_ready: true,
            created_at: now,
            expires_at: None,
            sealed: Vec::new(),
            stopped: false,
        })
    }

    /// Whether a new backend is one that the data belongs to: on the same server with its files beside it, or in the app
    /// that it names.
    fn takes_up(&self, kept: &RetainedRow, put: &PutRequest) -> bool {
        let BackendSpec { provider, storage, .. } = &put.spec;
        if *provider != kept.spec.provider || storage.engine() != kept.spec.storage.engine() {
            return false;
        }
        if !kept.spec.has_split_data() {
            let named = put.spec.named_place();
            return named.is_some() && named == kept.provider_state.get(fly::APP_KEY).map(String::as_str);
        }
        let server = put.secrets.get(&FieldPath::new(STORAGE_URL));
        let server = server.and_then(|url| self.server_fingerprint(&kept.project, storage, url)).map(|(_, server)| server);
        put.spec.has_split_data()
            && server.is_some()
            && server.as_ref() == kept.fingerprints.get(&FieldPath::new(STORAGE_SERVER))
    }
}

/// Notes what a removal that has ended left behind.
pub(super) fn retain(rows: &dyn Rows, row: &BackendRow, place: Option<String>, now: Timestamp) -> Result<(), AuthorityError> {
    if !row.has_been_ready || removal::volume_disposal(&row.references) == VolumeReclaim::Delete {
        return Ok(());
    }
    let mut provider_state = row.references.clone();
    removal::forget(&mut provider_state);
    Ok(rows.put_retained(&RetainedRow {
        id: row.id.clone(),
        project: row.project.clone(),
        name: row.name.clone(),
        instance_name: row.instance_name.clone(),
        spec: row.spec.clone(),
        fingerprints: row.fingerprints.clone(),
        provider_state,
        newest_release: row.newest_release.clone(),
        generation: row.generation,
        place,
        retained_at: now,
    })?)
}
