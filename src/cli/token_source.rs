//! The token for a control plane: from a variable, or from a command that prints it, and only where it belongs.
//!
//! The variable wins, as it does with the tools that people know: a command is how a machine is set up, a variable is
//! what one run was given.
//!
//! A manifest may be part of a pull request, so the host that it names gets only a token that says itself that it was
//! issued there, unless the user trusts the host in a file of their own.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::env_vars::{TOKEN, TOKEN_COMMAND as COMMAND};
use super::trust::TrustFile;
use crate::api::client::{ControlPlaneUrl, TokenSource};
use crate::api::{ControlError, OriginMatch, TokenOrigin, match_origin};
use crate::model::{Diagnostic, Secret, shell_word};
use crate::system;

/// How long the command may take; a person may have to touch a key for it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of the output of the command is read in bytes.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;

/// Who named the URL of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// The user, with `--control-plane` or its variable.
    User,
    /// Only the manifest.
    Manifest,
}

/// The variables that a token comes from.
pub(crate) struct EnvTokenSource {
    url: ControlPlaneUrl,
    named_by: NamedBy,
}

impl EnvTokenSource {
    /// Returns the source of the token for the control plane at this URL.
    pub(crate) fn new(url: &ControlPlaneUrl, named_by: NamedBy) -> Self {
        Self { url: url.clone(), named_by }
    }

    /// Whether the user vouches for the host, apart from what a token says.
    fn is_vouched_for(&self) -> Result<bool, ControlError> {
        if self.named_by == NamedBy::User {
            return Ok(true);
        }
        let trusted = TrustFile::of_user().and_then(|file| file.contains(&self.url));
        trusted.map_err(|error| {
            let diagnostic = error.report().errors.swap_remove(0);
            ControlError::NotAuthorised(Diagnostic { code: "auth.trust_file".to_owned(), ..diagnostic })
        })
    }

    async fn find(&self) -> Result<Secret, ControlError> {
        let variable =
            |name| std::env::var(name).ok().map(Zeroizing::new).filter(|value: &Zeroizing<String>| !value.trim().is_empty());
        if let Some(token) = variable(TOKEN) {
            let token = Secret::new(token.trim());
            self.check(&token)?;
            return Ok(token);
        }
        if let Some(command) = variable(COMMAND) {
            // The command is not even started for a host that only a manifest names: it may unlock something.
            if !self.is_vouched_for()? {
                return Err(self.untrusted(&format!("the command in `{COMMAND}` was not started")));
            }
            let token = from_command(&command, COMMAND_TIMEOUT).await?;
            self.check(&token)?;
            return Ok(token);
        }
        let url = &self.url;
        let message = format!("the control plane `{url}` asks for a token, and neither `{TOKEN}` nor `{COMMAND}` is set");
        let help = format!(
            "put a token into `{TOKEN}`, or a command that prints one into `{COMMAND}`; an operator makes one with\n    \
             convexinfra token create --project NAME --scope read"
        );
        Err(refused("auth.token_missing", message, help))
    }

    /// Refuses to send a token to an origin that it does not belong to.
    fn check(&self, token: &Secret) -> Result<(), ControlError> {
        let origin = TokenOrigin::of(self.url.as_url());
        match origin.map_or(OriginMatch::Foreign, |origin| match_origin(token, &origin)) {
            OriginMatch::Bound => Ok(()),
            OriginMatch::Foreign => {
                let message = format!("the token was issued by another control plane than `{}`, so it was not sent", self.url);
                let help = "use a token that this control plane issued, or the URL that the token was issued for; \
                            a server with several URLs names each of them with `serve --public-url`";
                Err(refused(UNTRUSTED_HOST, message, help.to_owned()))
            }
            OriginMatch::Unbound if self.is_vouched_for()? => Ok(()),
            OriginMatch::Unbound => Err(self.untrusted("the token, which does not say where it belongs, was not sent")),
        }
    }

    fn untrusted(&self, consequence: &str) -> ControlError {
        let url = &self.url;
        let message = format!("only the manifest names the control plane `{url}`, so {consequence}");
        let word = shell_word(&url.to_string());
        let help = format!(
            "if you know that it is yours, trust it once on this machine with\n    convexinfra trust add {word}\nor name it \
             outside of the manifest, in CI for example, with\n    export CONVEXINFRA_CONTROL_PLANE={word}"
        );
        refused(UNTRUSTED_HOST, message, help)
    }
}

/// The code of a token that is not sent to a host.
const UNTRUSTED_HOST: &str = "auth.untrusted_host";

#[async_trait]
impl TokenSource for EnvTokenSource {
    async fn token(&self) -> Result<Secret, ControlError> {
        self.find().await
    }
}

/// Runs a command and takes its first line.
async fn from_command(command: &str, within: Duration) -> Result<Secret, ControlError> {
    let help = format!("run the command of `{COMMAND}` by itself to see what it does");
    let failed = |what: String| refused("auth.token_command", format!("the command in `{COMMAND}` {what}"), help.clone());
    let mut shell = system::command("sh");
    // What it says to a person goes to the person.
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child =
        Command::from(shell).kill_on_drop(true).spawn().map_err(|error| failed(format!("could not be run: {error}")))?;
    let run = async {
        let mut text = Zeroizing::new(Vec::new());
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut text).await?;
        }
        if text.len() as u64 > MAX_OUTPUT_BYTES {
            return Ok((None, text));
        }
        child.wait().await.map(|status| (Some(status), text))
    };
    let (status, text) = match tokio::time::timeout(within, run).await {
        Ok(result) => result.map_err(|error: std::io::Error| failed(format!("could not be run: {error}")))?,
        Err(_) => return Err(failed(format!("did not end within {} s", within.as_secs()))),
    };
    match status {
        None => return Err(failed(format!("printed more than {MAX_OUTPUT_BYTES} bytes"))),
        Some(status) if !status.success() => return Err(failed(format!("failed: {status}"))),
        Some(_) => {}
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
        // One that never ends is given little time, and the others as much as a busy machine needs to start them.
        let limit = if command.contains("sleep") { Duration::from_millis(500) } else { Duration::from_secs(60) };
        let token = from_command(command, limit).await;
        token.map(|token| token.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_command_prints_the_token_in_its_first_line() {
        assert_eq!(token("printf ' cvxi_1 \\nmore\\n'").await.unwrap(), "cvxi_1");
        for (command, end) in [
            ("echo cvxi_secret; exit 3", "failed: exit status: 3"),
            ("printf '\\nlate\\n'", "printed nothing in its first line"),
            ("printf '\\377'", "printed something that is no text"),
            ("exec sleep 60", "did not end within 0 s"),
            ("exec cat /dev/zero", "printed more than 65536 bytes"),
        ] {
            let error = token(command).await.unwrap_err();
            assert!(error.ends_with(end) && !error.contains("cvxi_secret"), "{command}: {error}");
        }
    }
}
