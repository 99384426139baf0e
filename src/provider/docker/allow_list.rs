//! What clients of a served control plane may ask of its engine. A holder of scope `apply` runs containers with the rights of
//! the engine, so images, networks, published addresses and mounts are the operator's to allow.

use std::net::IpAddr;

use super::image::{POSTGRES_IMAGE, named_images};
use crate::convex::release::{BACKEND_IMAGE, DASHBOARD_IMAGE};
use crate::model::{BackendSpec, RouteTls};
use crate::provider::ProviderError;
use crate::provider::kit::image_reference::ImagePolicy;

/// What specifications may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowList {
    /// Anything: the user of the command may use the engine as well.
    #[default]
    Unrestricted,
    /// The official images, the projects' own networks, loopback addresses, and what is listed.
    Listed {
        /// Images beside the official ones.
        images: ImagePolicy,
        /// Networks to join.
        networks: Vec<String>,
        /// Addresses to publish ports on.
        publish: Vec<IpAddr>,
        /// Labels or parts of their names up to a dot, such as `traefik`: other programs of the machine do what labels say.
        labels: Vec<String>,
    },
}

impl AllowList {
    /// Refuses what is not allowed, with the flag that allows it.
    pub(super) fn check(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        let Self::Listed { images, publish, labels, .. } = self else { return Ok(()) };
        let docker = &spec.settings.docker;
        if let Some(server) = &docker.server {
            return Err(ProviderError::Unsupported(format!(
                "`server` is `{}`, and a served control plane reaches no servers: it would log in there with its own operator's keys. \
                 Leave `control_plane` out to have this machine do it, or run the control plane on that server",
                server.name
            )));
        }
        for (field, image) in named_images(docker) {
            images.check(field, image, &[BACKEND_IMAGE, DASHBOARD_IMAGE, POSTGRES_IMAGE])?;
        }
        if docker.tls.is_some() && !publish.iter().any(IpAddr::is_unspecified) {
            return Err(ProviderError::Unsupported(
                "`tls` has a proxy publish the ports 80 and 443 of this control plane's machine, which its operator allows with\n    \
                 convexinfra serve --allow-publish 0.0.0.0"
                    .to_owned(),
            ));
        }
        if let Some(directory) =
            docker.tls.as_ref().and_then(RouteTls::acme).filter(|directory| *directory != RouteTls::STAGING)
        {
            return Err(ProviderError::Unsupported(format!(
                "`tls` names the authority `{directory}`, which the proxy of this control plane's machine would ask from inside: on a \
                 served control plane certificates are `auto`, `staging`, `internal` or your own"
            )));
        }
        docker.network.iter().chain(&docker.networks).try_for_each(|network| self.check_network(network))?;
        if let Some(address) = &docker.publish {
            let parsed = address.trim_matches(['[', ']']).parse::<IpAddr>().ok();
            if !parsed.is_some_and(|address| address.is_loopback() || publish.contains(&address)) {
                return Err(refused("docker.publish", address, "--allow-publish"));
            }
        }
        let is_allowed = |label: &str| {
            labels
                .iter()
                .map(|allowed| allowed.trim_end_matches('.'))
                .any(|allowed| label == allowed || label.strip_prefix(allowed).is_some_and(|rest| rest.starts_with('.')))
        };
        if let Some(label) = docker.labels.keys().find(|label| !is_allowed(label)) {
            return Err(refused("docker.labels", label, "--allow-labels"));
        }
        let joins_others = docker.network.is_some() || !docker.networks.is_empty();
        if let Some(alias) = docker.aliases.first().filter(|_| joins_others) {
            return Err(ProviderError::Unsupported(format!(
                "`docker.aliases` has `{alias}`, and in a network that others share their requests to that name would come here: leave \
                 `aliases` or the network out"
            )));
        }
        if let Some(mount) = docker.mounts.first() {
            return Err(ProviderError::Unsupported(format!(
                "`docker.mounts` has `{mount}`, and a served control plane mounts nothing of its engine's machine into containers: \
                 leave `mounts` out"
            )));
        }
        Ok(())
    }
}

impl AllowList {
    /// Refuses a network that backends may not join, whether the manifest names it or the proxy of the machine is on it.
    pub(super) fn check_network(&self, network: &str) -> Result<(), ProviderError> {
        match self {
            Self::Listed { networks, .. } if !networks.iter().any(|allowed| allowed == network) => {
                Err(refused("docker.network", network, "--allow-networks"))
            }
            Self::Listed { .. } | Self::Unrestricted => Ok(()),
        }
    }
}

fn refused(field: &str, what: &str, flag: &str) -> ProviderError {
    ProviderError::Unsupported(format!(
        "`{field}` is `{what}`, which this control plane does not allow; its operator allows it with\n    \
         convexinfra serve {flag} {what}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DockerSettings, ProviderKind};

    fn check(docker: DockerSettings) -> Result<(), String> {
        let mut spec = BackendSpec::new(ProviderKind::Docker);
        spec.settings.docker = docker.into();
        let allowed = AllowList::Listed {
            images: ImagePolicy::Listed(vec!["ghcr.io/acme".to_owned()]),
            networks: vec!["edge".to_owned()],
            publish: vec!["10.0.0.5".parse().unwrap()],
            labels: vec!["traefik".to_owned()],
        };
        allowed.check(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn official_images_own_networks_and_loopback_need_no_permission() {
        let some = |text: &str| Some(text.to_owned());
        let label = |name: &str| [(name.to_owned(), "true".to_owned())].into();
        let plain = DockerSettings::default();
        for docker in [
            plain.clone(),
            DockerSettings { image: some("ghcr.io/get-convex/convex-backend:abc"), ..plain.clone() },
            DockerSettings { image: some("ghcr.io/acme/convex:1"), ..plain.clone() },
            DockerSettings { database_image: some("docker.io/library/postgres:16"), ..plain.clone() },
            DockerSettings { network: some("edge"), ..plain.clone() },
            DockerSettings { publish: some("127.0.0.2"), ..plain.clone() },
            DockerSettings { publish: some("10.0.0.5"), ..plain.clone() },
            DockerSettings { labels: label("traefik.enable"), ..plain.clone() },
            DockerSettings { aliases: vec!["db".to_owned()], ..plain.clone() },
            DockerSettings { proxy_image: some("ghcr.io/acme/caddy:2"), ..plain.clone() },
        ] {
            assert_eq!(check(docker.clone()), Ok(()), "{docker:?}");
        }
        for (docker, flag) in [
            (DockerSettings { image: some("evil/convex"), ..plain.clone() }, "--allow-images evil/convex"),
            (DockerSettings { image: some("ghcr.io/get-convex/convex-backend-evil"), ..plain.clone() }, "--allow-images"),
            (DockerSettings { dashboard_image: some("evil/page:1"), ..plain.clone() }, "--allow-images evil/page"),
            (DockerSettings { tls: Some(crate::model::RouteTls::Auto), ..plain.clone() }, "--allow-publish 0.0.0.0"),
            (DockerSettings { network: some("monitoring"), ..plain.clone() }, "--allow-networks monitoring"),
            (DockerSettings { networks: vec!["default_db".to_owned()], ..plain.clone() }, "--allow-networks default_db"),
            (DockerSettings { publish: some("0.0.0.0"), ..plain.clone() }, "--allow-publish 0.0.0.0"),
            (DockerSettings { mounts: vec!["/:/host".to_owned()], ..plain.clone() }, "mounts nothing"),
            (
                DockerSettings { labels: label("ofelia.job-exec.x.command"), ..plain.clone() },
                "--allow-labels ofelia.job-exec.x",
            ),
            (DockerSettings { labels: label("traefik-evil.enable"), ..plain.clone() }, "--allow-labels traefik-evil"),
            (
                DockerSettings { aliases: vec!["db".to_owned()], networks: vec!["edge".to_owned()], ..plain.clone() },
                "come here",
            ),
        ] {
            let said = check(docker).unwrap_err();
            assert!(said.contains(flag), "{said}");
        }
    }
}
