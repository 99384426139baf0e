//! Asking Fly: which requests are sent again, after how long, and what a refusal becomes.
//!
//! Must not do: send anything again that may have been done, unless doing it twice is harmless.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::FlyError;
use super::port::{Call, Method, Port, PortError, Reply};
use super::refusal::{Refusal, refusal, words};

/// How long things may take, and how often they are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long requests are sent again that cannot get through.
    pub retry: Duration,
    /// How long a request waits all in all that is told when to come again, beyond that.
    pub limited: Duration,
    /// The first pause before a request is sent again, and between two looks at what has to settle.
    pub pause: Duration,
    /// How long a new app may take to be seen everywhere.
    pub visible: Duration,
    /// How long a machine may take to settle in a state.
    pub settle: Duration,
    /// How long a machine may take to pass its checks. Large databases need minutes.
    pub ready: Duration,
    /// After how long a machine is believed that runs and whose checks are not listed at all.
    pub unchecked: Duration,
    /// How long anything may take to go.
    pub gone: Duration,
    /// How long a lease lasts that is not renewed.
    pub lease: Duration,
    /// How long to wait for somebody else's lease.
    pub lease_held: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(60),
            limited: Duration::from_secs(180),
            pause: Duration::from_secs(1),
            visible: Duration::from_secs(60),
            settle: Duration::from_secs(180),
            ready: Duration::from_secs(300),
            unchecked: Duration::from_secs(20),
            gone: Duration::from_secs(120),
            lease: Duration::from_secs(60),
            lease_held: Duration::from_secs(150),
        }
    }
}

/// The longest pause between two tries.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How a request ended that was not answered with yes.
#[derive(Debug)]
pub(super) enum Declined {
    /// Fly said no, and this is what it means.
    Refused(Refusal, Reply),
    /// Whether it was done is not known.
    Uncertain(String),
    /// It cannot get through.
    Unreachable(String),
}

/// Asks Fly.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) port: Arc<dyn Port>,
    pub(super) patience: Patience,
}

/// A moment until which something is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    start_ms: i64,
    budget: Duration,
}

impl Client {
    /// From now on, for so long.
    pub(super) fn deadline(&self, budget: Duration) -> Deadline {
        Deadline { start_ms: self.port.now().0, budget }
    }

    /// How much time is left; none when it is over. A clock that goes backwards gives no time.
    pub(super) fn left(&self, deadline: Deadline) -> Option<Duration> {
        let passed = u64::try_from(self.port.now().0.saturating_sub(deadline.start_ms)).unwrap_or_default();
        deadline.budget.checked_sub(Duration::from_millis(passed)).filter(|left| !left.is_zero())
    }

    /// Waits one of the pauses between looks.
    pub(super) async fn pause(&self) {
        self.port.sleep(self.patience.pause).await;
    }

    /// Sends a request until it is answered; again only what may be sent again.
    pub(super) async fn ask(&self, call: Call) -> Result<Reply, Declined> {
        let repeatable = !matches!(call.method, Method::Post);
        self.send(call, repeatable).await
    }

    /// The same for a request to make or change something that comes to the same when it is done twice.
    pub(super) async fn ask_idempotent(&self, call: Call) -> Result<Reply, Declined> {
        self.send(call, true).await
    }

    async fn send(&self, call: Call, repeatable: bool) -> Result<Reply, Declined> {
        let deadline = self.deadline(self.patience.retry);
        let mut limited = self.patience.limited;
        let mut pause = self.patience.pause / 2;
        loop {
            let (declined, wait) = match self.port.send(call.clone()).await {
                Ok(reply) if reply.is_success() => return Ok(reply),
                Ok(reply) => match refusal(&reply) {
                    // Nothing was done, whatever was asked.
                    Refusal::TooMany(seconds) => (Declined::Unreachable(words(&reply)), seconds.map(Duration::from_secs)),
                    Refusal::Uncertain if repeatable => (Declined::Refused(Refusal::Uncertain, reply), None),
                    Refusal::Uncertain => return Err(Declined::Uncertain(words(&reply))),
                    meaning => return Err(Declined::Refused(meaning, reply)),
                },
                Err(PortError::NotSent(why)) => (Declined::Unreachable(why), None),
                Err(PortError::NoAnswer(why)) if repeatable => (Declined::Unreachable(why), None),
                Err(PortError::NoAnswer(why)) => return Err(Declined::Uncertain(why)),
            };
            let told = wait.map(|told| told.max(self.patience.pause));
            let wait = told.unwrap_or_else(|| self.scattered(pause));
            match (self.left(deadline), told.and_then(|told| limited.checked_sub(told))) {
                (Some(left), _) if left > wait => {}
                // Whoever says when to come again will have the time.
                (_, Some(rest)) => limited = rest,
                _ => return Err(declined),
            }
            self.port.sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Between half of a pause and all of it, so that many who were turned away together do not come back together.
    fn scattered(&self, pause: Duration) -> Duration {
        let grain = u32::try_from(self.port.now().0.rem_euclid(997)).unwrap_or_default();
        pause / 2 + (pause / 2) * grain / 997
    }

    /// The document that a look gives; none where there is no such thing.
    pub(super) async fn find<T: DeserializeOwned>(&self, call: Call) -> Result<Option<T>, FlyError> {
        let what = call.shown();
        match self.ask(call).await {
            Ok(reply) => read(&what, &reply).map(Some),
            Err(Declined::Refused(Refusal::NotFound, _)) => Ok(None),
            Err(declined) => Err(failed(&what, declined)),
        }
    }

    /// The things that a look gives. That there is no such list is an error.
    pub(super) async fn list<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, FlyError> {
        let what = call.shown();
        match self.ask(call).await {
            Ok(reply) => read_list(&what, &reply),
            Err(declined) => Err(failed(&what, declined)),
        }
    }

    /// The document that a look gives. That there is no such thing is an error.
    pub(super) async fn get<T: DeserializeOwned>(&self, call: Call) -> Result<T, FlyError> {
        let what = call.shown();
        match self.ask(call).await {
            Ok(reply) => read(&what, &reply),
            Err(declined) => Err(failed(&what, declined)),
        }
    }
}

/// Reads an answer that is one object. No field of it is taken for granted, so anything else, an empty list say, would
/// pass for an object with nothing in it.
pub(super) fn read<T: DeserializeOwned>(what: &str, reply: &Reply) -> Result<T, FlyError> {
    match serde_json::from_str(&reply.body) {
        Ok(Value::Object(fields)) => T::deserialize(Value::Object(fields)).ok(),
        _ => None,
    }
    .ok_or_else(|| FlyError::Unreadable { what: what.to_owned() })
}

/// Reads an answer that is a list of things, each with its id.
pub(super) fn read_list<T: DeserializeOwned>(what: &str, reply: &Reply) -> Result<Vec<T>, FlyError> {
    let is_thing = |item: &Value| item.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    match serde_json::from_str(&reply.body) {
        // What a server leaves empty it may as well write as `null`.
        Ok(Value::Null) => Some(Vec::new()),
        Ok(Value::Array(items)) if items.iter().all(is_thing) => {
            items.into_iter().map(|item| T::deserialize(item).ok()).collect()
        }
        _ => None,
    }
    .ok_or_else(|| FlyError::Unreadable { what: what.to_owned() })
}

/// What it means to a user that a request was not answered with yes.
pub(super) fn failed(what: &str, declined: Declined) -> FlyError {
    let what = what.to_owned();
    match declined {
        Declined::Unreachable(said) | Declined::Uncertain(said) => FlyError::Unreachable { what, said },
        Declined::Refused(meaning, reply) => {
            let said = words(&reply);
            match meaning {
                Refusal::Token => FlyError::Token { said },
                Refusal::Forbidden => FlyError::Forbidden { what, said },
                Refusal::Quota => FlyError::Quota { said },
                Refusal::TooMany(_) => FlyError::Unreachable { what, said },
                _ => {
                    let request = reply.headers.get("fly-request-id").cloned();
                    FlyError::Refused { what, status: reply.status, said, request }
                }
            }
        }
    }
}
