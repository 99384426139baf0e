//! `convexinfra releases`: which releases backends are at, and which newer ones are known.

use serde::Serialize;

use super::upgrade::newest_release;
use crate::app::{AppError, LoadedManifest};
use crate::cli::args::Releases as Args;
use crate::cli::context::Context;
use crate::convex::client_range;
use crate::model::{ActualBackend, Diagnostic, Exit, Release, ReleaseOrder};
use crate::policy;
use crate::render::release_table;
use crate::system::read_regular_text;

/// How large a `package.json` may be in bytes.
const MAX_PACKAGE_BYTES: u64 = 1 << 20;

/// A backend and its release.
#[derive(Debug, Serialize)]
pub(crate) struct ReleaseEntry {
    name: String,
    release: Option<Release>,
    built_on: Option<String>,
    outdated: bool,
}

/// Shows the releases of the project's backends, and the newest one that is known.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let snapshot = control.snapshot(&project).await?;
    // Convex may be out of reach; the releases that this program knows are a floor.
    let newest = newest_release(context).await.ok();
    let known = policy::newest_known_release().into_iter().chain(newest);
    let newest = known.max_by_key(|release| policy::build_day(release).map(str::to_owned)).unwrap_or(Release::Latest);
    let entry = |backend: &ActualBackend| {
        let order = backend.recorded.release.as_ref().map(|running| policy::release_order(running, &newest));
        let older_build = backend.built_on.as_deref().zip(policy::build_day(&newest)).is_some_and(|(ran, day)| ran < day);
        ReleaseEntry {
            name: backend.name.to_string(),
            release: backend.recorded.release.clone(),
            built_on: backend.built_on.clone(),
            outdated: order == Some(ReleaseOrder::Newer) || (order != Some(ReleaseOrder::Same) && older_build),
        }
    };
    let entries: Vec<ReleaseEntry> =
        snapshot.backends.iter().map(entry).filter(|entry| entry.outdated || !args.outdated).collect();
    let lints = loaded.as_ref().map(|loaded| client_lints(loaded, &entries)).unwrap_or_default();
    let rows = entries.iter().map(|entry| {
        let release = entry.release.as_ref().map_or_else(|| "not pinned".to_owned(), ToString::to_string);
        let state = if entry.outdated { "a newer one is known" } else { "" };
        [entry.name.clone(), release, state.to_owned()]
    });
    let style = context.printer.out_style();
    context.printer.output(&release_table(&rows.collect::<Vec<_>>(), style));
    context.printer.output(&format!("the newest release that is known is {newest}\n"));
    if let Some(outdated) = entries.iter().find(|entry| entry.outdated) {
        context.printer.status(&format!("upgrade with\n    convexinfra upgrade {}\n", outdated.name));
    }
    for lint in &lints {
        context.printer.status(&format!("{}\n", lint.message));
    }
    let document = serde_json::json!({ "newest": newest, "backends": entries, "lints": lints });
    context.printer.json("convexinfra.releases/1", document);
    Ok(Exit::Done)
}

/// Says which backends are too old for the npm package of the repository.
fn client_lints(loaded: &LoadedManifest, entries: &[ReleaseEntry]) -> Vec<Diagnostic> {
    let package = read_regular_text(&loaded.folder.join("package.json"), MAX_PACKAGE_BYTES).ok();
    let Some(range) = package.as_deref().and_then(client_range::client_range) else { return Vec::new() };
    let Some(needed) = client_range::needed_backend_day(&range) else { return Vec::new() };
    let too_old = entries.iter().filter(|entry| {
        let built = entry.built_on.as_deref().or_else(|| entry.release.as_ref().and_then(policy::build_day));
        built.is_some_and(|built| built < needed)
    });
    let lint = |entry: &ReleaseEntry| {
        let message = format!(
            "`package.json` asks for `convex` {range}, which needs a backend of {needed} or later, and `{}` is older; \
             `npx convex deploy` fails on it",
            entry.name
        );
        Diagnostic::warning("releases.client_too_new", message)
    };
    too_old.map(lint).collect()
}
