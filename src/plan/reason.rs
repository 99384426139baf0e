//! Why a step is there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a step is there. The document carries the sentence; programs compare the sentences, which are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Reason {
    /// The manifest names a backend that the control plane does not know.
    #[serde(rename = "new in the manifest")]
    New,
    /// The manifest says something else than what was last applied.
    #[serde(rename = "the manifest changed")]
    Changed,
    /// Something outside changed what was applied.
    #[serde(rename = "drift")]
    Drift,
    /// The last apply did not get to its end.
    #[serde(rename = "the last apply did not finish")]
    Unfinished,
    /// A removal did not get to its end, and now the manifest wants the backend.
    #[serde(rename = "its removal did not finish; it is removed to the end and created anew")]
    RemovalUnfinished,
    /// The manifest does not name it any more.
    #[serde(rename = "no longer in the manifest")]
    RemovedFromManifest,
    /// It was named to be destroyed.
    #[serde(rename = "asked for by `destroy`")]
    DestroyRequested,
    /// A `[[moved]]` entry renames it.
    #[serde(rename = "renamed by `[[moved]]`")]
    Renamed,
    /// The env file does not say what it should.
    #[serde(rename = "the env file does not have these values")]
    EnvFileDiffers,
    /// The env file will have to change because its backend does.
    #[serde(rename = "its backend changes")]
    BackendChanges,
    /// Others than its user may read the key in it.
    #[serde(rename = "others may read the env file")]
    EnvFileExposed,
    /// The version control system would commit the env file with the key in it.
    #[serde(rename = "version control does not ignore the env file")]
    EnvFileNotIgnored,
    /// The manifest names another env file for the backend.
    #[serde(rename = "the manifest does not name this env file any more")]
    EnvFileNotNamed,
    /// The env file names a backend that goes.
    #[serde(rename = "its backend goes")]
    BackendDestroyed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One list of sentences: the one that the document carries.
        Serialize::serialize(self, f)
    }
}
