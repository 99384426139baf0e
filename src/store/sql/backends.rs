//! The rows of backends: their columns, and the one statement that writes them.

use super::columns::to_json;
use super::connection::{ColumnError, Columns, Connection};
use super::sql_rows::SqlRows;
use crate::model::{BackendId, BackendSpec, ByteSize, Endpoints, Generation, InstanceName, PortPair, Resources};
use crate::store::{BackendRow, StoreError};

pub(super) const BACKEND_COLUMNS: &str = "id, project, name, instance_name, phase, generation, spec, fingerprints, managed_env, url, site_url, \
     admin_key, api_port, site_port, provider_references, has_been_ready, created_at, expires_at, sealed, newest_release, stopped";

/// Returns the instance name of a column. The first schema allows each name once, and two compose stacks may have the same
/// one: the second one has its identity behind it.
fn plain_instance_name(column: &str) -> &str {
    column.split_once('#').map_or(column, |(name, _)| name)
}

pub(super) fn backend(row: &dyn Columns) -> Result<BackendRow, ColumnError> {
    let ports: (Option<u16>, Option<u16>) = (row.optional_number(12)?, row.optional_number(13)?);
    Ok(BackendRow {
        id: BackendId::new(row.string(0)?),
        project: row.project_name(1)?,
        name: row.backend_name(2)?,
        instance_name: InstanceName::parse(plain_instance_name(row.string(3)?)).map_err(|error| ColumnError::new(3, error))?,
        phase: row.json(4)?,
        generation: Generation(row.number(5)?),
        spec: row.json(6)?,
        fingerprints: row.json(7)?,
        managed_env: row.json(8)?,
        endpoints: row.optional_string(9)?.zip(row.optional_string(10)?).map(|(url, site_url)| Endpoints { url, site_url }),
        admin_key: row.optional_json(11)?,
        ports: ports.0.zip(ports.1).map(|(api, site)| PortPair { api, site }),
        references: row.json(14)?,
        has_been_ready: row.boolean(15)?,
        created_at: row.time(16)?,
        expires_at: row.optional_time(17)?,
        sealed: row.blob(18)?,
        newest_release: row.optional_json(19)?,
        stopped: row.boolean(20)?,
    })
}

impl<C: Connection> SqlRows<'_, C> {
    pub(super) fn write_backend(&self, row: &BackendRow) -> Result<(), StoreError> {
        let statement = format!(
            "INSERT INTO backends ({BACKEND_COLUMNS}, cpus, memory, disk)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)
             ON CONFLICT (id) DO UPDATE SET name = ?3, instance_name = ?4, phase = ?5, generation = ?6, spec = ?7, fingerprints = ?8,
             managed_env = ?9, url = ?10, site_url = ?11, admin_key = ?12, api_port = ?13, site_port = ?14, provider_references = ?15,
             has_been_ready = ?16, expires_at = ?18, sealed = ?19, newest_release = ?20, stopped = ?21, cpus = ?22,
             memory = ?23, disk = ?24"
        );
        let [cpus, memory, disk] = resources(&row.spec);
        let other = "SELECT 1 FROM backends WHERE instance_name = ?1 AND id <> ?2";
        let names = [row.instance_name.as_str().into(), row.id.as_str().into()];
        let instance_name = match self.one(other, &names, |_| Ok(()))? {
            Some(()) => format!("{}#{}", row.instance_name, row.id),
            None => row.instance_name.to_string(),
        };
        self.run(
            &statement,
            &[
                row.id.as_str().into(),
                row.project.as_str().into(),
                row.name.as_str().into(),
                instance_name.as_str().into(),
                to_json(&row.phase)?.into(),
                row.generation.0.into(),
                to_json(&row.spec)?.into(),
                to_json(&row.fingerprints)?.into(),
                to_json(&row.managed_env)?.into(),
                row.endpoints.as_ref().map(|endpoints| &endpoints.url).into(),
                row.endpoints.as_ref().map(|endpoints| &endpoints.site_url).into(),
                row.admin_key.as_ref().map(to_json).transpose()?.into(),
                row.ports.map(|ports| ports.api).into(),
                row.ports.map(|ports| ports.site).into(),
                to_json(&row.references)?.into(),
                row.has_been_ready.into(),
                row.created_at.0.into(),
                row.expires_at.map(|time| time.0).into(),
                (&row.sealed).into(),
                row.newest_release.as_ref().map(to_json).transpose()?.into(),
                row.stopped.into(),
                cpus.into(),
                memory.into(),
                disk.into(),
            ],
        )
        .map(drop)
    }
}

/// Returns what a backend asks for, in thousandths of a processor and in bytes.
pub(super) fn resources(spec: &BackendSpec) -> [i64; 3] {
    let bytes = |size: Option<ByteSize>| i64::try_from(size.unwrap_or_default().bytes()).unwrap_or(i64::MAX);
    let Resources { cpus, memory, disk } = &spec.resources;
    [i64::from(cpus.unwrap_or_default().milli()), bytes(*memory), bytes(*disk)]
}
