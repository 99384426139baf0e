//! The engines that Convex keeps its rows on, its tables, and the columns of each.

use std::collections::BTreeMap;

/// An engine that Convex keeps its rows on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
    /// A MySQL server.
    Mysql,
}

impl Engine {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
        }
    }
}

/// One of Convex's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// The log of documents: one row per revision.
    Documents,
    /// The log of index entries: one row per change of a key.
    Indexes,
    /// Single values.
    PersistenceGlobals,
    /// Which process may write; not on SQLite.
    Leases,
    /// Whether a backend may start; not on SQLite.
    ReadOnly,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Documents, Self::Indexes, Self::PersistenceGlobals, Self::Leases, Self::ReadOnly];
    /// Those whose rows are the data of a backend. The other two say who may use them.
    pub const DATA: [Self; 3] = [Self::Documents, Self::Indexes, Self::PersistenceGlobals];

    /// Returns its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Indexes => "indexes",
            Self::PersistenceGlobals => "persistence_globals",
            Self::Leases => "leases",
            Self::ReadOnly => "read_only",
        }
    }

    /// Returns its columns on an engine; none where the engine has no such table.
    pub fn columns(self, engine: Engine) -> &'static [KnownColumn] {
        use Engine::{Mysql, Postgres, Sqlite};
        match (self, engine) {
            (Self::Documents, Sqlite) => &DOCUMENTS_SQLITE,
            (Self::Documents, Postgres) => &DOCUMENTS_POSTGRES,
            (Self::Documents, Mysql) => &DOCUMENTS_MYSQL,
            (Self::Indexes, Sqlite) => &INDEXES_SQLITE,
            (Self::Indexes, Postgres) => &INDEXES_POSTGRES,
            (Self::Indexes, Mysql) => &INDEXES_MYSQL,
            (Self::PersistenceGlobals, Sqlite) => &[("key", "TEXT", false), ("json_value", "TEXT", false)],
            (Self::PersistenceGlobals, Postgres) => &[("key", "text", false), ("json_value", "bytea", false)],
            (Self::PersistenceGlobals, Mysql) => &[("key", "varchar(255)", false), ("json_value", "longblob", false)],
            (Self::Leases | Self::ReadOnly, Sqlite) => &[],
            (Self::Leases, Postgres | Mysql) => &[("id", "bigint", false), ("ts", "bigint", false)],
            (Self::ReadOnly, Postgres | Mysql) => &[("id", "bigint", false)],
        }
    }
}

/// A column as it is known: name, type, and whether it may be null.
pub type KnownColumn = (&'static str, &'static str, bool);

const DOCUMENTS_SQLITE: [KnownColumn; 6] = [
    ("id", "BLOB", false),
    ("ts", "INTEGER", false),
    ("table_id", "BLOB", false),
    ("json_value", "TEXT", true),
    ("deleted", "INTEGER", false),
    ("prev_ts", "INTEGER", true),
];
const DOCUMENTS_POSTGRES: [KnownColumn; 6] = [
    ("id", "bytea", false),
    ("ts", "bigint", false),
    ("table_id", "bytea", false),
    ("json_value", "bytea", false),
    ("deleted", "boolean", true),
    ("prev_ts", "bigint", true),
];
const DOCUMENTS_MYSQL: [KnownColumn; 6] = [
    ("id", "binary(16)", false),
    ("ts", "bigint", false),
    ("table_id", "binary(16)", false),
    ("json_value", "longblob", false),
    ("deleted", "tinyint(1)", true),
    ("prev_ts", "bigint", true),
];
const INDEXES_SQLITE: [KnownColumn; 6] = [
    ("index_id", "BLOB", false),
    ("ts", "INTEGER", false),
    ("key", "BLOB", false),
    ("deleted", "INTEGER", false),
    ("table_id", "BLOB", true),
    ("document_id", "BLOB", true),
];
const INDEXES_POSTGRES: [KnownColumn; 8] = [
    ("index_id", "bytea", false),
    ("ts", "bigint", false),
    ("key_prefix", "bytea", false),
    ("key_suffix", "bytea", true),
    ("key_sha256", "bytea", false),
    ("deleted", "boolean", true),
    ("table_id", "bytea", true),
    ("document_id", "bytea", true),
];
const INDEXES_MYSQL: [KnownColumn; 8] = [
    ("index_id", "binary(16)", false),
    ("ts", "bigint", false),
    ("key_prefix", "varbinary(2500)", false),
    ("key_suffix", "longblob", true),
    ("key_sha256", "binary(32)", false),
    ("deleted", "tinyint(1)", true),
    ("table_id", "binary(16)", true),
    ("document_id", "binary(16)", true),
];

/// A column as a database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as the engine spells it.
    pub kind: String,
    /// Whether it may be null.
    pub is_nullable: bool,
}

/// Says how the tables of a database differ from the known ones. What is not known cannot be copied whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tables on {} are not those that are known: {}", engine.name(), differences.join("; "))]
pub struct UnknownLayout {
    /// The engine.
    pub engine: Engine,
    /// Each difference, in words.
    pub differences: Vec<String>,
}

/// Compares the columns of a database with the known ones.
///
/// # Errors
/// [`UnknownLayout`] with every difference.
pub fn check_columns(engine: Engine, found: &BTreeMap<String, Vec<Column>>) -> Result<(), UnknownLayout> {
    let mut differences = Vec::new();
    for table in Table::ALL {
        let (name, known) = (table.name(), table.columns(engine));
        let Some(columns) = found.get(name) else {
            if !known.is_empty() {
                differences.push(format!("there is no table `{name}`"));
            }
            continue;
        };
        if known.is_empty() {
            continue;
        }
        for (column, kind, is_nullable) in known {
            let Some(column) = columns.iter().find(|found| found.name == *column) else {
                differences.push(format!("`{name}` lacks the column `{column}`"));
                continue;
            };
            // Older MySQL servers say how wide a number is shown.
            let is_kind = column.kind.eq_ignore_ascii_case(kind) || (*kind == "bigint" && column.kind.starts_with("bigint("));
            if !is_kind {
                differences.push(format!("`{name}.{}` is `{}`, and `{kind}` is known", column.name, column.kind));
            } else if column.is_nullable != *is_nullable {
                let may = if column.is_nullable { "may be null" } else { "may not be null" };
                differences.push(format!("`{name}.{}` {may}", column.name));
            }
        }
        for column in columns.iter().filter(|column| !known.iter().any(|(known, ..)| *known == column.name)) {
            differences.push(format!("`{name}` has a column `{}`, which is not known", column.name));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(UnknownLayout { engine, differences }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(engine: Engine) -> BTreeMap<String, Vec<Column>> {
        let column = |(name, kind, is_nullable): &KnownColumn| Column {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            is_nullable: *is_nullable,
        };
        Table::ALL
            .into_iter()
            .filter(|table| !table.columns(engine).is_empty())
            .map(|table| (table.name().to_owned(), table.columns(engine).iter().map(column).collect()))
            .collect()
    }

    #[test]
    fn what_differs_is_said() {
        for engine in [Engine::Sqlite, Engine::Postgres, Engine::Mysql] {
            assert_eq!(check_columns(engine, &known(engine)), Ok(()));
        }
        let mut found = known(Engine::Mysql);
        found.remove("read_only");
        let documents = found.get_mut("documents").unwrap();
        documents[1].kind = "bigint(20)".to_owned();
        documents[3].kind = "json".to_owned();
        documents[5].is_nullable = false;
        documents.remove(0);
        documents.push(Column { name: "deployment_id".to_owned(), kind: "bigint".to_owned(), is_nullable: false });
        assert_eq!(
            check_columns(Engine::Mysql, &found).unwrap_err().to_string(),
            "the tables on MySQL are not those that are known: `documents` lacks the column `id`; `documents.json_value` is `json`, \
             and `longblob` is known; `documents.prev_ts` may not be null; `documents` has a column `deployment_id`, which is not \
             known; there is no table `read_only`"
        );
    }
}
