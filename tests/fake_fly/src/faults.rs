//! Faults that are ordered in advance: which request goes wrong, when, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reply::{Body, Reply, Shortage};

/// What goes wrong with which request. Rules are tried in order, and the first that fits is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The method; none means any.
    #[serde(default)]
    pub method: Option<String>,
    /// The path with its `/v1`: `*` stands for one part, `**` at the end for any number.
    pub path: String,
    /// How many fitting requests are let through first.
    #[serde(default)]
    pub skip: u32,
    /// How many then go wrong; none means all.
    #[serde(default)]
    pub times: Option<u32>,
    /// Whether what was asked for is done all the same.
    #[serde(default)]
    pub effect: Effect,
    /// How long the answer is held back.
    #[serde(default)]
    pub delay_ms: u64,
    pub outcome: Outcome,
}

/// Whether what was asked for is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    #[default]
    Nothing,
    Done,
}

/// What the sender sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// This answer instead of the right one.
    Answer {
        status: u16,
        body: Body,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// The connection ends without an answer.
    Dropped,
    /// The right answer, late.
    Late,
}

impl Fault {
    /// The next fitting request gets this answer, and nothing is done.
    pub fn answer(method: &str, path: &str, reply: Reply) -> Self {
        let outcome = Outcome::Answer { status: reply.status, body: reply.body, headers: reply.headers };
        Self::new(method, path, outcome)
    }

    /// The next fitting request finds no capacity.
    pub fn shortage(method: &str, path: &str, shortage: Shortage) -> Self {
        Self::answer(method, path, shortage.reply("iad"))
    }

    /// The connection ends without an answer, before anything is done.
    pub fn dropped(method: &str, path: &str) -> Self {
        Self::new(method, path, Outcome::Dropped)
    }

    /// What was asked for is done, and the answer is lost.
    pub fn answer_lost(method: &str, path: &str) -> Self {
        Self { effect: Effect::Done, ..Self::new(method, path, Outcome::Dropped) }
    }

    /// The right answer, late.
    pub fn late(method: &str, path: &str, delay: Duration) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), ..Self::new(method, path, Outcome::Late) }
    }

    fn new(method: &str, path: &str, outcome: Outcome) -> Self {
        Self {
            method: Some(method.to_owned()),
            path: path.to_owned(),
            skip: 0,
            times: Some(1),
            effect: Effect::Nothing,
            delay_ms: 0,
            outcome,
        }
    }

    /// What was asked for is done all the same.
    pub fn after_the_effect(mut self) -> Self {
        self.effect = Effect::Done;
        self
    }

    /// So many fitting requests are let through first.
    pub fn after(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// So many fitting requests go wrong.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// All fitting requests go wrong.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    fn fits(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method) && path_fits(&self.path, path)
    }

    pub fn reply(&self) -> Option<Reply> {
        match &self.outcome {
            Outcome::Answer { status, body, headers } => {
                Some(Reply { status: *status, body: body.clone(), headers: headers.clone() })
            }
            Outcome::Dropped | Outcome::Late => None,
        }
    }
}

/// Whether a request has this method and a path of this shape.
pub fn fits(method: &str, path: &str, request: &super::request::Request) -> bool {
    method == request.method && path_fits(path, &request.path)
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (Some("**"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn order(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those that have not happened as often as they were ordered to.
    pub fn outstanding(&self) -> Vec<Fault> {
        self.0.iter().filter(|fault| fault.times.is_some_and(|times| times > 0)).cloned().collect()
    }

    /// What goes wrong with this request, if anything does.
    pub fn strike(&mut self, method: &str, path: &str) -> Option<Fault> {
        for fault in self.0.iter_mut().filter(|fault| fault.fits(method, path) && fault.times != Some(0)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            return Some(fault.clone());
        }
        None
    }
}

/// Reads faults as they come over the wire: one, or a list.
pub fn read(value: &Value) -> Result<Vec<Fault>, serde_json::Error> {
    match value {
        Value::Array(_) => serde_json::from_value(value.clone()),
        one => serde_json::from_value(one.clone()).map(|fault| vec![fault]),
    }
}
