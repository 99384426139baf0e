//! The body of a response while it is sent: how long its client may take.
//!
//! A client that stops reading holds the response's memory, over HTTP/2 even while it answers pings. Each body says
//! whether it waits for its client, and the connection closes when one waits for too long.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::connections::InFlight;

/// The length of the pieces that a body is handed out in, in bytes: what waits below this layer cannot be timed.
const PIECE: usize = 32 << 10;

/// Says how long a client may take to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteDeadlines {
    /// For the next piece.
    pub(super) piece: Duration,
    /// For a whole body whose length is known from the start; streams go on.
    pub(super) whole: Duration,
}

#[derive(Debug)]
struct Progress {
    started: Instant,
    has_length: bool,
    /// Since when a piece waits to be taken; none while the body itself has nothing to send.
    waiting_since: Mutex<Option<Instant>>,
}

/// The bodies that one connection is sending.
#[derive(Debug, Default)]
pub(super) struct Outgoing(Mutex<Vec<Weak<Progress>>>);

impl Outgoing {
    /// Follows a body until it is sent or dropped; `in_flight` lasts as long.
    pub(super) fn track(&self, body: Body, in_flight: InFlight) -> TrackedBody {
        let now = Instant::now();
        let has_length = body.size_hint().exact().is_some();
        let progress = Arc::new(Progress { started: now, has_length, waiting_since: Mutex::new(Some(now)) });
        let mut bodies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.retain(|body| body.strong_count() > 0);
        bodies.push(Arc::downgrade(&progress));
        TrackedBody { body, rest: Bytes::new(), progress, _in_flight: in_flight }
    }

    /// Says whether a client has taken too long over one of the bodies.
    pub(super) fn has_stalled(&self, deadlines: WriteDeadlines) -> bool {
        let bodies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.iter().filter_map(Weak::upgrade).any(|progress| {
            let waiting_since = *progress.waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
            waiting_since.is_some_and(|since| since.elapsed() > deadlines.piece)
                || progress.has_length && progress.started.elapsed() > deadlines.whole
        })
    }
}

/// A body that says whether it waits for its client.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    rest: Bytes,
    progress: Arc<Progress>,
    _in_flight: InFlight,
}

impl TrackedBody {
    fn waits(&self, since: Option<Instant>) {
        *self.progress.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => {
                    self.waits(None);
                    return Poll::Pending;
                }
            }
        }
        self.waits(Some(Instant::now()));
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
