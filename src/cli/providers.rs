//! The providers that a control plane on this machine has, and the variables that say where their services are.
//!
//! Must not do: reach any of them before a command needs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::env_vars;
use crate::app::discovery;
use crate::model::Secret;
use crate::provider::Provider;
use crate::provider::docker::{AllowList, ControlPlaneId, Docker, EngineSource};
use crate::provider::fly::{ApiEndpoints, Fly, FlyConfig, ReqwestTransport, TOKEN_VARIABLES};
use crate::provider::kit::image_reference::ImagePolicy;
use crate::provider::kubernetes::{ClusterPolicy, Kubernetes};
use crate::provider::local::{DownloadSources, Local};
use crate::provider::simulated::Simulated;

/// How long a process has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// All that are available in a home.
pub(super) fn available(home: &Path, executable: PathBuf, allowed: AllowList) -> Vec<Box<dyn Provider>> {
    let mut providers: Vec<Box<dyn Provider>> = vec![
        Box::new(Simulated::new(home.to_owned(), executable.clone()).with_grace(GRACE)),
        Box::new(local(home, executable)),
        Box::new(docker(home).with_allow_list(allowed.clone())),
        Box::new(kubernetes(&allowed)),
    ];
    providers.extend(fly(&allowed).map(|fly| Box::new(fly) as Box<dyn Provider>));
    providers
}

/// Convex's own binary.
pub(super) fn local(home: &Path, executable: PathBuf) -> Local {
    let mut sources = DownloadSources::official(discovery::user_home().as_deref());
    if let Some(url) = variable(env_vars::RELEASES_URL) {
        sources = sources.with_mirror(url);
    }
    if let Some(url) = variable(env_vars::LATEST_URL) {
        sources.latest = url;
    }
    Local::new(home.to_owned(), executable, sources).with_grace(GRACE)
}

/// The clusters of the kubeconfig. A served control plane lends its credentials for no context
/// and for no image that only a manifest names.
pub(super) fn kubernetes(allowed: &AllowList) -> Kubernetes {
    let policy = match allowed {
        AllowList::Unrestricted => ClusterPolicy::Any,
        AllowList::Listed { images, publish, .. } => {
            let listed = |name: &str| {
                let listed = variable(name).unwrap_or_default();
                listed.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
            };
            let (contexts, namespaces) = (listed(env_vars::KUBERNETES_CONTEXTS), listed(env_vars::KUBERNETES_NAMESPACES));
            ClusterPolicy::Listed { contexts, namespaces, images: images.clone(), publish: publish.clone() }
        }
    };
    let kubernetes = Kubernetes::new().with_policy(policy);
    match variable(env_vars::COMMITS_URL) {
        Some(url) => kubernetes.with_commits(url),
        None => kubernetes,
    }
}

/// The Docker engine.
pub(super) fn docker(home: &Path) -> Docker {
    let engine = EngineSource::from_variables(|name| std::env::var(name).ok(), discovery::user_home().as_deref());
    let docker = Docker::new(engine, ControlPlaneId::of_home(home));
    match variable(env_vars::COMMITS_URL) {
        Some(url) => docker.with_commits(url),
        None => docker,
    }
}

/// Fly.io, where there is a token for it.
fn fly(allowed: &AllowList) -> Option<Fly> {
    let token = Secret::new(TOKEN_VARIABLES.into_iter().find_map(variable)?);
    let mut places = ApiEndpoints::default();
    // The first is ours, the others are what Fly's own tools know.
    if let Some(url) = [env_vars::FLY_API, "FLY_FLAPS_BASE_URL", "FLY_API_HOSTNAME"].into_iter().find_map(variable) {
        places.machines = url;
    }
    if let Some(url) = variable(env_vars::REGISTRY_URL) {
        places.registry = url;
    }
    if let Some(url) = variable(env_vars::COMMITS_URL) {
        places.commits = url;
    }
    let images = match allowed {
        AllowList::Unrestricted => ImagePolicy::Any,
        AllowList::Listed { images, .. } => images.clone(),
    };
    Some(Fly::new(Arc::new(ReqwestTransport::new(&token, places)), FlyConfig { default_org: variable("FLY_ORG"), images }))
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}
