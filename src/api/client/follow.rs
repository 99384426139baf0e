//! Requests an operation and follows it to its end, through proxies that cut or buffer its stream.
//!
//! Must not do: take silence, a cut or a truncated stream for the end of an operation: only its record says that.

use std::time::Duration;

use super::backoff::Backoff;
use super::event_stream::EventStream;
use super::response::SendError;
use super::retrying_client::{ClientRequest, RetryingClient, json};
use crate::api::wire::{OperationEvent, TOO_MANY_STREAMS};
use crate::api::{ControlError, Lease, OperationOutcome, OperationRequest, ProgressFn, endpoints, truncate};
use crate::model::{OperationId, OperationRecord, OperationState, ProjectName};

/// How often an operation that is in the way is asked about.
const BUSY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How many events of one connection are heard; after that the record is looked at.
const MAX_EVENTS: usize = 2_000;
/// How long a notice may be, in bytes.
const MAX_NOTICE_BYTES: usize = 1_024;
/// How often a record is looked at where events do not come through: at first, and at last.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Has a piece of work done, and returns when it has ended.
pub(super) async fn run(
    exchange: &RetryingClient,
    lease: &Lease,
    request: OperationRequest,
    notice: ProgressFn<'_>,
) -> Result<OperationOutcome, ControlError> {
    let project = &lease.project;
    let call = ClientRequest::new(&endpoints::START_OPERATION, &[project.as_str()])
        .under(lease)
        .with_key(&request.step)
        .with_body(&request);
    let mut waits_for = None;
    let record = loop {
        match exchange.send_with_progress(&call, json::<OperationRecord>, notice).await {
            Ok(record) => break record,
            Err(ControlError::OperationRunning { operation, .. }) => {
                if waits_for.as_ref() != Some(&operation) {
                    notice(format!("waits for an earlier operation on `{}` to end: {operation}", request.backend));
                    waits_for = Some(operation);
                }
                tokio::time::sleep(BUSY_POLL_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    };
    let record = match record.state {
        OperationState::Running => follow_until_ended(exchange, project, &record.id, notice).await?,
        OperationState::Done | OperationState::Failed => record,
    };
    let operation = record.id;
    Ok(match record.error {
        None => OperationOutcome::Done { operation },
        Some(finding) => OperationOutcome::Failed { operation, finding },
    })
}

/// Describes what came of listening.
enum StreamOutcome {
    /// The operation has ended.
    Ended(Box<OperationRecord>),
    /// The stream was cut; whether anything came before that.
    Interrupted { error: Option<Box<ControlError>>, pause: Option<Duration>, anything: bool },
    /// Streams do not come through.
    Unsupported,
}

async fn follow_until_ended(
    exchange: &RetryingClient,
    project: &ProjectName,
    id: &OperationId,
    notice: ProgressFn<'_>,
) -> Result<OperationRecord, ControlError> {
    let mut last = None;
    let mut backoff = Backoff::new();
    loop {
        match read_stream(exchange, project, id, &mut last, notice).await? {
            StreamOutcome::Ended(record) => return Ok(*record),
            StreamOutcome::Unsupported => return poll_until_ended(exchange, project, id, notice).await,
            StreamOutcome::Interrupted { error, pause, anything } => {
                if anything {
                    backoff = Backoff::new();
                }
                let Some(pause) = backoff.pause(exchange.retry_window(), pause) else {
                    // The record has the last word, and a plain look tells best what is wrong.
                    return match error {
                        Some(error) => Err(*error),
                        None => poll_until_ended(exchange, project, id, notice).await,
                    };
                };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Listens to what an operation says, after what it said last.
async fn read_stream(
    exchange: &RetryingClient,
    project: &ProjectName,
    id: &OperationId,
    last: &mut Option<u64>,
    notice: ProgressFn<'_>,
) -> Result<StreamOutcome, ControlError> {
    let silence = exchange.timeouts().stream_idle;
    let call = ClientRequest::new(&endpoints::WATCH_OPERATION, &[project.as_str(), id.as_str()]);
    let mut response = match tokio::time::timeout(silence, exchange.open_stream(&call, *last)).await {
        Err(_) | Ok(Err(SendError::Malformed(_) | SendError::Desynchronized(_))) => return Ok(StreamOutcome::Unsupported),
        // There are as many streams as there may be, and no operation waits for one.
        Ok(Err(SendError::Transient { error: ControlError::Unreachable(finding), .. })) if finding.code == TOO_MANY_STREAMS => {
            return Ok(StreamOutcome::Unsupported);
        }
        Ok(Err(SendError::Transient { error, pause, .. })) => {
            return Ok(StreamOutcome::Interrupted { error: Some(Box::new(error)), pause, anything: false });
        }
        Ok(Err(SendError::Final(error))) => return Err(error),
        Ok(Ok(response)) => response,
    };
    let mut stream = EventStream::default();
    let (mut anything, mut count) = (false, 0);
    loop {
        let chunk = match tokio::time::timeout(silence, response.chunk()).await {
            // Not even a heartbeat: something on the way keeps the stream to itself.
            Err(_) => return Ok(StreamOutcome::Unsupported),
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None) | Err(_)) => return Ok(StreamOutcome::Interrupted { error: None, pause: None, anything }),
        };
        let Ok(events) = stream.take(&chunk) else { return Ok(StreamOutcome::Unsupported) };
        for event in events {
            count += 1;
            if count > MAX_EVENTS {
                return Ok(StreamOutcome::Unsupported);
            }
            // A stream that begins anew or comes twice says nothing twice.
            if event.id.is_some() && event.id <= *last {
                continue;
            }
            match serde_json::from_str::<OperationEvent>(&event.data) {
                Ok(OperationEvent::Notice { message }) => notice(truncate(&message, MAX_NOTICE_BYTES)),
                Ok(OperationEvent::Ended { operation }) if operation.id == *id => return Ok(StreamOutcome::Ended(operation)),
                // Something that a later version says, or that was damaged: the record will tell.
                Ok(OperationEvent::Ended { .. }) | Err(_) => {}
            }
            *last = event.id.or(*last);
            anything = true;
        }
    }
}

/// Looks at the record again and again, where events do not come through.
async fn poll_until_ended(
    exchange: &RetryingClient,
    project: &ProjectName,
    id: &OperationId,
    notice: ProgressFn<'_>,
) -> Result<OperationRecord, ControlError> {
    let call = ClientRequest::new(&endpoints::GET_OPERATION, &[project.as_str(), id.as_str()]);
    let (mut pause, longest) = POLL_INTERVALS;
    loop {
        let record: OperationRecord = exchange.send_with_progress(&call, json, notice).await?;
        if record.state != OperationState::Running {
            return Ok(record);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(longest);
    }
}
