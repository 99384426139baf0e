//! Stops, starts or forgets one backend: an operation without a plan.

use std::pin::pin;
use std::time::Duration;

use super::{AppError, Reporter};
use crate::api::{ControlPlane, LEASE_SECONDS, OperationOutcome, OperationRequest, Work};
use crate::host::own_holder;
use crate::model::{BackendName, Diagnostic, Exit, ProjectName, StepKey};

/// Runs one operation on a backend under a lease of its own, and returns once it has ended.
///
/// # Errors
/// What the control plane says, or why the operation failed.
pub(crate) async fn run(
    control: &dyn ControlPlane,
    project: &ProjectName,
    origin: Option<String>,
    backend: &BackendName,
    work: Work,
    reporter: &dyn Reporter,
) -> Result<(), AppError> {
    let step = StepKey { plan: work.kind().as_str().to_owned(), step: nonce()? };
    let lease = control.acquire_lease(project, own_holder()).await?;
    let request = OperationRequest { step, backend: backend.clone(), work, origin };
    let notice = |message: String| reporter.notice(&format!("  · backend.{backend}: {message}"));
    let outcome = {
        let mut operation = pin!(control.run(&lease, request, &notice));
        loop {
            tokio::select! {
                outcome = &mut operation => break outcome,
                // A start may take longer than a lease lasts.
                () = tokio::time::sleep(Duration::from_secs(LEASE_SECONDS / 3)) => {
                    let _ = control.renew_lease(&lease).await;
                }
            }
        }
    };
    // A lease that cannot be released expires by itself.
    let _ = control.release_lease(&lease).await;
    match outcome? {
        OperationOutcome::Done { .. } => Ok(()),
        OperationOutcome::Failed { finding, .. } => Err(AppError::new(finding.exit(), finding)),
    }
}

/// Returns a name for the step that no other request has, so that it is not taken for a repetition.
fn nonce() -> Result<String, AppError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        AppError::new(Exit::Failed, Diagnostic::new("host.entropy", format!("there are no random numbers: {error}")))
    })?;
    Ok(hex::encode(bytes))
}
