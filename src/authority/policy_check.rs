//! Evaluates the policy of a request against the rows: the same rules, codes and texts that `plan` shows.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use super::put_request::PutRequest;
use super::view::to_actual;
use super::{Authority, AuthorityError, origins};
use crate::api::{ControlError, OperationRequest, Work};
use crate::convex::database_url::server_endpoint;
use crate::convex::environment;
use crate::model::{
    DesiredBackend, Diagnostic, FieldPath, Phase, ProjectName, ReclaimPolicy, STORAGE_SERVER, STORAGE_URL, SecretSource,
    SecretState, secret_slots,
};
use crate::policy::{self, Consent};
use crate::store::{BackendRow, Rows, Store};

/// The most bytes of all secrets of one backend beside its Convex variables, which have limits of their own. Every look at a
/// backend opens all of them.
const MAX_SECRET_BYTES: usize = 128 * 1024;

/// Says how a backend comes to be what a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutChange {
    /// Where it is.
    InPlace,
    /// By a move of its rows.
    Move,
}

/// Refuses a request for the first of its refusals, in the order in which a plan lists them.
fn refuse_first(mut refusals: Vec<Diagnostic>) -> Result<(), AuthorityError> {
    refusals.sort();
    match refusals.into_iter().next() {
        Some(refusal) => Err(ControlError::Refused(refusal).into()),
        None => Ok(()),
    }
}

/// Refuses to take away what is protected, and to keep a volume that its provider cannot keep.
pub(super) fn check_removal(request: &OperationRequest, row: &BackendRow) -> Result<(), AuthorityError> {
    if row.phase == Phase::Removing {
        return Ok(());
    }
    let Work::Remove { volume, database, final_snapshot } = &request.work else { return Ok(()) };
    let actual = to_actual(row.clone());
    let mut refusals: Vec<Diagnostic> = policy::protected(&row.name, &actual).into_iter().collect();
    refusals.extend(policy::files_removed(&row.name, &actual, *database));
    refusals.extend(policy::volume_kept(&row.name, &actual, ReclaimPolicy { volume: *volume, database: *database }));
    if *final_snapshot && row.has_been_ready {
        refusals.extend(policy::final_snapshot_refusal(&row.name, &row.spec));
    }
    refuse_first(refusals)
}

/// Refuses to drop the record of what is protected: its secrets are only there.
pub(super) fn check_forget(row: &BackendRow) -> Result<(), AuthorityError> {
    refuse_first(policy::protected(&row.name, &to_actual(row.clone())).into_iter().collect())
}

impl<S: Store> Authority<S> {
    /// Refuses a specification that no manifest may have, and a change that would lose or endanger data.
    pub(super) fn check_put(
        &self,
        rows: &dyn Rows,
        project: &ProjectName,
        request: &OperationRequest,
        existing: Option<&BackendRow>,
        put: &PutRequest,
    ) -> Result<PutChange, AuthorityError> {
        let Work::Put { renamed_from, downgrade, moves, .. } = &request.work else { return Ok(PutChange::InPlace) };
        let name = &request.backend;
        if let Some(violation) = policy::violations(name, &put.spec).into_iter().next() {
            return Err(ControlError::Refused(violation).into());
        }
        origins::check(rows, project, existing, &put.spec)?;
        let mut refusals = policy::provider_refusals(name, &put.spec);
        if let (Some(old), Some(row)) = (renamed_from, existing)
            && row.name == *name
            && old != name
            && rows.backend(project, old)?.is_some()
        {
            refusals.push(policy::moved_onto_existing(old, name));
        }
        let mut change = PutChange::InPlace;
        let secrets = self.secret_states(project, existing, put);
        refusals.extend(policy::usable_secrets(name, &secrets));
        if let Some(row) = existing.filter(|row| !matches!(row.phase, Phase::Removing | Phase::Creating)) {
            let mut row = row.clone();
            self.with_server_fingerprint(&mut row)?;
            let actual = to_actual(row);
            let spec = put.spec.clone();
            let templates = BTreeMap::new();
            let wanted = DesiredBackend { spec, env_files: Vec::new(), secrets, templates, certificate_file: None };
            let changes = policy::diff_backend(&wanted, &actual).changes;
            let consent = Consent { downgrade: *downgrade, moves: *moves };
            refusals.extend(policy::change_refusals(name, &actual, &wanted, &changes, consent));
            if policy::data_move(&actual, &wanted, &changes).is_some() {
                change = PutChange::Move;
            }
        }
        refuse_first(refusals).map(|()| change)
    }

    /// Returns what is known of the secrets of a specification: those that came with it, and those that are kept.
    fn secret_states(
        &self,
        project: &ProjectName,
        existing: Option<&BackendRow>,
        put: &PutRequest,
    ) -> BTreeMap<FieldPath, SecretState> {
        let key = LazyCell::new(|| self.vault.fingerprint_key(project));
        let mut states = BTreeMap::new();
        let (mut count, mut bytes, mut others) = (0, 0, 0);
        for (path, source) in secret_slots(&put.spec) {
            let server = FieldPath::new(STORAGE_SERVER);
            let is_url = path.as_str() == STORAGE_URL;
            let Some(value) = put.secrets.get(&path) else {
                for path in [Some(path), is_url.then_some(server)].into_iter().flatten() {
                    let kept = existing.and_then(|row| row.fingerprints.get(&path));
                    let state = match (kept, &source) {
                        (Some(fingerprint), _) => SecretState::Known(fingerprint.clone()),
                        (None, SecretSource::Reference(reference)) => SecretState::Unavailable(reference.clone()),
                        (None, SecretSource::Literal(_)) => SecretState::Withheld,
                    };
                    states.insert(path, state);
                }
                continue;
            };
            let mut state = SecretState::Known(key.fingerprint(value.expose()));
            if let Some(variable) = path.as_str().strip_prefix("env.") {
                (count, bytes) = (count + 1, bytes + variable.len() + value.expose().len());
                if let Err(error) = environment::check_one(variable, value.expose()) {
                    state = SecretState::Unusable(error.to_string());
                }
            } else {
                others += value.expose().len();
                if others > MAX_SECRET_BYTES {
                    let words = format!("all secrets beside the variables have more than {MAX_SECRET_BYTES} bytes together");
                    state = SecretState::Unusable(words);
                }
            }
            if is_url {
                match server_endpoint(&put.spec.storage, value) {
                    Ok(part) => drop(states.insert(server, SecretState::Known(key.fingerprint(&part)))),
                    Err(error) => state = SecretState::Unusable(error.to_string()),
                }
            }
            states.insert(path, state);
        }
        if let Err(error) = environment::check_totals(count, bytes) {
            states.insert(FieldPath::new("env"), SecretState::Unusable(error.to_string()));
        }
        states
    }
}
