//! Plans in files: saved without secrets, believed only when nothing has moved since.

use std::io::Write;
use std::path::Path;

use crate::app::AppError;
use crate::env_file::{StagedFile, sweep};
use crate::failpoint;
use crate::model::{Diagnostic, Exit, shell_word};
use crate::plan::{self, Plan};
use crate::system::{FileReadError, read_regular};

/// How large a saved plan may be.
const MAX_PLAN_BYTES: u64 = 256 << 20;

/// Saves a plan, readable by its owner only, whole or not at all.
pub(crate) fn save(plan: &Plan, path: &Path) -> Result<(), AppError> {
    let failed = |error: &dyn std::fmt::Display| {
        AppError::new(
            Exit::Failed,
            Diagnostic::new("plan.not_saved", format!("the plan could not be saved to `{}`: {error}", path.display())),
        )
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = serde_json::to_vec(plan).map_err(|error| failed(&error))?;
    sweep(folder);
    let mut staged = StagedFile::create(folder).map_err(|error| failed(&error))?;
    let file = staged.as_file_mut();
    file.write_all(&text)
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(|error| failed(&error))?;
    failpoint::hit("plan.saving");
    staged.persist(path).map_err(|error| failed(&error))
}

/// Reads a saved plan and checks that it is one.
pub(crate) fn read(path: &Path) -> Result<Plan, AppError> {
    let refused = |what: String| {
        let finding =
            Diagnostic::new("plan.unreadable", format!("`{}` is not a plan that can be applied: {what}", path.display()));
        AppError::new(
            Exit::Refused,
            finding.with_help(format!(
                "save a new one with\n    convexinfra plan --out {}",
                shell_word(&path.display().to_string())
            )),
        )
    };
    let bytes = read_regular(path, MAX_PLAN_BYTES).map_err(|error| match error {
        FileReadError::NotFound | FileReadError::Io(_) => {
            let message = format!("the plan `{}` cannot be read: {error}", path.display());
            AppError::new(Exit::Failed, Diagnostic::new("plan.unreadable", message))
        }
        error => refused(error.to_string()),
    })?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
    plan::validate(&plan).map_err(|defect| refused(defect.to_string()))?;
    Ok(plan)
}

/// Why a saved plan is not what would be done now, if it is not.
pub(crate) fn staleness(saved: &Plan, now: &Plan) -> Option<Diagnostic> {
    let what = if saved.project != now.project {
        format!("it is for project `{}`, and this is `{}`", saved.project, now.project)
    } else if saved.control_plane != now.control_plane {
        format!("it was made against the control plane `{}`, and this is `{}`", saved.control_plane, now.control_plane)
    } else if saved.manifest != now.manifest {
        "the manifest has changed since it was made".to_owned()
    } else if saved.base != now.base {
        format!("the project is at revision {} now, and it was made at {}", now.base, saved.base)
    } else if !plan::still_matches(saved, now) {
        let secrets_open =
            saved.lints.iter().any(|lint| [plan::SECRET_NOT_COMPARED, plan::SECRET_MISSING].contains(&lint.code.as_str()));
        let open = if secrets_open { ", or a secret that was not compared then turns out to be another one" } else { "" };
        format!(
            "planning now does not give the same steps: a secret, an env file or what is seen of the backends has changed{open}"
        )
    } else {
        return None;
    };
    Some(
        Diagnostic::new("plan.stale", format!("the saved plan is stale: {what}"))
            .with_help("plan again and look at the difference before applying it"),
    )
}
