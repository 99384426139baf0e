//! One line at a time to standard error, which is where the real backend logs.

use std::io::Write;

/// Writes one line.
pub(super) fn line(level: &str, text: &str) {
    let now = jiff::Timestamp::now();
    let _ = writeln!(std::io::stderr().lock(), "{now:.3} {level:>5} simulated backend: {text}");
}

/// Writes a line about an ordinary event.
pub(super) fn info(text: &str) {
    line("INFO", text);
}

/// Writes a line about a failure.
pub(super) fn error(text: &str) {
    line("ERROR", text);
}

/// Writes why a start failed as the last line, in the form of the real backend, which programs look for.
pub(super) fn last(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "Error: {text}");
}
