//! Runs backends as processes of this machine that outlive the command which started them.
//!
//! One rule carries everything here: **the holder of the lock `run/lock` is the backend.** The lock is an `fcntl` record
//! lock. The kernel ties it to one process: it survives `exec`, children do not inherit it (so a left-over Node executor
//! cannot pose as its backend), it ends with the process however that ends, and the kernel names its holder. A process
//! takes the lock and writes its record before it turns into the backend, so there is never a backend without both, and
//! never two for one directory.
//!
//! What a Convex backend is started with is not known here: a [`ProcessSpec`] says it.

mod daemonize;
mod data_switch;
mod identity;
mod layout;
mod lock;
mod log;
mod port;
mod port_holder;
mod probe;
mod process_record;
mod process_spec;
mod start;
mod stop;
mod supervisor;

pub use daemonize::daemonize_main;
pub use identity::{BackendIdentity, find_unrecorded, take_back_recorded};
pub use layout::BackendDir;
pub(in crate::provider) use layout::create_private_directory;
pub(in crate::provider) use lock::FileLock;
pub use probe::{LockHolder, ProcessState, probe};
pub use process_record::{ProcessRecord, start_time};
pub use process_spec::ProcessSpec;
pub use supervisor::Supervisor;

use std::path::Path;

use super::ProviderError;

/// The hidden command that turns this program into a backend.
pub const DAEMONIZE_COMMAND: &str = "detach";

/// How long to wait between two probes of something that happens soon.
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(10);

pub(in crate::provider) fn file_error(path: &Path, verb: &'static str) -> impl FnOnce(std::io::Error) -> ProviderError {
    let path = path.display().to_string();
    move |source| ProviderError::File { path, verb, source }
}

fn process_error(program: &Path, verb: &'static str) -> impl FnOnce(std::io::Error) -> ProviderError {
    let program = program.display().to_string();
    move |source| ProviderError::Process { program, verb, source }
}
