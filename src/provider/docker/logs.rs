//! The log of a container, as the engine keeps it.
//!
//! An engine counts no bytes, so a position in a log is the time of the last line that was read, in nanoseconds.

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;

use super::engine::{Engine, is_absent};
use crate::provider::kit::log_text::{self, strip_terminal_sequences};
use crate::provider::{LogChunk, LogPosition, ProviderError};

/// The most that one reading returns, give or take an entry.
const CHUNK: usize = 1024 * 1024;
/// How many lines go into an error.
pub(super) const LAST_LINES: usize = 20;

/// Reads from a container's log; nothing when there is no such container.
pub(super) async fn read(engine: &Engine, container: &str, from: LogPosition) -> Result<LogChunk, ProviderError> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true);
    let (options, after) = match from {
        // Of no lines at all, the position after them is wanted, which the last line has.
        LogPosition::Tail(lines) => (options.tail(&lines.max(1).to_string()), 0),
        LogPosition::Byte(after) => {
            // Whole seconds are all that can be asked for; what was read already is left out here.
            let seconds = i32::try_from(after / 1_000_000_000).unwrap_or(i32::MAX);
            (options.since(seconds).tail("all"), after)
        }
    };
    let mut stream = engine.client.logs(container, Some(options.build())).boxed();
    let mut chunk = LogChunk { text: String::new(), next: after };
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                let entry = piece.into_bytes();
                let entry = String::from_utf8_lossy(&entry);
                match from {
                    LogPosition::Tail(_) => {
                        append(&mut chunk, &entry, after);
                        if chunk.text.len() > 2 * CHUNK {
                            keep_end(&mut chunk.text);
                        }
                    }
                    // What follows is read the next time.
                    LogPosition::Byte(_) if is_full(&chunk, &entry) => break,
                    LogPosition::Byte(_) => append(&mut chunk, &entry, after),
                }
            }
            Err(error) if is_absent(&error) => break,
            Err(error) => return Err(engine.failed("read the log", error)),
        }
    }
    match from {
        LogPosition::Tail(0) => chunk.text.clear(),
        LogPosition::Tail(_) => keep_end(&mut chunk.text),
        LogPosition::Byte(_) => {}
    }
    Ok(chunk)
}

/// An entry as its time, in nanoseconds, and its text. One without a time goes on the one before it.
fn parts(entry: &str) -> (Option<u64>, &str) {
    let (time, text) = entry.split_once(' ').unwrap_or((entry, ""));
    match time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok()) {
        Some(time) => (Some(time), text),
        None => (None, entry),
    }
}

/// Whether a chunk is as large as one may be, and can end before this entry. It cannot between two entries of the same
/// time: the next reading begins after that.
fn is_full(chunk: &LogChunk, entry: &str) -> bool {
    chunk.text.len() >= CHUNK && parts(entry).0.is_some_and(|time| time > chunk.next)
}

/// Cuts off whole lines at the beginning of what is longer than a chunk.
fn keep_end(text: &mut String) {
    let Some(excess) = text.len().checked_sub(CHUNK).filter(|excess| *excess > 0) else { return };
    let line = text.as_bytes()[excess - 1..].iter().position(|byte| *byte == b'\n').map(|at| excess + at);
    // One line alone may be longer.
    let cut = line.filter(|cut| *cut < text.len()).or_else(|| (excess..text.len()).find(|at| text.is_char_boundary(*at)));
    text.drain(..cut.unwrap_or_default());
}

/// One entry, which starts with its time.
fn append(chunk: &mut LogChunk, entry: &str, after: u64) {
    let (Some(time), text) = parts(entry) else {
        chunk.text.push_str(&strip_terminal_sequences(entry));
        return;
    };
    if time > after {
        chunk.text.push_str(&strip_terminal_sequences(text));
        chunk.next = chunk.next.max(time);
    }
}

/// Returns the last lines of a container's log, at most so many, as far as they are available.
pub(super) async fn last_lines(engine: &Engine, container: &str, count: usize) -> Vec<String> {
    match read(engine, container, LogPosition::Tail(count)).await {
        Ok(chunk) => log_text::last_lines(&chunk.text, count),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_read_in_chunks_that_lose_nothing() {
        let entry = |nanosecond: u32, text: &str| format!("1970-01-01T00:00:01.{nanosecond:09}Z {text}\n");
        let mut chunk = LogChunk { text: String::new(), next: 0 };
        append(&mut chunk, &entry(1, &"x".repeat(CHUNK - 10)), 0);
        assert!(!is_full(&chunk, &entry(2, "more")), "there is room yet");
        append(&mut chunk, &entry(2, "what fills it"), 0);
        assert!(!is_full(&chunk, &entry(2, "of the same time")) && !is_full(&chunk, "without a time"));
        assert!(is_full(&chunk, &entry(3, "later")));
    }

    #[test]
    fn a_long_tail_keeps_its_last_whole_lines() {
        let line = "é".repeat(50) + "\n";
        let mut text = line.repeat(3 * CHUNK / line.len());
        keep_end(&mut text);
        assert!(text.len() <= CHUNK && text.len() > CHUNK - line.len(), "{}", text.len());
        assert!(text.starts_with(&line) && text.ends_with(&line));
        let mut one_line = "é".repeat(CHUNK);
        keep_end(&mut one_line);
        assert_eq!(one_line.len(), CHUNK);
        let mut short = line.clone();
        keep_end(&mut short);
        assert_eq!(short, line);
    }

    #[test]
    fn a_followed_log_repeats_nothing() {
        let mut chunk = LogChunk { text: String::new(), next: 0 };
        append(&mut chunk, "1970-01-01T00:00:01.000000001Z one\n", 0);
        append(&mut chunk, "1970-01-01T00:00:01.000000002Z two\n", 0);
        assert_eq!((chunk.text.as_str(), chunk.next), ("one\ntwo\n", 1_000_000_002));
        let mut more = LogChunk { text: String::new(), next: 1_000_000_001 };
        append(&mut more, "1970-01-01T00:00:01.000000001Z one\n", 1_000_000_001);
        append(&mut more, "1970-01-01T00:00:01.000000002Z two\n", 1_000_000_001);
        assert_eq!(more.text, "two\n");
    }
}
