//! What is suggested for a command that does not exist: the word that other tools have for it, and nothing that destroys.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands that destroy, replace or give up something; a slip must not lead to them.
const NEVER: [&str; 5] = ["destroy", "deprovision", "forget", "restore", "rollback"];

/// What other tools call a command.
fn meant(word: &str) -> Option<&'static [&'static str]> {
    Some(match word {
        "deploy" | "create" | "sync" | "run" | "update" | "refresh" => &["apply"],
        "ls" | "ps" | "list" | "get" | "show" | "describe" | "info" => &["status"],
        "diff" | "preview" => &["plan"],
        "check" | "lint" | "fmt" => &["validate"],
        "history" | "events" | "audit" => &["log"],
        "backup" | "export" | "dump" | "snapshot" => &["archive"],
        "tail" => &["logs"],
        "restart" | "reload" => &["stop", "start"],
        "down" | "halt" | "pause" => &["stop"],
        "unpause" => &["resume"],
        "clone" | "copy" | "branch" => &["fork"],
        "new" | "setup" => &["init"],
        "open" | "ui" => &["dashboard"],
        "adopt" => &["import"],
        "login" => &["trust"],
        // Words for an end: what is spelled alike has nothing to do with it.
        "rm" | "remove" | "delete" | "del" | "drop" | "kill" | "terminate" | "teardown" | "purge" | "uninstall" => &[],
        _ => return None,
    })
}

/// Replaces what clap suggests for an unknown command.
pub(super) fn repair(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let word = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => word.to_lowercase(),
        _ => return error,
    };
    let similar = match error.remove(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(words)) => words,
        Some(ContextValue::String(word)) => vec![word],
        _ => Vec::new(),
    };
    let suggested: Vec<String> = match meant(&word) {
        Some(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        None => similar.into_iter().filter(|word| !NEVER.contains(&word.as_str())).collect(),
    };
    if !suggested.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(suggested));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    fn said(word: &str) -> String {
        repair(Cli::command().try_get_matches_from(["convexinfra", word]).unwrap_err()).to_string()
    }

    #[test]
    fn no_suggestion_destroys() {
        for word in ["restart", "destory", "detroy", "deprovison", "remove", "rm", "delete", "forgt"] {
            let said = said(word);
            assert!(!NEVER.iter().any(|never| said.contains(&format!("'{never}'"))), "{word}: {said}");
        }
        for word in ["rm", "remove", "delete", "kill"] {
            assert!(!said(word).contains("similar"), "{}", said(word));
        }
        for (word, meant) in
            [("deploy", "apply"), ("sync", "apply"), ("ls", "status"), ("ps", "status"), ("list", "status"), ("aply", "apply")]
        {
            assert!(said(word).contains(&format!("'{meant}'")), "{word}: {}", said(word));
        }
    }

    #[test]
    fn every_word_of_other_tools_leads_to_a_command() {
        let known: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        for word in ["sync", "ls", "diff", "check", "history", "tail", "new", "open", "adopt", "login"] {
            for command in meant(word).unwrap() {
                assert!(known.iter().any(|name| name == command), "{word}: {command}");
            }
        }
    }
}
