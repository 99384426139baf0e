//! What the variables of a backend say that something else started with the official image, and where that contradicts a
//! manifest in a way that would move or lose data. Pure.

mod place;
mod s3;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::place::{Data, Misplaced, misplaced_data};
pub use self::s3::ExternalS3;
use crate::convex::tuning::{parse_tuning, without_defaults};
use crate::model::{BackendSpec, FieldPath, Files, Origins, Secret, Storage, Tls, Tuning};

/// Why something that runs already cannot become the backend that the manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportConflict {
    /// What contradicts what.
    pub message: String,
    /// What to write or do first.
    pub help: String,
}

/// Returns a conflict.
pub(crate) fn conflict(message: impl Into<String>, help: impl Into<String>) -> ImportConflict {
    ImportConflict { message: message.into(), help: help.into() }
}

/// A specification that records what runs already as it is, and the values of its secrets.
#[derive(Debug, Clone)]
pub struct ImportedSpec {
    /// The specification.
    pub spec: BackendSpec,
    /// The values of the specification's secrets.
    pub secrets: BTreeMap<FieldPath, Secret>,
}

/// Where the documents of an external backend are.
#[derive(Debug, Clone)]
pub enum ExternalStorage {
    /// In its volume.
    Sqlite,
    /// On a PostgreSQL server with this URL.
    Postgres(Secret),
    /// On a MySQL server with this URL.
    Mysql(Secret),
}

impl ExternalStorage {
    /// Returns the manifest's word for it.
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
        }
    }

    /// Returns the URL of its server.
    pub fn url(&self) -> Option<&Secret> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(url) | Self::Mysql(url) => Some(url),
        }
    }

    /// Returns the variable of the official image that holds the URL.
    pub fn variable(&self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(_) => Some("POSTGRES_URL"),
            Self::Mysql(_) => Some("MYSQL_URL"),
        }
    }
}

/// Where the files of an external backend are.
#[derive(Debug, Clone)]
pub enum ExternalFiles {
    /// In its volume.
    Local,
    /// In buckets.
    S3(ExternalS3),
}

/// What the variables of an external backend say.
#[derive(Debug, Clone)]
pub struct ExternalLaunch {
    /// The word for what runs it, such as "container".
    pub subject: &'static str,
    /// Where its documents are.
    pub storage: ExternalStorage,
    /// Whether it enters its database over TLS only.
    pub requires_tls: bool,
    /// Where its files are.
    pub files: ExternalFiles,
    /// Its cloud and its site origin, where they were given. Clients put paths behind an origin, so none ends in a slash.
    pub origins: (Option<String>, Option<String>),
    /// The knobs that it was started with.
    pub tuning: Tuning,
    /// The names of its variables that a manifest has no word for.
    pub inexpressible: BTreeSet<String>,
    /// The variables that have no effect, each with why.
    pub without_effect: Vec<String>,
}

impl ExternalLaunch {
    /// Reads what variables say: all that its process has, and those among them that its image does not bring along.
    ///
    /// # Errors
    /// Why that is no backend that could be taken over.
    pub fn read(
        subject: &'static str,
        variables: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let given = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let storage = match (given("POSTGRES_URL").or_else(|| given("DATABASE_URL")), given("MYSQL_URL")) {
            (Some(url), None) => ExternalStorage::Postgres(Secret::new(url)),
            (None, Some(url)) => ExternalStorage::Mysql(Secret::new(url)),
            (None, None) => ExternalStorage::Sqlite,
            (Some(_), Some(_)) => return Err("has the URLs of two database servers".to_owned()),
        };
        let origin = |variable: &str| given(variable).map(|origin| origin.trim_end_matches('/').to_owned());
        let read = parse_tuning(own);
        Ok(Self {
            subject,
            storage,
            requires_tls: given("DO_NOT_REQUIRE_SSL").is_none(),
            files: ExternalS3::read(given).map_or(ExternalFiles::Local, ExternalFiles::S3),
            origins: (origin("CONVEX_CLOUD_ORIGIN"), origin("CONVEX_SITE_ORIGIN")),
            tuning: read.tuning,
            inexpressible: read.inexpressible,
            without_effect: ExternalS3::without_effect(given),
        })
    }

    /// Checks that documents, files and origins are where the manifest says.
    ///
    /// # Errors
    /// [`ImportConflict`] where they are not: a difference there is a move of data, and no import.
    pub fn check(&self, manifest: &BackendSpec, secrets: &BTreeMap<FieldPath, Secret>) -> Result<(), ImportConflict> {
        self.check_storage(manifest, secrets.get(&FieldPath::new("storage.url")))?;
        self.check_files(manifest, secrets)?;
        self.check_origins()
    }

    /// Records in a specification how it enters its database, and the knobs.
    pub fn record(&self, manifest: &BackendSpec, spec: &mut BackendSpec) {
        if let Storage::Postgres(server) | Storage::Mysql(server) = &mut spec.storage {
            match (self.requires_tls, &server.tls) {
                (false, _) => server.tls = Tls::Disable,
                (true, Tls::Disable) => server.tls = Tls::Verify,
                (true, _) => {}
            }
        }
        spec.tuning = merged_tuning(&manifest.tuning, &self.tuning);
    }

    /// Returns the lines of a manifest that say where documents and files are, where that is not the volume.
    pub fn manifest_lines(&self) -> Vec<String> {
        let storage = self.storage.url().map(|_| self.storage_line());
        let files = match &self.files {
            ExternalFiles::Local => None,
            ExternalFiles::S3(there) => Some(there.manifest_line()),
        };
        storage.into_iter().chain(files).collect()
    }

    /// Returns its origins as a manifest has them. `own` are those that follow from where it is, which a manifest leaves out.
    pub fn origins_beside(&self, own: Option<(String, String)>) -> Origins {
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
                format!(
                    "the {} keeps its documents in {engine}, and the manifest says `{}`",
                    self.subject,
                    manifest.storage.engine()
                ),
                format!("let the manifest say the same first\n    {}", self.storage_line()),
            ));
        }
        if let (Some(there), Some(url)) = (self.storage.url(), url)
            && there.expose().trim_end_matches('/') != url.expose().trim_end_matches('/')
        {
            return Err(conflict(
                format!("the {} has another database URL than `storage.url` in the manifest", self.subject),
                "let the manifest refer to the same URL first",
            ));
        }
        Ok(())
    }

    /// Returns the line of a manifest that says where the documents are.
    fn storage_line(&self) -> String {
        let Some(variable) = self.storage.variable() else { return "storage = { engine = \"sqlite\" }".to_owned() };
        let tls = if self.requires_tls { "" } else { ", tls = \"disable\"" };
        format!("storage = {{ engine = \"{}\", url = {{ env = \"{variable}\" }}{tls} }}", self.storage.engine())
    }

    fn check_files(&self, manifest: &BackendSpec, secrets: &BTreeMap<FieldPath, Secret>) -> Result<(), ImportConflict> {
        match (&self.files, &manifest.files) {
            (ExternalFiles::Local, Files::Local) => Ok(()),
            (ExternalFiles::S3(there), Files::S3(s3)) => there.check(s3, secrets),
            (ExternalFiles::S3(there), Files::Local) => Err(conflict(
                format!("the {} keeps its files in S3, and the manifest says `local`", self.subject),
                format!("let the manifest say the same first\n    {}", there.manifest_line()),
            )),
            (ExternalFiles::Local, Files::S3(_)) => Err(conflict(
                format!("the {} keeps its files in its volume, and the manifest says `s3`", self.subject),
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
                    format!("`{variable}` of the {} is `{origin}`, which is no URL", self.subject),
                    "a variable in its own description was probably not expanded: start it with the URL itself first",
                ));
            }
            let path = url::Url::parse(origin).map(|url| url.path().to_owned()).unwrap_or_default();
            if path != "/" && (path != "/http" || variable == "CONVEX_CLOUD_ORIGIN") {
                return Err(conflict(
                    format!(
                        "`{variable}` of the {} is `{origin}`, and an origin in a manifest has no path such as `{path}`",
                        self.subject
                    ),
                    "clients drop the path of the API's origin, and HTTP actions are at `/http` below it or at a host of their own: \
                     start it with such an origin first",
                ));
            }
        }
        Ok(())
    }
}

/// Returns the knobs that it was started with. Where the manifest says what they are anyway, they are as
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
