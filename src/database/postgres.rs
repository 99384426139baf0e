//! Databases and the owner's mark on PostgreSQL.
//!
//! Convex's tables are in the schema `public`; the mark is the one row of a table in a schema of its own. No password is
//! ever sent in clear.

mod roles;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;

use super::admin::{Admin, StoredDocument, live_documents_sql};
use super::connect::{self, ConnectError, PostgresClient, TlsMode};
use super::ownership::{DatabaseContent, DatabaseOwner, OwnerMark};
use super::postgres_error::login_error;
use super::{BackendRole, DatabaseError, DatabaseServer, Product, STATEMENT_TIMEOUT, ServerVersion};
use crate::convex::database_url::with_credentials;
use crate::convex::persistence;
use crate::failpoint;
use crate::model::{Secret, error_chain};

/// Databases that are there on almost every server, to ask from when the wanted one is not.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// The schema of the owner's mark.
const MARK_SCHEMA: &str = "convexinfra";
/// The table of the owner's mark.
const MARK: &str = "convexinfra.owner";
/// Where older releases kept it.
const OLD_MARK: &str = "public.convexinfra_owner";

/// Selects the tables of users in all schemas, without our own.
const TABLES: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    AND n.nspname <> 'convexinfra' AND c.relname <> 'convexinfra_owner'";

/// A session in one database.
pub(super) struct PostgresSession {
    server: DatabaseServer,
    pub(super) client: PostgresClient,
    user: String,
    database: String,
}

impl Admin for PostgresSession {
    async fn open(server: &DatabaseServer, database: &str) -> Result<Option<Self>, DatabaseError> {
        Self::connect(server, server.url.expose(), database).await
    }

    async fn open_as(
        server: &DatabaseServer,
        role: &BackendRole,
        password: &Secret,
        database: &str,
    ) -> Result<Self, DatabaseError> {
        let url = with_credentials(&server.url, &role.name, password).map_err(DatabaseError::Url)?;
        let entered = Self::connect(server, url.expose(), database).await?;
        entered.ok_or_else(|| DatabaseError::DataMissing { database: database.to_owned() })
    }

    async fn require_server(server: &DatabaseServer) -> Result<(), DatabaseError> {
        Self::open_maintenance(server).await?.require_usable().await.map(drop)
    }

    async fn create(server: &DatabaseServer, database: &str) -> Result<(), DatabaseError> {
        let mut session = Self::open_maintenance(server).await?;
        session.require_usable().await?;
        let name = quote_identifier(database);
        // These two go together under every locale of the server.
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
        match session.client.batch_execute(&sql).await {
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
            done => done.map_err(|error| {
                let remedy = format!("CREATE DATABASE {name} OWNER {};", quote_identifier(&session.user));
                session.query_error(&format!("create the database `{database}`"), Some(remedy), error)
            }),
        }
    }

    async fn drop_database(server: &DatabaseServer, database: &str) -> Result<(), DatabaseError> {
        let session = Self::open_maintenance(server).await?;
        let force = if session.version().await?.major >= 13 { " WITH (FORCE)" } else { "" };
        let name = quote_identifier(database);
        let sql = format!("DROP DATABASE IF EXISTS {name}{force}");
        session.execute(&format!("drop the database `{database}`"), &sql, Some(format!("DROP DATABASE {name};"))).await
    }

    async fn drop_role(server: &DatabaseServer, role: &BackendRole) -> Result<(), DatabaseError> {
        // A backend without a password never had a role, or lost it when its database was last prepared.
        if role.password.is_none() {
            return Ok(());
        }
        Self::open_maintenance(server).await?.drop_role_here(role).await
    }

    async fn require_usable(&mut self) -> Result<ServerVersion, DatabaseError> {
        let version = self.version().await?.require_supported()?;
        let sql = "SELECT (pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on')::text";
        match self.query_text("say whether it takes writes", sql).await?.as_str() {
            "true" => Err(DatabaseError::ReadOnly { server: self.server.name.clone() }),
            _ => Ok(version),
        }
    }

    async fn content(&mut self) -> Result<DatabaseContent, DatabaseError> {
        let what = "say what is in the database";
        let names = self.client.query(&format!("SELECT c.relname::text {TABLES}"), &[]).await;
        let names = names.map_err(|error| self.query_error(what, None, error))?;
        let names: Vec<String> = names
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(|error| self.query_error(what, None, error))?;
        let convex = persistence::TABLES.iter().filter(|table| names.iter().any(|name| name == *table)).count();
        let has_documents = self.has_table("documents").await?
            && self.query_text(what, "SELECT EXISTS (SELECT 1 FROM documents)::text").await? == "true";
        let mark = match (self.read_mark(MARK).await?, self.read_mark(OLD_MARK).await?) {
            (OwnerMark::Absent, old) => old,
            (mark, _) => mark,
        };
        let is_half_made = convex > 0 && convex < persistence::TABLES.len();
        Ok(DatabaseContent { tables: names.len() as u64, has_documents, is_half_made, mark })
    }

    async fn claim(&mut self, owner: &DatabaseOwner) -> Result<(), DatabaseError> {
        let has_old_mark = self.has_table(OLD_MARK).await?;
        match self.move_mark(has_old_mark).await {
            Ok(()) => self.write_mark(MARK, owner).await,
            // The mark stays where it is: a user that may not move it could claim the database before, and still may.
            Err(DatabaseError::PermissionDenied { .. }) if has_old_mark => self.write_mark(OLD_MARK, owner).await,
            Err(error) => Err(error),
        }
    }

    async fn release(&mut self) -> Result<(), DatabaseError> {
        for table in [MARK, OLD_MARK] {
            if self.has_table(table).await? {
                self.execute("note that the database is free", &format!("DELETE FROM {table}"), None).await?;
            }
        }
        Ok(())
    }

    async fn grant(&mut self, role: &BackendRole, password: &Secret) -> Result<(), DatabaseError> {
        self.grant_role(role, password).await
    }

    async fn revoke(&mut self, role: &BackendRole) -> Result<(), DatabaseError> {
        self.reassign_tables(&self.user).await?;
        self.drop_role_here(role).await
    }

    async fn global(&mut self, key: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
        if !self.has_table("persistence_globals").await? {
            return Ok(None);
        }
        let row = self.client.query_opt("SELECT json_value FROM persistence_globals WHERE key = $1", &[&key]).await;
        let value = row.and_then(|row| row.map(|row| row.try_get(0)).transpose());
        value.map_err(|error| self.query_error("read Convex's globals", None, error))
    }

    async fn live_documents(&mut self, table: &[u8; 16], limit: u32) -> Result<Vec<StoredDocument>, DatabaseError> {
        let sql = live_documents_sql("documents", &format!("decode('{}', 'hex')", hex::encode(table)), limit);
        let rows = self.client.query(&sql, &[]).await;
        rows.and_then(|rows| {
            rows.iter()
                .map(|row| Ok(StoredDocument { id: row.try_get(0)?, value: row.try_get(1)?, ts: row.try_get(2)? }))
                .collect()
        })
        .map_err(|error| self.query_error("read Convex's documents", None, error))
    }

    async fn ping(&mut self) -> Result<(), DatabaseError> {
        self.execute("answer", "SELECT 1", None).await
    }
}

impl PostgresSession {
    /// Connects to a database; none when it is not there.
    async fn connect(server: &DatabaseServer, url: &str, database: &str) -> Result<Option<Self>, DatabaseError> {
        let mut config: Config = url.parse().map_err(|error| DatabaseError::Parameters(Box::new(error)))?;
        config.dbname(database).application_name("convexinfra");
        config.ssl_mode(if server.tls() == TlsMode::Off { SslMode::Disable } else { SslMode::Require });
        let user = config.get_user().unwrap_or_default().to_owned();
        let client = match connect::postgres(&config, server.tls(), server.peer()).await {
            Ok(client) => client,
            Err(ConnectError::Server(error)) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => return Ok(None),
            Err(error) => return Err(server.connect_error(error, |error| login_error(server, user, error))),
        };
        let session = Self { server: server.clone(), client, user, database: database.to_owned() };
        let limit = format!("SET statement_timeout = '{}s'", STATEMENT_TIMEOUT.as_secs());
        session.execute("limit the time of its statements", &limit, None).await?;
        Ok(Some(session))
    }

    async fn open_maintenance(server: &DatabaseServer) -> Result<Self, DatabaseError> {
        for database in MAINTENANCE {
            if let Some(session) = Self::open(server, database).await? {
                return Ok(session);
            }
        }
        Err(DatabaseError::Server {
            server: server.name.clone(),
            what: "have a database `postgres` or `template1` to enter it by".to_owned(),
            source: "both are missing".into(),
        })
    }

    async fn version(&self) -> Result<ServerVersion, DatabaseError> {
        let number = self.query_text("say its version", "SELECT current_setting('server_version_num')").await?;
        let number: u32 = number.parse().unwrap_or_default();
        Ok(ServerVersion { product: Product::Postgres, major: number / 10_000, minor: number % 10_000 })
    }

    /// Makes the schema of the mark, and brings the mark of an older release there.
    async fn move_mark(&self, has_old_mark: bool) -> Result<(), DatabaseError> {
        let what = format!("make a schema in the database `{}`", self.database);
        let database = quote_identifier(&self.database);
        let remedy = format!("ALTER DATABASE {database} OWNER TO {};", quote_identifier(&self.user));
        if !self.has_table(MARK).await? {
            let sql = format!(
                "CREATE SCHEMA IF NOT EXISTS {MARK_SCHEMA};
                 CREATE TABLE IF NOT EXISTS {MARK} (one integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
                 backend text NOT NULL, label text NOT NULL, since timestamptz NOT NULL DEFAULT now())"
            );
            match self.execute(&what, &sql, Some(remedy.clone())).await {
                // Of two that make it at once, one may be told that it is there.
                Err(DatabaseError::Server { .. }) if self.has_table(MARK).await? => {}
                done => done?,
            }
            failpoint::hit("database.owner_table_made");
        }
        if has_old_mark {
            let sql = format!(
                "BEGIN; INSERT INTO {MARK} (backend, label, since) SELECT backend, label, since FROM {OLD_MARK}
                 ON CONFLICT (one) DO NOTHING; DROP TABLE {OLD_MARK}; COMMIT"
            );
            self.execute(&what, &sql, Some(remedy)).await?;
        }
        Ok(())
    }

    /// Writes the mark unless it names another backend, which the caller sees when it looks again.
    async fn write_mark(&self, table: &str, owner: &DatabaseOwner) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {table} AS mark (backend, label) VALUES ($1, $2)
             ON CONFLICT (one) DO UPDATE SET label = excluded.label WHERE mark.backend = excluded.backend"
        );
        let (backend, label) = (owner.backend.as_str(), owner.label.as_str());
        let written = self.client.execute(&sql, &[&backend, &label]).await;
        written.map(drop).map_err(|error| {
            let remedy =
                format!("ALTER DATABASE {} OWNER TO {};", quote_identifier(&self.database), quote_identifier(&self.user));
            self.query_error(&format!("make tables in the database `{}`", self.database), Some(remedy), error)
        })
    }

    async fn read_mark(&self, table: &str) -> Result<OwnerMark, DatabaseError> {
        if !self.has_table(table).await? {
            return Ok(OwnerMark::Absent);
        }
        let row = self.client.query_opt(&format!("SELECT backend, label FROM {table}"), &[]).await;
        let mark = row.and_then(|row| match row {
            None => Ok(OwnerMark::Released),
            Some(row) => Ok(OwnerMark::HeldBy(row.try_get(0)?, row.try_get(1)?)),
        });
        mark.map_err(|error| self.query_error("say who owns the database", None, error))
    }

    async fn has_table(&self, name: &str) -> Result<bool, DatabaseError> {
        let sql = format!("SELECT (to_regclass('{name}') IS NOT NULL)::text");
        Ok(self.query_text("say what is in the database", &sql).await? == "true")
    }

    async fn execute(&self, what: &str, sql: &str, remedy: Option<String>) -> Result<(), DatabaseError> {
        self.client.batch_execute(sql).await.map_err(|error| self.query_error(what, remedy, error))
    }

    /// Returns the first column of the first row.
    async fn query_text(&self, what: &str, sql: &str) -> Result<String, DatabaseError> {
        let row = self.client.query_one(sql, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| self.query_error(what, None, error))
    }

    /// Returns host and port of its server.
    pub(super) fn server_name(&self) -> String {
        self.server.name.clone()
    }

    pub(super) fn query_error(&self, what: &str, remedy: Option<String>, error: tokio_postgres::Error) -> DatabaseError {
        let server = self.server.name.clone();
        let what = what.to_owned();
        match error.as_db_error() {
            Some(said) if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                let source = said.message().to_owned().into();
                DatabaseError::PermissionDenied { user: self.user.clone(), what, server, remedy, source }
            }
            Some(said) => DatabaseError::Server { server, what, source: said.message().to_owned().into() },
            None => {
                let text = self.client.why_ended().map_or_else(|| error_chain(&error), str::to_owned);
                DatabaseError::Server { server, what, source: text.into() }
            }
        }
    }
}

/// Returns a name as an identifier.
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
