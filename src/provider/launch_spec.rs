//! Renders a resolved backend into the process to run: shared by the drivers that run processes on this machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::ProviderError;
use super::process::{BackendDir, ProcessSpec};
use crate::convex::launch::{LaunchTarget, SecretDelivery, launch};
use crate::model::{Files, Release, ResolvedBackend, Secret, Storage, Tls};

/// The executable of a backend, and how it takes its secrets.
pub(super) struct ExecutableSpec {
    pub(super) path: PathBuf,
    pub(super) sha256: Option<String>,
    pub(super) sub_command: Option<&'static str>,
    pub(super) secret: SecretDelivery,
    pub(super) release: Option<Release>,
}

/// Returns the process for a backend. It listens on the loopback address only.
pub(super) fn launch_spec(
    placement: &ResolvedBackend,
    place: &BackendDir,
    program: ExecutableSpec,
) -> Result<ProcessSpec, ProviderError> {
    let mut files = BTreeMap::new();
    let certificate_file = match placement.spec.storage.server().map(|server| &server.tls) {
        Some(Tls::Pem(certificates)) => {
            let path = place.run_dir().join(format!("database-ca-{}.pem", certificates.short_digest()));
            files.insert(path.clone(), certificates.as_str().to_owned());
            Some(path)
        }
        _ => None,
    };
    let target = LaunchTarget {
        data: place.data(),
        interface: Ipv4Addr::LOCALHOST,
        ports: placement.ports,
        secret: program.secret,
        release: program.release,
        certificate_file,
    };
    let made = launch(placement, &target).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        ProviderError::Unsupported(format!("`{}` cannot be started: {error}{source}", placement.name))
    })?;
    let mut arguments: Vec<Secret> = program.sub_command.map(Secret::new).into_iter().collect();
    for argument in &made.arguments {
        arguments.push(Secret::new(utf8(argument.expose())?));
    }
    let mut environment = BTreeMap::new();
    for (name, value) in &made.environment {
        environment.insert(name.clone(), Secret::new(utf8(value.expose())?));
    }
    Ok(ProcessSpec {
        program: program.path,
        program_digest: program.sha256,
        arguments,
        environment,
        instance_name: placement.instance_name.to_string(),
        generation: placement.generation,
        ports: placement.ports,
        files,
    })
}

/// Converts a word of the command line to UTF-8.
fn utf8(word: &OsStr) -> Result<String, ProviderError> {
    // Only paths can be anything but UTF-8, and a path is nothing to hide.
    word.to_str().map(str::to_owned).ok_or_else(|| {
        ProviderError::Unsupported(format!("`{}` is not UTF-8: choose a home directory that is", word.display()))
    })
}

/// Returns the paths on this machine without which a backend's data is gone.
pub(super) fn data_paths(placement: &ResolvedBackend, place: &BackendDir) -> Vec<PathBuf> {
    match (&placement.spec.storage, &placement.spec.files) {
        (Storage::Sqlite, _) => vec![place.database()],
        (_, Files::Local) => vec![place.storage()],
        (_, Files::S3(_)) => Vec::new(),
    }
}

/// Refuses a backend whose database or files are not in its folder on this machine.
pub(super) fn require_own_data(placement: &ResolvedBackend) -> Result<(), ProviderError> {
    let name = &placement.name;
    match (&placement.spec.storage, &placement.spec.files) {
        _ if placement.spec.is_record_only() => {
            Err(ProviderError::Unsupported(format!("`{name}` is only recorded, so it has no data")))
        }
        (Storage::Sqlite, Files::Local) => Ok(()),
        (Storage::Sqlite, Files::S3(_)) => {
            Err(ProviderError::Unsupported(format!("snapshots of `{name}` are not available: its files are in buckets")))
        }
        (storage, _) => Err(ProviderError::Unsupported(format!(
            "snapshots of `{name}` are not available: its documents are on a server ({}), and only those of backends on {} are",
            storage.engine(),
            Storage::Sqlite.engine()
        ))),
    }
}
