//! `convexinfra token`: tokens of a control plane, made, listed and ended.
//!
//! Must not do: keep a token, or show one twice.

use crate::api::Administration;
use crate::app::AppError;
use crate::cli::args::{Token as Args, TokenCommand};
use crate::host::now;
use crate::model::{Diagnostic, Exit, ProjectName, Scope, TimeSpan, TokenId, TokenRequest};
use crate::render::{IssuedDocument, TokenEntry, TokensDocument, token_table};
use crate::{app::LoadedManifest, cli::context::Context};

/// Longer than any id, and shorter than any token.
const MAX_ID_LENGTH: usize = 32;

/// Makes, lists or ends tokens.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    match &args.command {
        TokenCommand::Create { scope, ttl, note } => create(context, *scope, *ttl, note).await,
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke { id } => revoke(context, id).await,
    }
}

fn administration<'a>(context: &'a Context, loaded: Option<&LoadedManifest>) -> Result<&'a dyn Administration, AppError> {
    context.administration(loaded.map(|loaded| &loaded.desired))
}

async fn create(context: &Context, scope: Scope, ttl: Option<TimeSpan>, note: &str) -> Result<Exit, AppError> {
    // An operator's token opens every project; only a project that was typed is worth an error.
    let (project, loaded): (Option<ProjectName>, Option<LoadedManifest>) = if scope == Scope::Operator {
        (context.global.project.clone(), context.load_if_there()?)
    } else {
        let (project, loaded) = context.project()?;
        super::require_own_or_typed(context, &project, loaded.as_ref().map(|loaded| &loaded.desired)).await?;
        (Some(project), loaded)
    };
    let control = administration(context, loaded.as_ref())?;
    if context.is_embedded(loaded.as_ref().map(|loaded| &loaded.desired))? {
        require_served(control).await?;
    }
    let issued = control.create_token(&TokenRequest { project, scope, note: note.to_owned(), ttl }).await?;
    let opens = issued.record.project.as_ref().map_or_else(|| "every project".to_owned(), |project| format!("`{project}`"));
    let end = issued.record.expires_at.map_or_else(|| "until it is revoked".to_owned(), |end| format!("until {end}"));
    context.printer.status(&format!(
        "token {} opens {opens}{} with scope `{scope}`, {end}; it is shown only now\n",
        issued.record.id,
        super::serve::at_urls(&issued.origins)
    ));
    if context.printer.wants_documents() {
        context.printer.document(&IssuedDocument::new(&issued, now()));
    }
    context.printer.output(&format!("{}\n", issued.token.expose()));
    Ok(Exit::Done)
}

/// Refuses to make a token that opens nothing: a home whose `serve --init` was never run is not served.
async fn require_served(control: &dyn Administration) -> Result<(), AppError> {
    if control.tokens().await?.iter().any(|record| record.scope == Scope::Operator) {
        return Ok(());
    }
    let message = "no control plane is named, and the home of this machine was never served, so a token would open nothing";
    let help = "name the control plane that the token is for with `--control-plane URL`, or begin to serve this one with\n    \
                convexinfra serve --init";
    Err(AppError::new(Exit::Refused, Diagnostic::new("token.not_served", message).with_help(help)))
}

async fn list(context: &Context) -> Result<Exit, AppError> {
    let loaded = context.load_if_there()?;
    let (tokens, time) = (administration(context, loaded.as_ref())?.tokens().await?, now());
    let tokens = tokens.iter().map(|record| TokenEntry::new(record, time)).collect();
    let document = TokensDocument { format: "convexinfra.tokens/1", tokens };
    context.printer.output(&token_table(&document, context.printer.out_style()));
    context.printer.document(&document);
    Ok(Exit::Done)
}

async fn revoke(context: &Context, id: &str) -> Result<Exit, AppError> {
    if id.is_empty() || id.len() > MAX_ID_LENGTH || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        // It may be a token, so it is not repeated.
        let finding = Diagnostic::new("usage.token_id", "an id is a few letters and digits, and never the token itself");
        return Err(AppError::new(Exit::Usage, finding.with_help("list them with\n    convexinfra token list")));
    }
    let id = &TokenId::new(id);
    let loaded = context.load_if_there()?;
    let record = administration(context, loaded.as_ref())?.revoke_token(id).await?;
    let entry = TokenEntry::new(&record, now());
    context.printer.output(&format!("token {id} opens nothing any more\n"));
    context.printer.json("convexinfra.token_revoked/1", serde_json::json!({ "record": entry }));
    Ok(Exit::Done)
}
