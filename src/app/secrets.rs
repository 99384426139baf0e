//! Looking the manifest's secrets up: the one place that reads them from the environment and from files.

use std::collections::BTreeMap;
use std::env::VarError;
use std::path::Path;

use zeroize::Zeroizing;

use crate::api::{ControlError, ControlPlane, IfMissing};
use crate::convex::database_url::server_endpoint;
use crate::convex::environment;
use crate::model::{
    BackendName, Desired, FieldPath, Fingerprint, FingerprintKey, ProjectName, STORAGE_SERVER, STORAGE_URL, Secret, SecretRef,
    SecretSource, SecretState, secret_slots,
};
use crate::policy::whole_template;
use crate::system::{FileReadError, read_regular};

/// How large a secret in a file may be.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Whether what is compared by fingerprint has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ComparisonMode {
    /// Only looking: what the token may not compare is said not to be compared.
    BestEffort,
    /// Something will be changed: every difference counts.
    Strict,
}

/// The key under which secrets are compared, as far as there is one.
#[derive(Debug)]
pub(crate) enum ComparisonKey {
    /// This one.
    Key(FingerprintKey),
    /// The control plane is new.
    NoneYet,
    /// The token may look, and not compare.
    Withheld,
}

impl ComparisonKey {
    /// Asks the control plane for the key of a project.
    pub(crate) async fn ask(
        control: &dyn ControlPlane,
        project: &ProjectName,
        need: IfMissing,
        comparison: ComparisonMode,
    ) -> Result<Self, ControlError> {
        match control.fingerprint_key(project, need).await {
            Ok(Some(key)) => Ok(Self::Key(key)),
            Ok(None) => Ok(Self::NoneYet),
            Err(ControlError::NotAuthorised(finding))
                if finding.code == ControlError::SCOPE_MISSING && comparison == ComparisonMode::BestEffort =>
            {
                Ok(Self::Withheld)
            }
            Err(error) => Err(error),
        }
    }

    /// The fingerprint of a value. One that cannot be made is taken for the one that should come out.
    pub(crate) fn fingerprint(&self, value: &str, expected: Option<&Fingerprint>) -> Option<Fingerprint> {
        match self {
            Self::Key(key) => Some(key.fingerprint(value)),
            Self::NoneYet => None,
            Self::Withheld => expected.cloned(),
        }
    }
}

/// What every field that is compared by fingerprint has for a value, as far as it is at hand.
#[derive(Debug, Default)]
pub(crate) struct ResolvedSecrets {
    found: BTreeMap<BackendName, BTreeMap<FieldPath, Secret>>,
    missing: BTreeMap<BackendName, BTreeMap<FieldPath, SecretRef>>,
    unreadable: BTreeMap<BackendName, BTreeMap<FieldPath, String>>,
}

/// Reads the secrets that are available.
pub(crate) fn resolve(desired: &Desired, folder: &Path) -> ResolvedSecrets {
    let mut values = ResolvedSecrets::default();
    for (name, backend) in &desired.backends {
        for (path, source) in secret_slots(&backend.spec) {
            match source {
                SecretSource::Literal(text) => values.insert(name, path, Secret::new(text)),
                SecretSource::Reference(reference) => match resolve_reference(&reference, folder) {
                    Ok(Some(secret)) => values.insert(name, path, secret),
                    Ok(None) => {
                        values.missing.entry(name.clone()).or_default().insert(path, reference);
                    }
                    Err(why) => {
                        values.unreadable.entry(name.clone()).or_default().insert(path, why);
                    }
                },
            }
        }
    }
    values
}

/// The value that a reference points to; none where nothing is there. What is there and cannot be read is an error: taken
/// for nothing, it would leave an old value in force without a word.
fn resolve_reference(reference: &SecretRef, folder: &Path) -> Result<Option<Secret>, String> {
    match reference {
        // An empty variable is how CI systems hand over a secret that is not there.
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) => Ok((!value.is_empty()).then(|| Secret::new(value))),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(format!("{reference} is not UTF-8 text")),
        },
        SecretRef::File(path) => match read_regular(&folder.join(path), MAX_SECRET_BYTES).map(Zeroizing::new) {
            Ok(bytes) => {
                // Editors of Windows put a byte order mark before the text, which is no part of the secret.
                let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                let text = std::str::from_utf8(bytes).map_err(|_| format!("{reference} is not UTF-8 text"))?;
                if text.contains('\0') {
                    return Err(format!("{reference} has zero bytes in it, as UTF-16 has; save it as UTF-8"));
                }
                let value = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
                Ok((!value.is_empty()).then(|| Secret::new(value)))
            }
            Err(FileReadError::NotFound) => Ok(None),
            Err(FileReadError::NotRegular) => Err(format!("{reference} is not a regular file")),
            Err(FileReadError::TooLarge { limit }) => {
                Err(format!("{reference} has more than {limit} bytes, the most that a secret has"))
            }
            Err(error) => Err(format!("{reference} cannot be read: {error}")),
        },
    }
}

/// Why Convex would not take a value, as far as one value tells. Never shows any of it.
fn unusable(path: &FieldPath, secret: &Secret) -> Option<String> {
    let name = path.as_str().strip_prefix("env.")?;
    environment::check_one(name, secret.expose()).err().map(|error| error.to_string())
}

impl ResolvedSecrets {
    fn insert(&mut self, name: &BackendName, path: FieldPath, secret: Secret) {
        self.found.entry(name.clone()).or_default().insert(path, secret);
    }

    /// Whether the manifest names no secret at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.missing.is_empty() && self.unreadable.is_empty()
    }

    /// The values, by backend and field.
    pub(crate) fn found(&self) -> &BTreeMap<BackendName, BTreeMap<FieldPath, Secret>> {
        &self.found
    }

    /// The secrets of a backend that are not at hand.
    pub(crate) fn missing(&self, backend: &BackendName) -> impl Iterator<Item = (&FieldPath, &SecretRef)> {
        self.missing.get(backend).into_iter().flatten()
    }

    /// Every secret that is there and cannot be read, and why.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&BackendName, &FieldPath, &str)> {
        let fields = self.unreadable.iter();
        fields.flat_map(|(name, fields)| fields.iter().map(move |(path, why)| (name, path, why.as_str())))
    }

    /// Tells the desired state what is known of its secrets, without telling it any of them.
    pub(crate) fn fingerprint_into(&self, desired: &mut Desired, keys: &ComparisonKey) {
        for (name, backend) in &mut desired.backends {
            for (path, secret) in self.found.get(name).into_iter().flatten() {
                // What the manifest writes out itself was looked at when it was read.
                let literal = path.as_str().strip_prefix("env.").and_then(|variable| backend.spec.env.get(variable));
                if !matches!(literal, Some(SecretSource::Literal(_)))
                    && let Some(template) = whole_template(secret.expose())
                {
                    backend.templates.insert(path.clone(), template.form());
                }
                let state = |value: &str| match keys {
                    ComparisonKey::Key(key) => SecretState::Known(key.fingerprint(value)),
                    ComparisonKey::NoneYet => SecretState::Unkeyed,
                    ComparisonKey::Withheld => SecretState::Withheld,
                };
                backend.secrets.insert(
                    path.clone(),
                    match unusable(path, secret) {
                        Some(why) => SecretState::Unusable(why),
                        None => state(secret.expose()),
                    },
                );
                if path.as_str() == STORAGE_URL {
                    match server_endpoint(&backend.spec.storage, secret) {
                        Ok(part) => drop(backend.secrets.insert(FieldPath::new(STORAGE_SERVER), state(&part))),
                        Err(error) => drop(backend.secrets.insert(path.clone(), SecretState::Unusable(error.to_string()))),
                    }
                }
            }
            let variables = self.found.get(name).into_iter().flatten();
            let sizes =
                variables.filter_map(|(path, value)| Some(path.as_str().strip_prefix("env.")?.len() + value.expose().len()));
            let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
            if let Err(error) = environment::check_totals(count, bytes) {
                backend.secrets.insert(FieldPath::new("env"), SecretState::Unusable(error.to_string()));
            }
            let missing = self.missing(name).map(|(path, reference)| (path, SecretState::Unavailable(reference.clone())));
            let unreadable = self.unreadable.get(name).into_iter().flatten();
            let unreadable = unreadable.map(|(path, why)| (path, SecretState::Unreadable(why.clone())));
            for (path, state) in missing.chain(unreadable) {
                if path.as_str() == STORAGE_URL {
                    backend.secrets.insert(FieldPath::new(STORAGE_SERVER), state.clone());
                }
                backend.secrets.insert(path.clone(), state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_an_absent_or_empty_secret_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
        write("empty", b"");
        write("break", b"\r\n");
        write("fits", &[b'x'; MAX_SECRET_BYTES as usize]);
        write("line", b"hunter2\r\n");
        write("mark", b"\xef\xbb\xbfhunter2\r\n");
        write("large", &[b'x'; MAX_SECRET_BYTES as usize + 1]);
        write("bytes", b"hunter2\xff");
        write("wide", b"h\0u\0n\0");
        fs::create_dir(folder.path().join("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(made.success());
        let value = |name: &str| resolve_reference(&SecretRef::File(name.to_owned()), folder.path());
        for name in ["absent", "empty", "break", "folder/absent"] {
            assert_eq!(value(name), Ok(None), "{name}");
        }
        assert_eq!(value("line"), Ok(Some(Secret::new("hunter2"))));
        assert_eq!(value("mark"), Ok(Some(Secret::new("hunter2"))));
        assert!(matches!(value("fits"), Ok(Some(_))));
        for (name, why) in [
            ("folder", "file `folder` is not a regular file"),
            ("pipe", "file `pipe` is not a regular file"),
            ("/dev/zero", "file `/dev/zero` is not a regular file"),
            ("bytes", "file `bytes` is not UTF-8 text"),
            ("wide", "file `wide` has zero bytes in it, as UTF-16 has; save it as UTF-8"),
            ("large", "file `large` has more than 65536 bytes, the most that a secret has"),
        ] {
            assert_eq!(value(name), Err(why.to_owned()));
        }
        assert!(value("line/below").unwrap_err().starts_with("file `line/below` cannot be read: "));
    }
}
