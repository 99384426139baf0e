//! Starting and stopping, in the order in which the real backend finds out what is wrong.

use std::ffi::OsString;
use std::future::IntoFuture;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::cli::{Arguments, Command, DatabaseDriver, Keygen};
use super::data::SimulatorDatabase;
use super::router;
use super::row_store::{RowStore, RowStoreError, ServerTarget};
use super::state::{SharedState, SimulatorState};
use super::state_gate::StateGate;
use super::{convex_data, export, identifier, import, log};
use crate::convex::admin_key::{InstanceSecret, InstanceSecretError, KeyError, KeyKind, issue};
use crate::database::rows::RowError;
use crate::model::{Secret, error_chain};

/// Says why a start fails.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the instance secret is of no use")]
    Secret(#[from] InstanceSecretError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Server(#[from] RowStoreError),
    #[error("this simulator does not keep several instances in one database")]
    Multitenant,
    #[error("the SQLite file `{}` cannot be opened", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("the database failed")]
    Data(#[from] rusqlite::Error),
    #[error(transparent)]
    Rows(#[from] RowError),
    #[error("the directory `{}` cannot be made", path.display())]
    Storage { path: PathBuf, source: std::io::Error },
    #[error("files in S3 need the variable `{0}`")]
    S3Variable(&'static str),
    #[error("the data was begun with {begun} files, and this start is for {started} files")]
    OtherFiles { begun: String, started: &'static str },
    #[error("an origin begins with `http://` or `https://`, and `{0}` does not")]
    Origin(String),
    #[error("port {port} of {interface} cannot be listened on")]
    Listen { interface: Ipv4Addr, port: u16, source: std::io::Error },
    #[error("the runtime or the server failed")]
    Serve(#[source] std::io::Error),
    #[error("no random bytes for a nonce")]
    Nonce(#[source] getrandom::Error),
}

pub(super) fn main_with(words: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::read(words) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let result = match &arguments.command {
        Some(Command::Keygen(Keygen::AdminKey(instance))) => match instance.complete() {
            Ok((name, secret)) => print_admin_key(name, secret),
            Err(error) => return usage(&error),
        },
        None => match arguments.instance.complete() {
            Ok((name, secret)) => run(&arguments, name, secret),
            Err(error) => return usage(&error),
        },
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            let words = error_chain(&error);
            log::error(&words);
            log::last(&words);
            1
        }
    }
}

fn usage(error: &clap::Error) -> u8 {
    // Help and version are no errors, and go to standard output.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(2)
}

fn print_admin_key(name: &str, secret: &Secret) -> Result<(), StartError> {
    let secret = InstanceSecret::parse(secret.expose())?;
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(StartError::Nonce)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let key = issue(name, &secret, KeyKind::Admin { member_id: 0 }, now, nonce)?;
    writeln!(std::io::stdout().lock(), "{}", key.expose()).map_err(StartError::Serve)
}

fn run(arguments: &Arguments, name: &str, secret: &Secret) -> Result<(), StartError> {
    log::info("a simulated Convex backend starts; it runs no functions");
    let data = open(arguments, name)?;
    let secret = InstanceSecret::parse(secret.expose())?;
    let storage = files(arguments, &data)?;
    let (cloud_origin, site_origin) = origins(arguments)?;
    let (stop_sender, stop) = watch::channel(false);
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let label = variable("CONVEX_RELEASE_VERSION_DEV");
    let app = SimulatorState::new(SharedState {
        instance_name: name.to_owned(),
        secret,
        version: if matches!(label.as_str(), "" | "dev") { "unknown".to_owned() } else { label },
        cloud_origin,
        site_origin,
        // The real one understands this one word only.
        metrics_disabled: variable("DISABLE_METRICS_ENDPOINT") == "true",
        storage,
        data: data.clone(),
        gate: StateGate::default(),
        changes: watch::channel(identifier::now_ns()).0,
        stop,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Serve)?;
    let result = runtime.block_on(serve(arguments, app, stop_sender));
    runtime.shutdown_background();
    data.close();
    log::info("the simulated backend has ended");
    result
}

fn open(arguments: &Arguments, name: &str) -> Result<SimulatorDatabase, StartError> {
    match arguments.db {
        DatabaseDriver::Sqlite => {
            let path = Path::new(&arguments.db_spec);
            if convex_data::is_convex(path) {
                log::info("the database is one of the real backend: it is only read, and changes end with this process");
                return Ok(SimulatorDatabase::in_memory(convex_data::load(path)?));
            }
            SimulatorDatabase::open(path).map_err(|source| StartError::Database { path: path.to_owned(), source })
        }
        DatabaseDriver::MysqlV5Multitenant => Err(StartError::Multitenant),
        driver @ (DatabaseDriver::PostgresV5 | DatabaseDriver::MysqlV5) => {
            let target = ServerTarget::new(driver, &arguments.db_spec, name, !arguments.do_not_require_ssl)?;
            let (server, rows) = RowStore::open(target)?;
            log::info(&format!("connected to the database of {name}, with {} rows", rows.len()));
            Ok(SimulatorDatabase::on_server(server, &rows)?)
        }
    }
}

/// Returns where files are kept, which may not change over the life of the data.
fn files(arguments: &Arguments, data: &SimulatorDatabase) -> Result<Option<PathBuf>, StartError> {
    const MODE: &str = "files";
    const NEEDED: [&str; 6] = [
        "AWS_REGION",
        "S3_STORAGE_EXPORTS_BUCKET",
        "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET",
        "S3_STORAGE_MODULES_BUCKET",
        "S3_STORAGE_FILES_BUCKET",
        "S3_STORAGE_SEARCH_BUCKET",
    ];
    const PARTS: [&str; 5] = ["exports", "snapshot_imports", "modules", "files", "search"];
    let started = if arguments.s3_storage { "S3" } else { "local" };
    if let Some(begun) = data.setting(MODE)?.filter(|begun| begun != started) {
        return Err(StartError::OtherFiles { begun, started });
    }
    let storage = if arguments.s3_storage {
        if let Some(missing) = NEEDED.into_iter().find(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
            return Err(StartError::S3Variable(missing));
        }
        None
    } else {
        for part in PARTS {
            let path = arguments.local_storage.join(part);
            std::fs::create_dir_all(&path).map_err(|source| StartError::Storage { path, source })?;
        }
        Some(std::path::absolute(&arguments.local_storage).unwrap_or_else(|_| arguments.local_storage.clone()))
    };
    data.set(MODE, Some(started))?;
    Ok(storage)
}

fn origins(arguments: &Arguments) -> Result<(String, String), StartError> {
    let origin = |given: &Option<String>, port: u16| {
        let text = given.clone().unwrap_or_else(|| format!("http://127.0.0.1:{port}"));
        match text.is_empty() || text.starts_with("http://") || text.starts_with("https://") {
            true => Ok(text),
            false => Err(StartError::Origin(text)),
        }
    };
    Ok((origin(&arguments.convex_origin, arguments.port)?, origin(&arguments.convex_site, arguments.site_proxy_port)?))
}

async fn listen(interface: Ipv4Addr, port: u16) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(SocketAddrV4::new(interface, port)).await;
    listener.map_err(|source| StartError::Listen { interface, port, source })
}

async fn serve(arguments: &Arguments, app: SimulatorState, stop: watch::Sender<bool>) -> Result<(), StartError> {
    let data = app.data.clone();
    let interface = arguments.interface;
    // The first signal may come right after the ports open, so it is listened for before that.
    let mut interrupts = Interrupts::new().map_err(StartError::Serve)?;
    let api = listen(interface, arguments.port).await?;
    let site = listen(interface, arguments.site_proxy_port).await?;
    import::resume(&app)?;
    export::resume(&app)?;
    log::info(&format!("listening on {interface}:{} and {interface}:{}", arguments.port, arguments.site_proxy_port));
    let (for_api, for_site) = (app.clone(), app.clone());
    let api = axum::serve(api, router::api(app.clone())).with_graceful_shutdown(async move { for_api.stopped().await });
    let site = axum::serve(site, router::site(app)).with_graceful_shutdown(async move { for_site.stopped().await });
    let served = async { tokio::try_join!(api.into_future(), site.into_future()) };
    tokio::pin!(served);
    tokio::select! {
        result = &mut served => return result.map(drop).map_err(StartError::Serve),
        () = interrupts.next() => log::info("interrupted: requests under way are finished first"),
        // The exit code is the one of an orderly end, as with the real one.
        () = data.lease_lost() => log::error("the lease was taken over by a newer process; shutting down"),
    }
    stop.send_replace(true);
    tokio::select! {
        result = &mut served => result.map(drop).map_err(StartError::Serve),
        () = interrupts.next() => {
            log::info("interrupted again: not waiting any longer");
            Ok(())
        }
    }
}

/// Interrupts as they come. Nothing is done about SIGTERM, and so it kills, as it kills the real one.
struct Interrupts {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Interrupts {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        Ok(Self { signal })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        self.signal.recv().await;
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the same signature everywhere")]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
