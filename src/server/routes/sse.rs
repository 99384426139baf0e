//! The progress of one operation as server-sent events, from where a client left off. The operation goes on without it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream;

use super::{HandlerResult, Route, operations, route};
use crate::api::endpoints;
use crate::api::wire::{OperationEvent, TOO_MANY_STREAMS};
use crate::model::{OperationId, ProjectName};
use crate::server::error_response::ErrorResponse;
use crate::server::extract::{NoQuery, PathParam, ProjectContext, QueryParams, single_header};
use crate::server::rate_limits::StreamGuard;
use crate::server::{ApiServer, ServerPhase};

/// The interval of comments that keep a connection alive.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) fn routes() -> Vec<Route> {
    vec![route(&endpoints::WATCH_OPERATION, events)]
}

async fn events(
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
    let open = server.streams.open(caller.bearer.record().id.clone(), id.clone()).ok_or_else(|| {
        let message = "this token or this operation has as many event streams as it may have";
        ErrorResponse::retry_later(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_STREAMS, message, 5)
            .with_help("look at the operation itself from time to time")
    })?;
    let watcher = OperationStream {
        server,
        project: caller.project,
        id,
        last_seen: seen,
        pending: VecDeque::new(),
        ended: false,
        _open: open,
    };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Ok(Sse::new(events).into_response())
}

/// The stream of one client.
struct OperationStream {
    server: Arc<ApiServer>,
    project: ProjectName,
    id: OperationId,
    /// The number of the last event that the client has seen.
    last_seen: u64,
    pending: VecDeque<(u64, OperationEvent)>,
    ended: bool,
    _open: StreamGuard,
}

impl OperationStream {
    /// Returns the next event; none after the end, or when the server closes.
    async fn next(&mut self) -> Option<Event> {
        if self.pending.is_empty() && !self.ended {
            let mut phase = self.server.phase.subscribe();
            let events = self.server.host.next_events(&self.project, &self.id, self.last_seen);
            let events = tokio::select! {
                // Events that are ready are sent before the server closes.
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
