//! Having an operation carried out, and following it to its end through whatever is between here and there.
//!
//! Must not do: take silence, a cut or a truncated stream for the end of an operation: only its record says that.

use std::time::Duration;

use reqwest::Method;

use super::answer::Trouble;
use super::backoff::Backoff;
use super::event_stream::EventStream;
use super::exchange::{Call, Exchange, json};
use super::of_project;
use crate::control::wire::{OperationEvent, OperationRequest};
use crate::control::{ControlError, Lease, Notice, Outcome, Request};
use crate::model::{OperationId, OperationRecord, OperationState, ProjectName};

/// How often an operation that is in the way is asked about.
const IN_THE_WAY: Duration = Duration::from_secs(1);
/// How often a record is looked at where events do not come through: at first, and at last.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Has a piece of work done, and returns when it has ended.
pub(super) async fn run(
    exchange: &Exchange,
    lease: &Lease,
    request: Request,
    notice: Notice<'_>,
) -> Result<Outcome, ControlError> {
    let project = &lease.project;
    let step = request.step.clone();
    let body = OperationRequest { step: request.step, backend: request.backend, work: request.work.into() };
    let call = Call::new(Method::POST, &of_project(project, &["operations"])).under(lease).with_key(&step).with_body(&body);
    let mut waits_for = None;
    let record = loop {
        match exchange.send_and_tell(&call, json::<OperationRecord>, notice).await {
            Ok(record) => break record,
            Err(ControlError::OperationRunning { operation, .. }) => {
                if waits_for.as_ref() != Some(&operation) {
                    notice(format!("waits for an earlier operation on `{}` to end: {operation}", body.backend));
                    waits_for = Some(operation);
                }
                tokio::time::sleep(IN_THE_WAY).await;
            }
            Err(error) => return Err(error),
        }
    };
    let record = match record.state {
        OperationState::Running => until_ended(exchange, project, &record.id, notice).await?,
        OperationState::Done | OperationState::Failed => record,
    };
    let operation = record.id;
    Ok(match record.error {
        None => Outcome::Done { operation },
        Some(finding) => Outcome::Failed { operation, finding },
    })
}

/// What came of listening.
enum Heard {
    /// The operation has ended.
    End(Box<OperationRecord>),
    /// The stream was cut; whether anything came before that.
    Cut { error: Option<Box<ControlError>>, pause: Option<Duration>, anything: bool },
    /// Streams do not come through.
    Nothing,
}

async fn until_ended(
    exchange: &Exchange,
    project: &ProjectName,
    id: &OperationId,
    notice: Notice<'_>,
) -> Result<OperationRecord, ControlError> {
    let mut last = None;
    let mut backoff = Backoff::new();
    loop {
        match listen(exchange, project, id, &mut last, notice).await? {
            Heard::End(record) => return Ok(*record),
            Heard::Nothing => return look_until_ended(exchange, project, id, notice).await,
            Heard::Cut { error, pause, anything } => {
                if anything {
                    backoff = Backoff::new();
                }
                let Some(pause) = backoff.pause(exchange.patience(), pause) else {
                    // The record has the last word, and a plain look tells best what is wrong.
                    return match error {
                        Some(error) => Err(*error),
                        None => look_until_ended(exchange, project, id, notice).await,
                    };
                };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Listens to what an operation says, after what it said last.
async fn listen(
    exchange: &Exchange,
    project: &ProjectName,
    id: &OperationId,
    last: &mut Option<u64>,
    notice: Notice<'_>,
) -> Result<Heard, ControlError> {
    let silence = exchange.waits().silence;
    let call = Call::get(&of_project(project, &["operations", id.as_str(), "events"]));
    let mut response = match tokio::time::timeout(silence, exchange.open_stream(&call, *last)).await {
        Err(_) | Ok(Err(Trouble::Garbled(_) | Trouble::OutOfStep(_))) => return Ok(Heard::Nothing),
        Ok(Err(Trouble::Passing { error, pause, .. })) => {
            return Ok(Heard::Cut { error: Some(Box::new(error)), pause, anything: false });
        }
        Ok(Err(Trouble::Answered(error))) => return Err(error),
        Ok(Ok(response)) => response,
    };
    let mut stream = EventStream::default();
    let mut anything = false;
    loop {
        let chunk = match tokio::time::timeout(silence, response.chunk()).await {
            // Not even a heartbeat: something on the way keeps the stream to itself.
            Err(_) => return Ok(Heard::Nothing),
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None) | Err(_)) => return Ok(Heard::Cut { error: None, pause: None, anything }),
        };
        let Ok(events) = stream.take(&chunk) else { return Ok(Heard::Nothing) };
        for event in events {
            // A stream that begins anew or comes twice says nothing twice.
            if event.id.is_some() && event.id <= *last {
                continue;
            }
            match serde_json::from_str::<OperationEvent>(&event.data) {
                Ok(OperationEvent::Notice { message }) => notice(message),
                Ok(OperationEvent::Ended { operation }) if operation.id == *id => return Ok(Heard::End(operation)),
                // Something that a later version says, or that was damaged: the record will tell.
                Ok(OperationEvent::Ended { .. }) | Err(_) => {}
            }
            *last = event.id.or(*last);
            anything = true;
        }
    }
}

/// Looks at the record again and again, where events do not come through.
async fn look_until_ended(
    exchange: &Exchange,
    project: &ProjectName,
    id: &OperationId,
    notice: Notice<'_>,
) -> Result<OperationRecord, ControlError> {
    let call = Call::get(&of_project(project, &["operations", id.as_str()]));
    let (mut pause, longest) = LOOK_EVERY;
    loop {
        let record: OperationRecord = exchange.send_and_tell(&call, json, notice).await?;
        if record.state != OperationState::Running {
            return Ok(record);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(longest);
    }
}
