//! The dashboard of a backend: an app of its own, with one machine and no volume.
//!
//! Must not do: hand it a key. Its user logs in with one.

use futures_util::future::try_join;

use super::addresses::missing_addresses;
use super::api_types::{IpAssignments, Machine};
use super::apps::{AppReconciler, DASHBOARD_ROLE};
use super::drift::{config_drift, extra_machines};
use super::error::FlyError;
use super::images::{DASHBOARD_IMAGE_KEYS, recorded_image, resolve_image};
use super::machines::CreateOutcome;
use super::remove::remove_app;
use super::update::UpdateOutcome;
use super::volumes::{CapacityScope, CreateError};
use super::{desired, requests};
use crate::convex::release::DASHBOARD_IMAGE;
use crate::model::fly::app_url;
use crate::model::{DASHBOARD_URL, FieldDrift, ProviderState, Release};

/// Brings the dashboard about, or takes it away where none is wanted any more.
pub(super) async fn ensure(backend: &AppReconciler<'_>, org: &str, references: &mut ProviderState) -> Result<(), FlyError> {
    let placement = backend.placement;
    let work = backend.for_dashboard();
    if !placement.spec.dashboard {
        if placement.provider_state.contains_key(DASHBOARD_URL) {
            remove_app(&work).await?;
        }
        return Ok(());
    }
    if let Some(Release::Digest(_)) = placement.spec.release {
        return Err(FlyError::Unsupported(
            "a release by digest names the backend's image alone, so nothing says which dashboard goes with it: name its commit".to_owned(),
        ));
    }
    let wanted = desired::dashboard_spec(placement)?;
    let image = resolve_image(work.client, placement, DASHBOARD_IMAGE, None, DASHBOARD_IMAGE_KEYS, references).await?;
    let machines = work.ensure_app(org).await?.machines;
    work.ensure_addresses().await?;
    let configuration = wanted.configuration(image.reference(), None);
    let current = work.find_own_machine(&machines, wanted.machine)?.cloned();
    let machine = match current {
        Some(machine) => {
            let differs = !config_drift(placement, &wanted, Some(&image), &machine, None).is_empty();
            match machine.state.as_str() {
                "started" if !differs => machine,
                "stopped" | "suspended" if !differs => require_capacity(work.start_and_wait(&machine).await?)?,
                _ => require_capacity(work.update_machine(&machine.id, &configuration, None).await?)?,
            }
        }
        None => {
            let mut made = Err(CreateError::NoCapacity(CapacityScope::Region, String::new()));
            for region in &wanted.regions {
                made = work.create_machine(wanted.machine, region, &configuration, None).await;
                if !matches!(made, Err(CreateError::NoCapacity(..))) {
                    break;
                }
            }
            match made {
                Ok(CreateOutcome::Created(machine)) => {
                    work.wait_until_ready(&machine.id, machine.instance_id.as_deref()).await?
                }
                Ok(CreateOutcome::Adopted(machine)) => {
                    require_capacity(work.update_machine(&machine.id, &configuration, None).await?)?
                }
                Err(CreateError::NoCapacity(_, said)) => return Err(FlyError::NoCapacity { regions: wanted.regions, said }),
                Err(CreateError::Failed(error)) => return Err(error),
            }
        }
    };
    work.delete_extra_machines(&machine, &machines).await?;
    references.insert(DASHBOARD_ROLE.machine_key.to_owned(), machine.id.clone());
    image.pinned_to(machine.image_digest()).record(DASHBOARD_IMAGE_KEYS, references);
    let url = app_url(&work.app);
    if !placement.provider_state.contains_key(DASHBOARD_URL) {
        (work.notice)(format!("the dashboard is at {url}"));
    }
    references.insert(DASHBOARD_URL.to_owned(), url);
    Ok(())
}

fn require_capacity(updated: UpdateOutcome) -> Result<Machine, FlyError> {
    match updated {
        UpdateOutcome::Ready(machine) => Ok(*machine),
        UpdateOutcome::NoCapacity(said) => {
            Err(FlyError::NoCapacity { regions: vec!["the region of the dashboard".to_owned()], said })
        }
    }
}

/// Where the dashboard differs from what was asked for.
pub(super) async fn drift(backend: &AppReconciler<'_>) -> Result<Vec<FieldDrift>, FlyError> {
    let placement = backend.placement;
    if !placement.spec.dashboard {
        return Ok(Vec::new());
    }
    let work = backend.for_dashboard();
    if work.find_app().await?.is_none() {
        return Ok(vec![FieldDrift::new("dashboard", "running", "absent")]);
    }
    let (addresses, machines) =
        try_join(work.client.get::<IpAssignments>(requests::list_addresses(&work.app)), work.list_machines()).await?;
    let wanted = desired::dashboard_spec(placement)?;
    let ours = work.find_own_machine(&machines, wanted.machine)?;
    let missing = missing_addresses(&addresses).into_iter();
    let mut found: Vec<FieldDrift> =
        missing.map(|kind| FieldDrift::new(format!("dashboard.addresses.{kind}"), "assigned", "missing")).collect();
    found.extend(extra_machines(&work, "dashboard.", &machines, ours));
    let Some(machine) = ours else {
        found.push(FieldDrift::new("dashboard", "running", "absent"));
        return Ok(found);
    };
    if machine.state != "started" {
        found.push(FieldDrift::new("dashboard.state", "started", machine.state.clone()));
    }
    let image = recorded_image(placement, DASHBOARD_IMAGE_KEYS);
    for difference in config_drift(placement, &wanted, image.as_ref(), machine, None) {
        let observed = difference.observed.unwrap_or_else(|| "missing".to_owned());
        found.push(FieldDrift::new(format!("dashboard.{}", difference.path), difference.desired, observed));
    }
    Ok(found)
}
