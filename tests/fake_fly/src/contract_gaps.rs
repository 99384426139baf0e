//! Where the API's document is wrong or has gaps, one by one, with how it is known.
//!
//! A hole that nothing needs any more is found by the tour of the whole API.

/// Which part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangePart {
    Request,
    /// The reply with this status.
    Reply(u16),
}

/// One known hole.
#[derive(Debug, Clone, Copy)]
pub struct ContractGap {
    /// As the document names it; a star at the end stands for any rest.
    pub operation: &'static str,
    pub place: ExchangePart,
    /// A pointer into the body, `?name` for a parameter, or `(status)`, `(body)`.
    pub at: &'static str,
    pub why: &'static str,
}

const fn request(operation: &'static str, at: &'static str, why: &'static str) -> ContractGap {
    ContractGap { operation, place: ExchangePart::Request, at, why }
}

const fn reply(operation: &'static str, status: u16, at: &'static str, why: &'static str) -> ContractGap {
    ContractGap { operation, place: ExchangePart::Reply(status), at, why }
}

const ACCEPTED_BODY: &str = "the document has no body; the real one answers with what was done";
const STATUSES: &str = "the document leaves out most statuses of errors";
const CODES: &str = "the newer edition has more codes than `unknown` and `insufficient_capacity`";
const NEWER: &str = "the newer edition has this field";
const AUTOSTOP: &str = "described as a text or a boolean, and only the text is allowed; booleans come back";
const WRAPPED: &str = "the document says that leases are bare; they are wrapped in `status` and `data`";

/// All of them.
pub const HOLES: &[ContractGap] = &[
    // What is sent.
    request("POST /apps", "/app_name", "the documentation and drivers in production call the name so"),
    request("POST /apps", "?wait", "Fly's own client asks so to wait until the app is known"),
    request("DELETE /apps/{app_name}", "?force", "the documentation deletes apps with running machines so"),
    request("GET /apps/{app_name}/machines", "?metadata.*", NEWER),
    request("GET /apps/{app_name}/machines", "?include_leases", NEWER),
    request("DELETE /apps/{app_name}/machines/{machine_id}", "?kill", "Fly's own client calls `force` so"),
    request("POST /apps/{app_name}/machines/{machine_id}/lease", "?ttl", "Fly's own client sends it in the query"),
    request("POST /apps/{app_name}/machines/{machine_id}/restart", "?force_stop", "Fly's own client sends it"),
    request("POST /apps/{app_name}/machines", "/config/services/*/autostop", AUTOSTOP),
    request("POST /apps/{app_name}/machines/{machine_id}", "/config/services/*/autostop", AUTOSTOP),
    request("POST /apps/{app_name}/secrets", "/values/*", "a value of `null` takes the secret away"),
    // What comes back when it worked.
    reply("POST /apps", 201, "(body)", ACCEPTED_BODY),
    reply("DELETE /apps/{app_name}/machines/{machine_id}", 200, "(body)", ACCEPTED_BODY),
    reply("POST /apps/{app_name}/machines/{machine_id}/start", 200, "(body)", ACCEPTED_BODY),
    reply("POST /apps/{app_name}/machines/{machine_id}/stop", 200, "(body)", ACCEPTED_BODY),
    reply("POST /apps/{app_name}/machines/{machine_id}/restart", 200, "(body)", ACCEPTED_BODY),
    reply("POST /apps/{app_name}/machines/{machine_id}/cordon", 200, "(body)", ACCEPTED_BODY),
    reply("POST /apps/{app_name}/machines/{machine_id}/uncordon", 200, "(body)", ACCEPTED_BODY),
    reply("DELETE /apps/{app_name}/machines/{machine_id}/lease", 200, "(body)", ACCEPTED_BODY),
    reply("POST /apps/{app_name}/machines/{machine_id}/lease", 201, "/status", WRAPPED),
    reply("POST /apps/{app_name}/machines/{machine_id}/lease", 201, "/data", WRAPPED),
    reply("GET /apps/{app_name}/machines/{machine_id}/lease", 200, "/status", WRAPPED),
    reply("GET /apps/{app_name}/machines/{machine_id}/lease", 200, "/data", WRAPPED),
    reply("GET /apps/{app_name}/machines", 200, "/*/cordoned", NEWER),
    reply("GET /apps/{app_name}/machines", 200, "/*/lease", NEWER),
    reply("GET /apps/{app_name}/machines", 200, "/*/config/services/*/autostop", AUTOSTOP),
    reply("POST /apps/{app_name}/machines", 200, "/cordoned", NEWER),
    reply("POST /apps/{app_name}/machines", 200, "/config/services/*/autostop", AUTOSTOP),
    reply("GET /apps/{app_name}/machines/{machine_id}", 200, "/cordoned", NEWER),
    reply("GET /apps/{app_name}/machines/{machine_id}", 200, "/config/services/*/autostop", AUTOSTOP),
    reply("POST /apps/{app_name}/machines/{machine_id}", 200, "/cordoned", NEWER),
    reply("POST /apps/{app_name}/machines/{machine_id}", 200, "/config/services/*/autostop", AUTOSTOP),
    reply("GET /apps/{app_name}/machines/{machine_id}/versions", 200, "/*/user_config/services/*/autostop", AUTOSTOP),
    reply("GET /apps/{app_name}/ip_assignments", 200, "/ips/*/type", NEWER),
    reply("POST /apps/{app_name}/ip_assignments", 200, "/type", NEWER),
    // What comes back when it did not.
    reply("GET *", 401, "(status)", STATUSES),
    reply("POST *", 401, "(status)", STATUSES),
    reply("PUT *", 401, "(status)", STATUSES),
    reply("DELETE *", 401, "(status)", STATUSES),
    reply("GET *", 403, "(status)", STATUSES),
    reply("POST *", 403, "(status)", STATUSES),
    reply("PUT *", 403, "(status)", STATUSES),
    reply("DELETE *", 403, "(status)", STATUSES),
    reply("GET *", 404, "(status)", STATUSES),
    reply("POST *", 404, "(status)", STATUSES),
    reply("PUT *", 404, "(status)", STATUSES),
    reply("PATCH *", 404, "(status)", STATUSES),
    reply("DELETE *", 404, "(status)", STATUSES),
    reply("GET *", 429, "(status)", STATUSES),
    reply("POST *", 429, "(status)", STATUSES),
    reply("PUT *", 429, "(status)", STATUSES),
    reply("DELETE *", 429, "(status)", STATUSES),
    reply("POST /apps", 422, "(status)", STATUSES),
    reply("POST /apps", 422, "/status", CODES),
    reply("GET /apps", 400, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}", 412, "(status)", STATUSES),
    reply("POST /apps/{app_name}/ip_assignments", 400, "(status)", STATUSES),
    reply("POST /apps/{app_name}/ip_assignments", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/ip_assignments", 422, "(status)", STATUSES),
    reply("POST /apps/{app_name}/volumes", 400, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/volumes/{volume_id}", 400, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/volumes/{volume_id}", 412, "(status)", STATUSES),
    reply("PUT /apps/{app_name}/volumes/{volume_id}/extend", 400, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines", 400, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines", 412, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines", 412, "/status", CODES),
    reply("POST /apps/{app_name}/machines", 422, "(status)", STATUSES),
    reply("GET /apps/{app_name}/machines/{machine_id}", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}", 412, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/machines/{machine_id}", 408, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/machines/{machine_id}", 409, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/machines/{machine_id}", 412, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/start", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/start", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/start", 412, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/stop", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/stop", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/restart", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/restart", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/cordon", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/cordon", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/uncordon", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/uncordon", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/metadata/{key}", 408, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/metadata/{key}", 409, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/machines/{machine_id}/metadata/{key}", 408, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/machines/{machine_id}/metadata/{key}", 409, "(status)", STATUSES),
    reply("POST /apps/{app_name}/machines/{machine_id}/lease", 409, "(status)", STATUSES),
    reply("DELETE /apps/{app_name}/machines/{machine_id}/lease", 409, "(status)", STATUSES),
    reply("GET /apps/{app_name}/machines/{machine_id}/events", 400, "(status)", STATUSES),
    reply("GET /apps/{app_name}/machines/{machine_id}/wait", 408, "(status)", STATUSES),
];
