//! `convexinfra destroy`: takes backends away with their data, each allowed by its name.
//!
//! Must not do: take the manifest's silence, or a yes, for permission to destroy.

use std::collections::BTreeSet;

use super::apply::ApplyRun;
use crate::api::IfMissing;
use crate::cli::args::Destroy as Args;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::secrets::ComparisonMode;
use crate::model::{DatabaseReclaim, Diagnostic, Exit, VolumeReclaim};
use crate::plan::{BackendSelection, PlanOptions};

/// Destroys the named backends, or all of the project.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    // Whoever takes a project away may have lost its manifest; its name is enough.
    let (loaded, values) =
        context.with_secrets(context.load_or_empty()?, IfMissing::ReturnNone, ComparisonMode::Strict).await?;
    let control = context.control(Some(&loaded.desired))?;
    if !args.names.is_empty() {
        let snapshot = control.snapshot(&loaded.desired.project).await?;
        let known: BTreeSet<_> =
            loaded.desired.backends.keys().chain(snapshot.backends.iter().map(|backend| &backend.name)).collect();
        if let Some(stranger) = args.names.iter().find(|name| !known.contains(name)) {
            let message = format!("neither the manifest nor the control plane knows a backend `{stranger}`");
            return Err(CliError::new(
                Exit::Failed,
                Diagnostic::new("control.no_such_backend", message)
                    .with_help("list what there is with\n    convexinfra status"),
            ));
        }
    }
    let scope = if args.names.is_empty() {
        BackendSelection::All
    } else {
        BackendSelection::Only(args.names.iter().cloned().collect::<BTreeSet<_>>())
    };
    let intent = PlanOptions {
        selection: scope,
        destroy: true,
        volume_reclaim: volume_disposal(args.keep_data),
        database_reclaim: database_disposal(args.with_database),
        take_over: false,
    };
    ApplyRun { context, loaded: &loaded, values: &values, consent: &args.consent, saved: None, part: None }
        .run(&intent)
        .await?
        .into_exit()
}

/// What the flag `--keep-data` means.
pub(super) fn volume_disposal(keep_data: bool) -> VolumeReclaim {
    if keep_data { VolumeReclaim::Retain } else { VolumeReclaim::Delete }
}

/// What the flag `--with-database` means.
pub(super) fn database_disposal(with_database: bool) -> DatabaseReclaim {
    if with_database { DatabaseReclaim::Delete } else { DatabaseReclaim::Retain }
}
