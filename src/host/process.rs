//! Who this process is, and whether the process that holds a lease still lives.
//!
//! Must not do: signal or end a process.

use crate::authority::Liveness;
use crate::control::{Attempt, Holder};

/// This process, as the holder of a lease.
pub fn here() -> Holder {
    let process = std::process::id();
    Holder {
        user: std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_else(|_| "somebody".to_owned()),
        host: host_name(),
        process,
        process_start: start_time(process),
        since: super::machine::now(),
        attempt: attempt(),
    }
}

/// Without randomness an attempt cannot be told from another one, so it is none.
fn attempt() -> Option<Attempt> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok().map(|()| Attempt::new(bytes))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a holder still lives; only this machine's processes can be told.
pub(super) fn liveness(holder: &Holder) -> Liveness {
    if holder.host != host_name() {
        return Liveness::Unknown;
    }
    match (&holder.process_start, start_time(holder.process)) {
        (Some(then), Some(now)) if *then == now => Liveness::Alive,
        (Some(_), _) => Liveness::Dead,
        (None, _) => Liveness::Unknown,
    }
}

/// When a process started, in the machine's own count; none when there is no such process.
fn start_time(process: u32) -> Option<String> {
    crate::provider::process::start_time(i32::try_from(process).ok()?).ok().flatten()
}
