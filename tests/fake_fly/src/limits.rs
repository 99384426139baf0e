//! How often may be asked: by kind of request and by the app or machine that it is about.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::json;

use super::reply::Reply;
use super::settings::Settings;

/// Requests per second, and how many at once.
const ORDINARY: (f64, f64) = (1.0, 3.0);
const GET_MACHINE: (f64, f64) = (5.0, 10.0);

/// What is left of each allowance.
#[derive(Default)]
pub struct Limits(HashMap<(String, String), (f64, Instant)>);

impl Limits {
    /// Counts one request.
    ///
    /// # Errors
    /// The refusal of one too many.
    pub fn count(&mut self, settings: &Settings, action: &str, about: &str) -> Result<(), Reply> {
        if !settings.rates_limited {
            return Ok(());
        }
        let (rate, burst) = if action == "GET machine" { GET_MACHINE } else { ORDINARY };
        let now = Instant::now();
        let (left, seen) = self.0.entry((action.to_owned(), about.to_owned())).or_insert((burst, now));
        let regained = now.duration_since(*seen).as_secs_f64() * rate * f64::from(settings.hurry);
        *left = (*left + regained).min(burst);
        *seen = now;
        if *left < 1.0 {
            return Err(too_many(settings));
        }
        *left -= 1.0;
        Ok(())
    }
}

/// The body is not known; the status is.
pub fn too_many(settings: &Settings) -> Reply {
    let reply = Reply::json(429, json!({ "error": "rate limit exceeded" }));
    match &settings.retry_after {
        Some(value) => reply.with_header("retry-after", value),
        None => reply,
    }
}
