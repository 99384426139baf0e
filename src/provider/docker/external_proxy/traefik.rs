//! What Traefik was started with: entry points, resolvers of certificates and the network of its Docker provider. Pure.
//!
//! Its static configuration comes from one of a file, flags and variables, in this order. Keys have no case in any of them, and
//! names of entry points and resolvers keep the one that they were given; those in variables are in lower case.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::interface::TraefikRouting;

/// Where Traefik looks for its configuration by itself.
pub(in crate::provider::docker) const DEFAULT_FILES: [&str; 3] =
    ["/etc/traefik/traefik.yml", "/etc/traefik/traefik.yaml", "/etc/traefik/traefik.toml"];
/// What the resolver of most people's certificates is called.
const USUAL_RESOLVER: &str = "letsencrypt";

/// The static configuration, as keys with dots in lower case, each with its value and the key as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::provider::docker) struct StaticConfiguration(BTreeMap<String, (String, String)>);

impl StaticConfiguration {
    /// Reads flags, such as `--entrypoints.web.address=:80`.
    pub(in crate::provider::docker) fn of_flags<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut seen = Self::default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            let (key, value) = match flag.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                None => match words.next_if(|next| !next.starts_with('-')) {
                    Some(value) => (flag, value.to_owned()),
                    None => (flag, "true".to_owned()),
                },
            };
            seen.insert(key, value);
        }
        seen
    }

    /// Reads variables, such as `TRAEFIK_ENTRYPOINTS_WEB_ADDRESS=:80`.
    pub(in crate::provider::docker) fn of_variables<'a>(variables: impl IntoIterator<Item = &'a str>) -> Self {
        let mut seen = Self::default();
        for (name, value) in variables.into_iter().filter_map(|variable| variable.split_once('=')) {
            if let Some(key) = name.strip_prefix("TRAEFIK_") {
                seen.insert(&key.to_lowercase().replace('_', "."), value.to_owned());
            }
        }
        seen
    }

    /// Reads a file in YAML or, by its name, in TOML; none where it is neither.
    pub(in crate::provider::docker) fn of_file(path: &str, text: &str) -> Option<Self> {
        let value: Value = match path.ends_with(".toml") {
            true => toml::from_str(text).ok()?,
            false => serde_saphyr::from_str(text).ok()?,
        };
        let mut seen = Self::default();
        seen.flatten("", &value);
        Some(seen)
    }

    /// Returns the file that a flag or a variable names.
    pub(in crate::provider::docker) fn named_file(&self) -> Option<&str> {
        self.get("configfile")
    }

    /// Whether nothing is said.
    pub(in crate::provider::docker) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn insert(&mut self, key: &str, value: String) {
        self.0.insert(key.to_lowercase(), (key.to_owned(), value));
    }

    fn flatten(&mut self, prefix: &str, value: &Value) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    self.flatten(&key, value);
                }
            }
            Value::String(text) => self.insert(prefix, text.clone()),
            other => self.insert(prefix, other.to_string()),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|(_, value)| value.as_str())
    }

    /// Whether there is a key or anything below it.
    fn has(&self, key: &str) -> bool {
        self.0.keys().any(|seen| seen.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// Returns the names directly below a key, as they were written.
    fn names_below(&self, key: &str) -> BTreeSet<String> {
        let written = self.0.iter().filter_map(|(seen, (written, _))| {
            let rest = seen.strip_prefix(key)?.strip_prefix('.')?;
            let rest = written.get(written.len() - rest.len()..)?;
            rest.split('.').next().map(str::to_owned)
        });
        written.filter(|name| !name.is_empty()).collect()
    }

    fn entry_point_at(&self, port: u16) -> Option<String> {
        self.names_below("entrypoints").into_iter().find(|name| {
            let address = self.get(&format!("entrypoints.{}.address", name.to_lowercase())).unwrap_or_default();
            let (address, transport) = address.split_once('/').unwrap_or((address, "tcp"));
            transport == "tcp" && address.rsplit(':').next().and_then(|number| number.parse().ok()) == Some(port)
        })
    }

    fn of_entry_point(&self, name: &str, key: &str) -> Option<&str> {
        self.get(&format!("entrypoints.{}.{key}", name.to_lowercase()))
    }

    /// Returns the network that the Docker provider takes addresses from.
    pub(in crate::provider::docker) fn network(&self) -> Option<&str> {
        self.get("providers.docker.network")
    }

    /// Returns what routers have to name. `http` and `https` are the ports inside the container that 80 and 443 lead to.
    ///
    /// # Errors
    /// A sentence says what keeps labels from leading to a backend.
    pub(in crate::provider::docker) fn routing(&self, http: Option<u16>, https: Option<u16>) -> Result<TraefikRouting, String> {
        if !self.has("providers.docker") {
            return Err("it reads no labels of containers: `providers.docker` is not among what it was started with".to_owned());
        }
        let entry_point = |port: Option<u16>| port.and_then(|port| self.entry_point_at(port));
        let Some(https) = entry_point(https) else { return Err("none of its entry points is port 443".to_owned()) };
        let http = entry_point(http).filter(|name| self.of_entry_point(name, "http.redirections.entrypoint.to").is_none());
        let resolvers = self.names_below("certificatesresolvers");
        let resolver = match self.of_entry_point(&https, "http.tls.certresolver") {
            Some(resolver) => Some(resolver.to_owned()),
            None if resolvers.contains(USUAL_RESOLVER) || resolvers.len() < 2 => {
                resolvers.get(USUAL_RESOLVER).or(resolvers.first()).cloned()
            }
            None => {
                let names: Vec<&str> = resolvers.iter().map(String::as_str).collect();
                return Err(format!(
                    "it has several resolvers of certificates ({}), and its entry point `{https}` names none of them",
                    names.join(", ")
                ));
            }
        };
        Ok(TraefikRouting { https, http, resolver })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(https: &str, http: Option<&str>, resolver: Option<&str>) -> TraefikRouting {
        TraefikRouting { https: https.to_owned(), http: http.map(str::to_owned), resolver: resolver.map(str::to_owned) }
    }

    #[test]
    fn what_panels_start_traefik_with_is_understood() {
        // Coolify: flags, no redirect on the entry point.
        let coolify = StaticConfiguration::of_flags([
            "--ping=true",
            "--api.dashboard=true",
            "--entrypoints.http.address=:80",
            "--entrypoints.https.address=:443",
            "--entrypoints.http.http.encodequerysemicolons=true",
            "--entrypoints.https.http3",
            "--providers.docker.exposedbydefault=false",
            "--providers.docker=true",
            "--certificatesresolvers.letsencrypt.acme.httpchallenge=true",
            "--certificatesresolvers.letsencrypt.acme.storage=/traefik/acme.json",
        ]);
        assert_eq!(coolify.routing(Some(80), Some(443)), Ok(routing("https", Some("http"), Some("letsencrypt"))));
        assert_eq!(coolify.network(), None);
        // Dokploy: a file, the resolver on the entry point.
        let dokploy = StaticConfiguration::of_file(
            "/etc/traefik/traefik.yml",
            "providers:\n  swarm:\n    exposedByDefault: false\n  docker:\n    exposedByDefault: false\n    network: dokploy-network\n\
             entryPoints:\n  web:\n    address: :80\n  websecure:\n    address: :443\n    http3:\n      advertisedPort: 443\n    http:\n      \
             tls:\n        certResolver: letsencrypt\ncertificatesResolvers:\n  letsencrypt:\n    acme:\n      email: a@example.com\n",
        )
        .unwrap();
        assert_eq!(dokploy.routing(Some(80), Some(443)), Ok(routing("websecure", Some("web"), Some("letsencrypt"))));
        assert_eq!(dokploy.network(), Some("dokploy-network"));
        // A file in TOML that keeps the case of its names, with other ports inside and a redirect.
        let own = StaticConfiguration::of_file(
            "/config/traefik.toml",
            "[entryPoints.Web]\naddress = \":8000/tcp\"\n[entryPoints.Web.http.redirections.entryPoint]\nto = \"webSecure\"\n\
             [entryPoints.webSecure]\naddress = \"[::]:8443\"\n[providers.docker]\n[certificatesResolvers.myCA.acme]\nemail = \"a\"\n",
        )
        .unwrap();
        assert_eq!(own.routing(Some(8000), Some(8443)), Ok(routing("webSecure", None, Some("myCA"))));
        // Variables.
        let variables = StaticConfiguration::of_variables([
            "PATH=/bin",
            "TRAEFIK_PROVIDERS_DOCKER=true",
            "TRAEFIK_ENTRYPOINTS_WEBSECURE_ADDRESS=:443",
        ]);
        assert_eq!(variables.routing(None, Some(443)), Ok(routing("websecure", None, None)));
    }

    #[test]
    fn what_cannot_be_led_by_labels_says_why() {
        for (flags, says) in [
            (&["--entrypoints.https.address=:443", "--providers.file.directory=/x"][..], "reads no labels"),
            (&["--providers.docker", "--entrypoints.web.address=:80"], "none of its entry points"),
            (&["--providers.docker", "--entrypoints.quic.address=:443/udp"], "none of its entry points"),
            (
                &[
                    "--providers.docker",
                    "--entrypoints.https.address=:443",
                    "--certificatesresolvers.one.acme.email=a",
                    "--certificatesresolvers.two.acme.email=a",
                ],
                "several resolvers of certificates (one, two)",
            ),
        ] {
            let refused = StaticConfiguration::of_flags(flags.iter().copied()).routing(Some(80), Some(443)).unwrap_err();
            assert!(refused.contains(says), "{flags:?}: {refused}");
        }
        assert_eq!(StaticConfiguration::of_file("traefik.yml", "a: [1"), None);
        let cased = StaticConfiguration::of_flags(["--providers.docker", "--entryPoints.webSecure.address=:443"]);
        assert_eq!(cased.routing(None, Some(443)), Ok(routing("webSecure", None, None)));
        assert_eq!(StaticConfiguration::of_flags(["--configFile", "/x.yml"]).named_file(), Some("/x.yml"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_looked_at(words in proptest::collection::vec("\\PC{0,24}", 0..6), text in "\\PC{0,120}") {
            let flags = StaticConfiguration::of_flags(words.iter().map(String::as_str));
            let _ = flags.routing(Some(80), Some(443));
            for path in ["a.yml", "a.toml"] {
                let _ = StaticConfiguration::of_file(path, &text).map(|seen| seen.routing(None, Some(443)));
            }
        }
    }
}
