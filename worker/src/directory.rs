//! What the parts of the control plane ask the catalog, as one request each.
//!
//! Clients never come here: the entry takes the headers away with which these requests are told from theirs.
//!
//! Must not do: answer a client.

use convexinfra::api::ControlError;
use convexinfra::authority::{ProjectSync, TokenLookup};
use convexinfra::model::{Diagnostic, ProjectName, TokenId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use worker::wasm_bindgen::JsValue;
use worker::{Env, Headers, Method, Request, RequestInit, Response, Stub};

use crate::reply;

/// The header that tells these requests from those of clients.
pub const INTERNAL: &str = "convexinfra-internal";
/// The header in which the entry tells a project what the catalog knows of the token: a [`TokenLookup`] as JSON, as hex.
pub const LOOKUP: &str = "convexinfra-lookup";

const PROJECTS: &str = "PROJECTS";
const CATALOG: &str = "CATALOG";

/// One request to the catalog.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// What is this token, and which project does that other one open, which the request is about?
    LookUp {
        /// What was shown.
        token: String,
        /// The id of the other one.
        about: Option<TokenId>,
    },
    /// There is this project with these tokens.
    Register(ProjectSync),
    /// Make the first token, if this is the secret that it takes.
    Initialise {
        /// What was shown.
        secret: String,
        /// The URL by which the client reached the Worker.
        url: String,
    },
}

/// The answer to [`Question::LookUp`].
#[derive(Serialize, Deserialize)]
pub struct LookedUp {
    /// What the project has to know.
    pub lookup: TokenLookup,
    /// The project of the other token.
    pub about: Option<ProjectName>,
}

/// The catalog: one for the whole control plane.
pub fn catalog(env: &Env) -> worker::Result<Stub> {
    env.durable_object(CATALOG)?.get_by_name("catalog")
}

/// The object of a project.
pub fn project(env: &Env, name: &ProjectName) -> worker::Result<Stub> {
    env.durable_object(PROJECTS)?.get_by_name(name.as_str())
}

/// Puts a question to the catalog and returns its answer as it is; `id` names the request of the client.
pub async fn put(env: &Env, question: &Question, id: &str) -> worker::Result<Response> {
    let headers = Headers::new();
    headers.set(INTERNAL, "1")?;
    headers.set(convexinfra::api::wire::REQUEST_ID, id)?;
    let mut init = RequestInit::new();
    let body = serde_json::to_string(question).map_err(|error| worker::Error::RustError(error.to_string()))?;
    init.with_method(Method::Post).with_headers(headers).with_body(Some(JsValue::from(body)));
    catalog(env)?.fetch_with_request(Request::new_with_init("https://catalog/", &init)?).await
}

/// Puts a question to the catalog and reads its answer.
pub async fn ask<T: DeserializeOwned>(env: &Env, question: &Question) -> Result<T, ControlError> {
    let failed = |error: worker::Error| reply::interrupted(&error);
    let mut response = put(env, question, "").await.map_err(failed)?;
    let text = response.text().await.map_err(failed)?;
    if response.status_code() != 200 {
        let document: Result<convexinfra::api::wire::ErrorDocument, _> = serde_json::from_str(&text);
        return Err(match document {
            Ok(document) => document.into_error(),
            Err(_) => ControlError::Unreachable(Diagnostic::new("worker.interrupted", "the catalog did not answer as it does")),
        });
    }
    serde_json::from_str(&text)
        .map_err(|error| ControlError::Record(Diagnostic::new("bug", format!("the catalog said something else: {error}"))))
}
