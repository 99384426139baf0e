//! `convexinfra init`: writes a commented manifest that fits the repository.
//!
//! Must not do: write over a manifest that is there.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::app::AppError;
use crate::app::discovery;
use crate::app::discovery::MAX_PACKAGE_BYTES;
use crate::cli::args::Init as Args;
use crate::cli::context::Context;
use crate::env_file::detect;
use crate::model::{Diagnostic, Exit, ProjectName};
use crate::system::read_regular_text;

/// A release that is known to exist, so that a new manifest is pinned from its first day.
const RELEASE: &str = "precompiled-2026-08-22-652b828";
/// The same build as an image tag.
const IMAGE_RELEASE: &str = "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";

/// Writes a manifest.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let path = context.global.manifest.clone().unwrap_or_else(|| discovery::MANIFEST_NAME.into());
    let path = if path.is_dir() { path.join(discovery::MANIFEST_NAME) } else { path };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let package = read_regular_text(&folder.join("package.json"), MAX_PACKAGE_BYTES).ok();
    let project = context
        .global
        .project
        .clone()
        .or_else(|| package.as_deref().and_then(detect::project_name))
        .or_else(|| folder.canonicalize().ok().and_then(|folder| detect::name_from(&folder.file_name()?.to_string_lossy())))
        .or_else(|| ProjectName::parse("app").ok());
    let Some(project) = project else {
        return Err(AppError::new(Exit::Bug, Diagnostic::new("bug", "no name for the project; this is a bug in convexinfra")));
    };
    let framework = package.as_deref().map(detect::client_prefix).filter(|prefix| !prefix.is_empty());
    let text = manifest(&project, &args.provider, framework);
    write_new(&path, &text)?;
    context.printer.output(&format!(
        "wrote `{}` for project `{project}`; see what it would do with\n    convexinfra plan\n",
        path.display()
    ));
    context.printer.json("convexinfra.init/1", serde_json::json!({ "manifest": path, "project": project }));
    if discovery::origin(&folder).starts_with("folder ") {
        context.printer.status("this folder has no git remote, so the project is remembered by its folder\n");
    }
    Ok(Exit::Done)
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

fn manifest(project: &ProjectName, provider: &str, framework: Option<&str>) -> String {
    let release = match provider {
        "simulated" => String::new(),
        "local" => format!("release = \"{RELEASE}\"   # pinned: data goes forward only, so upgrade on purpose\n"),
        _ => format!("release = \"{IMAGE_RELEASE}\"   # pinned: data goes forward only, so upgrade on purpose\n"),
    };
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
    let client = framework.map_or_else(String::new, |prefix| {
        format!("# client_vars = true       # also write {prefix}CONVEX_URL and {prefix}CONVEX_SITE_URL for the browser\n")
    });
    format!(
        "# The self-hosted Convex backends of this repository.\n\
         # `convexinfra plan` shows what would change, `convexinfra apply` makes it so.\n\
         project = \"{project}\"\n\
         \n\
         [backends.dev]\n\
         provider = \"{provider}\"   # {what}\n\
         {region}\
         {release}\
         env_file = \".env.local\"    # where CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY go; never commit it\n\
         {client}\
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
            for framework in [None, Some("VITE_")] {
                let text = manifest(&project, provider, framework);
                let parsed =
                    crate::manifest::parse(&text, None).unwrap_or_else(|problems| panic!("{provider}: {problems:?}\n{text}"));
                assert_eq!(parsed.warnings, Vec::new(), "{provider}");
                // More variables than Convex's own only for whoever asks for them.
                assert!(!text.contains("\nclient_vars"), "{text}");
            }
        }
    }
}
