//! Redaction: takes the secrets of a backend out of all that is shown of it. Logs and engines repeat what they were given.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::model::{FieldDrift, FieldPath, Observation, ResolvedBackend, Secret, SecretSource, secret_slots};
use crate::provider::ProviderError;

/// The replacement of a secret.
const SECRET: &str = "(secret)";
/// Shorter secrets would be found in every other word.
const MIN_SECRET_LENGTH: usize = 4;

/// The secrets of one backend and what follows from them, longest first: what contains another one goes first.
pub struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    /// Returns a redactor for the instance secret, the admin key, and every value that the manifest refers to. Values that
    /// are written in the manifest are no secrets.
    pub fn of(resolved: &ResolvedBackend) -> Self {
        let slots = secret_slots(&resolved.spec).into_iter();
        let literals: BTreeSet<FieldPath> =
            slots.filter(|(_, source)| matches!(source, SecretSource::Literal(_))).map(|(path, _)| path).collect();
        let instance_secret = resolved.instance_secret.expose();
        let admin_key = resolved.admin_key.expose();
        let mut redactor = Self(Vec::new())
            .with(instance_secret)
            .with(&instance_secret.to_uppercase())
            .with(admin_key)
            .with(admin_key.rsplit('|').next().unwrap_or_default());
        let public = public_texts(resolved);
        let is_hidden = |path: &FieldPath, secret: &Secret| !literals.contains(path) && !public.contains(secret.expose());
        for (path, secret) in resolved.secrets.iter().filter(|(path, secret)| is_hidden(path, secret)) {
            // A credential that is too long for one line of a log is still shown line by line.
            for line in secret.expose().lines() {
                redactor = redactor.with(line);
            }
            redactor = redactor.with(secret.expose()).with(secret.expose().trim_end_matches('/'));
            let url = url::Url::parse(secret.expose()).ok();
            if let Some(password) = url.as_ref().and_then(url::Url::password).filter(|_| path.as_str() != "files.endpoint") {
                let decoded = Zeroizing::new(percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned());
                redactor = redactor.with(password).with(&decoded);
            }
        }
        redactor
    }

    /// Adds one secret.
    #[must_use]
    pub fn with(mut self, secret: &str) -> Self {
        if secret.len() >= MIN_SECRET_LENGTH && !self.0.iter().any(|known| known.as_str() == secret) {
            self.0.push(Zeroizing::new(secret.to_owned()));
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
        self
    }

    /// Returns a text without the secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), SECRET);
            }
        }
        text
    }

    /// Returns a difference without the secrets, whichever part of it they are in.
    pub fn redact_drift(&self, drift: &FieldDrift) -> FieldDrift {
        FieldDrift {
            path: FieldPath::new(self.redact(drift.path.as_str())),
            recorded: self.redact(&drift.recorded),
            observed: self.redact(&drift.observed),
        }
    }

    /// Returns an observation without the secrets, wherever they were put.
    pub fn redact_observation(&self, mut observation: Observation) -> Observation {
        observation.drift = observation.drift.iter().map(|drift| self.redact_drift(drift)).collect();
        observation.notes = observation.notes.iter().map(|note| self.redact(note)).collect();
        observation
    }

    /// Returns an error without the secrets.
    pub fn redact_error(&self, error: ProviderError) -> ProviderError {
        let lines = |log: Vec<String>| log.iter().map(|line| self.redact(line)).collect();
        match error {
            ProviderError::Exited { status, log } => ProviderError::Exited { status: self.redact(&status), log: lines(log) },
            ProviderError::NotReplaced { reason, log } => {
                ProviderError::NotReplaced { reason: self.redact(&reason), log: lines(log) }
            }
            ProviderError::Engine { verb, reason } => ProviderError::Engine { verb, reason: self.redact(&reason) },
            ProviderError::Unsupported(words) => ProviderError::Unsupported(self.redact(&words)),
            ProviderError::Unreachable(words) => ProviderError::Unreachable(self.redact(&words)),
            other => other,
        }
    }
}

/// Returns what is shown of a backend anyway, and so is no secret where a variable repeats it: panels such as Coolify tell a
/// container its own name and URL.
fn public_texts(resolved: &ResolvedBackend) -> BTreeSet<String> {
    let urls = [&resolved.endpoints.url, &resolved.endpoints.site_url];
    let hosts = urls.iter().filter_map(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned));
    let mut public: BTreeSet<String> = hosts.chain(urls.iter().map(|url| (*url).clone())).collect();
    public.insert(resolved.instance_name.to_string());
    public.extend(resolved.provider_state.values().cloned());
    public
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        BackendId, BackendSpec, Endpoints, Generation, InstanceName, PortPair, ProjectName, ProviderKind, ProviderState,
        Secret, SecretRef,
    };

    fn resolved() -> ResolvedBackend {
        let mut spec = BackendSpec::new(ProviderKind::Local);
        spec.env.insert("MODE".to_owned(), SecretSource::Literal("development".to_owned()));
        spec.env.insert("KEY".to_owned(), SecretSource::Reference(SecretRef::Env("KEY".to_owned())));
        let secret = |path: &str, value: &str| (FieldPath::new(path), Secret::new(value));
        ResolvedBackend {
            id: BackendId::new("abc"),
            project: ProjectName::parse("p").unwrap(),
            name: crate::model::BackendName::parse("dev").unwrap(),
            instance_name: InstanceName::parse("p-dev").unwrap(),
            spec,
            generation: Generation(1),
            instance_secret: Secret::new("0123456789abcdef"),
            admin_key: Secret::new("p-dev|01aa22bb"),
            secrets: [
                secret("storage.url", "postgres://u:p%40ss-word@db:5432"),
                secret("env.MODE", "development"),
                secret("env.KEY", "line-one-of-it\nline-two-of-it"),
            ]
            .into(),
            ports: PortPair { api: 1, site: 2 },
            endpoints: Endpoints { url: String::new(), site_url: String::new() },
            has_been_ready: false,
            provider_state: ProviderState::new(),
        }
    }

    #[test]
    fn secrets_are_redacted_in_every_form() {
        let redactor = Redactor::of(&resolved());
        for text in [
            "0123456789abcdef",
            "0123456789ABCDEF",
            "key 01aa22bb refused",
            "cannot connect to postgres://u:p%40ss-word@db:5432/p_dev",
            "password p@ss-word is wrong",
            "got line-two-of-it",
        ] {
            let shown = redactor.redact(text);
            assert!(shown.contains(SECRET), "{shown}");
            for secret in ["0123456789", "01aa22bb", "ss-word", "line-two"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        assert_eq!(redactor.redact("development mode"), "development mode", "it is written in the manifest");
    }

    #[test]
    fn what_is_shown_anyway_is_no_secret() {
        let mut backend = resolved();
        backend.provider_state.insert("adopted_container".to_owned(), "shop-backend-1".to_owned());
        for (path, value) in [
            ("docker.extra_env.COOLIFY_CONTAINER_NAME", "shop-backend-1"),
            ("docker.extra_env.SERVICE_URL_BACKEND", "http://127.0.0.1:1"),
            ("docker.extra_env.PASSWORD", "hunter2"),
        ] {
            backend.secrets.insert(FieldPath::new(path), Secret::new(value));
        }
        backend.endpoints.url = "http://127.0.0.1:1".to_owned();
        let shown = Redactor::of(&backend).redact("shop-backend-1 at http://127.0.0.1:1 with hunter2");
        assert_eq!(shown, "shop-backend-1 at http://127.0.0.1:1 with (secret)");
    }

    #[test]
    fn drift_and_notes_are_redacted() {
        let drift = FieldDrift::new("env.KEY", "set", "0123456789abcdef");
        let seen = Observation { drift: vec![drift], notes: vec!["p@ss-word".to_owned()], ..Observation::unknown() };
        let shown = format!("{:?}", Redactor::of(&resolved()).redact_observation(seen));
        assert!(!shown.contains("0123456789") && !shown.contains("ss-word"), "{shown}");
    }

    #[test]
    fn logs_in_errors_are_redacted() {
        let error = ProviderError::Exited { status: "1".to_owned(), log: vec!["bad p@ss-word".to_owned()] };
        let ProviderError::Exited { log, .. } = Redactor::of(&resolved()).redact_error(error) else { panic!() };
        assert_eq!(log, ["bad (secret)"]);
    }
}
