//! Snapshots and restores: the effects on the data of a backend, and the store of the snapshots in the home.
//!
//! Must not do: decide in which order data is copied, replaced and given back; the table of operations does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Host, effects};
use crate::api::{ControlError, ProgressFn, Work};
use crate::authority::{Effect, EffectFailure, EffectResult, SnapshotPurpose, SnapshotRequest, awaits_snapshot};
use crate::failpoint;
use crate::model::{
    BackendName, ByteSize, Diagnostic, MOVE_LOCK, Phase, ProjectName, ProviderState, Release, ReleaseOrder, ResolvedBackend,
    RunState, Snapshot, SnapshotId,
};
use crate::policy;
use crate::provider::ProviderError;
use crate::provider::kit::data_place::{DataPlace, DataVolume, VolumeAccess};
use crate::snapshot::{
    ChunkCodec, DATABASE_FILE, DATABASE_FILES, DatabaseCopy, STORAGE_FOLDER, SnapshotError, SnapshotManifest, SnapshotSource,
    SnapshotStore, SnapshotSubject, StoredFiles,
};

/// How many bytes of a long work are done between two words about it.
const BYTES_BETWEEN_NOTICES: u64 = 256 << 20;
/// How often is looked how far it is.
const NOTICE_INTERVAL: Duration = Duration::from_millis(500);

impl Host {
    /// Returns the snapshots of a project; none while this control plane has never been used.
    ///
    /// # Errors
    /// The rows or the master key cannot be read.
    pub fn snapshots(&self, project: &ProjectName) -> Result<Option<SnapshotStore>, ControlError> {
        let Some(folder) = self.platform.snapshot_folder() else { return Ok(None) };
        let key = self.read_rows(|authority| authority.snapshot_key(project))?;
        Ok(key.map(|key| SnapshotStore::new(folder.join(project.as_str()), ChunkCodec::sealed(&key))))
    }

    pub(super) fn store_of(&self, placement: &ResolvedBackend) -> Result<SnapshotStore, EffectFailure> {
        let unusable = |error: ControlError| error.report().errors.into_iter().next();
        match self.snapshots(&placement.project) {
            Ok(Some(store)) => Ok(store),
            Ok(None) => Err(Diagnostic::new("bug", "a snapshot without a home; this is a bug in convexinfra").into()),
            Err(error) => {
                let finding = unusable(error);
                Err(finding
                    .unwrap_or_else(|| Diagnostic::new("bug", "an error without words; this is a bug in convexinfra"))
                    .into())
            }
        }
    }

    /// Refuses a snapshot or a restore that could never be carried out, before anything is stopped.
    pub(super) fn check_data_work(&self, project: &ProjectName, name: &BackendName, work: &Work) -> Result<(), ControlError> {
        if let Work::Remove { final_snapshot: true, .. } = work {
            return self.check_final_snapshot(project, name);
        }
        let (snapshot, release) = match work {
            Work::Snapshot { .. } | Work::DropPrevious {} => (None, None),
            Work::Restore { snapshot, release, .. } => (Some(snapshot), release.as_ref()),
            _ => return Ok(()),
        };
        let unknown = || ControlError::NoSuchBackend { project: project.clone(), backend: name.clone() };
        let placement = self.read_rows(|authority| authority.resolve_backend(project, name))?.ok_or_else(unknown)?;
        let provider = self.provider(placement.spec.provider).map_err(ControlError::Refused)?;
        let place = match snapshot {
            None => provider.data_place(&placement).map(drop),
            Some(id) => provider.staging_place(&placement, id).map(drop),
        };
        if let Err(error) = place {
            let finding = Diagnostic::new("snapshot.unsupported", error.to_string());
            let help = format!("take an archive instead\n    convexinfra archive {name} --out {name}.zip");
            return Err(ControlError::Unsupported(finding.with_help(help)));
        }
        let store = self.snapshots(project)?.ok_or_else(unknown)?;
        if matches!(work, Work::DropPrevious {}) {
            return Ok(());
        }
        let Some(id) = snapshot else { return store.check_count().map_err(|error| ControlError::Refused(error.diagnostic())) };
        let manifest = store.get(id).map_err(|error| ControlError::Refused(error.diagnostic()))?;
        if let Some(release) = release
            && manifest.release.as_deref() != Some(release.to_string().as_str())
        {
            let message = format!("the snapshot `{id}` is not of the release `{release}`, so it is not started with that one");
            return Err(ControlError::Refused(Diagnostic::new("snapshot.other_release", message)));
        }
        if release.is_some() { Ok(()) } else { check_fits(&placement, &manifest).map_err(ControlError::Refused) }
    }

    /// Refuses a removal whose last snapshot could never be taken, before anything is stopped.
    fn check_final_snapshot(&self, project: &ProjectName, name: &BackendName) -> Result<(), ControlError> {
        let placement = self.read_rows(|authority| authority.resolve_backend(project, name))?;
        let Some(placement) = placement.filter(|placement| placement.has_been_ready) else { return Ok(()) };
        let refused = |finding: Diagnostic| {
            let without = format!(
                "destroy it without a last snapshot\n    convexinfra destroy {name} --no-last-snapshot --allow-destroy {name}"
            );
            let help = finding.help.as_ref().map_or_else(|| without.clone(), |help| format!("{help}\nor {without}"));
            ControlError::Refused(finding.with_help(help))
        };
        if let Err(error) = self.provider(placement.spec.provider).map_err(ControlError::Refused)?.data_place(&placement) {
            return Err(refused(Diagnostic::new("snapshot.unsupported", error.to_string())));
        }
        match self.snapshots(project)? {
            Some(store) => store.check_count().map_err(|error| refused(error.diagnostic())),
            None => Err(refused(Diagnostic::new(
                "snapshot.unavailable",
                "this control plane has no disk, so it keeps no snapshots",
            ))),
        }
    }

    /// Adds to the backends of a project what their data takes and when it was last saved, as far as that can be looked at.
    pub(super) fn measure_data(&self, project: &ProjectName, backends: &[(usize, ResolvedBackend)], snapshot: &mut Snapshot) {
        let store = self.snapshots(project).ok().flatten();
        let listing = store.as_ref().and_then(|store| store.list().ok());
        for backend in &mut snapshot.backends {
            let newest = listing.as_ref().and_then(|listing| listing.newest(&backend.name));
            backend.last_snapshot = newest.map(|manifest| manifest.created_at);
        }
        for (index, placement) in backends.iter().filter(|(_, placement)| placement.has_been_ready) {
            let Some(backend) = snapshot.backends.get_mut(*index) else { continue };
            let place = self.provider(placement.spec.provider).ok().and_then(|provider| provider.data_place(placement).ok());
            // What is in a volume is not known without reading it.
            (backend.data_size, backend.takes_snapshots) = match place {
                Some(DataPlace::Folder(folder)) => (crate::snapshot::measure(&folder), folder.join(DATABASE_FILE).is_file()),
                Some(DataPlace::Volume) => (None, true),
                None => (None, false),
            };
            // What a removal that has begun left of it is no whole copy.
            let is_whole = backend.phase != Phase::Removing || awaits_snapshot(&placement.provider_state);
            let is_locked = placement.provider_state.contains_key(MOVE_LOCK);
            backend.takes_snapshots &= store.is_some() && policy::takes_snapshots(&placement.spec) && is_whole && !is_locked;
        }
    }

    /// Performs an effect on the data of a backend.
    pub(super) async fn run_data_effect(&self, effect: Effect, notice: ProgressFn<'_>) -> EffectResult {
        let done = match effect {
            Effect::CopyData(placement, request) => {
                self.copy_data(&placement, &request).await.map(|()| EffectResult::DataCopied)
            }
            Effect::WriteSnapshot(placement, request) => {
                self.write_snapshot(&placement, request, notice).await.map(|()| EffectResult::SnapshotWritten)
            }
            Effect::StageData(placement, id, start) => {
                self.stage_data(&placement, &id, start, notice).await.map(|()| EffectResult::DataStaged)
            }
            Effect::SwitchData(placement, id) => self.switch_data(&placement, &id).await.map(EffectResult::DataSwitched),
            Effect::ConfirmData(placement, id) => self.confirm_data(&placement, &id).await.map(EffectResult::DataConfirmed),
            Effect::DropPrevious(placement) => self.drop_previous(&placement).await.map(EffectResult::PreviousDropped),
            Effect::RevertData(placement, id) => self.revert_data(&placement, &id).await.map(EffectResult::DataReverted),
            other => {
                let message = format!("{:?} is no effect on data; this is a bug in convexinfra", other.step());
                Err(Diagnostic::new("bug", message).into())
            }
        };
        done.unwrap_or_else(EffectResult::Failed)
    }

    async fn copy_data(&self, placement: &ResolvedBackend, request: &SnapshotRequest) -> Result<(), EffectFailure> {
        let store = self.store_of(placement)?;
        let copy = store.copy(&request.id);
        if copy.is_complete() || store.get(&request.id).is_ok() {
            return Ok(());
        }
        // Before anything is stopped, that of an upgrade as well.
        store.check_count().map_err(|error| error.diagnostic())?;
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let place = provider.data_place(placement).map_err(failed)?;
        let runs = provider.observe(placement).await.map_err(failed)?.state;
        let runs = matches!(runs, RunState::Running | RunState::Unready);
        // An upgrade is down until its new release is up, and what is removed stays down, so the snapshot by itself tells of
        // no downtime.
        let stopped_at = (runs && request.purpose == SnapshotPurpose::Asked).then(|| self.now());
        provider.stop(placement).await.map_err(failed)?;
        failpoint::hit("host.stopped_for_copy");
        match place {
            DataPlace::Folder(data) => self.blocking(move || copy.take(&data, stopped_at)).await,
            DataPlace::Volume => {
                let volume = provider.open_volume(placement, VolumeAccess::Exclusive).await.map_err(failed)?;
                let copied = self.copy_volume(placement, &*volume, &copy).await;
                let closed = volume.close().await.map_err(failed);
                let completed = copied.and(closed).and_then(|()| copy.complete(stopped_at).map_err(refused));
                if completed.is_err() {
                    let _ = copy.discard();
                }
                completed
            }
        }
    }

    /// Copies the database out of the volume of a backend that does not run.
    async fn copy_volume(
        &self,
        placement: &ResolvedBackend,
        volume: &dyn DataVolume,
        copy: &DatabaseCopy,
    ) -> Result<(), EffectFailure> {
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        copy.begin().map_err(refused)?;
        for name in DATABASE_FILES {
            match volume.read(name).await.map_err(failed)? {
                Some(archive) => {
                    let copy = copy.clone();
                    self.blocking(move || copy.add(name, archive)).await?;
                }
                None if name == DATABASE_FILE => {
                    let (instance, place) = (placement.instance_name.to_string(), format!("{name} in its volume"));
                    return Err(failed(ProviderError::DataMissing { instance, place }));
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn write_snapshot(
        &self,
        placement: &ResolvedBackend,
        request: SnapshotRequest,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let store = self.store_of(placement)?;
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let place = provider.data_place(placement).map_err(failed)?;
        let (release, before_upgrade_to) = match &request.purpose {
            SnapshotPurpose::Upgrade(from, to) => (noted_release(placement).or_else(|| from.clone()), Some(to.to_string())),
            SnapshotPurpose::Asked | SnapshotPurpose::Removal => (running_release(placement), None),
        };
        let is_final = request.purpose == SnapshotPurpose::Removal;
        let release = release.map(|release| release.to_string());
        let (now, backend) = (self.now(), SnapshotSubject::from(placement));
        let volume = match place {
            DataPlace::Volume => Some(provider.open_volume(placement, VolumeAccess::Shared).await.map_err(failed)?),
            DataPlace::Folder(_) => None,
        };
        let archive = match &volume {
            Some(volume) => volume.read(STORAGE_FOLDER).await,
            None => Ok(None),
        };
        let written = match archive {
            Ok(archive) => {
                let write = move |progress: &ProgressCounter| {
                    let files = match &place {
                        DataPlace::Folder(data) => StoredFiles::Folder(data),
                        DataPlace::Volume => StoredFiles::Archive(archive),
                    };
                    let (id, note, created_at) = (&request.id, request.note.clone(), request.created_at);
                    let source = SnapshotSource { id, backend, files, release, note, before_upgrade_to, created_at };
                    store.write(source, now, progress)
                };
                self.blocking_with_progress("written", notice, write).await
            }
            Err(error) => Err(failed(error)),
        };
        if let Some(volume) = volume {
            volume.close().await.map_err(failed)?;
        }
        let manifest = written?;
        if let Some(downtime) = manifest.downtime_ms {
            notice(format!("it did not run for {} ms", downtime));
        }
        if is_final {
            let bytes = ByteSize::from_bytes(manifest.content.bytes());
            notice(format!("its last snapshot is `{}`, of {bytes}", manifest.id));
        }
        Ok(())
    }

    async fn switch_data(&self, placement: &ResolvedBackend, id: &SnapshotId) -> Result<ProviderState, EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let state = provider.switch_data(placement, id).await.map_err(failed)?;
        failpoint::hit("host.data_switched");
        Ok(state)
    }

    async fn confirm_data(&self, placement: &ResolvedBackend, id: &SnapshotId) -> Result<ProviderState, EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let state = provider.confirm_data(placement, id).await.map_err(failed)?;
        failpoint::hit("host.data_confirmed");
        Ok(state)
    }

    async fn revert_data(&self, placement: &ResolvedBackend, id: &SnapshotId) -> Result<ProviderState, EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let state = provider.revert_data(placement, id).await.map_err(failed)?;
        failpoint::hit("host.data_reverted");
        Ok(state)
    }

    async fn drop_previous(&self, placement: &ResolvedBackend) -> Result<ProviderState, EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        let failed = |error: ProviderError| effects::effect_failure(placement, &error);
        let state = provider.drop_previous(placement).await.map_err(failed)?;
        failpoint::hit("host.previous_dropped");
        Ok(state)
    }

    /// Runs work on files that takes long on a thread of its own.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, EffectFailure> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|error| error.diagnostic().into()),
            Err(error) => {
                Err(Diagnostic::new("snapshot.interrupted", format!("the work on files was cut off: {error}")).into())
            }
        }
    }

    /// Does so, and says from time to time how far it is. Tasks that it depends on go on meanwhile.
    pub(super) async fn blocking_with_progress<T: Send + 'static>(
        &self,
        verb: &str,
        notice: ProgressFn<'_>,
        work: impl FnOnce(&ProgressCounter) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, EffectFailure> {
        let counter = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&counter);
        let mut work = std::pin::pin!(self.blocking(move || work(&move |done| counted.store(done, Ordering::Relaxed))));
        let mut told = 0;
        loop {
            if let Ok(done) = tokio::time::timeout(NOTICE_INTERVAL, &mut work).await {
                return done;
            }
            let done = counter.load(Ordering::Relaxed);
            if done.saturating_sub(told) >= BYTES_BETWEEN_NOTICES {
                told = done;
                notice(format!("{} {verb}", ByteSize::from_bytes(done)));
            }
        }
    }
}

/// Counts the bytes of a long work that are done.
pub(super) type ProgressCounter = dyn Fn(u64) + Send + Sync;

fn refused(error: SnapshotError) -> EffectFailure {
    error.diagnostic().into()
}

/// Refuses a snapshot that a backend cannot run on.
pub(super) fn check_fits(placement: &ResolvedBackend, manifest: &SnapshotManifest) -> Result<(), Diagnostic> {
    let (name, id) = (&placement.name, &manifest.id);
    let engine = placement.spec.storage.engine();
    if manifest.engine != engine {
        let message = format!("the snapshot `{id}` is of a backend on {}, and `{name}` is on {engine}", manifest.engine);
        return Err(Diagnostic::new("snapshot.other_engine", message));
    }
    let of_snapshot = manifest.release.as_deref().and_then(|release| Release::parse(release).ok());
    if let (Some(theirs), Some(ours)) = (of_snapshot, running_release(placement))
        && theirs.compare(&ours) == ReleaseOrder::Older
    {
        let message =
            format!("the snapshot `{id}` was written by {theirs}, and `{name}` runs the older {ours}, which cannot read it");
        let help = format!("set `release = \"{theirs}\"` or a newer one for `{name}`, apply, and restore then");
        return Err(Diagnostic::new("snapshot.newer_release", message).with_help(help));
    }
    Ok(())
}

/// Returns the release that runs: what the provider noted, else what is declared.
fn running_release(placement: &ResolvedBackend) -> Option<Release> {
    noted_release(placement).or_else(|| placement.spec.release.clone()).filter(Release::is_pinned)
}

fn noted_release(placement: &ResolvedBackend) -> Option<Release> {
    placement.provider_state.get("release").and_then(|release| Release::parse(release).ok())
}
