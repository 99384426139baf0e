//! Imports: uploaded in parts, summed up, confirmed, carried out; or all of it in one request.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::auth::KeyHolder;
use super::documents::{self, ImportMode, Tables, WriteError};
use super::encoding::integer;
use super::import_format::{ImportFormat, ParseError, parse};
use super::response::{ApiRejection, Query, read_json_body};
use super::state::SimulatorState;
use super::{identifier, log};
use crate::model::error_chain;

const OPERATION: &str = "deployment:data:import";

/// Describes what an import is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImportRequest {
    table_name: Option<String>,
    component_path: Option<String>,
    mode: ImportMode,
    format: ImportFormat,
}

/// Describes what names an upload. The real one names a file of its own; this one is looked up in the database.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadToken {
    object_key: String,
    filepath: String,
}

/// `POST /api/import/start_upload`
pub(super) async fn start_upload(State(app): State<SimulatorState>, caller: KeyHolder) -> Result<Json<Value>, ApiRejection> {
    caller.require_write(OPERATION)?;
    let object_key = identifier::object();
    let filepath = app.object_path("snapshot_imports", &object_key);
    let token = serde_json::to_string(&UploadToken { object_key, filepath }).unwrap_or_default();
    Ok(Json(json!({ "uploadToken": token })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadPart {
    upload_token: String,
    part_number: u32,
}

fn object_of(token: &str) -> Result<String, ApiRejection> {
    serde_json::from_str::<UploadToken>(token)
        .map(|token| token.object_key)
        .map_err(|_| ApiRejection::bad_request("BadUploadToken", "the upload token is not one that was handed out here"))
}

/// `POST /api/import/upload_part`
pub(super) async fn upload_part(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Query(part): Query<UploadPart>,
    body: Bytes,
) -> Result<Json<Value>, ApiRejection> {
    caller.require_write(OPERATION)?;
    let object = object_of(&part.upload_token)?;
    app.data.with(|connection| {
        let sql = "INSERT OR REPLACE INTO upload_part (object, number, bytes) VALUES (?1, ?2, ?3)";
        connection.execute(sql, params![object, part.part_number, &body[..]])
    })?;
    Ok(Json(json!("")))
}

/// `POST /api/import/finish_upload`
pub(super) async fn finish_upload(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiRejection> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Finish {
        import: ImportRequest,
        upload_token: String,
        #[serde(rename = "partTokens")]
        _part_tokens: Vec<Value>,
    }
    let finish: Finish = read_json_body(&headers, &body)?;
    caller.require_write(OPERATION)?;
    let object = object_of(&finish.upload_token)?;
    let id = identifier::document();
    app.data.with(|connection| {
        connection.execute(
            "INSERT INTO snapshot_import (id, created, request, object, checkpoints, state)
             VALUES (?1, ?2, ?3, ?4, 'null', ?5)",
            params![
                id,
                identifier::now_ms(),
                json!(finish.import).to_string(),
                object,
                json!({ "state": "uploaded" }).to_string()
            ],
        )
    })?;
    app.notify_changed();
    tokio::spawn(summarize(app, id.clone()));
    Ok(Json(json!({ "importId": id })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImportSelector {
    import_id: String,
}

/// `POST /api/perform_import`
pub(super) async fn perform(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), ApiRejection> {
    let ImportSelector { import_id } = read_json_body(&headers, &body)?;
    caller.require_write(OPERATION)?;
    transition(&app, &import_id, &["waiting_for_confirmation"], &json!({ "state": "in_progress" }))?;
    tokio::spawn(run_import(app, import_id));
    Ok(())
}

/// `POST /api/cancel_import`
pub(super) async fn cancel(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), ApiRejection> {
    let ImportSelector { import_id } = read_json_body(&headers, &body)?;
    caller.require_write(OPERATION)?;
    let state = json!({ "state": "failed", "error_message": "the import was called off" });
    transition(&app, &import_id, &["uploaded", "waiting_for_confirmation"], &state)
}

/// Takes an import from one of these states to another.
fn transition(app: &SimulatorState, id: &str, from: &[&str], to: &Value) -> Result<(), ApiRejection> {
    app.data.transaction(|connection| {
        let Some(import) = load(connection, id)? else {
            return Err(ApiRejection::new(axum::http::StatusCode::NOT_FOUND, "ImportNotFound", "there is no such import"));
        };
        let state = import.state_name();
        if !from.contains(&state) {
            return Err(ApiRejection::bad_request("ImportState", format!("the import is `{state}` already")));
        }
        connection.execute("UPDATE snapshot_import SET state = ?2 WHERE id = ?1", params![id, to.to_string()])?;
        Ok(())
    })?;
    app.notify_changed();
    Ok(())
}

/// `POST /api/import`
pub(super) async fn direct(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Query(request): Query<ImportRequest>,
    body: Bytes,
) -> Result<Json<Value>, ApiRejection> {
    caller.require_write(OPERATION)?;
    let tables = parse(request.format, request.table_name.as_deref(), &body)
        .map_err(|error| ApiRejection::bad_request("ImportFailed", error_chain(&error)))?;
    let written = app
        .data
        .transaction(|connection| documents::write(connection, request.mode, &tables))
        .map_err(|error| ApiRejection::bad_request("ImportFailed", error_chain(&error)))?;
    app.notify_changed();
    Ok(Json(json!({ "numWritten": written })))
}

struct SnapshotImport {
    id: String,
    created: f64,
    request: ImportRequest,
    object: String,
    checkpoints: Value,
    state: Value,
}

impl SnapshotImport {
    fn state_name(&self) -> &str {
        self.state["state"].as_str().unwrap_or_default()
    }

    fn tables(&self, connection: &Connection) -> Result<Tables, ParseError> {
        let bytes = uploaded(connection, &self.object).map_err(std::io::Error::other)?;
        parse(self.request.format, self.request.table_name.as_deref(), &bytes)
    }

    /// Returns the record of it as a client sees it.
    fn document(self, app: &SimulatorState) -> Value {
        let mut format = json!({ "format": match self.request.format {
            ImportFormat::Csv => "csv",
            ImportFormat::JsonLines => "json_lines",
            ImportFormat::JsonArray => "json_array",
            ImportFormat::Zip => "zip",
        } });
        if let Some(table) = &self.request.table_name {
            format["table"] = json!(table);
        }
        json!({
            "_id": self.id,
            "_creationTime": self.created,
            "checkpoints": self.checkpoints,
            "component_path": self.request.component_path,
            "format": format,
            "fq_object_key": app.object_path("snapshot_imports", &self.object),
            "member_id": integer(0),
            "mode": self.request.mode.recorded(),
            "requestor": { "type": "snapshotImport" },
            "state": self.state,
        })
    }
}

const COLUMNS: &str = "SELECT id, created, request, object, checkpoints, state FROM snapshot_import";

fn import_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<SnapshotImport> {
    let json = |index: usize| -> rusqlite::Result<Value> {
        let text: String = row.get(index)?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    };
    let request = serde_json::from_value(json(2)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error)))?;
    Ok(SnapshotImport {
        id: row.get(0)?,
        created: row.get(1)?,
        request,
        object: row.get(3)?,
        checkpoints: json(4)?,
        state: json(5)?,
    })
}

fn load(connection: &Connection, id: &str) -> rusqlite::Result<Option<SnapshotImport>> {
    connection.query_row(&format!("{COLUMNS} WHERE id = ?1"), [id], import_of).optional()
}

fn uploaded(connection: &Connection, object: &str) -> rusqlite::Result<Vec<u8>> {
    let mut statement = connection.prepare("SELECT bytes FROM upload_part WHERE object = ?1 ORDER BY number")?;
    let parts: Vec<Vec<u8>> = statement.query_map([object], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(parts.concat())
}

/// Returns one import as a client sees it, or null.
pub(super) fn document(app: &SimulatorState, id: &str) -> rusqlite::Result<Value> {
    let Some(import) = app.data.with(|connection| load(connection, id))? else { return Ok(Value::Null) };
    if import.state_name() == "uploaded" {
        app.gate.mark_seen(id, "uploaded");
    }
    Ok(import.document(app))
}

/// Returns all imports, newest first.
pub(super) fn list(app: &SimulatorState) -> rusqlite::Result<Value> {
    let imports: Vec<SnapshotImport> = app.data.with(|connection| {
        let mut statement = connection.prepare(&format!("{COLUMNS} ORDER BY number DESC LIMIT 20"))?;
        statement.query_map([], import_of)?.collect()
    })?;
    Ok(Value::Array(imports.into_iter().map(|import| import.document(app)).collect()))
}

/// Goes on with what an earlier process left unfinished.
pub(super) fn resume(app: &SimulatorState) -> rusqlite::Result<()> {
    let imports: Vec<SnapshotImport> = app.data.with(|connection| {
        let mut statement = connection.prepare(COLUMNS)?;
        statement.query_map([], import_of)?.collect()
    })?;
    for import in imports {
        match import.state_name() {
            "uploaded" => drop(tokio::spawn(summarize(app.clone(), import.id))),
            "in_progress" => drop(tokio::spawn(run_import(app.clone(), import.id))),
            _ => {}
        }
    }
    Ok(())
}

/// Reads what was uploaded, and says what it would change.
async fn summarize(app: SimulatorState, id: String) {
    app.gate.wait_until_seen(&id, "uploaded").await;
    step(&app, &id, |connection, import| {
        let tables = import.tables(connection)?;
        let mut checkpoints = Vec::new();
        let mut summary = String::from("what the import does:\n");
        let mut deletes = 0;
        for (table, documents) in &tables {
            let existing = documents::count(connection, table)?;
            let replaced =
                if matches!(import.request.mode, ImportMode::Replace | ImportMode::ReplaceAll) { existing } else { 0 };
            deletes += replaced;
            summary.push_str(&format!("  {table}: creates {}, deletes {replaced} of {existing}\n", documents.len()));
            checkpoints.push(json!({
                "component_path": null,
                "display_table_name": table,
                "existing_rows_in_table": integer(existing),
                "existing_rows_to_delete": integer(replaced),
                "is_missing_id_field": documents.iter().any(|document| !document.contains_key("_id")),
                "num_rows_written": integer(0),
                "tablet_id": null,
                "total_num_rows_to_write": integer(documents.len() as u64),
            }));
        }
        let state = json!({
            "state": "waiting_for_confirmation",
            "message_to_confirm": summary.trim_end(),
            "require_manual_confirmation": deletes > 0,
        });
        Ok((Value::Array(checkpoints), state))
    })
    .await;
}

/// Writes the documents of an import that was confirmed.
async fn run_import(app: SimulatorState, id: String) {
    step(&app, &id, |connection, import| {
        let written = documents::write(connection, import.request.mode, &import.tables(connection)?)?;
        let mut checkpoints = import.checkpoints.clone();
        for checkpoint in checkpoints.as_array_mut().into_iter().flatten() {
            checkpoint["num_rows_written"] = checkpoint["total_num_rows_to_write"].clone();
            checkpoint["tablet_id"] = json!(identifier::object());
        }
        connection.execute("DELETE FROM upload_part WHERE object = ?1", [&import.object])?;
        let state =
            json!({ "state": "completed", "num_rows_written": integer(written), "timestamp": integer(identifier::now_ns()) });
        Ok((checkpoints, state))
    })
    .await;
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
}

/// Does one step of an import in one transaction, off the thread that answers requests; a failure becomes its state.
async fn step(
    app: &SimulatorState,
    id: &str,
    work: impl FnOnce(&Connection, &SnapshotImport) -> Result<(Value, Value), StepError> + Send + 'static,
) {
    const SQL: &str = "UPDATE snapshot_import SET checkpoints = ?2, state = ?3 WHERE id = ?1";
    let (data, job) = (app.data.clone(), id.to_owned());
    let blocking = tokio::task::spawn_blocking(move || {
        let done = data.transaction(|connection| {
            let Some(import) = load(connection, &job)? else { return Ok(()) };
            if !matches!(import.state_name(), "uploaded" | "in_progress") {
                return Ok(());
            }
            let (checkpoints, state) = work(connection, &import)?;
            connection.execute(SQL, params![job, checkpoints.to_string(), state.to_string()])?;
            Ok::<_, StepError>(())
        });
        if let Err(error) = done {
            log::error(&format!("an import failed: {}", error_chain(&error)));
            let state = json!({ "state": "failed", "error_message": error_chain(&error) });
            let _ = data.with(|connection| {
                connection.execute("UPDATE snapshot_import SET state = ?2 WHERE id = ?1", params![job, state.to_string()])
            });
        }
    });
    let _ = blocking.await;
    app.notify_changed();
}
