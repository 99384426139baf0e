//! Volumes that an engine left half made when it died.
//!
//! An engine keeps the labels of a volume apart from its directory and writes them afterwards. Killed in between, it comes
//! back with a volume of our name that nothing proves to be ours. Such a volume is replaced where nothing can be lost: its
//! name holds the identity of the backend, which no one else knows; it is as an engine makes one without options; it is
//! empty; and no container has it, which the engine itself checks when it removes one. What another command writes between
//! the look and the removal would have to come and go in that moment.

use bollard::models::Volume;
use bollard::query_parameters::{ListImagesOptions, RemoveVolumeOptions};

use super::engine::{Engine, is_absent, is_conflict};
use super::inventory::{Inventory, inspect_volume, read_archive};
use super::labels::{ControlPlaneId, ResourceNames, ResourceRole};
use super::probe::{self, ProbeMount};
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;

/// More than the archive of an empty directory has, and less than one that is worth waiting for.
const MAX_ARCHIVE: usize = 16 << 10;

/// Removes a volume that an engine left without its labels. Says whether it is gone: one that may hold or get data stays.
pub(super) async fn remove_half_made(
    engine: &Engine,
    resolved: &ResolvedBackend,
    volume: &Volume,
    image: &str,
    control_plane: &ControlPlaneId,
) -> Result<bool, ProviderError> {
    if !is_unlabelled(volume) || !is_empty(engine, resolved, volume, image, control_plane).await? {
        return Ok(false);
    }
    match engine.client.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) if is_conflict(&error) => Ok(false),
        Err(error) => Err(engine.failed(&format!("remove the volume `{}`", volume.name), error)),
    }
}

/// Removes what an engine that died has left of the volumes of a backend that never was ready. Volumes that cannot be proven
/// to be empty stay.
pub(super) async fn remove_all_half_made(
    engine: &Engine,
    resolved: &ResolvedBackend,
    inventory: &Inventory,
    control_plane: &ControlPlaneId,
) -> Result<(), ProviderError> {
    if resolved.has_been_ready {
        return Ok(());
    }
    for role in [ResourceRole::Data, ResourceRole::DatabaseData] {
        if inventory.volume(role, resolved).is_some() {
            continue;
        }
        let Some(volume) = inspect_volume(engine, &ResourceNames::of(resolved).volume(role)).await? else { continue };
        // Any image does: nothing of it runs.
        let images = engine.client.list_images(None::<ListImagesOptions>).await;
        let images = images.map_err(|error| engine.failed("list the images", error))?;
        if let Some(image) = images.first() {
            remove_half_made(engine, resolved, &volume, &image.id, control_plane).await?;
        }
    }
    Ok(())
}

/// Whether a volume is as an engine knows it that has lost what it was told about it.
fn is_unlabelled(volume: &Volume) -> bool {
    volume.labels.is_empty() && volume.options.is_empty() && volume.driver == "local"
}

/// Whether there is no file at all in a volume. A container that is never started shows it.
async fn is_empty(
    engine: &Engine,
    resolved: &ResolvedBackend,
    volume: &Volume,
    image: &str,
    control_plane: &ControlPlaneId,
) -> Result<bool, ProviderError> {
    let id = probe::create(engine, resolved, &volume.name, ProbeMount::ReadOnly, image, control_plane).await?;
    let seen = read_archive(engine, &id, probe::TARGET, MAX_ARCHIVE).await;
    engine.remove_container(&id, true).await?;
    match seen {
        Ok(start) => Ok(start.is_some_and(|start| start.is_whole && is_empty_folder(&start.bytes))),
        // The engine died before it made the directory.
        Err(ProviderError::Engine { reason, .. })
            if reason.contains(&format!("lstat {}: no such file or directory", volume.mountpoint)) =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Whether an archive holds one directory and nothing else.
fn is_empty_folder(bytes: &[u8]) -> bool {
    let mut archive = tar::Archive::new(bytes);
    let Ok(mut entries) = archive.entries() else { return false };
    let first = entries.next();
    first.is_some_and(|entry| entry.is_ok_and(|entry| entry.header().entry_type().is_dir())) && entries.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
            header.set_size(0);
            builder.append_data(&mut header, name, std::io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn only_a_directory_without_anything_in_it_is_empty() {
        for (bytes, empty) in [
            (archive(&["probe/"]), true),
            (archive(&["probe/", "probe/file"]), false),
            (archive(&["probe/", "probe/folder/"]), false),
            (archive(&["probe"]), false),
            (archive(&[]), false),
            (Vec::new(), false),
            (archive(&["probe/", "probe/file"])[..700].to_vec(), false),
            (b"no archive at all".repeat(100), false),
        ] {
            assert_eq!(is_empty_folder(&bytes), empty);
        }
    }

    #[test]
    fn a_volume_that_something_says_anything_about_is_not_half_made() {
        let plain = Volume { name: "v".to_owned(), driver: "local".to_owned(), ..Volume::default() };
        let pair = || std::collections::HashMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(is_unlabelled(&plain));
        assert!(!is_unlabelled(&Volume { labels: pair(), ..plain.clone() }));
        assert!(!is_unlabelled(&Volume { options: pair(), ..plain.clone() }));
        assert!(!is_unlabelled(&Volume { driver: "nfs".to_owned(), ..plain }));
    }
}
