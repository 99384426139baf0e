//! Synchronization between the shards of one control plane, where every project has rows of its own: tokens, default
//! ceilings, and the list of projects.
//!
//! One authority is the directory: it knows every token and every project. The authority of a project keeps a copy of
//! what it needs from there, so that it answers as one that has everything in one place.
//!
//! Must not do: write a history; the shard that made the change has written it.

use serde::{Deserialize, Serialize};

use super::{Authority, AuthorityError, lease, token};
use crate::model::{ProjectName, Quota, Revision, Secret, Timestamp, TokenId, TokenRecord};
use crate::store::{Durability, Store, TokenRow};

/// A token as one authority tells another: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReplica {
    /// What may be shown of it.
    pub record: TokenRecord,
    /// The SHA-256 of the token, as hex.
    #[serde(with = "hex::serde")]
    pub hash: Vec<u8>,
}

/// Describes what the directory tells a project about a request that is on its way to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLookup {
    /// The token that was shown, if there is one.
    pub token: Option<TokenReplica>,
    /// The ceilings of every project that has none of its own.
    pub quota: Quota,
}

/// Describes what a project tells the directory after a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectSync {
    /// The project.
    pub project: ProjectName,
    /// Its tokens, ended ones included.
    pub tokens: Vec<TokenReplica>,
    /// How many backends it has.
    pub backends: u32,
    /// How often its record had changed by then.
    pub revision: Revision,
}

impl<S: Store> Authority<S> {
    /// Returns what a shard has to know of a token that was shown, also of one that has ended; none for an id without its
    /// secret.
    pub fn lookup_token(&self, shown: &Secret) -> Result<TokenLookup, AuthorityError> {
        let id = token::parse_id(shown.expose());
        self.store.read(|rows| {
            let token = match &id {
                Some(id) => {
                    rows.token(id)?.filter(|row| token::matches_hash(row, shown) && self.is_own_token(row)).map(to_replica)
                }
                None => None,
            };
            Ok(TokenLookup { token, quota: rows.quota(None)?.unwrap_or_default() })
        })
    }

    /// Takes over what the directory says. Writes only what is news, and nothing about tokens that are made and ended
    /// here: what the directory says of those may be older.
    pub fn apply_lookup(&self, introduction: &TokenLookup) -> Result<(), AuthorityError> {
        let TokenLookup { token, quota } = introduction;
        let token = token.clone().filter(|token| token.record.project.is_none());
        let token = token.map(|TokenReplica { record, hash }| self.token_row(record, hash)).transpose()?;
        let (is_known, has_quota) = self.store.read(|rows| {
            let known = match &token {
                Some(row) => rows.token(&row.record.id)?.as_ref() == Some(row),
                None => true,
            };
            Ok::<_, AuthorityError>((known, rows.quota(None)?.unwrap_or_default() == *quota))
        })?;
        if is_known && has_quota {
            return Ok(());
        }
        self.store.write(Durability::Fsync, |rows| {
            if let Some(row) = token.as_ref().filter(|_| !is_known) {
                rows.put_token(row)?;
            }
            if has_quota { Ok(()) } else { Ok(rows.put_quota(None, quota)?) }
        })
    }

    /// Returns what the directory has to know of a project; none while there is no such project.
    pub fn project_sync(&self, project: &ProjectName) -> Result<Option<ProjectSync>, AuthorityError> {
        self.store.read(|rows| {
            let Some(row) = rows.project(project)? else { return Ok(None) };
            let own = |row: &TokenRow| row.record.project.as_ref() == Some(project);
            let tokens = rows.tokens()?.into_iter().filter(own).map(to_replica).collect();
            let backends = rows.usage(project)?.backends;
            Ok(Some(ProjectSync { project: project.clone(), tokens, backends, revision: row.revision }))
        })
    }

    /// Takes note of a project and its tokens.
    pub fn apply_project_sync(&self, registration: &ProjectSync, now: Timestamp) -> Result<(), AuthorityError> {
        let ProjectSync { project, tokens, backends, revision } = registration;
        self.store.write(Durability::Fsync, |rows| {
            if rows.project(project)?.is_none() {
                rows.put_project(&lease::project_row(rows, project, now)?)?;
            }
            rows.put_registered(project, *revision, *backends)?;
            for TokenReplica { record, hash } in tokens {
                let row = self.token_row(record.clone(), hash.clone())?;
                if rows.token(&record.id)?.as_ref() != Some(&row) {
                    rows.put_token(&row)?;
                }
            }
            Ok(())
        })
    }

    /// Returns the project that a token opens; none for an operator's token and for an unknown one.
    pub fn project_of_token(&self, token: &TokenId) -> Result<Option<ProjectName>, AuthorityError> {
        self.store.read(|rows| Ok(rows.token(token)?.and_then(|row| row.record.project)))
    }

    /// Returns whether nothing is kept here of any project. What was taken over of tokens and ceilings is the directory's.
    pub fn is_blank(&self) -> Result<bool, AuthorityError> {
        self.store.read(|rows| Ok(rows.projects()?.is_empty() && rows.leases()?.is_empty()))
    }

    /// Returns whether an operation has not ended.
    pub fn has_open_operations(&self) -> Result<bool, AuthorityError> {
        self.store.read(|rows| Ok(!rows.open_operations(None)?.is_empty()))
    }
}

fn to_replica(row: TokenRow) -> TokenReplica {
    TokenReplica { record: row.record, hash: row.hash }
}

#[cfg(test)]
mod tests {
    use super::super::{EntropyError, MasterKey, Vault};
    use super::*;
    use crate::model::{Actor, Scope, TokenRequest};
    use crate::store::SqliteStore;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn authority(folder: &tempfile::TempDir, name: &str) -> Authority<SqliteStore> {
        let store = SqliteStore::open(&folder.path().join(name)).unwrap();
        let entropy = |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|_| EntropyError);
        Authority::new(store, Vault::new(MasterKey::new([5; 32])), entropy)
    }

    #[test]
    fn what_the_directory_said_makes_no_project() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, shard) = (authority(&folder, "directory"), authority(&folder, "shard"));
        let actor = Actor { token: None, name: "test".to_owned() };
        let request = TokenRequest { project: None, scope: Scope::Operator, note: String::new(), ttl: None };
        let issued = directory.create_token(&request, &[], &actor, NOW).unwrap();
        shard.apply_lookup(&directory.lookup_token(&issued.token).unwrap()).unwrap();
        assert!(shard.is_blank().unwrap());
        let project = ProjectName::parse("shop").unwrap();
        shard
            .set_quota(
                &crate::api::ResourceLevel::Project(project),
                &Quota { backends: Some(1), ..Quota::default() },
                &actor,
                NOW,
            )
            .unwrap();
        assert!(!shard.is_blank().unwrap());
    }

    #[test]
    fn a_project_knows_of_a_token_what_the_directory_knows() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, part) = (authority(&folder, "directory"), authority(&folder, "part"));
        let project = ProjectName::parse("gremlin").unwrap();
        let actor = Actor { token: None, name: "test".to_owned() };
        assert!(part.project_sync(&project).unwrap().is_none());
        // A project's token is made where its history is, and told to the directory.
        let request = TokenRequest { project: Some(project.clone()), scope: Scope::Read, note: String::new(), ttl: None };
        let issued = part.create_token(&request, &[], &actor, NOW).unwrap();
        directory.apply_project_sync(&part.project_sync(&project).unwrap().unwrap(), NOW).unwrap();
        assert_eq!(directory.projects().unwrap(), vec![project.clone()]);
        assert_eq!(directory.project_of_token(&issued.record.id).unwrap(), Some(project.clone()));
        assert_eq!(directory.authenticate(&issued.token, NOW).unwrap().record(), &issued.record);
        // An operator's token is made in the directory, and a project learns of it, and of its end.
        let request = TokenRequest { project: None, scope: Scope::Operator, note: String::new(), ttl: None };
        let operator = directory.create_token(&request, &[], &actor, NOW).unwrap();
        assert!(part.authenticate(&operator.token, NOW).is_err());
        part.apply_lookup(&directory.lookup_token(&operator.token).unwrap()).unwrap();
        assert_eq!(part.authenticate(&operator.token, NOW).unwrap().record(), &operator.record);
        directory.revoke_token(&operator.record.id, &actor, NOW).unwrap();
        part.apply_lookup(&directory.lookup_token(&operator.token).unwrap()).unwrap();
        assert!(part.authenticate(&operator.token, NOW).is_err());
        // A text that is no token authenticates no one, and neither does an id without its secret.
        let body = format!("{}_{}", issued.record.id, "0".repeat(64));
        let forged = Secret::new(format!("cvxi_{body}{:08x}", crc32fast::hash(body.as_bytes())));
        assert_eq!(token::parse_id(forged.expose()), Some(issued.record.id));
        assert!(directory.lookup_token(&forged).unwrap().token.is_none());
        assert!(directory.lookup_token(&Secret::new("something")).unwrap().token.is_none());
        // Neither side wrote what the other side has written.
        assert_eq!(directory.project_sync(&project).unwrap().unwrap().tokens.len(), 1);
    }

    #[test]
    fn a_late_sync_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, part) = (authority(&folder, "directory"), authority(&folder, "part"));
        let project = ProjectName::parse("gremlin").unwrap();
        let actor = Actor { token: None, name: "test".to_owned() };
        let request = TokenRequest { project: Some(project.clone()), scope: Scope::Apply, note: String::new(), ttl: None };
        let issued = part.create_token(&request, &[], &actor, NOW).unwrap();
        let before = part.project_sync(&project).unwrap().unwrap();
        directory.apply_project_sync(&before, NOW).unwrap();
        // A request is on its way while its token is revoked.
        let introduction = directory.lookup_token(&issued.token).unwrap();
        part.revoke_token(&issued.record.id, &actor, NOW).unwrap();
        part.apply_lookup(&introduction).unwrap();
        assert!(part.authenticate(&issued.token, NOW).is_err());
        // And so is what the project said before.
        directory.apply_project_sync(&part.project_sync(&project).unwrap().unwrap(), NOW).unwrap();
        directory.apply_project_sync(&before, NOW).unwrap();
        assert!(directory.authenticate(&issued.token, NOW).is_err());
        let later = ProjectSync { backends: 2, revision: Revision(9), ..before.clone() };
        directory.apply_project_sync(&later, NOW).unwrap();
        directory.apply_project_sync(&ProjectSync { backends: 5, ..before }, NOW).unwrap();
        assert_eq!(directory.totals().unwrap().backends, 2);
        // The same of an operator's, which is made and ended in the directory.
        let request = TokenRequest { project: None, scope: Scope::Operator, note: String::new(), ttl: None };
        let operator = directory.create_token(&request, &[], &actor, NOW).unwrap();
        let introduction = directory.lookup_token(&operator.token).unwrap();
        directory.revoke_token(&operator.record.id, &actor, NOW).unwrap();
        part.apply_lookup(&directory.lookup_token(&operator.token).unwrap()).unwrap();
        part.apply_lookup(&introduction).unwrap();
        assert!(part.authenticate(&operator.token, NOW).is_err());
    }

    #[test]
    fn the_default_quota_holds_on_every_shard() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, part) = (authority(&folder, "directory"), authority(&folder, "part"));
        let quota = Quota { backends: Some(1), ..Quota::default() };
        directory.set_quota(&crate::api::ResourceLevel::ControlPlane, &quota, &Actor::control_plane(), NOW).unwrap();
        let shown = Secret::new("whatever");
        part.apply_lookup(&directory.lookup_token(&shown).unwrap()).unwrap();
        let project = ProjectName::parse("gremlin").unwrap();
        assert_eq!(part.quota(&crate::api::ResourceLevel::Project(project)).unwrap(), quota);
    }
}
