//! The copy of an SQLite database: recovered from a process that was killed, and checked. The original is never opened.

use std::path::Path;

use rusqlite::Connection;

use super::error::SnapshotError;

/// Recovers a copy: a journal that was copied with it is rolled back or written into it, and is gone afterwards.
///
/// # Errors
/// It is no database.
pub fn recover(path: &Path) -> Result<(), SnapshotError> {
    let recovered = Connection::open(path).and_then(|connection| {
        // The first read rolls a journal back.
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        // Answers with a row whether or not there is a write-ahead log.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    });
    recovered.map_err(|error| SnapshotError::SourceDamaged(error.to_string()))
}

/// Checks that a copy is a whole database.
pub(super) fn check(path: &Path) -> Result<(), SnapshotError> {
    let said = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)))
        .map_err(|error| SnapshotError::SourceDamaged(error.to_string()))?;
    if said == "ok" { Ok(()) } else { Err(SnapshotError::SourceDamaged(said)) }
}
