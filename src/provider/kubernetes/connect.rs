//! From a kubeconfig, or the account of a Pod, to a cluster.
//!
//! Must not do: use a context that an operator did not allow.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use kube::Config;
use kube::config::Kubeconfig;

use super::cluster::Cluster;
use super::error::KubernetesError;
use super::session::{Opened, Session};
use crate::convex::release::{BACKEND_IMAGE, DASHBOARD_IMAGE};
use crate::model::kubernetes::{Exposure, KubernetesSettings};
use crate::provider::ProviderError;
use crate::provider::kit::image_reference::ImagePolicy;

/// What a manifest may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClusterPolicy {
    /// Anything: the user of the command has the kubeconfig as well.
    #[default]
    Any,
    /// What an operator has listed.
    Listed {
        /// These contexts, and the one that is used where a manifest names none.
        contexts: Vec<String>,
        /// These namespaces, and the one of the context.
        namespaces: Vec<String>,
        /// Images beside the official ones.
        images: ImagePolicy,
        /// Addresses that backends may be published on: the unspecified one stands for ports of nodes and load balancers.
        publish: Vec<IpAddr>,
    },
}

impl ClusterPolicy {
    /// Refuses what only an untrusted manifest asks for: an image that the cluster's nodes would run, and an address outside of it.
    pub(super) fn check_settings(&self, settings: &KubernetesSettings) -> Result<(), ProviderError> {
        let Self::Listed { images, publish, .. } = self else { return Ok(()) };
        if matches!(settings.expose, Exposure::NodePort | Exposure::LoadBalancer) && !publish.iter().any(IpAddr::is_unspecified)
        {
            return Err(ProviderError::Unsupported(format!(
                "`kubernetes.expose` is `{}`, which leads to the backend from outside of the cluster past its ingress; the operator \
                 of this control plane allows it with\n    convexinfra serve --allow-publish 0.0.0.0",
                settings.expose.as_str()
            )));
        }
        let named = [("kubernetes.image", &settings.image), ("kubernetes.dashboard_image", &settings.dashboard_image)];
        for (field, image) in named.into_iter().filter_map(|(field, image)| Some((field, image.as_deref()?))) {
            images.check(field, image, &[BACKEND_IMAGE, DASHBOARD_IMAGE])?;
        }
        Ok(())
    }

    /// Refuses a context that only an untrusted manifest names.
    pub(super) fn check(&self, context: Option<&str>) -> Result<(), KubernetesError> {
        match (self, context) {
            (Self::Listed { contexts, .. }, Some(context)) if !contexts.iter().any(|known| known == context) => {
                Err(KubernetesError::ContextRefused { context: context.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a namespace may be named in every context.
    pub(super) fn lists_namespace(&self, namespace: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { namespaces, .. } => namespaces.iter().any(|known| known == namespace),
        }
    }

    /// Refuses a namespace that only an untrusted manifest names: other projects and the cluster's own programs have theirs.
    pub(super) fn check_namespace(&self, namespace: &str, default: &str) -> Result<(), ProviderError> {
        if namespace == default || self.lists_namespace(namespace) {
            return Ok(());
        }
        Err(ProviderError::Unsupported(format!(
            "`kubernetes.namespace` is `{namespace}`, which this control plane does not allow; its operator allows it with\n    \
             CONVEXINFRA_KUBERNETES_NAMESPACES={namespace}"
        )))
    }
}

/// Connects to the cluster of a context; to the current one where none is named, and to the cluster that this process runs in
/// where there is no kubeconfig.
pub(super) async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Cluster, KubernetesError> {
    let (session, Opened { server, namespace, plugin, is_inside, .. }) = Session::open(kubeconfig, context).await?;
    Ok(Cluster::new(Arc::new(session), server.trim_end_matches('/').to_owned(), namespace, plugin, is_inside))
}

/// Returns the namespace of a context, as the kubeconfig or the account of a Pod says it; none where there is neither. No
/// program that hands out credentials is run for it.
pub(super) fn default_namespace(kubeconfig: Option<&Path>, context: Option<&str>) -> Option<String> {
    let Ok(file) = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from) else {
        return Config::incluster().ok().filter(|_| context.is_none()).map(|config| config.default_namespace);
    };
    let name = context.or(file.current_context.as_deref())?;
    let named = file.contexts.iter().find(|named| named.name == name)?;
    let namespace = named.context.as_ref().and_then(|context| context.namespace.clone());
    Some(namespace.unwrap_or_else(|| "default".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_says_which_contexts_and_namespaces_may_be_named() {
        let listed = ClusterPolicy::Listed {
            contexts: vec!["staging".to_owned()],
            namespaces: vec!["convex".to_owned()],
            images: ImagePolicy::Listed(Vec::new()),
            publish: Vec::new(),
        };
        assert!(listed.check(None).is_ok() && listed.check(Some("staging")).is_ok() && listed.check(Some("prod")).is_err());
        for (namespace, is_allowed) in [("default", true), ("convex", true), ("kube-system", false), ("convex-other", false)] {
            assert_eq!(listed.check_namespace(namespace, "default").is_ok(), is_allowed, "{namespace}");
            assert!(ClusterPolicy::Any.check_namespace(namespace, "default").is_ok());
        }
    }

    #[test]
    fn an_operator_says_whether_backends_are_reached_past_the_ingress() {
        let listed = |publish: &[&str]| ClusterPolicy::Listed {
            contexts: Vec::new(),
            namespaces: Vec::new(),
            images: ImagePolicy::Listed(Vec::new()),
            publish: publish.iter().map(|address| address.parse().unwrap()).collect(),
        };
        for word in Exposure::WORDS {
            let settings = KubernetesSettings { expose: Exposure::parse(word).unwrap(), ..KubernetesSettings::default() };
            let stays_inside = !["node-port", "load-balancer"].contains(&word);
            assert_eq!(listed(&["10.0.0.1"]).check_settings(&settings).is_ok(), stays_inside, "{word}");
            assert!(listed(&["0.0.0.0"]).check_settings(&settings).is_ok(), "{word}");
            assert!(ClusterPolicy::Any.check_settings(&settings).is_ok(), "{word}");
        }
    }
}
