//! Taking a backend that runs already into the rows: its name, its secret, its ports and its data stay as they are.
//!
//! Must not do: take over what another backend holds, or claim a backend that was not observed.

use std::collections::{BTreeMap, BTreeSet};

use super::audit::AuditContext;
use super::operation::AllocationConflicts;
use super::put_request::PutRequest;
use super::{Authority, AuthorityError, allocation, lease};
use crate::api::{ControlError, Lease};
use crate::convex::admin_key::InstanceSecret;
use crate::model::{
    Actor, BackendId, BackendName, BackendSpec, Diagnostic, FieldPath, Generation, InstanceName, Phase, PortPair, ProjectName,
    ProviderState, ResolvedBackend, Secret, Timestamp,
};
use crate::store::{BackendRow, Durability, Rows, Store};

/// A backend that runs already.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// What it is to be called in the project.
    pub name: BackendName,
    /// What its process calls itself.
    pub instance_name: InstanceName,
    /// The secret that its keys are made from; none where it gets another one.
    pub instance_secret: Option<Secret>,
    /// What it is now.
    pub spec: BackendSpec,
    /// The values of the specification's secrets.
    pub secrets: BTreeMap<FieldPath, Secret>,
    /// The ports that it is published on; none where it gets ports like a new one.
    pub ports: Option<PortPair>,
    /// Its identity, where it has one already.
    pub id: Option<BackendId>,
    /// What proves that it is what it seems to be.
    pub proof: AdoptionProof,
}

/// Describes what proves that a backend is what it seems to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptionProof {
    /// It answers at this URL with its own name, and takes a key that is made from its secret.
    Answers {
        /// The URL of its API, as this machine reaches it.
        url: String,
    },
    /// It carries the labels of its identity, and its secret was in its own volume.
    OwnerLabels,
    /// Its directory is in the home of the control plane, with its identity in it.
    OwnDirectory,
}

impl<S: Store> Authority<S> {
    /// Writes a backend that runs already into the rows as one that is ready. What its provider has to remember follows
    /// from what it gets.
    ///
    /// # Errors
    /// [`ControlError::Refused`] when something of it belongs to another backend; nothing is written then.
    pub fn adopt(
        &self,
        lease: &Lease,
        actor: &Actor,
        adoption: Adoption,
        note: impl FnOnce(&ResolvedBackend) -> ProviderState,
        now: Timestamp,
    ) -> Result<ResolvedBackend, AuthorityError> {
        self.store.write(Durability::Fsync, |rows| {
            lease::check_fence(rows, lease)?;
            check_adoptable(rows, &lease.project, &adoption)?;
            let name = &adoption.name;
            let secret = match &adoption.instance_secret {
                Some(secret) => Some(InstanceSecret::parse(secret.expose()).map_err(|error| {
                    not_adopted(format!("the instance secret of `{}` cannot be used: {error}", adoption.instance_name))
                })?),
                None => None,
            };
            let held = held_ports(rows, adoption.ports)?;
            let mut project = lease::project_row(rows, &lease.project, now)?;
            project.revision = project.revision.next();
            rows.put_project(&project)?;
            let mut row = BackendRow {
                id: match adoption.id {
                    Some(id) => id,
                    None => allocation::backend_id(self.entropy)?,
                },
                project: lease.project.clone(),
                name: name.clone(),
                instance_name: adoption.instance_name,
                phase: Phase::Ready,
                generation: Generation(1),
                newest_release: adoption.spec.release.clone(),
                spec: adoption.spec.clone(),
                fingerprints: BTreeMap::new(),
                // Its variables are not ours: what the manifest names is set at the next apply.
                managed_env: BTreeSet::new(),
                endpoints: None,
                admin_key: None,
                // Where its own are taken by now, it gets others like a new one.
                ports: adoption.ports.filter(|_| held.is_empty()),
                references: ProviderState::new(),
                has_been_ready: true,
                created_at: now,
                expires_at: adoption.spec.ttl.map(|ttl| now.plus(ttl)),
                sealed: Vec::new(),
                stopped: false,
            };
            if let Some(secret) = secret {
                self.seal_imported_secret(&mut row, secret, now)?;
            }
            let put = PutRequest { spec: adoption.spec, secrets: adoption.secrets, may_adopt: false, role_password: None };
            self.seal_secrets(&mut row, &put, now)?;
            row.spec.storage.take_certificates();
            self.allocate(rows, &mut row, &AllocationConflicts::default())?;
            let noted = note(&self.resolve(&row)?);
            row.references.extend(noted);
            rows.put_backend(&row)?;
            let who = AuditContext { actor, plan: None, at: now };
            self.record(rows, Some(&lease.project), who, "backend_adopted", Some(&row.name), "")?;
            self.resolve(&row)
        })
    }
}

fn not_adopted(message: String) -> ControlError {
    ControlError::Refused(Diagnostic::new("control.not_adopted", message))
}

/// Refuses a backend of which something belongs to another backend.
fn check_adoptable(rows: &dyn Rows, project: &ProjectName, adoption: &Adoption) -> Result<(), AuthorityError> {
    let name = &adoption.name;
    if rows.backend(project, name)?.is_some() {
        let message = format!("project `{project}` has a backend `{name}` already");
        let help =
            format!("choose another name, or drop its record and leave everything else with\n    convexinfra forget {name}");
        return Err(ControlError::Refused(Diagnostic::new("control.not_adopted", message).with_help(help)).into());
    }
    // Containers are told apart by their identity, and databases are claimed on their servers: two compose stacks of one home
    // may both be called `convex-self-hosted`.
    let is_told_apart = adoption.spec.provider.descriptor().imports;
    if !is_told_apart && rows.instance_name_taken(&adoption.instance_name)? {
        let message = format!("another backend of this control plane is the instance `{}`", adoption.instance_name);
        return Err(not_adopted(message).into());
    }
    if let Some(id) = &adoption.id
        && rows.backend_by_id(id)?.is_some()
    {
        return Err(not_adopted(format!("`{name}` is recorded already, in this project or another one")).into());
    }
    let held = held_ports(rows, adoption.ports)?;
    if !held.is_empty() && adoption.proof != AdoptionProof::OwnDirectory {
        let message = format!("another backend of this control plane holds one of the ports {held:?}");
        return Err(not_adopted(message).into());
    }
    Ok(())
}

/// Returns which of these ports other backends hold.
fn held_ports(rows: &dyn Rows, ports: Option<PortPair>) -> Result<Vec<u16>, AuthorityError> {
    let Some(ports) = ports else { return Ok(Vec::new()) };
    let held: BTreeSet<u16> = rows.ports()?.iter().flat_map(|held| [held.api, held.site]).collect();
    Ok([ports.api, ports.site].into_iter().filter(|port| held.contains(port)).collect())
}
