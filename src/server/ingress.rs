//! Routes requests in front of shards: which shard a request is for, and whose token it shows. Pure, so that the gateway in
//! front of Durable Objects is tested like everything else.
//!
//! The path has to be normalised (as a URL parser does) before it comes here, and the same path has to be passed on: two
//! readings of one path would be two places for one project.

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::api::endpoints::ALL;
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

/// Returns whether a normalised path below `/v1/` is one of an endpoint, for any method.
pub fn is_known_path(path: &str) -> bool {
    let is_at = |template: &str| {
        let (written, found): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let is_same = |(written, found): (&&str, &&str)| written == found || (written.starts_with('{') && !found.is_empty());
        written.len() == found.len() && written.iter().zip(&found).all(is_same)
    };
    path.starts_with("/v1/") && ALL.iter().any(|endpoint| is_at(endpoint.path))
}

/// Returns whether a shard may answer a request that came to it as this project's.
pub fn belongs_to(method: &Method, path: &str, project: &ProjectName) -> bool {
    match shard(method, path) {
        Shard::Project(named) => named == *project,
        Shard::ProjectOfToken(_) | Shard::ProjectInBody => true,
        Shard::Directory => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectName {
        ProjectName::parse(name).unwrap()
    }

    #[test]
    fn a_path_leads_to_an_endpoint_or_nowhere() {
        for path in ["/v1/projects", "/v1/projects/gremlin", "/v1/projects/gremlin/lease", "/v1/tokens", "/v1/tokens/x"] {
            assert!(is_known_path(path), "{path}");
        }
        for path in ["/v1/nothing", "/v1/", "/v1/projects/", "/v2/projects", "/internal", "/v1/projects/gremlin/lease/x"] {
            assert!(!is_known_path(path), "{path}");
        }
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
}
