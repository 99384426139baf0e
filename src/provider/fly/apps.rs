//! Apps: found, proved to be ours, made, given addresses and secrets.
//!
//! Must not do: touch an app that is not proved to be ours.

use std::collections::BTreeMap;

use super::answers::{Addresses, App, Machine, Secrets, Tokens};
use super::client::{Client, Declined, failed, read};
use super::error::FlyError;
use super::refusal::Refusal;
use super::wanted::{BACKEND, DASHBOARD, OWNER, Wanted, secrets_digest};
use super::{Settings, calls};
use crate::fault;
use crate::model::{Placement, References, Secret};
use crate::provider::Notice;

/// The note under which the organisation is kept.
pub(super) const ORGANISATION: &str = "org";
/// How often an answer that was lost is followed by another try.
const TRIES: u32 = 3;
/// The note under which the keyed digest of all secrets is kept.
const SECRETS_DIGEST: &str = "secrets";
/// What the notes about single secrets begin with; behind it stands the name, and the value is Fly's digest of it.
pub(super) const SECRET: &str = "secret.";

/// One app of one backend, while a verb is at it.
#[derive(Clone)]
pub(super) struct Work<'a> {
    pub(super) client: &'a Client,
    pub(super) placement: &'a Placement,
    /// The app.
    pub(super) app: String,
    pub(super) notice: Notice<'a>,
    /// What belongs to it.
    pub(super) parts: Parts,
}

/// What belongs to an app, and the notes under which it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    /// The name of its one machine.
    pub(super) machine: &'static str,
    pub(super) machine_note: &'static str,
    pub(super) volume_note: Option<&'static str>,
}

/// The app of a backend.
pub(super) const BACKEND_PARTS: Parts = Parts { machine: BACKEND, machine_note: "machine", volume_note: Some("volume") };
/// The app of its dashboard.
pub(super) const DASHBOARD_PARTS: Parts = Parts { machine: DASHBOARD, machine_note: "dashboard_machine", volume_note: None };

/// Whether an app was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It was, perhaps with something in it.
    Before,
    /// It was made just now, so it is empty.
    Now,
}

/// The organisation that pays: named, noted, or the only one that the token is for.
pub(super) async fn organisation(client: &Client, settings: &Settings, placement: &Placement) -> Result<String, FlyError> {
    let named = placement.spec.settings.fly.org.as_ref();
    if let Some(org) = placement.references.get(ORGANISATION).or(named).or(settings.organisation.as_ref()) {
        return Ok(org.clone());
    }
    let tokens: Option<Tokens> = client.find(calls::current_tokens()).await?;
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

impl Work<'_> {
    fn taken(&self) -> FlyError {
        FlyError::AppTaken { app: self.app.clone() }
    }

    fn foreign(&self, why: String) -> FlyError {
        FlyError::AppForeign { app: self.app.clone(), why }
    }

    /// Looks for the app; none when nobody has an app of that name.
    pub(super) async fn find_app(&self) -> Result<Option<App>, FlyError> {
        let call = calls::app(&self.app);
        let what = call.shown();
        match self.client.ask(call).await {
            Ok(reply) => read(&what, &reply).map(Some),
            Err(Declined::Refused(Refusal::NotFound, _)) => Ok(None),
            // Names are global: this is how Fly says that somebody else has it.
            Err(Declined::Refused(Refusal::Forbidden, _)) => Err(self.taken()),
            Err(declined) => Err(failed(&what, declined)),
        }
    }

    /// Proves that an app is this backend's: it is in its organisation, has a network of its own under its own name,
    /// and no machine in it says otherwise.
    pub(super) fn prove(&self, app: &App, org: Option<&str>, machines: &[Machine]) -> Result<(), FlyError> {
        if let (Some(org), Some(found)) = (org, app.organisation())
            && org != found
        {
            return Err(self.foreign(format!("it belongs to the organisation `{found}` and not to `{org}`")));
        }
        if let Some(network) = app.network.as_deref().filter(|network| !network.is_empty() && *network != self.app) {
            return Err(self.foreign(format!("it is in the network `{network}` and not in one of its own")));
        }
        let id = self.placement.id.as_str();
        if let Some(other) = machines.iter().find(|machine| machine.metadata(OWNER).is_some_and(|owner| owner != id)) {
            return Err(self.foreign(format!("its machine `{}` belongs to another backend of convexinfra", other.id)));
        }
        let made = self.placement.has_been_ready || machines.iter().any(|machine| machine.metadata(OWNER) == Some(id));
        match machines.iter().find(|machine| machine.metadata(OWNER).is_none() && machine.is_live()) {
            Some(machine) if !made => Err(self.foreign(format!("it has a machine `{}` of somebody else", machine.id))),
            _ => Ok(()),
        }
    }

    /// The machines of the app that are there to stay. Lists lag behind, so the one that was noted is asked for by its
    /// id where it is not listed.
    pub(super) async fn machines(&self) -> Result<Vec<Machine>, FlyError> {
        let mut machines: Vec<Machine> = self.client.list(calls::all_machines(&self.app)).await?;
        if let Some(noted) = self.placement.references.get(self.parts.machine_note)
            && !machines.iter().any(|machine| machine.id == *noted)
        {
            machines.extend(self.machine(noted).await?);
        }
        machines.retain(Machine::is_live);
        Ok(machines)
    }

    /// Brings the app about: adopts what is ours, makes what is missing. Comes back with the machines that are in it.
    pub(super) async fn ensure_app(&self, org: &str) -> Result<(Made, Vec<Machine>), FlyError> {
        match self.find_app().await {
            Ok(Some(app)) => {
                let machines = self.machines().await?;
                return self.prove(&app, Some(org), &machines).map(|()| (Made::Before, machines));
            }
            // Of an app that was just made Fly may say so too; whether the token is any good shows when one is made.
            Ok(None) | Err(FlyError::Token { .. }) => {}
            Err(error) => return Err(error),
        }
        let call = calls::create_app(&self.app, org);
        let what = call.shown();
        // A second app of the same name cannot come of it, so it may be sent again.
        let made = match self.client.ask_idempotent(call).await {
            Ok(_) => Made::Now,
            Err(Declined::Refused(Refusal::NameTaken, _)) => Made::Before,
            // Older servers say it with this status and words of their own.
            Err(Declined::Refused(_, reply)) if reply.status == 409 => Made::Before,
            Err(declined) => return Err(failed(&what, declined)),
        };
        fault::point("provider.fly.app_created");
        let app = self.until_visible().await?;
        // It may be ours from an attempt whose answer was lost.
        let machines = if made == Made::Before { self.machines().await? } else { Vec::new() };
        self.prove(&app, Some(org), &machines)?;
        Ok((made, machines))
    }

    /// A new app is not seen everywhere at once; until then it is not found, or the token seems to be no good for it.
    async fn until_visible(&self) -> Result<App, FlyError> {
        let deadline = self.client.deadline(self.client.patience.visible);
        let what = calls::app(&self.app).shown();
        loop {
            let declined = match self.client.ask(calls::app(&self.app)).await {
                Ok(reply) => return read(&what, &reply),
                Err(Declined::Refused(Refusal::Forbidden, _)) => return Err(self.taken()),
                Err(declined @ Declined::Refused(Refusal::NotFound | Refusal::Token, _)) => declined,
                Err(declined) => return Err(failed(&what, declined)),
            };
            if self.client.left(deadline).is_none() {
                return Err(failed(&what, declined));
            }
            self.client.pause().await;
        }
    }

    /// Gives the app the addresses that it lacks. Without one its name leads nowhere.
    pub(super) async fn ensure_addresses(&self) -> Result<(), FlyError> {
        let addresses = self.addresses_once_visible().await?;
        let missing = missing_addresses(&addresses);
        for kind in missing {
            self.assign_address(kind).await?;
            fault::point("provider.fly.address_assigned");
        }
        Ok(())
    }

    async fn assign_address(&self, kind: &str) -> Result<(), FlyError> {
        let mut tries = 0;
        loop {
            let call = calls::assign_address(&self.app, kind);
            let what = call.shown();
            let said = match self.client.ask(call).await {
                Ok(_) => return Ok(()),
                // Somebody was faster: an app has each of these once. If it were anything else, the next look says so.
                Err(Declined::Refused(_, reply)) if matches!(reply.status, 409 | 422) => return Ok(()),
                Err(Declined::Uncertain(said)) => said,
                Err(declined) => return Err(failed(&what, declined)),
            };
            self.client.pause().await;
            let addresses: Addresses = self.client.get(calls::addresses(&self.app)).await?;
            if !missing_addresses(&addresses).contains(&kind) {
                return Ok(());
            }
            if tries >= TRIES {
                return Err(FlyError::Unreachable { what, said });
            }
            tries += 1;
        }
    }

    /// Leaves the first of the IPv6 addresses that runs at the same moment gave a new app: all of them agree on which that
    /// is. Nobody knows the others by then. An app that the manifest names may have been somebody's before.
    pub(super) async fn clear_addresses(&self) -> Result<(), FlyError> {
        if self.may_hold_data() {
            return Ok(());
        }
        let mut addresses: Addresses = self.client.get(calls::addresses(&self.app)).await?;
        addresses.ips.retain(super::answers::Address::is_v6);
        addresses.ips.sort_by(|a, b| (&a.created_at, &a.ip).cmp(&(&b.created_at, &b.ip)));
        for extra in addresses.ips.iter().skip(1) {
            let call = calls::release_address(&self.app, &extra.ip);
            let what = call.shown();
            match self.client.ask(call).await {
                Ok(_) | Err(Declined::Refused(Refusal::NotFound, _)) => {}
                Err(declined) => return Err(failed(&what, declined)),
            }
        }
        Ok(())
    }

    async fn addresses_once_visible(&self) -> Result<Addresses, FlyError> {
        let deadline = self.client.deadline(self.client.patience.visible);
        loop {
            if let Some(addresses) = self.client.find(calls::addresses(&self.app)).await? {
                return Ok(addresses);
            }
            if self.client.left(deadline).is_none() {
                return self.client.get(calls::addresses(&self.app)).await;
            }
            self.client.pause().await;
        }
    }

    /// Brings the vault about, and returns its version where it changed. What others put into it is left alone.
    pub(super) async fn ensure_secrets(&self, wanted: &Wanted, references: &mut References) -> Result<Option<u64>, FlyError> {
        let digest = secrets_digest(self.placement, &wanted.secrets);
        let listed: Secrets = self.client.get(calls::secrets(&self.app)).await?;
        let noted = &self.placement.references;
        let before: BTreeMap<&str, &str> =
            noted.iter().filter_map(|(key, digest)| Some((key.strip_prefix(SECRET)?, digest.as_str()))).collect();
        let digests = listed.digests();
        let as_set = |name: &String| digests.get(name.as_str()).is_some_and(|digest| before.get(name.as_str()) == Some(digest));
        let unchanged = !digest.is_empty() && noted.get(SECRETS_DIGEST) == Some(&digest);
        if unchanged && wanted.secrets.keys().all(as_set) {
            for (key, value) in noted.iter().filter(|(key, _)| key.starts_with(SECRET) || *key == SECRETS_DIGEST) {
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
        fault::point("provider.fly.secrets_set");
        let mut found = set.digests();
        let listed: Secrets;
        if !wanted.secrets.keys().all(|name| found.contains_key(name.as_str())) {
            listed = self.client.get(calls::secrets(&self.app)).await?;
            found = listed.digests();
        }
        references.insert(SECRETS_DIGEST.to_owned(), digest);
        for name in wanted.secrets.keys() {
            if let Some(digest) = found.get(name.as_str()) {
                references.insert(format!("{SECRET}{name}"), (*digest).to_owned());
            }
        }
        Ok(set.version())
    }
}

impl Work<'_> {
    /// Sets secrets all at once, or one after the other where a server knows no other way. Setting the same values twice
    /// comes to the same.
    async fn set_secrets(&self, values: &BTreeMap<String, Option<Secret>>) -> Result<Secrets, FlyError> {
        let call = calls::set_secrets(&self.app, values);
        let what = call.shown();
        match self.client.ask_idempotent(call).await {
            Ok(reply) => return read(&what, &reply),
            Err(Declined::Refused(_, reply)) if matches!(reply.status, 404 | 405 | 501) => {}
            Err(declined) => return Err(failed(&what, declined)),
        }
        let mut last = Secrets::default();
        for (name, value) in values {
            let call = match value {
                Some(value) => calls::set_secret(&self.app, name, value),
                None => calls::remove_secret(&self.app, name),
            };
            let what = call.shown();
            match self.client.ask_idempotent(call).await {
                Ok(reply) => last = read(&what, &reply)?,
                Err(Declined::Refused(Refusal::NotFound, _)) if value.is_none() => {}
                Err(declined) => return Err(failed(&what, declined)),
            }
        }
        Ok(last)
    }
}

/// The kinds of address that an app lacks.
pub(super) fn missing_addresses(addresses: &Addresses) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !addresses.ips.iter().any(super::answers::Address::is_v6) {
        missing.push("v6");
    }
    if !addresses.ips.iter().any(super::answers::Address::is_v4) {
        missing.push("shared_v4");
    }
    missing
}
