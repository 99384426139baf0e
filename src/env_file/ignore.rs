//! Whether a version control system ignores a file, and the rule that makes it.
//!
//! The one file that is written here is the rule file: `.gitignore` beside the env file, or `.hgignore` at the root.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bounded;
use super::error::EnvFileError;
use super::git;
use super::repository::folder;
use super::repository::{VersionControl, WorkTree, work_tree};
use super::write;
use crate::failpoint;

/// Whether a file would be committed by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IgnoreStatus {
    /// There is no repository.
    NoRepository,
    /// It is ignored.
    Ignored,
    /// It is not ignored, and a rule in this file would change that.
    NotIgnored(PathBuf),
    /// It is not certain that it is ignored: why.
    Unknown(String),
}

/// What was done so that a file is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IgnoreOutcome {
    /// There is no repository.
    NoRepository,
    /// It was ignored before.
    Already,
    /// A line was added to this file.
    Added(PathBuf),
    /// It is not certain that it is ignored: why.
    Unknown(String),
}

/// A file of rules and the line that would go into it.
struct RuleFile {
    path: PathBuf,
    content: Option<Vec<u8>>,
    line: Vec<u8>,
}

/// Tells whether a file, which need not exist, is ignored where it lies.
///
/// # Errors
/// [`EnvFileError`] when the rule file cannot be read.
pub fn ignore_status(path: &Path) -> Result<IgnoreStatus, EnvFileError> {
    Ok(match look(path)? {
        Ok(status) => status,
        Err(rules) => IgnoreStatus::NotIgnored(rules.path),
    })
}

/// Makes sure that a file is ignored, by a line in the rule file. Git reads the last matching line, so ours comes last.
///
/// # Errors
/// [`EnvFileError`] when the rule file can be neither read nor written.
pub fn ensure_ignored(path: &Path) -> Result<IgnoreOutcome, EnvFileError> {
    let rules = match look(path)? {
        Ok(IgnoreStatus::NoRepository) => return Ok(IgnoreOutcome::NoRepository),
        Ok(IgnoreStatus::Unknown(reason)) => return Ok(IgnoreOutcome::Unknown(reason)),
        Ok(IgnoreStatus::Ignored | IgnoreStatus::NotIgnored(_)) => return Ok(IgnoreOutcome::Already),
        Err(rules) => rules,
    };
    let after = with_line(rules.content.as_deref().unwrap_or_default(), &rules.line);
    write::replace(&rules.path, &rules.path, rules.content.as_deref(), &after, write::FileMode::Preserved)?;
    failpoint::hit("env_file.ignored");
    Ok(IgnoreOutcome::Added(rules.path))
}

/// The status of a file, or the rule that is missing.
fn look(path: &Path) -> Result<Result<IgnoreStatus, RuleFile>, EnvFileError> {
    let folder = folder(path);
    let Some((tree, name)) = work_tree(&folder).zip(path.file_name()) else { return Ok(Ok(IgnoreStatus::NoRepository)) };
    let unknown = |reason: String| Ok(Ok(IgnoreStatus::Unknown(reason)));
    let Some(text) = name.to_str() else { return unknown("its name is not UTF-8".to_owned()) };
    let rules = match tree.system {
        VersionControl::Git | VersionControl::ReadsGitignore => folder.join(".gitignore"),
        VersionControl::Mercurial => tree.root.join(".hgignore"),
        VersionControl::Other(system) => return unknown(format!("its rules are those of {system}")),
    };
    let content = match fs::symlink_metadata(&rules) {
        // Git does not follow such a link, so a line behind it would have no effect.
        Ok(found) if !found.is_file() => {
            return match git_says(&tree, &folder, name) {
                Some(true) => Ok(Ok(IgnoreStatus::Ignored)),
                _ => unknown(format!("`{}` is not a regular file", rules.display())),
            };
        }
        Ok(_) => Some(bounded::read(&rules).map_err(|error| EnvFileError::reading(&rules, error))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(EnvFileError::reading(&rules, error)),
    };
    let before = content.as_deref().unwrap_or_default();
    let ignored = match tree.system {
        // Our own rule, in its place: no process has to be started for the usual case.
        VersionControl::Git if ends_with_rule(before, text) => true,
        VersionControl::Git => git_says(&tree, &folder, name).unwrap_or_else(|| matches_pattern(before, text)),
        VersionControl::ReadsGitignore => listed_above(&tree, &folder, text),
        VersionControl::Other(_) => false,
        VersionControl::Mercurial => {
            let rule = hg_rule(&tree, &folder, text);
            matches_pattern(before, text)
                || before.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == rule.as_slice())
        }
    };
    if ignored {
        return Ok(Ok(IgnoreStatus::Ignored));
    }
    let line = if tree.system == VersionControl::Mercurial { hg_rule(&tree, &folder, text) } else { git_rule(text) };
    Ok(Err(RuleFile { path: rules, content, line }))
}

fn git_says(tree: &WorkTree, folder: &Path, name: &OsStr) -> Option<bool> {
    if tree.system == VersionControl::Git { git::is_ignored(folder, name) } else { None }
}

/// Whether the last rule that could be about a name is the name itself.
fn ends_with_rule(rules: &[u8], name: &str) -> bool {
    let rule = git_rule(name);
    let lines = rules.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.rev().take_while(|line| !line.starts_with(b"!")).any(|line| line == rule.as_slice())
}

/// Whether a `.gitignore` between a folder and the root has a pattern that is about a name.
fn listed_above(tree: &WorkTree, folder: &Path, name: &str) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else { return false };
    let above = folder.ancestors().take_while(|ancestor| ancestor.starts_with(&tree.root));
    let mut rules = above.map(|ancestor| ancestor.join(".gitignore")).filter(|path| path.is_file());
    rules.any(|path| bounded::read(&path).is_ok_and(|rules| matches_pattern(&rules, name)))
}

/// The patterns that the Convex client accepts as well, for where there is no git to ask.
fn matches_pattern(rules: &[u8], name: &str) -> bool {
    let matches = |pattern: &str| match pattern {
        "*.local" => name.ends_with(".local"),
        ".env*.local" => name.starts_with(".env") && name.ends_with(".local"),
        ".env*" => name.starts_with(".env"),
        ".env.*" => name.starts_with(".env."),
        other => other == name,
    };
    let rules = String::from_utf8_lossy(rules);
    rules.lines().map(|line| line.trim().trim_start_matches("glob:")).any(matches)
}

/// The rule of git for a name, with its special characters escaped.
fn git_rule(name: &str) -> Vec<u8> {
    let escaped: String =
        name.chars().flat_map(|letter| "\\*?[]!# ".contains(letter).then_some('\\').into_iter().chain([letter])).collect();
    escaped.into_bytes()
}

/// The rule of Mercurial for a file, which starts at the root.
fn hg_rule(tree: &WorkTree, folder: &Path, name: &str) -> Vec<u8> {
    let folder = fs::canonicalize(folder).unwrap_or_default();
    let below = folder.strip_prefix(&tree.root).map(|below| below.join(name)).unwrap_or_else(|_| name.into());
    format!("rootglob:{}", below.display()).into_bytes()
}

fn with_line(rules: &[u8], line: &[u8]) -> Vec<u8> {
    let line_break: &[u8] = if rules.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
    let mut bytes = rules.to_vec();
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.extend_from_slice(line_break);
    }
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(line_break);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_ignore_rules_are_kept() {
        let with_rule = |rules: &[u8], name: &str| with_line(rules, &git_rule(name));
        assert_eq!(with_rule(b"", ".env.local"), b".env.local\n");
        assert_eq!(with_rule(b"a", ".env.local"), b"a\n.env.local\n");
        assert_eq!(with_rule(b"a\r\n", "!x *"), b"a\r\n\\!x\\ \\*\r\n");
    }

    #[test]
    fn our_own_rule_counts_unless_one_after_it_takes_it_back() {
        assert!(ends_with_rule(b"a\n.env.local\n", ".env.local"));
        assert!(ends_with_rule(b"!b\r\n.env.local\r\nc", ".env.local"));
        assert!(!ends_with_rule(b".env.local\n!.env.local\n", ".env.local"));
        assert!(!ends_with_rule(b".env.local2\n", ".env.local"));
        assert!(!ends_with_rule(b"", ".env.local"));
    }

    #[test]
    fn a_system_whose_rules_are_not_known_is_named() {
        for (mark, system) in [(".svn", "Subversion"), ("_darcs", "Darcs")] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join(mark)).unwrap();
            fs::create_dir_all(folder.path().join("app")).unwrap();
            for path in [folder.path().join(".env.local"), folder.path().join("app/.env.local")] {
                let IgnoreStatus::Unknown(why) = ignore_status(&path).unwrap() else { panic!("{path:?}") };
                assert!(why.contains(system), "{why}");
                assert!(matches!(ensure_ignored(&path).unwrap(), IgnoreOutcome::Unknown(_)));
            }
        }
    }

    #[test]
    fn patterns_that_count_without_git() {
        assert!(matches_pattern(b"x\r\n*.local\r\n", ".env.local"));
        assert!(matches_pattern(b".env*", ".env.staging"));
        assert!(!matches_pattern(b"*.local\n", ".env.staging"));
        assert!(!matches_pattern(b"# .env.local\n", ".env.local"));
        assert!(matches_pattern(b"glob:.env.local\n", ".env.local"));
    }
}
