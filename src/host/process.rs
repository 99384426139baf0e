//! Who this process is, and whether the process that holds a lease still lives.

use crate::api::{LeaseHolder, LeaseNonce, MAX_NAME_BYTES, truncate};
use crate::authority::Liveness;
use crate::model::Timestamp;

/// Returns this process, as the holder of a lease.
pub fn own_holder() -> LeaseHolder {
    let process = std::process::id();
    LeaseHolder {
        user: ["USER", "USERNAME"].into_iter().find_map(account).unwrap_or_else(own_uid),
        host: host_name(),
        process,
        process_start: start(process),
        since: now(),
        nonce: attempt(),
    }
}

/// Returns the time of this machine's clock.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Without randomness an attempt cannot be told from another one, so it is none.
fn attempt() -> Option<LeaseNonce> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok().map(|()| LeaseNonce::new(bytes))
}

/// Returns the account by its number, where no variable names it.
#[cfg(unix)]
fn own_uid() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn own_uid() -> String {
    "unknown account".to_owned()
}

fn account(variable: &str) -> Option<String> {
    as_name(&std::env::var_os(variable)?.to_string_lossy())
}

fn host_name() -> String {
    as_name(&rustix::system::uname().nodename().to_string_lossy()).unwrap_or_else(|| "somewhere".to_owned())
}

/// Returns a text as the name of an account or a machine, which every control plane takes; none where nothing is left of
/// it.
fn as_name(text: &str) -> Option<String> {
    let line: String = text.chars().filter(|letter| !letter.is_control()).collect();
    let name = truncate(line.trim(), MAX_NAME_BYTES);
    (!name.is_empty()).then_some(name)
}

/// Returns whether a holder still lives; only this machine's processes can be told, and of those only the ones that this
/// process can see: a container may have the name of its machine and processes of its own.
pub(super) fn liveness(holder: &LeaseHolder) -> Liveness {
    let Some(then) = holder.process_start.as_deref().filter(|_| holder.host == host_name()) else { return Liveness::Unknown };
    match pid_namespace() {
        Some(space) if then.ends_with(&space) => match start(holder.process) {
            Some(now) if now == then => Liveness::Alive,
            _ => Liveness::Dead,
        },
        _ => Liveness::Unknown,
    }
}

/// Returns when and where a process started; none when there is no such process, or when that says nothing.
fn start(process: u32) -> Option<String> {
    let time = crate::provider::process::start_time(i32::try_from(process).ok()?).ok().flatten()?;
    Some(format!("{time}{}", pid_namespace()?))
}

/// Returns where a number means one process: in one boot of one machine, and in one space of processes of it.
#[cfg(target_os = "linux")]
fn pid_namespace() -> Option<String> {
    let boot = crate::system::read_regular_text(std::path::Path::new("/proc/sys/kernel/random/boot_id"), 4096).ok()?;
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
    use super::*;
    use crate::api::is_single_line;

    #[test]
    fn only_an_observable_process_is_reported_dead() {
        let me = own_holder();
        assert_eq!(liveness(&me), Liveness::Alive);
        let start = me.process_start.clone().unwrap();
        let with = |start: &str| LeaseHolder { process_start: Some(start.to_owned()), ..me.clone() };
        // Another process had the number before.
        assert_eq!(liveness(&with(&format!("x{start}"))), Liveness::Dead);
        assert_eq!(liveness(&LeaseHolder { process: u32::MAX, ..me.clone() }), Liveness::Dead);
        assert_eq!(liveness(&LeaseHolder { host: "another-machine".to_owned(), ..me.clone() }), Liveness::Unknown);
        assert_eq!(liveness(&LeaseHolder { process_start: None, ..me.clone() }), Liveness::Unknown);
        if cfg!(target_os = "linux") {
            // A container that has the name of its machine, and the same machine before a reboot.
            for elsewhere in ["ticks 1", "ticks 1 in pid:[1] of boot 1"] {
                assert_eq!(liveness(&with(elsewhere)), Liveness::Unknown, "{elsewhere}");
            }
        }
    }

    #[test]
    fn a_name_is_one_that_every_control_plane_takes() {
        for (text, name) in [("", None), (" \n", None), ("me", Some("me")), ("a\tb\u{9b}\r\n", Some("ab"))] {
            assert_eq!(as_name(text).as_deref(), name, "{text:?}");
        }
        for long in ["x".repeat(MAX_NAME_BYTES + 1), "é".repeat(MAX_NAME_BYTES), "語".repeat(MAX_NAME_BYTES)] {
            let name = as_name(&long).unwrap();
            assert!(is_single_line(&name, MAX_NAME_BYTES) && name.len() > MAX_NAME_BYTES - 6 && name.ends_with('…'), "{name}");
        }
        let here = own_holder();
        assert!(is_single_line(&here.user, MAX_NAME_BYTES) && is_single_line(&here.host, MAX_NAME_BYTES));
    }
}
