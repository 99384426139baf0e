//! Who a project belongs to: the repository that it was last applied from.

use crate::model::{Diagnostic, ProjectName, REMOTE_ORIGIN};

/// A project that was last applied from somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherOrigin {
    /// What is said about it.
    pub(crate) refusal: Diagnostic,
    /// Whether both are remotes of repositories, so that they cannot be the same work in another folder.
    pub(crate) is_other_remote: bool,
}

/// Returns whether a remote is a host and a path that stand in a command as they are.
fn is_plain(remote: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    remote.split_once('/').is_some_and(|(host, path)| host.contains('.') && !path.is_empty()) && remote.chars().all(is_safe)
}

/// Returns that a project is at home in another repository than this one, unless either is not known.
pub(crate) fn other_repository(project: &ProjectName, recorded: Option<&str>, here: &str) -> Option<OtherOrigin> {
    let before = recorded.filter(|before| !here.is_empty() && *before != here)?;
    let message = format!(
        "project `{project}` was last applied from {before}, and this is {here}; if both mean the same project, \
         `convexinfra apply --take-over` makes this repository its home, otherwise give this one another name with `project = …` or `--project NAME`"
    );
    let refusal = Diagnostic::new("plan.other_repository", message)
        .with_help("see what it would mean to take it over with\n    convexinfra plan --take-over");
    let is_other_remote = before.starts_with(REMOTE_ORIGIN) && here.starts_with(REMOTE_ORIGIN);
    let refusal = match before.strip_prefix(REMOTE_ORIGIN).filter(|remote| is_other_remote && is_plain(remote)) {
        Some(remote) => refusal.with_help(format!(
            "where this is the clone of a fork of that one, say so with\n    git config convexinfra.repository https://{remote}\n\
             otherwise see what it would mean to take it over with\n    convexinfra plan --take-over"
        )),
        None => refusal,
    };
    Some(OtherOrigin { refusal, is_other_remote })
}
