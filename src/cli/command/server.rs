//! `convexinfra server`: what has to do with servers of one's own alone.

use crate::app::AppError;
use crate::cli::args::{Server as Args, ServerCommand};
use crate::cli::context::Context;
use crate::model::{Desired, Diagnostic, Exit, Report, Server, Severity, error_chain, routes};
use crate::provider::ProviderError;
use crate::provider::docker::ServerFacts;
use crate::render::report_text;

/// Runs one of them.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    match &args.command {
        ServerCommand::Check { name } => check(context, name).await,
    }
}

/// Returns a server of the manifest, and the hosts of its routes.
fn server_of(desired: &Desired, name: &str) -> Option<(Server, Vec<String>)> {
    let on_it = |spec: &&crate::model::BackendSpec| spec.server().is_some_and(|server| server.name == name);
    let specs: Vec<_> = desired.backends.values().map(|backend| &backend.spec).filter(on_it).collect();
    let server = specs.first()?.server()?.clone();
    let hosts = specs.iter().filter_map(|spec| routes(spec).ok()).flatten().map(|route| route.host).collect();
    Some((server, hosts))
}

async fn check(context: &Context, name: &str) -> Result<Exit, AppError> {
    let (_, loaded) = context.project()?;
    let known = loaded.as_ref().and_then(|loaded| server_of(&loaded.desired, name));
    let (server, hosts) = known.ok_or_else(|| {
        let message = format!("no backend of the manifest is on a server `{name}`");
        let help = format!(
            "add `[servers.{name}]` with its `host`, and `server = \"{name}\"` to a backend; nothing has to be applied for it"
        );
        AppError::new(Exit::Usage, Diagnostic::new("server.unknown", message).with_help(help))
    })?;
    let checked = context.docker()?.check_server(&server, &hosts).await.map_err(|error| {
        let finding = Diagnostic::new(error.code(), error_chain(&error));
        let finding = if let ProviderError::Ssh(error) = &error { finding.with_help(error.help()) } else { finding };
        AppError::new(Exit::Unreachable, finding)
    })?;
    let is_wrong = checked.findings.iter().any(|finding| finding.severity == Severity::Error);
    let exit = if is_wrong { Exit::Failed } else { Exit::Done };
    context.printer.output(&facts_text(&server, &checked.facts));
    let report = Report { exit, errors: checked.findings.clone() };
    context.printer.status(&report_text(&report, context.printer.err_style()));
    let rest = serde_json::json!({ "server": name, "facts": checked.facts, "findings": checked.findings });
    context.printer.json("convexinfra.server_check/1", rest);
    Ok(exit)
}

/// Returns bytes in gibibytes, as far as a person looks.
fn gibibytes(bytes: u64) -> f64 {
    // So few mebibytes are exact.
    f64::from(u32::try_from(bytes >> 20).unwrap_or(u32::MAX)) / 1024.0
}

fn facts_text(server: &Server, facts: &ServerFacts) -> String {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "not known".to_owned());
    let bytes = |bytes: Option<u64>| or_unknown(bytes.map(|bytes| format!("{:.1} GiB", gibibytes(bytes))));
    let ports = facts.web_ports.iter().map(|(port, holder)| format!("{port} {holder}")).collect::<Vec<_>>().join(", ");
    let rows = [
        ("server", format!("{} ({})", server.name, server.address())),
        ("address", or_unknown(facts.address.map(|address| address.to_string()))),
        ("engine", format!("{}, by {}", or_unknown(facts.engine.clone()), facts.way)),
        ("system", or_unknown(facts.system.clone())),
        ("processors", or_unknown(facts.cpus.map(|cpus| cpus.to_string()))),
        ("memory", bytes(facts.memory)),
        ("free disk", bytes(facts.disk_free)),
        ("ports 80, 443", if ports.is_empty() { "free".to_owned() } else { ports }),
    ];
    rows.into_iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect()
}
