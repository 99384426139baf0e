//! Apps: found, proved to be ours, made, given addresses and secrets.
//!
//! Must not do: touch an app that is not proved to be ours.

use std::collections::BTreeMap;

use super::api_error::ApiErrorKind;
use super::api_types::{App, AppSecrets, IpAssignments, Machine, TokenList};
use super::client::{ApiClient, CallError, call_failed, parse};
use super::desired::{BACKEND_MACHINE, DASHBOARD_MACHINE, MachineSpec, OWNER_KEY, secrets_digest};
use super::error::FlyError;
use super::{FlyConfig, requests};
use crate::failpoint;
use crate::model::{ProviderState, ResolvedBackend, Secret};
use crate::provider::ProgressFn;

/// The note under which the organisation is kept.
pub(super) const ORG_KEY: &str = "org";
/// How often an answer that was lost is followed by another try.
const MAX_ATTEMPTS: u32 = 3;
/// The note under which the keyed digest of all secrets is kept.
const SECRETS_DIGEST_KEY: &str = "secrets";
/// What the notes about single secrets begin with; behind it stands the name, and the value is Fly's digest of it.
pub(super) const SECRET_KEY_PREFIX: &str = "secret.";

/// One app of one backend, while a verb is at it.
#[derive(Clone)]
pub(super) struct AppReconciler<'a> {
    pub(super) client: &'a ApiClient,
    pub(super) placement: &'a ResolvedBackend,
    /// The app.
    pub(super) app: String,
    pub(super) notice: ProgressFn<'a>,
    /// What belongs to it.
    pub(super) role: AppRole,
}

/// What belongs to an app, and the notes under which it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppRole {
    /// The name of its one machine.
    pub(super) machine_name: &'static str,
    pub(super) machine_key: &'static str,
    pub(super) volume_key: Option<&'static str>,
}

/// The app of a backend.
pub(super) const BACKEND_ROLE: AppRole =
    AppRole { machine_name: BACKEND_MACHINE, machine_key: "machine", volume_key: Some("volume") };
/// The app of its dashboard.
pub(super) const DASHBOARD_ROLE: AppRole =
    AppRole { machine_name: DASHBOARD_MACHINE, machine_key: "dashboard_machine", volume_key: None };

/// Whether an app was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppOrigin {
    /// It was, perhaps with something in it.
    Existing,
    /// It was made just now, so it is empty.
    Created,
}

/// The organisation that pays: named, noted, or the only one that the token is for.
pub(super) async fn resolve_org(
    client: &ApiClient,
    settings: &FlyConfig,
    placement: &ResolvedBackend,
) -> Result<String, FlyError> {
    let named = placement.spec.settings.fly.org.as_ref();
    if let Some(org) = placement.provider_state.get(ORG_KEY).or(named).or(settings.default_org.as_ref()) {
        return Ok(org.clone());
    }
    let tokens: Option<TokenList> = client.find(requests::current_tokens()).await?;
    let mut slugs: Vec<String> = tokens
        .unwrap_or_default()
        .tokens
        .into_iter()
        .filter_map(|token| token.org_slug)
        .filter(|slug| !slug.is_empty())
        .collect();
    slugs.sort();
    slugs.dedup();
    match (slugs.pop(), slugs.len()) {
        // What Fly calls the organisation that everybody has.
        (None, _) => Ok("personal".to_owned()),
        (Some(slug), 0) => Ok(slug),
        (Some(last), count) => {
            slugs.push(last);
            Err(FlyError::Organisation { count: count + 1, backend: placement.name.to_string(), slugs })
        }
    }
}

impl AppReconciler<'_> {
    fn app_taken(&self) -> FlyError {
        FlyError::AppTaken { app: self.app.clone() }
    }

    fn app_foreign(&self, why: String) -> FlyError {
        FlyError::AppForeign { app: self.app.clone(), why }
    }

    /// Looks for the app; none when nobody has an app of that name.
    pub(super) async fn find_app(&self) -> Result<Option<App>, FlyError> {
        let call = requests::get_app(&self.app);
        let what = call.label();
        match self.client.call(call).await {
            Ok(reply) => parse(&what, &reply).map(Some),
            Err(CallError::Rejected(ApiErrorKind::NotFound, _)) => Ok(None),
            // Names are global: this is how Fly says that somebody else has it.
            Err(CallError::Rejected(ApiErrorKind::Forbidden, _)) => Err(self.app_taken()),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Proves that an app is this backend's: it is in its organisation, has a network of its own under its own name,
    /// and no machine in it says otherwise.
    pub(super) fn verify_ownership(&self, app: &App, org: Option<&str>, machines: &[Machine]) -> Result<(), FlyError> {
        if let (Some(org), Some(found)) = (org, app.organisation())
            && org != found
        {
            return Err(self.app_foreign(format!("it belongs to the organisation `{found}` and not to `{org}`")));
        }
        if let Some(network) = app.network.as_deref().filter(|network| !network.is_empty() && *network != self.app) {
            return Err(self.app_foreign(format!("it is in the network `{network}` and not in one of its own")));
        }
        let id = self.placement.id.as_str();
        if let Some(other) = machines.iter().find(|machine| machine.metadata(OWNER_KEY).is_some_and(|owner| owner != id)) {
            return Err(self.app_foreign(format!("its machine `{}` belongs to another backend of convexinfra", other.id)));
        }
        let made = self.placement.has_been_ready || machines.iter().any(|machine| machine.metadata(OWNER_KEY) == Some(id));
        match machines.iter().find(|machine| machine.metadata(OWNER_KEY).is_none() && machine.is_live()) {
            Some(machine) if !made => Err(self.app_foreign(format!("it has a machine `{}` of somebody else", machine.id))),
            _ => Ok(()),
        }
    }

    /// The machines of the app that are there to stay. Lists lag behind, so the one that was noted is asked for by its
    /// id where it is not listed.
    pub(super) async fn list_machines(&self) -> Result<Vec<Machine>, FlyError> {
        let mut machines: Vec<Machine> = self.client.list(requests::list_machines(&self.app)).await?;
        if let Some(noted) = self.placement.provider_state.get(self.role.machine_key)
            && !machines.iter().any(|machine| machine.id == *noted)
        {
            machines.extend(self.find_machine(noted).await?);
        }
        machines.retain(Machine::is_live);
        Ok(machines)
    }

    /// Brings the app about: adopts what is ours, makes what is missing. Comes back with the machines that are in it.
    pub(super) async fn ensure_app(&self, org: &str) -> Result<(AppOrigin, Vec<Machine>), FlyError> {
        match self.find_app().await {
            Ok(Some(app)) => {
                let machines = self.list_machines().await?;
                return self.verify_ownership(&app, Some(org), &machines).map(|()| (AppOrigin::Existing, machines));
            }
            // Of an app that was just made Fly may say so too; whether the token is any good shows when one is made.
            Ok(None) | Err(FlyError::Token { .. }) => {}
            Err(error) => return Err(error),
        }
        let call = requests::create_app(&self.app, org);
        let what = call.label();
        // A second app of the same name cannot come of it, so it may be sent again.
        let made = match self.client.call_idempotent(call).await {
            Ok(_) => AppOrigin::Created,
            Err(CallError::Rejected(ApiErrorKind::NameTaken, _)) => AppOrigin::Existing,
            // Older servers say it with this status and words of their own.
            Err(CallError::Rejected(_, reply)) if reply.status == 409 => AppOrigin::Existing,
            Err(declined) => return Err(call_failed(&what, declined)),
        };
        failpoint::hit("provider.fly.app_created");
        let app = self.wait_until_visible().await?;
        // It may be ours from an attempt whose answer was lost.
        let machines = if made == AppOrigin::Existing { self.list_machines().await? } else { Vec::new() };
        self.verify_ownership(&app, Some(org), &machines)?;
        Ok((made, machines))
    }

    /// A new app is not seen everywhere at once; until then it is not found, or the token seems to be no good for it.
    async fn wait_until_visible(&self) -> Result<App, FlyError> {
        let deadline = self.client.deadline(self.client.timeouts.visibility);
        let what = requests::get_app(&self.app).label();
        loop {
            let declined = match self.client.call(requests::get_app(&self.app)).await {
                Ok(reply) => return parse(&what, &reply),
                Err(CallError::Rejected(ApiErrorKind::Forbidden, _)) => return Err(self.app_taken()),
                Err(declined @ CallError::Rejected(ApiErrorKind::NotFound | ApiErrorKind::Unauthorized, _)) => declined,
                Err(declined) => return Err(call_failed(&what, declined)),
            };
            if self.client.remaining(deadline).is_none() {
                return Err(call_failed(&what, declined));
            }
            self.client.pause().await;
        }
    }

    /// Gives the app the addresses that it lacks. Without one its name leads nowhere.
    pub(super) async fn ensure_addresses(&self) -> Result<(), FlyError> {
        let addresses = self.addresses_when_visible().await?;
        let missing = missing_addresses(&addresses);
        for kind in missing {
            self.assign_address(kind).await?;
            failpoint::hit("provider.fly.address_assigned");
        }
        Ok(())
    }

    async fn assign_address(&self, kind: &str) -> Result<(), FlyError> {
        let mut tries = 0;
        loop {
            let call = requests::assign_address(&self.app, kind);
            let what = call.label();
            let said = match self.client.call(call).await {
                Ok(_) => return Ok(()),
                // Somebody was faster: an app has each of these once. If it were anything else, the next look says so.
                Err(CallError::Rejected(_, reply)) if matches!(reply.status, 409 | 422) => return Ok(()),
                Err(CallError::Uncertain(said)) => said,
                Err(declined) => return Err(call_failed(&what, declined)),
            };
            self.client.pause().await;
            let addresses: IpAssignments = self.client.get(requests::list_addresses(&self.app)).await?;
            if !missing_addresses(&addresses).contains(&kind) {
                return Ok(());
            }
            if tries >= MAX_ATTEMPTS {
                return Err(FlyError::Unreachable { what, said });
            }
            tries += 1;
        }
    }

    /// Leaves the first of the IPv6 addresses that runs at the same moment gave a new app: all of them agree on which that
    /// is. Nobody knows the others by then. An app that the manifest names may have been somebody's before.
    pub(super) async fn release_extra_addresses(&self) -> Result<(), FlyError> {
        if self.may_hold_data() {
            return Ok(());
        }
        let mut addresses: IpAssignments = self.client.get(requests::list_addresses(&self.app)).await?;
        addresses.ips.retain(super::api_types::IpAssignment::is_v6);
        addresses.ips.sort_by(|a, b| (&a.created_at, &a.ip).cmp(&(&b.created_at, &b.ip)));
        for extra in addresses.ips.iter().skip(1) {
            let call = requests::release_address(&self.app, &extra.ip);
            let what = call.label();
            match self.client.call(call).await {
                Ok(_) | Err(CallError::Rejected(ApiErrorKind::NotFound, _)) => {}
                Err(declined) => return Err(call_failed(&what, declined)),
            }
        }
        Ok(())
    }

    async fn addresses_when_visible(&self) -> Result<IpAssignments, FlyError> {
        let deadline = self.client.deadline(self.client.timeouts.visibility);
        loop {
            if let Some(addresses) = self.client.find(requests::list_addresses(&self.app)).await? {
                return Ok(addresses);
            }
            if self.client.remaining(deadline).is_none() {
                return self.client.get(requests::list_addresses(&self.app)).await;
            }
            self.client.pause().await;
        }
    }

    /// Brings the vault about, and returns its version where it changed. What others put into it is left alone.
    pub(super) async fn ensure_secrets(
        &self,
        wanted: &MachineSpec,
        references: &mut ProviderState,
    ) -> Result<Option<u64>, FlyError> {
        let digest = secrets_digest(self.placement, &wanted.secrets);
        let listed: AppSecrets = self.client.get(requests::list_secrets(&self.app)).await?;
        let noted = &self.placement.provider_state;
        let before: BTreeMap<&str, &str> =
            noted.iter().filter_map(|(key, digest)| Some((key.strip_prefix(SECRET_KEY_PREFIX)?, digest.as_str()))).collect();
        let digests = listed.digests();
        let as_set = |name: &String| digests.get(name.as_str()).is_some_and(|digest| before.get(name.as_str()) == Some(digest));
        let unchanged = !digest.is_empty() && noted.get(SECRETS_DIGEST_KEY) == Some(&digest);
        if unchanged && wanted.secrets.keys().all(as_set) {
            for (key, value) in noted.iter().filter(|(key, _)| key.starts_with(SECRET_KEY_PREFIX) || *key == SECRETS_DIGEST_KEY)
            {
                references.insert(key.clone(), value.clone());
            }
            return Ok(None);
        }
        let mut values: BTreeMap<String, Option<Secret>> =
            wanted.secrets.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        // Ours from before that nothing names any more.
        for name in before.keys().filter(|name| digests.contains_key(**name)) {
            values.entry((*name).to_owned()).or_insert(None);
        }
        let set = self.set_secrets(&values).await?;
        failpoint::hit("provider.fly.secrets_set");
        let mut found = set.digests();
        let listed: AppSecrets;
        if !wanted.secrets.keys().all(|name| found.contains_key(name.as_str())) {
            listed = self.client.get(requests::list_secrets(&self.app)).await?;
            found = listed.digests();
        }
        references.insert(SECRETS_DIGEST_KEY.to_owned(), digest);
        for name in wanted.secrets.keys() {
            if let Some(digest) = found.get(name.as_str()) {
                references.insert(format!("{SECRET_KEY_PREFIX}{name}"), (*digest).to_owned());
            }
        }
        Ok(set.version())
    }
}

impl AppReconciler<'_> {
    /// Sets secrets all at once, or one after the other where a server knows no other way. Setting the same values twice
    /// comes to the same.
    async fn set_secrets(&self, values: &BTreeMap<String, Option<Secret>>) -> Result<AppSecrets, FlyError> {
        let call = requests::set_secrets(&self.app, values);
        let what = call.label();
        match self.client.call_idempotent(call).await {
            Ok(reply) => return parse(&what, &reply),
            Err(CallError::Rejected(_, reply)) if matches!(reply.status, 404 | 405 | 501) => {}
            Err(declined) => return Err(call_failed(&what, declined)),
        }
        let mut last = AppSecrets::default();
        for (name, value) in values {
            let call = match value {
                Some(value) => requests::set_secret(&self.app, name, value),
                None => requests::remove_secret(&self.app, name),
            };
            let what = call.label();
            match self.client.call_idempotent(call).await {
                Ok(reply) => last = parse(&what, &reply)?,
                Err(CallError::Rejected(ApiErrorKind::NotFound, _)) if value.is_none() => {}
                Err(declined) => return Err(call_failed(&what, declined)),
            }
        }
        Ok(last)
    }
}

/// The kinds of address that an app lacks.
pub(super) fn missing_addresses(addresses: &IpAssignments) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !addresses.ips.iter().any(super::api_types::IpAssignment::is_v6) {
        missing.push("v6");
    }
    if !addresses.ips.iter().any(super::api_types::IpAssignment::is_v4) {
        missing.push("shared_v4");
    }
    missing
}
