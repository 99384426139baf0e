//! `convexinfra destroy`: takes backends away with their data, each allowed by its name.
//!
//! Must not do: take the manifest's silence, or a yes, for permission to destroy.

use std::collections::BTreeSet;

use super::apply::Applying;
use crate::cli::args::Destroy as Args;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::secrets::Comparison;
use crate::control::KeyNeed;
use crate::model::{DatabaseDisposal, Exit, Finding, VolumeDisposal};
use crate::plan::{Intent, Scope};

/// Destroys the named backends, or all of the project.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    // Whoever takes a project away may have lost its manifest; its name is enough.
    let (loaded, values) = context.with_secrets(context.load_or_empty()?, KeyNeed::IfThere, Comparison::Whole).await?;
    let control = context.control(Some(&loaded.desired))?;
    if !args.names.is_empty() {
        let snapshot = control.snapshot(&loaded.desired.project).await?;
        let known: BTreeSet<_> =
            loaded.desired.backends.keys().chain(snapshot.backends.iter().map(|backend| &backend.name)).collect();
        if let Some(stranger) = args.names.iter().find(|name| !known.contains(name)) {
            let message = format!("neither the manifest nor the control plane knows a backend `{stranger}`");
            return Err(Failure::new(
                Exit::Failed,
                Finding::new("control.no_such_backend", message).with_help("list what there is with\n    convexinfra status"),
            ));
        }
    }
    let scope =
        if args.names.is_empty() { Scope::All } else { Scope::Only(args.names.iter().cloned().collect::<BTreeSet<_>>()) };
    let intent = Intent {
        scope,
        destroy: true,
        volume: volume_disposal(args.keep_data),
        database: database_disposal(args.with_database),
        take_over: false,
    };
    Applying { context, loaded: &loaded, values: &values, consent: &args.consent, saved: None, part: None }
        .run(&intent)
        .await?
        .seen_or_said()
}

/// What the flag `--keep-data` means.
pub(super) fn volume_disposal(keep_data: bool) -> VolumeDisposal {
    if keep_data { VolumeDisposal::Keep } else { VolumeDisposal::Destroy }
}

/// What the flag `--with-database` means.
pub(super) fn database_disposal(with_database: bool) -> DatabaseDisposal {
    if with_database { DatabaseDisposal::Drop } else { DatabaseDisposal::Leave }
}
