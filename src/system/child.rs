//! Starts child processes without the secrets that this process was given.

use std::ffi::OsStr;
use std::process::Command;

/// The variables whose values are secrets of this program. No child needs them: git, credential helpers, browsers and
/// the command that prints a token get along without, and each of them may log or pass on its environment.
pub const OWN_SECRET_VARIABLES: [&str; 7] = [
    "CONVEXINFRA_TOKEN",
    "CONVEXINFRA_MASTER_KEY",
    "CONVEXINFRA_NEXT_MASTER_KEY",
    "CONVEXINFRA_INSTANCE_SECRET",
    "CONVEXINFRA_INIT_SECRET",
    "FLY_ACCESS_TOKEN",
    "FLY_API_TOKEN",
];

/// Returns a command that inherits the environment without [`OWN_SECRET_VARIABLES`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    without_own_secrets(Command::new(program))
}

/// Removes [`OWN_SECRET_VARIABLES`] from the environment of a command. A variable that the command sets afterwards
/// is set.
pub fn without_own_secrets(mut command: Command) -> Command {
    for name in OWN_SECRET_VARIABLES {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_inherits_none_of_our_secrets() {
        let command = command("true");
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in OWN_SECRET_VARIABLES {
            assert!(removed.contains(&OsStr::new(name)), "{name}");
        }
    }
}
