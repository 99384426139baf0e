//! One project: its rows, and its operations by the object's alarm.
//!
//! Must not do: let a request that nobody introduced see anything.

use std::cell::{Cell, OnceCell, RefCell};
use std::time::Duration;

use convexinfra::authority::{TokenLookup, ProjectSync};
use convexinfra::api::ControlError;
use convexinfra::host::SWEEP_EVERY;
use convexinfra::model::{Diagnostic, ProjectName};
use convexinfra::server::ShardRole;
use worker::{DurableObject, Env, Method, Request, Response, State, durable_object};

use crate::directory::{self, INTRODUCTION, Question};
use crate::object::Object;
use crate::{platform, reply};

/// The header in which the entry names the project; before the first write, an object does not know its own name.
pub const PROJECT: &str = "convexinfra-project";

/// The object of one project.
#[durable_object]
pub struct Project {
    state: State,
    env: Env,
    object: OnceCell<Object>,
    /// What the catalog was last told.
    registered: RefCell<Option<ProjectSync>>,
    /// Whether it was seen to that what an earlier life of this object left open goes on.
    awake: Cell<bool>,
}

impl DurableObject for Project {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, object: OnceCell::new(), registered: RefCell::new(None), awake: Cell::new(false) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        match self.handle(request).await {
            Ok(response) => Ok(response),
            Err(error) => reply::problem(&error),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        let object = self.object().map_err(|error| worker::Error::RustError(error.to_string()))?;
        // What cannot be done now is in the log, and is tried again: an alarm is set as long as there is something to do.
        let _ = object.host.sweep();
        let failed = |error: ControlError| worker::Error::RustError(error.to_string());
        self.schedule(object).await.map_err(failed)?;
        for project in object.host.projects().map_err(failed)? {
            self.register(object, &project).await.map_err(failed)?;
        }
        Response::empty()
    }
}

impl Project {
    fn object(&self) -> Result<&Object, ControlError> {
        if let Some(object) = self.object.get() {
            return Ok(object);
        }
        let object = Object::open(&self.state, &self.env, ShardRole::Projects)?;
        Ok(self.object.get_or_init(|| object))
    }

    async fn handle(&self, request: Request) -> Result<Response, ControlError> {
        let object = self.object()?;
        let failed = |error: worker::Error| reply::interrupted(&error);
        let header = |name: &str| request.headers().get(name).ok().flatten();
        let introduction: TokenLookup =
            header(INTRODUCTION).and_then(|text| serde_json::from_slice(&hex::decode(text).ok()?).ok()).ok_or_else(strange)?;
        let project = header(PROJECT).and_then(|text| ProjectName::parse(&text).ok()).ok_or_else(strange)?;
        object.host.learn(&introduction)?;
        let writes = !matches!(request.method(), Method::Get | Method::Head);
        if writes {
            // Set before anything is accepted: what is written down together with it goes on even if this is cut off here.
            self.ring_in(SWEEP_EVERY).await?;
        } else if !self.awake.replace(true) {
            self.schedule(object).await?;
        }
        let response = object.answer(request).await.map_err(failed)?;
        if writes {
            self.register(object, &project).await?;
        }
        Ok(response)
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
        let at = platform::now().0.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
        if storage.get_alarm().await.map_err(failed)?.is_none_or(|set| set > at) {
            storage.set_alarm(delay).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Tells the catalog what it does not know yet.
    async fn register(&self, object: &Object, project: &ProjectName) -> Result<(), ControlError> {
        let Some(registration) = object.host.registration(project)? else { return Ok(()) };
        if self.registered.borrow().as_ref() == Some(&registration) {
            return Ok(());
        }
        let question = Question::Register(registration.clone());
        let (): () = directory::ask(&self.env, &question).await?;
        self.registered.replace(Some(registration));
        Ok(())
    }
}

fn strange() -> ControlError {
    ControlError::Record(Diagnostic::new("bug", "a request came to a project past the entry; this is a bug in convexinfra"))
}
