//! The rows of a SQLite database, one statement each.
//!
//! Must not do: begin or end a transaction; that is the store's.

use std::collections::{BTreeMap, BTreeSet};

use super::backends::{BACKEND_COLUMNS, backend};
use super::columns::{project_key, to_json};
use super::connection::{ColumnError, Columns, Connection};
use super::sql_rows::SqlRows;
use crate::model::{
    BackendId, BackendName, ByteSize, Cpus, Generation, InstanceName, OperationId, PortPair, ProjectName, Quota, Revision,
    StepKey, Timestamp, TokenId, Usage,
};
use crate::store::{
    BackendRow, KeyCheckRow, LeaseRow, OperationProgress, OperationRetention, OperationRow, ProjectRow, RetainedRow, Rows,
    StoreError, TokenRow, UnreadableRow,
};

const RETAINED_COLUMNS: &str = "id, project, name, instance_name, spec, fingerprints, provider_references, newest_release, \
     generation, place, retained_at";

fn retained(row: &dyn Columns) -> Result<RetainedRow, ColumnError> {
    Ok(RetainedRow {
        id: BackendId::new(row.string(0)?),
        project: row.project_name(1)?,
        name: row.backend_name(2)?,
        instance_name: InstanceName::parse(row.string(3)?).map_err(|error| ColumnError::new(3, error))?,
        spec: row.json(4)?,
        fingerprints: row.json(5)?,
        provider_state: row.json(6)?,
        newest_release: row.optional_json(7)?,
        generation: Generation(row.number(8)?),
        place: row.optional_string(9)?,
        retained_at: row.time(10)?,
    })
}

fn lease(row: &dyn Columns) -> Result<LeaseRow, ColumnError> {
    Ok(LeaseRow {
        project: row.project_name(0)?,
        fence: row.number(1)?,
        holder: row.optional_string(2)?,
        renewed_at: row.time(3)?,
        released: row.optional_string(4)?,
    })
}

type Readable<T> = Result<(Vec<T>, Vec<UnreadableRow>), StoreError>;

/// What is read of all projects at once: one bad row keeps no other project from being read.
impl<C: Connection> SqlRows<'_, C> {
    fn readable_projects(&self) -> Readable<ProjectName> {
        self.many_readable("SELECT name FROM projects ORDER BY name", &[], "projects", |row| row.project_name(0))
    }

    fn readable_leases(&self) -> Readable<LeaseRow> {
        let statement = "SELECT project, fence, holder, renewed_at, released FROM leases WHERE holder IS NOT NULL";
        self.many_readable(statement, &[], "leases", lease)
    }
}

impl<C: Connection> Rows for SqlRows<'_, C> {
    fn project(&self, name: &ProjectName) -> Result<Option<ProjectRow>, StoreError> {
        self.one("SELECT name, revision, origin, created_at FROM projects WHERE name = ?1", &[name.as_str().into()], |row| {
            Ok(ProjectRow {
                name: row.project_name(0)?,
                revision: Revision(row.number(1)?),
                origin: row.optional_string(2)?,
                created_at: row.time(3)?,
            })
        })
    }

    fn projects(&self) -> Result<Vec<ProjectName>, StoreError> {
        self.readable_projects().map(|(found, _)| found)
    }

    fn put_project(&self, row: &ProjectRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO projects (name, revision, origin, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET revision = ?2, origin = ?3",
            &[row.name.as_str().into(), row.revision.0.into(), row.origin.as_ref().into(), row.created_at.0.into()],
        )
        .map(drop)
    }

    fn backends(&self, project: &ProjectName) -> Result<Vec<BackendRow>, StoreError> {
        let statement = format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE project = ?1 ORDER BY name");
        self.many(&statement, &[project.as_str().into()], backend)
    }

    fn backend(&self, project: &ProjectName, name: &BackendName) -> Result<Option<BackendRow>, StoreError> {
        let statement = format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE project = ?1 AND name = ?2");
        self.one(&statement, &[project.as_str().into(), name.as_str().into()], backend)
    }

    fn backend_by_id(&self, id: &BackendId) -> Result<Option<BackendRow>, StoreError> {
        self.one(&format!("SELECT {BACKEND_COLUMNS} FROM backends WHERE id = ?1"), &[id.as_str().into()], backend)
    }

    fn put_backend(&self, row: &BackendRow) -> Result<(), StoreError> {
        self.write_backend(row)
    }

    fn delete_backend(&self, id: &BackendId) -> Result<(), StoreError> {
        self.run("DELETE FROM backends WHERE id = ?1", &[id.as_str().into()]).map(drop)
    }

    fn expired(&self, before: Timestamp) -> Result<Vec<BackendRow>, StoreError> {
        let statement = format!(
            "SELECT {BACKEND_COLUMNS} FROM backends WHERE expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at"
        );
        // A row that cannot be read keeps no other backend from being removed.
        Ok(self.many_readable(&statement, &[before.0.into()], "backends", backend)?.0)
    }

    fn usage(&self, project: &ProjectName) -> Result<Usage, StoreError> {
        let sums = "SELECT count(*), coalesce(sum(cpus), 0), coalesce(sum(memory), 0), coalesce(sum(disk), 0) FROM backends WHERE project = ?1";
        let usage = self.one(sums, &[project.as_str().into()], |row| {
            Ok(Usage {
                backends: row.number(0)?,
                cpus: Cpus::from_milli(row.number(1)?),
                memory: ByteSize::from_bytes(row.number(2)?),
                disk: ByteSize::from_bytes(row.number(3)?),
            })
        })?;
        Ok(usage.unwrap_or_default())
    }

    fn retained(&self, project: Option<&ProjectName>) -> Result<Vec<RetainedRow>, StoreError> {
        // What was left is never taken for gone, so one row that cannot be read ends the look.
        let statement =
            format!("SELECT {RETAINED_COLUMNS} FROM retained WHERE ?1 IS NULL OR project = ?1 ORDER BY retained_at, id");
        self.many(&statement, &[project.map(ProjectName::as_str).into()], retained)
    }

    fn put_retained(&self, row: &RetainedRow) -> Result<(), StoreError> {
        self.run(
            &format!(
                "INSERT OR REPLACE INTO retained ({RETAINED_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            ),
            &[
                row.id.as_str().into(),
                row.project.as_str().into(),
                row.name.as_str().into(),
                row.instance_name.as_str().into(),
                to_json(&row.spec)?.into(),
                to_json(&row.fingerprints)?.into(),
                to_json(&row.provider_state)?.into(),
                row.newest_release.as_ref().map(to_json).transpose()?.into(),
                row.generation.0.into(),
                row.place.as_ref().into(),
                row.retained_at.0.into(),
            ],
        )
    }

    fn delete_retained(&self, id: &BackendId) -> Result<(), StoreError> {
        self.run("DELETE FROM retained WHERE id = ?1", &[id.as_str().into()])
    }

    fn instance_name_taken(&self, name: &InstanceName) -> Result<bool, StoreError> {
        // `$` follows `#`: a range is found by the index, and a pattern would be compared with every row.
        let statement = "SELECT 1 FROM backends WHERE instance_name = ?1
             UNION ALL SELECT 1 FROM backends WHERE instance_name >= ?1 || '#' AND instance_name < ?1 || '$'
             UNION ALL SELECT 1 FROM retained WHERE instance_name = ?1";
        self.one(statement, &[name.as_str().into()], |_| Ok(())).map(|found| found.is_some())
    }

    fn ports(&self) -> Result<Vec<PortPair>, StoreError> {
        let statement = "SELECT api_port, site_port FROM backends WHERE api_port IS NOT NULL ORDER BY api_port";
        let pair = |row: &dyn Columns| Ok(PortPair { api: row.number(0)?, site: row.number(1)? });
        Ok(self.many_readable(statement, &[], "backends", pair)?.0)
    }

    fn operation(&self, project: &ProjectName, step: &StepKey) -> Result<Option<OperationRow>, StoreError> {
        self.operation_for(project, step)
    }

    fn last_attempt(&self, project: &ProjectName, first: &StepKey) -> Result<Option<OperationRow>, StoreError> {
        self.last_attempt_row(project, first)
    }

    fn operation_by_id(&self, id: &OperationId) -> Result<Option<OperationRow>, StoreError> {
        self.operation_with_id(id)
    }

    fn operations(&self, project: &ProjectName, limit: u32) -> Result<Vec<OperationRow>, StoreError> {
        self.last_operations(project, limit)
    }

    fn open_operations(&self, project: Option<&ProjectName>) -> Result<Vec<OperationRow>, StoreError> {
        self.open_operation_rows(project)
    }

    fn all_open_operations(&self) -> Result<(Vec<OperationRow>, Vec<UnreadableRow>), StoreError> {
        SqlRows::all_open_operations(self)
    }

    fn put_progress(&self, id: &OperationId, progress: &OperationProgress) -> Result<(), StoreError> {
        self.write_progress(id, progress)
    }

    fn prune_operations(&self, kept: OperationRetention) -> Result<(), StoreError> {
        self.delete_operations(kept)
    }

    fn backend_ids(&self) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.many("SELECT id FROM backends", &[], |row| Ok(row.string(0)?.to_owned()))?.into_iter().collect())
    }

    fn put_expired(&self, project: &ProjectName, name: &BackendName, ended_at: Option<Timestamp>) -> Result<(), StoreError> {
        let key = [project.as_str().into(), name.as_str().into()];
        let Some(ended_at) = ended_at else {
            return self.run("DELETE FROM expired WHERE project = ?1 AND name = ?2", &key);
        };
        let [project, name] = key;
        self.run(
            "INSERT OR REPLACE INTO expired (project, name, ended_at) VALUES (?1, ?2, ?3)",
            &[project, name, ended_at.0.into()],
        )
    }

    fn expired_names(&self, project: &ProjectName) -> Result<BTreeMap<BackendName, Timestamp>, StoreError> {
        let rows = self.many("SELECT name, ended_at FROM expired WHERE project = ?1", &[project.as_str().into()], |row| {
            Ok((row.backend_name(0)?, row.time(1)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn open_operations_on(&self, project: &ProjectName, backend: &BackendName) -> Result<Vec<OperationRow>, StoreError> {
        self.open_operation_rows_on(project, backend)
    }

    fn accept_operation(&self, row: &OperationRow) -> Result<OperationId, StoreError> {
        self.insert_operation(row)
    }

    fn put_pending(&self, id: &OperationId, pending: Option<&[u8]>) -> Result<(), StoreError> {
        self.run("UPDATE operations SET pending = ?2 WHERE id = ?1", &[id.as_str().into(), pending.into()]).map(drop)
    }

    fn end_operation(&self, id: &OperationId, ended_at: Timestamp, outcome: &str) -> Result<(), StoreError> {
        // What was pending holds secrets, and is of no use any more.
        self.run(
            "UPDATE operations SET ended_at = ?2, outcome = ?3, pending = NULL WHERE id = ?1",
            &[id.as_str().into(), ended_at.0.into(), outcome.into()],
        )
        .map(drop)
    }

    fn append_notice(&self, id: &OperationId, message: &str) -> Result<u64, StoreError> {
        self.insert_notice(id, message)
    }

    fn notices(&self, id: &OperationId, after: u64) -> Result<Vec<(u64, String)>, StoreError> {
        self.notices_after(id, after)
    }

    fn prune_notices(&self, before: Timestamp) -> Result<(), StoreError> {
        self.delete_notices(before)
    }

    fn put_registered(&self, project: &ProjectName, revision: Revision, backends: u32) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO registered (project, revision, backends) VALUES (?1, ?2, ?3)
             ON CONFLICT (project) DO UPDATE SET revision = ?2, backends = ?3 WHERE revision <= ?2",
            &[project.as_str().into(), revision.0.into(), backends.into()],
        )
        .map(drop)
    }

    fn registered(&self) -> Result<u32, StoreError> {
        let sum = self.one("SELECT COALESCE(SUM(backends), 0) FROM registered", &[], |row| row.number(0))?;
        Ok(sum.unwrap_or_default())
    }

    fn lease(&self, project: &ProjectName) -> Result<Option<LeaseRow>, StoreError> {
        self.one(
            "SELECT project, fence, holder, renewed_at, released FROM leases WHERE project = ?1",
            &[project.as_str().into()],
            lease,
        )
    }

    fn leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        self.readable_leases().map(|(found, _)| found)
    }

    fn put_lease(&self, row: &LeaseRow) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO leases (project, fence, holder, renewed_at, released) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (project) DO UPDATE SET fence = ?2, holder = ?3, renewed_at = ?4, released = ?5",
            &[
                row.project.as_str().into(),
                row.fence.into(),
                row.holder.as_ref().into(),
                row.renewed_at.0.into(),
                row.released.as_ref().into(),
            ],
        )
        .map(drop)
    }

    fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.all_tokens()
    }

    fn readable_tokens(&self) -> Result<(Vec<TokenRow>, Vec<UnreadableRow>), StoreError> {
        self.tokens_and_unreadable()
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError> {
        self.token_with_id(id)
    }

    fn put_token(&self, row: &TokenRow) -> Result<(), StoreError> {
        self.write_token(row)
    }

    fn key_check(&self) -> Result<Option<KeyCheckRow>, StoreError> {
        // What cannot be read is no value that a key has made, and proves nothing; it keeps no other column from being read.
        self.one("SELECT mark, unbound, seal, retired FROM key_marks", &[], |row| {
            Ok(KeyCheckRow {
                value: row.text(0).ok().flatten().unwrap_or_default().to_owned(),
                unchained: row.optional_number(1).ok().flatten(),
                seal: row.optional_string(2).ok().flatten(),
                retired: row.bytes(3).unwrap_or(Some(&[])).map(<[u8]>::to_vec),
            })
        })
    }

    fn unreadable_rows(&self) -> Result<Vec<UnreadableRow>, StoreError> {
        let (_, mut bad) = self.readable_projects()?;
        bad.extend(self.many_readable(&format!("SELECT {BACKEND_COLUMNS} FROM backends"), &[], "backends", backend)?.1);
        bad.extend(self.many_readable(&format!("SELECT {RETAINED_COLUMNS} FROM retained"), &[], "retained", retained)?.1);
        bad.extend(self.readable_leases()?.1);
        bad.extend(self.readable_tokens()?.1);
        Ok(bad)
    }

    fn put_key_check(&self, row: &KeyCheckRow) -> Result<(), StoreError> {
        self.run("DELETE FROM key_marks", &[])?;
        let retired = row.retired.as_ref().into();
        let values = [(&row.value).into(), row.unchained.into(), row.seal.as_ref().into(), retired];
        self.run("INSERT INTO key_marks (mark, unbound, seal, retired) VALUES (?1, ?2, ?3, ?4)", &values)
    }

    fn forget_requests(&self) -> Result<(), StoreError> {
        self.run("UPDATE operations SET digest = NULL, pending = NULL WHERE ended_at IS NOT NULL", &[])
    }

    fn quota(&self, project: Option<&ProjectName>) -> Result<Option<Quota>, StoreError> {
        self.one("SELECT quota FROM quotas WHERE project = ?1", &[project_key(project).into()], |row| row.json(0))
    }

    fn put_quota(&self, project: Option<&ProjectName>, quota: &Quota) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO quotas (project, quota) VALUES (?1, ?2) ON CONFLICT (project) DO UPDATE SET quota = ?2",
            &[project_key(project).into(), to_json(quota)?.into()],
        )
        .map(drop)
    }
}
