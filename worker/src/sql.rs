//! The SQL of a Durable Object as a store.
//!
//! Must not do: know a statement, or leave half of a transaction behind.

use convexinfra::store::sql::{self, ColumnError, Columns, MIGRATIONS, Parameter, SqlRows};
use convexinfra::store::{Access, Rows, Store, StoreError, TransactionOutcome};
use wasm_bindgen::prelude::*;
use worker::{SqlStorage, SqlStorageValue, Storage};

/// What errors call this store.
const NAME: &str = "Durable Object";
/// Remembers how many steps of the schema were taken; SQLite's own `user_version` belongs to the platform.
const VERSION: &str = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT";

#[wasm_bindgen]
extern "C" {
    /// The storage, with what the crate does not wrap.
    #[wasm_bindgen(extends = js_sys::Object)]
    type TransactionalStorage;

    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &TransactionalStorage,
        work: &mut dyn FnMut() -> Result<JsValue, JsValue>,
    ) -> Result<JsValue, JsValue>;
}

/// The storage of one Durable Object, its schema up to date.
pub struct ObjectStore {
    sql: SqlStorage,
    storage: TransactionalStorage,
}

impl ObjectStore {
    /// Opens the storage and takes the steps of the schema that are missing.
    pub fn open(storage: &Storage) -> Result<Self, StoreError> {
        let raw: JsValue = storage.as_raw().into();
        let store = Self { sql: storage.sql(), storage: raw.unchecked_into() };
        store.inside(|connection| {
            sql::Connection::batch(connection, VERSION)?;
            let taken = connection.version()?;
            let known = MIGRATIONS.len();
            if taken > known {
                let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                return Err(StoreError::Newer { path: NAME.to_owned(), found: number(taken), known: number(known) });
            }
            if taken < known {
                sql::migrate(connection, taken)?;
                connection.note_version(known)?;
            }
            Ok(())
        })?;
        Ok(store)
    }

    /// Runs `work` in a transaction of its own, and takes everything back when it fails.
    fn inside<T>(&self, work: impl FnOnce(&Connection<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (mut work, mut result) = (Some(work), None);
        let ended = self.storage.transaction_sync(&mut || {
            let Some(work) = work.take() else { return Err(JsValue::NULL) };
            let ended = work(&Connection { sql: &self.sql });
            let is_ok = ended.is_ok();
            result = Some(ended);
            // An exception here ends the transaction; its text is not needed.
            if is_ok { Ok(JsValue::UNDEFINED) } else { Err(JsValue::NULL) }
        });
        match (result, ended) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(_)) => Ok(value),
            (_, Err(thrown)) => Err(failed(&worker::Error::from(thrown))),
            (None, Ok(_)) => Err(StoreError::NotRun),
        }
    }
}

impl Store for ObjectStore {
    fn transact(&self, access: Access, work: &mut dyn FnMut(&dyn Rows) -> TransactionOutcome) -> Result<(), StoreError> {
        if access == Access::Read {
            // Nothing else runs in this object until the answer is there, so the view is one anyhow.
            work(&SqlRows::new(&Connection { sql: &self.sql }));
            return Ok(());
        }
        let mut given_up = false;
        let ended = self.inside(|connection| match work(&SqlRows::new(connection)) {
            TransactionOutcome::Commit => Ok(()),
            TransactionOutcome::Rollback => {
                given_up = true;
                Err(StoreError::NotRun)
            }
        });
        if given_up { Ok(()) } else { ended }
    }
}

/// The object's SQL, inside the transaction that is open.
struct Connection<'a> {
    sql: &'a SqlStorage,
}

impl Connection<'_> {
    fn version(&self) -> Result<usize, StoreError> {
        let mut version = 0;
        sql::Connection::query(self, "SELECT version FROM schema_version", &[], &mut |row| {
            version = row.integer(0)?.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
            Ok(())
        })?;
        Ok(version)
    }

    fn note_version(&self, version: usize) -> Result<(), StoreError> {
        sql::Connection::batch(self, "DELETE FROM schema_version")?;
        let version = u64::try_from(version).unwrap_or(u64::MAX);
        sql::Connection::run(self, "INSERT INTO schema_version (version) VALUES (?1)", &[version.into()])
    }

    fn exec(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<worker::SqlCursor, StoreError> {
        let bindings: Vec<SqlStorageValue> = parameters.iter().map(binding).collect();
        self.sql.exec(statement, bindings).map_err(|error| failed(&error))
    }
}

/// Numbers are doubles on the way. What is beyond the whole ones among them is far beyond anything that is counted.
fn binding(parameter: &Parameter<'_>) -> SqlStorageValue {
    const MOST: i64 = (1 << 53) - 1;
    match parameter {
        Parameter::Null => SqlStorageValue::Null,
        Parameter::Integer(number) => SqlStorageValue::Integer((*number).clamp(-MOST, MOST)),
        Parameter::Text(text) => SqlStorageValue::String(text.to_string()),
        Parameter::Bytes(bytes) => SqlStorageValue::Blob(bytes.to_vec()),
    }
}

impl sql::Connection for Connection<'_> {
    fn run(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError> {
        self.exec(statement, parameters).map(drop)
    }

    fn query(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(&dyn Columns) -> Result<(), ColumnError>,
    ) -> Result<(), StoreError> {
        // A cursor does not outlive the next statement, so all of it is read first.
        let rows: Result<Vec<_>, _> = self.exec(statement, parameters)?.raw().collect();
        for row in rows.map_err(|error| failed(&error))? {
            each(&Row(row)).map_err(|error| StoreError::Row { path: NAME.to_owned(), what: error.to_string() })?;
        }
        Ok(())
    }

    fn batch(&self, statements: &str) -> Result<(), StoreError> {
        self.run(statements, &[])
    }
}

struct Row(Vec<SqlStorageValue>);

impl Row {
    fn value(&self, column: usize) -> Result<&SqlStorageValue, ColumnError> {
        self.0.get(column).ok_or_else(|| ColumnError::new(column, "is not there"))
    }
}

impl Columns for Row {
    fn integer(&self, column: usize) -> Result<Option<i64>, ColumnError> {
        match self.value(column)? {
            SqlStorageValue::Null => Ok(None),
            SqlStorageValue::Integer(number) => Ok(Some(*number)),
            // A sum can leave what a double counts exactly; more than that is as good as all of it.
            SqlStorageValue::Float(number) if number.fract() == 0.0 => Ok(Some(*number as i64)),
            _ => Err(ColumnError::new(column, "is no whole number")),
        }
    }

    fn text(&self, column: usize) -> Result<Option<&str>, ColumnError> {
        match self.value(column)? {
            SqlStorageValue::Null => Ok(None),
            SqlStorageValue::String(text) => Ok(Some(text)),
            _ => Err(ColumnError::new(column, "is no text")),
        }
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, ColumnError> {
        match self.value(column)? {
            SqlStorageValue::Null => Ok(None),
            SqlStorageValue::Blob(bytes) => Ok(Some(bytes)),
            _ => Err(ColumnError::new(column, "is not bytes")),
        }
    }
}

/// What the platform says about its SQL, as the situation that it means.
fn failed(error: &worker::Error) -> StoreError {
    let (text, path) = (error.to_string(), NAME.to_owned());
    match text.contains("SQLITE_FULL") {
        true => StoreError::Full { path },
        false => StoreError::Sql { path, source: text.into() },
    }
}
