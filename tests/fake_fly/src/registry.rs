//! What else is asked on the way to a machine: which digest a tag of an image means, and which commit a release is.
//!
//! Both are made up from the name that is asked for, so that they are the same each time.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::reply::Reply;
use super::request::Request;

/// The hosts that are answered for.
pub const HOSTS: [&str; 2] = ["ghcr.io", "api.github.com"];

/// The digest that an image without one has.
pub fn digest(repository: &str, reference: &str) -> String {
    match reference.starts_with("sha256:") {
        true => reference.to_owned(),
        false => format!("sha256:{}", hex::encode(Sha256::digest(format!("{repository}:{reference}")))),
    }
}

/// The answer, or nothing where the path is not about images and releases.
pub fn answer(request: &Request) -> Option<Reply> {
    let parts: Vec<&str> = request.path.split('/').skip(1).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["token"]) => Some(Reply::ok(json!({ "token": "anonymous" }))),
        ("GET", ["v2", repository @ .., "manifests", reference]) => {
            let repository = repository.join("/");
            if request.header("authorization") != Some("Bearer anonymous") {
                return Some(Reply::error(401, "authentication required"));
            }
            if repository.contains("unpullable") {
                return Some(Reply::error(404, "manifest unknown"));
            }
            let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json" });
            Some(Reply::ok(manifest).with_header("docker-content-digest", &digest(&repository, reference)))
        }
        ("GET", [.., "commits", short]) => {
            let rest = hex::encode(Sha256::digest(short));
            Some(Reply::text(200, &format!("{short}{rest}")[..40]))
        }
        _ => None,
    }
}
