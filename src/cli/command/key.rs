//! `convexinfra key`: admin keys made and checked without any backend. The instance secret comes from the environment.

use std::io::Read;

use crate::app::AppError;
use crate::cli::args::{Key as Args, KeyCommand};
use crate::cli::context::Context;
use crate::convex::admin_key::{self, InstanceSecret, KeyKind};
use crate::host::now;
use crate::model::{Diagnostic, Exit};

use crate::cli::env_vars::INSTANCE_SECRET as VARIABLE;

/// Makes or checks a key.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let secret = instance_secret()?;
    match &args.command {
        KeyCommand::Issue { instance_name, read_only, system } => {
            if instance_name.is_empty() || instance_name.contains(['|', ':']) || instance_name.chars().any(char::is_control) {
                let message =
                    "an instance name is not empty and has no `|`, `:` or control characters, because keys are split there";
                return Err(AppError::new(Exit::Usage, Diagnostic::new("key.instance_name", message)));
            }
            let kind = match (read_only, system) {
                (true, _) => KeyKind::ReadOnly { member_id: 0 },
                (_, true) => KeyKind::System,
                (false, false) => KeyKind::Admin { member_id: 0 },
            };
            let mut nonce = [0; 12];
            getrandom::fill(&mut nonce).map_err(|error| {
                AppError::new(Exit::Failed, Diagnostic::new("key.entropy", format!("there are no random numbers: {error}")))
            })?;
            let issued_s = u64::try_from(now().0 / 1000).unwrap_or(1).max(1);
            let key = admin_key::issue(instance_name, &secret, kind, issued_s, nonce)
                .map_err(|error| AppError::new(Exit::Bug, Diagnostic::new("bug", error.to_string())))?;
            if context.printer.wants_documents() {
                context
                    .printer
                    .json("convexinfra.key/1", serde_json::json!({ "instance_name": instance_name, "key": key.expose() }));
            }
            context.printer.output(&format!("{}\n", key.expose()));
            Ok(Exit::Done)
        }
        KeyCommand::Check { instance_name } => {
            let mut text = String::new();
            std::io::stdin().lock().take(64 << 10).read_to_string(&mut text).map_err(|error| {
                AppError::new(
                    Exit::Usage,
                    Diagnostic::new("key.unreadable", format!("the key on standard input cannot be read: {error}")),
                )
            })?;
            check(context, text.trim(), instance_name.as_deref(), &secret)
        }
        // They are done by the control plane, which has the secret.
        KeyCommand::Rotate(_) | KeyCommand::RotateMaster(_) => Ok(Exit::Usage),
    }
}

fn check(context: &Context, key: &str, instance_name: Option<&str>, secret: &InstanceSecret) -> Result<Exit, AppError> {
    // Without a name from outside the key is held against the one that it carries.
    let carried = key.split_once('|').map_or("", |(name, _)| name.rsplit(':').next().unwrap_or(name));
    let instance_name = instance_name.unwrap_or(carried);
    let claims = admin_key::check(key, instance_name, secret)
        .map_err(|error| AppError::new(Exit::Failed, Diagnostic::new("key.refused", error.to_string())))?;
    let kind = match claims.kind {
        KeyKind::Admin { .. } => "admin",
        KeyKind::ReadOnly { .. } => "read-only",
        KeyKind::System => "system",
    };
    let issued = crate::model::Timestamp(i64::try_from(claims.issued_s).unwrap_or(0).saturating_mul(1000));
    context.printer.output(&format!("a valid {kind} key of `{instance_name}`, issued {issued}\n"));
    context.printer.json(
        "convexinfra.key_check/1",
        serde_json::json!({
            "instance_name": instance_name, "kind": kind, "issued_s": claims.issued_s,
        }),
    );
    Ok(Exit::Done)
}

fn instance_secret() -> Result<InstanceSecret, AppError> {
    let failed = |message: String| {
        let finding = Diagnostic::new("key.instance_secret", message);
        AppError::new(
            Exit::Usage,
            finding
                .with_help(format!("set `{VARIABLE}` to the 64 hex digits of the instance's secret; it is never an argument")),
        )
    };
    let text = std::env::var(VARIABLE).map_err(|_| failed(format!("`{VARIABLE}` is not set")))?;
    InstanceSecret::parse(text.trim()).map_err(|error| failed(error.to_string()))
}
