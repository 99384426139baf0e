//! Exports of a deployment over its own API: requested, polled, cancelled, and downloaded piece by piece.
//!
//! A deployment has one export at a time, and its worker repeats one that fails for ever: the state `failed` is in its
//! vocabulary and was never seen. A caller needs a deadline of its own, and cancels.

use http::Method;
use serde::Deserialize;

use super::deployment::{Deployment, DeploymentError};

/// Says whether an export holds the files of the deployment besides its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportedFiles {
    /// Documents and files.
    Included,
    /// Documents only.
    Excluded,
}

/// The state of an export, as the deployment names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportState {
    /// Nothing of it is done yet.
    Requested,
    /// It is being written.
    InProgress,
    /// It can be downloaded.
    Completed,
    /// It was given up.
    Failed,
    /// It was cancelled.
    Canceled,
}

impl ExportState {
    /// Returns whether the deployment still works on it, and refuses to begin another.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Requested | Self::InProgress)
    }
}

/// One export of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Export {
    /// Its identifier.
    #[serde(rename = "_id")]
    pub id: ExportId,
    /// Its state.
    pub state: ExportState,
    /// The words of the deployment about its progress.
    #[serde(default)]
    pub progress_message: Option<String>,
    /// The moment of the data, in nanoseconds since 1970. That of a running export moves with each of its attempts.
    #[serde(default)]
    pub start_ts: Option<ConvexInteger>,
    /// The bytes of its zip, once it is completed.
    #[serde(default)]
    pub size: Option<ConvexInteger>,
}

/// The identifier of an export: a word that stands in paths as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ExportId(String);

impl TryFrom<String> for ExportId {
    type Error = &'static str;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        let is_word = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_word { Ok(Self(id)) } else { Err("no identifier of an export") }
    }
}

/// A 64-bit integer of a deployment, which its plain JSON writes as a text in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ConvexInteger(pub u64);

impl TryFrom<String> for ConvexInteger {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Deployment {
    /// Requests an export of everything: all components, as of one moment.
    ///
    /// # Errors
    /// [`DeploymentError::Refused`] with the code `ExportInProgress` while another one runs.
    pub async fn request_export(&self, files: ExportedFiles) -> Result<(), DeploymentError> {
        let path = match files {
            ExportedFiles::Included => "/api/export/request/zip?includeStorage=true",
            ExportedFiles::Excluded => "/api/export/request/zip?includeStorage=false",
        };
        self.send(Method::POST, path, None).await.map(drop)
    }

    /// Returns the export that was requested last, if there was ever one.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn latest_export(&self) -> Result<Option<Export>, DeploymentError> {
        self.query(br#"{"path":"_system/cli/exports:getLatest","format":"json","args":{}}"#).await
    }

    /// Cancels an export that runs. One that has ended stays as it is.
    ///
    /// # Errors
    /// As for every request: [`DeploymentError`].
    pub async fn cancel_export(&self, id: &ExportId) -> Result<(), DeploymentError> {
        self.send_to(Method::POST, "/api/export/cancel/", &id.0, None).await.map(drop)
    }

    /// Downloads the zip of a completed export, and hands its bytes on as they come. Returns how many there were.
    ///
    /// # Errors
    /// As for every request, and [`DeploymentError::NoResponse`] with the error of `sink`, which ends the download.
    pub async fn download_export(
        &self,
        id: &ExportId,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<u64, DeploymentError> {
        self.stream("/api/export/zip/", &id.0, sink).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_read_as_the_deployment_writes_it() {
        let document = serde_json::json!({
            "_id": "kg2dn1", "_creationTime": 1.0, "component": null, "expiration_ts": "1797270623448189666",
            "format": {"format": "zip", "include_storage": true}, "requestor": "snapshotExport", "state": "in_progress",
            "start_ts": "1796061023448470613", "progress_message": "writing",
        });
        let export: Export = serde_json::from_value(document).unwrap();
        assert_eq!(export.start_ts, Some(ConvexInteger(1_796_061_023_448_470_613)));
        assert!(export.state.is_running() && export.size.is_none());
    }

    #[test]
    fn an_identifier_that_would_lead_elsewhere_is_none() {
        for id in ["", "../../x", "a/b", "a?b", "ä", &"a".repeat(65)] {
            assert!(ExportId::try_from(id.to_owned()).is_err(), "{id}");
        }
    }
}
