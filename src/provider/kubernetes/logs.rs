//! The log of a Pod. The API counts no bytes, so a position is the time of the last line that was read, in nanoseconds.

use super::cluster::Cluster;
use super::error::KubernetesError;
use super::kind::Kind;
use super::pod::CONTAINER;
use crate::provider::kit::log_text::strip_terminal_sequences;
use crate::provider::{LogChunk, LogPosition};

/// The most that one reading returns.
const CHUNK: usize = 1024 * 1024;
/// How many lines go into an error.
const LAST_LINES: usize = 8;

/// Which run of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogOf {
    /// The one that runs.
    Current,
    /// The one before it.
    Previous,
}

/// Reads from a Pod's log; nothing when there is none.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    from: LogPosition,
    of: LogOf,
) -> Result<LogChunk, KubernetesError> {
    let path = Kind::Pod.path(namespace, Some(pod));
    let (query, after) = match from {
        LogPosition::Tail(lines) => (format!("tailLines={}", lines.max(1)), 0),
        LogPosition::Byte(after) => (since(after), after),
    };
    let previous = of == LogOf::Previous;
    let uri = format!("{path}/log?container={CONTAINER}&timestamps=true&limitBytes={}&previous={previous}&{query}", 2 * CHUNK);
    let text = cluster.text(&uri, "read the log", namespace).await?.unwrap_or_default();
    let mut chunk = LogChunk { text: String::new(), next: after };
    for line in text.lines() {
        let (time, words) = line.split_once(' ').unwrap_or((line, ""));
        let time = time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok());
        let Some(time) = time.filter(|time| *time > after) else { continue };
        if chunk.text.len() >= CHUNK && time > chunk.next && matches!(from, LogPosition::Byte(_)) {
            break;
        }
        chunk.text.push_str(&strip_terminal_sequences(words));
        chunk.text.push('\n');
        chunk.next = chunk.next.max(time);
    }
    if from == LogPosition::Tail(0) {
        chunk.text.clear();
    }
    Ok(chunk)
}

/// Returns the parameter for what follows a time. The server counts in seconds; what was read already is left out here.
fn since(after: u64) -> String {
    let seconds = i64::try_from(after / 1_000_000_000).unwrap_or_default();
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) if seconds > 0 => format!("sinceTime={time}"),
        _ => String::new(),
    }
}

/// Returns the last lines of a Pod's log, of the run before where this one has said nothing.
pub(super) async fn last_lines(cluster: &Cluster, namespace: &str, pod: &str) -> Vec<String> {
    for of in [LogOf::Current, LogOf::Previous] {
        let read = read(cluster, namespace, pod, LogPosition::Tail(LAST_LINES), of).await;
        if let Some(chunk) = read.ok().filter(|chunk| !chunk.text.trim().is_empty()) {
            return chunk.text.lines().map(str::to_owned).collect();
        }
    }
    Vec::new()
}
