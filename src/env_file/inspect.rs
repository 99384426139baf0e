//! What stands in an env file now, for planning.
//!
//! Must not do: write, read the process environment, or keep a key that it read.

use std::ffi::OsString;
use std::path::Path;

use super::block::{ADMIN_KEY, Block, CLOUD_DEPLOYMENT, DEPLOY_KEYS, ExpectedBlock, URL};
use super::diff::{is_bare_url, preview};
use super::error::EnvFileError;
use super::git;
use super::merge::merge;
use super::parse::Document;
use super::resolved_file::{ResolvedFile, folder, read_at_most};
use crate::model::{EnvFileState, Fingerprint, Secret};

/// Looks at an env file, which need not exist. `expected` is what it should say, as far as that is known;
/// `fingerprint` turns a key into what can be compared; `environment` looks a variable of this process up.
pub fn inspect(
    path: &Path,
    expected: Option<&ExpectedBlock>,
    fingerprint: impl Fn(&str) -> Option<Fingerprint>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> EnvFileState {
    let target = match ResolvedFile::resolve(path) {
        Ok(target) => target,
        Err(error) => return refused(&error),
    };
    let existing = target.content.as_deref().unwrap_or_default();
    let document = Document::parse(existing);
    let key = document.value(ADMIN_KEY);
    let admin_key = key.and_then(&fingerprint);
    let mut warnings = Vec::new();
    // Where the key or the URL is not known yet, the block that stands there is as good for what the rest needs.
    let merged = expected.and_then(|expected| {
        let url = expected.url.as_deref().or(document.value(URL)).unwrap_or("http://localhost");
        let key = Secret::new(key.unwrap_or("unknown"));
        Some((expected, merge(existing, &Block::new(expected.owner.clone(), url, key, expected.client.clone()).ok()?)))
    });
    let current = merged.as_ref().is_some_and(|(expected, merged)| {
        expected.url.is_some() && admin_key.is_some() && admin_key == expected.admin_key && merged.bytes == existing
    });
    match target.ensure_replaceable() {
        // What is right already is not written, so nothing is in the way but a key that git has seen.
        Err(EnvFileError::ReadOnly { .. } | EnvFileError::FolderReadOnly { .. }) if current => {}
        Err(error) => return refused(&error),
        Ok(remark) => warnings.extend(remark),
    }
    if let Some((_, merged)) = merged {
        warnings.extend(merged.warnings);
    }
    if !current
        && let Some(name) = target.real.file_name()
        && git::work_tree(&target.folder()).is_some()
        && git::is_ignored(&target.folder(), name) == Some(false)
    {
        warnings.push(format!("git does not ignore `{}` yet; apply adds it to the `.gitignore` beside it", path.display()));
    }
    ConflictingVariables { path, expected, fingerprint: &fingerprint }.warn(&document, &environment, &mut warnings);
    let url = document.value(URL).filter(|url| is_bare_url(url)).map(str::to_owned);
    let difference = match expected {
        Some(expected) if !current => preview(existing, expected, &fingerprint),
        _ => String::new(),
    };
    EnvFileState::Writable { current, url, admin_key, warnings, difference }
}

/// A refusal, with what the system said at its end.
fn refused(error: &EnvFileError) -> EnvFileState {
    let source = std::error::Error::source(error);
    let message = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    EnvFileState::Refused { code: error.code().to_owned(), message }
}

/// Variables that win over ours, here and elsewhere.
struct ConflictingVariables<'a, F> {
    path: &'a Path,
    expected: Option<&'a ExpectedBlock>,
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
        // Opening a pipe would wait for somebody to write into it.
        if beside.is_file()
            && let Ok(content) = read_at_most(&beside)
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
        let Some(expected) = self.expected else { return true };
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
