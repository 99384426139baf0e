//! What the parts of one control plane tell each other, where every project has rows of its own: tokens, the ceilings of
//! everybody, and which projects there are.
//!
//! One authority is the directory: it knows every token and every project. The authority of a project keeps a copy of
//! what it needs from there, so that it answers as one that has everything in one place.
//!
//! Must not do: write a history; whoever made the change has written it where it belongs.

use serde::{Deserialize, Serialize};

use super::{Authority, AuthorityError, lease, token};
use crate::model::{ProjectName, Quota, Secret, Timestamp, TokenId, TokenRecord};
use crate::store::{Durability, Store, TokenRow};

/// A token as one authority tells another: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCopy {
    /// What may be shown of it.
    pub record: TokenRecord,
    /// The SHA-256 of the token, as hex.
    #[serde(with = "hex::serde")]
    pub hash: Vec<u8>,
}

/// What the directory tells a project about a request that is on its way to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Introduction {
    /// The token that was shown, if there is one.
    pub token: Option<TokenCopy>,
    /// The ceilings of every project that has none of its own.
    pub quota: Quota,
}

/// What a project tells the directory after a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The project.
    pub project: ProjectName,
    /// Its tokens, ended ones included.
    pub tokens: Vec<TokenCopy>,
}

impl<S: Store> Authority<S> {
    /// What a project has to know of a token that was shown, whatever was shown.
    pub fn introduce(&self, shown: &Secret) -> Result<Introduction, AuthorityError> {
        let id = token::id_of(shown.expose());
        self.store.read(|rows| {
            let token = match &id {
                Some(id) => rows.token(id)?.map(copy),
                None => None,
            };
            Ok(Introduction { token, quota: rows.quota(None)?.unwrap_or_default() })
        })
    }

    /// Takes over what the directory says. Writes only what is news.
    pub fn adopt(&self, introduction: &Introduction) -> Result<(), AuthorityError> {
        let Introduction { token, quota } = introduction;
        let token = token.clone().map(|TokenCopy { record, hash }| TokenRow { record, hash });
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
        self.store.write(Durability::Power, |rows| {
            if let Some(row) = token.as_ref().filter(|_| !is_known) {
                rows.put_token(row)?;
            }
            if has_quota { Ok(()) } else { Ok(rows.put_quota(None, quota)?) }
        })
    }

    /// What the directory has to know of a project; none while there is no such project.
    pub fn registration(&self, project: &ProjectName) -> Result<Option<Registration>, AuthorityError> {
        self.store.read(|rows| {
            if rows.project(project)?.is_none() {
                return Ok(None);
            }
            let own = |row: &TokenRow| row.record.project.as_ref() == Some(project);
            let tokens = rows.tokens()?.into_iter().filter(own).map(copy).collect();
            Ok(Some(Registration { project: project.clone(), tokens }))
        })
    }

    /// Takes note of a project and its tokens.
    pub fn register(&self, registration: &Registration, now: Timestamp) -> Result<(), AuthorityError> {
        let Registration { project, tokens } = registration;
        self.store.write(Durability::Power, |rows| {
            if rows.project(project)?.is_none() {
                rows.put_project(&lease::project_row(rows, project, now)?)?;
            }
            for TokenCopy { record, hash } in tokens {
                rows.put_token(&TokenRow { record: record.clone(), hash: hash.clone() })?;
            }
            Ok(())
        })
    }

    /// The project that a token opens; none for an operator's, or one that nobody knows.
    pub fn project_of(&self, token: &TokenId) -> Result<Option<ProjectName>, AuthorityError> {
        self.store.read(|rows| Ok(rows.token(token)?.and_then(|row| row.record.project)))
    }

    /// When the next backend's time is over, if there is one that nothing protects.
    pub fn next_expiry(&self) -> Result<Option<Timestamp>, AuthorityError> {
        let rows = self.store.read(|rows| Ok::<_, AuthorityError>(rows.expired(Timestamp(i64::MAX))?))?;
        Ok(rows.into_iter().find(|row| !row.spec.protected).and_then(|row| row.expires_at))
    }

    /// Whether an operation has not ended.
    pub fn has_open_operations(&self) -> Result<bool, AuthorityError> {
        self.store.read(|rows| Ok(!rows.open_operations(None)?.is_empty()))
    }
}

fn copy(row: TokenRow) -> TokenCopy {
    TokenCopy { record: row.record, hash: row.hash }
}
