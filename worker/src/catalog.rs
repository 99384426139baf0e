//! The one object that knows every token, the ceilings of everybody, and which projects there are.
//!
//! Must not do: keep anything of a project but its name and its tokens.

use std::cell::OnceCell;

use convexinfra::api::wire::IssuedTokenDocument;
use convexinfra::api::{Administration, ControlError, ResourceLevel, TokenOrigin};
use convexinfra::model::{Actor, Diagnostic, Quota, Scope, Secret, TokenRequest};
use convexinfra::server::ShardRole;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::directory::{INTERNAL, LookedUp, Question};
use crate::object::Object;
use crate::{object, reply};

/// The secret that makes the first token, once.
const INIT_SECRET: &str = "CONVEXINFRA_INIT_SECRET";
/// The shortest one that is taken.
const SHORTEST_SECRET: usize = 32;

/// The catalog.
#[durable_object]
pub struct Catalog {
    state: State,
    env: Env,
    object: OnceCell<Object>,
}

impl DurableObject for Catalog {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, object: OnceCell::new() }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        let id = reply::id_of(&request);
        match self.handle(request, &id).await {
            Ok(response) => Ok(response),
            Err(error) => reply::problem(error, Some(&id)),
        }
    }
}

impl Catalog {
    fn object(&self) -> Result<&Object, ControlError> {
        if let Some(object) = self.object.get() {
            return Ok(object);
        }
        let object = Object::open(&self.state, &self.env, ShardRole::Directory)?;
        Ok(self.object.get_or_init(|| object))
    }

    async fn handle(&self, mut request: Request, id: &str) -> Result<Response, ControlError> {
        let object = self.object()?;
        let failed = |error: worker::Error| reply::interrupted(&error);
        if !request.headers().has(INTERNAL).unwrap_or(false) {
            return object.answer(request).await.map_err(failed);
        }
        let text = request.text().await.map_err(failed)?;
        let question: Question = serde_json::from_str(&text).map_err(|error| {
            ControlError::Record(Diagnostic::new("bug", format!("the catalog was asked something else: {error}")))
        })?;
        let host = &object.host;
        match question {
            Question::LookUp { token, about } => {
                let lookup = host.lookup_token(&Secret::new(token))?;
                let about = match about {
                    Some(id) => host.project_of_token(&id)?,
                    None => None,
                };
                answer(200, &LookedUp { lookup, about }, id)
            }
            Question::Register(sync) => answer(200, &host.apply_project_sync(&sync)?, id),
            Question::Initialise { secret, url } => self.initialise(object, &secret, &url, id).await,
        }
    }

    /// Makes the first operator's token.
    async fn initialise(&self, object: &Object, shown: &str, url: &str, id: &str) -> Result<Response, ControlError> {
        let secret = object::setting(&self.env, INIT_SECRET).unwrap_or_default();
        let secret = secret.trim();
        if secret.len() < SHORTEST_SECRET {
            let message = format!("the secret `{INIT_SECRET}` should have at least {SHORTEST_SECRET} characters");
            let help = format!("make one with\n    openssl rand -hex 32 | npx wrangler secret put {INIT_SECRET}");
            return Err(ControlError::Refused(Diagnostic::new("worker.init_secret", message).with_help(help)));
        }
        if !bool::from(Sha256::digest(secret).ct_eq(&Sha256::digest(shown))) {
            let message = format!("what was shown is not the secret `{INIT_SECRET}`");
            // The code tells clients that nothing at all is opened, as with a token.
            return Err(ControlError::NotAuthorised(Diagnostic::new("auth.token_unknown", message)));
        }
        let session = object.host.session_for(Actor { token: None, name: "init".to_owned() });
        let control = session.with_token_origins(TokenOrigin::parse(url).into_iter().collect());
        let now = object.host.now();
        if let Some(there) = control.tokens().await?.iter().find(|record| record.is_active_operator(now)) {
            let message = format!("there is an operator's token already: {}, made at {}", there.id, there.created_at);
            let help = "use that one; if it is lost, have it revoked by another operator's token";
            return Err(ControlError::Refused(Diagnostic::new("serve.initialised", message).with_help(help)));
        }
        let note = "made by init".to_owned();
        let issued = control.create_token(&TokenRequest { project: None, scope: Scope::Operator, note, ttl: None }).await?;
        if control.quota(&ResourceLevel::ControlPlane).await? == Quota::default() {
            control.set_quota(&ResourceLevel::ControlPlane, &Quota::initial()).await?;
        }
        answer(201, &IssuedTokenDocument::from(issued), id)
    }
}

fn answer(status: u16, document: &impl Serialize, id: &str) -> Result<Response, ControlError> {
    reply::document(status, document, id)
}
