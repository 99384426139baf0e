//! Archives a backend: Convex's own zip of its data, by its own API, read again before it counts.
//!
//! An archive is portable and has data only: neither code, variables, schedules nor pending jobs.

use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{AppError, Reporter};
use crate::api::Credentials;
use crate::convex::archive::verify;
use crate::convex::deployment::{Deployment, DeploymentClient, DeploymentError};
use crate::convex::export::{Export, ExportId, ExportState, ExportedFiles};
use crate::env_file::{StagedFile, sweep};
use crate::failpoint;
use crate::model::{ArchiveContent, BackendName, Diagnostic, Exit, TimeSpan, Timestamp, error_chain};

/// How often the state of an export is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often its progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What to do about an export that the deployment works on already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunningExport {
    /// Leave it alone and fail.
    Keep,
    /// Cancel it and begin anew.
    Cancel,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct ArchiveRequest {
    /// The backend.
    pub(crate) backend: BackendName,
    /// The file to write; there must be none.
    pub(crate) out: PathBuf,
    /// Whether the files of the deployment are in it.
    pub(crate) files: ExportedFiles,
    /// How long the deployment may work on it: a failing export is repeated by the deployment for ever.
    pub(crate) timeout: TimeSpan,
    /// What to do about an export that runs already.
    pub(crate) running: RunningExport,
}

/// A finished archive.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The moment of its data, as the deployment told it.
    pub(crate) taken_at: Option<Timestamp>,
    /// The bytes of the file.
    pub(crate) bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub(crate) sha256: String,
    /// What it holds.
    pub(crate) content: ArchiveContent,
}

/// Archives a backend into a file. A failure leaves neither a file nor a running export.
///
/// # Errors
/// The file is there, another export runs, the deployment refuses, the time is over, `interrupt` came, or what was written
/// is not whole.
pub(crate) async fn archive(
    request: &ArchiveRequest,
    credentials: Credentials,
    interrupt: impl Future<Output = ()>,
    reporter: &dyn Reporter,
) -> Result<Archive, AppError> {
    let mut file = PartialFile::create(&request.out)?;
    let connections = DeploymentClient::default();
    let deployment = Deployment::new(&connections, credentials.url, Some(credentials.admin_key));
    let mut interrupt = pin!(interrupt);
    let before = begin(&deployment, request).await?;
    let waited = tokio::select! {
        waited = completed(&deployment, before.as_ref(), request, reporter) => waited,
        () = sleep(Duration::from_secs(request.timeout.seconds())) => Err(timed_out(request)),
        () = &mut interrupt => Err(interrupted()),
    };
    let export = match waited {
        Ok(export) => export,
        Err(error) => {
            cancel(&deployment, before.as_ref()).await;
            return Err(error);
        }
    };
    failpoint::hit("archive.exported");
    reporter.notice(&format!("  · backend.{}: the export is complete, and is downloaded", request.backend));
    let mut sink = |piece: &[u8]| file.write(piece);
    let downloaded = tokio::select! {
        downloaded = deployment.download_export(&export.id, &mut sink) => downloaded,
        () = &mut interrupt => return Err(interrupted()),
    };
    let bytes = match downloaded {
        Ok(bytes) => bytes,
        Err(error) => return Err(file.error.take().map_or_else(|| deployment_error(&error), |error| file.write_error(&error))),
    };
    if export.size.is_some_and(|size| size.0 != bytes) {
        return Err(damaged(format!("the deployment sent {bytes} bytes of an export that has another size")));
    }
    failpoint::hit("archive.downloaded");
    let files = request.files;
    let finished = tokio::task::spawn_blocking(move || file.finish(files)).await;
    let (sha256, content) = finished.map_err(|error| damaged(format!("it could not be checked: {error}")))??;
    let taken_at = export.start_ts.map(|moment| Timestamp(i64::try_from(moment.0 / 1_000_000).unwrap_or(i64::MAX)));
    Ok(Archive { taken_at, bytes, sha256, content })
}

/// Requests the export, and returns the one before it.
async fn begin(deployment: &Deployment, request: &ArchiveRequest) -> Result<Option<ExportId>, AppError> {
    let failed = |error: DeploymentError| deployment_error(&error);
    let before = deployment.latest_export().await.map_err(failed)?;
    if let Some(running) = before.as_ref().filter(|export| export.state.is_running()) {
        match request.running {
            RunningExport::Keep => return Err(in_progress(request)),
            RunningExport::Cancel => deployment.cancel_export(&running.id).await.map_err(failed)?,
        }
    }
    match deployment.request_export(request.files).await {
        Ok(()) => Ok(before.map(|export| export.id)),
        Err(DeploymentError::Refused { code: Some(code), .. }) if code == "ExportInProgress" => Err(in_progress(request)),
        Err(error) => Err(failed(error)),
    }
}

/// Waits until the export after `before` is complete. A deployment that does not answer is asked again: its exports survive
/// a restart.
async fn completed(
    deployment: &Deployment,
    before: Option<&ExportId>,
    request: &ArchiveRequest,
    reporter: &dyn Reporter,
) -> Result<Export, AppError> {
    let mut told = Instant::now();
    loop {
        match deployment.latest_export().await {
            Ok(Some(export)) if Some(&export.id) != before => match export.state {
                ExportState::Completed => return Ok(export),
                ExportState::Canceled => return Err(failed("archive.cancelled", "the export was cancelled by another client")),
                ExportState::Failed => return Err(failed("archive.failed", "the deployment gave the export up")),
                ExportState::Requested | ExportState::InProgress if told.elapsed() >= PROGRESS_INTERVAL => {
                    told = Instant::now();
                    let progress = export.progress_message.as_deref().unwrap_or("the export is being written");
                    reporter.notice(&format!("  · backend.{}: {progress}", request.backend));
                }
                ExportState::Requested | ExportState::InProgress => {}
            },
            Ok(_) | Err(DeploymentError::NotListening { .. } | DeploymentError::NoResponse { .. }) => {}
            Err(error) => return Err(deployment_error(&error)),
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Cancels the export that was begun, as far as the deployment can be reached: nothing else ends one that fails.
async fn cancel(deployment: &Deployment, before: Option<&ExportId>) {
    if let Ok(Some(export)) = deployment.latest_export().await
        && Some(&export.id) != before
        && export.state.is_running()
    {
        let _ = deployment.cancel_export(&export.id).await;
    }
}

/// The file while it is written: in a place of its own, for this user only, and gone with this value; after a kill, with the
/// next command that writes there.
struct PartialFile {
    path: PathBuf,
    staged: StagedFile,
    digest: Sha256,
    error: Option<io::Error>,
}

impl PartialFile {
    fn create(path: &Path) -> Result<Self, AppError> {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        sweep(folder);
        let staged = StagedFile::create(folder).map_err(|error| not_written(path, &error))?;
        Ok(Self { path: path.to_owned(), staged, digest: Sha256::new(), error: None })
    }

    /// Writes a piece. An error of the disk is kept, so that it is not taken for one of the connection.
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.digest.update(piece);
        self.staged.as_file_mut().write_all(piece).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }

    /// Verifies what was written, and gives it its name.
    fn finish(mut self, files: ExportedFiles) -> Result<(String, ArchiveContent), AppError> {
        let read = self.staged.reopen().map_err(|error| self.write_error(&error))?;
        let content = verify(BufReader::new(read), files).map_err(|error| damaged(error.to_string()))?;
        self.staged.as_file_mut().sync_all().map_err(|error| self.write_error(&error))?;
        failpoint::hit("archive.verified");
        let sha256 = hex::encode(self.digest.finalize());
        match self.staged.persist_new(&self.path) {
            Ok(()) => Ok((sha256, content)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.path)),
            Err(error) => Err(not_written(&self.path, &error)),
        }
    }

    fn write_error(&self, error: &io::Error) -> AppError {
        not_written(&self.path, error)
    }
}

fn failed(code: &'static str, message: impl Into<String>) -> AppError {
    AppError::new(Exit::Failed, Diagnostic::new(code, message))
}

fn not_written(path: &Path, error: &io::Error) -> AppError {
    failed("archive.not_written", format!("`{}` cannot be written: {error}", path.display()))
}

fn exists(path: &Path) -> AppError {
    let message = format!("`{}` is there already, and an archive never replaces a file", path.display());
    let finding = Diagnostic::new("archive.exists", message).with_help("name another file with `--out FILE.zip`");
    AppError::new(Exit::Refused, finding)
}

fn damaged(why: impl std::fmt::Display) -> AppError {
    failed("archive.damaged", format!("the archive that the deployment made is not whole, and was not kept: {why}"))
}

fn deployment_error(error: &DeploymentError) -> AppError {
    let exit = match error {
        DeploymentError::Refused { status: 401 | 403, .. } => Exit::NotAuthorised,
        DeploymentError::Refused { .. } => Exit::Failed,
        _ => Exit::Unreachable,
    };
    AppError::new(exit, Diagnostic::new("archive.deployment", error_chain(error)))
}

fn in_progress(request: &ArchiveRequest) -> AppError {
    let name = &request.backend;
    let message = format!("`{name}` works on another export, and has one at a time");
    let help = format!(
        "wait until it has ended, or cancel it with\n    convexinfra archive {name} --out {} --cancel-running",
        request.out.display()
    );
    AppError::new(Exit::Refused, Diagnostic::new("archive.in_progress", message).with_help(help))
}

fn timed_out(request: &ArchiveRequest) -> AppError {
    let message = format!(
        "`{}` did not complete its export within {}, and it was cancelled: a deployment repeats one that fails for ever",
        request.backend, request.timeout
    );
    let help = format!("look for the reason in its log with\n    convexinfra logs {}", request.backend);
    AppError::new(Exit::TimedOut, Diagnostic::new("archive.timed_out", message).with_help(help))
}

fn interrupted() -> AppError {
    AppError::new(Exit::Interrupted, Diagnostic::new("archive.interrupted", "interrupted: no archive was written"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::{Path as UrlPath, State};
    use axum::routing::{get, post};
    use serde_json::{Value, json};

    use super::*;
    use crate::apply::Event;
    use crate::model::Secret;
    use crate::plan::Plan;

    struct Silent;

    impl Reporter for Silent {
        fn planned(&self, _: &Plan) {}
        fn refused(&self, _: &Plan) {}
        fn event(&self, _: &Event) {}
        fn notice(&self, _: &str) {}
        fn steps_ended(&self) {}
    }

    /// A deployment that ends each export in `outcome`, and answers a download with `zip`.
    #[derive(Clone)]
    struct Exporter {
        exports: Arc<Mutex<Vec<(String, &'static str)>>>,
        outcome: &'static str,
        zip: Vec<u8>,
    }

    impl Exporter {
        fn new(outcome: &'static str, zip: &[u8]) -> Self {
            Self { exports: Arc::default(), outcome, zip: zip.to_vec() }
        }

        fn states(&self) -> Vec<&'static str> {
            self.exports.lock().unwrap().iter().map(|(_, state)| *state).collect()
        }

        async fn listen(&self) -> Credentials {
            let query = |State(app): State<Self>| async move {
                let latest = app.exports.lock().unwrap().last().cloned();
                let export = latest.map(|(id, state)| json!({ "_id": id, "state": state, "size": app.zip.len().to_string() }));
                axum::Json(json!({ "status": "success", "value": export }))
            };
            let request = |State(app): State<Self>| async move {
                let mut exports = app.exports.lock().unwrap();
                let id = format!("export{}", exports.len());
                exports.push((id, app.outcome));
            };
            let cancel = |State(app): State<Self>, UrlPath(id): UrlPath<String>| async move {
                for (export, state) in app.exports.lock().unwrap().iter_mut() {
                    if *export == id {
                        *state = "canceled";
                    }
                }
            };
            let router = Router::new()
                .route("/api/query", post(query))
                .route("/api/export/request/zip", post(request))
                .route("/api/export/cancel/{id}", post(cancel))
                .route("/api/export/zip/{id}", get(|State(app): State<Self>| async move { app.zip }))
                .with_state(self.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, router).await });
            Credentials { url: url.clone(), site_url: url, admin_key: Secret::new("dev|01abc") }
        }
    }

    fn request(folder: &Path, running: RunningExport) -> ArchiveRequest {
        ArchiveRequest {
            backend: "dev".parse().unwrap(),
            out: folder.join("dev.zip"),
            files: ExportedFiles::Included,
            timeout: TimeSpan::from_seconds(1),
            running,
        }
    }

    async fn archived(exporter: &Exporter, folder: &Path, running: RunningExport) -> Result<Archive, Value> {
        let credentials = exporter.listen().await;
        let result = archive(&request(folder, running), credentials, std::future::pending(), &Silent).await;
        result.map_err(|error| json!({ "exit": error.exit().code(), "code": error.report().errors[0].code }))
    }

    fn left(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    fn empty_zip() -> Vec<u8> {
        zip::ZipWriter::new(io::Cursor::new(Vec::new())).finish().unwrap().into_inner()
    }

    #[tokio::test]
    async fn an_export_that_never_ends_is_cancelled_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let exporter = Exporter::new("in_progress", &empty_zip());
        let error = archived(&exporter, folder.path(), RunningExport::Keep).await.unwrap_err();
        assert_eq!(error, json!({ "exit": 124, "code": "archive.timed_out" }));
        assert_eq!((exporter.states(), left(folder.path())), (vec!["canceled"], 0));
    }

    #[tokio::test]
    async fn an_export_of_another_client_is_cancelled_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let exporter = Exporter::new("completed", &empty_zip());
        exporter.exports.lock().unwrap().push(("other".to_owned(), "requested"));
        let error = archived(&exporter, folder.path(), RunningExport::Keep).await.unwrap_err();
        assert_eq!(error, json!({ "exit": 4, "code": "archive.in_progress" }));
        assert_eq!(exporter.states(), ["requested"]);
        archived(&exporter, folder.path(), RunningExport::Cancel).await.unwrap();
        assert_eq!((exporter.states(), left(folder.path())), (vec!["canceled", "completed"], 1));
    }

    #[tokio::test]
    async fn what_is_no_whole_zip_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let exporter = Exporter::new("completed", b"PK no zip");
        let error = archived(&exporter, folder.path(), RunningExport::Keep).await.unwrap_err();
        assert_eq!(error, json!({ "exit": 1, "code": "archive.damaged" }));
        assert_eq!(left(folder.path()), 0);
    }

    #[tokio::test]
    async fn a_file_that_is_there_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dev.zip"), "mine").unwrap();
        let exporter = Exporter::new("completed", &empty_zip());
        let error = archived(&exporter, folder.path(), RunningExport::Keep).await.unwrap_err();
        assert_eq!(error, json!({ "exit": 4, "code": "archive.exists" }));
        assert_eq!((exporter.states().len(), std::fs::read(folder.path().join("dev.zip")).unwrap()), (0, b"mine".to_vec()));
    }
}
