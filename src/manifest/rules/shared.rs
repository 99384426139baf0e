//! What two backends cannot have in common.

use std::collections::HashMap;
use std::ops::Range;

use super::super::suggest::quoted;
use super::super::tree::Entry;
use super::ManifestView;
use super::routes::origins_of;
use crate::model::Diagnostic;
use crate::policy::{UrlAuthority, shared_origin};

/// Reports every value that two backends have at the same place.
fn shared<'a>(
    values: impl Iterator<Item = (&'a str, &'a Entry<'a>)>,
    problems: &mut Vec<Diagnostic>,
    problem: impl Fn(&Range<usize>, &str, &str) -> Diagnostic,
) {
    let mut first: HashMap<String, &str> = HashMap::new();
    for (name, entry) in values {
        let Some(text) = entry.text() else { continue };
        let plain = text.strip_prefix("./").unwrap_or(text).to_owned();
        match first.get(&plain) {
            Some(other) => problems.push(problem(&entry.span, text, other)),
            None => {
                first.insert(plain, name);
            }
        }
    }
}

/// Two backends do not share an origin.
pub(super) fn origins(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let mut first: HashMap<UrlAuthority, &str> = HashMap::new();
    for backend in &document.backends {
        let own = backend.view.own.and_then(|own| own.table("origins"));
        let entries = ["api", "site", "dashboard"].into_iter().filter_map(|key| own?.get(key));
        let written = entries.filter_map(|entry| Some((entry, entry.text()?.to_owned())));
        let domain = backend.view.get("domain").and_then(|entry| Some((entry, origins_of(entry.text()?))));
        let derived = domain
            .iter()
            .flat_map(|(entry, origins)| origins.api.iter().chain(&origins.site).map(move |text| (*entry, text.clone())));
        for (entry, text) in written.chain(derived) {
            let Some(place) = UrlAuthority::parse(&text) else { continue };
            match first.get(&place) {
                Some(holder) if *holder != backend.name => problems.push(shared_origin(&text, holder).at(&entry.span)),
                Some(_) => {}
                None => drop(first.insert(place, backend.name)),
            }
        }
    }
}

/// Two backends do not share an app.
pub(super) fn apps(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let fly = document.backends.iter().filter(|backend| backend.view.word("provider") == Some("fly"));
    if let Some(entry) = document.root.table("defaults").and_then(|node| node.table("fly")).and_then(|node| node.get("app"))
        && fly
            .clone()
            .filter(|backend| backend.view.own.and_then(|own| own.table("fly")).and_then(|own| own.get("app")).is_none())
            .count()
            > 1
    {
        problems.push(
            Diagnostic::at(
                "manifest.shared_app",
                &entry.key,
                "every backend on Fly would get this one app, and an app holds one backend",
            )
            .with_help("move `app` into the block of one backend"),
        );
    }
    let values = fly.filter_map(|backend| Some((backend.name, backend.view.own?.table("fly")?.get("app")?)));
    shared(values, problems, |span, text, other| {
        let message = format!("{} is the app of `{other}` as well, and an app holds one backend", quoted(text));
        Diagnostic::at("manifest.shared_app", span, message).with_help("give each backend an app of its own, or leave it out")
    });
}

/// Two backends do not share an env file, and one backend does not name a file twice.
pub(super) fn env_files(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let mut first: HashMap<String, (&str, &Range<usize>)> = HashMap::new();
    for backend in &document.backends {
        let files = backend.view.own.and_then(|own| own.get("env_file")).map(Entry::list).unwrap_or_default();
        for entry in files {
            let Some((path, _)) = entry.env_file() else { continue };
            let Some((owner, other)) = first.get(&lexical(path)).copied() else {
                first.insert(lexical(path), (backend.name, &entry.span));
                continue;
            };
            let message = if owner == backend.name {
                format!("`{owner}` names the env file {} twice", quoted(path))
            } else {
                format!("{} is the env file of `{owner}` as well, and one file can name one backend", quoted(path))
            };
            problems.push(
                Diagnostic::at("manifest.shared_env_file", &entry.span, message)
                    .with_help("give each backend a file of its own, such as `.env.staging`")
                    .with_label("the same file")
                    .with_related(other, format!("the env file of `{owner}`")),
            );
        }
    }
}

/// A path without `.` and `..`, as far as that follows from its text.
fn lexical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
