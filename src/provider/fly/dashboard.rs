//! The dashboard of a backend: an app of its own, with one machine and no volume.
//!
//! Must not do: hand it a key. Whoever opens it logs in with one.

use futures_util::future::try_join;

use super::answers::{Addresses, Machine};
use super::apps::{DASHBOARD_PARTS, Work, missing_addresses};
use super::ensure::differing;
use super::error::FlyError;
use super::images::{DASHBOARD_NOTES, image, noted};
use super::machines::Came;
use super::observe::extra_machines;
use super::remove::take_away;
use super::update::Updated;
use super::volumes::{NotMade, Room};
use super::{calls, wanted};
use crate::convex::release::DASHBOARD_IMAGE;
use crate::model::fly::{app_url, dashboard_app_name};
use crate::model::{DASHBOARD_URL, Deviation, FieldPath, References, Release};

/// The dashboard's app as the backend's work knows it.
pub(super) fn of<'a>(work: &Work<'a>) -> Work<'a> {
    Work { app: dashboard_app_name(&work.app), parts: DASHBOARD_PARTS, ..work.clone() }
}

/// Brings the dashboard about, or takes it away where none is wanted any more.
pub(super) async fn ensure(backend: &Work<'_>, org: &str, references: &mut References) -> Result<(), FlyError> {
    let placement = backend.placement;
    let work = of(backend);
    if !placement.spec.dashboard {
        if placement.references.contains_key(DASHBOARD_URL) {
            take_away(&work).await?;
        }
        return Ok(());
    }
    if let Some(Release::Digest(_)) = placement.spec.release {
        return Err(FlyError::Unsupported(
            "a release by digest names the backend's image alone, so nothing says which dashboard goes with it: name its commit".to_owned(),
        ));
    }
    let wanted = wanted::dashboard(placement)?;
    let image = image(work.client, placement, DASHBOARD_IMAGE, None, DASHBOARD_NOTES, references).await?;
    let (_, machines) = work.ensure_app(org).await?;
    work.ensure_addresses().await?;
    let configuration = wanted.configuration(image.reference(), None);
    let current = work.ours(&machines, wanted.machine)?.cloned();
    let machine = match current {
        Some(machine) => {
            let differs = !differing(placement, &wanted, Some(&image), &machine, None).is_empty();
            match machine.state.as_str() {
                "started" if !differs => machine,
                "stopped" | "suspended" if !differs => room(work.wake_machine(&machine).await?)?,
                _ => room(work.update_machine(&machine.id, &configuration, None).await?)?,
            }
        }
        None => {
            let mut made = Err(NotMade::Full(Room::Region, String::new()));
            for region in &wanted.regions {
                made = work.make_machine(wanted.machine, region, &configuration, None).await;
                if !matches!(made, Err(NotMade::Full(..))) {
                    break;
                }
            }
            match made {
                Ok(Came::New(machine)) => work.until_ready(&machine.id, machine.instance_id.as_deref(), None).await?,
                Ok(Came::Adopted(machine)) => room(work.update_machine(&machine.id, &configuration, None).await?)?,
                Err(NotMade::Full(_, said)) => return Err(FlyError::Full { regions: wanted.regions, said }),
                Err(NotMade::Failed(error)) => return Err(error),
            }
        }
    };
    work.clear_machines(&machine, &machines).await?;
    references.insert(DASHBOARD_PARTS.machine_note.to_owned(), machine.id.clone());
    image.pinned_to(machine.image_digest()).note(DASHBOARD_NOTES, references);
    let url = app_url(&work.app);
    if !placement.references.contains_key(DASHBOARD_URL) {
        (work.notice)(format!("the dashboard is at {url}"));
    }
    references.insert(DASHBOARD_URL.to_owned(), url);
    Ok(())
}

fn room(updated: Updated) -> Result<Machine, FlyError> {
    match updated {
        Updated::Ready(machine) => Ok(*machine),
        Updated::NoRoom(said) => Err(FlyError::Full { regions: vec!["the region of the dashboard".to_owned()], said }),
    }
}

/// Where the dashboard differs from what was asked for.
pub(super) async fn deviations(backend: &Work<'_>) -> Result<Vec<Deviation>, FlyError> {
    let placement = backend.placement;
    if !placement.spec.dashboard {
        return Ok(Vec::new());
    }
    let work = of(backend);
    let deviation = |path: &str, recorded: &str, observed: String| Deviation {
        path: FieldPath::new(path),
        recorded: recorded.to_owned(),
        observed,
    };
    if work.find_app().await?.is_none() {
        return Ok(vec![deviation("dashboard", "running", "absent".to_owned())]);
    }
    let (addresses, machines) = try_join(work.client.get::<Addresses>(calls::addresses(&work.app)), work.machines()).await?;
    let wanted = wanted::dashboard(placement)?;
    let ours = work.ours(&machines, wanted.machine)?;
    let missing = missing_addresses(&addresses).into_iter();
    let mut found: Vec<Deviation> =
        missing.map(|kind| deviation(&format!("dashboard.addresses.{kind}"), "assigned", "missing".to_owned())).collect();
    found.extend(extra_machines(&work, "dashboard.", &machines, ours));
    let Some(machine) = ours else {
        found.push(deviation("dashboard", "running", "absent".to_owned()));
        return Ok(found);
    };
    if machine.state != "started" {
        found.push(deviation("dashboard.state", "started", machine.state.clone()));
    }
    let image = noted(placement, DASHBOARD_NOTES);
    for difference in differing(placement, &wanted, image.as_ref(), machine, None) {
        let observed = difference.seen.unwrap_or_else(|| "missing".to_owned());
        found.push(deviation(&format!("dashboard.{}", difference.path), &difference.wanted, observed));
    }
    Ok(found)
}
