//! The command line: parses arguments, opens a control plane, runs a use case of `app`, and prints its outcome.
//!
//! One file per command under `command/`; only `printer` writes to the terminal.
//!
//! Must not do: know a provider, a rule or a format; the library has them.

mod args;
mod command;
mod completion;
mod context;
mod env_overrides;
mod env_vars;
mod error;
mod follow_up;
mod printer;
mod progress;
mod providers;
pub mod reference;
mod signal;
mod suggestions;
mod terminal;
mod token_source;
mod trust;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use self::args::ColorChoice;
use self::context::Context;
use self::error::error_text;
use self::follow_up::FollowUp;
use self::printer::Printer;
use crate::app::AppError;
use crate::model::{Diagnostic, Exit, Report};

/// Runs the command line and returns the exit code.
pub fn main(words: Vec<OsString>) -> ExitCode {
    // These two turn into another program and take its arguments as they are.
    match words.get(1).and_then(|word| word.to_str()) {
        Some("simulate-backend") => {
            let own = words.first().cloned().into_iter();
            return ExitCode::from(crate::simulator::main_with(own.chain(words.into_iter().skip(2))));
        }
        Some(crate::provider::process::DAEMONIZE_COMMAND) => {
            return ExitCode::from(crate::provider::process::daemonize_main(std::path::Path::new(
                words.get(2).map_or_else(|| std::ffi::OsStr::new(""), OsString::as_os_str),
            )));
        }
        _ => {}
    }
    match completion::answer(&words) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return usage(error, &words, false),
    }
    let wants_json = words.iter().any(|word| word == "--json")
        || std::env::var_os("CONVEXINFRA_JSON").is_some_and(|value| !env_overrides::is_false(&value));
    let cli = match env_overrides::parse(&words) {
        Ok(cli) => cli,
        Err(error) => return usage(suggestions::repair(error), &words, wants_json),
    };
    let json_into = match cli.global.json_into.as_deref().map(private_file).transpose() {
        Ok(file) => file,
        Err(error) => {
            let path = cli.global.json_into.unwrap_or_default();
            let finding = Diagnostic::new("usage.json_into", format!("`{}` could not be written: {error}", path.display()));
            return end(
                &Printer::new(cli.global.color, cli.global.json, None),
                &AppError::from(Report::one(Exit::Usage, finding)),
            );
        }
    };
    let follow_up = FollowUp::new(&cli.global, words.get(1..).unwrap_or_default());
    let printer = Printer::new(cli.global.color, cli.global.json, json_into).with_follow_up(follow_up);
    let context = Context::new(cli.global, printer);
    match command::run(&context, cli.command) {
        // An output that could not be written is a failure, however well the rest went.
        Ok(_) if context.printer.report_write_error() => ExitCode::from(Exit::Failed.code()),
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => end(&context.printer, &failure),
    }
}

/// Reports a failure in the way that was asked for.
fn end(printer: &Printer, failure: &AppError) -> ExitCode {
    printer.document(&crate::render::error_document(&failure.report()));
    printer.status(&error_text(failure, printer.err_style()));
    printer.report_write_error();
    ExitCode::from(failure.exit().code())
}

/// A file that only its owner can read: documents may name what others need not know.
fn private_file(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        // One that was there before keeps its mode otherwise.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}

/// Reports what clap says. Help and version are no errors; everything else is wrong usage, which is 64 here because
/// clap's own 2 means "changes are pending".
fn usage(error: clap::Error, words: &[OsString], json: bool) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        // Variables that stand for arguments make clap miss the command instead of showing the help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand if words.len() <= 1 => {
            let help = args::Cli::command().render_help();
            Printer::new(ColorChoice::Auto, false, None).output(&help.to_string());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(Exit::Usage.code())
        }
        _ => {
            let rendered = error.to_string();
            if json {
                let text = rendered.strip_prefix("error: ").unwrap_or(&rendered).trim_end();
                let (message, help) = text.split_once("\n\n").unwrap_or((text, ""));
                let finding = Diagnostic {
                    help: (!help.is_empty()).then(|| help.trim().to_owned()),
                    ..Diagnostic::new("usage", message)
                };
                let failure = AppError::from(Report::one(Exit::Usage, finding));
                return end(&Printer::new(ColorChoice::Auto, true, None), &failure);
            }
            let _ = error.print();
            ExitCode::from(Exit::Usage.code())
        }
    }
}
