//! The log of a server, on standard error: one line for each request, as text or as JSON.

use tracing::Level;
use tracing_subscriber::fmt;

/// Says how a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Starts the log of this process, and has panics go there too.
pub fn start(format: LogFormat, level: Level) {
    let log = fmt::Subscriber::builder().with_writer(std::io::stderr).with_max_level(level).with_target(false);
    // A log that was started before goes on.
    let _ = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(log.with_ansi(false).finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).finish(),
        ),
    };
    std::panic::set_hook(Box::new(|panic| {
        // What a stranger has sent is no bug here; the error that becomes of it is in the log.
        if crate::system::is_contained() {
            return;
        }
        // What a panic says may hold a value; where it happened does not.
        let place = panic.location().map(ToString::to_string);
        // At the end of the process the runtime ends timers of tasks that are cut off in this way.
        let said = panic.payload().downcast_ref::<String>().map(String::as_str);
        if said
            .or_else(|| panic.payload().downcast_ref::<&str>().copied())
            .is_some_and(|said| said.contains("is being shutdown"))
        {
            return;
        }
        tracing::error!(place, "a bug in convexinfra: a request or a task ended by a panic");
    }));
}
