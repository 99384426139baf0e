//! Tokens: issued, authenticated, revoked.
//!
//! [`crate::api::TokenParts`] says what a token looks like. Only its SHA-256 is kept; the secret has 256 random bits, so
//! there is nothing to slow down guessing of.
//!
//! Must not do: keep, log or show a token other than in the answer to the request that issues it.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::audit::AuditContext;
use super::{Authority, AuthorityError, allocation, lease};
use crate::api::{ControlError, TOKEN_ID_LENGTH, TOKEN_SECRET_BYTES, TokenOrigin, TokenParts, format_token};
use crate::model::{
    Actor, Diagnostic, IssuedToken, ProjectName, Scope, Secret, Timestamp, TokenId, TokenRecord, TokenRequest, TokenState,
};
use crate::store::{Durability, Store, TokenRow};

/// How long a note may be; it is part of every line of the history.
const MAX_NOTE_LENGTH: usize = 200;

/// Identifies a principal by the valid token that it has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatedToken {
    record: TokenRecord,
}

impl AuthenticatedToken {
    /// Returns what is known of the token.
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// Returns the bearer, as the history names them.
    pub fn actor(&self) -> Actor {
        Actor { token: Some(self.record.id.clone()), name: self.record.note.clone() }
    }

    /// Whether the token allows something in a project, or in the control plane as a whole.
    ///
    /// # Errors
    /// [`ControlError::NotAuthorised`] says what is missing, and nothing about what exists.
    pub fn authorize(&self, scope: Scope, project: Option<&ProjectName>) -> Result<(), ControlError> {
        let TokenRecord { scope: has, project: own, id, .. } = &self.record;
        if *has == Scope::Operator {
            return Ok(());
        }
        if let (Some(own), Some(asked)) = (own, project)
            && own != asked
        {
            let message = format!("token {id} opens project `{own}`, and this is about `{asked}`");
            let help = format!("ask an operator for one with\n    convexinfra token create --project {asked} --scope {scope}");
            return Err(not_authorized("auth.project", message, help));
        }
        if *has >= scope && (project.is_some() || scope == Scope::Read) {
            return Ok(());
        }
        let message = format!("token {id} has the scope `{has}`, and this needs `{scope}`");
        let help = match own.as_ref().filter(|_| scope != Scope::Operator) {
            Some(own) => format!("ask an operator for one with\n    convexinfra token create --project {own} --scope {scope}"),
            None => "use the token that `convexinfra serve --init` printed".to_owned(),
        };
        Err(not_authorized(ControlError::SCOPE_MISSING, message, help))
    }
}

/// On whose behalf a piece of work is accepted.
#[derive(Debug, Clone, Copy)]
pub enum Principal<'a> {
    /// A token, whose scope may be too small.
    Token(&'a AuthenticatedToken),
    /// An actor with access to the rows themselves: the user of a home, or the control plane.
    Trusted(&'a Actor),
}

impl Principal<'_> {
    /// Returns the actor, as the history names it.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Token(bearer) => bearer.actor(),
            Self::Trusted(actor) => (*actor).clone(),
        }
    }

    /// Whether they may do something in a project.
    ///
    /// # Errors
    /// [`ControlError::NotAuthorised`] says what is missing.
    pub fn authorize(&self, scope: Scope, project: &ProjectName) -> Result<(), ControlError> {
        match self {
            Self::Token(bearer) => bearer.authorize(scope, Some(project)),
            Self::Trusted(_) => Ok(()),
        }
    }
}

fn not_authorized(code: &str, message: String, help: impl Into<String>) -> ControlError {
    ControlError::NotAuthorised(Diagnostic::new(code, message).with_help(help))
}

const HELP: &str = "show a good one in `CONVEXINFRA_TOKEN`, or name a command that prints it in `CONVEXINFRA_TOKEN_COMMAND`";

impl<S: Store> Authority<S> {
    /// Issues a token that is bound to these origins; to none when there are none.
    ///
    /// # Errors
    /// [`ControlError::BadRequest`] when a scope and a project do not go together.
    pub fn create_token(
        &self,
        request: &TokenRequest,
        origins: &[TokenOrigin],
        actor: &Actor,
        now: Timestamp,
    ) -> Result<IssuedToken, AuthorityError> {
        let refused = |message: &str| ControlError::Refused(Diagnostic::new("token.request", message));
        match (request.scope, &request.project) {
            (Scope::Operator, Some(_)) => {
                return Err(refused("an operator's token opens every project, so it names none").into());
            }
            (Scope::Operator, None) | (_, Some(_)) => {}
            (_, None) => return Err(refused("a token opens one project, so it has to name it").into()),
        }
        if request.note.chars().count() > MAX_NOTE_LENGTH || request.note.chars().any(char::is_control) {
            let message = format!("a note is one line of at most {MAX_NOTE_LENGTH} characters");
            return Err(refused(&message).into());
        }
        let id = TokenId::new(&allocation::backend_id(self.entropy)?.as_str()[..TOKEN_ID_LENGTH]);
        let mut secret = zeroize::Zeroizing::new([0; TOKEN_SECRET_BYTES]);
        (self.entropy)(secret.as_mut_slice())?;
        let token = format_token(id.as_str(), &secret, origins);
        let record = TokenRecord {
            id,
            project: request.project.clone(),
            scope: request.scope,
            note: request.note.clone(),
            created_at: now,
            expires_at: request.ttl.map(|ttl| now.plus(ttl)),
            revoked_at: None,
        };
        let row = self.token_row(record, hash(token.expose()))?;
        self.store.write(Durability::Fsync, |rows| {
            if let Some(project) = &row.record.project {
                rows.put_project(&lease::project_row(rows, project, now)?)?;
            }
            rows.put_token(&row)?;
            let who = AuditContext { actor, plan: None, at: now };
            let detail = format!("token {} with scope {}", row.record.id, row.record.scope);
            self.record(rows, row.record.project.as_ref(), who, "token_created", None, detail)
        })?;
        Ok(IssuedToken { record: row.record, token, origins: origins.iter().map(ToString::to_string).collect() })
    }

    /// Reads one row, to see whether the store answers.
    pub fn ping(&self) -> Result<(), AuthorityError> {
        self.store.read(|rows| Ok(rows.key_check().map(drop)?))
    }

    /// Returns a token as it is kept: with what only this control plane can write beside it.
    pub(super) fn token_row(&self, record: TokenRecord, hash: Vec<u8>) -> Result<TokenRow, AuthorityError> {
        let TokenRecord { id, project, scope, note, created_at, expires_at, .. } = &record;
        let content = ("token", id, project, scope, note, created_at, expires_at, hex::encode(&hash));
        let content = serde_json::to_vec(&content).map_err(crate::store::StoreError::Unwritable)?;
        let mac = Some(self.vault.compute_mac(&content));
        Ok(TokenRow { record, hash, mac })
    }

    /// Returns whether a row of a token was written by this control plane.
    pub(super) fn is_own_token(&self, row: &TokenRow) -> bool {
        let expected = self.token_row(row.record.clone(), row.hash.clone());
        match &row.mac {
            Some(mac) => expected.is_ok_and(|expected| expected.mac.as_deref() == Some(mac)),
            None => self.accepts_unbound_tokens.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// Returns every token, ended ones included.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, AuthorityError> {
        let rows = self.store.read(|rows| Ok::<_, AuthorityError>(rows.tokens()?))?;
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`ControlError::NoSuchToken`].
    pub fn revoke_token(&self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, AuthorityError> {
        self.store.write(Durability::Fsync, |rows| {
            let mut row = rows.token(id)?.ok_or_else(|| ControlError::NoSuchToken { id: id.clone() })?;
            if row.record.revoked_at.is_none() {
                row.record.revoked_at = Some(now);
                rows.put_token(&self.token_row(row.record.clone(), row.hash.clone())?)?;
                let who = AuditContext { actor, plan: None, at: now };
                self.record(rows, row.record.project.as_ref(), who, "token_revoked", None, format!("token {id}"))?;
            }
            Ok(row.record)
        })
    }

    /// Returns whose token this is.
    ///
    /// # Errors
    /// [`ControlError::NotAuthorised`] when it opens nothing: not a token, unknown, expired or revoked.
    pub fn authenticate(&self, token: &Secret, now: Timestamp) -> Result<AuthenticatedToken, AuthorityError> {
        let no = |code: &str, message: String| AuthorityError::from(not_authorized(code, message, HELP));
        let id = require_token_shape(token)?;
        let row = self.store.read(|rows| Ok::<_, AuthorityError>(rows.token(&id)?))?;
        // An unknown id and a wrong secret get the same answer.
        let Some(row) = row.filter(|row| matches_hash(row, token) && self.is_own_token(row)) else {
            return Err(unknown_token().into());
        };
        match row.record.state(now) {
            TokenState::Active => Ok(AuthenticatedToken { record: row.record }),
            TokenState::Revoked => Err(no("auth.token_revoked", format!("token {id} was revoked"))),
            TokenState::Expired => {
                let end = row.record.expires_at.unwrap_or(now);
                Err(no("auth.token_expired", format!("token {id} expired at {end}")))
            }
        }
    }
}

/// Returns the id of a token, without asking any rows.
///
/// # Errors
/// [`ControlError::NotAuthorised`] when it does not have the shape of a token, or its checksum does not fit.
pub fn require_token_shape(token: &Secret) -> Result<TokenId, ControlError> {
    parse_id(token.expose()).ok_or_else(|| {
        let message = "what was shown is not a token of a convexinfra control plane".to_owned();
        not_authorized("auth.token_malformed", message, HELP)
    })
}

/// Returns the refusal of a well-formed token that is not known.
pub fn unknown_token() -> ControlError {
    not_authorized("auth.token_unknown", "this control plane does not know the token".to_owned(), HELP)
}

/// Returns the id in a token, when it has the shape of one and its checksum fits.
pub(super) fn parse_id(token: &str) -> Option<TokenId> {
    TokenParts::parse(token).map(|parts| TokenId::new(parts.id))
}

/// Returns whether this is the token of the row, and not only one with its id.
pub(super) fn matches_hash(row: &TokenRow, shown: &Secret) -> bool {
    row.hash.ct_eq(&hash(shown.expose())).into()
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
