//! The schema: every step from an empty database to the newest one.
//!
//! Must not do: begin or end a transaction, or record which steps were taken; the database does.

use super::backends::resources;
use super::connection::Connection;
use crate::model::BackendSpec;
use crate::store::StoreError;

/// The newest schema at once. Every `ALTER TABLE` reads the whole schema again, so the steps take most of what a first apply does.
pub(in crate::store) const SCHEMA: &str = include_str!("schema.sql");

/// Every step from an empty database to the newest schema, oldest first.
pub const MIGRATIONS: [&str; 8] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
];

/// Takes every step after the first `taken` ones; an empty database gets the newest schema at once.
///
/// # Errors
/// Why a step could not be taken; the transaction around it must be given up then.
pub fn migrate(connection: &dyn Connection, taken: usize) -> Result<(), StoreError> {
    if taken == 0 {
        return connection.batch(SCHEMA);
    }
    for migration in MIGRATIONS.iter().skip(taken) {
        connection.batch(migration)?;
    }
    if taken == 1 { note_resources(connection) } else { Ok(()) }
}

/// Notes what every backend asks for, in rows from before that was done.
fn note_resources(connection: &dyn Connection) -> Result<(), StoreError> {
    let mut all: Vec<(String, [i64; 3])> = Vec::new();
    connection.query("SELECT id, spec FROM backends", &[], &mut |row| {
        all.push((row.string(0)?.to_owned(), resources(&row.json::<BackendSpec>(1)?)));
        Ok(())
    })?;
    for (id, [cpus, memory, disk]) in &all {
        let statement = "UPDATE backends SET cpus = ?2, memory = ?3, disk = ?4 WHERE id = ?1";
        connection.run(statement, &[id.into(), (*cpus).into(), (*memory).into(), (*disk).into()])?;
    }
    Ok(())
}
