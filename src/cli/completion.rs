//! Completion of words in shells: flags and commands from the arguments, names of backends from the manifest.
//!
//! Must not do: reach a control plane or say anything besides candidates; a shell asks at every key.

use std::any::TypeId;
use std::ffi::OsString;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;

use super::args::Cli;
use super::env_vars::COMPLETE;
use crate::app::{LoadedManifest, discovery};
use crate::model::BackendName;

/// Answers a shell that asks for candidates; false where this is no such question.
///
/// # Errors
/// The shell is unknown, or its answer cannot be written.
pub(super) fn answer(words: &[OsString]) -> Result<bool, clap::Error> {
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(command).var(COMPLETE).try_complete(words, folder.as_deref())
}

/// Returns what a shell evaluates to complete the words of this program.
///
/// # Errors
/// The shell is unknown.
pub(super) fn script(shell: clap_complete::Shell) -> std::io::Result<Vec<u8>> {
    let (shells, mut script) = (Shells::builtins(), Vec::new());
    let shell = shells.completer(&shell.to_string()).ok_or(std::io::ErrorKind::Unsupported)?;
    shell.write_registration(COMPLETE, "convexinfra", "convexinfra", "convexinfra", &mut script)?;
    Ok(script)
}

fn command() -> clap::Command {
    with_names(Cli::command())
}

/// Adds candidates to every argument that is the name of a backend.
fn with_names(command: clap::Command) -> clap::Command {
    let is_name = |arg: &clap::Arg| arg.get_value_parser().type_id() == TypeId::of::<BackendName>();
    command
        .mut_args(|arg| if is_name(&arg) { arg.add(ArgValueCandidates::new(backend_names)) } else { arg })
        .mut_subcommands(with_names)
}

/// Returns the backends of the manifest; none where there is none or where it is not right.
fn backend_names() -> Vec<CompletionCandidate> {
    let manifest = std::env::current_dir().ok().and_then(|folder| discovery::find_manifest(&folder));
    let loaded = manifest.and_then(|path| LoadedManifest::read(path, None).ok());
    let names = loaded.into_iter().flat_map(|loaded| loaded.desired.backends.into_keys());
    names.map(|name| CompletionCandidate::new(name.to_string())).collect()
}
