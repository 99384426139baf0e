//! Whether a replacement has written to the data of a backend: only an untouched database is safe with the build from before,
//! as a newer one migrates it.

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;

use super::backend::DATABASE_FILE;
use super::engine::{Engine, is_absent};
use super::inventory::{id_of, inspect_container};
use crate::model::{ResolvedBackend, Storage};
use crate::provider::ProviderError;

/// Returns whether a container of another build than the one from before may have migrated the data since that one has stopped.
/// What cannot be told is taken for written.
pub(super) async fn by_another_build(
    engine: &Engine,
    resolved: &ResolvedBackend,
    new: &ContainerInspectResponse,
    old: &ContainerInspectResponse,
) -> Result<bool, ProviderError> {
    if new.image.is_some() && new.image == old.image {
        return Ok(false);
    }
    // Asked again: it was stopped since it was inspected.
    let stopped = match inspect_container(engine, id_of(old)).await? {
        Some(old) => old.state.and_then(|state| state.finished_at),
        None => None,
    };
    let stopped = stopped.and_then(|time| time.parse::<jiff::Timestamp>().ok());
    // Documents on a server carry no time.
    let (Some(stopped), Storage::Sqlite) = (stopped, &resolved.spec.storage) else { return Ok(true) };
    for path in [DATABASE_FILE.to_owned(), format!("{DATABASE_FILE}-wal")] {
        if modified_at(engine, id_of(new), &path).await?.is_some_and(|modified| modified > stopped) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns when a file of a container was last written; none where there is no such file. One without a time is as new as can be.
async fn modified_at(engine: &Engine, container: &str, path: &str) -> Result<Option<jiff::Timestamp>, ProviderError> {
    let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
    match engine.client.get_container_archive_info(container, Some(options)).await {
        Ok(seen) => {
            let time = seen.modification_time.and_then(|time| time.parse().ok());
            Ok(Some(time.unwrap_or(jiff::Timestamp::MAX)))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(engine.failed("look at the data", error)),
    }
}
