//! The words of `convexinfra token`.

use clap::{Args, Subcommand};

use crate::model::{Scope, TimeSpan};

#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for the project and print it, once.
    #[command(
        before_help = "Examples:\n  convexinfra token create --project shop --scope read --ttl 30d --note \"CI\"\n  convexinfra token create --scope operator --note \"for the on-call\""
    )]
    Create {
        /// How much it allows: read, apply, destroy, each with the ones before it, or operator for everything everywhere.
        #[arg(long, value_name = "SCOPE", value_parser = scope, env = "CONVEXINFRA_SCOPE")]
        scope: Scope,
        /// How long it is good, such as `30d`; for ever when left out.
        #[arg(long, value_name = "DURATION", value_parser = super::time_span, env = "CONVEXINFRA_TTL")]
        ttl: Option<TimeSpan>,
        /// A note; the history shows it with everything done with the token.
        #[arg(long, value_name = "TEXT", default_value = "", env = "CONVEXINFRA_NOTE")]
        note: String,
    },
    /// List the tokens, ended ones included. None of them can be seen again.
    List,
    /// End a token.
    Revoke {
        /// Its id, as `token list` has it; never the token itself.
        id: String,
    },
}

fn scope(text: &str) -> Result<Scope, String> {
    let words = Scope::ALL.map(Scope::as_str).join(", ");
    Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| format!("a scope is one of {words}"))
}
