//! Reads files that others may have put in place: regular ones only, and never more than a limit.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileReadError {
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// It is a directory, a pipe, a socket or a device: reading may block or never end.
    #[error("it is not a regular file")]
    NotRegular,
    /// It is larger than the limit.
    #[error("it has more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// It is not text in UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// The file system did not answer.
    #[error("it could not be read within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The system refused.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for FileReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::Io(error) }
    }
}

impl From<FileReadError> for io::Error {
    fn from(error: FileReadError) -> Self {
        match error {
            FileReadError::Io(error) => error,
            FileReadError::NotFound => io::ErrorKind::NotFound.into(),
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// Opens a file without blocking: a pipe without a writer would hold the caller for ever.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    options.open(path)
}

/// Reads a regular file of at most `limit` bytes. The kind is checked on the open file, so exchanging the path in
/// between changes nothing; the limit is counted while reading, since a file may grow.
///
/// # Errors
/// [`FileReadError`]; its text does not name the path.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, FileReadError> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileReadError::NotRegular);
    }
    if metadata.len() > limit {
        return Err(FileReadError::TooLarge { limit });
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > limit { Err(FileReadError::TooLarge { limit }) } else { Ok(content) }
}

/// Reads a regular file of at most `limit` bytes as UTF-8 text.
///
/// # Errors
/// [`FileReadError`]; its text names neither the path nor any content.
pub fn read_regular_text(path: &Path, limit: u64) -> Result<String, FileReadError> {
    String::from_utf8(read_regular(path, limit)?).map_err(|_| FileReadError::NotUtf8)
}

/// Reads a regular file of at most `limit` bytes as UTF-8 text, and waits for its file system for at most `patience`: one
/// that is mounted from another machine may never answer. The thread that waits is left behind then.
///
/// # Errors
/// [`FileReadError`]; its text names neither the path nor any content.
pub fn read_regular_text_within(path: &Path, limit: u64, patience: Duration) -> Result<String, FileReadError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let owned = path.to_owned();
    std::thread::Builder::new().name("read".to_owned()).spawn(move || drop(sender.send(read_regular_text(&owned, limit))))?;
    receiver.recv_timeout(patience).unwrap_or(Err(FileReadError::TimedOut(patience)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("fits"), b"12345678").unwrap();
        std::fs::write(path("large"), b"123456789").unwrap();
        std::fs::write(path("bytes"), b"\xff").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        assert_eq!(read_regular(&path("fits"), 8).unwrap(), b"12345678");
        assert!(matches!(read_regular(&path("large"), 8), Err(FileReadError::TooLarge { limit: 8 })));
        assert!(matches!(read_regular(&path("absent"), 8), Err(FileReadError::NotFound)));
        assert!(matches!(read_regular_text(&path("bytes"), 8), Err(FileReadError::NotUtf8)));
        assert_eq!(read_regular_text_within(&path("fits"), 8, Duration::from_secs(60)).unwrap(), "12345678");
        for name in ["folder", "pipe", "endless"] {
            assert!(matches!(read_regular(&path(name), 8), Err(FileReadError::NotRegular)), "{name}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_whose_length_is_unknown_is_read_to_the_limit() {
        // Files of procfs say that they have no bytes.
        assert!(!read_regular(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        assert!(matches!(read_regular(Path::new("/proc/self/status"), 8), Err(FileReadError::TooLarge { limit: 8 })));
    }
}
