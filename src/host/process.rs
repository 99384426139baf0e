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
        process_start: start(process),
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

/// Whether a holder still lives; only this machine's processes can be told, and of those only the ones that this process
/// can see: a container may have the name of its machine and processes of its own.
pub(super) fn liveness(holder: &Holder) -> Liveness {
    let Some(then) = holder.process_start.as_deref().filter(|_| holder.host == host_name()) else { return Liveness::Unknown };
    match space() {
        Some(space) if then.ends_with(&space) => match start(holder.process) {
            Some(now) if now == then => Liveness::Alive,
            _ => Liveness::Dead,
        },
        _ => Liveness::Unknown,
    }
}

/// When and where a process started; none when there is no such process, or when that says nothing.
fn start(process: u32) -> Option<String> {
    let time = crate::provider::process::start_time(i32::try_from(process).ok()?).ok().flatten()?;
    Some(format!("{time}{}", space()?))
}

/// Where a number means one process: in one boot of one machine, and in one space of processes of it.
#[cfg(target_os = "linux")]
fn space() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!(" in {} of boot {}", processes.display(), boot.trim()))
}

/// Nothing divides processes here, and a start has a date.
#[cfg(not(target_os = "linux"))]
fn space() -> Option<String> {
    Some(String::new())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_processes_that_can_be_seen_are_told_to_be_dead() {
        let me = here();
        assert_eq!(liveness(&me), Liveness::Alive);
        let start = me.process_start.clone().unwrap();
        let with = |start: &str| Holder { process_start: Some(start.to_owned()), ..me.clone() };
        // Another process had the number before.
        assert_eq!(liveness(&with(&format!("x{start}"))), Liveness::Dead);
        assert_eq!(liveness(&Holder { process: u32::MAX, ..me.clone() }), Liveness::Dead);
        assert_eq!(liveness(&Holder { host: "another-machine".to_owned(), ..me.clone() }), Liveness::Unknown);
        assert_eq!(liveness(&Holder { process_start: None, ..me.clone() }), Liveness::Unknown);
        if cfg!(target_os = "linux") {
            // A container that has the name of its machine, and the same machine before it was started anew.
            for elsewhere in ["ticks 1", "ticks 1 in pid:[1] of boot 1"] {
                assert_eq!(liveness(&with(elsewhere)), Liveness::Unknown, "{elsewhere}");
            }
        }
    }
}
