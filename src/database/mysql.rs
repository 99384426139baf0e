//! Databases and users on MySQL and MariaDB.
//!
//! Must not do: touch a database that is not the backend's.

use std::path::Path;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, IoError, Opts};

use super::connect::{self, MysqlTls};
use super::{
    BackendRole, DatabaseContent, DatabaseError, DatabaseOrigin, DatabaseServer, DatabaseSpec, Expectation, OWNER_TABLE,
    OwnerMark, Prepared, Product, ROUND_TRIP_SAMPLES, Released, ServerVersion, check_ownership, median, release_outcome,
};
use crate::convex::database_url::with_credentials;
use crate::failpoint;
use crate::model::{DatabaseReclaim as Disposal, Secret, Tls};

/// The numbers under which servers say no.
mod number {
    pub(super) const ACCESS_DENIED_TO_DATABASE: u16 = 1044;
    pub(super) const ACCESS_DENIED: u16 = 1045;
    pub(super) const HOST_NOT_ALLOWED: u16 = 1130;
    pub(super) const TABLE_ACCESS_DENIED: u16 = 1142;
    pub(super) const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    pub(super) const CREATE_USER_FAILED: u16 = 1396;
    pub(super) const ACCESS_DENIED_NO_PASSWORD: u16 = 1698;
    pub(super) const SECURE_TRANSPORT_REQUIRED: u16 = 3159;
    pub(super) const SECURE_TRANSPORT_REQUIRED_MARIADB: u16 = 4156;
}

struct MysqlSession<'a> {
    server: &'a DatabaseServer,
    connection: Conn,
    user: String,
}

pub(super) async fn prepare(server: &DatabaseServer, wanted: &DatabaseSpec) -> Result<Prepared, DatabaseError> {
    let mut session = connect(server, server.url.expose(), None).await?;
    let version = session.version().await?;
    session.require_writable().await?;
    let there = session.database_exists(&wanted.database).await?;
    if !there {
        if wanted.expectation == Expectation::MustExist {
            return Err(DatabaseError::DataMissing { database: wanted.database.clone() });
        }
        let sql = format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quote_identifier(&wanted.database));
        let remedy = format!(
            "CREATE DATABASE {}; GRANT ALL ON {}.* TO '{}';",
            quote_identifier(&wanted.database),
            quote_grant_pattern(&wanted.database),
            session.user
        );
        session.execute(&format!("create the database `{}`", wanted.database), &sql, Some(remedy)).await?;
        failpoint::hit("database.made");
    }
    let origin = check_ownership(&session.content(wanted).await?, wanted)?;
    session.write_owner_mark(wanted).await?;
    failpoint::hit("database.claimed");
    let round_trip = match &wanted.role.password {
        Some(password) => {
            session.grant(&wanted.role, password, &wanted.database).await?;
            failpoint::hit("database.granted");
            let url = with_credentials(&server.url, &wanted.role.name, password).map_err(DatabaseError::Url)?;
            let mut entered = connect(server, url.expose(), Some(&wanted.database)).await?;
            let distance = entered.measure_round_trip().await?;
            entered.disconnect().await;
            distance
        }
        None => {
            session.drop_user(&wanted.role).await?;
            session.measure_round_trip().await?
        }
    };
    session.disconnect().await;
    let origin = if !there && origin == DatabaseOrigin::FoundEmpty { DatabaseOrigin::Created } else { origin };
    Ok(Prepared { origin, server: version, round_trip })
}

pub(super) async fn release(
    server: &DatabaseServer,
    wanted: &DatabaseSpec,
    disposal: Disposal,
) -> Result<Released, DatabaseError> {
    let mut session = connect(server, server.url.expose(), None).await?;
    let mut released = Released::Absent;
    if session.database_exists(&wanted.database).await? {
        let content = session.content(wanted).await?;
        released = release_outcome(&content, wanted, disposal);
        if released == Released::Retained && content.claim != OwnerMark::Absent {
            let sql = format!("DELETE FROM {}.{OWNER_TABLE}", quote_identifier(&wanted.database));
            session.execute("note that the database is free", &sql, None).await?;
            failpoint::hit("database.given_back");
        }
        if released == Released::Dropped {
            let sql = format!("DROP DATABASE IF EXISTS {}", quote_identifier(&wanted.database));
            let what = format!("drop the database `{}`", wanted.database);
            session.execute(&what, &sql, Some(format!("{sql};"))).await?;
            failpoint::hit("database.dropped");
        }
    }
    session.drop_user(&wanted.role).await?;
    session.disconnect().await;
    Ok(released)
}

async fn connect<'a>(server: &'a DatabaseServer, url: &str, database: Option<&str>) -> Result<MysqlSession<'a>, DatabaseError> {
    let opts = Opts::from_url(url).map_err(|error| DatabaseError::Parameters(Box::new(error)))?;
    let user = opts.user().unwrap_or_default().to_owned();
    let tls = match server.tls() {
        Tls::Disable => MysqlTls::Off,
        Tls::Verify => MysqlTls::Verified(None),
        Tls::Ca(path) => {
            connect::check_certificates(Path::new(path))?;
            MysqlTls::Verified(Some(Path::new(path)))
        }
    };
    let opts = mysql_async::OptsBuilder::from_opts(opts).db_name(database.map(str::to_owned)).into();
    match connect::mysql(opts, tls).await {
        Ok(connection) => Ok(MysqlSession { server, connection, user }),
        Err(error) => Err(connect_error(server, user, error)),
    }
}

/// Why a server did not let us in.
fn connect_error(server: &DatabaseServer, user: String, error: mysql_async::Error) -> DatabaseError {
    let name = server.name.clone();
    match error {
        mysql_async::Error::Server(said) => {
            let source = said.message.into();
            match said.code {
                number::ACCESS_DENIED | number::ACCESS_DENIED_NO_PASSWORD => {
                    DatabaseError::Credentials { server: name, user, source }
                }
                number::HOST_NOT_ALLOWED | number::ACCESS_DENIED_TO_DATABASE => {
                    DatabaseError::AccessDenied { server: name, user, source }
                }
                number::SECURE_TRANSPORT_REQUIRED | number::SECURE_TRANSPORT_REQUIRED_MARIADB => {
                    DatabaseError::TlsRequired { server: name, source }
                }
                _ => DatabaseError::Server { server: name, what: "let us in".to_owned(), source },
            }
        }
        mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
            DatabaseError::NoTls { server: name }
        }
        mysql_async::Error::Io(IoError::Tls(source)) => {
            DatabaseError::Certificate { server: name, source: source.to_string().into() }
        }
        mysql_async::Error::Io(IoError::Io(source)) if source.to_string().contains("certificate") => {
            DatabaseError::Certificate { server: name, source: source.into() }
        }
        mysql_async::Error::Io(IoError::Io(source)) => DatabaseError::Unreachable { server: name, source: source.into() },
        other => DatabaseError::Server { server: name, what: "let us in".to_owned(), source: other.to_string().into() },
    }
}

impl MysqlSession<'_> {
    fn query_error(&self, what: &str, remedy: Option<String>, error: mysql_async::Error) -> DatabaseError {
        let server = self.server.name.clone();
        let what = what.to_owned();
        match error {
            mysql_async::Error::Server(said)
                if matches!(
                    said.code,
                    number::ACCESS_DENIED_TO_DATABASE
                        | number::ACCESS_DENIED
                        | number::TABLE_ACCESS_DENIED
                        | number::SPECIFIC_ACCESS_DENIED
                        | number::CREATE_USER_FAILED
                ) =>
            {
                DatabaseError::PermissionDenied { user: self.user.clone(), what, server, remedy, source: said.message.into() }
            }
            mysql_async::Error::Server(said) => DatabaseError::Server { server, what, source: said.message.into() },
            other => DatabaseError::Server { server, what, source: other.to_string().into() },
        }
    }

    async fn execute(&mut self, what: &str, sql: &str, remedy: Option<String>) -> Result<(), DatabaseError> {
        self.connection.query_drop(sql).await.map_err(|error| self.query_error(what, remedy, error))
    }

    /// The first column of the first row; none when there is no row.
    async fn query_number(&mut self, what: &str, sql: &str) -> Result<Option<u64>, DatabaseError> {
        self.connection.query_first(sql).await.map_err(|error| self.query_error(what, None, error))
    }

    async fn disconnect(self) {
        let _ = self.connection.disconnect().await;
    }

    async fn version(&mut self) -> Result<ServerVersion, DatabaseError> {
        let text: Option<String> = self
            .connection
            .query_first("SELECT VERSION()")
            .await
            .map_err(|error| self.query_error("say its version", None, error))?;
        version(&text.unwrap_or_default()).require_supported()
    }

    async fn require_writable(&mut self) -> Result<(), DatabaseError> {
        match self.query_number("say whether it takes writes", "SELECT @@global.read_only").await? {
            Some(0) | None => Ok(()),
            Some(_) => Err(DatabaseError::ReadOnly { server: self.server.name.clone() }),
        }
    }

    async fn measure_round_trip(&mut self) -> Result<Duration, DatabaseError> {
        let mut times = [Duration::ZERO; ROUND_TRIP_SAMPLES];
        for time in &mut times {
            let asked = Instant::now();
            self.execute("answer", "SELECT 1", None).await?;
            *time = asked.elapsed();
        }
        Ok(median(times))
    }

    async fn database_exists(&mut self, database: &str) -> Result<bool, DatabaseError> {
        let sql = format!("SELECT count(*) FROM information_schema.schemata WHERE schema_name = {}", quote_literal(database));
        Ok(self.query_number("say which databases there are", &sql).await? != Some(0))
    }

    async fn content(&mut self, wanted: &DatabaseSpec) -> Result<DatabaseContent, DatabaseError> {
        let what = "say what is in the database";
        let of = |name: &str| {
            format!(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = {} AND {name}",
                quote_literal(&wanted.database)
            )
        };
        let tables = self.query_number(what, &of(&format!("table_name <> '{OWNER_TABLE}'"))).await?.unwrap_or_default();
        if self.query_number(what, &of(&format!("table_name = '{OWNER_TABLE}'"))).await? == Some(0) {
            return Ok(DatabaseContent { tables, claim: OwnerMark::Absent });
        }
        let sql = format!("SELECT backend, label FROM {}.{OWNER_TABLE}", quote_identifier(&wanted.database));
        let row: Option<(String, String)> =
            self.connection.query_first(sql).await.map_err(|error| self.query_error(what, None, error))?;
        Ok(DatabaseContent {
            tables,
            claim: row.map_or(OwnerMark::Released, |(backend, label)| OwnerMark::HeldBy(backend, label)),
        })
    }

    /// Writes down whose the database is. Of two who try at once, one is told about the other.
    async fn write_owner_mark(&mut self, wanted: &DatabaseSpec) -> Result<(), DatabaseError> {
        let database = quote_identifier(&wanted.database);
        let what = format!("make tables in the database `{}`", wanted.database);
        let remedy = format!("GRANT ALL ON {}.* TO '{}';", quote_grant_pattern(&wanted.database), self.user);
        if self.content(wanted).await?.claim == OwnerMark::Absent {
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {database}.{OWNER_TABLE} (one TINYINT PRIMARY KEY DEFAULT 1, backend VARCHAR(64) NOT NULL,
                 label VARCHAR(255) NOT NULL, since TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"
            );
            self.execute(&what, &sql, Some(remedy.clone())).await?;
            failpoint::hit("database.owner_table_made");
        }
        let sql = format!(
            "INSERT INTO {database}.{OWNER_TABLE} (backend, label) VALUES ({}, {})
             ON DUPLICATE KEY UPDATE label = IF(backend = VALUES(backend), VALUES(label), label)",
            quote_literal(wanted.owner.backend.as_str()),
            quote_literal(&wanted.owner.label)
        );
        self.execute(&what, &sql, Some(remedy)).await?;
        check_ownership(&self.content(wanted).await?, wanted).map(drop)
    }

    /// Lets a user in, and gives it this database and nothing else.
    async fn grant(&mut self, role: &BackendRole, password: &Secret, database: &str) -> Result<(), DatabaseError> {
        let account = account(role);
        let password = quote_literal(password.expose());
        let what = format!("make the user `{}`", role.name);
        let remedy = format!("GRANT CREATE USER ON *.* TO '{}';", self.user);
        let make = format!("CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {password}");
        self.execute(&what, &make, Some(remedy.clone())).await?;
        // One that was there already may have another password.
        self.execute(&what, &format!("ALTER USER {account} IDENTIFIED BY {password}"), Some(remedy)).await?;
        failpoint::hit("database.role_made");
        let sql = format!("GRANT ALL PRIVILEGES ON {}.* TO {account}", quote_grant_pattern(database));
        let remedy = format!("GRANT ALL ON {}.* TO '{}' WITH GRANT OPTION;", quote_grant_pattern(database), self.user);
        self.execute(&format!("give away rights on the database `{database}`"), &sql, Some(remedy)).await
    }

    /// Takes a user away, if there is one.
    async fn drop_user(&mut self, role: &BackendRole) -> Result<(), DatabaseError> {
        let sql = format!("DROP USER IF EXISTS {}", account(role));
        match self.execute(&format!("drop the user `{}`", role.name), &sql, Some(format!("{sql};"))).await {
            // Who may not do that never made one.
            Err(DatabaseError::PermissionDenied { .. }) if role.password.is_none() => Ok(()),
            done => done,
        }
    }
}

fn version(text: &str) -> ServerVersion {
    let product = if text.contains("MariaDB") { Product::MariaDb } else { Product::Mysql };
    // Old MariaDB servers put this in front so that old replicas go on.
    let mut parts = text.strip_prefix("5.5.5-").unwrap_or(text).split(['.', '-']).map(|part| part.parse().unwrap_or_default());
    ServerVersion { product, major: parts.next().unwrap_or_default(), minor: parts.next().unwrap_or_default() }
}

fn account(role: &BackendRole) -> String {
    format!("{}@'%'", quote_literal(&role.name))
}

/// A name as an identifier.
fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A name as an identifier in a grant, where `_` would stand for any character.
fn quote_grant_pattern(name: &str) -> String {
    quote_identifier(&name.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"))
}

/// A text as a literal.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_what_they_are() {
        for (text, product, major, minor) in [
            ("8.0.39", Product::Mysql, 8, 0),
            ("9.1.0-commercial", Product::Mysql, 9, 1),
            ("10.11.14-MariaDB-0+deb12u2", Product::MariaDb, 10, 11),
            ("5.5.5-10.5.1-MariaDB", Product::MariaDb, 10, 5),
            ("", Product::Mysql, 0, 0),
        ] {
            assert_eq!(version(text), ServerVersion { product, major, minor }, "{text}");
        }
    }

    #[test]
    fn names_and_texts_do_not_break_out() {
        assert_eq!(quote_identifier("a`b"), "`a``b`");
        assert_eq!(quote_grant_pattern("gremlin_dev"), "`gremlin\\_dev`");
        assert_eq!(quote_literal("a'b\\"), "'a''b\\\\'");
    }
}
