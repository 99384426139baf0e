//! `convexinfra stop`, `start` and `forget`: one operation on one backend that a plan is not about.

use crate::api::{OperationOutcome, Request, Work};
use crate::app::{AppError, select_backend};
use crate::cli::args::NamedBackend;
use crate::cli::context::Context;
use crate::host::own_holder;
use crate::model::{Exit, StepKey};

/// Has one operation carried out, and says what came of it.
pub(super) async fn run(context: &Context, args: &NamedBackend, work: Work) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let backend = select_backend(&control.snapshot(&project).await?, Some(&args.name))?;
    let lease = control.acquire_lease(&project, own_holder()).await?;
    let kind = work.kind();
    // No other holder has this fence, so no earlier step has this name.
    let step = StepKey { plan: kind.as_str().to_owned(), step: format!("{backend}:{}", lease.fence) };
    let origin = desired.and_then(|desired| desired.origin_if_known()).map(str::to_owned);
    let request = Request { step, backend: backend.clone(), work: work.clone(), origin };
    let printer = &context.printer;
    let on_progress = |message: String| printer.status(&format!("{message}\n"));
    let outcome = control.run(&lease, request, &on_progress).await;
    // A lease that cannot be released expires by itself.
    let _ = control.release_lease(&lease).await;
    if let OperationOutcome::Failed { finding, .. } = outcome? {
        return Err(AppError::new(finding.exit(), finding));
    }
    let (format, state, text) = match work {
        Work::Stop => (
            "convexinfra.stop/1",
            "stopped",
            format!("`{backend}` is stopped; start it again with\n    convexinfra start {backend}\n"),
        ),
        Work::Start => ("convexinfra.start/1", "started", format!("`{backend}` is started\n")),
        _ => (
            "convexinfra.forget/1",
            "forgotten",
            format!("the record of `{backend}` is gone; its container, data and database stay where they are\n"),
        ),
    };
    context.printer.output(&text);
    context.printer.json(format, serde_json::json!({ "name": backend, "state": state }));
    Ok(Exit::Done)
}
