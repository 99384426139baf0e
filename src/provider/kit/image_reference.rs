//! References to container images, such as `ghcr.io/get-convex/convex-backend:TAG`.

use crate::provider::ProviderError;

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

/// Which images specifications may name. A holder of scope `apply` has them run with the credentials and the machines of a
/// served control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImagePolicy {
    /// Any: the user of the command may run them as well.
    #[default]
    Any,
    /// The official ones, and these: images or parts of their names up to a slash, such as `ghcr.io/acme`.
    Listed(Vec<String>),
}

impl ImagePolicy {
    /// Refuses an image that is neither official nor listed, with the flag that allows it.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] when it is not.
    pub fn check(&self, field: &str, image: &str, official: &[&str]) -> Result<(), ProviderError> {
        let Self::Listed(listed) = self else { return Ok(()) };
        let reference = ImageReference::parse(image);
        let is_official = official.iter().any(|image| ImageReference::parse(image).name == reference.name);
        if is_official || listed.iter().any(|prefix| reference.is_below(prefix)) {
            return Ok(());
        }
        let name = reference.name;
        Err(ProviderError::Unsupported(format!(
            "`{field}` is `{name}`, which this control plane does not allow; its operator allows it with\n    \
             convexinfra serve --allow-images {name}"
        )))
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
    fn official_and_listed_images_are_allowed_and_no_others() {
        let policy = ImagePolicy::Listed(vec!["ghcr.io/acme".to_owned()]);
        let official = ["ghcr.io/get-convex/convex-backend"];
        for image in ["ghcr.io/get-convex/convex-backend@sha256:00", "ghcr.io/acme/convex:1"] {
            assert!(policy.check("fly.image", image, &official).is_ok(), "{image}");
        }
        for image in ["registry.fly.io/other-app:deployment-1", "ghcr.io/get-convex/convex-backend-evil", "evil"] {
            let said = policy.check("fly.image", image, &official).unwrap_err().to_string();
            assert!(said.contains("--allow-images"), "{said}");
            assert!(ImagePolicy::Any.check("fly.image", image, &official).is_ok());
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
