//! A database as a tar archive, streamed from its file: what an engine unpacks into a volume.

use std::io;
use std::path::Path;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::launch_file::FileOwner;
use crate::convex::launch::{DATABASE_FILE, DATABASE_FILES};
use crate::provider::ProviderError;

/// The unit that an archive is made of.
const BLOCK: u64 = 512;
/// How much of the file is passed on at once.
const PIECE: usize = 256 << 10;

/// Returns the archive of a database, with nothing in what SQLite keeps beside it: the journal of another one would be taken
/// for its own.
pub(super) async fn stream(
    database: &Path,
    owner: FileOwner,
) -> Result<BoxStream<'static, io::Result<Vec<u8>>>, ProviderError> {
    let failed = |source| ProviderError::File { path: database.display().to_string(), verb: "read", source };
    let file = File::open(database).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let mut head = Vec::new();
    for name in DATABASE_FILES.into_iter().filter(|name| *name != DATABASE_FILE) {
        head.extend(header(name, 0, owner).map_err(failed)?);
    }
    head.extend(header(DATABASE_FILE, size, owner).map_err(failed)?);
    let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
    // Two empty blocks are the end.
    let tail = vec![0; padding + 2 * BLOCK as usize];
    let content = stream::try_unfold(file.take(size), async |mut file| {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        Ok((read > 0).then_some((piece, file)))
    });
    Ok(stream::iter([Ok(head)]).chain(content).chain(stream::iter([Ok(tail)])).boxed())
}

fn header(name: &str, size: u64, owner: FileOwner) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_uid(owner.user);
    header.set_gid(owner.group);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn an_archive_holds_the_database_and_empty_journals() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any");
        for size in [0_usize, 1, 512, 700_001] {
            std::fs::write(&path, vec![7; size]).unwrap();
            let archive = stream(&path, FileOwner { user: 5, group: 6 }).await.unwrap();
            let bytes = archive.try_concat().await.unwrap();
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut seen = Vec::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let (name, owner) = (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap());
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert!(content.iter().all(|byte| *byte == 7));
                seen.push((name, content.len(), owner));
            }
            let named = |name: &str, size| (name.to_owned(), size, 5);
            assert_eq!(seen, [named("db.sqlite3-journal", 0), named("db.sqlite3-wal", 0), named("db.sqlite3", size)]);
        }
    }
}
