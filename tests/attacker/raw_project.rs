//! A project as a raw client drives it: tokens, a lease, operations, and what is recorded.

use serde_json::{Value, json};

use super::Target;
use super::raw::{RawRequest, RawResponse};
use fixture::wait_until;

/// One project on the server of a target, with tokens of its own.
pub(super) struct Project<'a> {
    pub(super) target: &'a Target,
    pub(super) name: String,
    pub(super) apply: String,
    pub(super) destroy: String,
    pub(super) fence: u64,
    pub(super) steps: std::cell::Cell<u32>,
}

impl<'a> Project<'a> {
    pub(super) fn new(target: &'a Target, name: String) -> Self {
        let token = |scope: &str| {
            let body = json!({ "scope": scope, "project": name, "note": "policy" });
            // Commands send a token only to where it was issued.
            let request = RawRequest::new("POST", "/v1/tokens").host(&target.address.to_string());
            let made = target.send("operator", request.json(&body));
            assert_eq!(made.status, 201, "{made:?}");
            made.json()["token"].as_str().unwrap().to_owned()
        };
        let (apply, destroy) = (token("apply"), token("destroy"));
        let project = Self { target, name, apply, destroy, fence: 0, steps: 0.into() };
        let holder = json!({ "user": "mallory", "host": "elsewhere", "process": 1 });
        let lease = project.send(&project.apply, "POST", "lease", Some(&holder));
        assert_eq!(lease.status, 201, "{lease:?}");
        Self { fence: lease.json()["fence"].as_u64().unwrap(), ..project }
    }

    pub(super) fn send(&self, token: &str, method: &str, rest: &str, body: Option<&Value>) -> RawResponse {
        let request = RawRequest::new(method, &format!("/v1/projects/{}/{rest}", self.name)).token(Some(token));
        let request = if self.fence > 0 { request.header("convexinfra-fence", &self.fence.to_string()) } else { request };
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send(self.target.address)
    }

    pub(super) fn operate(&self, token: &str, backend: &str, origin: Option<&str>, work: &Value) -> RawResponse {
        self.steps.set(self.steps.get() + 1);
        let step = json!({ "plan": "raw", "step": format!("s{}", self.steps.get()) });
        let mut body = json!({ "step": step, "backend": backend, "work": work });
        if let Some(origin) = origin {
            body["origin"] = json!(origin);
        }
        self.send(token, "POST", "operations", Some(&body))
    }

    /// What is recorded, without what time changes.
    pub(super) fn recorded(&self) -> Value {
        let snapshot = self.send(&self.apply, "GET", "backends", None).json();
        Value::Array(
            snapshot
                .as_array()
                .unwrap()
                .iter()
                .map(|b| json!([b["name"], b["recorded"], b["phase"], b["generation"]]))
                .collect(),
        )
    }

    /// Waits until nothing is being done any more.
    pub(super) fn settle(&self) {
        let is_running = |operation: &Value| operation["state"] == "running";
        wait_until("all operations have ended", || {
            !self.send(&self.apply, "GET", "operations", None).json().as_array().unwrap().iter().any(is_running)
        });
    }

    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    /// Keeps the lease.
    pub(super) fn renew(&self) {
        let renewed = self.send(&self.apply, "PUT", "lease", None);
        assert_eq!(renewed.status, 204, "{renewed:?}");
    }

    pub(super) fn release(&self) {
        assert_eq!(self.send(&self.apply, "DELETE", "lease", None).status, 204);
    }
}

pub(super) fn manifest(project: &str, lines: &str, beside: &str) -> String {
    format!("project = \"{project}\"\n\n[backends.dev]\n{lines}\n{beside}")
}

/// The specification of `dev` in a manifest, as it goes over the wire.
pub(super) fn lowered(text: &str) -> Value {
    let parsed = convexinfra::manifest::parse(text, None).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    serde_json::to_value(&parsed.desired.backends.values().next().unwrap().spec).unwrap()
}
