//! The last look before a backend starts on data that is there: whether its build knows the version of the database.

use super::{Host, effects};
use crate::authority::EffectFailure;
use crate::convex::persistence::{VersionConflict, version_conflict};
use crate::database::rows;
use crate::model::{Diagnostic, Release, ResolvedBackend, RunState};
use crate::policy;
use crate::provider::kit::data_place::DataPlace;
use crate::snapshot::DATABASE_FILE;

impl Host {
    /// Refuses to start a build on a database that it cannot run on, as far as both can be told.
    pub(super) async fn check_data_version(&self, placement: &ResolvedBackend) -> Result<(), EffectFailure> {
        let noted = placement.provider_state.get("release").and_then(|release| Release::parse(release).ok());
        let Some(release) = placement.spec.release.clone().filter(Release::is_pinned).or(noted) else { return Ok(()) };
        let Some(day) = policy::build_day(&release).map(str::to_owned) else { return Ok(()) };
        let provider = self.provider(placement.spec.provider)?;
        let Ok(DataPlace::Folder(folder)) = provider.data_place(placement) else { return Ok(()) };
        let database = folder.join(DATABASE_FILE);
        if !database.is_file() {
            return Ok(());
        }
        let seen = provider.observe(placement).await.map_err(|error| effects::effect_failure(placement, &error))?;
        // What runs is known to be able to, and its file is not opened.
        if matches!(seen.state, RunState::Running | RunState::Unready) {
            return Ok(());
        }
        // What cannot be read is for the backend to judge.
        let version = tokio::task::spawn_blocking(move || rows::read_version(&database)).await;
        let Ok(Ok(Some(version))) = version else { return Ok(()) };
        match version_conflict(version, &day) {
            None => Ok(()),
            Some(conflict) => Err(refusal(placement, &release, version, conflict).into()),
        }
    }
}

fn refusal(placement: &ResolvedBackend, release: &Release, version: i64, conflict: VersionConflict) -> Diagnostic {
    let name = &placement.name;
    match conflict {
        VersionConflict::BuildTooOld(day) => {
            let message = format!(
                "the database of `{name}` has version {version}, which no build before {day} knows, and `{release}` is older: it \
                 would start and damage it"
            );
            Diagnostic::new("data.newer_version", message).with_help(format!(
                "name a release of {day} or later, or go back to data that this one knows\n    convexinfra snapshot list {name}"
            ))
        }
        VersionConflict::DatabaseTooOld(day) => {
            let message = format!(
                "the database of `{name}` has version {version}, which no build after {day} migrates, and `{release}` is newer"
            );
            Diagnostic::new("data.older_version", message)
                .with_help(format!("upgrade it to a release of {day} or before first, and to this one then"))
        }
    }
}
