//! Moves of rows between databases: the effects on source and target.
//!
//! Must not do: decide in which order rows are copied, published and given back; the table of operations does.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Host, database, effects, exchange, storage};
use crate::api::ProgressFn;
use crate::authority::{DataMove, EffectFailure, EffectResult, MoveStep};
use crate::database::rows::{self, RowError, RowScope, RowStore, Stage};
use crate::failpoint;
use crate::model::{ByteSize, Diagnostic, ResolvedBackend, Storage, error_chain, shell_word};
use crate::provider::kit::data_place::DatabasePlace;
use crate::snapshot::DATABASE_FILE;

/// How many bytes of rows are copied between two words about it.
const BYTES_BETWEEN_NOTICES: u64 = 256 << 20;

impl Host {
    /// Performs one part of a move.
    pub(super) async fn run_move(&self, part: MoveStep, data: &DataMove, notice: ProgressFn<'_>) -> EffectResult {
        let DataMove { source, target } = data;
        let (done, point) = match part {
            MoveStep::Prepare => (self.prepare_move(source, target, notice).await, "host.move_prepared"),
            MoveStep::Lock => (self.lock_source(source).await, "host.source_locked"),
            MoveStep::Copy => (self.copy_rows(source, target, notice).await, "host.rows_copied"),
            MoveStep::Verify => (self.verify_rows(source, target, notice).await, "host.rows_verified"),
            MoveStep::Publish => (self.publish_target(target).await, "host.target_published"),
            MoveStep::Finish => {
                self.tell_what_stays(source, notice);
                let side = [source, target].into_iter().find(|side| self.is_in_volume(side));
                (side.map_or(Ok(()), |side| self.empty_exchange(side)), "host.move_finished")
            }
            MoveStep::Revert => (self.revert_move(source, target, notice).await, "host.move_reverted"),
        };
        match done {
            Ok(()) => {
                failpoint::hit(point);
                EffectResult::Moved(part)
            }
            Err(failure) => EffectResult::Failed(failure),
        }
    }

    /// Gives the rows of a backend back that a move which could not be undone has left locked.
    pub(super) async fn release_move_lock(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        if self.is_in_volume(placement) {
            // What is in the volume is never locked: its record says that it moves.
            return self.empty_exchange(placement);
        }
        let store = self.row_store(placement).await?;
        if store.is_locked().await.map_err(|error| self.row_failure(placement, &error))? {
            store.unlock().await.map_err(|error| self.row_failure(placement, &error))?;
        }
        Ok(())
    }

    /// Deletes what a move of a backend that is gone has left on this machine.
    pub(super) fn forget_moves(&self, placement: &ResolvedBackend) {
        // What is left is in a folder of this user, and without a record that names it.
        let _ = self.empty_exchange(placement);
    }

    /// Makes the target, and refuses what could never be copied, before anything is stopped.
    async fn prepare_move(
        &self,
        source: &ResolvedBackend,
        target: &ResolvedBackend,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        // Nothing was published yet, so the source is where the data is. Were it the target by another name as well, it would be
        // in use there.
        self.release_move_lock(source).await?;
        if !self.is_in_volume(source) {
            let from = self.row_store(source).await?;
            from.reader(Stage::Published, RowScope::ALL).await.map_err(|error| self.row_failure(source, &error))?;
        }
        if self.is_in_volume(target) {
            self.new_exchange(target)?;
        }
        if target.spec.has_own_server() {
            let target = target.clone().into_move_target();
            if let EffectResult::Failed(failure) = storage::prepare(self, &target, notice).await {
                return Err(failure);
            }
        }
        let to = self.row_store(target).await?;
        to.require_loadable().await.map_err(|error| self.row_failure(target, &error))
    }

    async fn lock_source(&self, source: &ResolvedBackend) -> Result<(), EffectFailure> {
        self.stop_for_move(source).await?;
        failpoint::hit("host.stopped_for_move");
        if self.is_in_volume(source) {
            self.fetch_database(source).await?;
        }
        self.row_store(source).await?.lock().await.map_err(|error| self.row_failure(source, &error))
    }

    async fn copy_rows(
        &self,
        source: &ResolvedBackend,
        target: &ResolvedBackend,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let (from, to) = (self.row_store(source).await?, self.row_store(target).await?);
        let mut reader = from.reader(Stage::Locked, RowScope::ALL).await.map_err(|error| self.row_failure(source, &error))?;
        let writer = to.writer().await.map_err(|error| self.row_failure(target, &error))?;
        let told = AtomicU64::new(0);
        let copied = rows::copy(reader.as_mut(), writer, |progress| {
            if progress.bytes.saturating_sub(told.load(Ordering::Relaxed)) >= BYTES_BETWEEN_NOTICES {
                told.store(progress.bytes, Ordering::Relaxed);
                notice(format!("{} rows copied, {}", progress.rows, ByteSize::from_bytes(progress.bytes)));
            }
        });
        let digest = copied.await.map_err(|error| self.row_failure(source, &error))?;
        let (documents, entries) = (digest.documents.rows, digest.indexes.rows);
        notice(format!("{documents} revisions of documents and {entries} index entries copied"));
        Ok(())
    }

    /// Reads both sides again: what was not copied, or changed behind our back, shows here.
    async fn verify_rows(
        &self,
        source: &ResolvedBackend,
        target: &ResolvedBackend,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let digest = async |placement: &ResolvedBackend, stage| {
            let failed = |error: RowError| self.row_failure(placement, &error);
            let mut reader = self.row_store(placement).await?.reader(stage, RowScope::ALL).await.map_err(failed)?;
            rows::digest(reader.as_mut()).await.map_err(failed)
        };
        let (of_source, of_target) = tokio::try_join!(digest(source, Stage::Locked), digest(target, Stage::Loading))?;
        if of_source != of_target {
            let name = &source.name;
            let message = format!(
                "the rows of `{name}` on {} are not those on {}: the source has changed since it was locked, or the copy is damaged",
                target.spec.storage.product(),
                source.spec.storage.product()
            );
            let help = format!(
                "see that nothing else writes into the database of `{name}`, and try again with\n    convexinfra apply --allow-move {name}"
            );
            return Err(Diagnostic::new("move.digest", message).with_help(help).into());
        }
        notice("both sides have the same rows".to_owned());
        Ok(())
    }

    async fn publish_target(&self, target: &ResolvedBackend) -> Result<(), EffectFailure> {
        let store = self.row_store(target).await?;
        if self.is_in_volume(target) {
            // Once it is in the volume, backends may have run on it: a copy that stays would be written over that by a repetition.
            if let Some(loaded) = store.loaded_file() {
                self.store_database(target, &loaded).await?;
                self.empty_exchange(target)?;
            }
            return Ok(());
        }
        store.publish().await.map_err(|error| self.row_failure(target, &error))
    }

    /// Says where the rows from before are, and how they are dropped.
    fn tell_what_stays(&self, source: &ResolvedBackend, notice: ProgressFn<'_>) {
        let words = match &source.spec.storage {
            Storage::Sqlite => match self.database_place(source) {
                None => return,
                Some(DatabasePlace::Volume) => format!(
                    "the rows from before stay in the volume of `{}`, as `{DATABASE_FILE}`: no container opens them, and a move \
                     back replaces them",
                    source.name
                ),
                Some(DatabasePlace::File(file)) => {
                    let locked = crate::convex::launch::locked_database(&file).display().to_string();
                    format!("the rows from before stay locked in `{locked}`; drop them with\n    rm {}", shell_word(&locked))
                }
            },
            server => {
                let database = source.instance_name.database();
                let quote = if matches!(server, Storage::Mysql(_)) { '`' } else { '"' };
                let product = server.product();
                format!(
                    "the rows from before stay locked in the database `{database}` on {product}; drop them there with\n    DROP \
                     DATABASE {quote}{database}{quote};"
                )
            }
        };
        notice(words);
    }

    /// Gives the source back. A target that nothing ran on stays locked as it is, and the next move empties it.
    async fn revert_move(
        &self,
        source: &ResolvedBackend,
        target: &ResolvedBackend,
        notice: ProgressFn<'_>,
    ) -> Result<(), EffectFailure> {
        let from = self.row_store(source).await?;
        let failed = |error: RowError| self.row_failure(source, &error);
        // What is in a volume is never locked, and its copy may be gone already.
        if self.is_in_volume(source) || from.is_locked().await.map_err(failed)? {
            // It may run on the target already.
            self.stop_for_move(source).await?;
            if let Err(failure) = self.lock_target(target).await {
                notice(format!("the place that was moved to could not be locked: {}", failure.finding.message));
            }
            if !self.is_in_volume(source) {
                from.unlock().await.map_err(failed)?;
            }
        }
        if let Ok(to) = self.row_store(target).await {
            to.discard_loading();
        }
        match [source, target].into_iter().find(|side| self.is_in_volume(side)) {
            Some(side) => self.empty_exchange(side),
            None => Ok(()),
        }
    }

    /// Locks what was published, and leaves alone what was not.
    async fn lock_target(&self, target: &ResolvedBackend) -> Result<(), EffectFailure> {
        let to = self.row_store(target).await?;
        match to.require_loadable().await {
            Ok(()) => Ok(()),
            Err(RowError::InUse { .. }) => to.lock().await.map_err(|error| self.row_failure(target, &error)),
            Err(error) => Err(self.row_failure(target, &error)),
        }
    }

    async fn stop_for_move(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        let provider = self.provider(placement.spec.provider)?;
        provider.stop(placement).await.map_err(|error| effects::effect_failure(placement, &error))
    }

    /// Returns where a backend on SQLite has its database; none on servers, and where this control plane does not reach it.
    fn database_place(&self, placement: &ResolvedBackend) -> Option<DatabasePlace> {
        let provider = self.provider(placement.spec.provider).ok()?;
        if placement.spec.storage == Storage::Sqlite { provider.database_place(placement) } else { None }
    }

    fn is_in_volume(&self, placement: &ResolvedBackend) -> bool {
        self.database_place(placement) == Some(DatabasePlace::Volume)
    }

    async fn row_store(&self, placement: &ResolvedBackend) -> Result<RowStore, EffectFailure> {
        if placement.spec.storage == Storage::Sqlite {
            let path = match self.database_place(placement) {
                Some(DatabasePlace::File(path)) => path,
                Some(DatabasePlace::Volume) => self.exchange(placement)?,
                None => return Err(exchange::unreached(placement)),
            };
            return Ok(RowStore::Sqlite(path));
        }
        let server = database::database_server(self, placement).await;
        let server = server.map_err(|error| database::database_finding(self, placement, &error))?;
        Ok(RowStore::server(&server, &placement.instance_name.database()))
    }

    /// Returns what an error means to a user, without what only operators may read.
    fn row_failure(&self, placement: &ResolvedBackend, error: &RowError) -> EffectFailure {
        if let RowError::Server(error) = error {
            return database::database_finding(self, placement, error).into();
        }
        let message = format!("the rows of `{}`: {}", placement.name, error_chain(error));
        let finding = Diagnostic::new(error.code(), message);
        match error.help() {
            Some(help) => finding.with_help(help).into(),
            None => finding.into(),
        }
    }
}
