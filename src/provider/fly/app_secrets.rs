//! Secrets of an app: set where they differ, and the one whose name marks an app that was retained.
//!
//! Fly gives no value back, only a digest of its own. So a digest of ours that is keyed with the backend's secret says what was
//! set, and Fly's digests say whether it is still that.

use std::collections::BTreeMap;

use super::api_types::AppSecrets;
use super::apps::{AppOrigin, AppReconciler};
use super::client::{CallError, call_failed, parse};
use super::desired::{MachineSpec, secrets_digest};
use super::error::FlyError;
use super::requests;
use crate::failpoint;
use crate::model::{ProviderState, Secret};

/// The secret whose name marks an app that was retained with its data.
const RETAINED_SECRET: &str = "CONVEXINFRA_RETAINED";
/// The state key of the keyed digest of all secrets.
const SECRETS_DIGEST_KEY: &str = "secrets";
/// The prefix of the state keys of single secrets; the name follows, and the value is Fly's digest.
pub(super) const SECRET_KEY_PREFIX: &str = "secret.";

/// The secrets of an app after they were ensured.
pub(super) struct EnsuredSecrets {
    /// The version of the vault, where it changed.
    pub(super) version: Option<u64>,
    /// Whether the app is marked as retained.
    pub(super) are_marked_retained: bool,
}

impl AppReconciler<'_> {
    /// Returns whether the app is marked as retained.
    pub(super) async fn is_marked_retained(&self) -> Result<bool, FlyError> {
        let secrets: AppSecrets = self.client.get(requests::list_secrets(&self.app)).await?;
        Ok(secrets.digests().contains_key(RETAINED_SECRET))
    }

    /// Marks the app as retained: with its data, and without a backend.
    pub(super) async fn mark_retained(&self) -> Result<(), FlyError> {
        let call = requests::set_secret(&self.app, RETAINED_SECRET, &Secret::new("1"));
        let what = call.label();
        self.client.call_idempotent(call).await.map(drop).map_err(|declined| call_failed(&what, declined))
    }

    /// Removes that mark.
    pub(super) async fn unmark_retained(&self) -> Result<(), FlyError> {
        let call = requests::remove_secret(&self.app, RETAINED_SECRET);
        let what = call.label();
        match self.client.call(call).await {
            Ok(_) => Ok(()),
            Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(()),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Sets the secrets that differ, and returns the vault's version where it changed. What others put into it is left alone.
    pub(super) async fn ensure_secrets(
        &self,
        origin: AppOrigin,
        wanted: &MachineSpec,
        references: &mut ProviderState,
    ) -> Result<EnsuredSecrets, FlyError> {
        let digest = secrets_digest(self.placement, &wanted.secrets);
        let listed: AppSecrets = self.client.get(requests::list_secrets(&self.app)).await?;
        let noted = &self.placement.provider_state;
        let before: BTreeMap<&str, &str> =
            noted.iter().filter_map(|(key, digest)| Some((key.strip_prefix(SECRET_KEY_PREFIX)?, digest.as_str()))).collect();
        let digests = listed.digests();
        let are_marked_retained = digests.contains_key(RETAINED_SECRET);
        let as_set = |name: &String| digests.get(name.as_str()).is_some_and(|digest| before.get(name.as_str()) == Some(digest));
        let unchanged = !digest.is_empty() && noted.get(SECRETS_DIGEST_KEY) == Some(&digest);
        if unchanged && wanted.secrets.keys().all(as_set) {
            for (key, value) in noted.iter().filter(|(key, _)| key.starts_with(SECRET_KEY_PREFIX) || *key == SECRETS_DIGEST_KEY)
            {
                references.insert(key.clone(), value.clone());
            }
            return Ok(EnsuredSecrets { version: None, are_marked_retained });
        }
        if origin == AppOrigin::Existing {
            // Another run may have been faster, and its backend may have started with other secrets by now.
            self.refuse_foreign_machine().await?;
        }
        let mut values: BTreeMap<String, Option<Secret>> =
            wanted.secrets.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        // Ours from before that nothing names any more.
        for name in before.keys().filter(|name| digests.contains_key(**name)) {
            values.entry((*name).to_owned()).or_insert(None);
        }
        let mut set = self.set_secrets(&values).await?;
        failpoint::hit("provider.fly.secrets_set");
        // Only where the answer leaves one out: what is listed now may have been set by another client since.
        if !wanted.secrets.keys().all(|name| set.digests().contains_key(name.as_str())) {
            let listed: AppSecrets = self.client.get(requests::list_secrets(&self.app)).await?;
            set.add_missing(listed);
        }
        references.insert(SECRETS_DIGEST_KEY.to_owned(), digest);
        for name in wanted.secrets.keys() {
            if let Some(digest) = set.digests().get(name.as_str()) {
                references.insert(format!("{SECRET_KEY_PREFIX}{name}"), (*digest).to_owned());
            }
        }
        Ok(EnsuredSecrets { version: set.version(), are_marked_retained })
    }

    /// Sets secrets all at once, or one by one where a server supports only that. Repeating it changes nothing. Returns what
    /// was set, as far as the answers say.
    async fn set_secrets(&self, values: &BTreeMap<String, Option<Secret>>) -> Result<AppSecrets, FlyError> {
        let call = requests::set_secrets(&self.app, values);
        let what = call.label();
        match self.client.call_idempotent(call).await {
            // An answer without a body says only that it was done.
            Ok(reply) if reply.body.trim().is_empty() => return Ok(AppSecrets::default()),
            Ok(reply) => return parse(&what, &reply),
            Err(CallError::Rejected(_, reply)) if matches!(reply.status, 404 | 405 | 501) => {}
            Err(declined) => return Err(call_failed(&what, declined)),
        }
        let mut set = AppSecrets::default();
        for (name, value) in values {
            let call = match value {
                Some(value) => requests::set_secret(&self.app, name, value),
                None => requests::remove_secret(&self.app, name),
            };
            let what = call.label();
            match self.client.call_idempotent(call).await {
                Ok(reply) if reply.body.trim().is_empty() => {}
                Ok(reply) => set.add(name, parse(&what, &reply)?),
                Err(CallError::Rejected(kind, _)) if value.is_none() && kind.is_not_found() => {}
                Err(declined) => return Err(call_failed(&what, declined)),
            }
        }
        Ok(set)
    }
}
