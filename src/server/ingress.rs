//! Routes requests in front of shards: which shard a request is for, whose token it shows, and how often an address may
//! show tokens that open nothing. Pure, so that the gateway in front of Durable Objects is tested like everything else.
//!
//! The path has to be normalised (as a URL parser does) before it comes here, and the same path has to be passed on: two
//! readings of one path would be two places for one project.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::model::{ProjectName, TokenId};

/// The shard that a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shard {
    /// The directory answers: it knows every token, and no project's rows.
    Directory,
    /// The shard of this project.
    Project(ProjectName),
    /// The shard of the project that this token opens, so that the history of that project says what became of it.
    ProjectOfToken(TokenId),
    /// The shard of the project that the body names: a token is created where its history is.
    ProjectInBody,
}

/// Returns the shard that a normalised path belongs to.
pub fn shard(method: &Method, path: &str) -> Shard {
    let mut segments = path.split('/').skip(1);
    let (version, resource) = (segments.next(), segments.next());
    let name = segments.next().map(|segment| percent_decode_str(segment).decode_utf8_lossy());
    match (version, resource, name) {
        // The routes say what is wrong with a name that is none.
        (Some("v1"), Some("projects"), Some(name)) => ProjectName::parse(&name).map_or(Shard::Directory, Shard::Project),
        (Some("v1"), Some("tokens"), None) if method == Method::POST => Shard::ProjectInBody,
        (Some("v1"), Some("tokens"), Some(id)) if method == Method::DELETE => Shard::ProjectOfToken(TokenId::new(id)),
        _ => Shard::Directory,
    }
}

/// Returns whether a shard may answer a request that came to it as this project's.
pub fn belongs_to(method: &Method, path: &str, project: &ProjectName) -> bool {
    match shard(method, path) {
        Shard::Project(named) => named == *project,
        Shard::ProjectOfToken(_) | Shard::ProjectInBody => true,
        Shard::Directory => false,
    }
}

/// How many refused tokens an address may show at once.
const BURST: f64 = 20.0;
/// How many refused tokens an address may show per second after that.
const PER_SECOND: f64 = 1.0;
/// How many addresses are remembered; beyond that all of them are forgotten, which errs on the side of answering.
const MAX_ADDRESSES: usize = 4096;

/// Limits how often one address may show tokens that open nothing: each of them costs a lookup in the directory.
#[derive(Debug, Default)]
pub struct RefusalLimiter {
    addresses: HashMap<String, (f64, Duration)>,
}

impl RefusalLimiter {
    /// Returns how long an address has to wait before its next token is looked up, if it has to.
    pub fn wait(&self, address: &str, now: Duration) -> Option<Duration> {
        let (left, at) = self.addresses.get(address)?;
        let left = left + now.saturating_sub(*at).as_secs_f64() * PER_SECOND;
        (left < 1.0).then(|| Duration::from_secs_f64((1.0 - left) / PER_SECOND))
    }

    /// Counts one refused token.
    pub fn count(&mut self, address: &str, now: Duration) {
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(address) {
            self.addresses.clear();
        }
        let (left, at) = self.addresses.entry(address.to_owned()).or_insert((BURST, now));
        *left = (*left + now.saturating_sub(*at).as_secs_f64() * PER_SECOND).min(BURST) - 1.0;
        *at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectName {
        ProjectName::parse(name).unwrap()
    }

    #[test]
    fn a_path_belongs_to_one_shard() {
        for (method, path, expected) in [
            (Method::GET, "/v1/projects/gremlin", Shard::Project(project("gremlin"))),
            (Method::PUT, "/v1/projects/gremlin/lease", Shard::Project(project("gremlin"))),
            (Method::GET, "/v1/projects/gre%6dlin/lease", Shard::Project(project("gremlin"))),
            (Method::GET, "/v1/projects/No%20Name", Shard::Directory),
            (Method::GET, "/v1/projects", Shard::Directory),
            (Method::GET, "/v1/projects/%2e%2e/gremlin", Shard::Directory),
            (Method::GET, "//v1/projects/gremlin", Shard::Directory),
            (Method::POST, "/v1/tokens", Shard::ProjectInBody),
            (Method::GET, "/v1/tokens", Shard::Directory),
            (Method::DELETE, "/v1/tokens/abc", Shard::ProjectOfToken(TokenId::new("abc"))),
        ] {
            assert_eq!(shard(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_shard_refuses_a_path_of_another_project() {
        let own = project("gremlin");
        assert!(belongs_to(&Method::GET, "/v1/projects/gremlin/backends", &own));
        assert!(belongs_to(&Method::POST, "/v1/tokens", &own));
        assert!(!belongs_to(&Method::GET, "/v1/projects/other/backends", &own));
        assert!(!belongs_to(&Method::GET, "/v1/projects", &own));
    }

    #[test]
    fn refused_tokens_are_limited_by_address() {
        let mut limiter = RefusalLimiter::default();
        let at = Duration::from_secs;
        for _ in 0..20 {
            assert_eq!(limiter.wait("a", at(1)), None);
            limiter.count("a", at(1));
        }
        assert!(limiter.wait("a", at(1)).is_some_and(|wait| wait <= at(1)));
        assert_eq!(limiter.wait("b", at(1)), None, "another address waits for none of that");
        assert_eq!(limiter.wait("a", at(2)), None, "one more after a second");
        for address in 0..10_000 {
            limiter.count(&address.to_string(), at(3));
        }
        assert!(limiter.addresses.len() <= MAX_ADDRESSES);
    }
}
