//! `convexinfra snapshot`: complete copies of the data of a backend.
//!
//! Must not do: write a snapshot itself; that is an operation of the control plane.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::api::{ControlPlane, Work};
use crate::app::{AppError, lifecycle, require_ownership, select_backend};
use crate::cli::args::{RetentionArgs, Snapshot as Args, SnapshotCommand};
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::host::now;
use crate::model::{BackendName, Desired, Diagnostic, Exit, ProjectName, SnapshotId, TimeSpan};
use crate::render::{counted, describe_snapshot, snapshot_table};
use crate::snapshot::{ExportMode, Retention, SnapshotError, SnapshotListing, SnapshotManifest, SnapshotStore};

/// How many bytes are read or written between two words about it.
const BYTES_BETWEEN_NOTICES: u64 = 256 << 20;

/// Takes, lists, shows, verifies, exports, imports or deletes snapshots.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    match &args.command {
        SnapshotCommand::Create { backend, note, every } => {
            let control = context.embedded(desired)?;
            let name = select_backend(&control.snapshot(&project).await?, desired, backend.name.as_ref())?;
            match every {
                Some(every) if report_recent(context, &store(context, &project, desired).await?, &name, *every)? => {
                    Ok(Exit::Done)
                }
                _ => create(context, &project, desired, &name, note.clone()).await,
            }
        }
        SnapshotCommand::List { name } => list(context, &store(context, &project, desired).await?, name.as_ref()),
        SnapshotCommand::Show { id } => {
            let manifest = store(context, &project, desired).await?.get(id).map_err(failed)?;
            report(context, &manifest);
            Ok(Exit::Done)
        }
        SnapshotCommand::Verify { id } => verify(context, &store(context, &project, desired).await?, id),
        SnapshotCommand::Export { id, out, plain } => {
            let mode = if *plain { ExportMode::Plain } else { ExportMode::Sealed };
            export(context, &store(context, &project, desired).await?, id, out, mode)
        }
        SnapshotCommand::Import { folder } => {
            let store = store(context, &project, desired).await?;
            let manifest = store.import(folder.clone(), &progress(context, "read")).map_err(failed)?;
            report(context, &manifest);
            Ok(Exit::Done)
        }
        SnapshotCommand::Prune { name, retention, dry_run, yes } => {
            let store = store(context, &project, desired).await?;
            prune(context, &store, (name.as_ref(), retention_of(retention)), *dry_run, *yes)
        }
        SnapshotCommand::Delete { id, yes } => delete(context, &store(context, &project, desired).await?, id, *yes),
    }
}

/// Returns the snapshots of a project in the control plane of this process, unless it belongs to another repository.
pub(super) async fn store(
    context: &Context,
    project: &ProjectName,
    desired: Option<&Desired>,
) -> Result<SnapshotStore, AppError> {
    let control = context.embedded(desired)?;
    require_ownership(control, project, desired).await?;
    let store = control.snapshots(project)?;
    store.ok_or_else(|| {
        let finding = Diagnostic::new("snapshot.none", format!("`{project}` was never applied here, so it has no snapshots"));
        AppError::new(Exit::Failed, finding.with_help("bring its backends up with\n    convexinfra apply"))
    })
}

pub(super) fn failed(error: SnapshotError) -> AppError {
    AppError::new(error.exit(), error.diagnostic())
}

async fn create(
    context: &Context,
    project: &ProjectName,
    desired: Option<&Desired>,
    name: &BackendName,
    note: Option<String>,
) -> Result<Exit, AppError> {
    let control = context.embedded(desired)?;
    let id = new_id(name)?;
    let terminal = Terminal::new(&context.printer);
    let origin = desired.and_then(Desired::origin_if_known).map(str::to_owned);
    lifecycle::run(control, project, origin, name, Work::Snapshot { id: id.clone(), note }, &terminal).await?;
    let manifest = store(context, project, desired).await?.get(&id).map_err(failed)?;
    report(context, &manifest);
    context
        .printer
        .status(&format!("go back to it with\n    convexinfra restore {name} --snapshot {id} --allow-replace {name}\n"));
    Ok(Exit::Done)
}

/// Returns whether the last snapshot of a backend is not as old as this yet, and reports that one. A timer that runs as often is never
/// off by as much as the twentieth part that is let pass.
fn report_recent(context: &Context, store: &SnapshotStore, name: &BackendName, every: TimeSpan) -> Result<bool, AppError> {
    let listing = store.list().map_err(failed)?;
    let due_after = i64::try_from(every.seconds().saturating_mul(950)).unwrap_or(i64::MAX);
    let Some(recent) = listing.newest(name).filter(|newest| now().since(newest.created_at) < due_after) else {
        return Ok(false);
    };
    report(context, recent);
    context.printer.status(&format!("no other one was taken, as it is younger than {every}\n"));
    Ok(true)
}

/// Returns a name that no other snapshot has.
pub(super) fn new_id(backend: &BackendName) -> Result<SnapshotId, AppError> {
    let mut random = [0; 3];
    let failed = |message: String| AppError::new(Exit::Failed, Diagnostic::new("host.entropy", message));
    getrandom::fill(&mut random).map_err(|error| failed(format!("there are no random numbers: {error}")))?;
    SnapshotId::of(backend, now(), random).map_err(|error| failed(error.to_string()))
}

fn report(context: &Context, manifest: &SnapshotManifest) {
    context.printer.output(&describe_snapshot(manifest));
    context.printer.json("convexinfra.snapshot/1", json!({ "snapshot": document(manifest) }));
}

/// Returns a manifest without the names of its chunks, which mean nothing outside of the store.
fn document(manifest: &SnapshotManifest) -> serde_json::Value {
    let mut document = json!(manifest);
    if let Some(fields) = document.as_object_mut() {
        fields.remove("listing");
        fields.insert("created".to_owned(), json!(manifest.created_at.to_string()));
    }
    document
}

fn list(context: &Context, store: &SnapshotStore, name: Option<&BackendName>) -> Result<Exit, AppError> {
    let listing = store.list().map_err(failed)?;
    let snapshots: Vec<SnapshotManifest> =
        listing.snapshots.into_iter().filter(|manifest| name.is_none_or(|name| manifest.backend == *name)).collect();
    if snapshots.is_empty() && listing.damaged.is_empty() {
        context.printer.output("there are no snapshots\n");
    } else {
        context.printer.output(&snapshot_table(&snapshots, now(), context.printer.out_style()));
    }
    let damaged: Vec<Diagnostic> = listing.damaged.iter().map(SnapshotError::diagnostic).collect();
    for finding in &damaged {
        context.printer.status(&format!("{}\n", finding.message));
    }
    let documents: Vec<_> = snapshots.iter().map(document).collect();
    context.printer.json("convexinfra.snapshots/1", json!({ "snapshots": documents, "damaged": damaged }));
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Failed })
}

fn verify(context: &Context, store: &SnapshotStore, id: &SnapshotId) -> Result<Exit, AppError> {
    let found = store.verify(id, &progress(context, "read")).map_err(failed)?;
    context.printer.json("convexinfra.snapshot-verification/1", json!({ "id": id, "verification": found }));
    if found.damaged == 0 {
        context.printer.output(&format!(
            "`{id}` is whole: {}, {} bytes, all of it read again\n",
            counted_files(found.files),
            found.bytes
        ));
        return Ok(Exit::Done);
    }
    let what = format!("{} of {}: {}", found.damaged, counted_files(found.files), found.findings.join("; "));
    Err(failed(SnapshotError::Damaged { id: id.clone(), what }))
}

/// Renders a number of files in words.
fn counted_files(files: u64) -> String {
    counted(usize::try_from(files).unwrap_or(usize::MAX), "file")
}

fn export(context: &Context, store: &SnapshotStore, id: &SnapshotId, out: &Path, mode: ExportMode) -> Result<Exit, AppError> {
    let manifest = store.export(id, out, mode, &progress(context, "written")).map_err(failed)?;
    let readers = match mode {
        ExportMode::Sealed => "only a control plane with this master key can read it",
        ExportMode::Plain => "everyone who has the folder can read it, with all variables of the backend",
    };
    context.printer.output(&format!("`{}` holds the snapshot `{id}`; {readers}\n", out.display()));
    let document = document(&manifest);
    context
        .printer
        .json("convexinfra.snapshot/1", json!({ "snapshot": document, "path": out, "plain": mode == ExportMode::Plain }));
    Ok(Exit::Done)
}

fn delete(context: &Context, store: &SnapshotStore, id: &SnapshotId, yes: bool) -> Result<Exit, AppError> {
    if !yes {
        // A damaged one can be deleted as well.
        let question = match store.get(id) {
            Ok(manifest) => format!("{}delete it for good? [y/N] ", describe_snapshot(&manifest)),
            Err(SnapshotError::NotFound(id)) => return Err(failed(SnapshotError::NotFound(id))),
            Err(error) => format!("{error}; delete it for good? [y/N] "),
        };
        Terminal::new(&context.printer).confirm(&question)?;
    }
    let freed = store.delete(id).map_err(failed)?;
    context.printer.output(&format!("`{id}` is deleted, which freed {freed} bytes\n"));
    context.printer.json("convexinfra.snapshot-deletion/1", json!({ "id": id, "freed_bytes": freed }));
    Ok(Exit::Done)
}

fn retention_of(args: &RetentionArgs) -> Retention {
    let count = |given: Option<usize>| given.unwrap_or_default();
    Retention { last: count(args.keep_last), daily: count(args.keep_daily), weekly: count(args.keep_weekly) }
}

fn prune(
    context: &Context,
    store: &SnapshotStore,
    (name, retention): (Option<&BackendName>, Retention),
    dry_run: bool,
    yes: bool,
) -> Result<Exit, AppError> {
    let expired = |listing: &SnapshotListing| -> Vec<SnapshotManifest> {
        let of_name = |manifest: &&SnapshotManifest| name.is_none_or(|name| manifest.backend == *name);
        retention.expired(&listing.snapshots).into_iter().filter(of_name).cloned().collect()
    };
    let listing = store.list().map_err(failed)?;
    if let Some(damaged) = listing.damaged.into_iter().next() {
        return Err(failed(damaged));
    }
    let shown = expired(&SnapshotListing { snapshots: listing.snapshots, damaged: Vec::new() });
    let ids: BTreeSet<&SnapshotId> = shown.iter().map(|manifest| &manifest.id).collect();
    let documents: Vec<_> = shown.iter().map(document).collect();
    let document = |deleted: bool, freed: u64| {
        let document = json!({ "snapshots": documents, "deleted": deleted, "freed_bytes": freed });
        context.printer.json("convexinfra.snapshot-pruning/1", document);
    };
    if shown.is_empty() {
        context.printer.output("there is nothing to delete: all snapshots are kept\n");
        document(false, 0);
        return Ok(Exit::Done);
    }
    let table = snapshot_table(&shown, now(), context.printer.out_style());
    if dry_run {
        context.printer.output(&table);
        document(false, 0);
        return Ok(Exit::Done);
    }
    context.printer.status(&table);
    if !yes {
        let question = format!("delete {} for good? [y/N] ", counted(shown.len(), "snapshot"));
        Terminal::new(&context.printer).confirm(&question)?;
    }
    // What was shown, and is still not kept.
    let goes = |listing: &SnapshotListing| -> Vec<SnapshotId> {
        expired(listing).into_iter().map(|manifest| manifest.id).filter(|id| ids.contains(id)).collect()
    };
    let (gone, freed) = store.prune(goes).map_err(failed)?;
    context.printer.output(&format!("{} deleted, which freed {freed} bytes\n", counted(gone.len(), "snapshot")));
    document(true, freed);
    Ok(Exit::Done)
}

/// Returns what says on standard error how far a long work is.
fn progress(context: &Context, verb: &'static str) -> impl Fn(u64) + Send + Sync + use<> {
    let told = std::sync::atomic::AtomicU64::new(0);
    let printer = context.printer.clone();
    move |done| {
        let before = told.load(std::sync::atomic::Ordering::Relaxed);
        if done.saturating_sub(before) >= BYTES_BETWEEN_NOTICES {
            told.store(done, std::sync::atomic::Ordering::Relaxed);
            printer.status(&format!("  · {} MiB {verb}\n", done >> 20));
        }
    }
}
