//! The token for a control plane: from a variable, or from a command that prints it.
//!
//! The variable wins, as it does with the tools that people know: a command is how a machine is set up, a variable is
//! what one run was given.
//!
//! Must not do: take a token as an argument, keep it in a file, or show any of it.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::api::ControlError;
use crate::api::client::{ControlPlaneUrl, TokenSource};
use crate::model::{Diagnostic, Secret};

use super::env_vars::{TOKEN, TOKEN_COMMAND as COMMAND};
/// How long the command may take; somebody may have to touch a key for it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The variables that a token comes from.
pub(crate) struct EnvTokenSource {
    url: String,
}

impl EnvTokenSource {
    /// For the control plane at this URL.
    pub(crate) fn new(url: &ControlPlaneUrl) -> Self {
        Self { url: url.to_string() }
    }
}

impl TokenSource for EnvTokenSource {
    fn token(&self) -> BoxFuture<'_, Result<Secret, ControlError>> {
        Box::pin(async move {
            let variable = |name| {
                std::env::var(name).ok().map(Zeroizing::new).filter(|value: &Zeroizing<String>| !value.trim().is_empty())
            };
            if let Some(token) = variable(TOKEN) {
                return Ok(Secret::new(token.trim()));
            }
            if let Some(command) = variable(COMMAND) {
                return from_command(&command, COMMAND_TIMEOUT).await;
            }
            let message =
                format!("the control plane `{}` asks for a token, and neither `{TOKEN}` nor `{COMMAND}` is set", self.url);
            let help = format!(
                "put a token into `{TOKEN}`, or a command that prints one into `{COMMAND}`; an operator makes one with\n    \
                 convexinfra token create --project NAME --scope read"
            );
            Err(refused("auth.token_missing", message, help))
        })
    }
}

/// Runs a command and takes its first line.
async fn from_command(command: &str, within: Duration) -> Result<Secret, ControlError> {
    let help = format!("run the command by itself to see what it does; it stands in `{COMMAND}`");
    let failed = |what: String| refused("auth.token_command", format!("the command in `{COMMAND}` {what}"), help.clone());
    // What it has to say to whoever waits goes where everything goes that is said to people.
    let child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("could not be run: {error}")))?;
    let output = match tokio::time::timeout(within, child.wait_with_output()).await {
        Ok(output) => output.map_err(|error| failed(format!("could not be run: {error}")))?,
        Err(_) => return Err(failed(format!("did not end within {} s", within.as_secs()))),
    };
    let text = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(failed(format!("failed: {}", output.status)));
    }
    let text = std::str::from_utf8(&text).map_err(|_| failed("printed something that is no text".to_owned()))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => Err(failed("printed nothing in its first line".to_owned())),
    }
}

fn refused(code: &str, message: String, help: String) -> ControlError {
    ControlError::NotAuthorised(Diagnostic::new(code, message).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn token(command: &str) -> Result<String, String> {
        let token = from_command(command, Duration::from_millis(500)).await;
        token.map(|token| token.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_command_prints_the_token_in_its_first_line() {
        assert_eq!(token("printf ' cvxi_1 \\nmore\\n'").await.unwrap(), "cvxi_1");
        for (command, end) in [
            ("echo cvxi_secret; exit 3", "failed: exit status: 3"),
            ("printf '\\nlate\\n'", "printed nothing in its first line"),
            ("printf '\\377'", "printed something that is no text"),
            ("exec sleep 5", "did not end within 0 s"),
        ] {
            let error = token(command).await.unwrap_err();
            assert!(error.ends_with(end) && !error.contains("cvxi_secret"), "{command}: {error}");
        }
    }
}
