//! Taking a backend away: machine, volumes, app, until nothing of it is left. Or all but its data.
//!
//! Must not do: delete what is not proved to be ours, or leave anything behind that is billed.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::api_error::ApiErrorKind;
use super::api_types::{App, Machine, Volume, VolumePage};
use super::apps::{AppReconciler, ORG_KEY};
use super::client::{CallError, call_failed, parse, parse_list};
use super::desired::VOLUME_NAME;
use super::error::FlyError;
use super::requests;
use super::volumes::VolumeDeletion;
use crate::failpoint;
use crate::provider::kit::owner::Ownership;

/// How many pages of an organisation's volumes are read: a million volumes.
const MAX_PAGES: usize = 1000;

/// Takes a backend away with its data.
pub(super) async fn remove(work: &AppReconciler<'_>) -> Result<(), FlyError> {
    let dashboard = work.for_dashboard();
    let (found, own) = try_join(determine_ownership(&dashboard), determine_ownership(work)).await?;
    // An app goes with everything in it, so before anything goes it is known that it holds nothing foreign.
    refuse_unmanaged(&dashboard, &found)?;
    refuse_unmanaged(work, &own)?;
    delete_all(&dashboard, found).await?;
    delete_all(work, own).await
}

/// Takes the machine and the dashboard away, and leaves the app and its volume.
pub(super) async fn remove_keeping_data(work: &AppReconciler<'_>) -> Result<(), FlyError> {
    let dashboard = work.for_dashboard();
    let (found, own) = try_join(determine_ownership(&dashboard), determine_ownership(work)).await?;
    refuse_unmanaged(&dashboard, &found)?;
    delete_all(&dashboard, found).await?;
    let AppOwnership::Own { machines, volumes, .. } = own else { return Ok(()) };
    let (ours, others): (Vec<Machine>, Vec<Machine>) = machines.into_iter().partition(|machine| work.is_own_machine(machine));
    for machine in &ours {
        if machine.is_host_reachable() {
            // In good order, so that what is on the volume is whole.
            work.stop_machine(&machine.id).await?;
        }
        work.delete_machine(&machine.id).await?;
    }
    work.mark_retained().await?;
    let kept: Vec<String> = volumes.into_iter().map(|volume| volume.id).collect();
    (work.notice)(format!(
        "kept: the app {} with {}, which costs money as long as it is there; `fly.app = \"{}\"` in the manifest takes it up again",
        work.app,
        if kept.is_empty() { "no volume".to_owned() } else { format!("the volume {}", kept.join(", ")) },
        work.app
    ));
    for other in others {
        (work.notice)(format!("left: machine {} of {}, which convexinfra did not make", other.id, work.app));
    }
    Ok(())
}

/// The ownership of the app.
enum AppOwnership {
    /// Ours, with what is in it.
    Own { app: App, machines: Vec<Machine>, volumes: Vec<Volume> },
    /// There is none.
    Absent,
    /// Another owner's. Ours was never created, because this one has its name.
    Foreign,
}

async fn determine_ownership(work: &AppReconciler<'_>) -> Result<AppOwnership, FlyError> {
    let noted = work.placement.provider_state.get(ORG_KEY);
    let never_made = noted.is_none() && !work.placement.has_been_ready;
    let app = match find_app_conclusively(work).await {
        Ok(Some(app)) => app,
        Ok(None) => return Ok(AppOwnership::Absent),
        Err(FlyError::AppTaken { .. }) if never_made => return Ok(AppOwnership::Foreign),
        Err(error) => return Err(error),
    };
    let (machines, volumes) = try_join(work.list_machines(), work.list_volumes()).await?;
    match work.verify_ownership(&app, noted.map(String::as_str), &machines, false) {
        Ok(()) => Ok(AppOwnership::Own { app, machines, volumes }),
        Err(FlyError::AppForeign { .. }) if never_made => Ok(AppOwnership::Foreign),
        Err(error) => Err(error),
    }
}

/// Looks for the app. One that was made a moment ago may be said not to be there, or the token not to be good for it, so
/// that is believed only once it stays so.
async fn find_app_conclusively(work: &AppReconciler<'_>) -> Result<Option<App>, FlyError> {
    let deadline = work.client.deadline(work.client.timeouts.visibility);
    let mut backoff = work.client.backoff(work.client.timeouts.poll_interval);
    loop {
        let found = work.find_app().await;
        let unsure = match &found {
            Ok(None) => work.may_have_been_made(),
            Err(FlyError::Token { .. }) => work.may_have_been_made() && !work.placement.has_been_ready,
            _ => false,
        };
        match work.client.remaining(deadline) {
            Some(left) if unsure => work.client.transport.sleep(backoff.next_pause().min(left)).await,
            _ => return found,
        }
    }
}

impl AppReconciler<'_> {
    /// Whether there may be an app. One for a dashboard is made only where one was asked for.
    fn may_have_been_made(&self) -> bool {
        let placement = self.placement;
        self.role.volume_key.is_some()
            || placement.spec.dashboard
            || placement.provider_state.contains_key(self.role.machine_key)
    }

    /// Whether a machine goes with the backend: it says that it is ours, or its host does not let it say anything.
    fn is_own_machine(&self, machine: &Machine) -> bool {
        match self.ownership(machine) {
            Ownership::Ours => true,
            Ownership::Other(_) => false,
            Ownership::Unmarked => machine.name == self.role.machine_name && !machine.is_host_reachable(),
        }
    }

    /// Whether a volume goes with the backend: it has our name, is noted, or a machine of ours has it.
    fn is_own_volume(&self, volume: &Volume, machines: &[Machine]) -> bool {
        let id = Some(volume.id.as_str());
        let noted = self.role.volume_key.and_then(|note| self.placement.provider_state.get(note));
        let is_named = self.role.volume_key.is_some() && volume.name == VOLUME_NAME;
        let has = |machine: &Machine| machine.mounted_volume() == id || volume.attached_machine() == Some(machine.id.as_str());
        is_named || noted == Some(&volume.id) || machines.iter().any(|machine| self.is_own_machine(machine) && has(machine))
    }
}

/// Refuses to take an app away that holds what convexinfra did not make.
fn refuse_unmanaged(work: &AppReconciler<'_>, found: &AppOwnership) -> Result<(), FlyError> {
    let AppOwnership::Own { machines, volumes, .. } = found else { return Ok(()) };
    let app = &work.app;
    let mut strange = Vec::new();
    for machine in machines.iter().filter(|machine| !work.is_own_machine(machine)) {
        let id = &machine.id;
        strange.push((format!("the machine `{id}`"), format!("fly machine destroy {id} --app {app} --force")));
    }
    for volume in volumes.iter().filter(|volume| !work.is_own_volume(volume, machines)) {
        let id = &volume.id;
        strange.push((format!("the volume `{id}`"), format!("fly volumes destroy {id} --app {app}")));
    }
    if strange.is_empty() {
        return Ok(());
    }
    let (what, commands): (Vec<String>, Vec<String>) = strange.into_iter().unzip();
    Err(FlyError::ForeignResource { app: app.clone(), what: what.join(" and "), command: commands.join("\n    ") })
}

/// Takes an app away with everything in it, and waits until it is gone.
pub(super) async fn remove_app(work: &AppReconciler<'_>) -> Result<(), FlyError> {
    let found = determine_ownership(work).await?;
    refuse_unmanaged(work, &found)?;
    delete_all(work, found).await
}

async fn delete_all(work: &AppReconciler<'_>, found: AppOwnership) -> Result<(), FlyError> {
    let org = work.placement.provider_state.get(ORG_KEY).or(work.placement.spec.settings.fly.org.as_ref());
    let mut org = org.cloned();
    match found {
        AppOwnership::Own { app, machines, .. } => {
            org = org.or_else(|| app.organisation().map(str::to_owned));
            for machine in &machines {
                work.delete_machine(&machine.id).await?;
            }
            for volume in work.list_volumes().await? {
                work.delete_volume(&volume.id).await?;
            }
            delete_app(work).await?;
        }
        AppOwnership::Absent => {}
        AppOwnership::Foreign => return Ok(()),
    }
    match org {
        Some(org) => sweep_orphaned_volumes(work, &org).await,
        None => Ok(()),
    }
}

async fn delete_app(work: &AppReconciler<'_>) -> Result<(), FlyError> {
    let call = requests::delete_app(&work.app);
    let what = call.label();
    match work.client.call(call).await {
        Ok(_) => {}
        Err(CallError::Rejected(kind, _)) if kind.is_not_found() => {}
        Err(declined) => return Err(call_failed(&what, declined)),
    }
    failpoint::hit("provider.fly.app_deleted");
    let patience = work.client.timeouts.deletion;
    let deadline = work.client.deadline(patience);
    loop {
        match work.find_app().await {
            Ok(None) => return Ok(()),
            // The name was free for a moment, and another client took it.
            Err(FlyError::AppTaken { .. }) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) => return Err(error),
        }
        if work.client.remaining(deadline).is_none() {
            let (app, what) = (work.app.clone(), "the app".to_owned());
            return Err(FlyError::NotDeleted { app, what, seconds: patience.as_secs() });
        }
        work.client.pause().await;
    }
}

/// Volumes whose app is gone are billed and shown nowhere. What the organisation still lists of this app is taken
/// away too. With its app gone there is no way to some: those are named, and no operation waits for them for ever.
async fn sweep_orphaned_volumes(work: &AppReconciler<'_>, org: &str) -> Result<(), FlyError> {
    // The list lags behind, so what was just taken away may be listed once more.
    let deadline = work.client.deadline(work.client.timeouts.deletion);
    loop {
        let mut unreached = Vec::new();
        let mut left = Vec::new();
        let OrphanedVolumes { volumes, unreachable_regions: silent } = list_orphaned_volumes(work, org).await?;
        for volume in volumes {
            // A machine has it, so there is an app after all, or the list has not heard of its end.
            if volume.attached_machine().is_some() {
                left.push(volume.id);
                continue;
            }
            match work.delete_volume(&volume.id).await? {
                VolumeDeletion::NotFound => unreached.push(volume.id),
                VolumeDeletion::Deleted => left.push(volume.id),
            }
        }
        if left.is_empty() && unreached.is_empty() && silent.is_empty() {
            return Ok(());
        }
        if work.client.remaining(deadline).is_none() {
            if !left.is_empty() {
                let what = format!("volume {}", left.join(", "));
                return Err(FlyError::NotDeleted {
                    app: work.app.clone(),
                    what,
                    seconds: work.client.timeouts.deletion.as_secs(),
                });
            }
            if !silent.is_empty() {
                let regions: Vec<&str> = silent.iter().map(String::as_str).collect();
                return Err(FlyError::Unreachable {
                    what: requests::list_org_volumes(org, None).label(),
                    said: format!("nothing is known of volumes in {}", regions.join(", ")),
                });
            }
            (work.notice)(format!(
                "volume {} is still listed in the organisation `{org}`, though its app {} is gone and Fly knows of no such \
                 volume there; should it be on the next bill, only Fly's support can take it away",
                unreached.join(", "),
                work.app
            ));
            return Ok(());
        }
        work.client.pause().await;
    }
}

/// What an organisation still lists of an app.
#[derive(Default)]
struct OrphanedVolumes {
    volumes: Vec<Volume>,
    /// The regions that the list leaves out because they did not answer.
    unreachable_regions: BTreeSet<String>,
}

async fn list_orphaned_volumes(work: &AppReconciler<'_>, org: &str) -> Result<OrphanedVolumes, FlyError> {
    let mut found = OrphanedVolumes::default();
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let call = requests::list_org_volumes(org, cursor.as_deref());
        let what = call.label();
        let page: VolumePage = match work.client.call(call).await {
            // Some servers give no pages but the bare list.
            Ok(reply) => match parse_list(&what, &reply) {
                Ok(volumes) => VolumePage { volumes, ..VolumePage::default() },
                Err(_) => parse(&what, &reply)?,
            },
            // A token for one app may not look at the others, and then there is nothing to look for.
            Err(CallError::Rejected(ApiErrorKind::NotFound | ApiErrorKind::AppNotFound | ApiErrorKind::Forbidden, _)) => {
                return Ok(OrphanedVolumes::default());
            }
            Err(declined) => return Err(call_failed(&what, declined)),
        };
        let ours = |volume: &Volume| volume.is_live() && volume.app_name.as_deref() == Some(work.app.as_str());
        found.volumes.extend(page.volumes.into_iter().filter(ours));
        found.unreachable_regions.extend(page.error_regions);
        match page.next_cursor.filter(|next| !next.is_empty() && cursor.as_ref() != Some(next)) {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(found)
}
