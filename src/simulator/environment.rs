//! The deployment's environment variables: two ways to list them, one to change them.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::KeyHolder;
use super::identifier;
use super::response::{ApiRejection, read_json_body};
use super::state::SimulatorState;
use crate::convex::environment::{EnvironmentError, check_name, check_one, check_totals};

impl From<EnvironmentError> for ApiRejection {
    fn from(error: EnvironmentError) -> Self {
        Self::bad_request(error.convex_code(), error.to_string())
    }
}

#[derive(Deserialize)]
struct Body {
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    name: String,
    value: Option<String>,
}

/// `GET list_environment_variables`
pub(super) async fn list(State(app): State<SimulatorState>, caller: KeyHolder) -> Result<Json<Value>, ApiRejection> {
    caller.require_read()?;
    let variables = app.data.with(all)?;
    Ok(Json(json!({ "environmentVariables": variables })))
}

/// `POST update_environment_variables`
pub(super) async fn update(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), ApiRejection> {
    let Body { changes } = read_json_body(&headers, &body)?;
    caller.require_write("deployment:env:write")?;
    app.data.transaction(|connection| apply(connection, &changes))?;
    app.notify_changed();
    Ok(())
}

fn apply(connection: &Connection, changes: &[Change]) -> Result<(), ApiRejection> {
    for change in changes {
        let Some(value) = &change.value else {
            check_name(&change.name)?;
            connection.execute("DELETE FROM environment_variable WHERE name = ?1", [&change.name])?;
            continue;
        };
        check_one(&change.name, value)?;
        connection.execute(
            "INSERT INTO environment_variable (name, id, created, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            rusqlite::params![change.name, identifier::document(), identifier::now_ms(), value],
        )?;
    }
    let all = all(connection)?;
    check_totals(all.len(), all.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    Ok(())
}

fn all(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = connection.prepare("SELECT name, value FROM environment_variable")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns all variables as the documents that they are inside the real backend.
pub(super) fn documents(connection: &Connection) -> rusqlite::Result<Value> {
    let mut statement =
        connection.prepare("SELECT id, created, name, value FROM environment_variable ORDER BY created, name")?;
    let documents = statement.query_map([], |row| {
        let (id, created, name, value) =
            (row.get::<_, String>(0)?, row.get::<_, f64>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?);
        Ok(json!({ "_id": id, "_creationTime": created, "name": name, "value": value }))
    })?;
    Ok(Value::Array(documents.collect::<rusqlite::Result<_>>()?))
}

/// Returns one variable, or null.
pub(super) fn document(connection: &Connection, name: &str) -> rusqlite::Result<Value> {
    let value: Option<String> =
        connection.query_row("SELECT value FROM environment_variable WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    Ok(value.map_or(Value::Null, |value| json!({ "name": name, "value": value })))
}
