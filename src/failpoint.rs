//! Failpoints: named points at which a debug build can be killed, so that the crash matrix can try each of them. In a
//! release build [`hit`] is an empty function.
//!
//! Not the `fail` crate: its points do only what was configured for their names in advance, and the crash matrix first has
//! to learn which points a run passes, across processes, in order to kill it at each.

/// Marks a point right before or after something is written, started or sent.
///
/// In a debug build, which is what tests run, `CONVEXINFRA_FAULT_TRACE=FILE` appends every point's name to a
/// file as it is passed, and `CONVEXINFRA_FAULT=NAME:N` kills the process with SIGKILL when it passes the point
/// `NAME` for the `N`th time (from 1).
#[cfg(not(all(debug_assertions, feature = "native")))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Marks a point right before or after something is written, started or sent.
#[cfg(all(debug_assertions, feature = "native"))]
pub fn hit(name: &'static str) {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    static PASSED: Mutex<BTreeMap<&'static str, u32>> = Mutex::new(BTreeMap::new());
    let count = {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let count = passed.entry(name).or_insert(0);
        *count += 1;
        *count
    };
    if let Some(path) = std::env::var_os("CONVEXINFRA_FAULT_TRACE")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{name}");
    }
    if std::env::var("CONVEXINFRA_FAULT").is_ok_and(|wanted| wanted == format!("{name}:{count}"))
        && let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(std::process::id()).unwrap_or_default())
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
