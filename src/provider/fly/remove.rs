//! Taking a backend away: machine, volumes, app, until nothing of it is left. Or all but its data.
//!
//! Must not do: take away what is not proved to be ours, or leave anything behind that somebody pays for.

use super::answers::{App, Machine, OrganisationVolumes, Volume};
use super::apps::{ORGANISATION, Work};
use super::client::{Declined, failed, read, read_list};
use super::error::FlyError;
use super::refusal::Refusal;
use super::volumes::Gone;
use super::{calls, dashboard};
use crate::fault;

/// How many pages of an organisation's volumes are read: a million volumes.
const PAGES: usize = 1000;

/// Takes a backend away with its data.
pub(super) async fn remove(work: &Work<'_>) -> Result<(), FlyError> {
    take_away(&dashboard::of(work)).await?;
    take_away(work).await
}

/// Takes the machine and the dashboard away, and leaves the app and its volume.
pub(super) async fn remove_keeping_data(work: &Work<'_>) -> Result<(), FlyError> {
    take_away(&dashboard::of(work)).await?;
    let Whose::Ours(_, machines) = whose(work).await? else { return Ok(()) };
    for machine in &machines {
        if machine.host_answers() {
            // In good order, so that what is on the volume is whole.
            work.stop_machine(&machine.id).await?;
        }
        work.delete_machine(&machine.id).await?;
    }
    let volumes: Vec<String> = work.volumes().await?.into_iter().map(|volume| volume.id).collect();
    (work.notice)(format!(
        "kept: the app {} with {}, which costs money as long as it is there; `fly.app = \"{}\"` in the manifest takes it up again",
        work.app,
        if volumes.is_empty() { "no volume".to_owned() } else { format!("the volume {}", volumes.join(", ")) },
        work.app
    ));
    Ok(())
}

/// Whose the app is.
enum Whose {
    /// Ours, with these machines.
    Ours(App, Vec<Machine>),
    /// There is none.
    Nobodys,
    /// Somebody else's, and ours was never made because this one was in the way.
    Others,
}

async fn whose(work: &Work<'_>) -> Result<Whose, FlyError> {
    let noted = work.placement.references.get(ORGANISATION);
    let never_made = noted.is_none() && !work.placement.has_been_ready;
    let app = match work.find_app().await {
        Ok(Some(app)) => app,
        Ok(None) => return Ok(Whose::Nobodys),
        Err(FlyError::AppTaken { .. }) if never_made => return Ok(Whose::Others),
        Err(error) => return Err(error),
    };
    let machines = work.machines().await?;
    match work.prove(&app, noted.map(String::as_str), &machines) {
        Ok(()) => Ok(Whose::Ours(app, machines)),
        Err(FlyError::AppForeign { .. }) if never_made => Ok(Whose::Others),
        Err(error) => Err(error),
    }
}

/// Takes an app away with everything in it, and waits until it is gone.
pub(super) async fn take_away(work: &Work<'_>) -> Result<(), FlyError> {
    let org = work.placement.references.get(ORGANISATION).or(work.placement.spec.settings.fly.org.as_ref());
    let mut org = org.cloned();
    match whose(work).await? {
        Whose::Ours(app, machines) => {
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
        for volume in orphans(work, org).await? {
            match work.delete_volume(&volume.id).await? {
                Gone::Before => unreached.push(volume.id),
                Gone::Now => left.push(volume.id),
            }
        }
        if left.is_empty() && unreached.is_empty() {
            return Ok(());
        }
        if work.client.left(deadline).is_none() {
            if left.is_empty() {
                (work.notice)(format!(
                    "volume {} is still listed in the organisation `{org}`, though its app {} is gone and Fly knows of no such \
                     volume there; should it be on the next bill, only Fly's support can take it away",
                    unreached.join(", "),
                    work.app
                ));
                return Ok(());
            }
            let what = format!("volume {}", left.join(", "));
            return Err(FlyError::StillThere { app: work.app.clone(), what, seconds: work.client.patience.gone.as_secs() });
        }
        work.client.pause().await;
    }
}

async fn orphans(work: &Work<'_>, org: &str) -> Result<Vec<Volume>, FlyError> {
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES {
        let call = calls::organisation_volumes(org, cursor.as_deref());
        let what = call.shown();
        let page: OrganisationVolumes = match work.client.ask(call).await {
            // Some servers give no pages but the bare list.
            Ok(reply) => match read_list(&what, &reply) {
                Ok(volumes) => OrganisationVolumes { volumes, next_cursor: None },
                Err(_) => read(&what, &reply)?,
            },
            // A token for one app may not look at the others, and then there is nothing to look for.
            Err(Declined::Refused(Refusal::NotFound | Refusal::Forbidden, _)) => return Ok(Vec::new()),
            Err(declined) => return Err(failed(&what, declined)),
        };
        let ours = |volume: &Volume| volume.is_live() && volume.app_name.as_deref() == Some(work.app.as_str());
        found.extend(page.volumes.into_iter().filter(ours));
        match page.next_cursor.filter(|next| !next.is_empty() && cursor.as_ref() != Some(next)) {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(found)
}
