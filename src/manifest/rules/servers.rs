//! Servers of the user's own, and the backends that are to be on them.

use super::super::suggest::{nearest, one_of, quoted};
use super::ManifestView;
use crate::model::Diagnostic;

/// Every server says where it is.
pub(super) fn hosts(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for (name, entry) in document.root.table("servers").map(|node| node.entries.as_slice()).unwrap_or_default() {
        if entry.table().is_some_and(|node| node.get("host").is_none()) {
            problems.push(
                Diagnostic::at(
                    "manifest.missing_key",
                    &entry.key,
                    format!("the server `{name}` has no host, so nothing says where it is"),
                )
                .with_help("add `host = \"user@host\"`, or an alias of your SSH configuration")
                .with_allowed(["host"]),
            );
        }
    }
}

/// A backend names a server that is there, and runs in containers.
pub(super) fn backends(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let servers = document.root.table("servers");
    let names = || servers.map(|node| node.entries.as_slice()).unwrap_or_default().iter().map(|(name, _)| *name);
    for backend in &document.backends {
        let Some((entry, name)) = backend.view.get("server").and_then(|entry| Some((entry, entry.text()?))) else { continue };
        if let Some(provider) = backend.view.word("provider").filter(|provider| *provider != "docker") {
            let message = format!("`{}` is on a server, and its provider `{provider}` runs nothing there", backend.name);
            problems.push(
                Diagnostic::at("manifest.server_unused", &entry.span, message)
                    .with_help("write `provider = \"docker\"`, or leave `server` out"),
            );
        }
        if servers.is_some_and(|node| node.get(name).is_some()) {
            continue;
        }
        let problem = Diagnostic::at("manifest.unknown_server", &entry.span, format!("there is no server {}", quoted(name)));
        problems.push(match nearest(name, names().take(12)) {
            Some(meant) => problem.with_help(format!("did you mean `{meant}`?")).with_edit(&entry.span, format!("\"{meant}\"")),
            None if names().next().is_some() => problem.with_help(format!("the servers are {}", one_of(names().take(12)))),
            None => problem.with_help(format!("add it: `[servers.{name}]` and below it `host = \"user@host\"`")),
        });
    }
}
