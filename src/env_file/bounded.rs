//! The limit for files of a repository, which anyone may have put there.

use std::io;
use std::path::Path;

use crate::system::{FileReadError, read_regular, read_regular_text};

/// The size of the largest env file, rule file or package manifest that is read, in bytes.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// Reads a regular file of at most [`LIMIT`] bytes.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_regular(path, LIMIT).map_err(|error| match error {
        FileReadError::Io(error) => error,
        FileReadError::NotFound => io::ErrorKind::NotFound.into(),
        other => io::Error::other(other),
    })
}

/// Reads a regular file of text of at most `LIMIT` bytes; none where it is anything else.
pub fn read_text(path: &Path) -> Option<String> {
    read_regular_text(path, LIMIT).ok()
}
