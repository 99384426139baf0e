//! Apps: found, proved to be ours, created.
//!
//! Must not do: touch an app that is not proved to be ours.

use super::api_error::ApiErrorKind;
use super::api_types::{App, Machine, TokenList};
use super::client::{ApiClient, CallError, call_failed, parse};
use super::desired::{BACKEND_MACHINE, DASHBOARD_MACHINE};
use super::error::FlyError;
use super::{FlyConfig, requests};
use crate::failpoint;
use crate::model::ResolvedBackend;
use crate::model::fly::{ADOPT_APP_KEY, RETAINED_BACKEND_KEY, dashboard_app_name};
use crate::provider::kit::owner::Ownership;
use crate::provider::{ProgressFn, StateJournal};

/// The alias of a user's own organisation.
const PERSONAL: &str = "personal";
/// The prefix of the networks that convexinfra creates; the id of the backend follows.
const NETWORK_PREFIX: &str = "convexinfra-";
/// The key of the organisation in the provider state.
pub(super) const ORG_KEY: &str = "org";
/// One app of one backend, while a verb is at it.
#[derive(Clone)]
pub(super) struct AppReconciler<'a> {
    pub(super) client: &'a ApiClient,
    pub(super) placement: &'a ResolvedBackend,
    /// The app.
    pub(super) app: String,
    pub(super) notice: ProgressFn<'a>,
    /// Where leases are recorded; none where a verb is not resumed from rows.
    pub(super) journal: Option<&'a dyn StateJournal>,
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

/// Whether an app existed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppOrigin {
    /// It did, perhaps with something in it.
    Existing,
    /// It was just created, so it is empty.
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

    /// Finds the app; none when no organisation has an app of that name.
    pub(super) async fn find_app(&self) -> Result<Option<App>, FlyError> {
        let call = requests::get_app(&self.app);
        let what = call.label();
        match self.client.call(call).await {
            Ok(reply) => parse(&what, &reply).map(Some),
            Err(CallError::Rejected(kind, _)) if kind.is_not_found() => Ok(None),
            // Names are global: this is how Fly says that another organization has it.
            Err(CallError::Rejected(ApiErrorKind::Forbidden, _)) => Err(self.app_taken()),
            Err(declined) => Err(call_failed(&what, declined)),
        }
    }

    /// Verifies that an app is this backend's. The network that an app is created in is a mark of its owner that no one can
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
        self.refuse_machine_of_another(machines)?;
        let network = app.network.as_deref().unwrap_or_default();
        let retained = self.placement.provider_state.get(RETAINED_BACKEND_KEY);
        let is_marked = network == self.network() || retained.is_some_and(|backend| network == self.network_of(backend));
        let has_own = machines.iter().any(|machine| self.ownership(machine).is_ours());
        if is_marked || has_own || self.placement.has_been_ready {
            return Ok(());
        }
        if let Some(machine) = machines.iter().find(|machine| machine.is_live()) {
            return Err(self.app_foreign(format!("it has a machine `{}` of another owner", machine.id)));
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

    /// Returns whether the user may take the app up, and no one else is creating it: what convexinfra retains is marked, and
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

    /// Lists the live machines of the app. Lists lag behind, so the recorded one is asked for by its id where it is not
    /// listed.
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

    pub(super) async fn refuse_foreign_machine(&self) -> Result<(), FlyError> {
        self.refuse_machine_of_another(&self.list_machines().await?)
    }

    fn refuse_machine_of_another(&self, machines: &[Machine]) -> Result<(), FlyError> {
        match machines.iter().find(|machine| matches!(self.ownership(machine), Ownership::Other(_))) {
            Some(other) => {
                Err(self.app_foreign(format!("its machine `{}` belongs to another backend of convexinfra", other.id)))
            }
            None => Ok(()),
        }
    }
}
