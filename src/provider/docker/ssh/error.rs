//! Why a server cannot be reached over SSH: one message for each cause, read from what `ssh` says. Pure.

use crate::model::Server;

/// How much of a line of `ssh` is repeated.
const MAX_LINE: usize = 300;

/// Why a server was not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshFailure {
    /// There is no `ssh` on this machine.
    NoSsh,
    /// The host key has not been confirmed yet.
    HostKeyUnknown,
    /// The host key is another one than the known or the pinned one.
    HostKeyChanged,
    /// The server takes none of the keys.
    AuthRefused,
    /// The name has no address.
    UnknownHost,
    /// Nothing takes connections there, or there is no way to it.
    NotListening,
    /// It took the connection and dropped it before anything was said.
    Dropped,
    /// No answer in time.
    Timeout,
    /// The connection broke, or the other side fell silent.
    Lost,
    /// The server forwards no connections.
    ForwardingOff,
    /// There is no Docker engine at the socket.
    NoDocker,
    /// The account may not use the engine.
    DockerDenied,
    /// Anything else that `ssh` says.
    Other,
}

/// A server that was not reached, and what was said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshError {
    /// Why.
    pub failure: SshFailure,
    /// The server.
    pub server: Server,
    /// The fingerprint of the key that the server showed.
    pub fingerprint: Option<String>,
    /// The words of `ssh` that say most.
    pub reason: String,
}

/// What `ssh` says when a connection that was there is gone.
const LOST: [&str; 4] = ["Timeout, server", "Broken pipe", "closed by remote host.", "client_loop: send disconnect"];

/// Returns whether `ssh` has said that the connection is gone.
pub(super) fn says_lost(lines: &[String]) -> bool {
    lines.iter().any(|line| LOST.iter().any(|words| line.contains(words)))
}

impl std::error::Error for SshError {}

impl std::fmt::Display for SshError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, host) = (&self.server.name, &self.server.host);
        let shown = self.fingerprint.as_deref().unwrap_or("a key that `ssh` does not name");
        match self.failure {
            SshFailure::NoSsh => {
                write!(f, "the server `{name}` is reached with `ssh`, which could not be started: {}", self.reason)
            }
            SshFailure::HostKeyUnknown => {
                write!(f, "nobody has confirmed the host key of the server `{name}` (`{host}`) yet: it shows {shown}")
            }
            SshFailure::HostKeyChanged if self.server.host_key.is_some() => {
                write!(
                    f,
                    "the server `{name}` (`{host}`) shows {shown}, which is not the `host_key` of the manifest; nothing was sent"
                )
            }
            SshFailure::HostKeyChanged => write!(
                f,
                "the host key of the server `{name}` (`{host}`) has changed: it shows {shown}, which is not the known one; nothing was sent"
            ),
            SshFailure::AuthRefused => write!(f, "the server `{name}` (`{host}`) refused the login: {}", self.reason),
            SshFailure::UnknownHost => write!(f, "the server `{name}` was not found: {}", self.reason),
            SshFailure::NotListening => write!(f, "nothing takes SSH connections at the server `{name}`: {}", self.reason),
            SshFailure::Dropped => {
                write!(f, "the server `{name}` (`{host}`) dropped the connection before the login, twice: {}", self.reason)
            }
            SshFailure::Timeout => write!(f, "the server `{name}` (`{host}`) did not answer in time: {}", self.reason),
            SshFailure::Lost => write!(f, "the connection to the server `{name}` (`{host}`) was lost: {}", self.reason),
            SshFailure::ForwardingOff => write!(f, "the server `{name}` (`{host}`) forwards no connections: {}", self.reason),
            SshFailure::NoDocker => {
                write!(f, "no Docker engine answers at `{}` of the server `{name}`: {}", self.server.socket(), self.reason)
            }
            SshFailure::DockerDenied => {
                write!(f, "the account of `{host}` may not use the Docker engine of the server `{name}`: {}", self.reason)
            }
            SshFailure::Other => write!(f, "`ssh` did not connect to the server `{name}` (`{host}`): {}", self.reason),
        }
    }
}

impl SshError {
    /// Reads from the lines of `ssh` why it ended, or why a connection through it was refused.
    pub(super) fn of_lines(server: &Server, lines: &[String]) -> Self {
        let has = |words: &[&str]| lines.iter().rev().find(|line| words.iter().any(|word| line.contains(word)));
        let pinned = server.host_key.is_some();
        let causes: [(SshFailure, &[&str]); 13] = [
            (SshFailure::HostKeyChanged, &["REMOTE HOST IDENTIFICATION HAS CHANGED"]),
            (SshFailure::HostKeyUnknown, &["and you have requested strict checking", "Host key verification failed"]),
            (SshFailure::AuthRefused, &["Permission denied (", "Too many authentication failures", "no mutual signature"]),
            (SshFailure::UnknownHost, &["Could not resolve hostname"]),
            (SshFailure::Lost, &LOST),
            (SshFailure::Timeout, &["Connection timed out", "Operation timed out", "timed out during banner exchange"]),
            (SshFailure::NotListening, &["Connection refused", "No route to host", "Network is unreachable"]),
            (
                SshFailure::Dropped,
                &["kex_exchange_identification", "Connection closed by", "Connection reset by", "banner exchange"],
            ),
            (
                SshFailure::DockerDenied,
                &[
                    "permission denied while trying to connect",
                    "connect: permission denied",
                    "connect failed: Permission denied",
                ],
            ),
            (
                SshFailure::NoDocker,
                &["not found", "Cannot connect to the Docker daemon", "is not a docker command", "o such file"],
            ),
            (SshFailure::ForwardingOff, &["administratively prohibited"]),
            (SshFailure::NoDocker, &["open failed"]),
            (SshFailure::Other, &[""]),
        ];
        let found = causes.into_iter().find_map(|(failure, words)| Some((failure, has(words)?)));
        let (failure, line) =
            found.map_or((SshFailure::Other, "it ended without a word"), |(failure, line)| (failure, line.as_str()));
        // With one key that counts, a key of another type is not the pinned one either.
        let failure = match failure {
            SshFailure::HostKeyUnknown if pinned => SshFailure::HostKeyChanged,
            other => other,
        };
        let mut error = Self::new(failure, server, line);
        error.fingerprint = lines.iter().rev().find_map(|line| fingerprint(line));
        error
    }

    pub(in crate::provider::docker) fn new(failure: SshFailure, server: &Server, reason: &str) -> Self {
        let reason = reason.trim().trim_end_matches('.').chars().filter(|c| !c.is_control()).take(MAX_LINE).collect();
        Self { failure, server: server.clone(), fingerprint: None, reason }
    }

    /// Returns a stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self.failure {
            SshFailure::NoSsh => "ssh.not_installed",
            SshFailure::HostKeyUnknown => "ssh.host_key_unknown",
            SshFailure::HostKeyChanged => "ssh.host_key_changed",
            SshFailure::AuthRefused => "ssh.auth_refused",
            SshFailure::ForwardingOff => "ssh.forwarding_off",
            SshFailure::NoDocker => "ssh.no_docker",
            SshFailure::DockerDenied => "ssh.docker_denied",
            SshFailure::Timeout => "ssh.timeout",
            SshFailure::Lost => "ssh.lost",
            SshFailure::UnknownHost | SshFailure::NotListening | SshFailure::Dropped | SshFailure::Other => "ssh.unreachable",
        }
    }

    /// Returns what to do about it.
    pub fn help(&self) -> String {
        let command = self.ssh();
        match self.failure {
            SshFailure::NoSsh => "install OpenSSH's client".to_owned(),
            SshFailure::HostKeyUnknown => format!(
                "compare it with what the server's own console prints\n    for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; \
                 done\nand confirm it once with\n    {command} -o StrictHostKeyChecking=ask exit\nor write the content of the `.pub` file as \
                 `host_key` into `[servers.{}]`, as a machine without a terminal needs it",
                self.server.name
            ),
            SshFailure::HostKeyChanged if self.server.host_key.is_some() => format!(
                "if the server was made anew, write its new key as `host_key` into `[servers.{}]`; if it was not, something else \
                 answers in its place",
                self.server.name
            ),
            SshFailure::HostKeyChanged => format!(
                "if the server was made anew, see which line is meant with\n    {command} exit\nand remove that one; if it was not, \
                 something else answers in its place"
            ),
            SshFailure::AuthRefused => format!(
                "convexinfra never asks for a passphrase, so a key with a passphrase has to be in the agent (`ssh-add`), and this has to \
                 work without a question\n    {command} -o BatchMode=yes exit"
            ),
            SshFailure::ForwardingOff => "let its SSH server forward connections: `AllowTcpForwarding yes` and \
                                          `AllowStreamLocalForwarding yes` in /etc/ssh/sshd_config, without `DisableForwarding`"
                .to_owned(),
            SshFailure::NoDocker => format!(
                "see whether it runs with\n    {command} docker version\nand name its socket as `socket` in `[servers.{}]` where it is \
                 another one, such as `/run/user/1000/docker.sock`",
                self.server.name
            ),
            SshFailure::DockerDenied => format!(
                "whoever may use the engine is root there: let the account into the group with\n    {command} sudo usermod -aG docker \
                 '$USER'\nor name another account in `host`"
            ),
            SshFailure::Lost | SshFailure::Timeout => {
                "what is done is done, and running the same command again goes on from there".to_owned()
            }
            SshFailure::Dropped => {
                "too many logins at once, or a filter such as fail2ban, make servers do that: try again in a minute; \
                                    it was tried no more than twice"
                    .to_owned()
            }
            SshFailure::UnknownHost | SshFailure::NotListening | SshFailure::Other => {
                format!("see what it says with\n    {command} exit")
            }
        }
    }

    /// The command with which a person enters the server.
    fn ssh(&self) -> String {
        let port = self.server.port.map(|port| format!(" -p {port}")).unwrap_or_default();
        let identity =
            self.server.identity.as_ref().map(|file| format!(" -i '{}'", file.replace('\'', "'\\''"))).unwrap_or_default();
        format!("ssh{port}{identity} {}", self.server.host)
    }
}

/// The key in a line of `ssh`, such as `debug1: Server host key: ssh-ed25519 SHA256:…`.
fn fingerprint(line: &str) -> Option<String> {
    let key = line.split_once("Server host key: ")?.1.trim();
    let is_plain = key.len() < 200 && key.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (is_plain && key.contains("SHA256:")).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host_key: Option<&str>) -> Server {
        let host_key = host_key.map(str::to_owned);
        Server {
            name: "shop".into(),
            host: "deploy@shop.test".into(),
            port: Some(2222),
            identity: None,
            host_key,
            socket: None,
        }
    }

    #[test]
    fn each_cause_has_its_own_code() {
        let key = "debug1: Server host key: ssh-ed25519 SHA256:abc";
        for (said, code) in [
            (
                &[
                    key,
                    "No ED25519 host key is known for x and you have requested strict checking.",
                    "Host key verification failed.",
                ][..],
                "ssh.host_key_unknown",
            ),
            (
                &[key, "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", "Host key verification failed."],
                "ssh.host_key_changed",
            ),
            (&[key, "deploy@shop.test: Permission denied (publickey)."], "ssh.auth_refused"),
            (&["ssh: connect to host x port 22: Connection refused"], "ssh.unreachable"),
            (&["ssh: connect to host x port 22: Connection timed out"], "ssh.timeout"),
            (&["ssh: Could not resolve hostname nowhere: Name or service not known"], "ssh.unreachable"),
            (&["kex_exchange_identification: Connection closed by remote host"], "ssh.unreachable"),
            (&["Timeout, server shop.test not responding."], "ssh.lost"),
            (&["channel 2: open failed: administratively prohibited: open failed"], "ssh.forwarding_off"),
            (&["channel 2: open failed: connect failed: open failed", "sh: 1: docker: not found"], "ssh.no_docker"),
            (&["permission denied while trying to connect to the Docker daemon socket"], "ssh.docker_denied"),
            (&[], "ssh.unreachable"),
        ] {
            let lines: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
            let error = SshError::of_lines(&server(None), &lines);
            assert_eq!(error.code(), code, "{said:?}");
            assert!(!error.help().is_empty() && !error.to_string().is_empty());
            if said.contains(&key) && code.contains("host_key") {
                assert!(error.to_string().contains("SHA256:abc"), "{error}");
            }
        }
    }

    #[test]
    fn a_key_of_another_type_is_not_the_pinned_one() {
        let lines = ["No RSA host key is known for x and you have requested strict checking.".to_owned()];
        let error = SshError::of_lines(&server(Some("ssh-ed25519 AAAA")), &lines);
        assert_eq!(error.code(), "ssh.host_key_changed");
        assert!(error.to_string().contains("`host_key` of the manifest"), "{error}");
    }
}
