//! The table of endpoints of a served control plane, version 1.
//!
//! The router, the OpenAPI document, the paths of the client and the tests that attack a server are made of this table:
//! an endpoint that is added here is served, documented, guarded and attacked.

use super::endpoint::{Endpoint, ParamKind, QueryParam, RequiredScope};
use super::wire::{
    CredentialsDocument, FingerprintKeyDocument, Health, IDEMPOTENCY_KEY, IssuedTokenDocument, LeaseDocument, LeaseRequest,
    OperationEvent, OriginRequest,
};
use super::{
    Capacity, HistoryEntry, HistoryVerification, Lease, LogChunk, MAX_ORIGIN_BYTES, OperationRequest, Preflight,
    ProviderCatalog,
};
use crate::model::{ActualBackend, OperationRecord, ProjectName, Quota, Scope, Snapshot, TokenRecord, TokenRequest};

const PUBLIC: RequiredScope = RequiredScope::Public;
const ANY_TOKEN: RequiredScope = RequiredScope::AnyToken;
const READ: RequiredScope = RequiredScope::Project(Scope::Read);
const APPLY: RequiredScope = RequiredScope::Project(Scope::Apply);
const OPERATOR: RequiredScope = RequiredScope::Operator;

/// The number of last lines of a log.
pub const TAIL: QueryParam = QueryParam {
    name: "tail",
    description: "The number of last lines; 100 when left out.",
    kind: ParamKind::Number { least: 0, most: 100_000 },
};
/// The byte of a log to read on from.
pub const FROM: QueryParam = QueryParam {
    name: "from",
    description: "The byte to read on from, as `next` of an earlier chunk says.",
    kind: ParamKind::Number { least: 0, most: i64::MAX as u64 },
};
/// The number of last entries of a history.
pub const EVENT_LIMIT: QueryParam = QueryParam {
    name: "limit",
    description: "The number of last entries; 50 when left out.",
    kind: ParamKind::Number { least: 0, most: MAX_PAGE },
};
/// The entry of a history before which a page ends.
pub const EVENT_BEFORE: QueryParam = QueryParam {
    name: "before",
    description: "Only entries with a lower `sequence`: the first one of a page asks for the page before it.",
    kind: ParamKind::Number { least: 1, most: i64::MAX as u64 },
};
/// The hash that an entry of a history must have.
pub const EVENT_HEAD: QueryParam = QueryParam {
    name: "head",
    description: "A hash that was noted, such as `head` of an earlier verification; one entry must have it.",
    kind: ParamKind::Hash,
};
/// The number of last operations.
pub const OPERATION_LIMIT: QueryParam = QueryParam {
    name: "limit",
    description: "The number of last operations; 50 when left out.",
    kind: ParamKind::Number { least: 1, most: MAX_PAGE },
};
/// The repository that a client works from.
pub const ORIGIN: QueryParam = QueryParam {
    name: "origin",
    description: "Where the client works from: the git remote, else the folder. Refused when the project belongs to another repository.",
    kind: ParamKind::Line { most: MAX_ORIGIN_BYTES },
};
/// The number of entries in one page of a list.
pub const MAX_PAGE: u64 = 1000;

/// The projects.
pub static LIST_PROJECTS: Endpoint =
    Endpoint::get("listProjects", "/v1/projects", ANY_TOKEN, "Lists the projects that the token opens.")
        .responds::<Vec<ProjectName>>(200, "Their names: all of them for an operator, else the token's own.");
/// One project.
pub static GET_PROJECT: Endpoint =
    Endpoint::get("getProject", "/v1/projects/{project}", READ, "Returns one project as it is now: all that a plan needs.")
        .responds::<Snapshot>(200, "The project. One that is not known yet has no backends.");
/// The key of fingerprints of secrets.
pub static GET_FINGERPRINT_KEY: Endpoint = Endpoint::get(
    "getFingerprintKey",
    "/v1/projects/{project}/fingerprint-key",
    APPLY,
    "Returns the key under which secrets of the project are fingerprinted.",
)
.responds::<FingerprintKeyDocument>(200, "The key. It lets its holder test guesses of secrets against a plan.");
/// The origin of a project.
pub static PUT_ORIGIN: Endpoint =
    Endpoint::put("putOrigin", "/v1/projects/{project}/origin", APPLY, "Records the repository that the project belongs to.")
        .fenced()
        .with_body::<OriginRequest>()
        .responds_empty(204, "It is recorded, or the project belongs to another one and stays there.");

/// The holder of a lease.
pub static GET_LEASE: Endpoint =
    Endpoint::get("getLease", "/v1/projects/{project}/lease", READ, "Returns the holder of the project's lease.")
        .responds::<LeaseDocument>(200, "The holder; null when the lease is free.");
/// Acquires a lease.
pub static ACQUIRE_LEASE: Endpoint = Endpoint::post(
    "acquireLease",
    "/v1/projects/{project}/lease",
    APPLY,
    "Acquires the lease: the right to change the project.",
)
.with_body::<LeaseRequest>()
.responds::<Lease>(201, "The lease. It lasts 15 s, unless it is renewed.")
.with_errors(&[409]);
/// Renews a lease.
pub static RENEW_LEASE: Endpoint =
    Endpoint::put("renewLease", "/v1/projects/{project}/lease", APPLY, "Renews the lease for another 15 s.")
        .fenced()
        .responds_empty(204, "It is renewed.");
/// Releases a lease.
pub static RELEASE_LEASE: Endpoint =
    Endpoint::delete("releaseLease", "/v1/projects/{project}/lease", APPLY, "Releases the lease.")
        .fenced()
        .responds_empty(204, "It is released, or was lost before.");

/// Looks at what an operation depends on.
pub static PREFLIGHT: Endpoint = Endpoint::post(
    "preflight",
    "/v1/projects/{project}/preflight",
    APPLY,
    "Looks at the databases and buckets that an operation depends on, and changes nothing.",
)
.with_body::<OperationRequest>()
.responds::<Preflight>(200, "What is in the way, and what is worth a look.");

/// Starts an operation. Removing a backend requires the scope `destroy`, which the authority checks by the body.
pub static START_OPERATION: Endpoint = Endpoint::post(
    "startOperation",
    "/v1/projects/{project}/operations",
    APPLY,
    "Starts an operation. Sending the same step again finds the same operation.",
)
.fenced()
.with_headers(&[(IDEMPOTENCY_KEY, "The step as `PLAN/STEP`. When present, it has to equal the one in the body.")])
.with_body::<OperationRequest>()
.responds::<OperationRecord>(202, "It is accepted, and goes on without its client.")
.responds::<OperationRecord>(200, "It has ended already.");
/// The operations of a project.
pub static LIST_OPERATIONS: Endpoint =
    Endpoint::get("listOperations", "/v1/projects/{project}/operations", READ, "Lists the last operations of the project.")
        .with_query(&[OPERATION_LIMIT])
        .responds::<Vec<OperationRecord>>(200, "The operations, oldest first.");
/// One operation.
pub static GET_OPERATION: Endpoint =
    Endpoint::get("getOperation", "/v1/projects/{project}/operations/{operation}", READ, "Returns one operation.")
        .responds::<OperationRecord>(200, "The operation.")
        .with_errors(&[404]);
/// The events of an operation.
pub static WATCH_OPERATION: Endpoint = Endpoint::get(
    "watchOperation",
    "/v1/projects/{project}/operations/{operation}/events",
    READ,
    "Streams the progress of an operation, and then its end.",
)
.with_headers(&[("last-event-id", "The `id` of the last event that was seen; what came after it is sent.")])
.responds_events::<OperationEvent>("Events, each with a number as its `id`; a comment every 10 s in between.")
.with_errors(&[404]);

/// The backends of a project.
pub static LIST_BACKENDS: Endpoint =
    Endpoint::get("listBackends", "/v1/projects/{project}/backends", READ, "Lists the backends of the project.")
        .responds::<Vec<ActualBackend>>(200, "The backends as they are now.");
/// One backend.
pub static GET_BACKEND: Endpoint =
    Endpoint::get("getBackend", "/v1/projects/{project}/backends/{backend}", READ, "Returns one backend.")
        .responds::<ActualBackend>(200, "The backend as it is now.")
        .with_errors(&[404]);
/// The credentials of a backend.
pub static GET_CREDENTIALS: Endpoint = Endpoint::get(
    "getCredentials",
    "/v1/projects/{project}/backends/{backend}/credentials",
    APPLY,
    "Returns the URLs of a backend and its admin key.",
)
.with_query(&[ORIGIN])
.responds::<CredentialsDocument>(200, "Its URLs and its admin key.")
.with_errors(&[404, 409, 422]);
/// The log of a backend.
pub static READ_LOGS: Endpoint =
    Endpoint::get("readLogs", "/v1/projects/{project}/backends/{backend}/logs", READ, "Returns a chunk of a backend's log.")
        .with_query(&[TAIL, FROM])
        .responds::<LogChunk>(200, "The chunk, and where to read on.")
        .with_errors(&[404, 422]);

/// The history of a project.
pub static LIST_EVENTS: Endpoint =
    Endpoint::get("listEvents", "/v1/projects/{project}/events", READ, "Lists the history of the project.")
        .with_query(&[EVENT_LIMIT, EVENT_BEFORE])
        .responds::<Vec<HistoryEntry>>(200, "The entries, oldest first.");
/// Verifies the history of a project.
pub static CHECK_EVENTS: Endpoint = Endpoint::get(
    "checkEvents",
    "/v1/projects/{project}/events/check",
    READ,
    "Verifies that the project's history is as it was written.",
)
.with_query(&[EVENT_HEAD])
.responds::<HistoryVerification>(200, "The outcome of the verification.");
/// The history of the control plane itself.
pub static LIST_ALL_EVENTS: Endpoint =
    Endpoint::get("listAllEvents", "/v1/events", OPERATOR, "Lists the history of the control plane itself.")
        .with_query(&[EVENT_LIMIT, EVENT_BEFORE])
        .responds::<Vec<HistoryEntry>>(200, "The entries, oldest first.");
/// Verifies the history of the control plane itself.
pub static CHECK_ALL_EVENTS: Endpoint = Endpoint::get(
    "checkAllEvents",
    "/v1/events/check",
    OPERATOR,
    "Verifies that the history of the control plane itself is as it was written.",
)
.with_query(&[EVENT_HEAD])
.responds::<HistoryVerification>(200, "The outcome of the verification.");

/// The quota of a project.
pub static GET_QUOTA: Endpoint =
    Endpoint::get("getQuota", "/v1/projects/{project}/quota", READ, "Returns the quota that holds for the project.")
        .responds::<Quota>(200, "Its own, else the default one.");
/// Sets the quota of a project.
pub static PUT_QUOTA: Endpoint = Endpoint::put(
    "putQuota",
    "/v1/projects/{project}/quota",
    RequiredScope::Project(Scope::Operator),
    "Sets the quota of the project.",
)
.with_body::<Quota>()
.responds_empty(204, "It holds from now on.");
/// The default quota.
pub static GET_DEFAULT_QUOTA: Endpoint =
    Endpoint::get("getDefaultQuota", "/v1/quota", OPERATOR, "Returns the quota of projects without their own.")
        .responds::<Quota>(200, "The quota.");
/// Sets the default quota.
pub static PUT_DEFAULT_QUOTA: Endpoint =
    Endpoint::put("putDefaultQuota", "/v1/quota", OPERATOR, "Sets the quota of projects without their own.")
        .with_body::<Quota>()
        .responds_empty(204, "It holds from now on.");

/// The tokens.
pub static LIST_TOKENS: Endpoint =
    Endpoint::get("listTokens", "/v1/tokens", OPERATOR, "Lists every token, expired and revoked ones included.")
        .responds::<Vec<TokenRecord>>(200, "Their records, oldest first. The tokens themselves are not kept.");
/// Issues a token.
pub static CREATE_TOKEN: Endpoint = Endpoint::post("createToken", "/v1/tokens", OPERATOR, "Issues a token.")
    .with_body::<TokenRequest>()
    .responds::<IssuedTokenDocument>(201, "The token, which is shown this once.");
/// Revokes a token.
pub static REVOKE_TOKEN: Endpoint = Endpoint::delete("revokeToken", "/v1/tokens/{token}", OPERATOR, "Revokes a token.")
    .responds::<TokenRecord>(200, "It opens nothing any more. Revoking it again changes nothing.")
    .with_errors(&[404]);

/// The catalog of providers.
pub static GET_CATALOG: Endpoint =
    Endpoint::get("getCatalog", "/v1/catalog", ANY_TOKEN, "Returns providers, regions, sizes, releases and prices.")
        .responds::<ProviderCatalog>(200, "The catalog; what is not known is null.");
/// The capacity of the control plane.
pub static GET_CAPACITY: Endpoint =
    Endpoint::get("getCapacity", "/v1/capacity", OPERATOR, "Returns what is used and what is left.")
        .responds::<Capacity>(200, "The capacity.");

/// Liveness.
pub static GET_HEALTH: Endpoint =
    Endpoint::get("getHealth", "/healthz", PUBLIC, "Says whether the process answers.").responds::<Health>(200, "It does.");
/// Readiness.
pub static GET_READINESS: Endpoint =
    Endpoint::get("getReadiness", "/readyz", PUBLIC, "Says whether the server can work.")
        .responds::<Health>(200, "It can. While it shuts down, or when its store does not answer, it cannot: 503.");
/// The OpenAPI document.
pub static GET_CONTRACT: Endpoint = Endpoint::get("getContract", "/openapi.json", PUBLIC, "Returns this very document.")
    .with_headers(&[("if-none-match", "The `ETag` of a copy; 304 when it is the same.")])
    .responds::<serde_json::Map<String, serde_json::Value>>(200, "The OpenAPI document.")
    .responds_empty(304, "The copy is the same.");

/// Every endpoint.
pub static ALL: [&Endpoint; 33] = [
    &LIST_PROJECTS,
    &GET_PROJECT,
    &GET_FINGERPRINT_KEY,
    &PUT_ORIGIN,
    &GET_LEASE,
    &ACQUIRE_LEASE,
    &RENEW_LEASE,
    &RELEASE_LEASE,
    &PREFLIGHT,
    &START_OPERATION,
    &LIST_OPERATIONS,
    &GET_OPERATION,
    &WATCH_OPERATION,
    &LIST_BACKENDS,
    &GET_BACKEND,
    &GET_CREDENTIALS,
    &READ_LOGS,
    &LIST_EVENTS,
    &CHECK_EVENTS,
    &LIST_ALL_EVENTS,
    &CHECK_ALL_EVENTS,
    &GET_QUOTA,
    &PUT_QUOTA,
    &GET_DEFAULT_QUOTA,
    &PUT_DEFAULT_QUOTA,
    &LIST_TOKENS,
    &CREATE_TOKEN,
    &REVOKE_TOKEN,
    &GET_CATALOG,
    &GET_CAPACITY,
    &GET_HEALTH,
    &GET_READINESS,
    &GET_CONTRACT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_places_are_unique_and_names_in_paths_are_known() {
        let mut ids: Vec<_> = ALL.iter().map(|endpoint| endpoint.id).collect();
        let mut places: Vec<_> = ALL.iter().map(|endpoint| (endpoint.path, endpoint.method.as_str())).collect();
        ids.sort_unstable();
        places.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]) && places.windows(2).all(|pair| pair[0] != pair[1]));
        for endpoint in ALL {
            let names: Vec<_> = endpoint.path_params().collect();
            assert!(names.iter().all(|name| ["project", "backend", "operation", "token"].contains(name)), "{}", endpoint.path);
            assert_eq!(names.contains(&"project"), matches!(endpoint.scope, RequiredScope::Project(_)), "{}", endpoint.path);
            assert!(endpoint.responses().any(|response| response.status < 300), "{}", endpoint.id);
        }
    }

    #[test]
    fn segments_take_values_for_names() {
        assert_eq!(GET_BACKEND.path_segments(&["demo", "dev"]), ["v1", "projects", "demo", "backends", "dev"]);
        assert_eq!(GET_HEALTH.path_segments(&[]), ["healthz"]);
    }
}
