//! What a manifest must be beyond its shape: a list of functions, each of which reports what it alone is about.

mod engines;
mod graph;
pub(super) mod routes;
mod servers;
mod shared;

use std::collections::HashMap;
use std::ops::Range;

use super::formats;
use super::suggest::{nearest, one_of, quoted};
use super::tree::{EngineTable, Entry, MergedTable, TableNode, Value};
use crate::convex::tuning::is_set_by_launch;
use crate::model::{BackendName, Desired, Diagnostic, InstanceName, NameError, ProjectName, Release};
use crate::policy::specification::{self, MAX_VARIABLES};

/// The longest name of a backend that further rules quote, in bytes: one that is longer is refused anyway.
const LONGEST_NAME: usize = 256;

/// A manifest as rules see it.
pub(super) struct ManifestView<'a, 't> {
    pub(super) text: &'a str,
    pub(super) root: &'a TableNode<'t>,
    /// The project that counts, unless it is missing or broken.
    pub(super) project: Option<&'a str>,
    project_given: bool,
    /// Every backend whose block is a table, in the order of the file.
    pub(super) backends: Vec<BackendView<'a, 't>>,
    /// Every name in `[backends]`, broken ones too, and which backend it is.
    names: HashMap<&'t str, Option<usize>>,
}

/// One backend as rules see it.
pub(super) struct BackendView<'a, 't> {
    pub(super) name: &'t str,
    pub(super) key: &'a Range<usize>,
    pub(super) view: MergedTable<'a, 't>,
    pub(super) storage: EngineTable<'a, 't>,
    pub(super) files: EngineTable<'a, 't>,
}

impl<'a, 't> ManifestView<'a, 't> {
    pub(super) fn new(text: &'a str, root: &'a TableNode<'t>, project: Option<&'a ProjectName>) -> Self {
        let defaults = root.table("defaults");
        let entries = root.table("backends").map(|node| node.entries.as_slice()).unwrap_or_default();
        let mut backends = Vec::with_capacity(entries.len());
        let mut names = HashMap::with_capacity(entries.len());
        for (name, entry) in entries {
            // What such a name says of itself is enough.
            let index = entry.table().filter(|_| name.len() <= LONGEST_NAME).map(|node| {
                let view = MergedTable { own: Some(node), base: defaults };
                backends.push(BackendView {
                    name,
                    key: &entry.key,
                    view,
                    storage: view.engine_table("storage", ("url", "managed"), None),
                    files: view.engine_table("files", ("bucket", "bucket_prefix"), Some("buckets")),
                });
                backends.len() - 1
            });
            names.insert(*name, index);
        }
        let written = root.get("project").and_then(Entry::text);
        Self {
            text,
            root,
            project: project.map(ProjectName::as_str).or(written),
            project_given: project.is_some() || root.get("project").is_some(),
            backends,
            names,
        }
    }
}

type Rule = fn(&ManifestView<'_, '_>, &mut Vec<Diagnostic>);

/// Every rule; the order does not matter.
const RULES: [Rule; 22] = [
    project_is_named,
    there_are_backends,
    instance_names_fit,
    providers_are_chosen,
    provider_tables_are_used,
    releases_suit_providers,
    engines::storage,
    engines::files,
    origins_come_in_pairs,
    origins_differ,
    shared::origins,
    client_vars_have_a_file,
    env_files_are_env_files,
    shared::env_files,
    variables_are_not_too_many,
    extra_variables_are_not_set_otherwise,
    shared::apps,
    graph::dependencies,
    graph::moves,
    servers::hosts,
    servers::backends,
    routes::check,
];

/// Applies every rule.
pub(super) fn check(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for rule in RULES {
        rule(document, problems);
    }
}

/// Whether a problem says that something is not there, which a mistake of syntax may be the cause of.
pub(super) fn reports_missing(code: &str) -> bool {
    matches!(
        code,
        "manifest.missing_key"
            | "manifest.no_backends"
            | "manifest.unknown_backend"
            | "manifest.unknown_server"
            | "manifest.lonely_origin"
            | "manifest.half_credentials"
            | "manifest.storage_without_server"
            | "manifest.empty_secret"
            | "manifest.client_vars_without_file"
            | "manifest.other_provider"
            | "manifest.engine_mismatch"
            | "manifest.moved_target_missing"
    )
}

fn project_is_named(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    if !document.project_given {
        problems.push(
            Diagnostic::at("manifest.missing_key", &document.root.span, "the manifest does not say which project it is for")
                .with_help("write `project = \"name\"` as its first line; the name tells your backends from those of others")
                .with_allowed(["project"]),
        );
    }
}

fn there_are_backends(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    if document.names.is_empty() && document.root.get("backends").is_none_or(|entry| entry.table().is_some()) {
        problems.push(
            Diagnostic::at(
                "manifest.no_backends",
                &document.root.span,
                "the manifest has no backends, so a plan removes all that there are",
            )
            .with_help("add one: `[backends.dev]` and below it `provider = \"simulated\"`")
            .as_warning(),
        );
    }
}

fn instance_names_fit(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let Some(project) = document.project.and_then(|project| ProjectName::parse(project).ok()) else { return };
    for backend in &document.backends {
        let Ok(name) = BackendName::parse(backend.name) else { continue };
        if let Err(NameError::TooLong { length, limit }) = InstanceName::preferred(&project, &name) {
            let message = format!("`{project}-{name}` has {length} characters, and databases and hosts leave room for {limit}");
            problems.push(
                Diagnostic::at("manifest.instance_name_too_long", backend.key, message)
                    .with_help(format!("shorten the backend's name or the project's by {} characters", length - limit)),
            );
        }
    }
}

fn providers_are_chosen(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        if backend.view.get("provider").is_none() {
            let message = format!("`{}` has no provider, so where it runs is not decided", backend.name);
            problems.push(
                Diagnostic::at("manifest.missing_key", backend.key, message)
                    .with_help(format!(
                        "add `provider = \"…\"` here or in `[defaults]`: {}",
                        one_of(super::schema_table::PROVIDERS.iter().copied())
                    ))
                    .with_label("no `provider` in this block")
                    .with_allowed(super::schema_table::PROVIDERS.iter().copied()),
            );
        }
    }
}

fn provider_tables_are_used(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let (Some(chosen), Some(own)) = (backend.view.word("provider"), backend.view.own) else { continue };
        for (name, entry) in &own.entries {
            if super::schema_table::PROVIDERS.contains(name) && *name != chosen {
                let problem = specification::other_provider(backend.name, chosen, name).at(&entry.key);
                problems.push(problem.with_label(format!("the provider is `{chosen}`")));
            }
        }
    }
}

fn releases_suit_providers(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let (Some(entry), Some(release)) = (backend.view.get("release"), backend.view.release("release")) else { continue };
        let local = backend.view.word("provider") == Some("local");
        if !local && backend.view.release_digest("release").is_some() {
            let message = format!("`{}` runs an image, and `release.sha256` pins the archive of a binary", backend.name);
            problems.push(
                Diagnostic::at("manifest.release_for_binaries", &entry.span, message)
                    .with_help("pin the image by its digest: `release = \"sha256:…\"`"),
            );
        }
        match release {
            Release::Digest(_) if local => {
                problems.push(specification::release_for_images(backend.name).at(&entry.span));
            }
            Release::Latest => problems.push(
                Diagnostic::at(
                    "manifest.unpinned_release",
                    &entry.span,
                    "`latest` is another build tomorrow, so two applies may differ",
                )
                .with_help("pin a commit, a tag or a digest")
                .as_warning(),
            ),
            _ => {}
        }
    }
}

/// Returns the backends of which more is written than is kept. What counts is what they are lowered to.
pub(super) fn too_large<'d>(document: &'d ManifestView<'_, '_>, desired: &'d Desired) -> impl Iterator<Item = Diagnostic> + 'd {
    document.backends.iter().filter_map(|backend| {
        let (name, wanted) = desired.backends.get_key_value(backend.name)?;
        Some(specification::too_large(name, &wanted.spec)?.at(backend.key))
    })
}

fn origins_come_in_pairs(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let Some(node) = backend.view.own.and_then(|own| own.table("origins")) else { continue };
        let (has, lacks) = match (node.get("api"), node.get("site")) {
            (Some(api), None) => (api, "site"),
            (None, Some(site)) => (site, "api"),
            _ => continue,
        };
        // The site may always be served below the API's own host.
        let api = has.text().filter(|_| lacks == "site");
        let mut problem = specification::lonely_origin(lacks, api).at(&has.key);
        if let Some(api) = api {
            let text = if inline(document.text, node) {
                format!(", site = \"{api}/http\"")
            } else {
                format!("\nsite = \"{api}/http\"")
            };
            problem = problem.with_edit(&(has.span.end..has.span.end), text);
        }
        problems.push(problem);
    }
}

fn origins_differ(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let origins = backend.view.table("origins");
        if let (Some(api), Some(site)) = (origins.get("api"), origins.get("site"))
            && let (Some(one), Some(other)) = (api.text(), site.text())
            && one == other
        {
            let problem = specification::same_origins(one).at(&site.span);
            problems.push(problem.with_edit(&site.span, format!("\"{one}/http\"")));
        }
    }
}

/// Whether a table is written between braces.
fn inline(text: &str, node: &TableNode<'_>) -> bool {
    text.get(node.span.clone()).is_some_and(|written| written.starts_with('{'))
}

fn client_vars_have_a_file(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    if document.names.len() < 2 {
        return;
    }
    for backend in &document.backends {
        let Some(own) = backend.view.own else { continue };
        if let Some(entry) = own.get("client_vars").filter(|entry| matches!(entry.value, Value::Flag(true)))
            && own.get("env_file").is_none()
        {
            let message = format!("`client_vars` says what to write into an env file, and `{}` has none", backend.name);
            problems.push(
                Diagnostic::at("manifest.client_vars_without_file", &entry.key, message)
                    .with_help("add `env_file = \"…\"`; only a manifest with one backend has `.env.local` by default"),
            );
        }
    }
}

/// Files that something else reads, so that a block of variables would break them.
const OTHER_FILES: [&str; 4] = ["convex.toml", "package.json", "tsconfig.json", ".gitignore"];

fn env_files_are_env_files(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let files = backend.view.own.and_then(|own| own.get("env_file")).map(Entry::list).unwrap_or_default();
        for (entry, (path, _)) in files.iter().filter_map(|entry| Some((entry, entry.env_file()?))) {
            let name = path.rsplit('/').next().unwrap_or(path);
            if !OTHER_FILES.contains(&name) {
                continue;
            }
            let message = format!("`{name}` is not an env file, and writing variables into it would break it");
            problems.push(
                Diagnostic::at("manifest.not_an_env_file", &entry.span, message).with_help("name a file such as `.env.local`"),
            );
        }
    }
}

fn variables_are_not_too_many(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let view = backend.view.table("env");
        let own = view.own.map(|node| node.entries.as_slice()).unwrap_or_default();
        let base = view.base.map(|node| node.entries.as_slice()).unwrap_or_default();
        if own.len() + base.len() <= MAX_VARIABLES {
            continue;
        }
        if let Some(node) = view.base.filter(|_| base.len() > MAX_VARIABLES) {
            let message = format!("`[defaults]` has {} variables, and Convex keeps at most {MAX_VARIABLES}", base.len());
            problems.push(
                Diagnostic::at("manifest.too_many_env", &node.span, message)
                    .with_help("remove some, or join them into one JSON text"),
            );
            return;
        }
        let names: std::collections::HashSet<&str> = own.iter().chain(base).map(|(name, _)| *name).collect();
        if names.len() > MAX_VARIABLES {
            let span = view.own.map_or(backend.key, |node| &node.span);
            problems.push(specification::too_many_variables(backend.name, names.len()).at(span));
        }
    }
}

/// Variables of the process that another key decides, or that would move the data.
fn extra_variables_are_not_set_otherwise(document: &ManifestView<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for backend in &document.backends {
        let view = backend.view.table("docker").table("extra_env");
        for (name, entry) in view.own.into_iter().flat_map(|node| &node.entries) {
            if is_set_by_launch(name) {
                let message = format!("`{name}` is not a variable of your own: another key of the manifest decides it");
                let help =
                    "remove it; `storage`, `files`, `origins`, `tuning` and `release` say what the backend is started with";
                problems.push(Diagnostic::at("manifest.reserved_variable", &entry.key, message).with_help(help));
            }
        }
    }
}

/// Returns the diagnostic about the name of a backend that is not there, with the name that was probably meant.
fn unknown_backend(
    code: &'static str,
    document: &ManifestView<'_, '_>,
    span: &Range<usize>,
    text: &str,
    budget: &mut u32,
) -> Diagnostic {
    let problem = Diagnostic::at(code, span, format!("there is no backend {}", quoted(text)));
    let names = || document.backends.iter().map(|backend| backend.name).filter(|name| (formats::NAME.matches)(name));
    // Comparing each wrong name with each right one is the square of a hostile manifest.
    let meant = if *budget == 0 {
        None
    } else {
        *budget -= 1;
        nearest(text, names())
    };
    match meant {
        Some(meant) => problem.with_help(format!("did you mean `{meant}`?")).with_edit(span, format!("\"{meant}\"")),
        None => problem.with_help(format!("the backends are {}", one_of(names().take(12)))),
    }
    .with_allowed(names().take(12))
}
