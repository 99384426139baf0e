//! The two things that are done to an env file, each as one call that may be repeated: putting the block of a backend in, and
//! taking it out.

use std::path::Path;

use super::block::{Block, BlockOwner};
use super::error::EnvFileError;
use super::ignore::{IgnoreOutcome, ensure_ignored};
use super::merge::{EnvFileEdit, merge_into, was_empty, without_block};
use super::parse::Document;
use super::repository::Boundary;
use super::resolved_file::ResolvedFile;
use super::write::{self, FileMode};

/// The outcome of putting a block in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertOutcome {
    /// What is different in the file; empty when it said all of it before.
    pub changes: Vec<EnvFileEdit>,
    /// What is worth saying.
    pub warnings: Vec<String>,
    /// What was done so that the file is ignored; none where it holds no key.
    pub ignored: Option<IgnoreOutcome>,
}

/// How often the edit of another program in the same moment is taken in before giving up.
const ATTEMPTS: usize = 3;

/// Reads the content of an env file, if there is one.
///
/// # Errors
/// [`EnvFileError`] when what stands there is no env file or cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, EnvFileError> {
    ResolvedFile::resolve(path, None).map(|target| target.content)
}

/// Returns whether an env file has the block of a backend.
///
/// # Errors
/// [`EnvFileError`] when that cannot be told, as where its folder is not there.
pub fn has_block(path: &Path, owner: &BlockOwner) -> Result<bool, EnvFileError> {
    Ok(read(path)?.is_some_and(|content| super::inspect::has_block(&Document::parse(&content), owner)))
}

/// Puts a block into an env file. A file that gets a key is ignored first, so that a key is never in one that is not. With a
/// boundary, nothing outside of it is written.
///
/// # Errors
/// [`EnvFileError`]; the env file is then as it was.
pub fn upsert_block(path: &Path, boundary: Option<&Boundary>, block: &Block) -> Result<UpsertOutcome, EnvFileError> {
    retry(|| {
        let mut target = ResolvedFile::resolve(path, boundary)?;
        let mut merged = merge_into(target.content.as_deref(), block);
        let mode = if block.has_pair() { FileMode::Private } else { FileMode::Preserved };
        merged.warnings.extend(target.ensure_replaceable(block.has_pair())?);
        let ignored = if block.has_pair() { Some(ensure_ignored(&target.real)?) } else { None };
        if let Some(IgnoreOutcome::Unknown(reason)) = &ignored {
            merged.warnings.push(format!(
                "nothing makes version control ignore `{}`: {reason}; add a rule by hand, as there is an admin key in it",
                path.display()
            ));
        }
        write::write(&target, &merged.bytes, mode)?;
        Ok(UpsertOutcome { changes: merged.changes, warnings: merged.warnings, ignored })
    })
}

/// Takes the block of a backend out of an env file, turns on again what had made room for it, and deletes the file if nothing
/// else is in it and it was not there before. `written` are the URLs that were put in, as [`without_block`] wants them. Returns whether there was anything
/// to do.
///
/// # Errors
/// [`EnvFileError`]; the env file is then as it was.
pub fn remove_block(
    path: &Path,
    boundary: Option<&Boundary>,
    owner: &BlockOwner,
    written: Option<&[String]>,
) -> Result<bool, EnvFileError> {
    retry(|| {
        let mut target = match ResolvedFile::resolve(path, boundary) {
            Err(EnvFileError::FolderMissing { .. }) => return Ok(false),
            other => other?,
        };
        let Some(content) = &target.content else { return Ok(false) };
        let bytes = without_block(content, owner, written);
        if bytes == *content {
            return Ok(false);
        }
        let was_there = was_empty(content, owner);
        target.ensure_replaceable(false)?;
        // Never emptied first and deleted then: in between, nothing would tell that the empty file was ours.
        if bytes.is_empty() && target.real == target.path && !was_there {
            write::delete(&target)?;
        } else {
            write::write(&target, &bytes, FileMode::Preserved)?;
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
