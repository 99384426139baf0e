//! Room for the last thing that must work on a full disk: removing what fills it.
//!
//! A home keeps a file of zeros. What removes backends gives it up where there is no room, and the next write makes it again
//! once there is. A server takes on nothing else until then.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the rows of a removal and their journal need, with room to spare.
const RESERVE_BYTES: u64 = 512 << 10;
/// The file's name in the home.
const NAME: &str = "reserve";

fn reserve_path(home: &Path) -> PathBuf {
    home.join(NAME)
}

/// Returns how many bytes this user may still write where a directory is; none where that is not known.
fn free_bytes(directory: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let seen = rustix::fs::statvfs(directory).ok()?;
        Some(seen.f_bavail.saturating_mul(seen.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}

/// Makes the reserve of a home where there is none and room enough for twice as much. It is a convenience, so nothing fails
/// for the want of it.
pub(super) fn keep(home: &Path) {
    let path = reserve_path(home);
    let is_whole = fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= RESERVE_BYTES);
    if is_whole || free_bytes(home).is_none_or(|free| free < 2 * RESERVE_BYTES) {
        return;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&path).and_then(|mut file| {
        let zeros = vec![0; usize::try_from(RESERVE_BYTES).unwrap_or_default()];
        file.write_all(&zeros)
    });
    if written.is_err() {
        let _ = fs::remove_file(&path);
    }
}

/// Returns whether a home has no reserve and no room for one: then nothing is written but what makes room.
pub(super) fn is_missing(home: &Path) -> bool {
    keep(home);
    let is_whole = fs::metadata(reserve_path(home)).is_ok_and(|metadata| metadata.len() >= RESERVE_BYTES);
    !is_whole && free_bytes(home).is_some_and(|free| free < 2 * RESERVE_BYTES)
}

/// Gives up the reserve of a home whose disk has no room left.
pub(super) fn release(home: &Path) {
    if free_bytes(home).is_some_and(|free| free < RESERVE_BYTES) {
        let _ = fs::remove_file(reserve_path(home));
    }
}
