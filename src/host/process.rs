//! Who this process is, and whether the process that holds a lease still lives.
//!
//! Must not do: signal or end a process.

use crate::authority::Liveness;
use crate::control::{Attempt, Holder, LONGEST_NAME, shortened};

/// This process, as the holder of a lease.
pub fn here() -> Holder {
    let process = std::process::id();
    Holder {
        user: ["USER", "USERNAME"].into_iter().find_map(account).unwrap_or_else(|| "somebody".to_owned()),
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

fn account(variable: &str) -> Option<String> {
    as_name(&std::env::var_os(variable)?.to_string_lossy())
}

fn host_name() -> String {
    as_name(&rustix::system::uname().nodename().to_string_lossy()).unwrap_or_else(|| "somewhere".to_owned())
}

/// A text as the name of an account or a machine, which every control plane takes; none where nothing is left of it.
fn as_name(text: &str) -> Option<String> {
    let line: String = text.chars().filter(|letter| !letter.is_control()).collect();
    let name = shortened(line.trim(), LONGEST_NAME);
    (!name.is_empty()).then_some(name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::is_one_line;

    #[test]
    fn a_name_is_one_that_every_control_plane_takes() {
        for (text, name) in [("", None), (" \n", None), ("me", Some("me")), ("a\tb\u{9b}\r\n", Some("ab"))] {
            assert_eq!(as_name(text).as_deref(), name, "{text:?}");
        }
        for long in ["x".repeat(LONGEST_NAME + 1), "é".repeat(LONGEST_NAME), "語".repeat(LONGEST_NAME)] {
            let name = as_name(&long).unwrap();
            assert!(is_one_line(&name, LONGEST_NAME) && name.len() > LONGEST_NAME - 6 && name.ends_with('…'), "{name}");
        }
        let here = here();
        assert!(is_one_line(&here.user, LONGEST_NAME) && is_one_line(&here.host, LONGEST_NAME));
    }
}
