//! Watching one operation: server-sent events, from wherever the watcher left off.
//!
//! Must not do: keep the operation from going on, whoever watches or goes away.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream;

use super::{Handled, operations};
use crate::control::wire::OperationEvent;
use crate::model::{OperationId, ProjectName};
use crate::server::input::{Asked, InPath, InProject, Nothing, one_header};
use crate::server::problem::Problem;
use crate::server::{Phase, Server};

/// How often a watcher hears that the connection stands.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) async fn events(
    State(server): State<Arc<Server>>,
    caller: InProject,
    InPath(id): InPath<OperationId>,
    headers: HeaderMap,
    _: Asked<Nothing>,
) -> Handled {
    let seen = match one_header(&headers, "last-event-id")? {
        None | Some("") => 0,
        Some(text) => text.parse().map_err(|_| {
            Problem::bad_request("wire.last_event_id", "the header `last-event-id` should hold the number of an event")
        })?,
    };
    operations::one(&server, &caller, &id)?;
    let watcher = Watcher { server, project: caller.project, id, seen, waiting: VecDeque::new(), over: false };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Ok(Sse::new(events).into_response())
}

/// Somebody who watches an operation.
struct Watcher {
    server: Arc<Server>,
    project: ProjectName,
    id: OperationId,
    /// The number of the last event that they have seen.
    seen: u64,
    waiting: VecDeque<(u64, OperationEvent)>,
    over: bool,
}

impl Watcher {
    /// The next event; none after the end, or when the server closes.
    async fn next(&mut self) -> Option<Event> {
        if self.waiting.is_empty() && !self.over {
            let mut phase = self.server.phase.subscribe();
            let events = self.server.host.next_events(&self.project, &self.id, self.seen);
            let events = tokio::select! {
                // What there is to say is said before the server closes.
                biased;
                events = events => events,
                _ = phase.wait_for(|phase| *phase == Phase::Closing) => return None,
                () = self.server.host.sleep(HEARTBEAT) => return Some(Event::default().comment("goes on")),
            };
            // When the rows cannot be read now, the watcher comes again with what it has seen.
            self.waiting = events.ok()?.into();
        }
        let (number, event) = self.waiting.pop_front()?;
        self.seen = number;
        self.over = matches!(event, OperationEvent::Ended { .. });
        Event::default().id(number.to_string()).json_data(&event).ok()
    }
}
