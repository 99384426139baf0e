//! The two things that are done to an env file, each as one call that may be repeated: putting our block in, and
//! taking it out.
//!
//! Must not do: anything that merge, git and write do not offer one by one.

use std::path::Path;

use super::block::{Block, Owner};
use super::error::EnvFileError;
use super::git::{self, Ignored};
use super::merge::{Change, merge, remove};
use super::target::Target;
use super::write;

/// What putting a block in came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What is different in the file; empty when it said all of it before.
    pub changes: Vec<Change>,
    /// What is worth saying.
    pub warnings: Vec<String>,
    /// What was done so that git ignores the file.
    pub ignored: Ignored,
}

/// How often somebody else's edit in the same moment is taken in before giving up.
const ATTEMPTS: usize = 3;

/// The content of an env file, if there is one.
///
/// # Errors
/// [`EnvFileError`] when what stands there is no env file or cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, EnvFileError> {
    Target::resolve(path).map(|target| target.content)
}

/// Puts a block into an env file: git is made to ignore it first, so that a key is never in a file that it is not.
///
/// # Errors
/// [`EnvFileError`]; the env file is then as it was.
pub fn put(path: &Path, block: &Block) -> Result<Written, EnvFileError> {
    retry(|| {
        let target = Target::resolve(path)?;
        let mut merged = merge(target.content.as_deref().unwrap_or_default(), block);
        merged.warnings.extend(target.guard()?);
        let ignored = git::ensure_ignored(&target.real)?;
        if let Ignored::Unknown(reason) = &ignored {
            merged.warnings.push(format!("cannot make git ignore `{}`: {reason}; add it to a `.gitignore`", path.display()));
        }
        write::write(path, target.content.as_deref(), &merged.bytes)?;
        Ok(Written { changes: merged.changes, warnings: merged.warnings, ignored })
    })
}

/// Takes the block of a backend out of an env file, and the file away if nothing else was in it. Says whether there
/// was anything to do.
///
/// # Errors
/// [`EnvFileError`]; the env file is then as it was.
pub fn take_out(path: &Path, owner: &Owner) -> Result<bool, EnvFileError> {
    retry(|| {
        let target = match Target::resolve(path) {
            Err(EnvFileError::FolderMissing { .. }) => return Ok(false),
            other => other?,
        };
        let Some(content) = &target.content else { return Ok(false) };
        let bytes = remove(content, owner);
        if bytes == *content {
            return Ok(false);
        }
        // Never emptied first and deleted then: in between, nothing would tell that the empty file was ours.
        if bytes.is_empty() && target.real == target.path {
            write::delete(&target, content)?;
        } else {
            write::write(path, Some(content), &bytes)?;
        }
        Ok(true)
    })
}

fn retry<T>(attempt: impl Fn() -> Result<T, EnvFileError>) -> Result<T, EnvFileError> {
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        if !matches!(result, Err(EnvFileError::ChangedMeanwhile { .. })) {
            break;
        }
        result = attempt();
    }
    result
}
