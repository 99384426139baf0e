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

use super::{HandlerResult, operations};
use crate::api::wire::OperationEvent;
use crate::model::{OperationId, ProjectName};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{NoQuery, PathParam, ProjectContext, QueryParams, single_header};
use crate::server::{ApiServer, ServerPhase};

/// How often a watcher hears that the connection stands.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) async fn events(
    State(server): State<Arc<ApiServer>>,
    caller: ProjectContext,
    PathParam(id): PathParam<OperationId>,
    headers: HeaderMap,
    _: QueryParams<NoQuery>,
) -> HandlerResult {
    let seen = match single_header(&headers, "last-event-id")? {
        None | Some("") => 0,
        Some(text) => text.parse().map_err(|_| {
            ErrorResponse::bad_request("wire.last_event_id", "the header `last-event-id` should hold the number of an event")
        })?,
    };
    operations::find_operation(&server, &caller, &id)?;
    let watcher =
        OperationStream { server, project: caller.project, id, last_seen: seen, pending: VecDeque::new(), ended: false };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Ok(Sse::new(events).into_response())
}

/// Somebody who watches an operation.
struct OperationStream {
    server: Arc<ApiServer>,
    project: ProjectName,
    id: OperationId,
    /// The number of the last event that they have seen.
    last_seen: u64,
    pending: VecDeque<(u64, OperationEvent)>,
    ended: bool,
}

impl OperationStream {
    /// The next event; none after the end, or when the server closes.
    async fn next(&mut self) -> Option<Event> {
        if self.pending.is_empty() && !self.ended {
            let mut phase = self.server.phase.subscribe();
            let events = self.server.host.next_events(&self.project, &self.id, self.last_seen);
            let events = tokio::select! {
                // What there is to say is said before the server closes.
                biased;
                events = events => events,
                _ = phase.wait_for(|phase| *phase == ServerPhase::Closing) => return None,
                () = self.server.host.sleep(HEARTBEAT) => return Some(Event::default().comment("goes on")),
            };
            // When the rows cannot be read now, the watcher comes again with what it has seen.
            self.pending = events.ok()?.into();
        }
        let (number, event) = self.pending.pop_front()?;
        self.last_seen = number;
        self.ended = matches!(event, OperationEvent::Ended { .. });
        Event::default().id(number.to_string()).json_data(&event).ok()
    }
}
