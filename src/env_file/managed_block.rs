//! The two things that are done to an env file, each as one call that may be repeated: putting our block in, and
//! taking it out.
//!
//! Must not do: anything that merge, git and write do not offer one by one.

use std::path::Path;

use super::block::{Block, BlockOwner};
use super::error::EnvFileError;
use super::git::{self, IgnoreOutcome};
use super::merge::{EnvFileEdit, merge, without_block};
use super::resolved_file::ResolvedFile;
use super::write;

/// What putting a block in came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertOutcome {
    /// What is different in the file; empty when it said all of it before.
    pub changes: Vec<EnvFileEdit>,
    /// What is worth saying.
    pub warnings: Vec<String>,
    /// What was done so that git ignores the file.
    pub ignored: IgnoreOutcome,
}

/// How often somebody else's edit in the same moment is taken in before giving up.
const ATTEMPTS: usize = 3;

/// The content of an env file, if there is one.
///
/// # Errors
/// [`EnvFileError`] when what stands there is no env file or cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, EnvFileError> {
    ResolvedFile::resolve(path).map(|target| target.content)
}

/// Puts a block into an env file: git is made to ignore it first, so that a key is never in a file that it is not.
///
/// # Errors
/// [`EnvFileError`]; the env file is then as it was.
pub fn upsert_block(path: &Path, block: &Block) -> Result<UpsertOutcome, EnvFileError> {
    retry(|| {
        let target = ResolvedFile::resolve(path)?;
        let mut merged = merge(target.content.as_deref().unwrap_or_default(), block);
        merged.warnings.extend(target.ensure_replaceable()?);
        let ignored = git::ensure_ignored(&target.real)?;
        if let IgnoreOutcome::Unknown(reason) = &ignored {
            merged.warnings.push(format!("cannot make git ignore `{}`: {reason}; add it to a `.gitignore`", path.display()));
        }
        write::write(path, target.content.as_deref(), &merged.bytes)?;
        Ok(UpsertOutcome { changes: merged.changes, warnings: merged.warnings, ignored })
    })
}

/// Takes the block of a backend out of an env file, and the file away if nothing else was in it. Says whether there
/// was anything to do.
///
/// # Errors
/// [`EnvFileError`]; the env file is then as it was.
pub fn remove_block(path: &Path, owner: &BlockOwner) -> Result<bool, EnvFileError> {
    retry(|| {
        let target = match ResolvedFile::resolve(path) {
            Err(EnvFileError::FolderMissing { .. }) => return Ok(false),
            other => other?,
        };
        let Some(content) = &target.content else { return Ok(false) };
        let bytes = without_block(content, owner);
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
