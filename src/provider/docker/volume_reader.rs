//! The data of a backend, read out of its volume by the engine: as archives of a container that never runs, wherever the engine is.
//!
//! The engine locks a container while it reads from it. So it is not the backend's own, which may be stopped and looked at
//! meanwhile.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::Docker;
use super::database_archive;
use super::desired::ExtraMount;
use super::engine::{Engine, is_absent};
use super::image::{ImagePin, backend_reference};
use super::inventory::Inventory;
use super::labels::{ResourceNames, ResourceRole};
use super::launch_file::DATA;
use super::probe::{self, ProbeMount};
use super::volume_users;
use crate::failpoint;
use crate::model::ResolvedBackend;
use crate::provider::kit::data_place::{DataVolume, VolumeAccess};
use crate::provider::launch_spec::require_own_data;
use crate::provider::{ProviderError, async_trait};

/// How many pieces of an archive wait to be read.
const PIECES: usize = 16;
/// How long an engine may be silent in the middle of an archive.
const SILENCE: Duration = Duration::from_secs(120);

/// Refuses a backend whose database or files are not in its volume.
pub(super) fn require_own_volume(resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    require_own_data(resolved)?;
    require_whole_volume(resolved)
}

/// Refuses a backend that has something else mounted into its data.
pub(super) fn require_whole_volume(resolved: &ResolvedBackend) -> Result<(), ProviderError> {
    let mounts = resolved.spec.settings.docker.mounts.iter().filter_map(|text| ExtraMount::parse(text));
    match mounts.map(|mount| mount.target).find(|target| target.trim_end_matches('/').starts_with(DATA)) {
        None => Ok(()),
        Some(target) => Err(ProviderError::Unsupported(format!(
            "the data of `{}` cannot be read as a whole: `{target}` is mounted into it",
            resolved.name
        ))),
    }
}

impl Docker {
    /// Opens the volume of a backend.
    pub(super) async fn open_data(
        &self,
        resolved: &ResolvedBackend,
        access: VolumeAccess,
    ) -> Result<Box<dyn DataVolume>, ProviderError> {
        require_whole_volume(resolved)?;
        let engine = self.engine_of(&resolved.spec).await?;
        let _lock = self.locks.lock(&resolved.id).await;
        let seen = self.inventory(&engine, resolved).await?;
        let names = ResourceNames::of(resolved);
        let missing = || ProviderError::DataMissing {
            instance: resolved.instance_name.to_string(),
            place: format!("volume {}", names.volume(ResourceRole::Data)),
        };
        let volume = seen.volume(ResourceRole::Data, resolved).ok_or_else(missing)?.name.clone();
        if access != VolumeAccess::Shared
            && let Some(user) = volume_users::writers(&engine, &volume, &[]).await?.into_iter().next()
        {
            let (is_composed, user, container) = (user.compose.is_some(), user.to_string(), user.name);
            return Err(ProviderError::VolumeShared { volume, user, container, is_composed });
        }
        let image = probe_image(resolved, &seen)?;
        let mount = if access == VolumeAccess::Writable { ProbeMount::Writable } else { ProbeMount::ReadOnly };
        let probe = probe::create(&engine, resolved, &volume, mount, &image, &self.control_plane).await?;
        Ok(Box::new(OpenVolume { engine, probe, image }))
    }
}

/// Returns the image of the backend that its engine has.
pub(super) fn probe_image(resolved: &ResolvedBackend, seen: &Inventory) -> Result<String, ProviderError> {
    let names = ResourceNames::of(resolved);
    let container = seen.current(&names).or(seen.previous(&names)).or(seen.adopted.as_ref());
    let reference = backend_reference(resolved)?;
    let pinned = || ImagePin::BACKEND.id(&resolved.provider_state, &reference);
    let image = container.and_then(|container| container.image.as_deref()).or_else(pinned).unwrap_or(&reference);
    Ok(image.to_owned())
}

/// A volume in a probe.
struct OpenVolume {
    engine: Engine,
    probe: String,
    image: String,
}

#[async_trait]
impl DataVolume for OpenVolume {
    async fn read(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, ProviderError> {
        let path = format!("{}/{path}", probe::TARGET);
        let (sender, mut pieces) = mpsc::channel(PIECES);
        tokio::spawn(download(self.engine.clone(), self.probe.clone(), path.clone(), sender));
        let failed = |error| self.engine.failed(&format!("read `{path}` of the volume"), error);
        let piece = match pieces.recv().await {
            Some(Ok(piece)) => piece,
            Some(Err(Interruption::Engine(error))) if is_absent(&error) => return Ok(None),
            Some(Err(Interruption::Engine(error))) => return Err(failed(error)),
            Some(Err(Interruption::Silence)) => return Err(ProviderError::Unreachable(Interruption::Silence.to_string())),
            None => Vec::new(),
        };
        failpoint::hit("provider.docker.volume_read");
        Ok(Some(Box::new(ArchiveReader { piece: Cursor::new(piece), pieces })))
    }

    async fn replace_database(&self, database: &Path) -> Result<(), ProviderError> {
        let archive = database_archive::stream(database, self.engine.image_user(&self.image).await?).await?;
        self.engine.unpack(&self.probe, probe::TARGET, archive, "write the database into the volume").await?;
        failpoint::hit("provider.docker.database_replaced");
        Ok(())
    }

    async fn close(&self) -> Result<(), ProviderError> {
        self.engine.remove_container(&self.probe, true).await
    }
}

/// Why an archive ended early.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    /// The engine said so.
    #[error(transparent)]
    Engine(#[from] bollard::errors::Error),
    /// The engine said nothing.
    #[error("the engine sent nothing of an archive for {} s", SILENCE.as_secs())]
    Silence,
}

/// Passes an archive on, at the speed at which it is read.
async fn download(engine: Engine, container: String, path: String, pieces: mpsc::Sender<Result<Vec<u8>, Interruption>>) {
    let options = DownloadFromContainerOptionsBuilder::default().path(&path).build();
    let mut archive = engine.client.download_from_container(&container, Some(options)).boxed();
    loop {
        let piece = match tokio::time::timeout(SILENCE, archive.next()).await {
            Ok(None) => return,
            Ok(Some(piece)) => piece.map(|piece| piece.to_vec()).map_err(Interruption::from),
            Err(_) => Err(Interruption::Silence),
        };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// An archive, as a reader on a thread that may block.
struct ArchiveReader {
    piece: Cursor<Vec<u8>>,
    pieces: mpsc::Receiver<Result<Vec<u8>, Interruption>>,
}

impl Read for ArchiveReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.piece.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = Cursor::new(piece.map_err(io::Error::other)?),
            }
        }
    }
}
