//! Who may do what in a control plane: tokens, scopes, and actors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::identifier::TokenId;
use super::name::ProjectName;
use super::secret::Secret;
use super::time::{TimeSpan, Timestamp};

/// How much a token allows. Each scope includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look: plans, drift, status, logs, history. No credentials.
    Read,
    /// Create and change backends, and get their credentials.
    Apply,
    /// Take backends away with their data.
    Destroy,
    /// Everything in every project, tokens and quotas included.
    Operator,
}

impl Scope {
    /// Every scope, from the least to the most.
    pub const ALL: [Self; 4] = [Self::Read, Self::Apply, Self::Destroy, Self::Operator];

    /// The word that names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Apply => "apply",
            Self::Destroy => "destroy",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An actor, as the history names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// The token that was shown; none for the embedded control plane, which asks for none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<TokenId>,
    /// The token's note, or the account and the machine. Never a secret.
    pub name: String,
}

impl Actor {
    /// The control plane acting by itself, such as when it removes an expired backend.
    pub fn control_plane() -> Self {
        Self { token: None, name: "the control plane".to_owned() }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            Some(token) if self.name.is_empty() => write!(f, "token {token}"),
            Some(token) => write!(f, "{} (token {token})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is known of a token. The token itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenRecord {
    /// Its public part, by which it is listed and revoked.
    pub id: TokenId,
    /// The one project that it opens; none for an operator's, which opens all.
    pub project: Option<ProjectName>,
    /// How much it allows.
    pub scope: Scope,
    /// What its maker wrote beside it.
    pub note: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it opens anything at this moment.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => TokenState::Revoked,
            (None, Some(end)) if end <= now => TokenState::Expired,
            (None, _) => TokenState::Active,
        }
    }

    /// Whether an operator can use it at this moment.
    pub fn is_active_operator(&self, now: Timestamp) -> bool {
        self.scope == Scope::Operator && self.state(now) == TokenState::Active
    }
}

/// Whether a token opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked before its time was over.
    Revoked,
}

impl TokenState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A request for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The project that it opens; none only for an operator's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub project: Option<ProjectName>,
    /// How much it allows.
    pub scope: Scope,
    /// What to write beside it.
    #[serde(default)]
    pub note: String,
    /// How long it is good; for ever when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ttl: Option<TimeSpan>,
}

/// A token that was just made: the only moment at which it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// What is kept of it.
    pub record: TokenRecord,
    /// The token.
    pub token: Secret,
    /// The origins that it is bound to, as URLs.
    pub origins: Vec<String>,
}
