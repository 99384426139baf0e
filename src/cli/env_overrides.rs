//! Variables that stand for words of the command line, and when they do not count.
//!
//! CI systems set variables to nothing or to `false` where they mean that there is none. And what was typed wins: a
//! variable is a habit, a word is a wish.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::args::Cli;

/// Words that cannot stand beside each other. `args` says so; this says it again for the variables.
const EXCLUSIVE_FLAGS: [[&str; 2]; 3] = [["json", "markdown"], ["format", "write"], ["read_only", "system"]];

/// Reads the words, and the variables that count.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let variable = |name: &OsStr| std::env::var_os(name);
    Cli::from_arg_matches(&matches(&Cli::command, words, &variable)?)
}

/// Parses words with a command that is built anew for each attempt: one that parses is used up, and a copy costs more.
fn matches(
    command: &dyn Fn() -> Command,
    words: &[OsString],
    variable: &dyn Fn(&OsStr) -> Option<OsString>,
) -> Result<ArgMatches, clap::Error> {
    // One that is not set counts: help names it.
    let counts = |arg: &Arg| {
        arg.get_env()
            .and_then(variable)
            .is_none_or(|value| !(value.is_empty() || matches!(arg.get_action(), ArgAction::SetTrue) && is_false(&value)))
    };
    let counting = || retain_env_args(command(), &counts);
    let error = match counting().try_get_matches_from(words) {
        Err(error) if error.kind() == ErrorKind::ArgumentConflict => error,
        // Help names every variable, set or not.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return command().try_get_matches_from(words),
        result => return result,
    };
    for (typed, dropped) in EXCLUSIVE_FLAGS.into_iter().flat_map(|[one, other]| [(one, other), (other, one)]) {
        let others = retain_env_args(counting(), &|arg| arg.get_id() != dropped);
        if let Ok(matches) = others.try_get_matches_from(words)
            && was_typed(&matches, typed)
        {
            return Ok(matches);
        }
    }
    Err(error)
}

/// The same command without the variables that do not count.
fn retain_env_args(command: Command, counts: &dyn Fn(&Arg) -> bool) -> Command {
    command
        .mut_args(|arg| if arg.get_env().is_some() && !counts(&arg) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(|command| retain_env_args(command, counts))
}

fn was_typed(matches: &ArgMatches, id: &str) -> bool {
    let here = matches.ids().any(|found| found == id) && matches.value_source(id) == Some(ValueSource::CommandLine);
    here || matches.subcommand().is_some_and(|(_, inner)| was_typed(inner, id))
}

/// Whether a variable for a switch says that it is off; the same words that clap takes for that.
pub(crate) fn is_false(value: &OsStr) -> bool {
    ["", "n", "no", "f", "false", "off", "0"].contains(&value.to_string_lossy().to_lowercase().as_str())
}

/// Whether a variable says that something is on.
pub(crate) fn is_on(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !is_false(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_off_are_those_of_clap() {
        use clap::builder::{FalseyValueParser, TypedValueParser};
        for word in ["", "n", "N", "no", "f", "false", "False", "off", "0", "1", "yes", "y", "on", "t", "x"] {
            let clap = FalseyValueParser::new().parse_ref(&Command::new("x"), None, OsStr::new(word)).unwrap();
            assert_eq!(is_false(OsStr::new(word)), !clap, "{word}");
        }
    }

    #[test]
    fn every_switch_takes_the_same_words_from_its_variable() {
        fn look(command: &Command, found: &mut usize) {
            for arg in command.get_arguments() {
                if arg.get_env().is_some() && matches!(arg.get_action(), ArgAction::SetTrue) {
                    let mut words = arg.get_value_parser().possible_values().into_iter().flatten();
                    assert!(words.any(|word| word.matches("yes", false)), "`{}` of `{command}`", arg.get_id());
                    *found += 1;
                }
            }
            for command in command.get_subcommands() {
                look(command, found);
            }
        }
        let mut found = 0;
        look(&Cli::command(), &mut found);
        assert!(found > 10, "{found}");
    }
}
