//! The rows of tokens, one statement each.
//!
//! Must not do: begin or end a transaction, or see a token that is not a hash.

use rusqlite::{Row, params};

use super::sqlite_rows::{SqliteRows, json, project_name, text_of};
use super::{StoreError, TokenRow};
use crate::model::{ProjectName, Timestamp, TokenId, TokenRecord};

const COLUMNS: &str = "id, project, scope, note, created_at, expires_at, revoked_at, hash";

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    let time = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    Ok(TokenRow {
        record: TokenRecord {
            id: TokenId::new(row.get::<_, String>(0)?),
            project: row.get::<_, Option<String>>(1)?.map(|_| project_name(row, 1)).transpose()?,
            scope: json(row, 2)?,
            note: row.get(3)?,
            created_at: Timestamp(row.get(4)?),
            expires_at: time(5)?,
            revoked_at: time(6)?,
        },
        hash: row.get(7)?,
    })
}

impl SqliteRows<'_> {
    pub(super) fn all_tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.many(&format!("SELECT {COLUMNS} FROM tokens ORDER BY created_at, id"), [], token)
    }

    pub(super) fn token_with_id(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1"), [id.as_str()], token)
    }

    pub(super) fn write_token(&self, row: &TokenRow) -> Result<(), StoreError> {
        let record = &row.record;
        self.run(
            "INSERT INTO tokens (id, project, scope, note, hash, created_at, expires_at, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET expires_at = ?7, revoked_at = ?8",
            params![
                record.id.as_str(),
                record.project.as_ref().map(ProjectName::as_str),
                text_of(&record.scope),
                record.note,
                row.hash,
                record.created_at.0,
                record.expires_at.map(|time| time.0),
                record.revoked_at.map(|time| time.0),
            ],
        )
        .map(drop)
    }
}
