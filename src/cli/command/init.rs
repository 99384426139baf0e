//! `convexinfra init`: writes a commented manifest that fits the repository.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::app::{AppError, LoadedManifest, ManifestFile, discovery};
use crate::cli::args::Init as Args;
use crate::cli::context::Context;
use crate::env_file::{Boundary, Package, Workspace, detect, inspect_workspace, read_text};
use crate::model::{Diagnostic, Exit, ProjectName};

/// A release that is known to exist, so that a new manifest is pinned from its first day.
const RELEASE: &str = "precompiled-2026-08-22-652b828";
/// The store of a home.
const STORE: &str = "control-plane.sqlite3";
/// The same build as an image tag.
const IMAGE_RELEASE: &str = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";

/// Writes a manifest.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (path, folder) = target(context);
    let origin = discovery::origin(&folder);
    let project = project(context, &folder, &origin).await?;
    let workspace = inspect_workspace(&folder);
    let text = manifest(&project, &args.provider, &workspace);
    write_new(&path, &text)?;
    context.printer.output(&format!(
        "wrote `{}` for project `{project}`; see what it would do with\n    convexinfra plan\n",
        path.display()
    ));
    context.printer.json("convexinfra.init/1", serde_json::json!({ "manifest": path, "project": project }));
    if origin.starts_with("folder ") {
        context.printer.status("this folder has no git remote, so the project is remembered by its folder\n");
    }
    let above = folder.canonicalize().ok().and_then(|folder| discovery::find_manifest(folder.parent()?));
    if let Some(above) = above {
        let shown = above.display();
        context
            .printer
            .status(&format!("`{shown}` is a manifest as well; below this folder, commands use the one that is new\n"));
    }
    Ok(Exit::Done)
}

/// Returns a manifest without backends that is not in its file yet.
pub(super) async fn empty_manifest(context: &Context) -> Result<LoadedManifest, AppError> {
    let (path, folder) = target(context);
    let project = project(context, &folder, &discovery::origin(&folder)).await?;
    let mut loaded = LoadedManifest::parse(path, heading(&project), context.global.project.as_ref())?;
    loaded.home = context.home().ok();
    loaded.file = ManifestFile::New;
    Ok(loaded)
}

/// Returns the release that a new backend of a provider starts with; none where it has no releases.
pub(super) fn pinned_release(provider: &str) -> Option<&'static str> {
    match provider {
        "simulated" => None,
        "local" => Some(RELEASE),
        _ => Some(IMAGE_RELEASE),
    }
}

/// Returns the path of the manifest that is to be written, and its folder.
fn target(context: &Context) -> (PathBuf, PathBuf) {
    let path = context.global.manifest.clone().unwrap_or_else(|| discovery::MANIFEST_NAME.into());
    let path = if path.is_dir() { path.join(discovery::MANIFEST_NAME) } else { path };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    (path, folder)
}

/// Returns the name that was given, or one that is free.
async fn project(context: &Context, folder: &Path, origin: &str) -> Result<ProjectName, AppError> {
    match &context.global.project {
        Some(project) => Ok(project.clone()),
        None => project_name(context, folder, origin).await,
    }
}

/// Returns the first lines of every manifest.
fn heading(project: &ProjectName) -> String {
    format!(
        "# The self-hosted Convex backends of this repository.\n\
         # `convexinfra plan` shows what would change, `convexinfra apply` makes it so.\n\
         project = \"{project}\"\n"
    )
}

/// Returns a name for the project: the package's or the folder's, with the repository's in front where many have it or where
/// another repository took it.
async fn project_name(context: &Context, folder: &Path, origin: &str) -> Result<ProjectName, AppError> {
    let package = read_text(&folder.join("package.json"));
    let real = folder.canonicalize().ok();
    let of_folder = |path: &Path| detect::name_from(&path.file_name()?.to_string_lossy());
    let name = package
        .as_deref()
        .and_then(detect::project_name)
        .or_else(|| real.as_deref().and_then(of_folder))
        .or_else(|| ProjectName::parse("app").ok());
    let Some(name) = name else {
        return Err(AppError::new(Exit::Bug, Diagnostic::new("bug", "no name for the project; this is a bug in convexinfra")));
    };
    let root = Boundary::of(folder).root().to_owned();
    let repository = match origin.strip_prefix("repository ") {
        Some(remote) => remote.rsplit('/').next().unwrap_or_default().to_owned(),
        None => root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let qualified = detect::qualified(&repository, &name);
    let numbered = (2..=9).filter_map(|number| ProjectName::parse(&format!("{qualified}-{number}")).ok());
    let plain = (!detect::is_generic(&name)).then(|| name.clone());
    for candidate in plain.into_iter().chain([qualified.clone()]).chain(numbered) {
        if !is_taken(context, &candidate, origin).await {
            return Ok(candidate);
        }
    }
    Ok(qualified)
}

/// Whether a project of this name was applied from somewhere else. A control plane that cannot be asked knows of none.
async fn is_taken(context: &Context, project: &ProjectName, origin: &str) -> bool {
    // Asking must not make a home.
    let is_named = context.global.control_plane.is_some();
    if !is_named && !context.home().is_ok_and(|home| home.join(STORE).is_file()) {
        return false;
    }
    let Ok(control) = context.control(None) else { return false };
    let snapshot = control.snapshot(project).await.ok();
    snapshot.and_then(|snapshot| snapshot.origin).is_some_and(|other| other != origin)
}

/// Never over a manifest that is there.
fn write_new(path: &Path, text: &str) -> Result<(), AppError> {
    let mut options = fs::OpenOptions::new();
    let written = options.write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            let finding =
                Diagnostic::new("init.exists", format!("`{}` is there already, and it is not overwritten", path.display()));
            return AppError::new(Exit::Refused, finding.with_help("check it with\n    convexinfra validate"));
        }
        AppError::new(
            Exit::Failed,
            Diagnostic::new("init.not_written", format!("`{}` could not be written: {error}", path.display())),
        )
    })
}

/// The env files of a manifest: that of the package from which functions are pushed, the others as comments.
fn env_file_lines(workspace: &Workspace) -> String {
    let path = |package: &Package| match package.folder.as_str() {
        "" => ".env.local".to_owned(),
        folder => format!("{folder}/.env.local"),
    };
    let first = workspace.deployments.first().map_or_else(|| ".env.local".to_owned(), path);
    let quoted = toml_edit::Value::from(first.as_str()).to_string();
    let mut lines =
        format!("env_file = {quoted}    # where CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY go; never commit it\n");
    for other in workspace.deployments.iter().skip(1) {
        lines.push_str(&format!("# env_file = {}\n", toml_edit::Value::from(path(other))));
    }
    if let Some(prefix) =
        workspace.deployments.first().map(|package| detect::client_prefix(&package.json)).filter(|prefix| !prefix.is_empty())
    {
        lines.push_str(&format!(
            "# client_vars = true       # also write {prefix}CONVEX_URL and {prefix}CONVEX_SITE_URL for the browser\n"
        ));
    }
    if !workspace.clients.is_empty() {
        let clients = workspace
            .clients
            .iter()
            .map(|client| format!("{{ path = {}, vars = \"client\" }}", toml_edit::Value::from(path(client))));
        let all: Vec<String> = std::iter::once(quoted).chain(clients).collect();
        lines.push_str(&format!("# env_file = [{}]   # the URLs for the browser as well\n", all.join(", ")));
    }
    lines
}

fn manifest(project: &ProjectName, provider: &str, workspace: &Workspace) -> String {
    let pinned = |release: &str| format!("release = \"{release}\"   # pinned: data goes forward only, so upgrade on purpose\n");
    let release = pinned_release(provider).map(pinned).unwrap_or_default();
    let what = match provider {
        "simulated" => "the stand-in out of convexinfra itself: answers the admin API, runs no functions",
        "local" => "a real convex-local-backend process on this machine",
        "docker" => "a container of the official image",
        "fly" => "one Fly.io app",
        _ => "one Kubernetes StatefulSet",
    };
    let region = match provider {
        "fly" => "region = \"iad\"            # where the machine and its volume are; data does not move by itself\n",
        _ => "",
    };
    let env_files = env_file_lines(workspace);
    let heading = heading(project);
    format!(
        "{heading}\n\
         [backends.dev]\n\
         provider = \"{provider}\"   # {what}\n\
         {region}\
         {release}\
         {env_files}\
         # protected = true         # no plan may destroy it, not even by removing this block\n\
         # ttl = \"7d\"               # how long it lives\n\
         \n\
         # Convex environment variables. Secrets are references, never values:\n\
         # [backends.dev.env]\n\
         # OPENAI_API_KEY = {{ env = \"OPENAI_API_KEY\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_that_init_writes_is_valid() {
        let project = ProjectName::parse("app").unwrap();
        for provider in ["simulated", "local", "docker", "fly", "kubernetes"] {
            for workspace in [Workspace::default(), monorepo()] {
                let text = manifest(&project, provider, &workspace);
                let parsed =
                    crate::manifest::parse(&text, None).unwrap_or_else(|problems| panic!("{provider}: {problems:?}\n{text}"));
                assert_eq!(parsed.warnings, Vec::new(), "{provider}");
                // More variables than Convex's own only where they are asked for.
                assert!(!text.contains("\nclient_vars"), "{text}");
            }
        }
    }

    fn monorepo() -> Workspace {
        let package = |folder: &str, json: &str, has_functions| Package {
            folder: folder.to_owned(),
            json: json.to_owned(),
            depends_on_convex: true,
            has_functions,
        };
        Workspace {
            deployments: vec![package("packages/backend", "{}", true), package("packages/\"odd\"", "{}", true)],
            clients: vec![package("apps/web", "{\"dependencies\":{\"next\":\"1\"}}", false)],
        }
    }

    #[test]
    fn a_monorepo_gets_the_env_file_of_its_backend_and_comments_for_the_others() {
        let text = manifest(&ProjectName::parse("shop").unwrap(), "simulated", &monorepo());
        assert!(text.contains("\nenv_file = \"packages/backend/.env.local\" "), "{text}");
        let more = "[\"packages/backend/.env.local\", { path = \"apps/web/.env.local\", vars = \"client\" }]";
        assert!(text.contains(&format!("\n# env_file = {more} ")), "{text}");
        let uncommented = text
            .replace("env_file = \"packages/backend", "# env_file = \"")
            .replace(&format!("# env_file = {more}"), &format!("env_file = {more}"));
        let parsed =
            crate::manifest::parse(&uncommented, None).unwrap_or_else(|problems| panic!("{problems:?}\n{uncommented}"));
        assert_eq!(parsed.desired.backends.values().next().unwrap().env_files.len(), 2);
    }
}
