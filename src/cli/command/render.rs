//! `convexinfra render`: the objects of backends as YAML, for tools that apply them from a repository.
//!
//! Must not do: ask a control plane or a cluster.

use crate::app::AppError;
use crate::cli::args::Render as Args;
use crate::cli::context::Context;
use crate::model::{Address, Diagnostic, Exit, Report};
use crate::provider::kubernetes::manifests;

/// Renders the backends of the manifest that have this provider.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let loaded = context.load()?;
    super::plan::print_warnings(context, &loaded);
    let desired = &loaded.desired;
    let unknown = args.names.iter().find(|name| !desired.backends.contains_key(*name));
    if let Some(name) = unknown {
        let message = format!("there is no backend `{name}` in `{}`", loaded.path.display());
        return Err(AppError::new(Exit::Usage, Diagnostic::new("render.unknown", message)));
    }
    let selected = desired.backends.iter().filter(|(name, backend)| {
        backend.spec.provider.as_str() == args.provider && (args.names.is_empty() || args.names.contains(name))
    });
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for (name, backend) in selected {
        errors.extend((backend.spec.provider.descriptor().refusals)(name, &backend.spec));
        match manifests(&desired.project, name, &backend.spec, args.secret_store.as_deref()) {
            Ok(text) => texts.push(text),
            Err(error) => errors.push(error.about(Address::backend(name))),
        }
    }
    if !errors.is_empty() {
        return Err(AppError::from(Report { exit: Exit::Refused, errors }));
    }
    if texts.is_empty() {
        let message = format!("no backend that was named has the provider `{}`", args.provider);
        return Err(AppError::new(Exit::Usage, Diagnostic::new("render.nothing", message)));
    }
    let text = texts.join("---\n");
    context.printer.output(&text);
    context.printer.json("convexinfra.render/1", serde_json::json!({ "provider": args.provider, "yaml": text }));
    Ok(Exit::Done)
}
