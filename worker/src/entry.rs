//! The entry: authenticates every request and sends it to the object that answers it.
//!
//! A token is checked before anything of a body is read. Bodies go on as streams; only the body that says which project a
//! new token is for is read here, in part and within a deadline.
//!
//! Must not do: let anything of a client pass that only the parts of the control plane tell each other, or say anything
//! about a project to a client whose token opens nothing.

use std::cell::RefCell;
use std::time::Duration;

use convexinfra::api::ControlError;
use convexinfra::api::wire::ErrorDocument;
use convexinfra::authority::require_token_shape;
use convexinfra::model::{Diagnostic, ProjectName, Secret, TokenRecord, TokenRequest, TokenState};
use convexinfra::server::{self, RefusalLimiter, Shard};
use futures_util::future::{self, Either};
use futures_util::{StreamExt, pin_mut};
use worker::wasm_bindgen::JsValue;
use worker::{Context, Delay, Env, Headers, Method, Request, RequestInit, RequestRedirect, Response, Url, event};

use crate::directory::{self, INTERNAL, LOOKUP, LookedUp, Question};
use crate::project::PROJECT;
use crate::{platform, reply};

/// Where the first token is made.
const INIT: &str = "/init";
/// The largest body that is read here; a document that asks for a token has some hundred bytes.
const MAX_TOKEN_REQUEST: usize = 64 << 10;
/// How long that body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The header in which the platform says who is at the other end.
const ADDRESS: &str = "cf-connecting-ip";

thread_local! {
    /// Of this isolate alone: each one lets as many through, so this is a brake and no wall.
    static REFUSALS: RefCell<RefusalLimiter> = RefCell::default();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _: Context) -> worker::Result<Response> {
    let id = server::request_id(&request.headers().into());
    match pass_on(request, &env, &id).await {
        Ok(response) => Ok(response),
        Err(refused) => reply::problem(refused, Some(&id)),
    }
}

/// What is passed on of a body.
enum Body {
    /// Nothing: there is none, or it is not read.
    None,
    /// All of it, as it arrives.
    Stream,
    /// What was read here.
    Bytes(Vec<u8>),
}

async fn pass_on(mut request: Request, env: &Env, id: &str) -> Result<Response, reply::Refused> {
    let failed = |error: worker::Error| reply::interrupted(&error);
    // Normalised once: the shard is chosen by the same path that is passed on.
    let url = request.url().map_err(failed)?;
    let method = request.method();
    let reads = matches!(method, Method::Get | Method::Head);
    match url.path() {
        "/healthz" if reads => return Ok(reply::document(200, &server::health(), id)?),
        "/openapi.json" if reads => return Ok(reply::document(200, &server::openapi(), id)?),
        INIT if method == Method::Post => return initialise(&request, env, id).await,
        // The routes say what a path is that leads nowhere; no token is asked for it.
        path if !server::is_known_path(path) => return send_to_catalog(&request, env, &url, Body::None, id).await,
        _ => {}
    }
    let shown = server::bearer_token(&request.headers().into())?;
    require_token_shape(&shown)?;
    let shard = server::shard(&reply::http_method(&method), url.path());
    let about = match &shard {
        Shard::ProjectOfToken(id) => Some(id.clone()),
        _ => None,
    };
    let looked_up = look_up(&request, env, shown, about).await?;
    let Some(record) = looked_up.lookup.token.as_ref().map(|token| &token.record) else {
        return Err(convexinfra::authority::unknown_token().into());
    };
    // The routes say what is wrong with a token that has ended, and read no body for it.
    let mut body = if reads || !is_active(record) { Body::None } else { Body::Stream };
    let project = match shard {
        Shard::Directory => None,
        Shard::Project(project) => Some(project),
        Shard::ProjectOfToken(_) => looked_up.about.clone(),
        Shard::ProjectInBody if is_active(record) => {
            let bytes = read_token_request(&mut request).await?;
            let named = serde_json::from_slice::<TokenRequest>(&bytes).ok().and_then(|wanted| wanted.project);
            body = Body::Bytes(bytes);
            named
        }
        Shard::ProjectInBody => None,
    };
    // A token that opens another project is turned away by the catalog: it makes nothing there.
    match project.filter(|project| record.project.as_ref().is_none_or(|own| own == project)) {
        Some(project) => send_to_project(&request, env, &url, body, id, &project, &looked_up).await,
        None => send_to_catalog(&request, env, &url, body, id).await,
    }
}

fn is_active(record: &TokenRecord) -> bool {
    record.state(platform::now()) == TokenState::Active
}

/// Asks the catalog what a token is, unless its sender has shown too many that open nothing.
async fn look_up(
    request: &Request,
    env: &Env,
    token: Secret,
    about: Option<convexinfra::model::TokenId>,
) -> Result<LookedUp, reply::Refused> {
    // Without an address everybody would wait for everybody: then a proxy in front has to limit.
    let address = request.headers().get(ADDRESS).ok().flatten();
    limit(address.as_deref())?;
    let question = Question::LookUp { token: token.expose().to_owned(), about };
    let looked_up: LookedUp = directory::ask(env, &question).await?;
    if looked_up.lookup.token.is_none() {
        count_refusal(address.as_deref());
    }
    Ok(looked_up)
}

fn uptime() -> Duration {
    Duration::from_millis(u64::try_from(platform::now().0).unwrap_or_default())
}

fn limit(address: Option<&str>) -> Result<(), reply::Refused> {
    let wait = address.and_then(|address| REFUSALS.with_borrow(|refusals| refusals.wait(address, uptime())));
    match wait {
        None => Ok(()),
        Some(wait) => Err(reply::Refused::later("too many tokens that open nothing came from this address", wait)),
    }
}

fn count_refusal(address: Option<&str>) {
    if let Some(address) = address {
        REFUSALS.with_borrow_mut(|refusals| refusals.count(address, uptime()));
    }
}

/// Has the first token made, for the secret that it takes.
async fn initialise(request: &Request, env: &Env, id: &str) -> Result<Response, reply::Refused> {
    let address = request.headers().get(ADDRESS).ok().flatten();
    limit(address.as_deref())?;
    let secret = server::bearer_token(&request.headers().into())?;
    let url = request.url().map(|url| url.to_string()).unwrap_or_default();
    let question = Question::Initialise { secret: secret.expose().to_owned(), url };
    let response = directory::put(env, &question, id).await.map_err(|error| reply::interrupted(&error))?;
    if response.status_code() == 401 {
        count_refusal(address.as_deref());
    }
    Ok(response)
}

async fn send_to_catalog(request: &Request, env: &Env, url: &Url, body: Body, id: &str) -> Result<Response, reply::Refused> {
    let failed = |error: worker::Error| reply::interrupted(&error);
    let forwarded = forwarded(request, url, body, id, &[]).map_err(failed)?;
    Ok(directory::catalog(env).map_err(failed)?.fetch_with_request(forwarded).await.map_err(failed)?)
}

async fn send_to_project(
    request: &Request,
    env: &Env,
    url: &Url,
    body: Body,
    id: &str,
    project: &ProjectName,
    looked_up: &LookedUp,
) -> Result<Response, reply::Refused> {
    let failed = |error: worker::Error| reply::interrupted(&error);
    let lookup = serde_json::to_vec(&looked_up.lookup).map_err(|error| failed(worker::Error::RustError(error.to_string())))?;
    let extra = [(LOOKUP, hex::encode(lookup)), (PROJECT, project.to_string())];
    let forwarded = forwarded(request, url, body, id, &extra).map_err(failed)?;
    Ok(directory::project(env, project).map_err(failed)?.fetch_with_request(forwarded).await.map_err(failed)?)
}

/// The request as it is passed on, without what only the parts of the control plane tell each other.
fn forwarded(request: &Request, url: &Url, body: Body, id: &str, extra: &[(&str, String)]) -> worker::Result<Request> {
    let headers = Headers::new();
    let sends_body = !matches!(body, Body::None);
    for (name, value) in request.headers().entries() {
        let is_internal = [INTERNAL, LOOKUP, PROJECT].contains(&name.as_str());
        let is_about_body = ["content-length", "transfer-encoding"].contains(&name.as_str());
        if !is_internal && (sends_body || !is_about_body) {
            headers.append(&name, &value)?;
        }
    }
    headers.set(convexinfra::api::wire::REQUEST_ID, id)?;
    for (name, value) in extra {
        headers.set(name, value)?;
    }
    let mut init = RequestInit::new();
    init.with_method(request.method()).with_headers(headers).with_redirect(RequestRedirect::Manual);
    let body = match body {
        Body::None => None,
        Body::Stream => request.inner().body().map(JsValue::from),
        Body::Bytes(bytes) => Some(JsValue::from(js_sys::Uint8Array::from(bytes.as_slice()))).filter(|_| !bytes.is_empty()),
    };
    init.with_body(body);
    Request::new_with_init(url.as_str(), &init)
}

/// Reads the body that asks for a token.
async fn read_token_request(request: &mut Request) -> Result<Vec<u8>, reply::Refused> {
    let mut body = Vec::new();
    if request.inner().body().is_none() {
        return Ok(body);
    }
    let mut stream = request.stream().map_err(|error| reply::interrupted(&error))?;
    let read = async {
        while let Some(chunk) = stream.next().await {
            body.extend(chunk.map_err(|_| refused(400, "wire.cut_off", "the body ended before its end".to_owned()))?);
            if body.len() > MAX_TOKEN_REQUEST {
                let message =
                    format!("the body is larger than {MAX_TOKEN_REQUEST} bytes, the most that asking for a token takes");
                return Err(refused(413, "wire.too_large", message));
            }
        }
        Ok(())
    };
    pin_mut!(read);
    match future::select(read, Delay::from(BODY_TIMEOUT)).await {
        Either::Left((read, _)) => read?,
        Either::Right(((), _)) => {
            let message = "the body did not arrive in time".to_owned();
            return Err(refused(408, "server.timeout", message));
        }
    }
    Ok(body)
}

fn refused(status: u16, code: &str, message: String) -> reply::Refused {
    let (_, document) = ErrorDocument::from_error(&ControlError::BadRequest(Diagnostic::new(code, message)), None);
    reply::Refused { status, document, retry_after: None }
}
