//! Taking a backend away: machine, volumes, app, until nothing of it is left. Or all but its data.
//!
//! Must not do: take away what is not proved to be ours, or leave anything behind that somebody pays for.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::answers::{App, Machine, OrganisationVolumes, Volume};
use super::apps::{ORGANISATION, Work};
use super::client::{Declined, LONGEST_PAUSE, failed, read, read_list};
use super::error::FlyError;
use super::refusal::Refusal;
use super::volumes::Gone;
use super::wanted::{OWNER, VOLUME};
use super::{calls, dashboard};
use crate::fault;

/// How many pages of an organisation's volumes are read: a million volumes.
const PAGES: usize = 1000;

/// Takes a backend away with its data.
pub(super) async fn remove(work: &Work<'_>) -> Result<(), FlyError> {
    let dashboard = dashboard::of(work);
    let (found, own) = try_join(whose(&dashboard), whose(work)).await?;
    // An app goes with everything in it, so before anything goes it is known that nothing of somebody else's does.
    nothing_strange(&dashboard, &found)?;
    nothing_strange(work, &own)?;
    take(&dashboard, found).await?;
    take(work, own).await
}

/// Takes the machine and the dashboard away, and leaves the app and its volume.
pub(super) async fn remove_keeping_data(work: &Work<'_>) -> Result<(), FlyError> {
    let dashboard = dashboard::of(work);
    let (found, own) = try_join(whose(&dashboard), whose(work)).await?;
    nothing_strange(&dashboard, &found)?;
    take(&dashboard, found).await?;
    let Whose::Ours { machines, volumes, .. } = own else { return Ok(()) };
    let (ours, others): (Vec<Machine>, Vec<Machine>) = machines.into_iter().partition(|machine| work.is_to_go(machine));
    for machine in &ours {
        if machine.host_answers() {
            // In good order, so that what is on the volume is whole.
            work.stop_machine(&machine.id).await?;
        }
        work.delete_machine(&machine.id).await?;
    }
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

/// Whose the app is.
enum Whose {
    /// Ours, with what is in it.
    Ours { app: App, machines: Vec<Machine>, volumes: Vec<Volume> },
    /// There is none.
    Nobodys,
    /// Somebody else's, and ours was never made because this one was in the way.
    Others,
}

async fn whose(work: &Work<'_>) -> Result<Whose, FlyError> {
    let noted = work.placement.references.get(ORGANISATION);
    let never_made = noted.is_none() && !work.placement.has_been_ready;
    let app = match find_for_good(work).await {
        Ok(Some(app)) => app,
        Ok(None) => return Ok(Whose::Nobodys),
        Err(FlyError::AppTaken { .. }) if never_made => return Ok(Whose::Others),
        Err(error) => return Err(error),
    };
    let (machines, volumes) = try_join(work.machines(), work.volumes()).await?;
    match work.prove(&app, noted.map(String::as_str), &machines) {
        Ok(()) => Ok(Whose::Ours { app, machines, volumes }),
        Err(FlyError::AppForeign { .. }) if never_made => Ok(Whose::Others),
        Err(error) => Err(error),
    }
}

/// Looks for the app. One that was made a moment ago may be said not to be there, or the token not to be good for it, so
/// that is believed only once it stays so.
async fn find_for_good(work: &Work<'_>) -> Result<Option<App>, FlyError> {
    let deadline = work.client.deadline(work.client.patience.visible);
    let mut pause = work.client.patience.pause;
    loop {
        let found = work.find_app().await;
        let unsure = match &found {
            Ok(None) => work.may_have_been_made(),
            Err(FlyError::Token { .. }) => work.may_have_been_made() && !work.placement.has_been_ready,
            _ => false,
        };
        match work.client.left(deadline) {
            Some(left) if unsure => work.client.port.sleep(pause.min(left)).await,
            _ => return found,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Work<'_> {
    /// Whether there may be an app. One for a dashboard is made only where one was asked for.
    fn may_have_been_made(&self) -> bool {
        let placement = self.placement;
        self.parts.volume_note.is_some()
            || placement.spec.dashboard
            || placement.references.contains_key(self.parts.machine_note)
    }

    /// Whether a machine goes with the backend: it says that it is ours, or its host does not let it say anything.
    fn is_to_go(&self, machine: &Machine) -> bool {
        match machine.metadata(OWNER) {
            Some(owner) => owner == self.placement.id.as_str(),
            None => machine.name == self.parts.machine && !machine.host_answers(),
        }
    }

    /// Whether a volume goes with the backend: it has our name, is noted, or a machine of ours has it.
    fn goes_with(&self, volume: &Volume, machines: &[Machine]) -> bool {
        let id = Some(volume.id.as_str());
        let noted = self.parts.volume_note.and_then(|note| self.placement.references.get(note));
        let is_named = self.parts.volume_note.is_some() && volume.name == VOLUME;
        let has = |machine: &Machine| machine.volume() == id || volume.machine() == Some(machine.id.as_str());
        is_named || noted == Some(&volume.id) || machines.iter().any(|machine| self.is_to_go(machine) && has(machine))
    }
}

/// Refuses to take an app away that holds what convexinfra did not make.
fn nothing_strange(work: &Work<'_>, found: &Whose) -> Result<(), FlyError> {
    let Whose::Ours { machines, volumes, .. } = found else { return Ok(()) };
    let app = &work.app;
    let mut strange = Vec::new();
    for machine in machines.iter().filter(|machine| !work.is_to_go(machine)) {
        let id = &machine.id;
        strange.push((format!("the machine `{id}`"), format!("fly machine destroy {id} --app {app} --force")));
    }
    for volume in volumes.iter().filter(|volume| !work.goes_with(volume, machines)) {
        let id = &volume.id;
        strange.push((format!("the volume `{id}`"), format!("fly volumes destroy {id} --app {app}")));
    }
    if strange.is_empty() {
        return Ok(());
    }
    let (what, commands): (Vec<String>, Vec<String>) = strange.into_iter().unzip();
    Err(FlyError::Foreign { app: app.clone(), what: what.join(" and "), command: commands.join("\n    ") })
}

/// Takes an app away with everything in it, and waits until it is gone.
pub(super) async fn take_away(work: &Work<'_>) -> Result<(), FlyError> {
    let found = whose(work).await?;
    nothing_strange(work, &found)?;
    take(work, found).await
}

async fn take(work: &Work<'_>, found: Whose) -> Result<(), FlyError> {
    let org = work.placement.references.get(ORGANISATION).or(work.placement.spec.settings.fly.org.as_ref());
    let mut org = org.cloned();
    match found {
        Whose::Ours { app, machines, .. } => {
            org = org.or_else(|| app.organisation().map(str::to_owned));
            for machine in &machines {
                work.delete_machine(&machine.id).await?;
            }
            for volume in work.volumes().await? {
                work.delete_volume(&volume.id).await?;
            }
            delete_app(work).await?;
        }
        Whose::Nobodys => {}
        Whose::Others => return Ok(()),
    }
    match org {
        Some(org) => sweep(work, &org).await,
        None => Ok(()),
    }
}

async fn delete_app(work: &Work<'_>) -> Result<(), FlyError> {
    let call = calls::delete_app(&work.app);
    let what = call.shown();
    match work.client.ask(call).await {
        Ok(_) | Err(Declined::Refused(Refusal::NotFound, _)) => {}
        Err(declined) => return Err(failed(&what, declined)),
    }
    fault::point("provider.fly.app_deleted");
    let patience = work.client.patience.gone;
    let deadline = work.client.deadline(patience);
    loop {
        match work.find_app().await {
            Ok(None) => return Ok(()),
            // The name was free for a moment, and somebody took it.
            Err(FlyError::AppTaken { .. }) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) => return Err(error),
        }
        if work.client.left(deadline).is_none() {
            let (app, what) = (work.app.clone(), "the app".to_owned());
            return Err(FlyError::StillThere { app, what, seconds: patience.as_secs() });
        }
        work.client.pause().await;
    }
}

/// Volumes whose app is gone are paid for and seen by nobody. What the organisation still lists of this app is taken
/// away too. With its app gone there is no way to some: those are named, and nobody has to wait for them for ever.
async fn sweep(work: &Work<'_>, org: &str) -> Result<(), FlyError> {
    // The list lags behind, so what was just taken away may be listed once more.
    let deadline = work.client.deadline(work.client.patience.gone);
    loop {
        let mut unreached = Vec::new();
        let mut left = Vec::new();
        let Orphans { volumes, silent } = orphans(work, org).await?;
        for volume in volumes {
            // A machine has it, so there is an app after all, or the list has not heard of its end.
            if volume.machine().is_some() {
                left.push(volume.id);
                continue;
            }
            match work.delete_volume(&volume.id).await? {
                Gone::Before => unreached.push(volume.id),
                Gone::Now => left.push(volume.id),
            }
        }
        if left.is_empty() && unreached.is_empty() && silent.is_empty() {
            return Ok(());
        }
        if work.client.left(deadline).is_none() {
            if !left.is_empty() {
                let what = format!("volume {}", left.join(", "));
                return Err(FlyError::StillThere { app: work.app.clone(), what, seconds: work.client.patience.gone.as_secs() });
            }
            if !silent.is_empty() {
                let regions: Vec<&str> = silent.iter().map(String::as_str).collect();
                return Err(FlyError::Unreachable {
                    what: calls::organisation_volumes(org, None).shown(),
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
struct Orphans {
    volumes: Vec<Volume>,
    /// The regions that the list leaves out because they did not answer.
    silent: BTreeSet<String>,
}

async fn orphans(work: &Work<'_>, org: &str) -> Result<Orphans, FlyError> {
    let mut found = Orphans::default();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES {
        let call = calls::organisation_volumes(org, cursor.as_deref());
        let what = call.shown();
        let page: OrganisationVolumes = match work.client.ask(call).await {
            // Some servers give no pages but the bare list.
            Ok(reply) => match read_list(&what, &reply) {
                Ok(volumes) => OrganisationVolumes { volumes, ..OrganisationVolumes::default() },
                Err(_) => read(&what, &reply)?,
            },
            // A token for one app may not look at the others, and then there is nothing to look for.
            Err(Declined::Refused(Refusal::NotFound | Refusal::Forbidden, _)) => return Ok(Orphans::default()),
            Err(declined) => return Err(failed(&what, declined)),
        };
        let ours = |volume: &Volume| volume.is_live() && volume.app_name.as_deref() == Some(work.app.as_str());
        found.volumes.extend(page.volumes.into_iter().filter(ours));
        found.silent.extend(page.error_regions);
        match page.next_cursor.filter(|next| !next.is_empty() && cursor.as_ref() != Some(next)) {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(found)
}
