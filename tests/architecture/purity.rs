//! What does no IO, who prints, and where providers are told apart.

use super::sources::{every_source, none, sources};

/// What must do no IO and know no time: a prefix of the path, and what is forbidden there.
const PURE: &[&str] = &[
    "model/",
    "manifest/",
    "plan/",
    "policy/",
    "render/",
    "apply/scheduler.rs",
    "apply/event.rs",
    "env_file/merge.rs",
    "env_file/parse.rs",
    "env_file/diff.rs",
    "convex/launch.rs",
    "convex/database_url.rs",
    "convex/environment.rs",
    "convex/key_payload.rs",
    "convex/image.rs",
    "convex/persistence/",
    "provider/fly/api_types.rs",
    "provider/fly/requests.rs",
    "provider/fly/config_diff.rs",
    "provider/fly/error.rs",
    "provider/fly/api_error.rs",
    "provider/fly/desired.rs",
];

const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "UnixStream",
    "std::process",
    "std::env",
    "std::thread",
    "tokio",
    "reqwest::",
    "rusqlite",
    "getrandom",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "File::",
    "println!",
    "eprintln!",
    "async fn",
];

/// What runs wherever requests can be sent, also where there are neither sockets nor clocks nor a runtime.
const PORTABLE: &str = "provider/fly/";

/// The one file below it that does not: the way out for a process of its own.
const NATIVE: &str = "provider/fly/reqwest_transport.rs";

/// Where providers are told apart: the kinds themselves and their descriptors, and each driver for itself.
const DESCRIPTORS: &[&str] = &["model/provider.rs", "model/descriptor/"];

/// Who else reads the settings of one provider, and why.
const SETTINGS_READERS: &[(&str, &str)] = &[
    ("model/fly.rs", "sizes and regions are Fly's own"),
    ("app/manifest.rs", "makes the path of an executable absolute, as all paths of a manifest"),
    ("app/session.rs", "looks whether an executable of this machine exists, which a plan cannot"),
    ("app/provision.rs", "compares the executable that was asked for with the declared one"),
    ("host/request_check.rs", "an operator decides whether executables of clients run on the machine"),
    ("cli/command/forward.rs", "a backend on a server is reached by being forwarded"),
    ("cli/command/fork.rs", "a copy is run by the executable of its source"),
    ("cli/command/rollback.rs", "which release an executable of the user is, nothing says"),
    ("cli/command/import/mod.rs", "writes the lines of a manifest that an external container lacks"),
];

/// Who may touch standard output or standard error.
const WRITERS: &[(&str, &str)] = &[
    ("cli/printer.rs", "the only writer"),
    ("cli/progress.rs", "draws on a terminal"),
    ("cli/mod.rs", "prints what clap says"),
    ("cli/error.rs", "asks how wide the terminal is"),
    ("cli/terminal.rs", "asks whether there is a terminal to ask on"),
    ("provider/kubernetes/exec.rs", "reads what a command in a container wrote"),
    ("server/logging.rs", "the log of a server"),
    ("simulator/log.rs", "a backend's own log"),
    ("simulator/start.rs", "prints the key that was asked for, as the real binary does"),
    ("provider/process/daemonize.rs", "hands its standard error to the command that waits for it"),
];

/// What depends on the provider is data of its descriptor, so that a new one is a descriptor and a driver.
#[test]
fn providers_are_told_apart_in_their_descriptors_only() {
    let kinds = ["simulated", "local", "docker", "fly", "kubernetes"];
    let variants = ["Simulated", "Local", "Docker", "Fly", "Kubernetes"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !DESCRIPTORS.iter().any(|place| source.path.starts_with(place))) {
        let driver = source.path.strip_prefix("provider/").and_then(|path| path.split(['/', '.']).next());
        for (number, line) in source.code_without_text() {
            for (kind, variant) in kinds.iter().zip(variants) {
                let is_own = driver == Some(kind);
                if line.contains(&format!("Kind::{variant}")) && !is_own {
                    broken.push(format!("src/{}:{number}: tells `{kind}` from others; ask its descriptor", source.path));
                }
                let reads = line.contains(&format!("settings.{kind}.")) || line.contains(&format!("settings.{kind};"));
                if reads && !is_own && !SETTINGS_READERS.iter().any(|(path, _)| *path == source.path) {
                    broken.push(format!("src/{}:{number}: reads the settings of `{kind}`", source.path));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn pure_modules_do_no_io() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|pure| source.path.starts_with(pure))) {
        for (number, line) in source.code_without_text() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("src/{}:{number}: `{word}` in what must stay pure", source.path));
            }
        }
    }
    none(&broken);
}

#[test]
fn the_portable_driver_names_no_runtime() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with(PORTABLE) && source.path != NATIVE) {
        for (number, line) in source.code_without_text() {
            let line = line.replace("reqwest_transport", "");
            for word in IMPURE.iter().filter(|word| **word != "async fn" && line.contains(**word)) {
                broken.push(format!("src/{}:{number}: `{word}` in what must run anywhere", source.path));
            }
        }
    }
    none(&broken);
}

/// What decides is the same on every system; files, processes and terminals are at the edge.
#[test]
fn what_decides_names_no_operating_system() {
    let core = ["model", "policy", "manifest", "plan", "convex", "api", "authority", "apply", "render", "schema"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| core.contains(&source.module())) {
        for (number, line) in source.code_without_text() {
            for word in ["std::os::", "rustix", "libc::", "cfg(unix)", "cfg(windows)", "target_os"] {
                if line.contains(word) {
                    broken.push(format!("src/{}:{number}: `{word}` where every system is alike", source.path));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn only_writers_touch_the_standard_streams() {
    let mut broken = Vec::new();
    for source in every_source() {
        let may = WRITERS.iter().any(|(path, _)| *path == source.path);
        for (number, line) in source.code_without_text() {
            if !may && ["stdout()", "stderr()"].iter().any(|stream| line.contains(stream)) {
                broken.push(format!("src/{}:{number}: prints beside the printer", source.path));
            }
        }
    }
    none(&broken);
}
