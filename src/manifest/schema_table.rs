//! Every key that a manifest may have, once: the reader checks against these tables and the schema is made of them.

mod providers;

pub(super) use self::providers::PROVIDERS;
use super::formats;
use super::schema_kind::key;
pub(super) use super::schema_kind::{Key, Kind, Table};
use crate::model::EnvFileContents;
use crate::policy::specification::MAX_COUNT;

pub(super) static STORAGE_ENGINES: &[&str] = &["sqlite", "postgres", "mysql"];
pub(super) static FILE_ENGINES: &[&str] = &["local", "s3"];
pub(super) static DATABASE_ROLES: &[&str] = &["url", "least_privilege"];
pub(super) static TLS_MODES: &[&str] = &["verify", "disable"];

pub(super) static ROOT: Table = Table {
    title: "The manifest of convexinfra",
    shared: false,
    keys: &[
        key("project", Kind::Text(&formats::NAME), "The project: one namespace of backends inside one control plane.")
            .alias(&["name"]),
        key("control_plane", Kind::Table(&CONTROL_PLANE), "Who allocates backends; left out, it is the one on this machine."),
        key("budget", Kind::Table(&BUDGET), "Ceilings over all backends of this manifest; a plan over them is refused."),
        key("defaults", Kind::Table(&DEFAULTS), "Every backend starts from these; tables are merged key by key.")
            .alias(&["default"]),
        key("backends", Kind::Backends(&BACKEND), "The backends, by name.").alias(&["backend", "deployments", "environments"]),
        key("servers", Kind::Servers(&SERVER), "Machines of your own with a Docker engine, by name.")
            .alias(&["server", "hosts"]),
        key("moved", Kind::Tables(&MOVED), "Renames that keep the data: without an entry here a rename is destroy and create.")
            .alias(&["renamed"]),
    ],
};

static CONTROL_PLANE: Table = Table {
    title: "The control plane",
    shared: false,
    keys: &[key("url", Kind::Text(&formats::CONTROL_PLANE), "Its URL.").alias(&["endpoint", "address"])],
};

static BUDGET: Table = Table {
    title: "Ceilings over all backends",
    shared: false,
    keys: &[
        key("cpus", Kind::Cores, "Processor cores.").alias(&["cpu", "cores"]),
        key("memory", Kind::Size, "Memory.").alias(&["ram"]),
        key("disk", Kind::Size, "Disk.").alias(&["volume"]),
        key("monthly_usd", Kind::Money, "US dollars a month.").alias(&["cost", "usd", "monthly"]),
    ],
};

pub(super) static SERVER: Table = Table {
    title: "A machine of your own with a Docker engine, reached over SSH",
    shared: false,
    keys: &[
        key("host", Kind::Text(&formats::SSH_HOST), "`user@host`, a host, or an alias of your SSH configuration.")
            .alias(&["ssh", "address", "hostname"]),
        key("port", Kind::Count(MAX_PORT), "The port of its SSH server; what your SSH configuration says when left out."),
        key(
            "identity",
            Kind::Text(&formats::PATH),
            "The file of the private key to log in with, relative to the manifest; your SSH configuration and agent decide when left out.",
        )
        .alias(&["identity_file", "key"]),
        key("host_key", Kind::Text(&formats::HOST_KEY), "The only host key that is accepted; your known hosts decide when left out."),
        key("proxy_image", Kind::Text(&formats::IMAGE), "The image of the proxy there instead of the official one of Caddy."),
        key("socket", Kind::Text(&formats::SOCKET), "The socket of its engine; `/var/run/docker.sock` when left out."),
    ],
};

pub(super) static DEFAULTS: Table = Table { title: "What every backend starts from", keys: &BACKEND_KEYS, shared: true };
pub(super) static BACKEND: Table = Table { title: "One backend", keys: &BACKEND_KEYS, shared: false };

static BACKEND_KEYS: [Key; COMMON_KEYS.len() + PROVIDERS.len()] = providers::with_provider_keys(COMMON_KEYS);

/// The keys of a backend at any provider.
const COMMON_KEYS: &[Key] = &[
    key("provider", Kind::Word("manifest.unknown_provider", "a provider", &PROVIDERS), "Where it runs.")
        .alias(&["type", "kind", "driver", "platform", "target"]),
    key("server", Kind::Text(&formats::NAME), "The server whose Docker engine runs it, by its name in `[servers]`. A change moves data."),
    key(
        "release",
        Kind::Release,
        "Which Convex build runs. A change restarts it, and goes forward only. `{ tag, sha256 }` pins the archive of provider `local`.",
    )
        .alias(&["version", "tag", "image"]),
    key("region", Kind::Text(&formats::REGION), "The provider's region. A change moves data.").alias(&["location"]),
    key("dashboard", Kind::Flag, "Whether a dashboard of the same release runs beside it."),
    key("protected", Kind::Flag, "Whether every plan that would destroy it is refused, even when its block is removed.")
        .alias(&["protect", "prevent_destroy"]),
    key("ttl", Kind::Duration, "How long it lives before the control plane removes it by itself.").alias(&[
        "expires",
        "expiration",
        "lifetime",
    ]),
    key("depends_on", Kind::Names, "Backends that must be ready before this one is touched.")
        .own()
        .alias(&["depends", "needs", "requires"]),
    key(
        "env_file",
        Kind::EnvFiles,
        "The file that tells clients where it is, relative to the manifest and inside its repository; or a list of files, each a path or `{ path = \"…\", vars = \"pair\" }` (`pair`: URL and admin key, `client`: the framework's own URL variables, `both`).",
    )
    .own()
    .alias(&["dotenv", "env_files"]),
    key("client_vars", Kind::Flag, "Whether the framework's own URL variables are written into env files that do not say `vars`."),
    key("storage", Kind::Table(&STORAGE), "Where its documents are kept. A change moves data.").alias(&["database", "db"]),
    key("files", Kind::Table(&FILES), "Where its files are kept. A change moves data.").alias(&["file_storage", "s3"]),
    key("resources", Kind::Table(&RESOURCES), "What it may use; left out, the provider decides.").alias(&["limits", "size"]),
    key("origins", Kind::Table(&ORIGINS), "The URLs under which clients reach it, where they are not the provider's own.")
        .own()
        .alias(&["urls", "domains"]),
    key("domain", Kind::Text(&formats::DOMAIN), "Short for `origins` with the hosts `api.DOMAIN` and `DOMAIN`.").own(),
    key(
        "tls",
        Kind::RouteTls,
        "That convexinfra's own proxy on its Docker engine serves the origins, and where their certificates come from: `auto` (public authorities), `internal` (an authority of the proxy's own) `{ acme }` (one authority) or `{ cert, key }`. `auto` where there is a `domain`; left out otherwise, the proxy is yours.",
    )
    .alias(&["https", "certificate"]),
    key("tuning", Kind::Table(&TUNING), "The backend's own knobs.").alias(&["knobs", "settings"]),
    key("env", Kind::Variables, "Convex environment variables, set through the deployment's own API.").alias(&[
        "environment",
        "vars",
        "variables",
        "secrets",
    ]),
];

pub(super) static ENV_FILE: Table = Table {
    title: "One env file",
    shared: false,
    keys: &[
        key("path", Kind::Text(&formats::PATH), "The file, relative to the manifest and inside its repository.")
            .alias(&["file"]),
        key(
            "vars",
            Kind::Word("manifest.unknown_env_file_vars", "what an env file has", &EnvFileContents::WORDS),
            "`pair` (URL and admin key), `client` (the framework's own URL variables) or `both`.",
        )
        .alias(&["variables", "contents"]),
    ],
};

static STORAGE: Table = Table {
    title: "Where documents are kept",
    shared: false,
    keys: &[
        key(
            "engine",
            Kind::Word("manifest.unknown_engine", "a storage engine", STORAGE_ENGINES),
            "Which database; `sqlite` when left out.",
        )
        .alias(&["type", "kind", "driver"]),
        key("url", Kind::Secret, "The server's URL with user and password, without a path: Convex names the database itself."),
        key("managed", Kind::Flag, "Whether the provider runs the server itself."),
        key("region", Kind::Text(&formats::REGION), "Where the server is, for the warning about distance."),
        key("tls", Kind::Tls, "How the connection is protected; `verify` when left out.").alias(&["ssl", "sslmode"]),
        key(
            "role",
            Kind::Word("manifest.unknown_database_role", "a role", DATABASE_ROLES),
            "As whom the backend enters: `url`, the user of the URL, when left out, or `least_privilege`, a role of its own that is made for it.",
        )
        .alias(&["user"]),
    ],
};

static FILES: Table = Table {
    title: "Where files are kept",
    shared: false,
    keys: &[
        key(
            "engine",
            Kind::Word("manifest.unknown_engine", "a file engine", FILE_ENGINES),
            "Which kind; `local` when left out.",
        )
        .alias(&["type", "kind", "driver"]),
        key("bucket", Kind::Text(&formats::BUCKET), "One bucket for everything."),
        key(
            "bucket_prefix",
            Kind::Text(&formats::BUCKET_PREFIX),
            "Five buckets: this and `-exports`, `-snapshot-imports`, `-modules`, `-files`, `-search`.",
        )
        .alias(&["prefix"]),
        key(
            "buckets",
            Kind::Table(&BUCKETS),
            "Buckets that have names of their own: all five, or those that are not as `bucket` or `bucket_prefix` says.",
        ),
        key("region", Kind::Text(&formats::REGION), "The service's region."),
        key("endpoint", Kind::TextOrSecret(&formats::ENDPOINT), "The service's URL where it is not AWS.")
            .alias(&["url", "endpoint_url"]),
        key("path_style", Kind::Flag, "Whether the bucket's name stands in the path instead of the host.")
            .alias(&["force_path_style"]),
        key("access_key_id", Kind::Secret, "The access key's id; without credentials the machine's role is used.")
            .alias(&["access_key"]),
        key("secret_access_key", Kind::Secret, "The secret access key.").alias(&["secret_key"]),
        key("create_buckets", Kind::Flag, "Whether buckets that are missing are made for a new backend.")
            .alias(&["create_bucket"]),
    ],
};

static BUCKETS: Table = Table {
    title: "Names of the five buckets",
    shared: false,
    keys: &[
        key("exports", Kind::Text(&formats::BUCKET), "Exports; `S3_STORAGE_EXPORTS_BUCKET`."),
        key(
            "snapshot_imports",
            Kind::Text(&formats::BUCKET),
            "Snapshots that are imported; `S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET`.",
        )
        .alias(&["imports"]),
        key("modules", Kind::Text(&formats::BUCKET), "The code of functions; `S3_STORAGE_MODULES_BUCKET`."),
        key("files", Kind::Text(&formats::BUCKET), "Uploaded files; `S3_STORAGE_FILES_BUCKET`."),
        key("search", Kind::Text(&formats::BUCKET), "Search indexes; `S3_STORAGE_SEARCH_BUCKET`."),
    ],
};

static RESOURCES: Table = Table {
    title: "What a backend may use",
    shared: false,
    keys: &[
        key("cpus", Kind::Cores, "Processor cores.").alias(&["cpu", "cores"]),
        key("memory", Kind::Size, "Memory.").alias(&["ram"]),
        key("disk", Kind::Size, "Disk; it only grows.").alias(&["volume"]),
    ],
};

static ORIGINS: Table = Table {
    title: "URLs under which clients reach a backend",
    shared: false,
    keys: &[
        key("api", Kind::Text(&formats::API_ORIGIN), "Of the API: a host root, because clients drop any path.")
            .alias(&["cloud"]),
        key("site", Kind::Text(&formats::SITE_ORIGIN), "Of the HTTP actions.").alias(&["http"]),
        key("dashboard", Kind::Text(&formats::API_ORIGIN), "Of the dashboard, where convexinfra's own proxy leads to it."),
    ],
};

static TUNING: Table = Table {
    title: "The backend's own knobs",
    shared: false,
    keys: &[
        key("max_concurrent_queries", Kind::Count(MAX_COUNT), "`APPLICATION_MAX_CONCURRENT_QUERIES`"),
        key("max_concurrent_mutations", Kind::Count(MAX_COUNT), "`APPLICATION_MAX_CONCURRENT_MUTATIONS`"),
        key("max_concurrent_v8_actions", Kind::Count(MAX_COUNT), "`APPLICATION_MAX_CONCURRENT_V8_ACTIONS`"),
        key("max_concurrent_node_actions", Kind::Count(MAX_COUNT), "`APPLICATION_MAX_CONCURRENT_NODE_ACTIONS`"),
        key("scheduled_job_parallelism", Kind::Count(MAX_COUNT), "`SCHEDULED_JOB_EXECUTION_PARALLELISM`"),
        key("document_retention", Kind::Duration, "`DOCUMENT_RETENTION_DELAY`; two days when left out."),
        key("index_retention", Kind::Duration, "`INDEX_RETENTION_DELAY`"),
        key("http_timeout", Kind::Duration, "`HTTP_SERVER_TIMEOUT_SECONDS`"),
        key("v8_action_timeout", Kind::Duration, "`V8_ACTION_USER_TIMEOUT_SECS`"),
        key("node_action_timeout", Kind::Duration, "`NODE_ACTION_USER_TIMEOUT_SECS`"),
        key("index_cache", Kind::Size, "`INDEX_CACHE_SIZE`"),
        key("redact_logs", Kind::Flag, "Whether logs are redacted before clients see them."),
        key("beacon", Kind::Flag, "Whether the hourly message to Convex is sent."),
        key("log_level", Kind::Text(&formats::LINE), "`RUST_LOG`"),
    ],
};

const MAX_PORT: u32 = 65_535;

static MOVED: Table = Table {
    title: "A rename that keeps the data",
    shared: false,
    keys: &[
        key("from", Kind::Text(&formats::NAME), "The name that the backend had."),
        key("to", Kind::Text(&formats::NAME), "The name that the backend has now."),
    ],
};

/// `{ env = "NAME" }` or `{ file = "path" }`
pub(super) static SECRET: Table = Table {
    title: "Where a secret comes from: one of the two",
    shared: false,
    keys: &[
        key("env", Kind::Text(&formats::VARIABLE), "A variable of the environment in which convexinfra runs.")
            .alias(&["variable", "var"]),
        key("file", Kind::Text(&formats::PATH), "A file, relative to the manifest.").alias(&["path"]),
    ],
};

/// `{ tag = "…", sha256 = "…" }`
pub(super) static PINNED_RELEASE: Table = Table {
    title: "A release whose archive is pinned",
    shared: false,
    keys: &[
        key("tag", Kind::Text(&formats::RELEASE), "The release."),
        key("sha256", Kind::Text(&formats::SHA256), "The SHA-256 of its archive for this machine; any other one is refused.")
            .alias(&["digest", "checksum"]),
    ],
};

/// `{ cert = { file = "…" }, key = { file = "…" } }`, or `{ acme = "…" }`
pub(super) static ROUTE_TLS: Table = Table {
    title: "A certificate for all hosts of a backend, or the authority that gives them out",
    shared: false,
    keys: &[
        key("cert", Kind::Secret, "The certificate in PEM, with those that lead to its issuer.").alias(&["certificate"]),
        key("key", Kind::Secret, "Its private key in PEM."),
        key(
            "acme",
            Kind::Text(&formats::ACME_DIRECTORY),
            "Instead: the directory of an authority that speaks ACME, or `staging` for Let's Encrypt's.",
        )
        .alias(&["directory"]),
        key(
            "root",
            Kind::Secret,
            "The certificate in PEM that this authority's own endpoint is trusted by, where it is no public one.",
        )
        .alias(&["ca"]),
    ],
};

/// `{ ca = "path" }`
pub(super) static TLS: Table = Table {
    title: "Certificates to trust as well",
    shared: false,
    keys: &[key("ca", Kind::Text(&formats::PATH), "A file of PEM certificates.").alias(&["ca_file", "file"])],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProviderKind;

    #[test]
    fn words_are_those_of_the_model() {
        assert_eq!(PROVIDERS, ProviderKind::ALL.map(ProviderKind::as_str));
        for provider in PROVIDERS {
            assert!(matches!(BACKEND.key(provider).unwrap().kind, Kind::Table(_)));
        }
    }

    #[test]
    fn keys_of_one_backend_are_refused_in_defaults() {
        assert!(DEFAULTS.key("env_file").is_none() && BACKEND.key("env_file").is_some());
    }
}
