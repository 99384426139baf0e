//! Sections of the reference documentation, rendered from what the command line itself uses.

use std::collections::BTreeMap;

use clap::{Command, CommandFactory};

use super::args::Cli;
use super::env_vars::{FOREIGN, OWN};
use crate::model::Exit;

/// Renders the exit codes as a Markdown table.
pub fn exit_codes() -> String {
    let rows = Exit::ALL.into_iter().map(|exit| (exit.code().to_string(), exit.meaning().to_owned()));
    table(["exit", "meaning"], rows)
}

/// Renders the variables that stand for flags as a Markdown table, with the flags and their help.
pub fn flag_variables() -> String {
    let mut found = BTreeMap::new();
    collect(&Cli::command(), "", &mut found);
    let rows = found.into_iter().map(|(variable, (flags, help))| {
        let flags: Vec<String> = flags.iter().map(|flag| format!("`{flag}`")).collect();
        (format!("`{variable}`"), format!("{}: {help}", flags.join(", ")))
    });
    table(["variable", "stands for"], rows)
}

/// Renders the variables that stand for no flag as a Markdown table.
pub fn other_variables() -> String {
    let rows = OWN.iter().chain(FOREIGN).map(|(name, meaning)| (format!("`{name}`"), meaning.trim().to_owned()));
    table(["variable", "meaning"], rows)
}

/// Collects the variables of a command and its subcommands: the flags that they stand for, and the first one's help.
fn collect(command: &Command, path: &str, found: &mut BTreeMap<String, (Vec<String>, String)>) {
    for arg in command.get_arguments() {
        let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) else { continue };
        let flag = if path.is_empty() { format!("--{flag}") } else { format!("{path} --{flag}") };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let entry = found.entry(variable.to_string_lossy().into_owned()).or_insert_with(|| (Vec::new(), help));
        entry.0.push(flag);
    }
    for inner in command.get_subcommands() {
        let path = if path.is_empty() { inner.get_name().to_owned() } else { format!("{path} {}", inner.get_name()) };
        collect(inner, &path, found);
    }
}

fn table(head: [&str; 2], rows: impl Iterator<Item = (String, String)>) -> String {
    let mut text = format!("| {} | {} |\n|---|---|\n", head[0], head[1]);
    for (left, right) in rows {
        text.push_str(&format!("| {left} | {} |\n", right.replace('|', "\\|").replace('\n', " ")));
    }
    text
}
