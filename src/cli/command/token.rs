//! `convexinfra token`: tokens of a control plane, made, listed and ended.
//!
//! Must not do: keep a token, or show one twice.

use crate::cli::args::{Token as Args, TokenCommand};
use crate::cli::context::{Context, Loaded};
use crate::cli::failure::Failure;
use crate::control::Administration;
use crate::host::now;
use crate::model::{Exit, Finding, ProjectName, Scope, TimeSpan, TokenId, TokenRequest};
use crate::render::{IssuedDocument, TokenEntry, TokensDocument, token_table};

/// Longer than any id, and shorter than any token.
const LONGEST_ID: usize = 32;

/// Makes, lists or ends tokens.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        TokenCommand::Create { scope, ttl, note } => create(context, *scope, *ttl, note).await,
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke { id } => revoke(context, id).await,
    }
}

fn administration<'a>(context: &'a Context, loaded: Option<&Loaded>) -> Result<&'a dyn Administration, Failure> {
    context.administration(loaded.map(|loaded| &loaded.desired))
}

async fn create(context: &Context, scope: Scope, ttl: Option<TimeSpan>, note: &str) -> Result<Exit, Failure> {
    // An operator's token opens every project; only a project that was typed is worth an error.
    let (project, loaded): (Option<ProjectName>, Option<Loaded>) = if scope == Scope::Operator {
        (context.global.project.clone(), context.load_if_there()?)
    } else {
        let (project, loaded) = context.project()?;
        (Some(project), loaded)
    };
    let control = administration(context, loaded.as_ref())?;
    let issued = control.create_token(&TokenRequest { project, scope, note: note.to_owned(), ttl }).await?;
    let opens = issued.record.project.as_ref().map_or_else(|| "every project".to_owned(), |project| format!("`{project}`"));
    let end = issued.record.expires_at.map_or_else(|| "until it is revoked".to_owned(), |end| format!("until {end}"));
    context
        .printer
        .talk(&format!("token {} opens {opens} with scope `{scope}`, {end}; it is shown only now\n", issued.record.id));
    if context.printer.wants_documents() {
        context.printer.document(&IssuedDocument::new(&issued, now()));
    }
    context.printer.result(&format!("{}\n", issued.token.expose()));
    Ok(Exit::Done)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load_if_there()?;
    let (tokens, time) = (administration(context, loaded.as_ref())?.tokens().await?, now());
    let tokens = tokens.iter().map(|record| TokenEntry::new(record, time)).collect();
    let document = TokensDocument { format: "convexinfra.tokens/1", tokens };
    context.printer.result(&token_table(&document, context.printer.out_style()));
    context.printer.document(&document);
    Ok(Exit::Done)
}

async fn revoke(context: &Context, id: &str) -> Result<Exit, Failure> {
    if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        // It may be a token, so it is not repeated.
        let finding = Finding::new("usage.token_id", "an id is a few letters and digits, and never the token itself");
        return Err(Failure::new(Exit::Usage, finding.with_help("list what there is with\n    convexinfra token list")));
    }
    let id = &TokenId::new(id);
    let loaded = context.load_if_there()?;
    let record = administration(context, loaded.as_ref())?.revoke_token(id).await?;
    let entry = TokenEntry::new(&record, now());
    context.printer.result(&format!("token {id} opens nothing any more\n"));
    context.printer.reply("convexinfra.token_revoked/1", serde_json::json!({ "record": entry }));
    Ok(Exit::Done)
}
