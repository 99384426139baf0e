//! The data of a snapshot, written beside that of a backend: into a folder of this machine, or as an archive into a volume.
//!
//! Must not do: touch what the backend runs on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::snapshots::{ProgressCounter, check_fits};
use super::{Host, effects};
use crate::api::{ProgressFn, StartMode};
use crate::authority::EffectFailure;
use crate::database::rows;
use crate::failpoint;
use crate::model::{Diagnostic, ResolvedBackend, SnapshotId, error_chain};
use crate::provider::ProviderError;
use crate::provider::kit::data_place::{StagedVolume, StagingPlace};
use crate::snapshot::{ArchiveLayout, DATABASE_FILE, SnapshotError, SnapshotStore};

/// How many pieces of an archive wait to be sent, and how large they are.
const PIECES: usize = 16;
const PIECE_BYTES: usize = 128 << 10;

impl Host {
    /// Writes the data of a snapshot to where it is switched from.
    pub(super) async fn stage_data(
        &self,
        placement: &ResolvedBackend,
        id: &SnapshotId,
        start: StartMode,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let store = self.store_of(placement)?;
        let manifest = store.get(id).map_err(|error| EffectFailure::from(error.diagnostic()))?;
        check_fits(placement, &manifest)?;
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        match provider.staging_place(placement, id).map_err(failed)? {
            StagingPlace::Switched => Ok(()),
            StagingPlace::Folder(staged) => self.stage_folder(store, id, staged, start, notice).await,
            StagingPlace::Volume => {
                let staged = provider.open_staging(placement, id).await.map_err(failed)?;
                if staged.is_whole().await.map_err(failed)? {
                    return Ok(());
                }
                let paused = match start {
                    StartMode::AsItWas => None,
                    StartMode::Paused => Some(self.paused_database(placement, &store, id).await?),
                };
                let written = self.stage_volume(placement, (store, id), paused, &*staged, notice).await;
                self.empty_exchange(placement)?;
                written
            }
        }
    }

    async fn stage_folder(
        &self,
        store: SnapshotStore,
        id: &SnapshotId,
        staged: PathBuf,
        start: StartMode,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let (snapshot, folder) = (id.clone(), staged.clone());
        let unpack = move |progress: &ProgressCounter| stage(&store, &snapshot, &folder, progress);
        self.blocking_with_progress("read", notice, unpack).await?;
        if start == StartMode::Paused {
            // Nothing uses it yet, and repeating the edit is harmless.
            pause(&staged.join(DATABASE_FILE))?;
        }
        Ok(())
    }

    /// Writes the database of a snapshot into the exchange, paused, and returns its path.
    async fn paused_database(
        &self,
        placement: &ResolvedBackend,
        store: &SnapshotStore,
        id: &SnapshotId,
    ) -> Result<PathBuf, EffectFailure> {
        let (path, store, id) = (self.new_exchange(placement)?, store.clone(), id.clone());
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let database = self.blocking(move || store.unpack_database(&id, &folder)).await?;
        pause(&database)?;
        Ok(database)
    }

    async fn stage_volume(
        &self,
        placement: &ResolvedBackend,
        (store, id): (SnapshotStore, &SnapshotId),
        edited: Option<PathBuf>,
        staged: &dyn StagedVolume,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let (user, group) = staged.owner();
        let (layout, id) = (ArchiveLayout { root: staged.root(), user, group }, id.clone());
        let (sender, pieces) = mpsc::channel(PIECES);
        let pack = move |progress: &ProgressCounter| {
            let mut writer = PieceWriter { piece: Vec::new(), pieces: sender };
            let packed = store.pack(&id, layout, edited.as_deref(), &mut writer, progress);
            if packed.is_err() {
                // What ends without an error would be taken for a whole archive.
                let _ = writer.pieces.blocking_send(Err(io::ErrorKind::InvalidData.into()));
            }
            packed
        };
        let archive = stream::unfold(pieces, async |mut pieces| pieces.recv().await.map(|piece| (piece, pieces)));
        let (packed, written) = tokio::join!(self.blocking_with_progress("read", notice, pack), staged.write(archive.boxed()));
        match (packed, written) {
            (Ok(()), written) => written.map_err(failed)?,
            // An archive that is not taken any more is the consequence of the other failure.
            (Err(unsent), Err(error)) if unsent.finding.code == "snapshot.file" => return Err(failed(error)),
            (Err(failure), _) => return Err(failure),
        }
        failpoint::hit("snapshot.staged");
        Ok(())
    }
}

/// Pauses a database that nothing uses yet. Repeating it is harmless.
fn pause(database: &Path) -> Result<(), EffectFailure> {
    rows::pause_copy(database).map_err(|error| {
        let message = format!("the copy of the data cannot be paused, so it is not started: {}", error_chain(&error));
        Diagnostic::new("snapshot.not_paused", message).into()
    })
}

/// Passes an archive on in pieces, from a thread that may block.
struct PieceWriter {
    piece: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Vec<u8>>>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes the data of a snapshot to where it is switched from. What is there under that name is whole.
fn stage(
    store: &SnapshotStore,
    id: &SnapshotId,
    staged: &Path,
    progress: crate::snapshot::ProgressFn<'_>,
) -> Result<(), SnapshotError> {
    let file = |source| SnapshotError::File { path: staged.display().to_string(), verb: "written", source };
    let Some(folder) = staged.parent() else { return Err(file(std::io::ErrorKind::NotFound.into())) };
    if staged.exists() {
        return Ok(());
    }
    let partial = folder.join("data.partial");
    match std::fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    store.unpack(id, &partial, progress)?;
    failpoint::hit("snapshot.unpacked");
    std::fs::rename(&partial, staged).map_err(file)?;
    failpoint::hit("snapshot.staged");
    Ok(())
}
