//! `convexinfra upgrade`: another release of a backend, in the manifest and in fact.

use std::collections::BTreeSet;

use crate::api::{ControlPlane, IfMissing};
use crate::app::secrets::ComparisonMode;
use crate::app::{AppError, ApplyOutcome, ApplyRun, LoadedManifest, Role, Session, provision};
use crate::cli::args::Upgrade as Args;
use crate::cli::context::Context;
use crate::cli::providers;
use crate::cli::terminal::Terminal;
use crate::manifest::set_field;
use crate::model::{BackendName, Diagnostic, Exit, Release};
use crate::plan::{BackendSelection, PlanOptions};

/// Writes the release into the manifest and applies it. Where the upgrade fails, the manifest is as it was.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let before = context.load()?;
    let name = &args.name;
    let control = context.control(Some(&before.desired))?;
    let release = match &args.to {
        Release::Latest => newest_release(context).await?,
        release => release.clone(),
    };
    let manifest = with_release(&before, name, &release)?;
    let mut session = Session::open(control, manifest.clone(), IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    let options = PlanOptions { selection: BackendSelection::Only(BTreeSet::from([name.clone()])), ..PlanOptions::default() };
    let terminal = Terminal::new(&context.printer);
    let write = || provision::write_manifest(&before, &manifest.text);
    let mut run = ApplyRun {
        reporter: &terminal,
        approver: &terminal,
        options: args.approval.options(&args.lock),
        saved: None,
        role: Role::Part(&write),
    };
    let ended = run.run(&mut session, &options).await.and_then(ApplyOutcome::into_result);
    match ended {
        Ok(outcome) => {
            super::apply::report(context, &session.manifest, &outcome, &options);
            // The record may have been at that release already.
            if outcome.is_unchanged() { write().map(|()| Exit::Done) } else { Ok(Exit::Done) }
        }
        Err(error) => {
            take_back(control, &before, &manifest, name, &release).await?;
            Err(error)
        }
    }
}

/// Puts the manifest from before back, unless the backend is at the new release.
async fn take_back(
    control: &dyn ControlPlane,
    before: &LoadedManifest,
    written: &LoadedManifest,
    name: &BackendName,
    release: &Release,
) -> Result<(), AppError> {
    let snapshot = control.snapshot(&before.desired.project).await?;
    let is_there =
        |backend: &crate::model::ActualBackend| backend.name == *name && backend.recorded.release.as_ref() == Some(release);
    if snapshot.backends.iter().any(is_there) || before.reload().is_ok_and(|now| now.text != written.text) {
        return Ok(());
    }
    provision::write_manifest(written, &before.text)
}

/// Returns the manifest with another release of a backend.
///
/// # Errors
/// It does not declare the backend, or would not be one any more.
pub(super) fn with_release(loaded: &LoadedManifest, name: &BackendName, release: &Release) -> Result<LoadedManifest, AppError> {
    let text = set_field(&loaded.text, name.as_str(), "release", &release.to_string());
    let text =
        text.map_err(|error| AppError::new(Exit::Manifest, Diagnostic::new("manifest.not_edited", error.to_string())))?;
    loaded.with_text(text)
}

/// Returns the newest release that Convex names, or that is on this machine where Convex cannot be asked.
pub(super) async fn newest_release(context: &Context) -> Result<Release, AppError> {
    let printer = context.printer.clone();
    let notice = move |message: String| printer.status(&format!("  · {message}\n"));
    let newest = providers::local(&context.home()?, std::path::PathBuf::new()).newest_release(&notice).await;
    newest.map_err(|error| {
        let finding = Diagnostic::new(error.code(), crate::model::error_chain(&error));
        AppError::new(Exit::Unreachable, finding.with_help("name a release with `--to`"))
    })
}
