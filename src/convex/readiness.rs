//! Whether the backend that we mean answers where we think it does.

use super::deployment::{Deployment, DeploymentClient, DeploymentError};
use crate::model::Secret;

/// Says whether the backend that we mean answers at a URL.
#[derive(Debug)]
pub enum Readiness {
    /// It does, and takes our key.
    Ready,
    /// Nothing listens: it is still starting, or dead.
    NotListening,
    /// Another backend listens there.
    OtherInstance {
        /// What it calls itself.
        name: String,
    },
    /// It is the right name, with another secret.
    KeyRefused,
    /// Something answers, but not as a backend does.
    Failing(DeploymentError),
}

/// Asks whether the backend of this name answers at this URL and takes this key.
pub async fn probe_readiness(connections: &DeploymentClient, url: &str, instance_name: &str, key: &Secret) -> Readiness {
    let deployment = Deployment::new(connections, url, Some(key.clone()));
    match deployment.instance_name().await {
        Ok(name) if name == instance_name => {}
        Ok(name) => return Readiness::OtherInstance { name },
        Err(DeploymentError::NotListening { .. }) => return Readiness::NotListening,
        Err(error) => return Readiness::Failing(error),
    }
    match deployment.check_admin_key().await {
        Ok(_) => Readiness::Ready,
        Err(DeploymentError::Refused { status: 401 | 403, .. }) => Readiness::KeyRefused,
        Err(DeploymentError::NotListening { .. }) => Readiness::NotListening,
        Err(error) => Readiness::Failing(error),
    }
}
