//! Databases, users and the owner's mark on MySQL.
//!
//! Convex makes its tables only while the schema has fewer than five, counting all of them. So the mark is no table: it
//! is the comment of a stored procedure that does nothing, which is in the database, atomic to create, and goes with it.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};

use super::admin::{Admin, StoredDocument, live_documents_sql};
use super::connect;
use super::mysql_error::{code, error_code, login_error};
use super::ownership::{DatabaseContent, DatabaseOwner, OwnerMark};
use super::{BackendRole, DatabaseError, DatabaseServer, Product, STATEMENT_TIMEOUT, ServerVersion};
use crate::convex::database_url::with_credentials;
use crate::convex::persistence;
use crate::failpoint;
use crate::model::Secret;

/// The procedure whose comment is the owner's mark.
const MARK: &str = "convexinfra_owner";
/// The table in which older releases kept it.
const OLD_MARK: &str = "convexinfra_owner";
/// The collation of one of Convex's columns.
const COLLATION: &str = "utf8mb4_0900_bin";

/// A session on a server, about one database.
pub(super) struct MysqlSession {
    server: DatabaseServer,
    pub(super) connection: Conn,
    user: String,
    database: String,
}

impl Admin for MysqlSession {
    async fn open(server: &DatabaseServer, database: &str) -> Result<Option<Self>, DatabaseError> {
        let mut session = Self::connect(server, server.url.expose(), database, None).await?;
        let sql = format!("SELECT count(*) FROM information_schema.schemata WHERE schema_name = {}", quote_literal(database));
        let is_there = session.query_number("say which databases there are", &sql).await? > 0;
        Ok(is_there.then_some(session))
    }

    async fn open_as(
        server: &DatabaseServer,
        role: &BackendRole,
        password: &Secret,
        database: &str,
    ) -> Result<Self, DatabaseError> {
        let url = with_credentials(&server.url, &role.name, password).map_err(DatabaseError::Url)?;
        Self::connect(server, url.expose(), database, Some(database)).await
    }

    async fn require_server(server: &DatabaseServer) -> Result<(), DatabaseError> {
        Self::connect(server, server.url.expose(), "", None).await?.require_usable().await.map(drop)
    }

    async fn create(server: &DatabaseServer, database: &str) -> Result<(), DatabaseError> {
        let mut session = Self::connect(server, server.url.expose(), database, None).await?;
        session.require_usable().await?;
        let name = quote_identifier(database);
        let remedy = format!("CREATE DATABASE {name}; {}", session.grant_remedy());
        let sql = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        match session.connection.query_drop(sql).await {
            Err(error) if code(&error) == Some(error_code::DATABASE_EXISTS) => Ok(()),
            done => {
                done.map_err(|error| session.query_error(&format!("create the database `{database}`"), Some(remedy), error))
            }
        }
    }

    async fn drop_database(server: &DatabaseServer, database: &str) -> Result<(), DatabaseError> {
        let mut session = Self::connect(server, server.url.expose(), database, None).await?;
        let sql = format!("DROP DATABASE IF EXISTS {}", quote_identifier(database));
        session.execute(&format!("drop the database `{database}`"), &sql, Some(format!("{sql};"))).await
    }

    async fn drop_role(server: &DatabaseServer, role: &BackendRole) -> Result<(), DatabaseError> {
        Self::connect(server, server.url.expose(), "", None).await?.revoke(role).await
    }

    async fn require_usable(&mut self) -> Result<ServerVersion, DatabaseError> {
        let text: Option<String> = self
            .connection
            .query_first("SELECT VERSION()")
            .await
            .map_err(|error| self.query_error("say its version", None, error))?;
        let version = parse_version(&text.unwrap_or_default()).require_supported()?;
        let sql =
            format!("SELECT count(*) FROM information_schema.collations WHERE collation_name = {}", quote_literal(COLLATION));
        if self.query_number("say which collations it has", &sql).await? == 0 {
            let reason = "it has no collation `utf8mb4_0900_bin`, as MariaDB has none, and Convex's first table has it";
            return Err(unsupported(version, reason));
        }
        // What a server calls itself says little: a proxy, or a setting, gives it another name.
        match self.connection.query_drop("SELECT 1 FOR SHARE").await {
            Ok(()) => {}
            Err(error) if code(&error) == Some(error_code::SYNTAX) => {
                let reason = "it takes `SELECT … FOR SHARE` for an error, as MariaDB does, and each commit of Convex has it";
                return Err(unsupported(version, reason));
            }
            Err(error) => return Err(self.query_error("share a lock", None, error)),
        }
        if self.query_number("say whether it takes writes", "SELECT @@global.read_only").await? > 0 {
            return Err(DatabaseError::ReadOnly { server: self.server.name.clone() });
        }
        Ok(version)
    }

    async fn content(&mut self) -> Result<DatabaseContent, DatabaseError> {
        let what = "say what is in the database";
        let sql =
            format!("SELECT table_name FROM information_schema.tables WHERE table_schema = {}", quote_literal(&self.database));
        let mut names: Vec<String> = self.connection.query(sql).await.map_err(|error| self.query_error(what, None, error))?;
        let has_old_mark = names.iter().any(|name| name == OLD_MARK);
        names.retain(|name| name != OLD_MARK);
        let convex = persistence::TABLES.iter().filter(|table| names.iter().any(|name| name == *table)).count();
        let has_documents = names.iter().any(|name| name == "documents") && {
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 1) one", self.table("documents"));
            self.query_number(what, &sql).await? > 0
        };
        let mark = match (self.read_mark().await?, has_old_mark) {
            (OwnerMark::Absent, true) => self.read_old_mark().await?,
            (mark, _) => mark,
        };
        let is_half_made = convex > 0 && convex < persistence::TABLES.len();
        Ok(DatabaseContent { tables: names.len() as u64, has_documents, is_half_made, mark })
    }

    async fn claim(&mut self, owner: &DatabaseOwner) -> Result<(), DatabaseError> {
        let comment = serde_json::json!({ "backend": owner.backend.as_str(), "label": owner.label }).to_string();
        // Of two that claim at once, one waits here and then finds the other's mark.
        let lock = quote_literal(&format!("{:.60}", format!("convexinfra:{}", self.database)));
        self.query_number("lock the owner's mark", &format!("SELECT coalesce(GET_LOCK({lock}, 20), 0)")).await?;
        let claimed = self.claim_locked(owner, &comment).await;
        self.query_number("unlock the owner's mark", &format!("SELECT coalesce(RELEASE_LOCK({lock}), 0)")).await?;
        claimed
    }

    async fn release(&mut self) -> Result<(), DatabaseError> {
        self.write_mark(r#"{"released":true}"#).await
    }

    async fn grant(&mut self, role: &BackendRole, password: &Secret) -> Result<(), DatabaseError> {
        let account = account(role);
        let password = quote_literal(password.expose());
        let what = format!("make the user `{}`", role.name);
        let remedy = format!("GRANT CREATE USER ON *.* TO '{}';", self.user);
        let make = format!("CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {password}");
        self.execute(&what, &make, Some(remedy.clone())).await?;
        // One that was there already may have another password.
        self.execute(&what, &format!("ALTER USER {account} IDENTIFIED BY {password}"), Some(remedy)).await?;
        failpoint::hit("database.role_made");
        let pattern = quote_grant_pattern(&self.database);
        let sql = format!("GRANT ALL PRIVILEGES ON {pattern}.* TO {account}");
        let remedy = format!("GRANT ALL ON {pattern}.* TO '{}' WITH GRANT OPTION;", self.user);
        let what = format!("give away privileges on the database `{}`", self.database);
        self.execute(&what, &sql, Some(remedy)).await
    }

    async fn revoke(&mut self, role: &BackendRole) -> Result<(), DatabaseError> {
        let sql = format!("DROP USER IF EXISTS {}", account(role));
        match self.execute(&format!("drop the user `{}`", role.name), &sql, Some(format!("{sql};"))).await {
            // A user without that privilege never made one.
            Err(DatabaseError::PermissionDenied { .. }) if role.password.is_none() => Ok(()),
            done => done,
        }
    }

    async fn global(&mut self, key: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
        if !self.has_table("persistence_globals").await? {
            return Ok(None);
        }
        let globals = self.table("persistence_globals");
        let sql = format!("SELECT json_value FROM {globals} WHERE `key` = {}", quote_literal(key));
        self.connection.query_first(sql).await.map_err(|error| self.query_error("read Convex's globals", None, error))
    }

    async fn live_documents(&mut self, table: &[u8; 16], limit: u32) -> Result<Vec<StoredDocument>, DatabaseError> {
        let sql = live_documents_sql(&self.table("documents"), &format!("X'{}'", hex::encode(table)), limit);
        let rows: Vec<(Vec<u8>, Vec<u8>, i64)> =
            self.connection.query(sql).await.map_err(|error| self.query_error("read Convex's documents", None, error))?;
        Ok(rows.into_iter().map(|(id, value, ts)| StoredDocument { id, value, ts }).collect())
    }

    async fn ping(&mut self) -> Result<(), DatabaseError> {
        self.execute("answer", "SELECT 1", None).await
    }
}

impl MysqlSession {
    async fn connect(server: &DatabaseServer, url: &str, database: &str, enter: Option<&str>) -> Result<Self, DatabaseError> {
        let opts = Opts::from_url(url).map_err(|error| DatabaseError::Parameters(Box::new(error)))?;
        let user = opts.user().unwrap_or_default().to_owned();
        let opts = OptsBuilder::from_opts(opts).db_name(enter.map(str::to_owned)).into();
        let connection = match connect::mysql(opts, server.tls(), server.peer()).await {
            Ok(connection) => connection,
            Err(error) => return Err(server.connect_error(error, |error| login_error(server, user, error))),
        };
        let mut session = Self { server: server.clone(), connection, user, database: database.to_owned() };
        // It bounds only queries; what changes something is bounded by the lock it waits for, and by the verb's deadline.
        let limits = format!(
            "SET SESSION max_execution_time = {}, lock_wait_timeout = {}",
            STATEMENT_TIMEOUT.as_millis(),
            STATEMENT_TIMEOUT.as_secs()
        );
        // MariaDB knows no such variable, and is told why it is refused further on.
        let _ = session.connection.query_drop(limits).await;
        Ok(session)
    }

    async fn claim_locked(&mut self, owner: &DatabaseOwner, comment: &str) -> Result<(), DatabaseError> {
        let content = self.content().await?;
        if matches!(&content.mark, OwnerMark::HeldBy(id, _) if *id != owner.backend.as_str()) {
            // The caller looks again, and finds it.
            return Ok(());
        }
        let has_old_mark = self.has_table(OLD_MARK).await?;
        let name = format!("{}.{MARK}", quote_identifier(&self.database));
        let create = format!("CREATE PROCEDURE {name}() COMMENT {} SELECT 1", quote_literal(comment));
        match self.connection.query_drop(create).await {
            Ok(()) => {}
            Err(error) if code(&error) == Some(error_code::PROCEDURE_EXISTS) => self.write_mark(comment).await?,
            // The mark stays where it is: a user that may not move it could claim the database before, and still may.
            Err(_) if has_old_mark => return self.write_old_mark(owner).await,
            // Such as Vitess. There the mark has no other place, as in older releases.
            Err(error) if matches!(code(&error), Some(error_code::NOT_SUPPORTED | error_code::UNKNOWN)) => {
                return self.write_old_mark(owner).await;
            }
            Err(error) => {
                let what = format!("make a procedure in the database `{}`", self.database);
                let remedy = self.grant_remedy();
                return Err(self.query_error(&what, Some(remedy), error));
            }
        }
        failpoint::hit("database.owner_table_made");
        if has_old_mark {
            let sql = format!("DROP TABLE IF EXISTS {}", self.table(OLD_MARK));
            self.execute("take the owner's mark of an older release away", &sql, None).await?;
        }
        Ok(())
    }

    /// Changes the mark, wherever it is.
    async fn write_mark(&mut self, comment: &str) -> Result<(), DatabaseError> {
        if self.read_mark().await? == OwnerMark::Absent {
            let sql = format!("DELETE FROM {}", self.table(OLD_MARK));
            return self.execute("note that the database is free", &sql, None).await;
        }
        let name = format!("{}.{MARK}", quote_identifier(&self.database));
        let remedy = self.grant_remedy();
        self.execute(
            "change the owner's mark",
            &format!("ALTER PROCEDURE {name} COMMENT {}", quote_literal(comment)),
            Some(remedy),
        )
        .await
    }

    async fn write_old_mark(&mut self, owner: &DatabaseOwner) -> Result<(), DatabaseError> {
        let table = self.table(OLD_MARK);
        let what = format!("make tables in the database `{}`", self.database);
        let remedy = Some(self.grant_remedy());
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {table} (one TINYINT PRIMARY KEY DEFAULT 1, backend VARCHAR(64) NOT NULL,
             label VARCHAR(255) NOT NULL, since TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        );
        self.execute(&what, &create, remedy.clone()).await?;
        let insert = format!(
            "INSERT INTO {table} (backend, label) VALUES ({}, {})
             ON DUPLICATE KEY UPDATE label = IF(backend = VALUES(backend), VALUES(label), label)",
            quote_literal(owner.backend.as_str()),
            quote_literal(&owner.label)
        );
        self.execute(&what, &insert, remedy).await
    }

    async fn read_mark(&mut self) -> Result<OwnerMark, DatabaseError> {
        let sql = format!(
            "SELECT routine_comment FROM information_schema.routines
             WHERE routine_schema = {} AND routine_name = '{MARK}' AND routine_type = 'PROCEDURE'",
            quote_literal(&self.database)
        );
        let comment: Option<String> = self
            .connection
            .query_first(sql)
            .await
            .map_err(|error| self.query_error("say who owns the database", None, error))?;
        let Some(comment) = comment else { return Ok(OwnerMark::Absent) };
        let mark: serde_json::Value = serde_json::from_str(&comment).unwrap_or_default();
        let text = |name: &str| mark.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        Ok(match mark.get("released").and_then(serde_json::Value::as_bool) {
            Some(true) => OwnerMark::Released,
            // A comment that cannot be read is not ours to overrule: it names no backend that could be this one.
            _ => OwnerMark::HeldBy(text("backend"), text("label")),
        })
    }

    async fn read_old_mark(&mut self) -> Result<OwnerMark, DatabaseError> {
        let sql = format!("SELECT backend, label FROM {}", self.table(OLD_MARK));
        let row: Option<(String, String)> = self
            .connection
            .query_first(sql)
            .await
            .map_err(|error| self.query_error("say who owns the database", None, error))?;
        Ok(row.map_or(OwnerMark::Released, |(backend, label)| OwnerMark::HeldBy(backend, label)))
    }

    async fn has_table(&mut self, name: &str) -> Result<bool, DatabaseError> {
        let sql = format!(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
            quote_literal(&self.database),
            quote_literal(name)
        );
        Ok(self.query_number("say what is in the database", &sql).await? > 0)
    }

    /// Returns host and port of its server.
    pub(super) fn server_name(&self) -> String {
        self.server.name.clone()
    }

    /// Returns the name of its database as a literal.
    pub(super) fn database_literal(&self) -> String {
        quote_literal(&self.database)
    }

    /// Returns a table of its database as an identifier.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.{}", quote_identifier(&self.database), quote_identifier(name))
    }

    fn grant_remedy(&self) -> String {
        format!("GRANT ALL ON {}.* TO '{}';", quote_grant_pattern(&self.database), self.user)
    }

    async fn execute(&mut self, what: &str, sql: &str, remedy: Option<String>) -> Result<(), DatabaseError> {
        self.connection.query_drop(sql).await.map_err(|error| self.query_error(what, remedy, error))
    }

    /// Returns the first column of the first row; zero when there is no row.
    async fn query_number(&mut self, what: &str, sql: &str) -> Result<u64, DatabaseError> {
        let number: Option<u64> =
            self.connection.query_first(sql).await.map_err(|error| self.query_error(what, None, error))?;
        Ok(number.unwrap_or_default())
    }

    pub(super) fn query_error(&self, what: &str, remedy: Option<String>, error: mysql_async::Error) -> DatabaseError {
        let server = self.server.name.clone();
        let what = what.to_owned();
        let is_denied = matches!(
            code(&error),
            Some(
                error_code::ACCESS_DENIED_TO_DATABASE
                    | error_code::ACCESS_DENIED
                    | error_code::TABLE_ACCESS_DENIED
                    | error_code::SPECIFIC_ACCESS_DENIED
                    | error_code::ROUTINE_ACCESS_DENIED
                    | error_code::CREATE_USER_FAILED
            )
        );
        match error {
            mysql_async::Error::Server(said) if is_denied => {
                DatabaseError::PermissionDenied { user: self.user.clone(), what, server, remedy, source: said.message.into() }
            }
            mysql_async::Error::Server(said) => DatabaseError::Server { server, what, source: said.message.into() },
            other => DatabaseError::Server { server, what, source: other.to_string().into() },
        }
    }
}

/// Returns the refusal of a server that lacks what it should have by its version.
fn unsupported(version: ServerVersion, reason: &'static str) -> DatabaseError {
    DatabaseError::Unsupported { found: format!("{version} by its own word"), reason }
}

fn parse_version(text: &str) -> ServerVersion {
    let product = if text.contains("MariaDB") { Product::MariaDb } else { Product::Mysql };
    // Old MariaDB servers put this in front so that old replicas go on.
    let mut parts = text.strip_prefix("5.5.5-").unwrap_or(text).split(['.', '-']).map(|part| part.parse().unwrap_or_default());
    ServerVersion { product, major: parts.next().unwrap_or_default(), minor: parts.next().unwrap_or_default() }
}

fn account(role: &BackendRole) -> String {
    format!("{}@'%'", quote_literal(&role.name))
}

/// Returns a name as an identifier.
fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Returns a name as an identifier in a grant, where `_` would stand for any character.
fn quote_grant_pattern(name: &str) -> String {
    quote_identifier(&name.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"))
}

/// Returns a text as a literal.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_server_is_detected() {
        for (text, product, major, minor) in [
            ("8.0.39", Product::Mysql, 8, 0),
            ("9.1.0-commercial", Product::Mysql, 9, 1),
            ("10.11.14-MariaDB-0+deb12u2", Product::MariaDb, 10, 11),
            ("5.5.5-10.5.1-MariaDB", Product::MariaDb, 10, 5),
            ("", Product::Mysql, 0, 0),
        ] {
            assert_eq!(parse_version(text), ServerVersion { product, major, minor }, "{text}");
        }
    }

    #[test]
    fn names_and_texts_do_not_break_out() {
        assert_eq!(quote_identifier("a`b"), "`a``b`");
        assert_eq!(quote_grant_pattern("gremlin_dev"), "`gremlin\\_dev`");
        assert_eq!(quote_literal("a'b\\"), "'a''b\\\\'");
    }
}
