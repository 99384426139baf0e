//! A backend's log: appended to by the process itself, rotated and read here, in bounded chunks.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::file_error;
use crate::provider::{LogChunk, LogPosition, ProviderError};

/// A log is rotated when it is larger than this.
const ROTATE_ABOVE: u64 = 10 * 1024 * 1024;
/// How many rotated logs are kept.
const ROTATED_FILES: u32 = 3;
/// The most that one reading returns.
const CHUNK_MAX: u64 = 1024 * 1024;

/// Whether a process holds the log open while it is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogWriter {
    /// No: the file itself can be moved away.
    None,
    /// Yes, and it goes on writing into the same file: so that is copied and emptied.
    Running,
}

/// The size of a log; zero when there is none.
pub(super) fn size(log: &Path) -> Result<u64, ProviderError> {
    match std::fs::metadata(log) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(file_error(log, "read")(error)),
    }
}

/// Rotates a log that is too large.
pub(super) fn rotate(log: &Path, writer: LogWriter) -> Result<(), ProviderError> {
    if size(log)? <= ROTATE_ABOVE {
        return Ok(());
    }
    for number in (1..ROTATED_FILES).rev() {
        let (from, to) = (rotated_path(log, number), rotated_path(log, number + 1));
        match std::fs::rename(&from, to) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(file_error(&from, "rotated")(error)),
            _ => {}
        }
    }
    let first = rotated_path(log, 1);
    match writer {
        LogWriter::None => std::fs::rename(log, first),
        LogWriter::Running => copy_truncate(log, &first),
    }
    .map_err(file_error(log, "rotated"))
}

fn copy_truncate(log: &Path, copy: &Path) -> std::io::Result<()> {
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(copy)?;
    std::io::copy(&mut File::open(log)?, &mut to)?;
    // The process appends, so its next line lands at the new beginning.
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

fn rotated_path(log: &Path, number: u32) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Reads from a log. A position beyond the end means that the log was rotated: reading goes on at its beginning.
pub(super) fn read(log: &Path, from: LogPosition) -> Result<LogChunk, ProviderError> {
    let failed = |error| file_error(log, "read")(error);
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LogChunk { text: String::new(), next: 0 }),
        Err(error) => return Err(failed(error)),
    };
    let size = file.metadata().map_err(failed)?.len();
    let start = match from {
        LogPosition::Tail(_) => size.saturating_sub(CHUNK_MAX),
        LogPosition::Byte(position) if position > size => 0,
        LogPosition::Byte(position) => position,
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    file.take(CHUNK_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let whole = complete_lines(&bytes, bytes.len() as u64 == CHUNK_MAX);
    let next = start + whole.len() as u64;
    let text = String::from_utf8_lossy(whole);
    let text = match from {
        LogPosition::Tail(lines) => tail(&text, lines, start > 0),
        LogPosition::Byte(_) => &text,
    };
    Ok(LogChunk { text: text.to_owned(), next })
}

/// Leaves off a last line that is cut by the size of the chunk, and a character that is only half written.
fn complete_lines(bytes: &[u8], full: bool) -> &[u8] {
    if full && let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
        return &bytes[..=end];
    }
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

fn tail(text: &str, lines: usize, cut: bool) -> &str {
    if lines == 0 {
        return "";
    }
    let ends = text.strip_suffix('\n').unwrap_or(text).rmatch_indices('\n').nth(lines - 1);
    match ends {
        Some((position, _)) => &text[position + 1..],
        // The first line of a chunk out of the middle is only the end of one.
        None if cut => text.split_once('\n').map_or(text, |(_, rest)| rest),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(log: &Path, from: LogPosition) -> (String, u64) {
        let chunk = read(log, from).unwrap();
        (chunk.text, chunk.next)
    }

    #[test]
    fn tail_and_follow_give_every_line_once() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("backend.log");
        assert_eq!(chunk(&log, LogPosition::Tail(5)), (String::new(), 0));
        std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(chunk(&log, LogPosition::Tail(2)), ("two\nthree\n".to_owned(), 14));
        assert_eq!(chunk(&log, LogPosition::Tail(0)), (String::new(), 14));
        assert_eq!(chunk(&log, LogPosition::Tail(9)), ("one\ntwo\nthree\n".to_owned(), 14));
        std::fs::write(&log, b"one\ntwo\nthree\nfour\xc3").unwrap();
        assert_eq!(chunk(&log, LogPosition::Byte(14)), ("four".to_owned(), 18));
        assert_eq!(chunk(&log, LogPosition::Byte(99)).1, 18);
    }

    #[test]
    fn a_huge_log_is_read_in_pieces_and_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("backend.log");
        let line = format!("{}\n", "x".repeat(99));
        std::fs::write(&log, line.repeat(110_000)).unwrap();
        let first = read(&log, LogPosition::Byte(0)).unwrap();
        assert!(first.text.ends_with('\n') && first.next <= CHUNK_MAX);
        assert_eq!(read(&log, LogPosition::Tail(1_000_000)).unwrap().text.lines().next(), Some(line.trim_end()));
        rotate(&log, LogWriter::Running).unwrap();
        assert_eq!(size(&log).unwrap(), 0);
        assert_eq!(size(&rotated_path(&log, 1)).unwrap(), 11_000_000);
        for _ in 0..4 {
            std::fs::write(&log, line.repeat(110_000)).unwrap();
            rotate(&log, LogWriter::None).unwrap();
        }
        assert!(rotated_path(&log, 3).exists() && !rotated_path(&log, 4).exists() && !log.exists());
    }
}
