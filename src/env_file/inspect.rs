//! What stands in an env file now, for planning.
//!
//! Nothing is written, and no key that was read is kept.

use std::ffi::OsString;
use std::path::Path;

use super::block::{ADMIN_KEY, Block, BlockLayout, BlockOwner, ClientVariables, DEPLOY_KEYS, ExpectedBlock, URL};
use super::bounded;
use super::diff::{is_bare_url, preview, redacted_diff};
use super::error::EnvFileError;
use super::ignore::{IgnoreStatus, ignore_status};
use super::merge::{merge, without_block};
use super::notes::CLOUD_DEPLOYMENT;
use super::parse::Document;
use super::repository::Boundary;
use super::repository::folder;
use super::resolved_file::ResolvedFile;
use crate::model::{EnvFileContent, EnvFileState, Fingerprint, Secret};

/// Inspects an env file, which need not exist. `expected` is what it should say, as far as that is known; `fingerprint` turns
/// a key into what can be compared; `environment` looks a variable of this process up.
pub fn inspect(
    path: &Path,
    boundary: Option<&Boundary>,
    expected: &ExpectedBlock,
    fingerprint: impl Fn(&str) -> Option<Fingerprint>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> EnvFileState {
    let mut target = match ResolvedFile::resolve(path, boundary) {
        Ok(target) => target,
        Err(error) => return refused(&error),
    };
    let existing = target.content.clone().unwrap_or_default();
    let document = Document::parse(&existing);
    let merged = expected_block(expected, &document).map(|block| merge(&existing, &block));
    let mut content = EnvFileContent {
        up_to_date: false,
        has_block: has_block(&document, &expected.owner),
        needs_ignore_rule: false,
        exposed_mode: None,
        url: document.value(URL).filter(|url| is_bare_url(url)).map(str::to_owned),
        admin_key: document.value(ADMIN_KEY).and_then(&fingerprint),
        difference: String::new(),
        removal: String::new(),
    };
    let is_known = |known: bool| !expected.has_pair || known;
    content.up_to_date = expected.url.is_some()
        && is_known(content.admin_key.is_some() && content.admin_key == expected.admin_key)
        && merged.as_ref().is_some_and(|merged| merged.bytes == existing);
    let mut warnings = Vec::new();
    let mut may_be_written = true;
    match target.ensure_replaceable(expected.has_pair) {
        Ok(remark) => warnings.extend(remark),
        // What is right already is not written, so nothing is in the way but a key that git has seen.
        Err(error @ EnvFileError::TrackedByGit { .. }) => return refused(&error),
        Err(_) if content.up_to_date => may_be_written = false,
        Err(error) => return refused(&error),
    }
    if content.admin_key.is_some() && expected.has_pair && may_be_written {
        content.exposed_mode = exposed_mode(&target.real);
    }
    warnings.extend(merged.into_iter().flat_map(|merged| merged.warnings));
    if expected.has_pair {
        match ignore_status(&target.real) {
            Ok(IgnoreStatus::NotIgnored(rules)) => {
                content.needs_ignore_rule = may_be_written;
                let system = if rules.ends_with(".hgignore") { "Mercurial" } else { "git" };
                warnings.push(format!(
                    "{system} does not ignore `{}` yet, so the admin key in it could be committed; apply adds it to `{}`",
                    path.display(),
                    rules.display()
                ));
            }
            Ok(IgnoreStatus::Unknown(reason)) => warnings.push(format!(
                "nothing makes version control ignore `{}`: {reason}; add a rule by hand, as there is an admin key in it",
                path.display()
            )),
            Ok(IgnoreStatus::Ignored | IgnoreStatus::NoRepository) => {}
            Err(error) => return refused(&error),
        }
    }
    let conflicting = ConflictingVariables { path, expected, fingerprint: &fingerprint };
    if expected.has_pair {
        conflicting.warn(&document, &environment, &mut warnings);
    }
    if !content.up_to_date {
        content.difference = preview(&existing, expected, &fingerprint);
    }
    if content.has_block {
        content.removal = redacted_diff(&existing, &without_block(&existing, &expected.owner, None), &fingerprint);
    }
    EnvFileState::Writable { content, outside: false, warnings }
}

/// Returns the mode of a file that others than its user may read.
#[cfg(unix)]
fn exposed_mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn exposed_mode(_path: &Path) -> Option<u32> {
    None
}

/// What the file should hold. Where the key or the URL is not known yet, what stands there is as good for what the rest needs.
fn expected_block(expected: &ExpectedBlock, document: &Document<'_>) -> Option<Block> {
    let url = expected.url.as_deref().or(document.value(URL)).unwrap_or("http://localhost");
    let key = expected.has_pair.then(|| Secret::new(document.value(ADMIN_KEY).unwrap_or("unknown")));
    let client = expected.client.as_ref().map(|client| ClientVariables {
        prefix: client.prefix.clone(),
        site_url: client.site_url.clone().unwrap_or_else(|| url.to_owned()),
    });
    Block::new(expected.owner.clone(), url, key, client).ok()
}

/// Whether the block of a backend is in a file.
pub(super) fn has_block(document: &Document<'_>, owner: &BlockOwner) -> bool {
    let label = owner.label();
    BlockLayout::of(document, None).blocks.iter().any(|found| found.owner == label)
}

/// Returns a refusal, with what the system said at its end.
fn refused(error: &EnvFileError) -> EnvFileState {
    let source = std::error::Error::source(error);
    let message = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    EnvFileState::Refused { code: error.code().to_owned(), message }
}

/// Variables that win over ours, here and elsewhere.
struct ConflictingVariables<'a, F> {
    path: &'a Path,
    expected: &'a ExpectedBlock,
    fingerprint: &'a F,
}

impl<F: Fn(&str) -> Option<Fingerprint>> ConflictingVariables<'_, F> {
    fn warn(&self, document: &Document<'_>, environment: &dyn Fn(&str) -> Option<OsString>, warnings: &mut Vec<String>) {
        let here = self.path.display().to_string();
        let set = |document: &Document<'_>, name: &str| document.value(name).is_some_and(|value| !value.is_empty());
        for name in DEPLOY_KEYS.iter().filter(|name| set(document, name)) {
            warnings.push(cloud_key(name, &format!("in `{here}`")));
        }
        // The client reads these two by itself; any other file it reads alone, told by `--env-file`.
        let sibling = match self.path.file_name().and_then(|name| name.to_str()) {
            Some(".env.local") => ".env",
            Some(".env") => ".env.local",
            _ => return,
        };
        let beside = folder(self.path).join(sibling);
        // Opening a pipe would wait for a writer.
        if beside.is_file()
            && let Ok(content) = bounded::read(&beside)
        {
            let document = Document::parse(&content);
            let place = format!("in `{sibling}` beside it");
            for name in DEPLOY_KEYS.iter().filter(|name| set(&document, name)) {
                warnings.push(cloud_key(name, &place));
            }
            if set(&document, CLOUD_DEPLOYMENT) {
                warnings.push(cloud_deployment(&place));
            }
            if sibling == ".env.local" {
                for name in [URL, ADMIN_KEY] {
                    if document.value(name).is_some_and(|value| self.differs(name, value)) {
                        warnings.push(overridden(name, &place, &here));
                    }
                }
            }
        }
        let place = "in the environment of this process";
        for name in DEPLOY_KEYS {
            if environment(name).is_some_and(|value| !value.is_empty()) {
                warnings.push(cloud_key(name, place));
            }
        }
        if environment(CLOUD_DEPLOYMENT).is_some_and(|value| !value.is_empty()) {
            warnings.push(cloud_deployment(place));
        }
        for name in [URL, ADMIN_KEY] {
            if environment(name).is_some_and(|value| value.to_str().is_none_or(|value| self.differs(name, value))) {
                warnings.push(overridden(name, place, &here));
            }
        }
    }

    fn differs(&self, name: &str, value: &str) -> bool {
        let expected = self.expected;
        if name == URL {
            expected.url.as_deref().map(|url| url.trim_end_matches('/')) != Some(value.trim_end_matches('/'))
        } else {
            expected.admin_key.is_none() || (self.fingerprint)(value) != expected.admin_key
        }
    }
}

fn cloud_key(name: &str, place: &str) -> String {
    format!("`{name}` is set {place}, so the Convex client talks to Convex Cloud and not to this backend; unset it")
}

fn cloud_deployment(place: &str) -> String {
    format!("`{CLOUD_DEPLOYMENT}` is set {place}, and the Convex client refuses it beside `{URL}`; unset it")
}

fn overridden(name: &str, place: &str, here: &str) -> String {
    format!("`{name}` is set {place} to something else, and that wins over `{here}`; unset it")
}
