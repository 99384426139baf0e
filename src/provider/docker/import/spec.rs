//! What a container is, in the words of the manifest, and where the two contradict each other in a way that would move
//! or lose data.

use std::collections::BTreeMap;

use super::{ExternalContainer, ExternalFiles, ExternalStorage};
use crate::convex::buckets::{PARTS, bucket_name};
use crate::convex::tuning::without_defaults;
use crate::model::{
    BackendSpec, BucketNames, DockerSettings, FieldPath, Files, Origins, Resources, S3Files, Secret, SecretRef, SecretSource,
    Storage, TextValue, Tls, Tuning,
};

/// Why a container cannot become the backend that the manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportConflict {
    /// What contradicts what.
    pub message: String,
    /// What to write or do first.
    pub help: String,
}

fn conflict(message: impl Into<String>, help: impl Into<String>) -> ImportConflict {
    ImportConflict { message: message.into(), help: help.into() }
}

/// A specification that records a container as it is, and the values of its secrets.
#[derive(Debug, Clone)]
pub struct ImportedSpec {
    /// The specification.
    pub spec: BackendSpec,
    /// The values of the specification's secrets.
    pub secrets: BTreeMap<FieldPath, Secret>,
}

impl ExternalContainer {
    /// Returns the container as a specification. What the manifest says in other words for the same thing stays as it is
    /// written there, so that the next plan shows real differences only.
    ///
    /// # Errors
    /// [`ImportConflict`] where documents or files are elsewhere than the manifest says: a difference there is a move of
    /// data, and no import.
    pub fn to_spec(
        &self,
        manifest: &BackendSpec,
        secrets: &BTreeMap<FieldPath, Secret>,
    ) -> Result<ImportedSpec, ImportConflict> {
        let mut spec = manifest.clone();
        let mut secrets = secrets.clone();
        self.check_storage(manifest, secrets.get(&FieldPath::new("storage.url")))?;
        self.check_files(manifest, &secrets)?;
        self.check_origins()?;
        if let Storage::Postgres(server) | Storage::Mysql(server) = &mut spec.storage {
            match (self.requires_tls, &server.tls) {
                (false, _) => server.tls = Tls::Disable,
                (true, Tls::Disable) => server.tls = Tls::Verify,
                (true, _) => {}
            }
        }
        spec.release = self.release.clone();
        spec.dashboard = false;
        spec.env.clear();
        secrets.retain(|path, _| !path.as_str().starts_with("env."));
        self.record_docker_settings(manifest, &mut spec, &mut secrets);
        spec.origins = self.origins_for(&spec);
        spec.resources = Resources { disk: manifest.resources.disk, ..self.resources.clone() };
        spec.tuning = merged_tuning(&manifest.tuning, &self.tuning);
        Ok(ImportedSpec { spec, secrets })
    }

    fn check_storage(&self, manifest: &BackendSpec, url: Option<&Secret>) -> Result<(), ImportConflict> {
        let engine = self.storage.engine();
        let agrees = match (&self.storage, &manifest.storage) {
            (ExternalStorage::Sqlite, Storage::Sqlite) => true,
            (ExternalStorage::Postgres(_), Storage::Postgres(server)) | (ExternalStorage::Mysql(_), Storage::Mysql(server)) => {
                !server.managed
            }
            _ => false,
        };
        if !agrees {
            return Err(conflict(
                format!("the container keeps its documents in {engine}, and the manifest says `{}`", manifest.storage.engine()),
                format!("let the manifest say the same first\n    {}", self.storage_line()),
            ));
        }
        let there = match &self.storage {
            ExternalStorage::Sqlite => None,
            ExternalStorage::Postgres(url) | ExternalStorage::Mysql(url) => Some(url),
        };
        if let (Some(there), Some(url)) = (there, url)
            && there.expose().trim_end_matches('/') != url.expose().trim_end_matches('/')
        {
            return Err(conflict(
                "the container has another database URL than `storage.url` in the manifest",
                "let the manifest refer to the same URL first",
            ));
        }
        match &self.database_conflict {
            Some(why) => Err(conflict(
                format!("the container `{}` {why}", self.name),
                "publish the port, and write the same URL into both",
            )),
            None => Ok(()),
        }
    }

    /// Returns the line of a manifest that says where the documents are.
    fn storage_line(&self) -> String {
        let variable = match self.storage {
            ExternalStorage::Sqlite => return "storage = { engine = \"sqlite\" }".to_owned(),
            ExternalStorage::Postgres(_) => "POSTGRES_URL",
            ExternalStorage::Mysql(_) => "MYSQL_URL",
        };
        let tls = if self.requires_tls { "" } else { ", tls = \"disable\"" };
        format!("storage = {{ engine = \"{}\", url = {{ env = \"{variable}\" }}{tls} }}", self.storage.engine())
    }

    fn check_files(&self, manifest: &BackendSpec, secrets: &BTreeMap<FieldPath, Secret>) -> Result<(), ImportConflict> {
        match (&self.files, &manifest.files) {
            (ExternalFiles::Local, Files::Local) => Ok(()),
            (ExternalFiles::S3(there), Files::S3(s3)) => there.check(s3, secrets),
            (ExternalFiles::S3(there), Files::Local) => Err(conflict(
                "the container keeps its files in S3, and the manifest says `local`",
                format!("let the manifest say the same first\n    {}", there.manifest_line()),
            )),
            (ExternalFiles::Local, Files::S3(_)) => Err(conflict(
                "the container keeps its files in its volume, and the manifest says `s3`",
                "take `files` out of the manifest first",
            )),
        }
    }

    fn check_origins(&self) -> Result<(), ImportConflict> {
        let (api, site) = (&self.origins.0, &self.origins.1);
        for (variable, origin) in [("CONVEX_CLOUD_ORIGIN", api), ("CONVEX_SITE_ORIGIN", site)] {
            let Some(origin) = origin else { continue };
            let is_url = url::Url::parse(origin).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !is_url || origin.contains(['$', '{', '}']) {
                return Err(conflict(
                    format!("`{variable}` of the container is `{origin}`, which is no URL"),
                    "a variable in the compose file was probably not expanded: start the container with the URL itself first",
                ));
            }
            let path = url::Url::parse(origin).map(|url| url.path().to_owned()).unwrap_or_default();
            if path != "/" && (path != "/http" || variable == "CONVEX_CLOUD_ORIGIN") {
                return Err(conflict(
                    format!(
                        "`{variable}` of the container is `{origin}`, and an origin in a manifest has no path such as `{path}`"
                    ),
                    "clients drop the path of the API's origin, and HTTP actions are at `/http` below it or at a host of their own: \
                     start the container with such an origin first",
                ));
            }
        }
        Ok(())
    }

    /// Returns the origins where they are other ones than those that follow from the ports.
    fn origins_for(&self, spec: &BackendSpec) -> Origins {
        let own = self.ports.map(|ports| {
            let host = spec.port_host();
            (format!("http://{host}:{}", ports.api), format!("http://{host}:{}", ports.site))
        });
        let given = (self.origins.0.clone(), self.origins.1.clone());
        let (api, site) = match (given, own.clone()) {
            ((None, None), _) => return Origins::default(),
            ((api, site), Some(own)) => (api.unwrap_or(own.0), site.unwrap_or(own.1)),
            ((Some(api), None), None) => (api.clone(), format!("{api}/http")),
            ((None, Some(_)), None) => return Origins::default(),
            ((Some(api), Some(site)), None) => (api, site),
        };
        if own == Some((api.clone(), site.clone())) {
            return Origins::default();
        }
        // At the API's own origin the API answers, and HTTP actions below it.
        let site = if api == site { format!("{api}/http") } else { site };
        // Convex takes both or neither.
        Origins { api: Some(api), site: Some(site), dashboard: None }
    }

    fn record_docker_settings(
        &self,
        manifest: &BackendSpec,
        spec: &mut BackendSpec,
        secrets: &mut BTreeMap<FieldPath, Secret>,
    ) {
        let written = &manifest.settings.docker;
        let there = &self.settings;
        let docker = &mut spec.settings.docker;
        docker.image.clone_from(&self.image);
        docker.publish = match (&self.publish, &written.publish) {
            // Loopback, written or left out.
            (None, Some(address)) if address == "127.0.0.1" => Some(address.clone()),
            (publish, _) => publish.clone(),
        };
        docker.network.clone_from(&there.network);
        docker.networks = in_written_order(&written.networks, &there.networks);
        docker.aliases = in_written_order(&written.aliases, &there.aliases);
        docker.labels.clone_from(&there.labels);
        docker.extra_hosts = in_written_order(&written.extra_hosts, &there.extra_hosts);
        docker.dns = in_written_order(&written.dns, &there.dns);
        docker.mounts = in_written_order(&written.mounts, &there.mounts);
        docker.arguments.clone_from(&there.arguments);
        docker.shm_size = there.shm_size;
        docker.api_port = there.api_port;
        docker.site_port = there.site_port;
        secrets.retain(|path, _| !path.as_str().starts_with("docker.extra_env."));
        docker.extra_env.clear();
        for (name, value) in &self.extra_env {
            let source = written.extra_env.get(name).cloned();
            let source = source.unwrap_or_else(|| SecretSource::Reference(SecretRef::Env(name.clone())));
            docker.extra_env.insert(name.clone(), source);
            secrets.insert(FieldPath::new(format!("docker.extra_env.{name}")), value.clone());
        }
    }
}

fn quoted_list(names: &[String]) -> String {
    let mut quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.dedup();
    quoted.join(", ")
}

/// Returns the values of the container, in the order of the manifest where both have the same ones.
fn in_written_order(written: &[String], there: &[String]) -> Vec<String> {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    if sorted(written) == sorted(there) { written.to_vec() } else { there.to_vec() }
}

/// Returns the lines of `[backends.NAME.docker]` that keep what the container has and the manifest does not say.
pub fn missing_lines(manifest: &DockerSettings, recorded: &DockerSettings) -> Vec<String> {
    let text = |text: &str| toml::Value::from(text).to_string();
    let list = |items: &[String]| format!("[{}]", items.iter().map(|item| text(item)).collect::<Vec<_>>().join(", "));
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{key} = {value}"));
    if let Some(network) = recorded.network.as_ref().filter(|_| recorded.network != manifest.network) {
        line("network", text(network));
    }
    for (key, written, there) in [
        ("networks", &manifest.networks, &recorded.networks),
        ("aliases", &manifest.aliases, &recorded.aliases),
        ("extra_hosts", &manifest.extra_hosts, &recorded.extra_hosts),
        ("dns", &manifest.dns, &recorded.dns),
        ("mounts", &manifest.mounts, &recorded.mounts),
        ("arguments", &manifest.arguments, &recorded.arguments),
    ] {
        if written != there && !there.is_empty() {
            line(key, list(there));
        }
    }
    for (key, written, there) in
        [("api_port", manifest.api_port, recorded.api_port), ("site_port", manifest.site_port, recorded.site_port)]
    {
        if let Some(port) = there.filter(|_| written != there) {
            line(key, port.to_string());
        }
    }
    if let Some(size) = recorded.shm_size.filter(|_| recorded.shm_size != manifest.shm_size) {
        line("shm_size", text(&size.to_string()));
    }
    for (name, value) in recorded.labels.iter().filter(|(name, value)| manifest.labels.get(*name) != Some(value)) {
        line(&format!("labels.{}", text(name)), text(value));
    }
    for name in recorded.extra_env.keys().filter(|name| !manifest.extra_env.contains_key(*name)) {
        line(&format!("extra_env.{name}"), format!("{{ env = {} }}", text(name)));
    }
    lines
}

/// Returns the knobs that the container was started with. Where the manifest says what they are anyway, they are as
/// written there.
fn merged_tuning(manifest: &Tuning, there: &Tuning) -> Tuning {
    let plain = without_defaults(manifest);
    let mut tuning = there.clone();
    if plain.document_retention == there.document_retention {
        tuning.document_retention = manifest.document_retention;
    }
    if plain.redact_logs == there.redact_logs {
        tuning.redact_logs = manifest.redact_logs;
    }
    if plain.beacon == there.beacon {
        tuning.beacon = manifest.beacon;
    }
    if plain.log_level == there.log_level {
        tuning.log_level.clone_from(&manifest.log_level);
    }
    tuning
}

/// The S3 service that a container keeps its files in.
#[derive(Debug, Clone, Default)]
pub struct ExternalS3 {
    /// The buckets of the five parts, in the order of [`PARTS`].
    pub(super) buckets: [String; 5],
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
    pub(super) path_style: bool,
    pub(super) access_key_id: Option<Secret>,
    pub(super) secret_access_key: Option<Secret>,
}

impl ExternalS3 {
    /// Reads the variables of a container. The official image takes S3 where all six are set, and the volume otherwise.
    pub(super) fn read(given: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let mut buckets: [String; 5] = Default::default();
        for (bucket, (variable, _)) in buckets.iter_mut().zip(PARTS) {
            *bucket = given(variable)?;
        }
        Some(Self {
            buckets,
            region: given("AWS_REGION")?,
            endpoint: given("S3_ENDPOINT_URL"),
            path_style: given("AWS_S3_FORCE_PATH_STYLE").as_deref() == Some("true"),
            access_key_id: given("AWS_ACCESS_KEY_ID").map(Secret::new),
            secret_access_key: given("AWS_SECRET_ACCESS_KEY").map(Secret::new),
        })
    }

    /// Returns the variables that name buckets in vain, each with what is missing: the files of such a container are in its volume.
    pub(super) fn without_effect(given: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let variables = || PARTS.into_iter().map(|(variable, _)| variable);
        let Some(missing) = variables().chain(["AWS_REGION"]).find(|name| given(name).is_none()) else { return Vec::new() };
        let set = variables().filter(|name| given(name).is_some());
        set.map(|name| format!("{name} without {missing}")).collect()
    }

    /// Returns what names these buckets in `files` of a manifest.
    fn bucket_line(&self) -> String {
        if self.buckets.iter().all(|bucket| *bucket == self.buckets[0]) {
            return format!("bucket = \"{}\"", self.buckets[0]);
        }
        let prefix = self.buckets[0].strip_suffix("-exports").map(|prefix| BucketNames::Prefix(prefix.to_owned()));
        if let Some(BucketNames::Prefix(text)) = &prefix
            && PARTS.map(|(_, part)| bucket_name(&BucketNames::Prefix(text.clone()), part)) == self.buckets
        {
            return format!("bucket_prefix = \"{text}\"");
        }
        let parts = PARTS.iter().zip(&self.buckets);
        let parts: Vec<String> =
            parts.map(|((_, part), bucket)| format!("{} = \"{bucket}\"", part.replace('-', "_"))).collect();
        format!("buckets = {{ {} }}", parts.join(", "))
    }

    /// Returns the line of a manifest that says the same.
    fn manifest_line(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut parts = vec!["engine = \"s3\"".to_owned(), self.bucket_line(), format!("region = {}", quoted(&self.region))];
        parts.extend(self.endpoint.as_ref().map(|url| format!("endpoint = {}", quoted(url))));
        parts.extend(self.path_style.then(|| "path_style = true".to_owned()));
        for (key, variable, value) in [
            ("access_key_id", "AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
        ] {
            parts.extend(value.as_ref().map(|_| format!("{key} = {{ env = \"{variable}\" }}")));
        }
        format!("files = {{ {} }}", parts.join(", "))
    }

    /// Compares the service with the one of the manifest, field by field.
    fn check(&self, s3: &S3Files, secrets: &BTreeMap<FieldPath, Secret>) -> Result<(), ImportConflict> {
        let differs = |field: &str, there: &str, written: &str| {
            conflict(
                format!("the container has {there} where `files.{field}` in the manifest is {written}"),
                "the files are where the container has them: let the manifest say the same first",
            )
        };
        let named = PARTS.map(|(_, part)| bucket_name(&s3.buckets, part));
        if named != self.buckets {
            let (field, written) = match &s3.buckets {
                BucketNames::Single(name) => ("bucket", format!("`{name}`")),
                BucketNames::Prefix(prefix) => ("bucket_prefix", format!("`{prefix}`")),
                BucketNames::Named(_) => ("buckets", quoted_list(&named)),
            };
            let buckets =
                if self.buckets.iter().all(|bucket| *bucket == self.buckets[0]) { "the bucket" } else { "the buckets" };
            let there = format!("{buckets} {}", quoted_list(&self.buckets));
            let message = format!("the container has {there} where `files.{field}` in the manifest is {written}");
            return Err(conflict(
                message,
                format!("the files are where the container has them: write\n    {}", self.bucket_line()),
            ));
        }
        if self.region != s3.region {
            return Err(differs("region", &format!("the region `{}`", self.region), &format!("`{}`", s3.region)));
        }
        let slash = |url: &str| url.trim_end_matches('/').to_owned();
        let written = match &s3.endpoint {
            None => None,
            Some(TextValue::Literal(url)) => Some(url.clone()),
            // A value that is not at hand cannot be compared, and the caller refuses to go on without it.
            Some(TextValue::Reference(_)) => secrets.get(&FieldPath::new("files.endpoint")).map(|url| url.expose().to_owned()),
        };
        if self.endpoint.as_deref().map(slash) != written.as_deref().map(slash) {
            let shown = |url: &Option<String>| url.as_deref().map_or("none".to_owned(), |_| "another one".to_owned());
            return Err(differs("endpoint", &format!("an endpoint ({})", shown(&self.endpoint)), &shown(&written)));
        }
        if self.path_style != s3.path_style {
            return Err(differs(
                "path_style",
                &format!("`AWS_S3_FORCE_PATH_STYLE={}`", self.path_style),
                &format!("`{}`", s3.path_style),
            ));
        }
        for (field, there) in [("access_key_id", &self.access_key_id), ("secret_access_key", &self.secret_access_key)] {
            let written = secrets.get(&FieldPath::new(format!("files.{field}")));
            if there.as_ref().map(Secret::expose) != written.map(Secret::expose) {
                let there = if there.is_some() { "another value" } else { "no value" };
                return Err(differs(field, there, if written.is_some() { "set" } else { "not set" }));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (S3Files, BTreeMap<FieldPath, Secret>) {
        let reference = || SecretRef::Env("X".to_owned());
        let s3 = S3Files {
            buckets: BucketNames::Prefix("shop".to_owned()),
            region: "us-east-1".to_owned(),
            endpoint: Some(TextValue::Literal("http://minio:9000/".to_owned())),
            path_style: true,
            create_buckets: false,
            credentials: Some(crate::model::S3Credentials { access_key_id: reference(), secret_access_key: reference() }),
        };
        let secret = |field: &str, value: &str| (FieldPath::new(field), Secret::new(value));
        (s3, [secret("files.access_key_id", "id"), secret("files.secret_access_key", "key")].into())
    }

    fn read(more: &[(&str, &str)]) -> ExternalS3 {
        let mut variables: BTreeMap<&str, &str> = [
            ("S3_STORAGE_EXPORTS_BUCKET", "shop-exports"),
            ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "shop-snapshot-imports"),
            ("S3_STORAGE_MODULES_BUCKET", "shop-modules"),
            ("S3_STORAGE_FILES_BUCKET", "shop-files"),
            ("S3_STORAGE_SEARCH_BUCKET", "shop-search"),
            ("AWS_REGION", "us-east-1"),
            ("S3_ENDPOINT_URL", "http://minio:9000"),
            ("AWS_S3_FORCE_PATH_STYLE", "true"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
        ]
        .into();
        variables.extend(more.iter().copied());
        ExternalS3::read(|name| variables.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())).unwrap()
    }

    #[test]
    fn buckets_that_the_image_does_not_take_are_named() {
        let ignored = |variables: &[&str]| ExternalS3::without_effect(|name| variables.contains(&name).then(|| "x".to_owned()));
        let all = [
            "S3_STORAGE_EXPORTS_BUCKET",
            "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET",
            "S3_STORAGE_MODULES_BUCKET",
            "S3_STORAGE_FILES_BUCKET",
            "S3_STORAGE_SEARCH_BUCKET",
            "AWS_REGION",
        ];
        assert_eq!(ignored(&all), Vec::<String>::new());
        assert_eq!(ignored(&all[..5]).len(), 5);
        assert_eq!(ignored(&["S3_STORAGE_FILES_BUCKET"]), ["S3_STORAGE_FILES_BUCKET without S3_STORAGE_EXPORTS_BUCKET"]);
        assert_eq!(ignored(&["AWS_REGION"]), Vec::<String>::new());
    }

    #[test]
    fn files_in_other_buckets_are_a_move_and_no_import() {
        let (s3, secrets) = written();
        assert_eq!(read(&[]).check(&s3, &secrets), Ok(()));
        for (variable, value, field) in [
            ("S3_STORAGE_MODULES_BUCKET", "elsewhere", "files.bucket_prefix"),
            ("AWS_REGION", "eu-west-1", "files.region"),
            ("S3_ENDPOINT_URL", "http://other:9000", "files.endpoint"),
            ("S3_ENDPOINT_URL", "", "files.endpoint"),
            ("AWS_S3_FORCE_PATH_STYLE", "false", "files.path_style"),
            ("AWS_ACCESS_KEY_ID", "other", "files.access_key_id"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2", "files.secret_access_key"),
        ] {
            let conflict = read(&[(variable, value)]).check(&s3, &secrets).unwrap_err();
            assert!(conflict.message.contains(field) && !conflict.message.contains("hunter2"), "{conflict:?}");
        }
        let one = S3Files { buckets: BucketNames::Single("shop".to_owned()), ..s3 };
        assert!(read(&[]).check(&one, &secrets).unwrap_err().message.contains("files.bucket"));
    }

    #[test]
    fn the_line_that_says_the_same_is_printed() {
        let convex = [
            ("S3_STORAGE_EXPORTS_BUCKET", "convex-snapshot-exports"),
            ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "convex-snapshot-imports"),
            ("S3_STORAGE_FILES_BUCKET", "convex-user-files"),
            ("S3_STORAGE_MODULES_BUCKET", "convex-modules"),
            ("S3_STORAGE_SEARCH_BUCKET", "convex-search-indexes"),
        ];
        let one = |(variable, _): (&'static str, &str)| (variable, "everything");
        for (variables, words) in [
            (&[][..], "bucket_prefix = \"shop\""),
            (&PARTS.map(one), "bucket = \"everything\""),
            (&convex, "buckets = { exports = \"convex-snapshot-exports\", snapshot_imports = \"convex-snapshot-imports\", "),
        ] {
            let line = read(variables).manifest_line();
            assert!(line.contains(words) && !line.contains("\"key\""), "{line}");
            let manifest = format!("project = \"x\"\n[backends.a]\nprovider = \"docker\"\n{line}");
            let table: toml::Table = manifest.parse().unwrap();
            assert_eq!(table["backends"]["a"]["files"]["secret_access_key"]["env"].as_str(), Some("AWS_SECRET_ACCESS_KEY"));
        }
        let (s3, secrets) = written();
        let named = crate::model::NamedBuckets {
            exports: "convex-snapshot-exports".to_owned(),
            snapshot_imports: "convex-snapshot-imports".to_owned(),
            modules: "convex-modules".to_owned(),
            files: "convex-user-files".to_owned(),
            search: "convex-search-indexes".to_owned(),
        };
        let s3 = S3Files { buckets: BucketNames::Named(named), ..s3 };
        assert_eq!(read(&convex).check(&s3, &secrets), Ok(()));
        assert!(read(&[]).check(&s3, &secrets).unwrap_err().help.contains("bucket_prefix = \"shop\""));
    }

    #[test]
    fn differences_are_printed_as_manifest_lines() {
        let there = DockerSettings {
            network: Some("traefik".to_owned()),
            networks: vec!["data".to_owned()],
            aliases: vec!["backend".to_owned()],
            labels: BTreeMap::from([("traefik.http.routers.a.rule".to_owned(), "Host(`a.example.com`)".to_owned())]),
            api_port: Some(3210),
            extra_env: BTreeMap::from([("SENTRY_DSN".to_owned(), SecretSource::Literal(String::new()))]),
            ..DockerSettings::default()
        };
        let lines = missing_lines(&DockerSettings::default(), &there);
        let table: toml::Table = lines.join("\n").parse().unwrap();
        assert_eq!(table["labels"]["traefik.http.routers.a.rule"].as_str(), Some("Host(`a.example.com`)"));
        assert_eq!((table["network"].as_str(), table["api_port"].as_integer()), (Some("traefik"), Some(3210)));
        assert_eq!(table["extra_env"]["SENTRY_DSN"]["env"].as_str(), Some("SENTRY_DSN"));
        assert!(missing_lines(&there, &there).is_empty());
    }
}
