//! The entry: sends every request to the object that answers it.
//!
//! Must not do: let anything of a client pass that only the parts of the control plane tell each other, or say anything
//! about a project to somebody whose token nobody knows.

use convexinfra::api::ControlError;
use convexinfra::model::{ProjectName, TokenId, TokenRequest};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use worker::wasm_bindgen::JsValue;
use worker::{Context, Env, Headers, Method, Request, RequestInit, RequestRedirect, Response, event};

use crate::directory::{self, INTERNAL, INTRODUCTION, Introduced, Question};
use crate::project::PROJECT;
use crate::reply;

/// Where the first token is made.
const INIT: &str = "/init";
/// How much of a body is taken along; the routes refuse larger ones.
const LARGEST_BODY: usize = 4 << 20;

#[event(fetch)]
async fn fetch(request: Request, env: Env, _: Context) -> worker::Result<Response> {
    match pass_on(request, &env).await {
        Ok(response) => Ok(response),
        Err(error) => reply::problem(&error),
    }
}

/// Whom a request is for.
enum Target {
    Catalog,
    Project(ProjectName),
    /// Whoever has the token with this id.
    TokenOf(TokenId),
}

async fn pass_on(mut request: Request, env: &Env) -> Result<Response, ControlError> {
    let failed = |error: worker::Error| reply::interrupted(&error);
    let path = request.path();
    let token = bearer(request.headers());
    if path == INIT && request.method() == Method::Post {
        let url = request.url().map(|url| url.to_string()).unwrap_or_default();
        let question = Question::Initialise { secret: token.unwrap_or_default(), url };
        return directory::put(env, &question).await.map_err(failed);
    }
    // Read here, so that what was read can be sent on.
    let body = match request.method() {
        Method::Get | Method::Head => None,
        _ => Some(body_of(&mut request).await.map_err(failed)?),
    };
    let target = target(&request.method(), &path, body.as_deref());
    let about = match &target {
        Target::TokenOf(id) => Some(id.clone()),
        _ => None,
    };
    let to_catalog = matches!(target, Target::Catalog);
    let introduced: Option<Introduced> = match token.filter(|_| !to_catalog) {
        Some(token) => Some(directory::ask(env, &Question::Introduce { token, about }).await?),
        None => None,
    };
    // A token that nobody knows is turned away by the catalog, whatever the request is about, and so is one that opens
    // another project: neither makes anything there.
    let known = introduced.filter(|introduced| introduced.introduction.token.is_some());
    let project = match (target, &known) {
        (Target::Project(project), Some(_)) => Some(project),
        (Target::TokenOf(_), Some(Introduced { about, .. })) => about.clone(),
        _ => None,
    };
    let own = known.as_ref().and_then(|known| known.introduction.token.as_ref()?.record.project.as_ref());
    let project = project.filter(|project| own.is_none_or(|own| own == project));
    let forwarded = |extra: Option<(&ProjectName, &Introduced)>| -> worker::Result<Request> {
        let headers = Headers::new();
        for (name, value) in request.headers().entries() {
            if ![INTERNAL, INTRODUCTION, PROJECT].contains(&name.as_str()) {
                headers.append(&name, &value)?;
            }
        }
        if let Some((project, introduced)) = extra {
            let text =
                serde_json::to_vec(&introduced.introduction).map_err(|error| worker::Error::RustError(error.to_string()))?;
            headers.set(INTRODUCTION, &hex::encode(text))?;
            headers.set(PROJECT, project.as_str())?;
        }
        let mut init = RequestInit::new();
        init.with_method(request.method()).with_headers(headers).with_redirect(RequestRedirect::Manual);
        if let Some(body) = body.as_ref().filter(|body| !body.is_empty()) {
            init.with_body(Some(JsValue::from(js_sys::Uint8Array::from(body.as_slice()))));
        }
        Request::new_with_init(request.url()?.as_str(), &init)
    };
    let (stub, request) = match (&project, &known) {
        (Some(project), Some(known)) => {
            (directory::project(env, project).map_err(failed)?, forwarded(Some((project, known))).map_err(failed)?)
        }
        _ => (directory::catalog(env).map_err(failed)?, forwarded(None).map_err(failed)?),
    };
    stub.fetch_with_request(request).await.map_err(failed)
}

/// Whom a request is for, by its path. A request for a token goes to the project of that token, so that its history says
/// so. What is read here is read as the routes read it: a name that only one of the two could read would have two places.
fn target(method: &Method, path: &str, body: Option<&[u8]>) -> Target {
    let mut parts = path.split('/').skip(1);
    let (version, resource) = (parts.next(), parts.next());
    let name = parts.next().map(|part| percent_decode_str(part).decode_utf8_lossy());
    match (version, resource, name) {
        (Some("v1"), Some("projects"), Some(name)) => match ProjectName::parse(&name) {
            Ok(project) => Target::Project(project),
            // The routes say what is wrong with it.
            Err(_) => Target::Catalog,
        },
        (Some("v1"), Some("tokens"), None) if *method == Method::Post => {
            let request = body.and_then(|body| serde_json::from_slice::<TokenRequest>(body).ok());
            request.and_then(|request| request.project).map_or(Target::Catalog, Target::Project)
        }
        (Some("v1"), Some("tokens"), Some(id)) if *method == Method::Delete => Target::TokenOf(TokenId::new(id)),
        _ => Target::Catalog,
    }
}

/// The body of a request, or as much of it as shows that it is larger than any that the routes take.
async fn body_of(request: &mut Request) -> worker::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.inner().body().is_none() {
        return Ok(body);
    }
    let mut stream = request.stream()?;
    while let Some(chunk) = stream.next().await {
        body.extend(chunk?);
        if body.len() > LARGEST_BODY {
            break;
        }
    }
    Ok(body)
}

/// The token that was shown, as far as it can be read; the routes say what is wrong with it otherwise.
fn bearer(headers: &Headers) -> Option<String> {
    let value = headers.get("authorization").ok()??;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
