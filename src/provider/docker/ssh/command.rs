//! The command lines of `ssh`. Pure.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::model::Server;

/// The name under which the pinned key stands in a file of known hosts of our own.
const PINNED: &str = "convexinfra-pinned";
/// What the control socket is called in the private folder.
pub(super) const CONTROL: &str = "c";
/// What the socket is called that leads to Docker's own command.
pub(super) const RELAY: &str = "s";
const KNOWN_HOSTS: &str = "k";

/// Runs `ssh` until it ends or this process does, which closes the pipe that a shell waits on; the folder goes with it. A
/// process that is killed can end nothing itself.
pub(super) const SUPERVISE: &str = "dir=$1; shift; exec 3<&0; \"$@\" </dev/null 3<&- & ssh=$!; \
     { cat; kill $ssh; } <&3 >/dev/null 2>&1 & watch=$!; exec 3<&-; wait $ssh; code=$?; kill $watch 2>/dev/null; \
     rm -rf \"$dir\"; exit $code";

/// Overrides the user's configuration: no question is asked, no unknown key is taken, no agent or display lent, and
/// nothing forwarded but what is asked for later.
const OPTIONS: [&str; 18] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "Tunnel=no",
    "ControlMaster=yes",
    "ControlPersist=no",
    "ConnectTimeout=15",
    "ConnectionAttempts=1",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "StreamLocalBindMask=0177",
    // Its first level names the key that the server shows.
    "LogLevel=DEBUG1",
    "VisualHostKey=no",
];

/// Returns the arguments that start the master connection with its control socket in `folder`.
pub(super) fn master(program: &OsStr, server: &Server, folder: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![program.into(), "-NT".into()];
    for option in OPTIONS {
        words.extend(["-o".into(), option.into()]);
    }
    words.extend(["-S".into(), folder.join(CONTROL).into()]);
    if let Some(port) = server.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(identity) = &server.identity {
        words.extend(["-i".into(), identity.into(), "-o".into(), "IdentitiesOnly=yes".into()]);
    }
    if server.host_key.is_some() {
        let mut file = OsString::from("UserKnownHostsFile=");
        file.push(folder.join(KNOWN_HOSTS));
        let alias = format!("HostKeyAlias={PINNED}");
        for option in [
            file,
            alias.into(),
            "GlobalKnownHostsFile=/dev/null".into(),
            "KnownHostsCommand=none".into(),
            "VerifyHostKeyDNS=no".into(),
        ] {
            words.extend(["-o".into(), option]);
        }
    }
    words.extend(["--".into(), server.host.clone().into()]);
    words
}

/// Returns the file of known hosts that has the pinned key alone.
pub(super) fn known_hosts(server: &Server, folder: &Path) -> Option<(std::path::PathBuf, String)> {
    let key = server.host_key.as_ref()?;
    Some((folder.join(KNOWN_HOSTS), format!("{PINNED} {key}\n")))
}

/// Returns the arguments that forward a socket of the private folder to a socket or an address of the server.
pub(super) fn forward(program: &OsStr, folder: &Path, local: &Path, remote: &str) -> Vec<OsString> {
    let mut rule = local.as_os_str().to_owned();
    rule.push(":");
    rule.push(remote);
    let mut words = control(program, folder);
    words.extend(["-O".into(), "forward".into(), "-L".into(), rule, "--".into(), "server".into()]);
    words
}

/// Returns the arguments that speak to the engine through Docker's own command on the server.
pub(super) fn dial_stdio(program: &OsStr, folder: &Path, socket: &str) -> Vec<OsString> {
    let mut words = control(program, folder);
    let command = format!("docker --host=unix://{socket} system dial-stdio");
    words.extend(["-T".into(), "--".into(), "server".into(), command.into()]);
    words
}

/// Returns the arguments that run a line of shell on the server.
pub(super) fn shell(program: &OsStr, folder: &Path, line: &str) -> Vec<OsString> {
    let mut words = control(program, folder);
    words.extend(["-T".into(), "--".into(), "server".into(), line.into()]);
    words
}

/// The user's configuration has had its say when the master was started.
fn control(program: &OsStr, folder: &Path) -> Vec<OsString> {
    vec![program.into(), "-F".into(), "none".into(), "-S".into(), folder.join(CONTROL).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: Vec<OsString>) -> Vec<String> {
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn nothing_weakens_host_keys_and_a_host_is_never_an_option() {
        let server = Server {
            name: "shop".into(),
            host: "deploy@shop.test".into(),
            port: Some(2222),
            identity: Some("/keys/deploy".into()),
            host_key: None,
            socket: None,
        };
        let plain = words(master("ssh".as_ref(), &server, Path::new("/p")));
        assert!(plain.ends_with(&["--".to_owned(), "deploy@shop.test".to_owned()]), "{plain:?}");
        for wanted in ["StrictHostKeyChecking=yes", "BatchMode=yes", "ForwardAgent=no", "2222", "/keys/deploy"] {
            assert!(plain.iter().any(|word| word == wanted), "{wanted}: {plain:?}");
        }
        assert!(!plain.iter().any(|word| word.starts_with("UserKnownHostsFile")), "{plain:?}");
        let pinned = Server { host_key: Some("ssh-ed25519 AAAA".into()), ..server };
        let with_pin = words(master("ssh".as_ref(), &pinned, Path::new("/p")));
        assert!(with_pin.iter().any(|word| word == "UserKnownHostsFile=/p/k"), "{with_pin:?}");
        let (file, text) = known_hosts(&pinned, Path::new("/p")).unwrap();
        assert_eq!((file.to_str().unwrap(), text.as_str()), ("/p/k", "convexinfra-pinned ssh-ed25519 AAAA\n"));
    }
}
