//! Tokens of a control plane, for people and for programs.
//!
//! Must not do: show a token other than the one that was just made.

use serde::Serialize;

use super::style::Style;
use super::table::table;
use crate::model::{IssuedToken, ProjectName, Scope, Timestamp, TokenId, TokenRecord, TokenState};

/// The document that `token create --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct IssuedDocument<'a> {
    /// Always `convexinfra.token/1`.
    pub format: &'static str,
    /// What the control plane keeps of it.
    pub record: TokenEntry,
    /// The token, which is shown this once.
    pub token: &'a str,
    /// The URLs that it may be sent to; empty when it is bound to none.
    pub origins: &'a [String],
}

impl<'a> IssuedDocument<'a> {
    /// A token that was made now.
    pub fn new(issued: &'a IssuedToken, now: Timestamp) -> Self {
        Self {
            format: "convexinfra.token/1",
            record: TokenEntry::new(&issued.record, now),
            token: issued.token.expose(),
            origins: &issued.origins,
        }
    }
}

/// The document that `token list --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct TokensDocument {
    /// Always `convexinfra.tokens/1`.
    pub format: &'static str,
    /// Every token, oldest first.
    pub tokens: Vec<TokenEntry>,
}

/// What is known of one token.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct TokenEntry {
    /// Its public part, by which it is revoked.
    pub id: TokenId,
    /// The one project that it opens; null for an operator's, which opens all.
    pub project: Option<ProjectName>,
    /// How much it allows.
    pub scope: Scope,
    /// What its maker wrote beside it.
    pub note: String,
    /// Whether it opens anything.
    pub state: TokenState,
    /// When it was made.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

impl TokenEntry {
    /// What is known of a token now.
    pub fn new(record: &TokenRecord, now: Timestamp) -> Self {
        Self {
            id: record.id.clone(),
            project: record.project.clone(),
            scope: record.scope,
            note: record.note.clone(),
            state: record.state(now),
            created_at: record.created_at.to_string(),
            expires_at: record.expires_at.as_ref().map(Timestamp::to_string),
            revoked_at: record.revoked_at.as_ref().map(Timestamp::to_string),
        }
    }
}

/// The table for people.
pub fn token_table(document: &TokensDocument, style: Style) -> String {
    if document.tokens.is_empty() {
        return "there is no token yet; make the first one on the machine of the control plane with\n    convexinfra serve --init\n"
            .to_owned();
    }
    let row = |entry: &TokenEntry| {
        let project = entry.project.as_ref().map_or_else(|| "every project".to_owned(), ToString::to_string);
        let until = match (&entry.revoked_at, &entry.expires_at) {
            (Some(at), _) | (None, Some(at)) => at.clone(),
            (None, None) => "-".to_owned(),
        };
        let state = entry.state.as_str().to_owned();
        [entry.id.to_string(), project, entry.scope.to_string(), state, until, entry.note.clone()]
    };
    let rows: Vec<_> = document.tokens.iter().map(row).collect();
    table(["ID", "PROJECT", "SCOPE", "STATE", "UNTIL", "NOTE"], &rows, style)
}
