//! `convexinfra rollback`: the data and the release from before the last upgrade of a backend.

use serde_json::json;

use super::restore::{plan_text, require_consent};
use super::snapshot::{failed, store};
use super::upgrade::with_release;
use crate::api::{ControlPlane, StartMode, Work};
use crate::app::{AppError, lifecycle, provision, select_backend};
use crate::cli::args::Rollback as Args;
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{ActualBackend, BackendName, Desired, Diagnostic, Exit, Release};
use crate::snapshot::{SnapshotManifest, SnapshotStore};

/// Goes back to before the last upgrade, and sets the release in the manifest back with it.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.embedded(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, Some(&args.name))?;
    let Some(backend) = snapshot.backends.iter().find(|backend| backend.name == name) else {
        return Err(nothing_to_go_back_to(&name));
    };
    let (manifest, release) = before_upgrade(&store(context, &project, desired).await?, backend)?;
    context.printer.status(&plan_text(&manifest, Some(backend)));
    context.printer.status(&format!(
        "`{name}` goes back from {} to {release}; everything that was written since {} is lost\n",
        backend.recorded.release.as_ref().map_or_else(|| "its release".to_owned(), ToString::to_string),
        manifest.created_at
    ));
    let terminal = Terminal::new(&context.printer);
    require_consent(&terminal, &args.consent, &name, ("go back?", &format!("convexinfra rollback {name}")))?;
    // What the manifest would become is known to be one before anything is done.
    let edited = match &loaded {
        Some(loaded) if loaded.desired.backends.contains_key(&name) => Some(with_release(loaded, &name, &release)?),
        _ => None,
    };
    let origin = desired.and_then(Desired::origin_if_known).map(str::to_owned);
    let work = Work::Restore { snapshot: manifest.id.clone(), release: Some(release.clone()), start: StartMode::AsItWas };
    lifecycle::run(control, &project, origin, &name, work, &terminal).await?;
    if let (Some(loaded), Some(edited)) = (&loaded, edited) {
        provision::write_manifest(loaded, &edited.text)?;
    }
    let id = &manifest.id;
    context.printer.output(&format!("`{name}` is at {release} with the data of `{id}`\n"));
    context.printer.json("convexinfra.rollback/1", json!({ "name": name, "snapshot": id, "release": release }));
    Ok(Exit::Done)
}

/// Returns the newest snapshot that was taken before an upgrade of a backend, and the release that ran then.
fn before_upgrade(store: &SnapshotStore, backend: &ActualBackend) -> Result<(SnapshotManifest, Release), AppError> {
    let name = &backend.name;
    let snapshots = store.list().map_err(failed)?.snapshots.into_iter();
    let is_it = |manifest: &SnapshotManifest| manifest.backend_id == backend.id && manifest.before_upgrade_to.is_some();
    let Some(manifest) = snapshots.filter(is_it).max_by_key(|manifest| manifest.created_at) else {
        return Err(nothing_to_go_back_to(name));
    };
    let release = manifest.release.as_deref().and_then(|release| Release::parse(release).ok());
    let settings = &backend.recorded.settings;
    match release.filter(|_| settings.local.binary.is_none() && settings.docker.image.is_none()) {
        Some(release) => Ok((manifest, release)),
        None => {
            let id = &manifest.id;
            let message =
                format!("nothing says which program wrote the snapshot `{id}`, so `{name}` cannot be started with it");
            let help = format!(
                "name that program or release in the manifest, stop the backend, and restore by hand\n    convexinfra restore {name} \
                 --snapshot {id} --allow-replace {name}"
            );
            Err(AppError::new(Exit::Refused, Diagnostic::new("rollback.unknown_release", message).with_help(help)))
        }
    }
}

fn nothing_to_go_back_to(name: &BackendName) -> AppError {
    let message = format!("`{name}` was never upgraded here with a snapshot before, so there is nothing to go back to");
    let help = "look for another snapshot with\n    convexinfra snapshot list";
    AppError::new(Exit::Refused, Diagnostic::new("rollback.no_upgrade", message).with_help(help))
}
