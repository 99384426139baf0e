//! References to container images, such as `ghcr.io/get-convex/convex-backend:TAG`.

/// The registry of references that name none.
const DOCKER_HUB: &str = "docker.io";

/// The parts of an image reference, as they are written: nothing is normalised, so that a name stays the user's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageReference<'a> {
    /// Registry and repository, without tag and digest.
    pub name: &'a str,
    /// The tag, if one is written.
    pub tag: Option<&'a str>,
    /// The digest, such as `sha256:…`, if one is written.
    pub digest: Option<&'a str>,
}

impl<'a> ImageReference<'a> {
    /// Splits a reference. Every text splits into something; whether such an image exists is the registry's to say.
    pub fn parse(text: &'a str) -> Self {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        // A colon before a slash belongs to the registry's port.
        match rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => Self { name, tag: Some(tag), digest },
            None => Self { name: rest, tag: None, digest },
        }
    }

    /// Returns the host of the registry.
    pub fn registry(&self) -> &'a str {
        match self.name.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => DOCKER_HUB,
        }
    }

    /// Returns whether a tag or a digest is written.
    pub fn is_exact(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    /// Returns the same image under a digest.
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name)
    }

    /// Returns whether the image is `prefix` itself or lies below it: `ghcr.io/acme` covers `ghcr.io/acme/convex:1`
    /// and not `ghcr.io/acme-evil/convex`.
    pub fn is_below(&self, prefix: &str) -> bool {
        let prefix = prefix.trim_end_matches('/');
        let name = if self.registry() == DOCKER_HUB { self.name.trim_start_matches("docker.io/") } else { self.name };
        let prefix = prefix.trim_start_matches("docker.io/");
        name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_split_into_name_tag_and_digest() {
        for (text, name, tag, digest, registry) in [
            ("ghcr.io/get-convex/convex-backend:abc", "ghcr.io/get-convex/convex-backend", Some("abc"), None, "ghcr.io"),
            ("ghcr.io/get-convex/convex-backend", "ghcr.io/get-convex/convex-backend", None, None, "ghcr.io"),
            ("localhost:5000/a/b", "localhost:5000/a/b", None, None, "localhost:5000"),
            ("localhost:5000/b:1@sha256:00", "localhost:5000/b", Some("1"), Some("sha256:00"), "localhost:5000"),
            ("postgres:17", "postgres", Some("17"), None, "docker.io"),
            ("library/postgres@sha256:00", "library/postgres", None, Some("sha256:00"), "docker.io"),
            ("", "", None, None, "docker.io"),
        ] {
            let parsed = ImageReference::parse(text);
            assert_eq!((parsed.name, parsed.tag, parsed.digest, parsed.registry()), (name, tag, digest, registry), "{text}");
            assert_eq!(parsed.is_exact(), tag.is_some() || digest.is_some(), "{text}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_path_segments_only() {
        for (image, prefix, expected) in [
            ("ghcr.io/acme/convex:1", "ghcr.io/acme", true),
            ("ghcr.io/acme/convex:1", "ghcr.io/acme/", true),
            ("ghcr.io/acme/convex:1", "ghcr.io/acme/convex", true),
            ("ghcr.io/acme-evil/convex", "ghcr.io/acme", false),
            ("docker.io/library/postgres:17", "library/postgres", true),
            ("evil/convex", "ghcr.io/acme", false),
        ] {
            assert_eq!(ImageReference::parse(image).is_below(prefix), expected, "{image} below {prefix}");
        }
    }
}
