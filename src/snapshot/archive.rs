//! Tar archives, in which data arrives that is not on this machine. An archive that was cut off is an error, and never a shorter one.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use super::error::{SnapshotError, file_error};

/// What an archive ends with: two blocks of zeros.
const TRAILER_BYTES: u64 = 1024;

/// Receives a file of an archive: its path, its bytes, and its content.
pub(super) type TakeFile<'a> = &'a mut dyn FnMut(String, u64, &mut dyn Read) -> Result<(), SnapshotError>;

/// Reads the regular files of an archive in order. A content that is not taken is passed over.
pub(super) fn read_archive(archive: impl Read, take: TakeFile<'_>) -> Result<(), SnapshotError> {
    let failed = |error| file_error(Path::new("the archive of the data"), "read")(error);
    let zeros = Rc::new(Cell::new(0));
    let mut archive = tar::Archive::new(TrailerReader { inner: archive, zeros: Rc::clone(&zeros) });
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let kind = entry.header().entry_type();
        if kind.is_hard_link() {
            // Its content is that of another file, and nothing of Convex makes one.
            return Err(failed(io::Error::other("a file in it is a hard link")));
        }
        // As with folders: what is no file, or has no name that can be kept, is none of Convex's.
        if !kind.is_file() {
            continue;
        }
        let Some(path) = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned)) else { continue };
        let bytes = entry.size();
        take(path.trim_start_matches("./").to_owned(), bytes, &mut entry)?;
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
    if zeros.get() >= TRAILER_BYTES { Ok(()) } else { Err(failed(io::ErrorKind::UnexpectedEof.into())) }
}

/// Unpacks one file of an archive into a new file for this user only.
///
/// # Errors
/// It is not in the archive, or the archive is cut off.
pub fn unpack_file(archive: impl Read, name: &str, target: &Path) -> Result<(), SnapshotError> {
    let mut found = false;
    read_archive(archive, &mut |path, bytes, content| {
        if path != name || found {
            return Ok(());
        }
        found = true;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
        let copied = io::copy(content, &mut file.map_err(file_error(target, "created"))?);
        let copied = copied.map_err(file_error(target, "copied"))?;
        if copied == bytes { Ok(()) } else { Err(file_error(target, "copied")(io::ErrorKind::UnexpectedEof.into())) }
    })?;
    if found { Ok(()) } else { Err(file_error(target, "copied")(io::ErrorKind::NotFound.into())) }
}

/// Counts the zeros at the end of what was read so far.
struct TrailerReader<R> {
    inner: R,
    zeros: Rc<Cell<u64>>,
}

impl<R: Read> Read for TrailerReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let read = buffer.get(..length).unwrap_or_default();
        let zeros = read.iter().rev().take_while(|byte| **byte == 0).count();
        let before = if zeros == length { self.zeros.get() } else { 0 };
        self.zeros.set(before + zeros as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in [("storage/files/a.blob", vec![1; 1500]), ("storage/files/b.blob", vec![2; 512])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn names(bytes: &[u8]) -> Result<Vec<(String, u64)>, SnapshotError> {
        let mut seen = Vec::new();
        read_archive(bytes, &mut |path, bytes, _| {
            seen.push((path, bytes));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn an_archive_that_was_cut_off_anywhere_is_an_error() {
        let whole = archive();
        assert_eq!(
            names(&whole).unwrap(),
            [("storage/files/a.blob".to_owned(), 1500), ("storage/files/b.blob".to_owned(), 512)]
        );
        for length in 0..whole.len() - 511 {
            assert!(names(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
