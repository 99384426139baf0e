//! The log of a container, as the engine keeps it.
//!
//! An engine counts no bytes, so a position in a log is the time of the last line that was read, in nanoseconds.
//! Must not do: keep a log itself.

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;

use super::engine::{Engine, is_absent};
use crate::provider::{LogChunk, LogPosition, ProviderError};

/// How many lines go into an error.
const LAST_LINES: usize = 20;

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
            Ok(piece) => append(&mut chunk, &String::from_utf8_lossy(&piece.into_bytes()), after),
            Err(error) if is_absent(&error) => break,
            Err(error) => return Err(engine.failed("read the log", error)),
        }
    }
    if from == LogPosition::Tail(0) {
        chunk.text.clear();
    }
    Ok(chunk)
}

/// One entry, which starts with its time.
fn append(chunk: &mut LogChunk, entry: &str, after: u64) {
    let (time, text) = entry.split_once(' ').unwrap_or((entry, ""));
    let Some(time) = time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok()) else {
        chunk.text.push_str(entry);
        return;
    };
    if time > after {
        chunk.text.push_str(text);
        chunk.next = chunk.next.max(time);
    }
}

/// The last lines of a container's log, as far as they are to be had.
pub(super) async fn last_lines(engine: &Engine, container: &str) -> Vec<String> {
    match read(engine, container, LogPosition::Tail(LAST_LINES)).await {
        Ok(chunk) => chunk.text.lines().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_not_read_again() {
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
