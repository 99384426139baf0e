//! The small documents that commands print with `--json`.

use std::path::Path;

use serde::Serialize;

use super::plural::counted;
use crate::model::{Address, ArchiveContent, BackendName, Diagnostic, ProjectName, Revision};
use crate::plan::{DriftItem, UnobservedBackend};

/// The document that `drift --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct DriftDocument<'a> {
    /// Always `convexinfra.drift/1`.
    pub format: &'static str,
    /// The project.
    pub project: &'a ProjectName,
    /// The revision of the project.
    pub revision: Revision,
    /// What differs from what was last applied.
    pub drift: &'a [DriftItem],
    /// Backends whose last change did not finish.
    pub unfinished: &'a [Address],
    /// Backends that could not be observed.
    pub unknown: Vec<&'a Address>,
    /// Why they could not be observed.
    pub unseen: &'a [UnobservedBackend],
}

/// The document that `validate --json` prints for a manifest without errors.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ValidateDocument {
    /// Always `convexinfra.validate/1`.
    pub format: &'static str,
    /// The path of the manifest.
    pub manifest: String,
    /// The project.
    pub project: String,
    /// How many backends it declares.
    pub backends: usize,
    /// What deserves attention in it.
    pub warnings: Vec<Diagnostic>,
}

/// The document that `env --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct EnvDocument<'a> {
    /// Always `convexinfra.env/1`.
    pub format: &'static str,
    /// The backend.
    pub name: &'a BackendName,
    /// Where clients reach it.
    pub url: &'a str,
    /// Where its HTTP actions are.
    pub site_url: &'a str,
    /// The URL under the name of its variable, so that a program can take it as it is; absent with `--write`.
    #[serde(rename = "CONVEX_SELF_HOSTED_URL", skip_serializing_if = "Option::is_none")]
    pub url_variable: Option<&'a str>,
    /// The admin key under the name of its variable; only with `--show-key`.
    #[serde(rename = "CONVEX_SELF_HOSTED_ADMIN_KEY", skip_serializing_if = "Option::is_none")]
    pub admin_key_variable: Option<&'a str>,
    /// The file that was written, with `--write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<&'a Path>,
}

/// The document that `archive --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ArchiveDocument<'a> {
    /// Always `convexinfra.archive/1`.
    pub format: &'static str,
    /// The backend.
    pub name: &'a BackendName,
    /// The file that was written.
    pub path: &'a Path,
    /// The moment of the data; absent where the deployment did not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// The bytes of the file.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: &'a str,
    /// What it holds, all of it read again.
    #[serde(flatten)]
    pub content: &'a ArchiveContent,
}

/// Describes an archive in a sentence for people.
pub fn describe_archive(archive: &ArchiveDocument<'_>) -> String {
    let content = archive.content;
    let moment = archive.taken_at.as_ref().map(|moment| format!(", as of {moment}")).unwrap_or_default();
    format!(
        "`{}` holds {} in {} and {} of `{}`{moment}; all of it was read again\n",
        archive.path.display(),
        counted(content.documents(), "document"),
        counted(content.tables.len(), "table"),
        counted(content.files, "file"),
        archive.name,
    )
}

/// The document that `provision --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ProvisionDocument<'a> {
    /// Always `convexinfra.provision/1`.
    pub format: &'static str,
    /// The backend.
    pub name: &'a BackendName,
    /// What it has come to.
    pub state: ProvisionedState,
    /// DNS records that its host still needs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dns: Vec<String>,
    /// Where clients reach it; absent for a backend that is only recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<&'a str>,
    /// Why that URL did not lead to it from this machine, where it was asked and that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreached: Option<&'a str>,
    /// Where its HTTP actions are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site_url: Option<&'a str>,
    /// The absolute path of the env file that points to it; null where there is none.
    pub env_file: Option<String>,
    /// How to write an env file, where none points to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The admin key; only with `--show-key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_key: Option<&'a str>,
    /// What deserves attention in its plan.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<Diagnostic>,
}

/// What a backend has come to that was provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProvisionedState {
    /// It runs.
    Ready,
    /// It runs, and its host does not lead to it yet.
    WaitingForHost,
    /// It is only recorded: the manifest says that it is not to run.
    Recorded,
}

/// The document that `deprovision --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct DeprovisionDocument<'a> {
    /// Always `convexinfra.deprovision/1`.
    pub format: &'static str,
    /// The backend.
    pub name: &'a BackendName,
    /// Always `absent`.
    pub state: &'static str,
    /// What steps had to say, such as what they retained.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notices: Vec<String>,
}

/// The document that `init --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct InitDocument<'a> {
    /// Always `convexinfra.init/1`.
    pub format: &'static str,
    /// The path of the manifest that was written.
    pub manifest: &'a Path,
    /// The project.
    pub project: &'a ProjectName,
}

/// One line of `logs --json`.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct LogLineDocument<'a> {
    /// Always `convexinfra.log_line/1`.
    pub format: &'static str,
    /// The line, without terminal sequences.
    pub line: &'a str,
}
