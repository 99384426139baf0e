//! `convexinfra log`: what has happened to a project.
//!
//! Must not do: show a secret.

use serde::Serialize;

use crate::cli::args::Log as Args;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::control::{HistoryEntry, Reach};
use crate::model::Exit;

/// One entry of the document that `log --json` prints.
#[derive(Serialize)]
struct Entry<'a> {
    sequence: u64,
    at: String,
    kind: &'a str,
    backend: Option<&'a str>,
    detail: &'a str,
}

impl<'a> Entry<'a> {
    fn new(entry: &'a HistoryEntry) -> Self {
        Self {
            sequence: entry.sequence,
            at: entry.at.to_string(),
            kind: &entry.kind,
            backend: entry.backend.as_deref(),
            detail: &entry.detail,
        }
    }
}

/// Shows what has happened, newest last.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (project, loaded) = context.project()?;
    let control = context.control(loaded.as_ref().map(|loaded| &loaded.desired))?;
    let entries = control.history(&Reach::Project(project.clone()), args.limit).await?;
    let mut text = String::new();
    for entry in &entries {
        let backend = entry.backend.as_deref().unwrap_or("-");
        text.push_str(format!("{}  {:20}  {backend}  {}", entry.at, entry.kind, entry.detail).trim_end());
        text.push('\n');
    }
    if entries.is_empty() {
        text = format!("nothing has happened to `{project}` yet\n");
    }
    context.printer.result(&text);
    let entries: Vec<Entry<'_>> = entries.iter().map(Entry::new).collect();
    context.printer.reply("convexinfra.log/1", serde_json::json!({ "project": project, "entries": entries }));
    Ok(Exit::Done)
}
