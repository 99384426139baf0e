//! What is said to every control plane, in this order.

use std::time::Duration;

use convexinfra::manifest;
use serde_json::{Value, json};

use super::conversation::Conversation;
use super::policies;
use fixture::wait_until;

pub(super) const PROJECT: &str = "/v1/projects/gremlin";

/// The tokens of the conversation.
pub(super) struct Tokens {
    pub(super) operator: String,
    pub(super) read: String,
    pub(super) apply: String,
    pub(super) destroy: String,
    pub(super) other: String,
}

/// A specification as the manifest makes it.
fn spec(lines: &str) -> Value {
    let text =
        format!("project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nsimulated = {{ listen = false }}\n{lines}");
    let parsed = manifest::parse(&text, None).unwrap_or_else(|problems| panic!("{problems:?}"));
    serde_json::to_value(&parsed.desired.backends.values().next().unwrap().spec).unwrap()
}

pub(super) fn put(step: &str, backend: &str, lines: &str) -> Value {
    json!({
        "step": { "plan": "p1", "step": step },
        "backend": backend,
        "work": { "kind": "put", "spec": spec(lines), "secrets": {} },
    })
}

pub(super) fn remove(step: &str, backend: &str) -> Value {
    json!({ "step": { "plan": "p2", "step": step }, "backend": backend, "work": { "kind": "remove" } })
}

fn holder(user: &str) -> Value {
    json!({ "user": user, "host": "desk", "process": 1 })
}

/// The whole of it.
pub(super) fn all(talk: &mut Conversation<'_>) {
    strangers(talk);
    let tokens = tokens(talk);
    scopes(talk, &tokens);
    let fence = leases(talk, &tokens);
    operations(talk, &tokens, &fence);
    policies::all(talk, &tokens, &fence);
    quotas(talk, &tokens, &fence);
    expiry(talk, &tokens, &fence);
    histories(talk, &tokens, &fence);
    revocation(talk, &tokens);
}

fn strangers(talk: &mut Conversation<'_>) {
    talk.send(200, "GET", "/healthz", None, None);
    talk.send(200, "GET", "/readyz", None, None);
    talk.send(200, "GET", "/openapi.json", None, None);
    // Well shaped, with a checksum that fits, and known to nobody.
    let unknown = "cvxi_aaaaaaaaaa_0000000000000000000000000000000000000000000000000000000000000000";
    let body = unknown.strip_prefix("cvxi_").unwrap();
    let unknown = format!("{unknown}{:08x}", crc32fast::hash(body.as_bytes()));
    for path in ["/v1/projects", PROJECT, "/v1/tokens", "/v1/events"] {
        talk.send(401, "GET", path, None, None);
        talk.send(401, "GET", path, Some("something"), None);
        talk.send(401, "GET", path, Some(&unknown), None);
    }
    talk.send_with(401, "GET", PROJECT, None, &[("authorization", "Basic eDp5")], None);
    talk.send(404, "GET", "/v1/nothing", None, None);
    talk.send(404, "GET", "/internal", None, None);
    talk.send(405, "DELETE", "/healthz", None, None);
    talk.send(401, "POST", &format!("{PROJECT}/lease"), None, Some(&holder("ann")));
}

fn tokens(talk: &mut Conversation<'_>) -> Tokens {
    let operator = talk.operator();
    // A server that was just initialised has a default of its own.
    talk.send(204, "PUT", "/v1/quota", Some(&operator), Some(&json!({})));
    let mut make = |project: &str, scope: &str| {
        let request = json!({ "project": project, "scope": scope, "note": format!("{scope} in {project}"), "ttl": "1d" });
        let issued = talk.send(201, "POST", "/v1/tokens", Some(&operator), Some(&request));
        let token = issued["token"].as_str().unwrap().to_owned();
        talk.call(token.split('_').nth(1).unwrap(), &format!("<{scope} {project}>"));
        // The record was made before the id had its word.
        let line = talk.record.pop().unwrap().replace(token.split('_').nth(1).unwrap(), "<id>");
        talk.record.push(line);
        token
    };
    let read = make("gremlin", "read");
    let apply = make("gremlin", "apply");
    let destroy = make("gremlin", "destroy");
    let other = make("other", "apply");
    for request in [
        json!({ "project": "gremlin", "scope": "operator" }),
        json!({ "scope": "read" }),
        json!({ "project": "gremlin", "scope": "read", "note": "two\nlines" }),
    ] {
        talk.send(422, "POST", "/v1/tokens", Some(&operator), Some(&request));
    }
    for request in
        [json!({ "project": "gremlin" }), json!({ "project": "No!", "scope": "read" }), json!({ "scopes": 1 }), json!([])]
    {
        talk.send(400, "POST", "/v1/tokens", Some(&operator), Some(&request));
    }
    let json_type = ("content-type", "application/json");
    talk.exchange(400, "POST", "/v1/tokens", Some(&operator), &[json_type], Some(b"{"));
    talk.exchange(400, "POST", "/v1/tokens", Some(&operator), &[json_type], Some(b"{} {}"));
    talk.exchange(415, "POST", "/v1/tokens", Some(&operator), &[("content-type", "text/plain")], Some(b"{}"));
    talk.exchange(413, "POST", "/v1/tokens", Some(&operator), &[json_type], Some(&vec![b' '; (4 << 20) + 1]));
    Tokens { operator, read, apply, destroy, other }
}

fn scopes(talk: &mut Conversation<'_>, tokens: &Tokens) {
    let Tokens { operator, read, apply, destroy, other } = tokens;
    for token in [operator, read, other] {
        talk.send(200, "GET", "/v1/projects", Some(token), None);
    }
    talk.send(200, "GET", PROJECT, Some(read), None);
    talk.send(403, "GET", PROJECT, Some(other), None);
    talk.send(400, "GET", "/v1/projects/No!", Some(read), None);
    talk.send(400, "GET", &format!("{PROJECT}?x=1"), Some(read), None);
    talk.send(403, "GET", &format!("{PROJECT}/fingerprint-key"), Some(read), None);
    talk.send(200, "GET", &format!("{PROJECT}/fingerprint-key"), Some(apply), None);
    for (path, body) in
        [("/v1/tokens", json!({ "project": "gremlin", "scope": "read" })), ("/v1/tokens", json!({ "scope": "operator" }))]
    {
        talk.send(403, "POST", path, Some(destroy), Some(&body));
    }
    talk.send(403, "GET", "/v1/tokens", Some(destroy), None);
    talk.send(403, "GET", "/v1/events", Some(destroy), None);
    talk.send(403, "POST", &format!("{PROJECT}/lease"), Some(read), Some(&holder("ann")));
}

fn leases(talk: &mut Conversation<'_>, tokens: &Tokens) -> String {
    let (path, apply) = (format!("{PROJECT}/lease"), Some(tokens.apply.as_str()));
    talk.send(200, "GET", &path, apply, None);
    let lease = talk.send(201, "POST", &path, apply, Some(&holder("ann")));
    let fence = lease["fence"].to_string();
    talk.send(409, "POST", &path, Some(&tokens.destroy), Some(&holder("bob")));
    talk.send(400, "POST", &path, apply, Some(&holder("two\nlines")));
    // The same project, however its name is written.
    talk.send(409, "POST", "/v1/projects/%67remlin/lease", Some(&tokens.destroy), Some(&holder("bob")));
    talk.send(200, "GET", "/v1/projects/greml%69n/lease", Some(&tokens.read), None);
    talk.send(403, "GET", "/v1/projects/%67remlin", Some(&tokens.other), None);
    talk.send(200, "GET", &path, Some(&tokens.read), None);
    talk.send_with(204, "PUT", &path, apply, &[("convexinfra-fence", &fence)], None);
    talk.send_with(409, "PUT", &path, apply, &[("convexinfra-fence", "99")], None);
    talk.send_with(400, "PUT", &path, apply, &[("convexinfra-fence", "x")], None);
    talk.send(400, "PUT", &path, apply, None);
    let origin = json!({ "origin": "https://git.example.com/gremlin", "claim": "if_unclaimed" });
    let fenced = [("convexinfra-fence", fence.as_str())];
    talk.send_with(204, "PUT", &format!("{PROJECT}/origin"), apply, &fenced, Some(&origin));
    talk.send_with(409, "PUT", &format!("{PROJECT}/origin"), apply, &[("convexinfra-fence", "99")], Some(&origin));
    talk.send(200, "GET", PROJECT, Some(&tokens.read), None);
    fence
}

fn operations(talk: &mut Conversation<'_>, tokens: &Tokens, fence: &str) {
    let path = format!("{PROJECT}/operations");
    let (apply, fenced) = (Some(tokens.apply.as_str()), [("convexinfra-fence", fence)]);
    talk.send_with(403, "POST", &path, Some(&tokens.read), &fenced, Some(&put("a", "dev", "")));
    talk.send_with(409, "POST", &path, apply, &[("convexinfra-fence", "99")], Some(&put("a", "dev", "")));
    let first = talk.send_with(200, "POST", &path, apply, &fenced, Some(&put("a", "dev", "")));
    let again = talk.send_with(200, "POST", &path, apply, &fenced, Some(&put("a", "dev", "")));
    assert_eq!(first["id"], again["id"]);
    let one = format!("{path}/{}", first["id"].as_str().unwrap());
    talk.send(200, "GET", &one, Some(&tokens.read), None);
    talk.send(404, "GET", &format!("{path}/12345"), Some(&tokens.read), None);
    let events = talk.exchange(200, "GET", &format!("{one}/events"), Some(&tokens.read), &[], None);
    assert!(events.content.starts_with("text/event-stream") && events.text.contains("\"type\":\"ended\""), "{}", events.text);
    talk.exchange(200, "GET", &format!("{one}/events"), Some(&tokens.read), &[("last-event-id", "7")], None);
    talk.exchange(400, "GET", &format!("{one}/events"), Some(&tokens.read), &[("last-event-id", "x")], None);
    let resources = "resources = { cpus = 1, memory = \"2 GiB\", disk = \"10 GiB\" }";
    talk.send_with(200, "POST", &path, apply, &fenced, Some(&put("b", "staging", &format!("protected = true\n{resources}"))));
    let wrong = [("convexinfra-fence", fence), ("idempotency-key", "p1/other")];
    talk.send_with(400, "POST", &path, apply, &wrong, Some(&put("c", "dev", "")));
    let mut unknown = put("c", "dev", "");
    unknown["work"]["spec"]["provider"] = "red".into();
    talk.send_with(400, "POST", &path, apply, &fenced, Some(&unknown));
    let mut misspelt = put("c", "dev", "");
    misspelt["work"]["spec"]["resources"] = json!({ "cpu": 4 });
    talk.send_with(400, "POST", &path, apply, &fenced, Some(&misspelt));
    unknown["work"]["kind"] = "paint".into();
    talk.send_with(400, "POST", &path, apply, &fenced, Some(&unknown));
    talk.send_with(403, "POST", &path, apply, &fenced, Some(&remove("a", "dev")));
    talk.send_with(422, "POST", &path, Some(&tokens.destroy), &fenced, Some(&remove("b", "staging")));
    talk.send(409, "GET", &format!("{PROJECT}/backends/dev/credentials"), apply, None);
    talk.send(403, "GET", &format!("{PROJECT}/backends/dev/credentials"), Some(&tokens.read), None);
    talk.send(404, "GET", &format!("{PROJECT}/backends/none/credentials"), apply, None);
    talk.send(200, "GET", &format!("{PROJECT}/backends/dev"), Some(&tokens.read), None);
    talk.send(404, "GET", &format!("{PROJECT}/backends/none"), Some(&tokens.read), None);
    talk.send_with(200, "POST", &path, Some(&tokens.destroy), &fenced, Some(&remove("c", "dev")));
    talk.send_with(200, "POST", &path, Some(&tokens.destroy), &fenced, Some(&remove("d", "never")));
    talk.send(200, "GET", &format!("{PROJECT}/backends"), Some(&tokens.read), None);
    talk.send(200, "GET", &format!("{path}?limit=3"), Some(&tokens.read), None);
    talk.send(200, "GET", "/v1/capacity", Some(&tokens.operator), None);
    talk.send(400, "GET", &format!("{path}?limit=0"), Some(&tokens.read), None);
    talk.send(200, "GET", PROJECT, Some(&tokens.read), None);
}

fn quotas(talk: &mut Conversation<'_>, tokens: &Tokens, fence: &str) {
    let (operator, apply) = (Some(tokens.operator.as_str()), Some(tokens.apply.as_str()));
    let own = format!("{PROJECT}/quota");
    talk.send(200, "GET", &own, Some(&tokens.read), None);
    talk.send(204, "PUT", "/v1/quota", operator, Some(&json!({ "backends": 1 })));
    talk.send(403, "PUT", "/v1/quota", apply, Some(&json!({ "backends": 100 })));
    talk.send(200, "GET", "/v1/quota", operator, None);
    talk.send(200, "GET", &own, Some(&tokens.read), None);
    let path = format!("{PROJECT}/operations");
    let fenced = [("convexinfra-fence", fence)];
    talk.send_with(422, "POST", &path, apply, &fenced, Some(&put("e", "second", "")));
    talk.send(403, "PUT", &own, apply, Some(&json!({ "backends": 100 })));
    talk.send(204, "PUT", &own, operator, Some(&json!({ "backends": 3, "cpus": 2 })));
    talk.send(400, "PUT", &own, operator, Some(&json!({ "monthly_usd": -1 })));
    talk.send_with(200, "POST", &path, apply, &fenced, Some(&put("f", "second", "")));
    talk.send_with(422, "POST", &path, apply, &fenced, Some(&put("g", "third", "resources = { cpus = 4 }")));
    talk.send(200, "GET", PROJECT, Some(&tokens.read), None);
}

fn expiry(talk: &mut Conversation<'_>, tokens: &Tokens, fence: &str) {
    let apply = Some(tokens.apply.as_str());
    let fenced = [("convexinfra-fence", fence)];
    talk.send_with(200, "POST", &format!("{PROJECT}/operations"), apply, &fenced, Some(&put("h", "brief", "ttl = \"1s\"")));
    // No backend is removed while a client holds the lease.
    talk.send_with(204, "DELETE", &format!("{PROJECT}/lease"), apply, &fenced, None);
    let (path, read) = (format!("{PROJECT}/backends/brief"), tokens.read.clone());
    wait_until("the backend whose time is over is gone", || {
        std::thread::sleep(Duration::from_millis(50));
        talk.look(&path, &read).status == 404
    });
    talk.send(200, "GET", &format!("{PROJECT}/backends"), Some(&read), None);
    talk.send_with(409, "PUT", &format!("{PROJECT}/lease"), apply, &fenced, None);
}

fn histories(talk: &mut Conversation<'_>, tokens: &Tokens, _: &str) {
    let events = talk.send(200, "GET", &format!("{PROJECT}/events"), Some(&tokens.read), None);
    let kinds: Vec<_> = events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["token_created", "origin_set", "backend_recorded", "backend_removed", "quota_set"] {
        assert!(kinds.contains(&kind), "{kinds:?} lack {kind}");
    }
    let check = talk.send(200, "GET", &format!("{PROJECT}/events/check"), Some(&tokens.read), None);
    assert_eq!(check["breaks"], json!([]));
    talk.send(200, "GET", "/v1/events", Some(&tokens.operator), None);
    let check = talk.send(200, "GET", "/v1/events/check", Some(&tokens.operator), None);
    assert_eq!(check["breaks"], json!([]));
}

fn revocation(talk: &mut Conversation<'_>, tokens: &Tokens) {
    let operator = Some(tokens.operator.as_str());
    let id = tokens.read.split('_').nth(1).unwrap();
    let path = format!("/v1/tokens/{id}");
    talk.send(403, "DELETE", &path, Some(&tokens.destroy), None);
    let written = format!("%{:02X}{}", id.as_bytes()[0], &id[1..]);
    talk.call(&written, "<id in other letters>");
    talk.send(200, "DELETE", &format!("/v1/tokens/{written}"), operator, None);
    talk.send(200, "DELETE", &path, operator, None);
    talk.send(404, "DELETE", "/v1/tokens/aaaaaaaaaa", operator, None);
    for path in ["/v1/projects", PROJECT] {
        talk.send(401, "GET", path, Some(&tokens.read), None);
    }
    let listed = talk.look("/v1/tokens", &tokens.operator).json();
    let ended = listed.as_array().unwrap().iter().filter(|token| !token["revoked_at"].is_null()).count();
    assert_eq!((listed.as_array().unwrap().len(), ended), (5, 1), "{listed}");
    talk.send(200, "GET", &format!("{PROJECT}/events"), Some(&tokens.apply), None);
    talk.send(200, "GET", &format!("{PROJECT}/events/check"), Some(&tokens.apply), None);
}
