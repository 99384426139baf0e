//! Environment variables that are read directly, each with its meaning: the source of `docs/reference/variables.md`.
//!
//! Variables that stand for flags are declared at their flags, in `args`.

/// Declares constants for the names, and one table of names and meanings.
macro_rules! variables {
    ($($(#[doc = $meaning:literal])+ $constant:ident = $name:literal;)+) => {
        $($(#[doc = $meaning])+ pub(crate) const $constant: &str = $name;)+

        /// Every variable of convexinfra that stands for no flag: its name and its meaning.
        pub(super) const OWN: &[(&str, &str)] = &[$(($name, concat!($($meaning),+))),+];
    };
}

variables! {
    /// The token for the control plane; never a flag
    TOKEN = "CONVEXINFRA_TOKEN";
    /// A command whose first line of output is the token, such as `pass show convexinfra`
    TOKEN_COMMAND = "CONVEXINFRA_TOKEN_COMMAND";
    /// `1` lets the token travel over plain HTTP to another machine
    ALLOW_PLAIN_HTTP = "CONVEXINFRA_ALLOW_PLAIN_HTTP";
    /// The master key instead of the file `master.key`, 64 hex digits
    MASTER_KEY = "CONVEXINFRA_MASTER_KEY";
    /// The master key that `key rotate-master` puts into the place of the one of today, 64 hex digits
    NEXT_MASTER_KEY = "CONVEXINFRA_NEXT_MASTER_KEY";
    /// The instance secret for `key issue` and `key check`; never a flag
    INSTANCE_SECRET = "CONVEXINFRA_INSTANCE_SECRET";
    /// Set by the scripts of `completions` when a shell asks for candidates
    COMPLETE = "CONVEXINFRA_COMPLETE";
    /// The first port that is allocated (4210), so that two homes on one machine keep apart
    FIRST_PORT = "CONVEXINFRA_FIRST_PORT";
    /// A mirror to download Convex's binaries from: `https://`, or `http://` on this machine
    RELEASES_URL = "CONVEXINFRA_RELEASES_URL";
    /// Where the latest release is named
    LATEST_URL = "CONVEXINFRA_LATEST_URL";
    /// A mirror of GitHub's API, which resolves a `precompiled-…` release to its commit
    COMMITS_URL = "CONVEXINFRA_COMMITS_URL";
    /// The contexts of the kubeconfig that manifests may name in a served control plane, with commas between them
    KUBERNETES_CONTEXTS = "CONVEXINFRA_KUBERNETES_CONTEXTS";
    /// The namespaces, beside that of the context, that manifests may name in a served control plane, with commas between them
    KUBERNETES_NAMESPACES = "CONVEXINFRA_KUBERNETES_NAMESPACES";
    /// A mirror of `ghcr.io`, from which the digests of images for Fly are read
    REGISTRY_URL = "CONVEXINFRA_REGISTRY_URL";
    /// Fly's Machines API elsewhere; `FLY_FLAPS_BASE_URL` and `FLY_API_HOSTNAME` work too
    FLY_API = "CONVEXINFRA_FLY_API";
}

/// Variables of other programs and conventions that are honoured, with their meaning.
pub(super) const FOREIGN: &[(&str, &str)] = &[
    ("FLY_ACCESS_TOKEN`, `FLY_API_TOKEN", "The token with which provider `fly` is available; the first one counts"),
    ("FLY_ORG", "The organisation on Fly where the manifest names none"),
    (
        "DOCKER_HOST`, `DOCKER_CONTEXT`, `DOCKER_CONFIG`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH",
        "The Docker engine and its configuration, as for `docker`",
    ),
    ("KUBECONFIG", "The files that say where clusters are and how to enter them, as for `kubectl`"),
    ("HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY", "The proxy for everything but loopback addresses"),
    ("SSL_CERT_FILE`, `SSL_CERT_DIR", "The certificates of authorities, instead of the system's"),
    ("XDG_DATA_HOME", "The folder of the default home on Linux"),
    ("NO_COLOR`, `FORCE_COLOR`, `TERM=dumb", "No colour; colour in a pipe too; neither colour nor movement"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_child_inherits_a_variable_that_holds_a_secret() {
        let names = OWN.iter().chain(FOREIGN).flat_map(|(names, _)| names.split("`, `"));
        let secrets: Vec<_> =
            names.filter(|name| ["_TOKEN", "_KEY", "_SECRET"].iter().any(|end| name.ends_with(end))).collect();
        assert!(secrets.len() >= 5, "{secrets:?}");
        for name in secrets {
            assert!(crate::system::OWN_SECRET_VARIABLES.contains(&name), "{name}");
        }
    }
}
