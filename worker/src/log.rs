//! The log: a line for every request, and every failure, on the platform's console, where `wrangler tail` and the
//! dashboard of Cloudflare show them.

use std::fmt::{Debug, Write};

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};
use worker::{console_error, console_log, console_warn};

/// Starts it; again changes nothing.
pub fn start() {
    let _ = dispatcher::set_global_default(Dispatch::new(Console));
}

struct Console;

/// The fields of an event, as `name=value`.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        match *event.metadata().level() {
            Level::ERROR => console_error!("{}", line.0),
            Level::WARN => console_warn!("{}", line.0),
            _ => console_log!("{}", line.0),
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
