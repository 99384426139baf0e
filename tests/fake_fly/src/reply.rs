//! Answers, and the bodies with which the real API refuses.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is sent back.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: Body,
    pub headers: Vec<(String, String)>,
}

/// The kinds of body that the API sends: it does not always keep to JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Empty,
    Text(String),
    Json(Value),
}

impl Reply {
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, body: Body::Json(body), headers: Vec::new() }
    }

    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    pub fn empty(status: u16) -> Self {
        Self { status, body: Body::Empty, headers: Vec::new() }
    }

    pub fn text(status: u16, text: &str) -> Self {
        Self { status, body: Body::Text(text.to_owned()), headers: Vec::new() }
    }

    /// A refusal with a message and no code.
    pub fn error(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "error": message.into() }))
    }

    /// A refusal with a message and a code in `status`.
    pub fn coded(http: u16, code: &str, message: impl Into<String>) -> Self {
        Self::json(http, json!({ "error": message.into(), "status": code }))
    }

    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A code in front of a message, as Twirp does it, with the status that belongs to it.
pub fn invalid_argument(message: impl std::fmt::Display) -> Reply {
    Reply::error(400, format!("invalid_argument: {message}"))
}

pub fn not_found(what: impl std::fmt::Display) -> Reply {
    Reply::error(404, format!("not_found: {what} not found"))
}

pub fn failed_precondition(message: impl std::fmt::Display) -> Reply {
    Reply::error(412, format!("failed_precondition: {message}"))
}

pub fn aborted(message: impl std::fmt::Display) -> Reply {
    Reply::error(409, format!("aborted: {message}"))
}

pub fn deadline_exceeded(message: impl std::fmt::Display) -> Reply {
    Reply::error(408, format!("deadline_exceeded: {message}"))
}

pub fn unauthenticated() -> Reply {
    Reply::error(401, "Authenticate: token validation error")
}

pub fn forbidden() -> Reply {
    Reply::error(403, "unauthorized")
}

pub fn name_taken() -> Reply {
    Reply::coded(422, "name_taken", "Validation failed: Name has already been taken")
}

pub fn name_not_allowed() -> Reply {
    Reply::error(422, "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes")
}

/// What two creations at the same instant get, without a code.
pub fn name_race() -> Reply {
    Reply::error(422, "uniqueness constraint violated")
}

pub fn machine_name_taken(id: &str, name: &str) -> Reply {
    let message = format!("unique machine name violation, machine ID {id} already exists with name \"{name}\"");
    Reply::error(409, format!("already_exists: {message}"))
}

pub fn lease_held(machine: &str, owner: &str, expires: &str) -> Reply {
    aborted(format!("machine ID {machine} lease currently held by {owner}, expires at {expires}"))
}

pub fn bound(machine: &str) -> Reply {
    failed_precondition(format!("volume is currently bound to machine: {machine}"))
}

/// Nothing of this size fits, each as it was seen in the wild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortage {
    /// 422, with a code: nothing in the region.
    NoCandidateHost,
    /// 409: nothing in the region.
    NoCapacity,
    /// 400, when a volume is made.
    VolumeNoCapacity,
    /// 403: the organization's quota in the region.
    Quota,
    /// 412, with a code: the volume's host is full.
    VolumeHost,
    /// 409: the host is full, on start and update.
    HostCpus,
    /// 409.
    HostAddresses,
    /// 409.
    Governor,
    /// 409.
    DeploysDisabled,
}

impl Shortage {
    pub fn reply(self, region: &str) -> Reply {
        match self {
            Self::NoCandidateHost => Reply::coded(422, "insufficient_capacity", "could not find a candidate host"),
            Self::NoCapacity => aborted("no capacity"),
            Self::VolumeNoCapacity => Reply::error(400, "no capacity"),
            Self::Quota => Reply::error(
                403,
                format!("organization acme is using 16384 MB of memory in {region} which is over the allowed quota"),
            ),
            Self::VolumeHost => Reply::coded(
                412,
                "volume_placement_capacity",
                "insufficient resources to create new machine with existing volume",
            ),
            Self::HostCpus => aborted(
                "could not reserve resource for machine: insufficient CPUs available to fulfill request on the current host",
            ),
            Self::HostAddresses => aborted("insufficient IPs available"),
            Self::Governor => aborted("governor policy blocked start"),
            Self::DeploysDisabled => aborted("deploys to this host are temporarily disabled"),
        }
    }
}

/// A time as Go prints it: `30s`, `1m0s`, `1h0m0s`.
pub fn go_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) if millis > 0 => format!("{millis}ms"),
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// A time as Go writes it or as a number of nanoseconds: both are allowed in requests.
pub fn read_duration(value: &Value) -> Option<Duration> {
    if let Some(nanoseconds) = value.as_u64() {
        return Some(Duration::from_nanos(nanoseconds));
    }
    let mut rest = value.as_str()?;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &rest[letters..];
    }
    Some(total)
}
