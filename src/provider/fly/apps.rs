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
use crate::model::fly::{ADOPT_APP_KEY, RETAINED_BACKEND_KEY, dashboard_app_name};
use crate::model::{ProviderState, ResolvedBackend, Secret};
use crate::provider::ProgressFn;

/// The alias of everybody's own organisation.
const PERSONAL: &str = "personal";
/// What the networks of apps begin with that convexinfra creates; behind it stands the id of the backend.
const NETWORK_PREFIX: &str = "convexinfra-";
/// The secret whose name marks an app that was retained with its data.
const RETAINED_SECRET: &str = "CONVEXINFRA_RETAINED";
/// The key of the organisation in the provider state.
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

/// The app after it was ensured.
#[derive(Debug)]
pub(super) struct EnsuredApp {
    pub(super) origin: AppOrigin,
    /// The slug of the organisation that it really is in.
    pub(super) org: String,
    /// The machines that are in it.
    pub(super) machines: Vec<Machine>,
}

/// The secrets of an app after they were ensured.
pub(super) struct EnsuredSecrets {
    /// The version of the vault, where it changed.
    pub(super) version: Option<u64>,
    /// Whether the app is marked as retained.
    pub(super) are_marked_retained: bool,
}

/// Returns the organisation that pays: the one recorded, named, or the only one that the token is for.
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
        (None, _) => Ok(PERSONAL.to_owned()),
        (Some(slug), 0) => Ok(slug),
        (Some(last), count) => {
            slugs.push(last);
            Err(FlyError::Organisation { count: count + 1, backend: placement.name.to_string(), slugs })
        }
    }
}

impl<'a> AppReconciler<'a> {
    /// Returns the reconciler of the app of the backend's dashboard.
    pub(super) fn for_dashboard(&self) -> AppReconciler<'a> {
        AppReconciler { app: dashboard_app_name(&self.app), role: DASHBOARD_ROLE, ..self.clone() }
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
            Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(None),
            // Names are global: this is how Fly says that somebody else has it.
            Err(CallError::Rejected(ApiErrorKind::Forbidden, _)) => Err(self.app_taken()),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Verifies that an app is this backend's. The network that an app is created in is a mark of its owner that nobody can
    /// change afterwards; apps from before that are known by their machines, or by a name that follows from the backend.
    /// `is_free` says that the app was given up with its data, and that the user of this control plane may take it up.
    ///
    /// # Errors
    /// [`FlyError::AppForeign`] when something says otherwise, or nothing says so.
    pub(super) fn verify_ownership(
        &self,
        app: &App,
        org: Option<&str>,
        machines: &[Machine],
        is_free: bool,
    ) -> Result<(), FlyError> {
        // `personal` is an alias: Fly takes it, and answers with the real slug.
        if let (Some(org), Some(found)) = (org.filter(|org| *org != PERSONAL), app.organisation())
            && org != found
        {
            return Err(self.app_foreign(format!("it belongs to the organisation `{found}` and not to `{org}`")));
        }
        let id = self.placement.id.as_str();
        if let Some(other) = machines.iter().find(|machine| machine.metadata(OWNER_KEY).is_some_and(|owner| owner != id)) {
            return Err(self.app_foreign(format!("its machine `{}` belongs to another backend of convexinfra", other.id)));
        }
        let network = app.network.as_deref().unwrap_or_default();
        let retained = self.placement.provider_state.get(RETAINED_BACKEND_KEY);
        let is_marked = network == self.network() || retained.is_some_and(|backend| network == self.network_of(backend));
        let has_own = machines.iter().any(|machine| machine.metadata(OWNER_KEY) == Some(id));
        if is_marked || has_own || self.placement.has_been_ready {
            return Ok(());
        }
        if let Some(machine) = machines.iter().find(|machine| machine.is_live()) {
            return Err(self.app_foreign(format!("it has a machine `{}` of somebody else", machine.id)));
        }
        if network.starts_with(NETWORK_PREFIX) && !is_free {
            return Err(self.app_foreign("it was created for another backend of convexinfra".to_owned()));
        }
        let is_alone = network.is_empty() || network == self.app || network.starts_with(NETWORK_PREFIX);
        if !is_alone {
            return Err(self.app_foreign(format!("it is in the network `{network}` and not in one of its own")));
        }
        let is_derived = self.placement.spec.settings.fly.app.is_none() && network == self.app;
        match is_derived || is_free || retained.is_some() {
            true => Ok(()),
            false => Err(self.app_foreign("nothing proves that it was created for this backend".to_owned())),
        }
    }

    /// Returns whether the user may take the app up, and nobody else is creating it: what convexinfra retains is marked, and
    /// apps from before that are in a network of their own name.
    async fn is_free(&self, app: &App) -> Result<bool, FlyError> {
        if !self.placement.provider_state.contains_key(ADOPT_APP_KEY) {
            return Ok(false);
        }
        Ok(match app.network.as_deref() {
            Some(network) if network.starts_with(NETWORK_PREFIX) => self.is_marked_retained().await?,
            _ => true,
        })
    }

    async fn is_marked_retained(&self) -> Result<bool, FlyError> {
        let secrets: AppSecrets = self.client.get(requests::list_secrets(&self.app)).await?;
        Ok(secrets.digests().contains_key(RETAINED_SECRET))
    }

    /// Marks the app as retained: with its data, and without a backend.
    pub(super) async fn mark_retained(&self) -> Result<(), FlyError> {
        let call = requests::set_secret(&self.app, RETAINED_SECRET, &Secret::new("1"));
        let what = call.label();
        self.client.call_idempotent(call).await.map(drop).map_err(|declined| call_failed(&what, declined))
    }

    /// Takes that mark away again.
    pub(super) async fn unmark_retained(&self) -> Result<(), FlyError> {
        let call = requests::remove_secret(&self.app, RETAINED_SECRET);
        let what = call.label();
        match self.client.call(call).await {
            Ok(_) => Ok(()),
            Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(()),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Returns the name of the private network that the app is created in.
    fn network(&self) -> String {
        self.network_of(self.placement.id.as_str())
    }

    fn network_of(&self, backend: &str) -> String {
        let id: String = backend.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        match self.role.volume_key {
            Some(_) => format!("{NETWORK_PREFIX}{id}"),
            None => format!("{NETWORK_PREFIX}{id}-{}", self.role.machine_name),
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

    /// Adopts the app that is the backend's, or creates it.
    pub(super) async fn ensure_app(&self, org: &str) -> Result<EnsuredApp, FlyError> {
        match self.find_app().await {
            Ok(Some(app)) => return self.adopt_app(&app, org).await,
            // Of an app that was just created Fly may say so too; whether the token is any good shows when one is created.
            Ok(None) | Err(FlyError::Token { .. }) => {}
            Err(error) => return Err(error),
        }
        let call = requests::create_app(&self.app, org, &self.network());
        let what = call.label();
        // A second app of the same name cannot come of it, so it may be sent again.
        let origin = match self.client.call_idempotent(call).await {
            Ok(_) => AppOrigin::Created,
            Err(CallError::Rejected(ApiErrorKind::NameTaken, _)) => AppOrigin::Existing,
            // Older servers say it with this status and words of their own.
            Err(CallError::Rejected(_, reply)) if reply.status == 409 => AppOrigin::Existing,
            Err(declined) => return Err(call_failed(&what, declined)),
        };
        failpoint::hit("provider.fly.app_created");
        let look = requests::get_app(&self.app);
        self.client.expect_visible(&look);
        let what = look.label();
        let app: App = match self.client.call(look).await {
            Ok(reply) => parse(&what, &reply)?,
            Err(CallError::Rejected(ApiErrorKind::Forbidden, _)) => return Err(self.app_taken()),
            Err(declined) => return Err(call_failed(&what, declined)),
        };
        match origin {
            // It may be ours from an attempt whose answer was lost.
            AppOrigin::Existing => self.adopt_app(&app, org).await,
            AppOrigin::Created => {
                let org = app.organisation().unwrap_or(org).to_owned();
                Ok(EnsuredApp { origin, org, machines: Vec::new() })
            }
        }
    }

    async fn adopt_app(&self, app: &App, org: &str) -> Result<EnsuredApp, FlyError> {
        let machines = self.list_machines().await?;
        let is_free = self.is_free(app).await?;
        self.verify_ownership(app, Some(org), &machines, is_free)?;
        let org = app.organisation().unwrap_or(org).to_owned();
        Ok(EnsuredApp { origin: AppOrigin::Existing, org, machines })
    }

    /// Gives the app the addresses that it lacks. Without one its name leads nowhere.
    pub(super) async fn ensure_addresses(&self) -> Result<(), FlyError> {
        let addresses: IpAssignments = self.client.get(requests::list_addresses(&self.app)).await?;
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
                Ok(_) => {}
                Err(CallError::Rejected(kind, _)) if kind.is_not_found() => {}
                Err(declined) => return Err(call_failed(&what, declined)),
            }
        }
        Ok(())
    }

    /// Brings the vault about, and returns its version where it changed. What others put into it is left alone.
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
        // Only where the answer leaves one out: what is listed now may be what somebody else has set since.
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

    async fn refuse_foreign_machine(&self) -> Result<(), FlyError> {
        let id = self.placement.id.as_str();
        let machines = self.list_machines().await?;
        match machines.iter().find(|machine| machine.metadata(OWNER_KEY).is_some_and(|owner| owner != id)) {
            Some(other) => {
                Err(self.app_foreign(format!("its machine `{}` belongs to another backend of convexinfra", other.id)))
            }
            None => Ok(()),
        }
    }
}

impl AppReconciler<'_> {
    /// Sets secrets all at once, or one after the other where a server knows no other way. Setting the same values twice
    /// comes to the same. Returns what was set, as far as the answers say it.
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
