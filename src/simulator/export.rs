//! Exports: one at a time, written in the background, downloaded by identifier or by point in time.

use std::io::{Cursor, Write};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use super::auth::KeyHolder;
use super::encoding::integer;
use super::response::{ApiRejection, Query, read_json_body};
use super::state::SimulatorState;
use super::{documents, identifier, log};

const OPERATION: &str = "deployment:backups:create";
/// Fourteen days.
const KEPT_NS: u64 = 14 * 86_400 * 1_000_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExportOptions {
    #[serde(default)]
    include_storage: bool,
}

/// `POST /api/export/request/zip`
pub(super) async fn request(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Query(wanted): Query<ExportOptions>,
) -> Result<(), ApiRejection> {
    caller.require_write(OPERATION)?;
    let id = identifier::document();
    app.data.transaction(|connection| {
        let running: u64 = connection.query_row(
            "SELECT count(*) FROM snapshot_export WHERE state IN ('requested', 'in_progress')",
            [],
            |row| row.get(0),
        )?;
        if running > 0 {
            return Err(ApiRejection::bad_request("ExportInProgress", "an export is on its way already"));
        }
        connection.execute(
            "INSERT INTO snapshot_export (id, created, include_storage, state, expiration_ts) VALUES (?1, ?2, ?3, 'requested', ?4)",
            params![id, identifier::now_ms(), wanted.include_storage, identifier::now_ns() + KEPT_NS],
        )?;
        Ok(())
    })?;
    app.notify_changed();
    tokio::spawn(run_export(app, id));
    Ok(())
}

/// `POST /api/export/cancel/{id}`
pub(super) async fn cancel(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Path(id): Path<String>,
) -> Result<(), ApiRejection> {
    caller.require_write(OPERATION)?;
    let id = checked_id(&id)?;
    let sql = "UPDATE snapshot_export SET state = 'canceled' WHERE id = ?1 AND state IN ('requested', 'in_progress')";
    app.data.with(|connection| connection.execute(sql, [id]))?;
    app.notify_changed();
    Ok(())
}

/// `POST /api/export/set_expiration/{id}`
pub(super) async fn set_expiration(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<(), ApiRejection> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Expiration {
        expiration_ts_ns: u64,
    }
    let Expiration { expiration_ts_ns } = read_json_body(&headers, &body)?;
    caller.require_write(OPERATION)?;
    let id = checked_id(&id)?;
    let sql = "UPDATE snapshot_export SET expiration_ts = ?2 WHERE id = ?1";
    app.data.with(|connection| connection.execute(sql, params![id, expiration_ts_ns]))?;
    app.notify_changed();
    Ok(())
}

fn checked_id(id: &str) -> Result<&str, ApiRejection> {
    match identifier::is_document(id) {
        true => Ok(id),
        false => Err(ApiRejection::bad_request("BadSnapshotId", "this is not the identifier of an export")),
    }
}

/// `GET /api/export/zip/{id or start_ts}`
pub(super) async fn download(
    State(app): State<SimulatorState>,
    caller: KeyHolder,
    Path(name): Path<String>,
) -> Result<Response, ApiRejection> {
    caller.require_read()?;
    let column = match name.parse::<u64>() {
        Ok(_) => "start_ts",
        Err(_) => checked_id(&name).map(|_| "id")?,
    };
    let found: Option<(u64, Vec<u8>)> = app.data.with(|connection| {
        let sql = format!("SELECT start_ts, zip FROM snapshot_export WHERE state = 'completed' AND {column} = ?1");
        connection.query_row(&sql, [&name], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    })?;
    let Some((start, bytes)) = found else {
        return Err(ApiRejection::new(StatusCode::NOT_FOUND, "SnapshotNotFound", "there is no finished export of this name"));
    };
    // Quotes and line breaks in an instance's name would break out of the header.
    let name: String = app.instance_name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let disposition = format!("attachment; filename=snapshot_{name}_{start}.zip");
    let headers = [(header::CONTENT_DISPOSITION, disposition), (header::CONTENT_LENGTH, bytes.len().to_string())];
    Ok((headers, Body::from(bytes)).into_response())
}

/// Returns the newest export as a client sees it, or null.
pub(super) fn latest(app: &SimulatorState) -> rusqlite::Result<Value> {
    let sql = "SELECT id, created, include_storage, state, start_ts, complete_ts, expiration_ts, object, length(zip)
               FROM snapshot_export ORDER BY number DESC LIMIT 1";
    let found = app.data.with(|connection| {
        let row = |row: &rusqlite::Row<'_>| {
            let (id, state): (String, String) = (row.get(0)?, row.get(3)?);
            let mut document = json!({
                "_id": id,
                "_creationTime": row.get::<_, f64>(1)?,
                "component": null,
                "expiration_ts": integer(row.get(6)?),
                "format": { "format": "zip", "include_storage": row.get::<_, bool>(2)? },
                "requestor": "snapshotExport",
                "state": state,
            });
            for (index, field) in [(4, "start_ts"), (5, "complete_ts"), (8, "size")] {
                if let Some(number) = row.get::<_, Option<u64>>(index)? {
                    document[field] = integer(number);
                }
            }
            if let Some(object) = row.get::<_, Option<String>>(7)? {
                document["zip_object_key"] = json!(object);
            }
            Ok((id, state, document))
        };
        connection.query_row(sql, [], row).optional()
    })?;
    let Some((id, state, mut document)) = found else { return Ok(Value::Null) };
    if state == "in_progress" {
        document["progress_message"] = json!("writing tables");
        app.gate.mark_seen(&id, "in_progress");
    }
    Ok(document)
}

/// Goes on with what an earlier process left unfinished.
pub(super) fn resume(app: &SimulatorState) -> rusqlite::Result<()> {
    let unfinished: Vec<String> = app.data.with(|connection| {
        let mut statement = connection.prepare("SELECT id FROM snapshot_export WHERE state IN ('requested', 'in_progress')")?;
        statement.query_map([], |row| row.get(0))?.collect()
    })?;
    for id in unfinished {
        tokio::spawn(run_export(app.clone(), id));
    }
    Ok(())
}

async fn run_export(app: SimulatorState, id: String) {
    let start = "UPDATE snapshot_export SET state = 'in_progress', start_ts = ?2
                 WHERE id = ?1 AND state IN ('requested', 'in_progress')";
    if let Err(error) = app.data.with(|connection| connection.execute(start, params![id, identifier::now_ns()])) {
        return log::error(&format!("an export failed: {error}"));
    }
    app.notify_changed();
    app.gate.wait_until_seen(&id, "in_progress").await;
    let (data, job) = (app.data.clone(), id.clone());
    let blocking = tokio::task::spawn_blocking(move || {
        let finish = "UPDATE snapshot_export SET state = ?2, complete_ts = ?3, object = ?4, zip = ?5
                      WHERE id = ?1 AND state = 'in_progress'";
        let done = data.transaction(|connection| {
            let include_storage = "SELECT include_storage FROM snapshot_export WHERE id = ?1";
            let include_storage: bool = connection.query_row(include_storage, [&job], |row| row.get(0))?;
            let bytes = archive(connection, include_storage)?;
            let object = identifier::object();
            connection.execute(finish, params![job, "completed", identifier::now_ns(), object, bytes])?;
            Ok::<_, ArchiveError>(())
        });
        if let Err(error) = done {
            log::error(&format!("an export failed: {error}"));
            let none: Option<Vec<u8>> = None;
            let _ = data.with(|connection| {
                connection.execute(finish, params![job, "failed", identifier::now_ns(), Option::<String>::None, none])
            });
        }
    });
    let _ = blocking.await;
    app.notify_changed();
}

#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the zip file could not be written: {0}")]
    Zip(#[from] zip::result::ZipError),
    #[error("the zip file could not be written: {0}")]
    Write(#[from] std::io::Error),
}

const README: &str = "A snapshot of a simulated Convex deployment: one folder for each table, with one document a line.\n";

/// Returns all documents as a zip file with the entries that the real backend writes, in its order.
fn archive(connection: &Connection, include_storage: bool) -> Result<Vec<u8>, ArchiveError> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut entry = |name: &str, text: &str| {
        zip.start_file(name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated))?;
        zip.write_all(text.as_bytes())
    };
    let tables = documents::tables(connection)?;
    entry("README.md", README)?;
    let numbered: String =
        tables.iter().zip(10_001..).map(|(name, id)| format!("{}\n", json!({ "id": id, "name": name }))).collect();
    entry("_tables/documents.jsonl", &numbered)?;
    for table in &tables {
        let text: String = documents::bodies(connection, table)?.into_iter().map(|body| body + "\n").collect();
        entry(&format!("{table}/documents.jsonl"), &text)?;
        entry(&format!("{table}/generated_schema.jsonl"), "\"any\"\n")?;
    }
    if include_storage {
        entry("_storage/documents.jsonl", "")?;
    }
    Ok(zip.finish()?.into_inner())
}
