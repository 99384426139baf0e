//! Pauses and resumes a deployment by its own API.

use super::AppError;
use crate::api::Credentials;
use crate::convex::deployment::{Deployment, DeploymentClient};
use crate::model::{Diagnostic, Exit, error_chain};

/// Whether a deployment is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Functions, crons and jobs run.
    Running,
    /// They do not.
    Paused,
}

/// Pauses or resumes a deployment; one that is so already stays so.
///
/// # Errors
/// The deployment does not answer, or refuses.
pub(crate) async fn set_activity(credentials: Credentials, activity: Activity) -> Result<(), AppError> {
    let connections = DeploymentClient::default();
    let deployment = Deployment::new(&connections, credentials.url, Some(credentials.admin_key));
    let done = match activity {
        Activity::Running => deployment.unpause().await,
        Activity::Paused => deployment.pause().await,
    };
    done.map_err(|error| AppError::new(Exit::Unreachable, Diagnostic::new("convex.pause", error_chain(&error))))
}
