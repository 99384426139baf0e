//! Every request to Fly's Machines API that the driver makes, as data.
//!
//! Must not do: send one, or decide when to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::transport::{ApiRequest, Method, Service, escape_segment};
use crate::model::Secret;

/// The longest that the API waits for a state, in seconds.
const MAX_WAIT_S: u64 = 60;
/// How much longer than the API the client waits.
const MARGIN: Duration = Duration::from_secs(15);
/// The header that carries a lease.
const NONCE: &str = "fly-machine-lease-nonce";

fn machines(method: Method, path: String) -> ApiRequest {
    ApiRequest::new(Service::Machines, method, format!("/v1{path}"))
}

fn with_lease(call: ApiRequest, nonce: Option<&Secret>) -> ApiRequest {
    match nonce {
        Some(nonce) => call.with_header(NONCE, nonce.clone()),
        None => call,
    }
}

/// What the token may do.
pub(super) fn current_tokens() -> ApiRequest {
    machines(Method::Get, "/tokens/current".to_owned())
}

/// Creates an app in a network of its own. The name stands there twice because the specification and Fly's own client
/// call it `name`, and the documentation and others `app_name`. The answer is asked to wait until the app is known.
pub(super) fn create_app(app: &str, org: &str, network: &str) -> ApiRequest {
    machines(Method::Post, "/apps".to_owned())
        .with_query("wait", true)
        .with_body(json!({ "app_name": app, "name": app, "org_slug": org, "network": network }))
}

/// Looks at an app.
pub(super) fn get_app(app: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}", escape_segment(app)))
}

/// Takes an app away with everything in it.
pub(super) fn delete_app(app: &str) -> ApiRequest {
    machines(Method::Delete, format!("/apps/{}", escape_segment(app))).with_query("force", true)
}

/// The addresses of an app.
pub(super) fn list_addresses(app: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/ip_assignments", escape_segment(app)))
}

/// Gives an app an address: `v6` or `shared_v4`.
pub(super) fn assign_address(app: &str, kind: &str) -> ApiRequest {
    machines(Method::Post, format!("/apps/{}/ip_assignments", escape_segment(app))).with_body(json!({ "type": kind }))
}

/// Takes an address from an app.
pub(super) fn release_address(app: &str, ip: &str) -> ApiRequest {
    machines(Method::Delete, format!("/apps/{}/ip_assignments/{}", escape_segment(app), escape_segment(ip)))
}

/// The names and digests of an app's secrets.
pub(super) fn list_secrets(app: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/secrets", escape_segment(app)))
}

/// Sets secrets, and takes away those without a value.
pub(super) fn set_secrets(app: &str, values: &BTreeMap<String, Option<Secret>>) -> ApiRequest {
    let values: serde_json::Map<String, Value> = values
        .iter()
        .map(|(name, value)| (name.clone(), value.as_ref().map_or(Value::Null, |value| value.expose().into())))
        .collect();
    machines(Method::Post, format!("/apps/{}/secrets", escape_segment(app))).with_body(json!({ "values": values }))
}

/// Sets one secret.
pub(super) fn set_secret(app: &str, name: &str, value: &Secret) -> ApiRequest {
    machines(Method::Post, format!("/apps/{}/secrets/{}", escape_segment(app), escape_segment(name)))
        .with_body(json!({ "value": value.expose() }))
}

/// Takes one secret away.
pub(super) fn remove_secret(app: &str, name: &str) -> ApiRequest {
    machines(Method::Delete, format!("/apps/{}/secrets/{}", escape_segment(app), escape_segment(name)))
}

/// The volumes of an app.
pub(super) fn list_volumes(app: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/volumes", escape_segment(app)))
}

/// Looks at one volume.
pub(super) fn get_volume(app: &str, volume: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/volumes/{}", escape_segment(app), escape_segment(volume)))
}

/// Makes a volume.
pub(super) fn create_volume(app: &str, request: Value) -> ApiRequest {
    machines(Method::Post, format!("/apps/{}/volumes", escape_segment(app))).with_body(request)
}

/// Makes a volume larger.
pub(super) fn extend_volume(app: &str, volume: &str, gb: u32) -> ApiRequest {
    machines(Method::Put, format!("/apps/{}/volumes/{}/extend", escape_segment(app), escape_segment(volume)))
        .with_body(json!({ "size_gb": gb }))
}

/// Takes a volume away; it stays recoverable for a day.
pub(super) fn delete_volume(app: &str, volume: &str) -> ApiRequest {
    machines(Method::Delete, format!("/apps/{}/volumes/{}", escape_segment(app), escape_segment(volume)))
}

/// Every volume of an organisation, one page of them.
pub(super) fn list_org_volumes(org: &str, cursor: Option<&str>) -> ApiRequest {
    let call = machines(Method::Get, format!("/orgs/{}/volumes", escape_segment(org))).with_query("limit", 1000);
    match cursor {
        Some(cursor) => call.with_query("cursor", cursor),
        None => call,
    }
}

/// The machines of an app.
pub(super) fn list_machines(app: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/machines", escape_segment(app)))
}

/// Looks at one machine.
pub(super) fn get_machine(app: &str, id: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/machines/{}", escape_segment(app), escape_segment(id)))
}

/// Makes a machine.
pub(super) fn create_machine(app: &str, request: Value) -> ApiRequest {
    machines(Method::Post, format!("/apps/{}/machines", escape_segment(app))).with_body(request)
}

/// Gives a machine another configuration, as a whole.
pub(super) fn update_machine(app: &str, id: &str, request: Value, nonce: Option<&Secret>) -> ApiRequest {
    let call = machines(Method::Post, format!("/apps/{}/machines/{}", escape_segment(app), escape_segment(id)));
    with_lease(call.with_body(request), nonce)
}

/// Starts a machine that was stopped.
pub(super) fn start_machine(app: &str, id: &str, nonce: Option<&Secret>) -> ApiRequest {
    with_lease(machines(Method::Post, format!("/apps/{}/machines/{}/start", escape_segment(app), escape_segment(id))), nonce)
}

/// Stops a machine as Convex wants to be stopped.
pub(super) fn stop_machine(app: &str, id: &str, nonce: Option<&Secret>) -> ApiRequest {
    let call = machines(Method::Post, format!("/apps/{}/machines/{}/stop", escape_segment(app), escape_segment(id)));
    with_lease(call.with_body(json!({ "signal": "SIGINT", "timeout": "30s" })), nonce)
}

/// Takes a machine away, whether it runs or not.
pub(super) fn delete_machine(app: &str, id: &str, nonce: Option<&Secret>) -> ApiRequest {
    let call = machines(Method::Delete, format!("/apps/{}/machines/{}", escape_segment(app), escape_segment(id)))
        .with_query("force", true);
    with_lease(call, nonce)
}

/// Waits, over there, until a machine's state does not change by itself any more. Not every server knows a word for
/// that, so the two states that matter most are named beside it.
pub(super) fn wait_until_settled(app: &str, id: &str, version: Option<&str>, seconds: u64) -> ApiRequest {
    let seconds = seconds.clamp(1, MAX_WAIT_S);
    let call = machines(Method::Get, format!("/apps/{}/machines/{}/wait", escape_segment(app), escape_segment(id)))
        .with_query("state", "settled")
        .with_query("state", "started")
        .with_query("state", "failed")
        .with_query("timeout", seconds)
        .within(Duration::from_secs(seconds) + MARGIN);
    match version {
        Some(version) => call.with_query("version", version),
        None => call,
    }
}

/// The last things that happened to a machine.
pub(super) fn list_events(app: &str, id: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/machines/{}/events", escape_segment(app), escape_segment(id)))
        .with_query("limit", 20)
}

/// Takes a machine's lease, or keeps it when it comes with its nonce.
pub(super) fn acquire_lease(app: &str, id: &str, seconds: u64, nonce: Option<&Secret>) -> ApiRequest {
    // The documentation has the time in the body and Fly's own client in the query.
    let call = machines(Method::Post, format!("/apps/{}/machines/{}/lease", escape_segment(app), escape_segment(id)))
        .with_query("ttl", seconds)
        .with_body(json!({ "ttl": seconds, "description": "convexinfra" }));
    with_lease(call, nonce)
}

/// Gives a machine's lease back.
pub(super) fn release_lease(app: &str, id: &str, nonce: &Secret) -> ApiRequest {
    with_lease(
        machines(Method::Delete, format!("/apps/{}/machines/{}/lease", escape_segment(app), escape_segment(id))),
        Some(nonce),
    )
}

/// Orders a certificate for a host.
pub(super) fn request_certificate(app: &str, host: &str) -> ApiRequest {
    machines(Method::Post, format!("/apps/{}/certificates/acme", escape_segment(app))).with_body(json!({ "hostname": host }))
}

/// Looks at the certificate of a host.
pub(super) fn get_certificate(app: &str, host: &str) -> ApiRequest {
    machines(Method::Get, format!("/apps/{}/certificates/{}", escape_segment(app), escape_segment(host)))
}

/// Has the certificate of a host checked anew.
pub(super) fn check_certificate(app: &str, host: &str) -> ApiRequest {
    machines(Method::Post, format!("/apps/{}/certificates/{}/check", escape_segment(app), escape_segment(host)))
}
