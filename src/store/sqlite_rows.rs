//! The rows of a SQLite file, one statement each.
//!
//! Must not do: begin or end a transaction; that is the store's.

use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::sqlite::sql;
use super::{BackendRow, Bond, EventRow, LeaseRow, OperationRow, ProjectRow, Rows, StoreError, TokenRow};
use crate::model::{
    BackendId, BackendName, BackendSpec, ByteSize, Cpus, Endpoints, Generation, InstanceName, OperationId, PortPair,
    ProjectName, Quota, Resources, Revision, StepKey, Timestamp, TokenId, Usage,
};

/// The rows that one transaction sees.
pub(super) struct SqliteRows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a Path,
}

impl SqliteRows<'_> {
    pub(super) fn run(&self, statement: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute(parameters))
            .map_err(|error| sql(self.path, error))
    }

    pub(super) fn one<T>(
        &self,
        statement: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.query_row(parameters, read).optional())
            .map_err(|error| sql(self.path, error))
    }

    pub(super) fn many<T>(
        &self,
        statement: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.query_map(parameters, read)?.collect())
            .map_err(|error| sql(self.path, error))
    }
}

pub(super) fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

pub(super) fn text_of<T: serde::Serialize>(value: &T) -> String {
    // The rows hold plain data with text keys, which always serialises.
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn project_name(row: &Row<'_>, column: usize) -> rusqlite::Result<ProjectName> {
    ProjectName::parse(row.get_ref(column)?.as_str()?).map_err(|error| unreadable(column, error))
}

const BACKEND_COLUMNS: &str = "id, project, name, instance_name, phase, generation, spec, fingerprints, managed_env, url, site_url, \
     admin_key, api_port, site_port, provider_references, has_been_ready, created_at, expires_at, sealed, newest_release";

fn backend(row: &Row<'_>) -> rusqlite::Result<BackendRow> {
    let url: Option<String> = row.get(9)?;
    let site_url: Option<String> = row.get(10)?;
    let ports: (Option<u16>, Option<u16>) = (row.get(12)?, row.get(13)?);
    Ok(BackendRow {
        id: BackendId::new(row.get::<_, String>(0)?),
        project: project_name(row, 1)?,
        name: BackendName::parse(row.get_ref(2)?.as_str()?).map_err(|error| unreadable(2, error))?,
        instance_name: InstanceName::parse(row.get_ref(3)?.as_str()?).map_err(|error| unreadable(3, error))?,
        phase: json(row, 4)?,
        generation: Generation(row.get(5)?),
        spec: json(row, 6)?,
        fingerprints: json(row, 7)?,
        managed_env: json(row, 8)?,
        endpoints: url.zip(site_url).map(|(url, site_url)| Endpoints { url, site_url }),
        admin_key: row.get::<_, Option<String>>(11)?.map(|_| json(row, 11)).transpose()?,
        ports: ports.0.zip(ports.1).map(|(api, site)| PortPair { api, site }),
        references: json(row, 14)?,
        has_been_ready: row.get(15)?,
        created_at: Timestamp(row.get(16)?),
        expires_at: row.get::<_, Option<i64>>(17)?.map(Timestamp),
        sealed: row.get(18)?,
        newest_release: row.get::<_, Option<String>>(19)?.map(|_| json(row, 19)).transpose()?,
    })
}

fn lease(row: &Row<'_>) -> rusqlite::Result<LeaseRow> {
    Ok(LeaseRow { project: project_name(row, 0)?, fence: row.get(1)?, holder: row.get(2)?, renewed_at: Timestamp(row.get(3)?) })
}

impl Rows for SqliteRows<'_> {
    fn project(&self, name: &ProjectName) -> Result<Option<ProjectRow>, StoreError> {
        self.one("SELECT name, revision, origin, created_at FROM projects WHERE name = ?1", [name.as_str()], |row| {
            Ok(ProjectRow {
                name: project_name(row, 0)?,
                revision: Revision(row.get(1)?),
                origin: row.get(2)?,
                created_at: Timestamp(row.get(3)?),
            })
        })
    }

    fn projects(&self) -> Result<Vec<ProjectName>, StoreError> {
        self.many("SELECT name FROM projects ORDER BY name", [], |row| project_name(row, 0))
    }

    fn put_project(&self, row: &ProjectRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO projects (name, revision, origin, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET revision = ?2, origin = ?3",
            params![row.name.as_str(), row.revision.0, row.origin, row.created_at.0],
        )
        .map(drop)
    }

    fn backends(&self, project: &ProjectName) -> Result<Vec<BackendRow>, StoreError> {
        let statement = format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE project = ?1 ORDER BY name");
        self.many(&statement, [project.as_str()], backend)
    }

    fn backend(&self, project: &ProjectName, name: &BackendName) -> Result<Option<BackendRow>, StoreError> {
        let statement = format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE project = ?1 AND name = ?2");
        self.one(&statement, [project.as_str(), name.as_str()], backend)
    }

    fn backend_by_id(&self, id: &BackendId) -> Result<Option<BackendRow>, StoreError> {
        self.one(&format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE id = ?1"), [id.as_str()], backend)
    }

    fn put_backend(&self, row: &BackendRow) -> Result<(), StoreError> {
        let statement = format!(
            "INSERT INTO backends ({BACKEND_COLUMNS}, cpus, memory, disk)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
             ON CONFLICT (id) DO UPDATE SET name = ?3, instance_name = ?4, phase = ?5, generation = ?6, spec = ?7, fingerprints = ?8,
             managed_env = ?9, url = ?10, site_url = ?11, admin_key = ?12, api_port = ?13, site_port = ?14, provider_references = ?15,
             has_been_ready = ?16, expires_at = ?18, sealed = ?19, newest_release = ?20, cpus = ?21, memory = ?22,
             disk = ?23"
        );
        let [cpus, memory, disk] = resources(&row.spec);
        self.run(
            &statement,
            params![
                row.id.as_str(),
                row.project.as_str(),
                row.name.as_str(),
                row.instance_name.as_str(),
                text_of(&row.phase),
                row.generation.0,
                text_of(&row.spec),
                text_of(&row.fingerprints),
                text_of(&row.managed_env),
                row.endpoints.as_ref().map(|endpoints| &endpoints.url),
                row.endpoints.as_ref().map(|endpoints| &endpoints.site_url),
                row.admin_key.as_ref().map(text_of),
                row.ports.map(|ports| ports.api),
                row.ports.map(|ports| ports.site),
                text_of(&row.references),
                row.has_been_ready,
                row.created_at.0,
                row.expires_at.map(|time| time.0),
                row.sealed,
                row.newest_release.as_ref().map(text_of),
                cpus,
                memory,
                disk,
            ],
        )
        .map(drop)
    }

    fn delete_backend(&self, id: &BackendId) -> Result<(), StoreError> {
        self.run("DELETE FROM backends WHERE id = ?1", [id.as_str()]).map(drop)
    }

    fn expired(&self, before: Timestamp) -> Result<Vec<BackendRow>, StoreError> {
        let statement = format!(
            "SELECT {BACKEND_COLUMNS} FROM backends WHERE expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at"
        );
        self.many(&statement, [before.0], backend)
    }

    fn usage(&self, project: &ProjectName) -> Result<Usage, StoreError> {
        let sums = "SELECT count(*), coalesce(sum(cpus), 0), coalesce(sum(memory), 0), coalesce(sum(disk), 0) FROM backends WHERE project = ?1";
        let usage = self.one(sums, [project.as_str()], |row| {
            Ok(Usage {
                backends: row.get(0)?,
                cpus: Cpus::from_milli(row.get(1)?),
                memory: ByteSize::from_bytes(row.get(2)?),
                disk: ByteSize::from_bytes(row.get(3)?),
            })
        })?;
        Ok(usage.unwrap_or_default())
    }

    fn instance_name_taken(&self, name: &InstanceName) -> Result<bool, StoreError> {
        self.one("SELECT 1 FROM backends WHERE instance_name = ?1", [name.as_str()], |_| Ok(())).map(|found| found.is_some())
    }

    fn ports(&self) -> Result<Vec<PortPair>, StoreError> {
        self.many("SELECT api_port, site_port FROM backends WHERE api_port IS NOT NULL ORDER BY api_port", [], |row| {
            Ok(PortPair { api: row.get(0)?, site: row.get(1)? })
        })
    }

    fn operation(&self, project: &ProjectName, step: &StepKey) -> Result<Option<OperationRow>, StoreError> {
        self.operation_for(project, step)
    }

    fn operation_by_id(&self, id: &OperationId) -> Result<Option<OperationRow>, StoreError> {
        self.operation_with_id(id)
    }

    fn operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRow>, StoreError> {
        self.last_operations(project, limit)
    }

    fn open_operations(&self, project: Option<&ProjectName>) -> Result<Vec<OperationRow>, StoreError> {
        self.operations_not_ended(project)
    }

    fn open_operations_on(&self, project: &ProjectName, backend: &BackendName) -> Result<Vec<OperationRow>, StoreError> {
        self.operations_not_ended_on(project, backend)
    }

    fn accept_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError> {
        self.insert_operation(row)
    }

    fn put_pending(&self, id: &OperationId, pending: Option<&[u8]>) -> Result<(), StoreError> {
        self.run("UPDATE operations SET pending = ?2 WHERE id = ?1", params![id.as_str(), pending]).map(drop)
    }

    fn end_operation(&self, id: &OperationId, ended_at: Timestamp, outcome: &str) -> Result<(), StoreError> {
        // What was pending holds secrets, and is of no use any more.
        self.run(
            "UPDATE operations SET ended_at = ?2, outcome = ?3, pending = NULL WHERE id = ?1",
            params![id.as_str(), ended_at.0, outcome],
        )
        .map(drop)
    }

    fn append_notice(&self, id: &OperationId, message: &str) -> Result<u64, StoreError> {
        self.insert_notice(id, message)
    }

    fn notices(&self, id: &OperationId, after: u64) -> Result<Vec<(u64, String)>, StoreError> {
        self.notices_after(id, after)
    }

    fn forget_notices(&self, before: Timestamp) -> Result<(), StoreError> {
        self.delete_notices(before)
    }

    fn lease(&self, project: &ProjectName) -> Result<Option<LeaseRow>, StoreError> {
        self.one("SELECT project, fence, holder, renewed_at FROM leases WHERE project = ?1", [project.as_str()], lease)
    }

    fn leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        self.many("SELECT project, fence, holder, renewed_at FROM leases WHERE holder IS NOT NULL", [], lease)
    }

    fn put_lease(&self, row: &LeaseRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO leases (project, fence, holder, renewed_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project) DO UPDATE SET fence = ?2, holder = ?3, renewed_at = ?4",
            params![row.project.as_str(), row.fence, row.holder, row.renewed_at.0],
        )
        .map(drop)
    }

    fn chain(&self, project: Option<&ProjectName>) -> Result<Option<Bond>, StoreError> {
        self.chain_of(project)
    }

    fn append_event(&self, event: &EventRow) -> Result<(), StoreError> {
        self.insert_event(event)
    }

    fn events(&self, project: Option<&ProjectName>, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.last_events(project, limit)
    }

    fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.all_tokens()
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
        self.token_with_id(id)
    }

    fn put_token(&self, row: &TokenRow) -> Result<(), StoreError> {
        self.write_token(row)
    }

    fn quota(&self, project: Option<&ProjectName>) -> Result<Option<Quota>, StoreError> {
        self.one("SELECT quota FROM quotas WHERE project = ?1", [project_key(project)], |row| json(row, 0))
    }

    fn put_quota(&self, project: Option<&ProjectName>, quota: &Quota) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO quotas (project, quota) VALUES (?1, ?2) ON CONFLICT (project) DO UPDATE SET quota = ?2",
            params![project_key(project), text_of(quota)],
        )
        .map(drop)
    }
}

/// How a project is named where there may be none.
pub(super) fn project_key(project: Option<&ProjectName>) -> &str {
    project.map_or("", ProjectName::as_str)
}

/// Notes what every backend asks for, in rows from before that was done.
pub(super) fn note_resources(connection: &Connection) -> rusqlite::Result<()> {
    let mut read = connection.prepare("SELECT id, spec FROM backends")?;
    let mut write = connection.prepare("UPDATE backends SET cpus = ?2, memory = ?3, disk = ?4 WHERE id = ?1")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (id, spec): (String, BackendSpec) = (row.get(0)?, json(row, 1)?);
        let [cpus, memory, disk] = resources(&spec);
        write.execute(params![id, cpus, memory, disk])?;
    }
    Ok(())
}

fn resources(spec: &BackendSpec) -> [i64; 3] {
    let bytes = |size: Option<ByteSize>| i64::try_from(size.unwrap_or_default().bytes()).unwrap_or(i64::MAX);
    let Resources { cpus, memory, disk } = &spec.resources;
    [i64::from(cpus.unwrap_or_default().milli()), bytes(*memory), bytes(*disk)]
}
