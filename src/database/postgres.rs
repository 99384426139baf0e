//! Databases and roles on PostgreSQL.
//!
//! Must not do: touch a database that is not the backend's, or send a password in clear.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::connect::{self, ConnectError};
use super::{
    BackendRole, DatabaseContent, DatabaseError, DatabaseOrigin, DatabaseServer, DatabaseSpec, OWNER_TABLE, OwnerMark,
    Prepared, Product, ROUND_TRIP_SAMPLES, Released, ServerVersion, check_ownership, median, release_outcome,
};
use crate::convex::database_url::with_credentials;
use crate::failpoint;
use crate::model::{DatabaseReclaim as Disposal, Secret, Tls, error_chain};

/// Databases that are there on almost every server, to ask from when the wanted one is not.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// Tables of users, wherever they lie.
const TABLES: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    AND c.relname <> 'convexinfra_owner'";

/// A server that lets us in, under the name of a user.
struct PostgresSession<'a> {
    server: &'a DatabaseServer,
    client: Client,
    user: String,
}

pub(super) async fn prepare(server: &DatabaseServer, wanted: &DatabaseSpec) -> Result<Prepared, DatabaseError> {
    let (session, made) = match open_database(server, &wanted.database).await? {
        Some(session) => (session, false),
        None if wanted.expectation == super::Expectation::MustExist => {
            return Err(DatabaseError::DataMissing { database: wanted.database.clone() });
        }
        None => {
            create(server, &wanted.database).await?;
            failpoint::hit("database.made");
            let entered = open_database(server, &wanted.database).await?;
            (entered.ok_or_else(|| DatabaseError::DataMissing { database: wanted.database.clone() })?, true)
        }
    };
    let version = session.version().await?;
    session.require_writable().await?;
    let origin = check_ownership(&session.content().await?, wanted)?;
    session.write_owner_mark(wanted).await?;
    failpoint::hit("database.claimed");
    let round_trip = match &wanted.role.password {
        Some(password) => {
            session.grant(&wanted.role, password, &wanted.database).await?;
            failpoint::hit("database.granted");
            // The server's access rules may let in the one and not the other.
            connect_as_role(server, &wanted.role, password, &wanted.database).await?.measure_round_trip().await?
        }
        None => {
            session.reassign_tables(&session.user).await?;
            session.drop_role(&wanted.role).await?;
            session.measure_round_trip().await?
        }
    };
    let origin = if made && origin == DatabaseOrigin::FoundEmpty { DatabaseOrigin::Created } else { origin };
    Ok(Prepared { origin, server: version, round_trip })
}

pub(super) async fn release(
    server: &DatabaseServer,
    wanted: &DatabaseSpec,
    disposal: Disposal,
) -> Result<Released, DatabaseError> {
    let released = match open_database(server, &wanted.database).await? {
        None => Released::Absent,
        Some(session) => {
            let content = session.content().await?;
            let released = release_outcome(&content, wanted, disposal);
            if released == Released::Retained && content.claim != OwnerMark::Absent {
                session.release_ownership(wanted).await?;
            }
            released
        }
    };
    if released == Released::Dropped {
        drop_database(server, &wanted.database).await?;
        failpoint::hit("database.dropped");
    }
    // With the database went what the role owned and was allowed; one that was given back has no role any more.
    if wanted.role.password.is_some() && released != Released::Retained {
        open_maintenance(server).await?.drop_role(&wanted.role).await?;
    }
    Ok(released)
}

/// Enters a database; none when it is not there.
async fn open_database<'a>(server: &'a DatabaseServer, database: &str) -> Result<Option<PostgresSession<'a>>, DatabaseError> {
    connect(server, server.url.expose(), database).await
}

async fn connect_as_role<'a>(
    server: &'a DatabaseServer,
    role: &BackendRole,
    password: &Secret,
    database: &str,
) -> Result<PostgresSession<'a>, DatabaseError> {
    let url = with_credentials(&server.url, &role.name, password).map_err(DatabaseError::Url)?;
    let entered = connect(server, url.expose(), database).await?;
    entered.ok_or_else(|| DatabaseError::DataMissing { database: database.to_owned() })
}

async fn open_maintenance(server: &DatabaseServer) -> Result<PostgresSession<'_>, DatabaseError> {
    for database in MAINTENANCE {
        if let Some(session) = open_database(server, database).await? {
            return Ok(session);
        }
    }
    Err(DatabaseError::Server {
        server: server.name.clone(),
        what: "have a database `postgres` or `template1` to enter it by".to_owned(),
        source: "both are missing".into(),
    })
}

async fn connect<'a>(
    server: &'a DatabaseServer,
    url: &str,
    database: &str,
) -> Result<Option<PostgresSession<'a>>, DatabaseError> {
    let mut config: Config = url.parse().map_err(|error| DatabaseError::Parameters(Box::new(error)))?;
    config.dbname(database).application_name("convexinfra");
    let ca = match server.tls() {
        Tls::Disable => {
            config.ssl_mode(SslMode::Disable);
            None
        }
        Tls::Verify => {
            config.ssl_mode(SslMode::Require);
            None
        }
        Tls::Ca(path) => {
            config.ssl_mode(SslMode::Require);
            Some(Path::new(path))
        }
    };
    let user = config.get_user().unwrap_or_default().to_owned();
    match connect::postgres(&config, ca).await {
        Ok(client) => Ok(Some(PostgresSession { server, client, user })),
        Err(ConnectError::Config(error)) => Err(error),
        Err(ConnectError::Server(error)) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => Ok(None),
        Err(ConnectError::Server(error)) => Err(connect_error(server, user, error)),
        Err(ConnectError::TimedOut) => Err(server.timed_out(connect::CONNECT_TIMEOUT)),
    }
}

/// Why a server did not let us in.
fn connect_error(server: &DatabaseServer, user: String, error: tokio_postgres::Error) -> DatabaseError {
    let name = server.name.clone();
    if let Some(said) = error.as_db_error() {
        let code = said.code().clone();
        let no_encryption = said.message().contains("no encryption") || said.message().contains("SSL off");
        let source = said.message().to_owned().into();
        return if code == SqlState::INVALID_PASSWORD {
            DatabaseError::Credentials { server: name, user, source }
        } else if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION && no_encryption && *server.tls() == Tls::Disable {
            DatabaseError::TlsRequired { server: name, source }
        } else if code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION || code == SqlState::INSUFFICIENT_PRIVILEGE {
            DatabaseError::AccessDenied { server: name, user, source }
        } else {
            DatabaseError::Server { server: name, what: "let us in".to_owned(), source }
        };
    }
    let text = error_chain(&error);
    let source = text.clone().into();
    if text.contains("server does not support TLS") {
        DatabaseError::NoTls { server: name }
    } else if text.contains("TLS handshake") {
        DatabaseError::Certificate { server: name, source }
    } else if text.contains("password missing") {
        DatabaseError::Credentials { server: name, user, source: "the URL has no password".into() }
    } else {
        DatabaseError::Unreachable { server: name, source }
    }
}

async fn create(server: &DatabaseServer, database: &str) -> Result<(), DatabaseError> {
    let session = open_maintenance(server).await?;
    session.require_writable().await?;
    session.version().await?;
    // Whatever the server's own locale is, these two always go together.
    let sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
        quote_identifier(database)
    );
    let remedy = format!("CREATE DATABASE {} OWNER {};", quote_identifier(database), quote_identifier(&session.user));
    match session.execute(&format!("create the database `{database}`"), &sql, Some(remedy)).await {
        // Somebody was faster, and what it is will be looked at next.
        Err(DatabaseError::Server { source, .. }) if source.to_string().contains("already exists") => Ok(()),
        done => done,
    }
}

async fn drop_database(server: &DatabaseServer, database: &str) -> Result<(), DatabaseError> {
    let session = open_maintenance(server).await?;
    let force = if session.version().await?.major >= 13 { " WITH (FORCE)" } else { "" };
    let sql = format!("DROP DATABASE IF EXISTS {}{force}", quote_identifier(database));
    session
        .execute(
            &format!("drop the database `{database}`"),
            &sql,
            Some(format!("DROP DATABASE {};", quote_identifier(database))),
        )
        .await
}

impl PostgresSession<'_> {
    fn query_error(&self, what: &str, remedy: Option<String>, error: tokio_postgres::Error) -> DatabaseError {
        let server = self.server.name.clone();
        let what = what.to_owned();
        match error.as_db_error() {
            Some(said) if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                let source = said.message().to_owned().into();
                DatabaseError::PermissionDenied { user: self.user.clone(), what, server, remedy, source }
            }
            Some(said) => DatabaseError::Server { server, what, source: said.message().to_owned().into() },
            None => DatabaseError::Server { server, what, source: error_chain(&error).into() },
        }
    }

    async fn execute(&self, what: &str, sql: &str, remedy: Option<String>) -> Result<(), DatabaseError> {
        self.client.batch_execute(sql).await.map_err(|error| self.query_error(what, remedy, error))
    }

    /// The first column of the first row.
    async fn query_text(&self, what: &str, sql: &str) -> Result<String, DatabaseError> {
        let row = self.client.query_one(sql, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| self.query_error(what, None, error))
    }

    async fn version(&self) -> Result<ServerVersion, DatabaseError> {
        let number = self.query_text("say its version", "SELECT current_setting('server_version_num')").await?;
        let number: u32 = number.parse().unwrap_or_default();
        ServerVersion { product: Product::Postgres, major: number / 10_000, minor: number % 10_000 }.require_supported()
    }

    async fn require_writable(&self) -> Result<(), DatabaseError> {
        let sql = "SELECT (pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on')::text";
        match self.query_text("say whether it takes writes", sql).await?.as_str() {
            "true" => Err(DatabaseError::ReadOnly { server: self.server.name.clone() }),
            _ => Ok(()),
        }
    }

    async fn measure_round_trip(&self) -> Result<Duration, DatabaseError> {
        let mut times = [Duration::ZERO; ROUND_TRIP_SAMPLES];
        for time in &mut times {
            let asked = Instant::now();
            self.execute("answer", "SELECT 1", None).await?;
            *time = asked.elapsed();
        }
        Ok(median(times))
    }

    async fn content(&self) -> Result<DatabaseContent, DatabaseError> {
        let what = "say what is in the database";
        let tables = self.query_text(what, &format!("SELECT count(*)::text {TABLES}")).await?.parse().unwrap_or_default();
        let sql = format!("SELECT coalesce(to_regclass('public.{OWNER_TABLE}')::text, '')");
        if self.query_text(what, &sql).await?.is_empty() {
            return Ok(DatabaseContent { tables, claim: OwnerMark::Absent });
        }
        let sql = format!("SELECT backend, label FROM public.{OWNER_TABLE}");
        let rows = self.client.query(&sql, &[]).await.map_err(|error| self.query_error(what, None, error))?;
        let claim = match rows.first() {
            None => OwnerMark::Released,
            Some(row) => {
                let column = |index| row.try_get(index).map_err(|error| self.query_error(what, None, error));
                OwnerMark::HeldBy(column(0)?, column(1)?)
            }
        };
        Ok(DatabaseContent { tables, claim })
    }

    /// Writes down whose the database is. Of two who try at once, one is told about the other.
    async fn write_owner_mark(&self, wanted: &DatabaseSpec) -> Result<(), DatabaseError> {
        let what = format!("make tables in the database `{}`", wanted.database);
        let remedy =
            format!("ALTER DATABASE {} OWNER TO {};", quote_identifier(&wanted.database), quote_identifier(&self.user));
        if self.content().await?.claim == OwnerMark::Absent {
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS public.{OWNER_TABLE} (one integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
                 backend text NOT NULL, label text NOT NULL, since timestamptz NOT NULL DEFAULT now())"
            );
            self.execute(&what, &sql, Some(remedy.clone())).await?;
            failpoint::hit("database.owner_table_made");
        }
        let sql = format!(
            "INSERT INTO public.{OWNER_TABLE} (backend, label) VALUES ($1, $2)
             ON CONFLICT (one) DO UPDATE SET label = excluded.label WHERE {OWNER_TABLE}.backend = excluded.backend"
        );
        let (backend, label) = (wanted.owner.backend.as_str(), wanted.owner.label.as_str());
        let written = self.client.execute(&sql, &[&backend, &label]).await;
        match written.map_err(|error| self.query_error(&what, Some(remedy), error))? {
            0 => {
                check_ownership(&self.content().await?, wanted)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether there is such a role.
    async fn role_exists(&self, role: &BackendRole) -> Result<bool, DatabaseError> {
        let sql = "SELECT count(*)::text FROM pg_roles WHERE rolname = $1";
        let row = self.client.query_one(sql, &[&role.name]).await;
        let count: String =
            row.and_then(|row| row.try_get(0)).map_err(|error| self.query_error("say which roles there are", None, error))?;
        Ok(count != "0")
    }

    /// Lets a role in, and gives it this database and nothing else.
    async fn grant(&self, role: &BackendRole, password: &Secret, database: &str) -> Result<(), DatabaseError> {
        let name = quote_identifier(&role.name);
        let remedy = format!("ALTER ROLE {} CREATEROLE;", quote_identifier(&self.user));
        // What the server gets is a verifier, so that no log of statements has the password.
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        let verb = if self.role_exists(role).await? { "ALTER" } else { "CREATE" };
        let sql = format!("{verb} ROLE {name} LOGIN PASSWORD '{verifier}'");
        self.execute(&format!("make the role `{}`", role.name), &sql, Some(remedy)).await?;
        failpoint::hit("database.role_made");
        let quoted_database = quote_identifier(database);
        // Whoever has no business here could otherwise still enter and make temporary tables.
        let sql = format!(
            "REVOKE ALL ON DATABASE {quoted_database} FROM PUBLIC;
             GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {quoted_database} TO {name};
             GRANT USAGE, CREATE ON SCHEMA public TO {name}"
        );
        let remedy = format!("ALTER DATABASE {quoted_database} OWNER TO {};", quote_identifier(&self.user));
        self.execute(&format!("give away rights on the database `{database}`"), &sql, Some(remedy)).await?;
        self.reassign_tables(&role.name).await
    }

    /// Takes a role away with all its rights here. What it owned has to have another owner by then.
    async fn drop_role(&self, role: &BackendRole) -> Result<(), DatabaseError> {
        if !self.role_exists(role).await? {
            return Ok(());
        }
        self.join_roles(std::iter::once(role.name.as_str())).await?;
        let name = quote_identifier(&role.name);
        // Without the first of the two the role could not be dropped.
        let sql = format!("DROP OWNED BY {name}; DROP ROLE {name}");
        self.execute(&format!("drop the role `{}`", role.name), &sql, None).await?;
        failpoint::hit("database.role_dropped");
        Ok(())
    }

    /// Gives all tables to one owner: only an owner may change them.
    async fn reassign_tables(&self, owner: &str) -> Result<(), DatabaseError> {
        let what = format!("give the tables to `{owner}`");
        let sql = format!(
            "SELECT format('%I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner)::text {TABLES}
             AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> $1"
        );
        let others = self.client.query(&sql, &[&owner]).await.map_err(|error| self.query_error(&what, None, error))?;
        let mut statements = String::new();
        let mut known = std::collections::BTreeSet::from([owner.to_owned()]);
        for row in &others {
            let (table, from): (String, String) = match (row.try_get(0), row.try_get(1)) {
                (Ok(table), Ok(from)) => (table, from),
                (Err(error), _) | (_, Err(error)) => return Err(self.query_error(&what, None, error)),
            };
            known.insert(from);
            statements.push_str(&format!("ALTER TABLE {table} OWNER TO {};", quote_identifier(owner)));
        }
        if statements.is_empty() {
            return Ok(());
        }
        self.join_roles(known.iter().map(String::as_str)).await?;
        self.execute(&what, &statements, None).await
    }

    /// Becomes a member of roles, without which their tables cannot be given away. A superuser need not.
    async fn join_roles(&self, roles: impl Iterator<Item = &str>) -> Result<(), DatabaseError> {
        let sql = "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user";
        if self.query_text("say who we are", sql).await? == "true" {
            return Ok(());
        }
        for role in roles.filter(|role| *role != self.user) {
            let sql = format!("GRANT {} TO CURRENT_USER", quote_identifier(role));
            let remedy = format!("GRANT {} TO {};", quote_identifier(role), quote_identifier(&self.user));
            self.execute(&format!("act for `{role}`"), &sql, Some(remedy)).await?;
        }
        Ok(())
    }

    /// Leaves the database to whoever comes next: nobody's, and entered by nobody but us.
    async fn release_ownership(&self, wanted: &DatabaseSpec) -> Result<(), DatabaseError> {
        self.reassign_tables(&self.user).await?;
        self.drop_role(&wanted.role).await?;
        let sql = format!("DELETE FROM public.{OWNER_TABLE}");
        self.execute("note that the database is free", &sql, None).await?;
        failpoint::hit("database.given_back");
        Ok(())
    }
}

/// A name as an identifier.
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
