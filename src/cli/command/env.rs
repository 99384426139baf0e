//! `convexinfra env`: prints or writes the coordinates of a backend. The one command that shows a key.
//!
//! Must not do: write anywhere but where `--write` says.

use crate::api::Credentials;
use crate::app::env_files::{finding, write_file};
use crate::app::{AppError, select_backend};
use crate::cli::args::{Env as Args, EnvFormat};
use crate::cli::context::Context;
use crate::env_file::{Block, BlockOwner, URL, format};
use crate::model::{BackendName, Desired, Exit};
use crate::render::EnvDocument;

/// Prints or writes the coordinates of a backend.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let backend = select_backend(&snapshot, desired, args.backend.name.as_ref())?;
    let credentials = control.credentials(&project, &backend, desired.and_then(Desired::origin_if_known)).await?;
    let owner = BlockOwner { project, backend: backend.clone() };
    let failed = |finding| AppError::new(Exit::Failed, finding);
    if let Some(path) = &args.write {
        let home = context.home().ok();
        let memory = home.as_deref().map(|home| (home, snapshot.control_plane.name.as_str()));
        for warning in write_file(path, owner, &credentials, memory).map_err(failed)? {
            context.printer.status(&format!("{warning}\n"));
        }
        context.printer.output(&format!("`{}` points to `{backend}`\n", path.display()));
        context.printer.document(&EnvDocument { env_file: Some(path), ..document(&backend, &credentials) });
        return Ok(Exit::Done);
    }
    let shows_key = !context.printer.is_json() && !matches!(args.format, EnvFormat::Url | EnvFormat::Json);
    if args.show_key || shows_key {
        context.printer.mask(credentials.admin_key.expose());
    }
    let key = args.show_key.then(|| credentials.admin_key.expose());
    let url_variable = Some(credentials.url.as_str());
    context.printer.document(&EnvDocument { url_variable, admin_key_variable: key, ..document(&backend, &credentials) });
    let url = credentials.url.clone();
    let block = Block::new(owner, &url, Some(credentials.admin_key), None).map_err(|error| failed(finding(&error)))?;
    let format = match args.format {
        EnvFormat::Url => {
            context.printer.output(&format!("{url}\n"));
            return Ok(Exit::Done);
        }
        // A program that looks for the URL must not get the key along with it unasked.
        EnvFormat::Json if !args.show_key => {
            context.printer.output(&format!("{:#}\n", serde_json::json!({ URL: url })));
            return Ok(Exit::Done);
        }
        EnvFormat::Dotenv => format::Format::Dotenv,
        EnvFormat::Json => format::Format::Json,
        EnvFormat::Shell => format::Format::Shell,
        EnvFormat::Github => format::Format::GitHub,
    };
    context.printer.output(&format::render(&block, format));
    Ok(Exit::Done)
}

fn document<'a>(name: &'a BackendName, credentials: &'a Credentials) -> EnvDocument<'a> {
    EnvDocument {
        format: "convexinfra.env/1",
        name,
        url: &credentials.url,
        site_url: &credentials.site_url,
        url_variable: None,
        admin_key_variable: None,
        env_file: None,
    }
}
