//! What both kinds of objects are made of: a host over their own rows, and the routes over that host.
//!
//! Must not do: know which requests come to which object.

use std::sync::Arc;

use axum::Router;
use convexinfra::api::ControlError;
use convexinfra::authority::MasterKey;
use convexinfra::convex::deployment::DeploymentClient;
use convexinfra::host::{Host, HostParts, LocalBinaries};
use convexinfra::model::{Diagnostic, Secret};
use convexinfra::provider::Provider;
use convexinfra::provider::fly::{ApiEndpoints, Fly, FlyConfig, TOKEN_VARIABLES};
use convexinfra::provider::kit::image_reference::ImagePolicy;
use convexinfra::server::{ApiServer, RequestLimits, ShardRole, router};
use tower::ServiceExt;
use worker::wasm_bindgen::JsValue;
use worker::{Env, HttpRequest, Request, Response, State};

use crate::fetch::{Deployments, FlyPort};
use crate::log;
use crate::platform::ObjectPlatform;
use crate::record_only::RecordOnly;

/// The secret that seals all others: 64 hex digits.
const MASTER_KEY: &str = "CONVEXINFRA_MASTER_KEY";
/// Where clients reach this control plane; plans name it.
const PUBLIC_URL: &str = "CONVEXINFRA_PUBLIC_URL";

/// A host over the rows of one object.
#[derive(Clone)]
pub struct Object {
    pub host: Arc<Host>,
    router: Router,
}

impl Object {
    /// Opens the rows and plugs everything together.
    pub fn open(state: &State, env: &Env, territory: ShardRole) -> Result<Self, ControlError> {
        log::start();
        let text = setting(env, MASTER_KEY).unwrap_or_default();
        let key = MasterKey::parse(&text).ok_or_else(|| {
            let message = format!("the secret `{MASTER_KEY}` should be 64 hex digits, and is {}", described(&text));
            let help = format!("make one, and keep it: without it nothing in the store can be read\n    openssl rand -hex 32 | npx wrangler secret put {MASTER_KEY}");
            ControlError::Record(Diagnostic::new("worker.master_key", message).with_help(help))
        })?;
        let name = setting(env, PUBLIC_URL).unwrap_or_else(|| "workers".to_owned());
        let mut providers: Vec<Box<dyn Provider>> = vec![Box::new(RecordOnly)];
        providers.extend(fly(env).map(|fly| Box::new(fly) as Box<dyn Provider>));
        let platform = Box::new(ObjectPlatform::open(state, key)?);
        let connections = DeploymentClient::new(Deployments);
        let host = Arc::new(Host::new(HostParts {
            platform,
            name,
            providers,
            connections,
            local_binaries: LocalBinaries::ReleasesOnly,
        }));
        let server = ApiServer::new(Arc::clone(&host), territory, RequestLimits::default())
            .map_err(|error| ControlError::Record(Diagnostic::new("bug", format!("the figures cannot be kept: {error}"))))?;
        Ok(Self { host, router: router(&server) })
    }

    /// Answers a client's request by the routes that every control plane has.
    pub async fn answer(&self, request: Request) -> worker::Result<Response> {
        let request = HttpRequest::try_from(request)?.map(axum::body::Body::new);
        let Ok(response) = self.router.clone().oneshot(request).await;
        Response::try_from(response)
    }
}

/// A variable or a secret, if it is there and a text that says something. What else a binding may be is not one of ours.
pub fn setting(env: &Env, name: &str) -> Option<String> {
    let env: &JsValue = env.as_ref();
    js_sys::Reflect::get(env, &name.into()).ok()?.as_string().filter(|text| !text.trim().is_empty())
}

/// Fly.io, where there is a token for it.
fn fly(env: &Env) -> Option<Fly> {
    let variable = |name: &str| setting(env, name);
    let token = Secret::new(TOKEN_VARIABLES.into_iter().find_map(variable)?);
    let mut places = ApiEndpoints::default();
    if let Some(url) = variable("CONVEXINFRA_FLY_API") {
        places.machines = url;
    }
    if let Some(url) = variable("CONVEXINFRA_REGISTRY_URL") {
        places.registry = url;
    }
    if let Some(url) = variable("CONVEXINFRA_COMMITS_URL") {
        places.commits = url;
    }
    let listed = variable("CONVEXINFRA_ALLOW_IMAGES").unwrap_or_default();
    let images = listed.split(',').map(|image| image.trim().to_owned()).filter(|image| !image.is_empty()).collect();
    Some(Fly::new(
        Arc::new(FlyPort::new(&token, places)),
        FlyConfig { default_org: variable("FLY_ORG"), images: ImagePolicy::Listed(images) },
    ))
}

fn described(text: &str) -> &'static str {
    if text.is_empty() { "not set" } else { "something else" }
}
