//! One project: its rows, and its operations by the object's alarm.
//!
//! Must not do: answer a request that did not come through the entry, or one about another project.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use convexinfra::api::ControlError;
use convexinfra::authority::{ProjectSync, TokenLookup};
use convexinfra::host::SWEEP_INTERVAL;
use convexinfra::model::{Diagnostic, ProjectName, Timestamp};
use convexinfra::server::{ShardRole, belongs_to};
use worker::{DurableObject, Env, Method, Request, Response, State, console_error, durable_object};

use crate::directory::{self, LOOKUP, Question};
use crate::object::Object;
use crate::{platform, reply};

/// The header in which the entry names the project; before the first write, an object does not know its own name.
pub const PROJECT: &str = "convexinfra-project";

/// When the alarm rings again whose work could not be done.
const RETRY_ALARM_AFTER: Duration = Duration::from_secs(60);

/// The object of one project.
#[durable_object]
pub struct Project {
    state: State,
    env: Env,
    object: RefCell<Option<Object>>,
    /// How many requests and alarms are being worked on.
    busy: Cell<usize>,
    /// What the catalog was last told.
    registered: RefCell<Option<ProjectSync>>,
    /// Whether it was seen to that what an earlier life of this object left open goes on.
    awake: Cell<bool>,
}

impl DurableObject for Project {
    fn new(state: State, env: Env) -> Self {
        Self {
            state,
            env,
            object: RefCell::default(),
            busy: Cell::new(0),
            registered: RefCell::new(None),
            awake: Cell::new(false),
        }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        let id = reply::id_of(&request);
        let busy = Busy::begin(&self.busy);
        let handled = self.handle(request).await;
        drop(busy);
        self.discard_blank().await;
        match handled {
            Ok(response) => Ok(response),
            Err(error) => reply::problem(error, Some(&id)),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        // Set before anything can fail: an alarm whose work fails is lost otherwise, and backends whose time is over cost
        // money until it is noticed.
        let again = platform::now().0.saturating_add(millis(RETRY_ALARM_AFTER));
        self.state.storage().set_alarm(RETRY_ALARM_AFTER).await?;
        let busy = Busy::begin(&self.busy);
        let swept = self.sweep().await;
        drop(busy);
        match swept {
            Ok(next) => self.set_next_alarm(again, next).await?,
            Err(error) => console_error!("the alarm could not do its work and rings again: {error}"),
        }
        self.discard_blank().await;
        Response::empty()
    }
}

impl Project {
    fn object(&self) -> Result<Object, ControlError> {
        if let Some(object) = &*self.object.borrow() {
            return Ok(object.clone());
        }
        let object = Object::open(&self.state, &self.env, ShardRole::Projects)?;
        self.object.replace(Some(object.clone()));
        Ok(object)
    }

    /// Deletes the rows of an object in which nothing is kept, as after a question about a project that never was. The next
    /// request makes them anew.
    async fn discard_blank(&self) {
        let opened = self.object.borrow().clone();
        let Some(object) = opened.filter(|_| self.busy.get() == 0) else { return };
        match object.host.is_blank() {
            Ok(true) => {}
            // What cannot be read is no reason to delete it.
            Ok(false) | Err(_) => return,
        }
        // Nothing is awaited between the look and the deletion, which is done when it is asked for: no request comes in between.
        self.object.replace(None);
        self.awake.set(false);
        let storage = self.state.storage();
        let mut cleared = storage.delete_all().await;
        // An alarm that a request has set meanwhile stays.
        if cleared.is_ok() && self.object.borrow().is_none() && self.busy.get() == 0 {
            cleared = storage.delete_alarm().await;
        }
        if let Err(error) = cleared {
            console_error!("the rows of a project that is not there stay: {error}");
        }
    }

    async fn handle(&self, request: Request) -> Result<Response, ControlError> {
        let object = self.object()?;
        let failed = |error: worker::Error| reply::interrupted(&error);
        let header = |name: &str| request.headers().get(name).ok().flatten();
        let lookup: TokenLookup =
            header(LOOKUP).and_then(|text| serde_json::from_slice(&hex::decode(text).ok()?).ok()).ok_or_else(strange)?;
        let project = header(PROJECT).and_then(|text| ProjectName::parse(&text).ok()).ok_or_else(strange)?;
        let path = request.url().map_err(failed)?;
        if !belongs_to(&reply::http_method(&request.method()), path.path(), &project) {
            return Err(strange());
        }
        object.host.apply_lookup(&lookup)?;
        let writes = !matches!(request.method(), Method::Get | Method::Head);
        if writes {
            // Set before anything is accepted: what is written down together with it goes on even if this is cut off here.
            self.ring_in(SWEEP_INTERVAL).await?;
        } else if !self.awake.replace(true) {
            self.schedule(&object).await?;
        }
        let response = object.answer(request).await.map_err(failed)?;
        if writes {
            self.register(&object, &project).await?;
        }
        Ok(response)
    }

    /// Does what is due, and returns when something will be again.
    async fn sweep(&self) -> Result<Option<Timestamp>, ControlError> {
        let object = self.object()?;
        // What cannot be done now is in the log, and is tried again.
        let _ = object.host.sweep();
        for project in object.host.projects()? {
            self.register(&object, &project).await?;
        }
        object.host.next_sweep()
    }

    /// Replaces the alarm that rings `again` by the next one that is needed; one that a request has set meanwhile stays.
    async fn set_next_alarm(&self, again: i64, next: Option<Timestamp>) -> worker::Result<()> {
        let storage = self.state.storage();
        let is_ours = storage.get_alarm().await?.is_none_or(|set| set >= again);
        match next {
            Some(next) if is_ours => {
                let delay = u64::try_from(next.0 - platform::now().0).unwrap_or(0);
                storage.set_alarm(Duration::from_millis(delay)).await
            }
            None if is_ours => storage.delete_alarm().await,
            _ => Ok(()),
        }
    }

    /// Sets the alarm to when something has to be done again.
    async fn schedule(&self, object: &Object) -> Result<(), ControlError> {
        match object.host.next_sweep()? {
            Some(next) => {
                let in_ms = u64::try_from(next.0 - object.host.now().0).unwrap_or(0);
                self.ring_in(Duration::from_millis(in_ms)).await
            }
            None => Ok(()),
        }
    }

    /// Sets the alarm, unless it rings before.
    async fn ring_in(&self, delay: Duration) -> Result<(), ControlError> {
        let failed = |error: worker::Error| reply::interrupted(&error);
        let storage = self.state.storage();
        let at = platform::now().0.saturating_add(millis(delay));
        if storage.get_alarm().await.map_err(failed)?.is_none_or(|set| set > at) {
            storage.set_alarm(delay).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Tells the catalog what it does not know yet.
    async fn register(&self, object: &Object, project: &ProjectName) -> Result<(), ControlError> {
        let Some(sync) = object.host.project_sync(project)? else { return Ok(()) };
        if self.registered.borrow().as_ref() == Some(&sync) {
            return Ok(());
        }
        let question = Question::Register(sync.clone());
        let (): () = directory::ask(&self.env, &question).await?;
        self.registered.replace(Some(sync));
        Ok(())
    }
}

/// Counts one more until it is dropped.
struct Busy<'a>(&'a Cell<usize>);

impl<'a> Busy<'a> {
    fn begin(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn strange() -> ControlError {
    ControlError::Record(Diagnostic::new("bug", "a request came to a project past the entry; this is a bug in convexinfra"))
}
