//! From the variables of a running backend back to the knobs of a manifest, and what of them has no word there.
//!
//! The other direction is [`super::launch`]. Must not do: show a value; a variable may hold a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::launch::DEFAULT_DOCUMENT_RETENTION_S;
use crate::model::{ByteSize, TimeSpan, Tuning};

/// How long the backend keeps old revisions where nothing is said, in seconds.
const BACKEND_DOCUMENT_RETENTION_S: u64 = 14 * 24 * 60 * 60;
/// What the backend logs where nothing is said.
const BACKEND_LOG_LEVEL: &str = "info";

/// Variables that say something else than a knob, and something that a manifest has other words for, or nothing that
/// matters once convexinfra starts the backend.
const HANDLED_ELSEWHERE: [&str; 34] = [
    "INSTANCE_NAME",
    "INSTANCE_SECRET",
    "CONVEX_CLOUD_ORIGIN",
    "CONVEX_SITE_ORIGIN",
    "CONVEX_RELEASE_VERSION_DEV",
    "DATABASE_URL",
    "POSTGRES_URL",
    "MYSQL_URL",
    "DO_NOT_REQUIRE_SSL",
    "PG_CA_FILE",
    "MYSQL_CA_FILE",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_S3_FORCE_PATH_STYLE",
    "S3_ENDPOINT_URL",
    "S3_STORAGE_EXPORTS_BUCKET",
    "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET",
    "S3_STORAGE_MODULES_BUCKET",
    "S3_STORAGE_FILES_BUCKET",
    "S3_STORAGE_SEARCH_BUCKET",
    "CREDENTIALS_DIR",
    "DATA_DIR",
    "STORAGE_DIR",
    "SQLITE_DB",
    "TMPDIR",
    "PORT",
    "SITE_PROXY_PORT",
    "PATH",
    "HOME",
    "HOSTNAME",
    "LANG",
    "TERM",
    "npm_config_cache",
];

/// The variables of knobs.
const KNOBS: [&str; 15] = [
    "DOCUMENT_RETENTION_DELAY",
    "INDEX_RETENTION_DELAY",
    "APPLICATION_MAX_CONCURRENT_QUERIES",
    "APPLICATION_MAX_CONCURRENT_MUTATIONS",
    "APPLICATION_MAX_CONCURRENT_V8_ACTIONS",
    "APPLICATION_MAX_CONCURRENT_NODE_ACTIONS",
    "SCHEDULED_JOB_EXECUTION_PARALLELISM",
    "HTTP_SERVER_TIMEOUT_SECONDS",
    "V8_ACTION_USER_TIMEOUT_SECS",
    "NODE_ACTION_USER_TIMEOUT_SECS",
    "INDEX_CACHE_SIZE",
    "REDACT_LOGS_TO_CLIENT",
    "DISABLE_BEACON",
    "RUST_LOG",
    "NO_COLOR",
];

/// Returns whether the launch of a backend decides a variable, so that it cannot be set otherwise.
pub fn is_set_by_launch(name: &str) -> bool {
    HANDLED_ELSEWHERE.contains(&name) || KNOBS.contains(&name) || name.starts_with("CONVEXINFRA_")
}

/// Describes what the variables of a backend say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParsedTuning {
    /// The knobs, each as it takes effect.
    pub tuning: Tuning,
    /// The names of those that a manifest has no word for, or that are not written as the backend reads them.
    pub inexpressible: BTreeSet<String>,
}

/// Reads the variables of a backend that the official image starts.
pub fn parse_tuning(variables: &BTreeMap<String, String>) -> ParsedTuning {
    let mut reader = VariableReader { variables, rest: BTreeSet::new() };
    let ours = |name: &str| HANDLED_ELSEWHERE.contains(&name);
    reader
        .rest
        .extend(variables.iter().filter(|(name, value)| !value.is_empty() && !ours(name)).map(|(name, _)| name.as_str()));
    let seconds = TimeSpan::from_seconds;
    let retention = reader.take("DOCUMENT_RETENTION_DELAY").unwrap_or(BACKEND_DOCUMENT_RETENTION_S);
    let tuning = Tuning {
        max_concurrent_queries: reader.take("APPLICATION_MAX_CONCURRENT_QUERIES"),
        max_concurrent_mutations: reader.take("APPLICATION_MAX_CONCURRENT_MUTATIONS"),
        max_concurrent_v8_actions: reader.take("APPLICATION_MAX_CONCURRENT_V8_ACTIONS"),
        max_concurrent_node_actions: reader.take("APPLICATION_MAX_CONCURRENT_NODE_ACTIONS"),
        scheduled_job_parallelism: reader.take("SCHEDULED_JOB_EXECUTION_PARALLELISM"),
        document_retention: Some(retention).filter(|retention| *retention != DEFAULT_DOCUMENT_RETENTION_S).map(seconds),
        index_retention: reader.take("INDEX_RETENTION_DELAY").map(seconds),
        http_timeout: reader.take("HTTP_SERVER_TIMEOUT_SECONDS").map(seconds),
        v8_action_timeout: reader.take("V8_ACTION_USER_TIMEOUT_SECS").map(seconds),
        node_action_timeout: reader.take("NODE_ACTION_USER_TIMEOUT_SECS").map(seconds),
        index_cache: reader.take("INDEX_CACHE_SIZE").map(ByteSize::from_bytes),
        // The image takes any value for a yes.
        redact_logs: reader.take::<String>("REDACT_LOGS_TO_CLIENT").map(|_| true),
        beacon: reader.take::<String>("DISABLE_BEACON").map(|_| false),
        log_level: reader.take("RUST_LOG").filter(|level| level != BACKEND_LOG_LEVEL),
    };
    // It always is off where convexinfra starts a backend.
    if variables.get("DISABLE_METRICS_ENDPOINT").is_some_and(|value| value == "true") {
        reader.rest.remove("DISABLE_METRICS_ENDPOINT");
    }
    reader.rest.remove("NO_COLOR");
    ParsedTuning { tuning, inexpressible: reader.rest.into_iter().map(str::to_owned).collect() }
}

/// Returns the same knobs without those that say what leaving them out says too.
pub fn without_defaults(tuning: &Tuning) -> Tuning {
    let retention = tuning.document_retention.filter(|span| span.seconds() != DEFAULT_DOCUMENT_RETENTION_S);
    Tuning {
        document_retention: retention,
        redact_logs: tuning.redact_logs.filter(|redacted| *redacted),
        beacon: tuning.beacon.filter(|sent| !*sent),
        log_level: tuning.log_level.clone().filter(|level| level != BACKEND_LOG_LEVEL),
        ..tuning.clone()
    }
}

struct VariableReader<'a> {
    variables: &'a BTreeMap<String, String>,
    /// The names that nothing has read yet.
    rest: BTreeSet<&'a str>,
}

impl VariableReader<'_> {
    /// Returns a value that is not written as the backend reads it has no effect, and stays among the rest.
    fn take<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.variables.get(name).filter(|value| !value.is_empty())?.parse().ok()?;
        self.rest.remove(name);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_official_compose_file_with_some_of_its_variables_set() {
        let read = parse_tuning(&variables(&[
            ("INSTANCE_NAME", "a"),
            ("CONVEX_CLOUD_ORIGIN", "http://127.0.0.1:3210"),
            ("REDACT_LOGS_TO_CLIENT", "false"),
            ("DISABLE_BEACON", "true"),
            ("DOCUMENT_RETENTION_DELAY", "604800"),
            ("RUST_LOG", "debug"),
            ("APPLICATION_MAX_CONCURRENT_MUTATIONS", "32"),
            ("APPLICATION_MAX_CONCURRENT_QUERIES", "many"),
            ("ACTIONS_USER_TIMEOUT_SECS", "900"),
            ("HTTP_SERVER_TIMEOUT_SECONDS", "60"),
            ("INDEX_CACHE_SIZE", "1048576"),
            ("DISABLE_METRICS_ENDPOINT", "true"),
            ("SENTRY_DSN", ""),
        ]));
        let tuning = Tuning {
            redact_logs: Some(true),
            beacon: Some(false),
            document_retention: Some(TimeSpan::from_seconds(604_800)),
            log_level: Some("debug".to_owned()),
            max_concurrent_mutations: Some(32),
            http_timeout: Some(TimeSpan::from_seconds(60)),
            index_cache: Some(ByteSize::from_bytes(1_048_576)),
            ..Tuning::default()
        };
        assert_eq!(read.tuning, tuning);
        let left: Vec<&str> = read.inexpressible.iter().map(String::as_str).collect();
        assert_eq!(left, ["ACTIONS_USER_TIMEOUT_SECS", "APPLICATION_MAX_CONCURRENT_QUERIES"]);
    }

    #[test]
    fn an_omitted_setting_has_the_default_of_the_backend() {
        let two_weeks = Some(TimeSpan::from_seconds(1_209_600));
        assert_eq!(parse_tuning(&variables(&[])).tuning, Tuning { document_retention: two_weeks, ..Tuning::default() });
        // What convexinfra sets itself is as good as left out.
        let usual = variables(&[("DOCUMENT_RETENTION_DELAY", "172800"), ("RUST_LOG", "info"), ("DISABLE_BEACON", "")]);
        assert_eq!(parse_tuning(&usual), ParsedTuning::default());
        let written = Tuning {
            document_retention: Some(TimeSpan::from_seconds(172_800)),
            redact_logs: Some(false),
            beacon: Some(true),
            log_level: Some("info".to_owned()),
            max_concurrent_queries: Some(16),
            ..Tuning::default()
        };
        assert_eq!(without_defaults(&written), Tuning { max_concurrent_queries: Some(16), ..Tuning::default() });
    }
}
