//! The launch file: a shell script with everything secret that a backend in a container is started with. The entry point reads
//! it, so nothing secret stands in the container's variables and arguments, which many may look at.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::convex::launch::{Argument, Launch, LaunchTarget, launch};
use crate::model::ResolvedBackend;
use crate::provider::ProviderError;

/// Returns the launch of a backend in a container.
///
/// # Errors
/// [`ProviderError::Unsupported`] says what cannot be started.
pub fn render_launch(resolved: &ResolvedBackend, target: &LaunchTarget) -> Result<Launch, ProviderError> {
    launch(resolved, target).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        ProviderError::Unsupported(format!("`{}` cannot be started: {error}{source}", resolved.name))
    })
}

/// Holds a launch without its secrets, and the file with them.
pub struct LaunchParts {
    /// The arguments that may be seen.
    pub arguments: Vec<String>,
    /// The variables that may be seen.
    pub environment: BTreeMap<String, String>,
    /// The content of the file.
    pub file: Zeroizing<String>,
}

/// Moves the secrets of a launch into a file. Those among the arguments are positional, and so they may come last. `data` is where
/// the container sees the backend's volume.
pub fn extract_secrets(launch: &Launch, resolved: &ResolvedBackend, data: &str) -> LaunchParts {
    let mut file = Zeroizing::new(String::new());
    let mut arguments = Vec::new();
    let mut environment = BTreeMap::new();
    let mut set = Zeroizing::new("set -- \"$@\" --instance-secret ".to_owned());
    set.push_str(&shell_quote(resolved.instance_secret.expose()));
    for argument in &launch.arguments {
        match argument {
            Argument::Plain(text) => arguments.push(text.to_string_lossy().into_owned()),
            Argument::Secret(secret) => {
                set.push(' ');
                set.push_str(&shell_quote(secret.expose()));
            }
        }
    }
    for (name, value) in &launch.environment {
        match value {
            Argument::Plain(text) => {
                environment.insert(name.clone(), text.to_string_lossy().into_owned());
            }
            Argument::Secret(secret) => {
                file.push_str("export ");
                file.push_str(name);
                file.push('=');
                file.push_str(&shell_quote(secret.expose()));
                file.push('\n');
            }
        }
    }
    environment.insert("TMPDIR".to_owned(), format!("{data}/tmp"));
    environment.insert("npm_config_cache".to_owned(), format!("{data}/tmp/npm"));
    // What it logs is read by people and programs, and never by the terminal that it would colour.
    environment.insert("NO_COLOR".to_owned(), "1".to_owned());
    file.push_str(&set);
    file.push('\n');
    LaunchParts { arguments, environment, file }
}

/// Returns a text as one word of a shell.
fn shell_quote(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_survive_a_shell() {
        for text in ["", "plain", "it's", "a b\n\"$HOME\" `id` \\ '' é"] {
            let script = format!("printf %s {}", shell_quote(text).as_str());
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
