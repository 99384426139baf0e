//! Downloads one file over HTTP into a partial file, with retries that resume where the last attempt ended.
//!
//! A part of one version of the file is never continued with a part of another.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};

use crate::failpoint;
use crate::provider::kit::backoff::Backoff;
use crate::provider::process::file_error;
use crate::provider::{ProgressFn, ProviderError};

/// The largest archive that is fetched; the real one is a twentieth of this.
const ARCHIVE_MAX: u64 = 1 << 30;
/// How often a file is tried without any progress in between.
const ATTEMPTS: u32 = 5;
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(400);

/// The pauses between attempts.
fn backoff() -> Backoff {
    let seed = getrandom::u64().unwrap_or_default();
    Backoff::new(Duration::from_millis(200), Duration::from_secs(2), seed)
}

/// The outcome of a download.
pub(super) enum DownloadOutcome {
    /// The file is whole.
    Complete,
    /// There is nothing at that address.
    NotFound,
}

/// A file that is being fetched: what has arrived, and beside it the address and version that it came from.
pub(super) struct PartialDownload {
    path: PathBuf,
}

enum AttemptOutcome {
    Done,
    NotFound,
    /// Try again: why.
    Retry(String),
}

impl PartialDownload {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets what has arrived.
    pub(super) fn discard(&self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.origin_path());
    }

    fn origin_path(&self) -> PathBuf {
        self.path.with_extension("origin")
    }

    fn received_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The version of what has arrived, if that came from this address.
    fn etag(&self, url: &str) -> Option<String> {
        let text = crate::system::read_regular_text(&self.origin_path(), 64 << 10).ok()?;
        let (from, version) = text.split_once('\n')?;
        (from == url && !version.is_empty()).then(|| version.to_owned())
    }

    /// Fetches the file, going on where an earlier attempt ended.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        url: &str,
        name: &str,
        notice: ProgressFn<'_>,
    ) -> Result<DownloadOutcome, ProviderError> {
        let (mut failures, mut backoff) = (0, self::backoff());
        loop {
            let before = self.received_bytes();
            let reason = match self.attempt(client, url, name, notice).await? {
                AttemptOutcome::Done => return Ok(DownloadOutcome::Complete),
                AttemptOutcome::NotFound => return Ok(DownloadOutcome::NotFound),
                AttemptOutcome::Retry(reason) => reason,
            };
            if self.received_bytes() > before {
                (failures, backoff) = (0, self::backoff());
            }
            failures += 1;
            if failures >= ATTEMPTS {
                return Err(failed_download(url, reason));
            }
            notice(format!("retrying the download of {name}: {reason}"));
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        url: &str,
        name: &str,
        notice: ProgressFn<'_>,
    ) -> Result<AttemptOutcome, ProviderError> {
        let mut request = client.get(url);
        let arrived = self.received_bytes();
        // A download is resumed only where the server can say whether the part is of the same file.
        if let Some(version) = self.etag(url).filter(|_| arrived > 0) {
            request = request.header(RANGE, format!("bytes={arrived}-")).header(IF_RANGE, version);
        }
        let response = match request.send().await {
            Ok(response) => response,
            // Another attempt would be redirected to the same place.
            Err(error) if error.is_redirect() => return Err(failed_download(url, root_cause(&error))),
            Err(error) => return Ok(AttemptOutcome::Retry(root_cause(&error))),
        };
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if resumes_at(&response, arrived) => arrived,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.discard();
                return Ok(AttemptOutcome::Retry("the server sent another part than asked for".to_owned()));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(AttemptOutcome::NotFound),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Ok(AttemptOutcome::Retry(format!("status {status}")));
            }
            status => return Err(failed_download(url, format!("status {status}"))),
        };
        self.receive(response, url, start, name, notice).await
    }

    async fn receive(
        &self,
        mut response: Response,
        url: &str,
        start: u64,
        name: &str,
        notice: ProgressFn<'_>,
    ) -> Result<AttemptOutcome, ProviderError> {
        let expected = response.content_length().map(|length| start.saturating_add(length));
        if expected.is_some_and(|expected| expected > ARCHIVE_MAX) {
            return Err(failed_download(url, format!("it is larger than {ARCHIVE_MAX} bytes")));
        }
        let mut file = self.open(&response, url, start)?;
        let (mut arrived, mut told) = (start, Instant::now());
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    arrived += bytes.len() as u64;
                    if arrived > ARCHIVE_MAX {
                        return Err(failed_download(url, format!("it is larger than {ARCHIVE_MAX} bytes")));
                    }
                    file.write_all(&bytes).map_err(file_error(&self.path, "written"))?;
                }
                Ok(None) => break,
                Err(error) => return Ok(AttemptOutcome::Retry(root_cause(&error))),
            }
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                notice(progress(name, arrived, expected));
            }
        }
        if expected.is_some_and(|expected| expected != arrived) {
            return Ok(AttemptOutcome::Retry(format!("{arrived} bytes arrived, not as many as announced")));
        }
        failpoint::hit("provider.local.download_written");
        notice(progress(name, arrived, Some(arrived)));
        Ok(AttemptOutcome::Done)
    }

    fn open(&self, response: &Response, url: &str, start: u64) -> Result<File, ProviderError> {
        let failed = |error| file_error(&self.path, "written")(error);
        // Weak versions promise only that the meaning is the same, and parts need the same bytes.
        let version = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.starts_with("W/"));
        if start == 0 {
            let _ = std::fs::remove_file(self.origin_path());
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path).map_err(failed)?;
        file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).map_err(failed)?;
        if start == 0 {
            std::fs::write(self.origin_path(), format!("{url}\n{}", version.unwrap_or_default())).map_err(failed)?;
        }
        Ok(file)
    }
}

fn resumes_at(response: &Response, arrived: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    range.starts_with(&format!("bytes {arrived}-"))
}

fn progress(name: &str, arrived: u64, expected: Option<u64>) -> String {
    const MIB: u64 = 1 << 20;
    match expected {
        Some(expected) => format!("fetching {name}: {} of {} MiB", arrived / MIB, expected.div_ceil(MIB)),
        None => format!("fetching {name}: {} MiB", arrived / MIB),
    }
}

fn failed_download(url: &str, reason: String) -> ProviderError {
    ProviderError::Download { url: url.to_owned(), reason }
}

/// Returns the text of an error's innermost cause, which says in one line what happened.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
