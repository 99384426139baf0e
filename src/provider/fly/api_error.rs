//! What a refusal of Fly's Machines API means. One status stands for many situations, so the code in the body counts
//! first and its words after that.
//!
//! Must not do: decide what to do about a refusal.

use serde::Deserialize;

use super::transport::ApiResponse;

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiErrorKind {
    /// The token is no good.
    Unauthorized,
    /// The token has no permission for it, or the resource belongs to another organisation.
    Forbidden,
    /// The organisation may not have more of something, in one region or anywhere.
    Quota,
    /// There is no such thing.
    NotFound,
    /// There is no such app, or the node that was asked does not know it yet.
    AppNotFound,
    /// The name of an app is in use somewhere in the world.
    NameTaken,
    /// The app has a machine of that name, perhaps with this id.
    MachineNameTaken(Option<String>),
    /// No host of the region has room.
    RegionFull,
    /// The one host that the volume is on has no room, or takes no work.
    HostFull,
    /// The volume is bound to a machine.
    VolumeBound,
    /// The volume is not there.
    VolumeNotFound,
    /// Another run or user holds the machine's lease.
    LeaseHeld,
    /// Another client changed the machine meanwhile, or its secrets are not as new as they have to be.
    Conflict,
    /// The machine is in a state from which it cannot be started.
    WrongState,
    /// Too many requests; perhaps with how many seconds to wait.
    RateLimited(Option<u64>),
    /// Whether it was done is not known.
    Uncertain,
    /// Anything else: it was not done, and asking again will not help.
    Other,
}

impl ApiErrorKind {
    /// Returns whether the thing that was asked about is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound | Self::AppNotFound)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Option<String>,
    message: Option<String>,
    /// A code; others repeat the HTTP status here, as a number.
    status: Option<serde_json::Value>,
}

fn body(reply: &ApiResponse) -> Body {
    serde_json::from_str(&reply.body).unwrap_or_default()
}

/// How much of an answer is shown.
const MAX_MESSAGE_CHARS: usize = 300;

/// The words of a refusal, on one line.
pub(super) fn error_message(reply: &ApiResponse) -> String {
    let body = body(reply);
    let text = body.error.or(body.message).unwrap_or_else(|| reply.body.clone());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().filter(|character| !character.is_control()).take(MAX_MESSAGE_CHARS).collect();
    if short.is_empty() { format!("status {}", reply.status) } else { short }
}

/// What a refusal means.
pub(super) fn classify(reply: &ApiResponse) -> ApiErrorKind {
    let status = body(reply).status;
    let code = status.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    let words = error_message(reply).to_lowercase();
    let says = |text: &str| words.contains(text);
    match code {
        "insufficient_capacity" => return ApiErrorKind::RegionFull,
        "volume_placement_capacity" => return ApiErrorKind::HostFull,
        "name_taken" => return ApiErrorKind::NameTaken,
        _ => {}
    }
    // These words come with more than one status.
    if says("concurrent update") {
        return ApiErrorKind::Conflict;
    }
    if says("unique machine name") {
        return ApiErrorKind::MachineNameTaken(machine_id(reply));
    }
    match reply.status {
        401 => ApiErrorKind::Unauthorized,
        403 if says("quota") => ApiErrorKind::Quota,
        403 => ApiErrorKind::Forbidden,
        400 | 404 if says("could not find app") || says("app not found") => ApiErrorKind::AppNotFound,
        404 => ApiErrorKind::NotFound,
        400 if says("no capacity") => ApiErrorKind::RegionFull,
        400 if says("volume not found") => ApiErrorKind::VolumeNotFound,
        408 => ApiErrorKind::Uncertain,
        409 if says("no capacity") => ApiErrorKind::RegionFull,
        409 if HOST_FULL.iter().any(|text| says(text)) => ApiErrorKind::HostFull,
        409 if LEASE_HELD.iter().any(|text| format!(" {words}").contains(text)) => ApiErrorKind::LeaseHeld,
        409 | 422 if NAME_TAKEN.iter().any(|text| says(text)) => ApiErrorKind::NameTaken,
        412 if says("bound to machine") => ApiErrorKind::VolumeBound,
        412 if says("insufficient resources") => ApiErrorKind::HostFull,
        412 if says("version") || says("secret") => ApiErrorKind::Conflict,
        412 if says("from current state") => ApiErrorKind::WrongState,
        422 if says("could not find a candidate host") => ApiErrorKind::RegionFull,
        429 => ApiErrorKind::RateLimited(reply.headers.get("retry-after").and_then(|seconds| seconds.trim().parse().ok())),
        500.. => ApiErrorKind::Uncertain,
        _ => ApiErrorKind::Other,
    }
}

/// The words that say that an app's name is taken.
const NAME_TAKEN: [&str; 5] = ["been taken", "already taken", "uniqueness constraint", "already exists", "already in use"];

/// How hosts say that they are full or closed.
const HOST_FULL: [&str; 6] = [
    "could not reserve resource",
    "insufficient ips available",
    "insufficient resources available",
    "insufficient memory",
    "governor policy blocked",
    "temporarily disabled",
];

/// How the API says that another holder has a lease. `release` and `please` are words of other refusals.
const LEASE_HELD: [&str; 4] = [" lease currently held", " lease is currently held", " lease is held", " lease held"];

/// The id in `machine ID <id> already exists with name "<name>"`.
fn machine_id(reply: &ApiResponse) -> Option<String> {
    let (_, rest) = reply.body.split_once("machine ID ")?;
    let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn reply(status: u16, body: &str) -> ApiResponse {
        ApiResponse { status, headers: BTreeMap::new(), body: body.to_owned() }
    }

    #[test]
    fn error_kinds_are_distinguished() {
        let error = |text: &str| serde_json::json!({ "error": text }).to_string();
        let table: [(u16, String, ApiErrorKind); 32] = [
            (401, error("Authenticate: token validation error"), ApiErrorKind::Unauthorized),
            (403, error("unauthorized"), ApiErrorKind::Forbidden),
            (403, error("organization acme is using 4096 MB of memory in dfw which is over the allowed quota"), ApiErrorKind::Quota),
            (404, "app not found".to_owned(), ApiErrorKind::AppNotFound),
            (400, error("no capacity"), ApiErrorKind::RegionFull),
            (400, error("invalid_argument: volume not found"), ApiErrorKind::VolumeNotFound),
            (400, error("invalid config.guest.memory_mb, minimum required 4096 MiB"), ApiErrorKind::Other),
            (408, error("deadline_exceeded: machine failed to reach desired state"), ApiErrorKind::Uncertain),
            (409, error("aborted: no capacity"), ApiErrorKind::RegionFull),
            (409, error("aborted: could not reserve resource for machine: insufficient CPUs available to fulfill request"), ApiErrorKind::HostFull),
            (409, error("aborted: insufficient IPs available"), ApiErrorKind::HostFull),
            (409, error("governor policy blocked start"), ApiErrorKind::HostFull),
            (409, error("deploys to this host are temporarily disabled"), ApiErrorKind::HostFull),
            (409, error("aborted: machine ID 1 lease currently held by a@b.c, expires at 2026-01-01T00:00:00Z"), ApiErrorKind::LeaseHeld),
            (409, error("lease held"), ApiErrorKind::LeaseHeld),
            (409, error("deploys to this host are temporarily disabled, please wait for the release of a machine"), ApiErrorKind::HostFull),
            (409, error("please release the thing first"), ApiErrorKind::Other),
            (412, error("failed_precondition: min secrets not satisfied"), ApiErrorKind::Conflict),
            (412, error("failed_precondition: unable to start machine from current state: 'created'"), ApiErrorKind::WrongState),
            (409, error("aborted: machine update failed due to concurrent update"), ApiErrorKind::Conflict),
            (409, error("already_exists: unique machine name violation, machine ID 9080e6f3a12345 already exists with name \"convex\""), ApiErrorKind::MachineNameTaken(Some("9080e6f3a12345".to_owned()))),
            (409, error("Name has already been taken"), ApiErrorKind::NameTaken),
            (412, error("failed_precondition: volume is currently bound to machine: 1234"), ApiErrorKind::VolumeBound),
            (412, error("failed_precondition: current version is not the one given"), ApiErrorKind::Conflict),
            (412, r#"{"status":"volume_placement_capacity","error":"insufficient resources to create new machine with existing volume 'vol_1'"}"#.to_owned(), ApiErrorKind::HostFull),
            (422, r#"{"status":"insufficient_capacity","error":"could not find a candidate host"}"#.to_owned(), ApiErrorKind::RegionFull),
            (422, r#"{"status":"name_taken","error":"Validation failed: Name has already been taken"}"#.to_owned(), ApiErrorKind::NameTaken),
            (422, error("uniqueness constraint violated"), ApiErrorKind::NameTaken),
            (422, error("Validation failed: Name under 63 chars using numbers, lowercase letters and dashes"), ApiErrorKind::Other),
            (503, String::new(), ApiErrorKind::Uncertain),
            (500, "<html>".to_owned(), ApiErrorKind::Uncertain),
            (409, r#"{"status":409,"error":"app already exists"}"#.to_owned(), ApiErrorKind::NameTaken),
        ];
        for (status, body, meaning) in table {
            assert_eq!(classify(&reply(status, &body)), meaning, "{status} {body}");
        }
    }

    #[test]
    fn a_retry_after_counts_when_it_is_a_number() {
        let mut limited = reply(429, "");
        assert_eq!(classify(&limited), ApiErrorKind::RateLimited(None));
        limited.headers.insert("retry-after".to_owned(), "7".to_owned());
        assert_eq!(classify(&limited), ApiErrorKind::RateLimited(Some(7)));
        limited.headers.insert("retry-after".to_owned(), "Wed, 21 Oct 2026 07:28:00 GMT".to_owned());
        assert_eq!(classify(&limited), ApiErrorKind::RateLimited(None));
    }

    #[test]
    fn words_fit_on_a_line_and_have_an_end() {
        assert_eq!(error_message(&reply(500, "")), "status 500");
        assert_eq!(error_message(&reply(400, r#"{"message":"a\n b"}"#)), "a b");
        assert_eq!(error_message(&reply(400, &"x".repeat(10_000))).len(), MAX_MESSAGE_CHARS);
    }
}
