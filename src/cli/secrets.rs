//! Looking the manifest's secrets up: the one place that reads them from the environment and from files.
//!
//! Must not do: log, print or keep a value longer than the command runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::control::{ControlError, ControlPlane, KeyNeed};
use crate::convex::database_url::server_part;
use crate::convex::environment;
use crate::model::{
    BackendName, Desired, FieldPath, Fingerprint, FingerprintKey, ProjectName, STORAGE_SERVER, STORAGE_URL, Secret, SecretRef,
    SecretSource, SecretState, secret_slots,
};

/// How large a secret in a file may be.
const LARGEST_SECRET: u64 = 64 << 10;

/// Whether what is compared by fingerprint has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Only looking: what the token may not compare is said not to be compared.
    AsFarAsAllowed,
    /// Something will be changed: every difference counts.
    Whole,
}

/// The key under which secrets are compared, as far as there is one.
#[derive(Debug)]
pub(crate) enum Keyring {
    /// This one.
    Key(FingerprintKey),
    /// The control plane is new.
    NoneYet,
    /// The token may look, and not compare.
    Withheld,
}

impl Keyring {
    /// Asks the control plane for the key of a project.
    pub(crate) async fn ask(
        control: &dyn ControlPlane,
        project: &ProjectName,
        need: KeyNeed,
        comparison: Comparison,
    ) -> Result<Self, ControlError> {
        match control.fingerprint_key(project, need).await {
            Ok(Some(key)) => Ok(Self::Key(key)),
            Ok(None) => Ok(Self::NoneYet),
            Err(ControlError::NotAuthorised(finding))
                if finding.code == ControlError::SCOPE_MISSING && comparison == Comparison::AsFarAsAllowed =>
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
pub(crate) struct Values {
    found: BTreeMap<BackendName, BTreeMap<FieldPath, Secret>>,
    missing: BTreeMap<BackendName, BTreeMap<FieldPath, SecretRef>>,
}

/// Reads whatever is at hand.
pub(crate) fn read(desired: &Desired, folder: &Path) -> Values {
    let mut values = Values::default();
    for (name, backend) in &desired.backends {
        for (path, source) in secret_slots(&backend.spec) {
            match source {
                SecretSource::Literal(text) => values.insert(name, path, Secret::new(text)),
                SecretSource::Reference(reference) => match value(&reference, folder) {
                    Some(secret) => values.insert(name, path, secret),
                    None => {
                        values.missing.entry(name.clone()).or_default().insert(path, reference);
                    }
                },
            }
        }
    }
    values
}

fn value(reference: &SecretRef, folder: &Path) -> Option<Secret> {
    match reference {
        // An empty variable is how CI systems hand over a secret that is not there.
        SecretRef::Env(name) => std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new),
        SecretRef::File(path) => {
            let path = folder.join(path);
            if fs::metadata(&path).ok()?.len() > LARGEST_SECRET {
                return None;
            }
            let text = fs::read_to_string(path).ok()?;
            let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
            (!value.is_empty()).then(|| Secret::new(value))
        }
    }
}

/// Why Convex would not take a value, as far as one value tells. Never shows any of it.
fn unusable(path: &FieldPath, secret: &Secret) -> Option<String> {
    let name = path.as_str().strip_prefix("env.")?;
    environment::check_one(name, secret.expose()).err().map(|error| error.to_string())
}

impl Values {
    fn insert(&mut self, name: &BackendName, path: FieldPath, secret: Secret) {
        self.found.entry(name.clone()).or_default().insert(path, secret);
    }

    /// Whether the manifest names no secret at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.missing.is_empty()
    }

    /// The values, by backend and field.
    pub(crate) fn found(&self) -> &BTreeMap<BackendName, BTreeMap<FieldPath, Secret>> {
        &self.found
    }

    /// The secrets of a backend that are not at hand.
    pub(crate) fn missing(&self, backend: &BackendName) -> impl Iterator<Item = (&FieldPath, &SecretRef)> {
        self.missing.get(backend).into_iter().flatten()
    }

    /// Tells the desired state what is known of its secrets, without telling it any of them.
    pub(crate) fn describe(&self, desired: &mut Desired, keys: &Keyring) {
        for (name, backend) in &mut desired.backends {
            for (path, secret) in self.found.get(name).into_iter().flatten() {
                let state = |value: &str| match keys {
                    Keyring::Key(key) => SecretState::Known(key.fingerprint(value)),
                    Keyring::NoneYet => SecretState::Unkeyed,
                    Keyring::Withheld => SecretState::Withheld,
                };
                backend.secrets.insert(
                    path.clone(),
                    match unusable(path, secret) {
                        Some(why) => SecretState::Unusable(why),
                        None => state(secret.expose()),
                    },
                );
                if path.as_str() == STORAGE_URL {
                    match server_part(&backend.spec.storage, secret) {
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
            for (path, reference) in self.missing(name) {
                backend.secrets.insert(path.clone(), SecretState::Unavailable(reference.clone()));
                if path.as_str() == STORAGE_URL {
                    backend.secrets.insert(FieldPath::new(STORAGE_SERVER), SecretState::Unavailable(reference.clone()));
                }
            }
        }
    }
}
