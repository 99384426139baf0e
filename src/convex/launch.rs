//! From a placement to the exact command line and variables of a `convex-local-backend`.
//!
//! The rules are Convex's: boolean flags and variables stand only where they are true, nothing is ever empty, the
//! two origins come together, and so do the six variables of S3.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::buckets;
use super::database_url::{DatabaseUrlError, ROLE_PASSWORD, role_name, server_url, with_credentials};
use crate::model::{
    DatabaseRole, Digest, FieldPath, Files, PortPair, Release, ResolvedBackend, S3Files, STORAGE_TLS, STORAGE_URL, Secret,
    Storage, TextValue, Tls, Tuning,
};

/// How long old revisions are kept when nothing else is asked for, in seconds. The backend's own default is seven
/// times as long and costs as much disk; Convex's compose file sets this one.
pub const DEFAULT_DOCUMENT_RETENTION_S: u64 = 172_800;

/// The file inside the data directory that SQLite keeps the documents in.
pub const DATABASE_FILE: &str = "db.sqlite3";
/// The files of a database: what SQLite keeps beside one that was not closed comes after it.
pub const DATABASE_FILES: [&str; 3] = [DATABASE_FILE, "db.sqlite3-journal", "db.sqlite3-wal"];

/// What the name of an SQLite file ends with while no backend may start on it.
const LOCKED: &str = ".locked";

/// Returns the path of an SQLite file while no backend may start on it.
pub fn locked_database(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}{LOCKED}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// The directory inside the data directory that files are kept in.
pub const STORAGE_DIRECTORY: &str = "storage";

/// The variable through which our own simulated backend takes the instance secret.
pub const INSTANCE_SECRET_VARIABLE: &str = "INSTANCE_SECRET";

/// The variable through which our own simulated backend takes the URL of a database server.
pub const DATABASE_URL_VARIABLE: &str = "SIMULATED_DATABASE_URL";

/// Says how the process is given its instance secret, and the URL of its database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretDelivery {
    /// On the command line, which is the only way that Convex's binary knows. Every user who may list processes can read it.
    Flag,
    /// As a variable, which our own simulated backend understands.
    Variable,
    /// Not by the launch: the starter of the process adds the flag where it cannot be read.
    OutOfBand,
}

/// Says where a backend is to run, as far as the placement does not say it.
#[derive(Debug, Clone)]
pub struct LaunchTarget {
    /// The directory for the database file and the files, as the process sees it.
    pub data: PathBuf,
    /// The address that it listens on.
    pub interface: Ipv4Addr,
    /// The ports that it listens on.
    pub ports: PortPair,
    /// How it is given its secret.
    pub secret: SecretDelivery,
    /// The build that runs, where that is known better than from the specification.
    pub release: Option<Release>,
    /// The file with the certificates of `storage.tls`, as the process sees it, where they came as text.
    pub certificate_file: Option<PathBuf>,
}

/// One word of a command line, or one value of the environment.
#[derive(Clone, PartialEq, Eq)]
pub enum Argument {
    /// May be shown.
    Plain(OsString),
    /// May not be shown.
    Secret(Secret),
}

impl Argument {
    /// Returns the text itself, to be handed to a process.
    pub fn expose(&self) -> &OsStr {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => OsStr::new(secret.expose()),
        }
    }
}

impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => text.fmt(f),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

/// A command line and an environment. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// What follows the executable.
    pub arguments: Vec<Argument>,
    /// What is added to an otherwise small environment. The caller must not pass on variables of its own that the
    /// backend understands.
    pub environment: BTreeMap<String, Argument>,
}

impl Launch {
    /// Equal for equal launches. It covers the instance secret, so it gives no way to guess the other secrets.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let mut put = |text: &[u8]| {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text);
        };
        put(&(self.arguments.len() as u64).to_be_bytes());
        for argument in &self.arguments {
            put(argument.expose().as_encoded_bytes());
        }
        for (name, value) in &self.environment {
            put(name.as_bytes());
            put(value.expose().as_encoded_bytes());
        }
        Digest::of(&zeroize::Zeroizing::new(bytes))
    }

    fn push_argument(&mut self, text: impl Into<OsString>) {
        self.arguments.push(Argument::Plain(text.into()));
    }

    fn push_flag(&mut self, name: &str, value: impl Into<OsString>) {
        self.push_argument(name);
        self.push_argument(value);
    }

    pub(super) fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        let value = value.into();
        if !value.is_empty() {
            self.environment.insert(name.to_owned(), Argument::Plain(value));
        }
    }

    fn set_number(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.set_variable(name, value.to_string());
        }
    }
}

/// Says why a placement cannot be launched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The specification refers to a secret whose value was not handed in, or is empty.
    #[error("the value of `{field}` is missing")]
    MissingSecret {
        /// The field.
        field: FieldPath,
    },
    /// The database URL is not one that Convex takes.
    #[error("Convex does not take the URL in `{field}`")]
    DatabaseUrl {
        /// The field.
        field: FieldPath,
        /// Why not.
        #[source]
        source: DatabaseUrlError,
    },
    /// An origin is not the root of an `http` or `https` host.
    #[error("`{origin}` is not an origin: `http://` or `https://`, a host, and no slash at the end")]
    Origin {
        /// The origin.
        origin: String,
    },
}

/// Returns the command line and the variables for a placement.
///
/// # Errors
/// [`LaunchError`] says what the backend would refuse, or what is missing.
pub fn launch(placement: &ResolvedBackend, target: &LaunchTarget) -> Result<Launch, LaunchError> {
    let mut launch = Launch { arguments: Vec::new(), environment: BTreeMap::new() };
    let spec = &placement.spec;
    launch.push_flag("--instance-name", placement.instance_name.as_str());
    match target.secret {
        SecretDelivery::Flag => {
            launch.push_argument("--instance-secret");
            launch.arguments.push(Argument::Secret(placement.instance_secret.clone()));
        }
        SecretDelivery::Variable => {
            let secret = Argument::Secret(placement.instance_secret.clone());
            launch.environment.insert(INSTANCE_SECRET_VARIABLE.to_owned(), secret);
        }
        SecretDelivery::OutOfBand => {}
    }
    launch.push_flag("--interface", target.interface.to_string());
    launch.push_flag("--port", target.ports.api.to_string());
    launch.push_flag("--site-proxy-port", target.ports.site.to_string());
    launch.push_flag("--convex-origin", origin(&placement.endpoints.url)?);
    launch.push_flag("--convex-site", origin(&placement.endpoints.site_url)?);
    launch.push_flag("--beacon-tag", "convexinfra");
    match &spec.files {
        Files::Local => launch.push_flag("--local-storage", target.data.join(STORAGE_DIRECTORY)),
        Files::S3(s3) => s3_files(&mut launch, placement, s3)?,
    }
    if spec.tuning.beacon == Some(false) {
        launch.push_argument("--disable-beacon");
    }
    if spec.tuning.redact_logs == Some(true) {
        launch.push_argument("--redact-logs-to-client");
    }
    tuning(&mut launch, &spec.tuning);
    launch.set_variable("DISABLE_METRICS_ENDPOINT", "true");
    // A moving name says nothing about what runs.
    if let Some(release) = target.release.as_ref().or(spec.release.as_ref()).filter(|release| release.is_pinned()) {
        launch.set_variable("CONVEX_RELEASE_VERSION_DEV", release.to_string());
    }
    database(&mut launch, placement, target)?;
    Ok(launch)
}

pub(super) fn origin(text: &str) -> Result<&str, LaunchError> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && !text.ends_with('/') => Ok(text),
        _ => Err(LaunchError::Origin { origin: text.to_owned() }),
    }
}

fn secret(placement: &ResolvedBackend, field: &str) -> Result<Secret, LaunchError> {
    let field = FieldPath::new(field);
    match placement.secrets.get(&field) {
        Some(secret) if !secret.expose().is_empty() => Ok(secret.clone()),
        _ => Err(LaunchError::MissingSecret { field }),
    }
}

/// The database, which comes last because its place on the command line is the last one.
fn database(launch: &mut Launch, placement: &ResolvedBackend, target: &LaunchTarget) -> Result<(), LaunchError> {
    let (driver, ca_variable) = match &placement.spec.storage {
        Storage::Sqlite => {
            launch.push_argument(target.data.join(DATABASE_FILE));
            return Ok(());
        }
        Storage::Postgres(_) => ("postgres-v5", "PG_CA_FILE"),
        Storage::Mysql(_) => ("mysql-v5", "MYSQL_CA_FILE"),
    };
    let url = database_url(placement)?;
    match placement.spec.storage.server().map(|server| &server.tls) {
        Some(Tls::Disable) => launch.push_argument("--do-not-require-ssl"),
        Some(tls @ (Tls::Ca(_) | Tls::Pem(_) | Tls::Sealed(_))) => match (&target.certificate_file, tls) {
            (Some(file), _) => launch.set_variable(ca_variable, file),
            (None, Tls::Ca(file)) => launch.set_variable(ca_variable, file),
            (None, _) => return Err(LaunchError::MissingSecret { field: FieldPath::new(STORAGE_TLS) }),
        },
        Some(Tls::Verify) | None => {}
    }
    launch.push_flag("--db", driver);
    if target.secret == SecretDelivery::Variable {
        launch.environment.insert(DATABASE_URL_VARIABLE.to_owned(), Argument::Secret(url));
    } else {
        launch.arguments.push(Argument::Secret(url));
    }
    Ok(())
}

/// Returns the URL with which a backend enters its server: completed with what the protection needs, and under the name of
/// its own role where it has one.
///
/// # Errors
/// [`LaunchError`] when a part is missing, or Convex would not take the URL.
pub fn database_url(placement: &ResolvedBackend) -> Result<Secret, LaunchError> {
    let refused = |source| LaunchError::DatabaseUrl { field: FieldPath::new(STORAGE_URL), source };
    let storage = &placement.spec.storage;
    let url = server_url(storage, &secret(placement, STORAGE_URL)?).map_err(refused)?;
    match storage.server().map(|server| server.role) {
        Some(DatabaseRole::LeastPrivilege) => {
            with_credentials(&url, &role_name(&placement.id), &secret(placement, ROLE_PASSWORD)?).map_err(refused)
        }
        Some(DatabaseRole::Url) | None => Ok(url),
    }
}

pub(super) fn s3_files(launch: &mut Launch, placement: &ResolvedBackend, s3: &S3Files) -> Result<(), LaunchError> {
    launch.push_argument("--s3-storage");
    launch.set_variable("AWS_REGION", &s3.region);
    for (variable, part) in buckets::PARTS {
        launch.set_variable(variable, buckets::bucket_name(&s3.buckets, part));
    }
    match &s3.endpoint {
        Some(TextValue::Literal(url)) => launch.set_variable("S3_ENDPOINT_URL", url),
        Some(TextValue::Reference(_)) => {
            let url = secret(placement, "files.endpoint")?;
            launch.environment.insert("S3_ENDPOINT_URL".to_owned(), Argument::Secret(url));
        }
        None => {}
    }
    if s3.path_style {
        launch.set_variable("AWS_S3_FORCE_PATH_STYLE", "true");
    }
    if s3.credentials.is_some() {
        for (variable, field) in
            [("AWS_ACCESS_KEY_ID", "files.access_key_id"), ("AWS_SECRET_ACCESS_KEY", "files.secret_access_key")]
        {
            launch.environment.insert(variable.to_owned(), Argument::Secret(secret(placement, field)?));
        }
    }
    Ok(())
}

pub(super) fn tuning(launch: &mut Launch, tuning: &Tuning) {
    launch.set_number("APPLICATION_MAX_CONCURRENT_QUERIES", tuning.max_concurrent_queries);
    launch.set_number("APPLICATION_MAX_CONCURRENT_MUTATIONS", tuning.max_concurrent_mutations);
    launch.set_number("APPLICATION_MAX_CONCURRENT_V8_ACTIONS", tuning.max_concurrent_v8_actions);
    launch.set_number("APPLICATION_MAX_CONCURRENT_NODE_ACTIONS", tuning.max_concurrent_node_actions);
    launch.set_number("SCHEDULED_JOB_EXECUTION_PARALLELISM", tuning.scheduled_job_parallelism);
    let retention = tuning.document_retention.map_or(DEFAULT_DOCUMENT_RETENTION_S, |span| span.seconds());
    launch.set_number("DOCUMENT_RETENTION_DELAY", Some(retention));
    launch.set_number("INDEX_RETENTION_DELAY", tuning.index_retention.map(|span| span.seconds()));
    launch.set_number("HTTP_SERVER_TIMEOUT_SECONDS", tuning.http_timeout.map(|span| span.seconds()));
    launch.set_number("V8_ACTION_USER_TIMEOUT_SECS", tuning.v8_action_timeout.map(|span| span.seconds()));
    launch.set_number("NODE_ACTION_USER_TIMEOUT_SECS", tuning.node_action_timeout.map(|span| span.seconds()));
    launch.set_number("INDEX_CACHE_SIZE", tuning.index_cache.map(|size| size.bytes()));
    launch.set_number("RUST_LOG", tuning.log_level.as_deref());
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
