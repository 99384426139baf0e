//! One project: its rows, and its operations by the object's alarm.
//!
//! Must not do: let a request that nobody introduced see anything.

use std::cell::{OnceCell, RefCell};

use convexinfra::authority::{Introduction, Registration};
use convexinfra::control::ControlError;
use convexinfra::model::{Finding, ProjectName};
use worker::{DurableObject, Env, Method, Request, Response, State, durable_object};

use crate::directory::{self, INTRODUCTION, Question};
use crate::object::Object;
use crate::reply;

/// The header in which the entry names the project; an object does not know its own name at an alarm, and needs none there.
pub const PROJECT: &str = "convexinfra-project";

/// The object of one project.
#[durable_object]
pub struct Project {
    state: State,
    env: Env,
    object: OnceCell<Object>,
    /// What the catalog was last told.
    registered: RefCell<Option<Registration>>,
}

impl DurableObject for Project {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, object: OnceCell::new(), registered: RefCell::new(None) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        match self.handle(request).await {
            Ok(response) => Ok(response),
            Err(error) => reply::problem(&error),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        let object = self.object().map_err(|error| worker::Error::RustError(error.to_string()))?;
        // What cannot be done now is tried again: an alarm is set as long as something is open.
        let _ = object.host.sweep().await;
        self.schedule(object).await.map_err(|error| worker::Error::RustError(error.to_string()))?;
        Response::empty()
    }
}

impl Project {
    fn object(&self) -> Result<&Object, ControlError> {
        if let Some(object) = self.object.get() {
            return Ok(object);
        }
        let object = Object::open(&self.state, &self.env)?;
        Ok(self.object.get_or_init(|| object))
    }

    async fn handle(&self, request: Request) -> Result<Response, ControlError> {
        let object = self.object()?;
        let failed = |error: worker::Error| reply::interrupted(&error);
        let header = |name: &str| request.headers().get(name).ok().flatten();
        let introduction: Introduction =
            header(INTRODUCTION).and_then(|text| serde_json::from_slice(&hex::decode(text).ok()?).ok()).ok_or_else(strange)?;
        let project = header(PROJECT).and_then(|text| ProjectName::parse(&text).ok()).ok_or_else(strange)?;
        object.host.adopt(&introduction)?;
        let writes = !matches!(request.method(), Method::Get | Method::Head);
        let response = object.answer(request).await.map_err(failed)?;
        if writes {
            // The alarm first: what was accepted goes on even if nothing else comes to pass.
            self.schedule(object).await?;
            self.register(object, &project).await?;
        }
        Ok(response)
    }

    /// Sets the alarm to when something has to be done again, unless it rings before.
    async fn schedule(&self, object: &Object) -> Result<(), ControlError> {
        let failed = |error: worker::Error| reply::interrupted(&error);
        let Some(next) = object.host.next_sweep()? else { return Ok(()) };
        let storage = self.state.storage();
        let set = storage.get_alarm().await.map_err(failed)?;
        if set.is_none_or(|set| set > next.0) {
            let in_ms = u64::try_from(next.0 - object.host.now().0).unwrap_or(0);
            storage.set_alarm(std::time::Duration::from_millis(in_ms)).await.map_err(failed)?;
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
    ControlError::Record(Finding::new("bug", "a request came to a project past the entry; this is a bug in convexinfra"))
}
