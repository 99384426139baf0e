//! From a checked tree to the model's nouns.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{BackendView, ManifestView, routes};
use super::tree::{EngineTable, Entry, MergedTable, TableNode, Value};
use crate::convex::buckets::bucket_name;
use crate::model::{
    BackendName, BackendSpec, BucketNames, Budget, ByteSize, DEFAULT_ENV_FILE, DatabaseRole, Desired, DesiredBackend, Digest,
    EnvFileContents, EnvFileTarget, Files, Moved, NamedBuckets, Origins, ProjectName, ProviderKind, ProviderSettings,
    Resources, RouteTls, S3Credentials, S3Files, SecretSource, Server, ServerStorage, SettingsReader, Storage, TextValue, Tls,
    Tuning,
};

/// What the manifest wants; nothing when something that a rule asks for is not there.
pub(super) fn lower(document: &ManifestView<'_, '_>) -> Option<Desired> {
    let control_plane = MergedTable { own: document.root.table("control_plane"), base: None };
    let budget = MergedTable { own: document.root.table("budget"), base: None };
    let mut backends = BTreeMap::new();
    for backend in &document.backends {
        let name = BackendName::parse(backend.name).ok()?;
        backends.insert(name, desired_backend(document, backend)?);
    }
    Some(Desired {
        project: ProjectName::parse(document.project?).ok()?,
        control_plane: control_plane.text("url").map(|url| url.trim_end_matches('/').to_owned()),
        budget: Budget {
            cpus: budget.cores("cpus"),
            memory: budget.size("memory"),
            disk: budget.size("disk"),
            monthly_usd: budget.money("monthly_usd"),
        },
        backends,
        moved: document
            .root
            .get("moved")
            .map(|entry| entry.list())
            .unwrap_or_default()
            .iter()
            .map(|entry| moved(entry.table()?))
            .collect::<Option<_>>()?,
        manifest: Digest::of(document.text.as_bytes()),
        origin: String::new(),
    })
}

fn moved(node: &TableNode<'_>) -> Option<Moved> {
    let name = |key: &str| node.get(key).and_then(|entry| entry.text()).and_then(|text| BackendName::parse(text).ok());
    Some(Moved { from: name("from")?, to: name("to")? })
}

fn desired_backend(document: &ManifestView<'_, '_>, backend: &BackendView<'_, '_>) -> Option<DesiredBackend> {
    let view = backend.view;
    let provider = ProviderKind::parse(view.word("provider")?)?;
    let mut spec = BackendSpec::new(provider);
    spec.release = view.release("release");
    spec.region = view.text("region");
    spec.dashboard = view.flag("dashboard").unwrap_or_default();
    spec.protected = view.flag("protected").unwrap_or_default();
    spec.ttl = view.duration("ttl");
    spec.depends_on = names(&view)?;
    spec.storage = storage(&backend.storage)?;
    spec.files = files(&backend.files)?;
    let resources = view.table("resources");
    spec.resources =
        Resources { cpus: resources.cores("cpus"), memory: resources.size("memory"), disk: resources.size("disk") };
    let origins = view.table("origins");
    spec.origins = match view.text("domain") {
        Some(domain) => routes::origins_of(&domain),
        None => Origins { api: origins.text("api"), site: origins.text("site"), dashboard: origins.text("dashboard") },
    };
    spec.tuning = tuning(&view.table("tuning"));
    spec.env = variables(&view.table("env"));
    spec.settings = settings(provider, &view, document.root.table("servers"));
    // With one backend there is no doubt whom `.env.local` belongs to.
    let contents = if view.flag("client_vars").unwrap_or_default() { EnvFileContents::Both } else { EnvFileContents::Pair };
    let named = |entry: &Entry<'_>| {
        let (path, vars) = entry.env_file()?;
        Some(EnvFileTarget { path: path.to_owned(), contents: vars.unwrap_or(contents) })
    };
    let env_files = match view.get("env_file") {
        Some(entry) => entry.list().iter().filter_map(named).collect(),
        None if document.backends.len() == 1 => vec![EnvFileTarget { path: DEFAULT_ENV_FILE.to_owned(), contents }],
        None => Vec::new(),
    };
    Some(DesiredBackend { spec, env_files, secrets: BTreeMap::new(), templates: BTreeMap::new(), certificate_file: None })
}

fn names(view: &MergedTable<'_, '_>) -> Option<BTreeSet<BackendName>> {
    let list = view.get("depends_on").map(|entry| entry.list()).unwrap_or_default();
    list.iter().map(|entry| BackendName::parse(entry.text()?).ok()).collect()
}

fn storage(view: &EngineTable<'_, '_>) -> Option<Storage> {
    let server = || ServerStorage {
        url: view.secret("url"),
        managed: view.flag("managed"),
        region: view.text("region"),
        tls: match view.get("tls").map(|entry| &entry.value) {
            Some(Value::Tls(tls)) => tls.clone(),
            _ => Tls::default(),
        },
        role: match view.view.word("role") {
            Some("least_privilege") => DatabaseRole::LeastPrivilege,
            _ => DatabaseRole::Url,
        },
    };
    match view.view.word("engine").unwrap_or("sqlite") {
        "sqlite" => Some(Storage::Sqlite),
        "postgres" => Some(Storage::Postgres(server())),
        "mysql" => Some(Storage::Mysql(server())),
        _ => None,
    }
}

fn files(view: &EngineTable<'_, '_>) -> Option<Files> {
    if view.view.word("engine").unwrap_or("local") == "local" {
        return Some(Files::Local);
    }
    let others = match (view.text("bucket"), view.text("bucket_prefix")) {
        (Some(bucket), _) => Some(BucketNames::Single(bucket)),
        (None, prefix) => prefix.map(BucketNames::Prefix),
    };
    let buckets = if view.get("buckets").is_some() {
        let table = view.table("buckets");
        let name = |key: &str| table.text(key).or_else(|| Some(bucket_name(others.as_ref()?, &key.replace('_', "-"))));
        BucketNames::Named(NamedBuckets {
            exports: name("exports")?,
            snapshot_imports: name("snapshot_imports")?,
            modules: name("modules")?,
            files: name("files")?,
            search: name("search")?,
        })
    } else {
        others?
    };
    let endpoint = match view.get("endpoint").map(|entry| &entry.value) {
        Some(Value::TextOrSecret(TextValue::Literal(url))) => Some(TextValue::Literal(url.trim_end_matches('/').to_owned())),
        Some(Value::TextOrSecret(value)) => Some(value.clone()),
        _ => None,
    };
    let credentials = match (view.secret("access_key_id"), view.secret("secret_access_key")) {
        (Some(access_key_id), Some(secret_access_key)) => Some(S3Credentials { access_key_id, secret_access_key }),
        _ => None,
    };
    let path_style = view.flag("path_style");
    let create_buckets = view.flag("create_buckets");
    Some(Files::S3(S3Files { buckets, region: view.text("region")?, endpoint, path_style, credentials, create_buckets }))
}

fn tuning(view: &MergedTable<'_, '_>) -> Tuning {
    Tuning {
        max_concurrent_queries: view.count("max_concurrent_queries"),
        max_concurrent_mutations: view.count("max_concurrent_mutations"),
        max_concurrent_v8_actions: view.count("max_concurrent_v8_actions"),
        max_concurrent_node_actions: view.count("max_concurrent_node_actions"),
        scheduled_job_parallelism: view.count("scheduled_job_parallelism"),
        document_retention: view.duration("document_retention"),
        index_retention: view.duration("index_retention"),
        http_timeout: view.duration("http_timeout"),
        v8_action_timeout: view.duration("v8_action_timeout"),
        node_action_timeout: view.duration("node_action_timeout"),
        index_cache: view.size("index_cache"),
        redact_logs: view.flag("redact_logs"),
        beacon: view.flag("beacon"),
        log_level: view.text("log_level"),
    }
}

fn variables(view: &MergedTable<'_, '_>) -> BTreeMap<String, SecretSource> {
    let mut variables = BTreeMap::new();
    for node in [view.base, view.own].into_iter().flatten() {
        for (name, entry) in &node.entries {
            if let Value::Source(source) = &entry.value {
                variables.insert((*name).to_owned(), source.clone());
            }
        }
    }
    variables
}

/// Only the chosen provider's table counts, so only that one is kept.
fn settings(provider: ProviderKind, backend: &MergedTable<'_, '_>, servers: Option<&TableNode<'_>>) -> ProviderSettings {
    let mut settings = ProviderSettings::default();
    let table = ProviderTable { own: backend.table(provider.as_str()), backend: *backend, servers };
    (provider.descriptor().read_settings)(&table, &mut settings);
    settings
}

/// The table of a provider, and the backend's block that it belongs to.
struct ProviderTable<'a, 't> {
    own: MergedTable<'a, 't>,
    backend: MergedTable<'a, 't>,
    servers: Option<&'a TableNode<'t>>,
}

impl SettingsReader for ProviderTable<'_, '_> {
    fn text(&self, key: &str) -> Option<String> {
        self.own.text(key)
    }

    fn word(&self, key: &str) -> Option<&'static str> {
        self.own.word(key)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.own.flag(key)
    }

    fn count(&self, key: &str) -> Option<u32> {
        self.own.count(key)
    }

    fn size(&self, key: &str) -> Option<ByteSize> {
        self.own.size(key)
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let list = self.own.get(key).map(|entry| entry.list()).unwrap_or_default();
        list.iter().filter_map(|entry| entry.text().map(str::to_owned)).collect()
    }

    fn labels(&self, key: &str) -> BTreeMap<String, String> {
        let table = self.own.table(key);
        let entries = [table.base, table.own].into_iter().flatten().flat_map(|node| &node.entries);
        entries.filter_map(|(name, entry)| Some(((*name).to_owned(), entry.text()?.to_owned()))).collect()
    }

    fn variables(&self, key: &str) -> BTreeMap<String, SecretSource> {
        variables(&self.own.table(key))
    }

    fn server(&self) -> Option<Server> {
        let name = self.backend.text("server")?;
        let table = MergedTable { own: self.servers?.table(&name), base: None };
        Some(Server {
            host: table.text("host")?,
            port: table.count("port").and_then(|port| u16::try_from(port).ok()),
            identity: table.text("identity"),
            host_key: table.text("host_key"),
            socket: table.text("socket"),
            name,
        })
    }

    fn server_proxy_image(&self) -> Option<String> {
        let name = self.backend.text("server")?;
        MergedTable { own: self.servers?.table(&name), base: None }.text("proxy_image")
    }

    fn route_tls(&self) -> Option<RouteTls> {
        let given = match self.backend.get("tls").map(|entry| &entry.value) {
            Some(Value::RouteTls(tls)) => Some(tls.clone()),
            _ => None,
        };
        given.or_else(|| self.backend.text("domain").map(|_| RouteTls::Auto))
    }

    fn archive_digest(&self) -> Option<String> {
        self.backend.release_digest("release")
    }
}
