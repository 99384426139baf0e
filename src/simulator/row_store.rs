//! A database server that the simulator keeps its rows on, entered as the real backend enters it.
//!
//! One thread of its own talks to the server, because requests wait for their rows to be there before they are
//! answered. A lease in the database says who may write: a newer process takes it over, and the older one ends.
//!
//! Must not do: know what a row means, or make the database: the real backend does not either.

use std::path::PathBuf;
use std::sync::mpsc as answers;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, TxOpts};
use tokio::sync::{mpsc, watch};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use url::Url;

use super::cli::DatabaseDriver;
use super::identifier;
use crate::database::connect::{self, ConnectError, Peer, PostgresClient, TlsMode};
use crate::model::error_chain;
use crate::system::read_regular_text;

/// How large a file of certificates may be in bytes.
const MAX_CERTIFICATE_BYTES: u64 = 256 << 10;

/// How often the lease is looked at when nothing is written.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS simulated_rows (table_name VARCHAR(64) NOT NULL, number BIGINT NOT NULL, content LONGTEXT NOT NULL,
     PRIMARY KEY (table_name, number))",
    "CREATE TABLE IF NOT EXISTS leases (id INTEGER NOT NULL PRIMARY KEY, ts BIGINT NOT NULL)",
];

/// Says why the server cannot be used. The words are those of the real backend, as far as they were recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowStoreError {
    #[error("cluster url already contains db name: {0}")]
    HasPath(String),
    #[error("cluster url username must be set")]
    NoUser,
    #[error("the database's URL is of no use")]
    Url,
    #[error("{0}")]
    Certificates(String),
    #[error("{0}")]
    Server(String),
    #[error("the lease was taken over by a newer process")]
    LeaseLost,
}

/// Says where the server is and how it is entered.
pub(super) enum ServerTarget {
    Postgres { config: Box<Config>, ca: Option<PathBuf> },
    Mysql { opts: Opts, ca: Option<PathBuf>, tls: bool },
}

impl ServerTarget {
    /// Returns what the command line and the variables say.
    pub(super) fn new(
        driver: DatabaseDriver,
        url: &str,
        instance_name: &str,
        requires_tls: bool,
    ) -> Result<Self, RowStoreError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let parsed = Url::parse(url).map_err(|_| RowStoreError::Url)?;
        let database = instance_name.replace('-', "_");
        if driver == DatabaseDriver::MysqlV5 {
            let opts = Opts::from_url(url).map_err(|error| RowStoreError::Server(error.to_string()))?;
            let ca = variable("MYSQL_CA_FILE");
            let tls = requires_tls || ca.is_some() || opts.ssl_opts().is_some();
            let opts = OptsBuilder::from_opts(opts).db_name(Some(database)).into();
            return Ok(Self::Mysql { opts, ca, tls });
        }
        if !matches!(parsed.path(), "" | "/") {
            return Err(RowStoreError::HasPath(parsed.path().to_owned()));
        }
        if parsed.username().is_empty() {
            return Err(RowStoreError::NoUser);
        }
        let mut config: Config = url.parse().map_err(|error| RowStoreError::Server(error_chain(&error)))?;
        config.dbname(database);
        if requires_tls {
            config.ssl_mode(SslMode::Require);
        }
        Ok(Self::Postgres { config: Box::new(config), ca: variable("PG_CA_FILE") })
    }

    async fn connect(&self) -> Result<ServerConnection, RowStoreError> {
        // Convex's own words where a certificate file cannot be read were not recorded.
        let read = |path: &Option<PathBuf>| {
            let text = path.as_ref().map(|path| read_regular_text(path, MAX_CERTIFICATE_BYTES)).transpose();
            text.map_err(|error| RowStoreError::Certificates(error.to_string()))
        };
        match self {
            Self::Postgres { config, ca } => {
                let ca = read(ca)?;
                let tls = match config.get_ssl_mode() {
                    SslMode::Disable => TlsMode::Off,
                    _ => TlsMode::Verified(ca.as_deref()),
                };
                Ok(ServerConnection::Postgres(connect::postgres(config, tls, Peer::Own).await?))
            }
            Self::Mysql { opts, ca, tls } => {
                let ca = read(ca)?;
                let tls = if *tls { TlsMode::Verified(ca.as_deref()) } else { TlsMode::Off };
                let mut connection = connect::mysql(opts.clone(), tls, Peer::Own).await?;
                refuse_mariadb(&mut connection).await?;
                Ok(ServerConnection::Mysql(connection))
            }
        }
    }
}

/// Ends as the real backend does, whose first table has a collation that MariaDB does not know, and whose commits share locks.
async fn refuse_mariadb(connection: &mut Conn) -> Result<(), RowStoreError> {
    let sql = "SELECT 1 FROM information_schema.collations WHERE collation_name = 'utf8mb4_0900_bin'";
    if connection.query_first::<u8, _>(sql).await?.is_none() {
        return Err(RowStoreError::Server("Unknown collation: 'utf8mb4_0900_bin'".to_owned()));
    }
    Ok(connection.query_drop("SELECT 1 FOR SHARE").await?)
}

impl<E: std::error::Error + Into<RowStoreError> + 'static> From<ConnectError<E>> for RowStoreError {
    fn from(error: ConnectError<E>) -> Self {
        match error {
            ConnectError::Certificates(error) => Self::Certificates(error.to_string()),
            ConnectError::Server(error) => error.into(),
            ConnectError::Network(error) => Self::Server(format!("error connecting to server: {error}")),
            other => Self::Server(error_chain(&other)),
        }
    }
}

impl From<tokio_postgres::Error> for RowStoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error_chain(&error))
    }
}

impl From<mysql_async::Error> for RowStoreError {
    fn from(error: mysql_async::Error) -> Self {
        Self::Server(error.to_string())
    }
}

/// One row of one table: its number, and its columns as JSON or nothing when it is gone.
#[derive(Debug, Clone)]
pub(super) struct StoredRow {
    pub(super) table: String,
    pub(super) number: i64,
    pub(super) content: Option<String>,
}

/// The rows on a server.
#[derive(Debug, Clone)]
pub(super) struct RowStore {
    jobs: mpsc::UnboundedSender<WriteJob>,
    /// Turns to true when a newer process has taken over.
    pub(super) lost: watch::Receiver<bool>,
}

struct WriteJob {
    rows: Vec<StoredRow>,
    answer: answers::SyncSender<Result<(), RowStoreError>>,
}

impl RowStore {
    /// Enters the server, takes the lease, and brings all rows along.
    pub(super) fn open(target: ServerTarget) -> Result<(Self, Vec<StoredRow>), RowStoreError> {
        let (jobs, received) = mpsc::unbounded_channel();
        let (lost_sender, lost) = watch::channel(false);
        let (opened_sender, opened) = answers::sync_channel(1);
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                match begin(&target).await {
                    Ok((keeper, rows)) => {
                        let _ = opened_sender.send(Ok(rows));
                        keeper.run(&target, received, &lost_sender).await;
                    }
                    Err(error) => drop(opened_sender.send(Err(error))),
                }
            });
        });
        let ended = || RowStoreError::Server("the thread for the server ended".to_owned());
        let rows = opened.recv().map_err(|_| ended())??;
        Ok((Self { jobs, lost }, rows))
    }

    /// Writes rows, all or none, and returns when they are there.
    pub(super) fn write(&self, rows: Vec<StoredRow>) -> Result<(), RowStoreError> {
        let ended = || RowStoreError::Server("the thread for the server ended".to_owned());
        let (answer, answered) = answers::sync_channel(1);
        self.jobs.send(WriteJob { rows, answer }).map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())?
    }
}

enum ServerConnection {
    Postgres(PostgresClient),
    Mysql(Conn),
}

struct LeaseHolder {
    connection: ServerConnection,
    lease: i64,
}

async fn begin(target: &ServerTarget) -> Result<(LeaseHolder, Vec<StoredRow>), RowStoreError> {
    let mut link = target.connect().await?;
    refuse_locked(&mut link).await?;
    let lease = i64::try_from(identifier::now_ns()).unwrap_or(i64::MAX);
    let rows = match &mut link {
        ServerConnection::Postgres(client) => {
            for sql in TABLES {
                client.batch_execute(&sql.replace("LONGTEXT", "TEXT")).await?;
            }
            let take = "INSERT INTO leases (id, ts) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET ts = excluded.ts
                        WHERE leases.ts < excluded.ts";
            if client.execute(take, &[&lease]).await? == 0 {
                return Err(RowStoreError::Server(
                    "failed to acquire lease: Already acquired with higher timestamp".to_owned(),
                ));
            }
            let rows = client.query("SELECT table_name, number, content FROM simulated_rows ORDER BY number", &[]).await?;
            let row = |row: &tokio_postgres::Row| {
                Ok(StoredRow { table: row.try_get(0)?, number: row.try_get(1)?, content: Some(row.try_get(2)?) })
            };
            rows.iter().map(row).collect::<Result<Vec<_>, tokio_postgres::Error>>()?
        }
        ServerConnection::Mysql(connection) => {
            for sql in TABLES {
                connection.query_drop(sql).await?;
            }
            connection.exec_drop("INSERT IGNORE INTO leases (id, ts) VALUES (1, 0)", ()).await?;
            connection.exec_drop("UPDATE leases SET ts = ? WHERE id = 1 AND ts < ?", (lease, lease)).await?;
            if connection.affected_rows() == 0 {
                return Err(RowStoreError::Server(
                    "failed to acquire lease: Already acquired with higher timestamp".to_owned(),
                ));
            }
            let rows: Vec<(String, i64, String)> =
                connection.query("SELECT table_name, number, content FROM simulated_rows ORDER BY number").await?;
            rows.into_iter().map(|(table, number, content)| StoredRow { table, number, content: Some(content) }).collect()
        }
    };
    Ok((LeaseHolder { connection: link, lease }, rows))
}

/// Refuses a database whose rows are being copied, before the lease is taken.
async fn refuse_locked(link: &mut ServerConnection) -> Result<(), RowStoreError> {
    let find = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'read_only' AND table_schema = ";
    let count = "SELECT count(*) FROM read_only";
    let locks: i64 = match link {
        ServerConnection::Postgres(client) => {
            let found: i64 = client.query_one(&format!("{find}current_schema()"), &[]).await?.try_get(0)?;
            if found == 0 { 0 } else { client.query_one(count, &[]).await?.try_get(0)? }
        }
        ServerConnection::Mysql(connection) => {
            let found: Option<i64> = connection.query_first(format!("{find}database()")).await?;
            if found == Some(0) { 0 } else { connection.query_first(count).await?.unwrap_or_default() }
        }
    };
    match locks {
        0 => Ok(()),
        _ => Err(RowStoreError::Server("persistence is read-only, data migration in progress".to_owned())),
    }
}

impl LeaseHolder {
    async fn run(mut self, target: &ServerTarget, mut jobs: mpsc::UnboundedReceiver<WriteJob>, lost: &watch::Sender<bool>) {
        loop {
            let job = match tokio::time::timeout(LEASE_CHECK_INTERVAL, jobs.recv()).await {
                Ok(None) => return,
                Ok(Some(job)) => job,
                Err(_) => {
                    if matches!(self.write(&[]).await, Err(RowStoreError::LeaseLost)) {
                        lost.send_replace(true);
                    }
                    continue;
                }
            };
            let mut result = self.write(&job.rows).await;
            // A server that was restarted takes it the second time; the rows are the same whether they came before.
            if matches!(result, Err(RowStoreError::Server(_)))
                && let Ok(link) = target.connect().await
            {
                self.connection = link;
                result = self.write(&job.rows).await;
            }
            if matches!(result, Err(RowStoreError::LeaseLost)) {
                lost.send_replace(true);
            }
            let _ = job.answer.send(result);
        }
    }

    async fn write(&mut self, rows: &[StoredRow]) -> Result<(), RowStoreError> {
        match &mut self.connection {
            ServerConnection::Postgres(client) => {
                let transaction = client.transaction().await?;
                let held = transaction.query_opt("SELECT ts FROM leases WHERE id = 1 FOR UPDATE", &[]).await?;
                if held.map(|row| row.try_get(0)).transpose()? != Some(self.lease) {
                    return Err(RowStoreError::LeaseLost);
                }
                for row in rows {
                    match &row.content {
                        Some(content) => {
                            let put = "INSERT INTO simulated_rows (table_name, number, content) VALUES ($1, $2, $3)
                                       ON CONFLICT (table_name, number) DO UPDATE SET content = excluded.content";
                            transaction.execute(put, &[&row.table, &row.number, content]).await?;
                        }
                        None => {
                            let drop = "DELETE FROM simulated_rows WHERE table_name = $1 AND number = $2";
                            transaction.execute(drop, &[&row.table, &row.number]).await?;
                        }
                    }
                }
                Ok(transaction.commit().await?)
            }
            ServerConnection::Mysql(connection) => {
                let mut transaction = connection.start_transaction(TxOpts::default()).await?;
                let held: Option<i64> = transaction.query_first("SELECT ts FROM leases WHERE id = 1 FOR UPDATE").await?;
                if held != Some(self.lease) {
                    return Err(RowStoreError::LeaseLost);
                }
                for row in rows {
                    match &row.content {
                        Some(content) => {
                            let put = "REPLACE INTO simulated_rows (table_name, number, content) VALUES (?, ?, ?)";
                            transaction.exec_drop(put, (&row.table, row.number, content)).await?;
                        }
                        None => {
                            let drop = "DELETE FROM simulated_rows WHERE table_name = ? AND number = ?";
                            transaction.exec_drop(drop, (&row.table, row.number)).await?;
                        }
                    }
                }
                Ok(transaction.commit().await?)
            }
        }
    }
}
