//! Who a project belongs to: the repository that it was last applied from.

use crate::model::{Diagnostic, ProjectName};

/// What the origin of a project starts with when it is the remote of a repository; any other is a folder of one machine.
const REPOSITORY: &str = "repository ";

/// A project that was last applied from somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherOrigin {
    /// What is said about it.
    pub(crate) refusal: Diagnostic,
    /// Whether both are remotes of repositories, so that they cannot be the same work in another folder.
    pub(crate) is_other_remote: bool,
}

/// Returns that a project is at home in another repository than this one, unless either is not known.
pub(crate) fn other_repository(project: &ProjectName, recorded: Option<&str>, here: &str) -> Option<OtherOrigin> {
    let before = recorded.filter(|before| !here.is_empty() && *before != here)?;
    let message = format!(
        "project `{project}` was last applied from {before}, and this is {here}; if both mean the same project, \
         `convexinfra apply --take-over` makes this repository its home, otherwise give this one another name with `project = …` or `--project NAME`"
    );
    let refusal = Diagnostic { address: None, ..Diagnostic::new("plan.other_repository", message) };
    let is_other_remote = before.starts_with(REPOSITORY) && here.starts_with(REPOSITORY);
    Some(OtherOrigin { refusal, is_other_remote })
}
