//! The rows of tokens, one statement each.

use super::columns::to_json;
use super::connection::{ColumnError, Columns, Connection};
use super::sql_rows::SqlRows;
use crate::model::{ProjectName, TokenId, TokenRecord};
use crate::store::{StoreError, TokenRow, UnreadableRow};

const COLUMNS: &str = "id, project, scope, note, created_at, expires_at, revoked_at, hash, mac";

fn token(row: &dyn Columns) -> Result<TokenRow, ColumnError> {
    Ok(TokenRow {
        record: TokenRecord {
            id: TokenId::new(row.string(0)?),
            project: row.text(1)?.map(|_| row.project_name(1)).transpose()?,
            scope: row.json(2)?,
            note: row.string(3)?.to_owned(),
            created_at: row.time(4)?,
            expires_at: row.optional_time(5)?,
            revoked_at: row.optional_time(6)?,
        },
        hash: row.blob(7)?,
        mac: row.optional_string(8)?,
    })
}

impl<C: Connection> SqlRows<'_, C> {
    pub(super) fn all_tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.many(&format!("SELECT {COLUMNS} FROM tokens ORDER BY created_at, id"), &[], token)
    }

    pub(super) fn tokens_and_unreadable(&self) -> Result<(Vec<TokenRow>, Vec<UnreadableRow>), StoreError> {
        self.many_readable(&format!("SELECT {COLUMNS} FROM tokens ORDER BY created_at, id"), &[], "tokens", token)
    }

    pub(super) fn token_with_id(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1"), &[id.as_str().into()], token)
    }

    pub(super) fn write_token(&self, row: &TokenRow) -> Result<(), StoreError> {
        let record = &row.record;
        self.run(
            "INSERT INTO tokens (id, project, scope, note, hash, created_at, expires_at, revoked_at, mac)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET expires_at = ?7, revoked_at = COALESCE(revoked_at, ?8), mac = ?9",
            &[
                record.id.as_str().into(),
                record.project.as_ref().map(ProjectName::as_str).into(),
                to_json(&record.scope)?.into(),
                (&record.note).into(),
                (&row.hash).into(),
                record.created_at.0.into(),
                record.expires_at.map(|time| time.0).into(),
                record.revoked_at.map(|time| time.0).into(),
                row.mac.as_ref().into(),
            ],
        )
        .map(drop)
    }
}
