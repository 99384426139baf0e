//! The Convex environment variables of one backend: comparing them and setting them through the deployment's own API.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::EnvironmentTarget;
use crate::convex::deployment::{Deployment, DeploymentClient, DeploymentError, EnvironmentChange};
use crate::model::{FieldDrift, FieldPath, FingerprintKey, ResolvedBackend, Secret};

/// Describes what is seen of a deployment's variables.
pub(super) struct EnvironmentDiff {
    /// Where those that we set differ from what was set.
    pub(super) deviations: Vec<FieldDrift>,
    /// The names of all others, which are left alone.
    pub(super) others: BTreeSet<String>,
}

/// Looks at the variables of a deployment.
pub(super) async fn diff(
    connections: &DeploymentClient,
    url: &str,
    placement: &ResolvedBackend,
    fingerprints: &FingerprintKey,
) -> Result<EnvironmentDiff, DeploymentError> {
    let deployment = Deployment::new(connections, url, Some(placement.admin_key.clone()));
    let seen = deployment.environment().await?;
    let mut deviations = Vec::new();
    for name in placement.spec.env.keys() {
        let path = FieldPath::new(format!("env.{name}"));
        let Some(recorded) = placement.secrets.get(&path) else { continue };
        let observed = match seen.get(name) {
            Some(value) if value == recorded => continue,
            Some(value) => fingerprints.fingerprint(value.expose()).to_string(),
            None => "(not set)".to_owned(),
        };
        deviations.push(FieldDrift { path, recorded: fingerprints.fingerprint(recorded.expose()).to_string(), observed });
    }
    let others = seen.into_keys().filter(|name| !placement.spec.env.contains_key(name)).collect();
    Ok(EnvironmentDiff { deviations, others })
}

/// Sets what differs in one batch, so that either all of it is there or nothing changed.
pub(super) async fn apply(
    connections: &DeploymentClient,
    url: &str,
    placement: &ResolvedBackend,
    goal: &EnvironmentTarget,
) -> Result<(), DeploymentError> {
    let deployment = Deployment::new(connections, url, Some(placement.admin_key.clone()));
    let seen: BTreeMap<String, Secret> = deployment.environment().await?;
    let mut changes: Vec<EnvironmentChange> = goal
        .set
        .iter()
        .filter(|(name, value)| seen.get(*name) != Some(value))
        .map(|(name, value)| EnvironmentChange { name: name.clone(), value: Some(value.clone()) })
        .collect();
    changes.extend(
        goal.unset
            .iter()
            .filter(|name| seen.contains_key(*name))
            .map(|name| EnvironmentChange { name: name.clone(), value: None }),
    );
    if changes.is_empty() { Ok(()) } else { deployment.change_environment(&changes).await }
}
