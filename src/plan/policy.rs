//! What stands in the way of a plan: protection, budgets, downgrades, data that would have to move.
//!
//! Must not do: let anything through for convenience: with one refusal nothing is done.

use std::collections::{BTreeMap, BTreeSet};

use super::cost::{PricedBackend, priced_backends};
use super::diff::find_change;
use super::quota_schedule::QuotaDeltas;
use super::{Action, ChangeImpact, FieldChange, Plan, Step, Task};
use crate::model::fly::{Guest, REGIONS, volume_gb};
use crate::model::{
    ActualBackend, Address, BackendName, BackendSpec, ByteSize, ControlPlaneInfo, Cost, Cpus, Desired, DesiredBackend,
    Diagnostic, Moved, Phase, ProviderKind, QuotaExcess, Release, ReleaseOrder, SecretState, Snapshot, Storage, Tls, Usage,
    Usd, VolumeReclaim, monthly_sum,
};

fn refusal(code: &str, address: Option<Address>, message: String) -> Diagnostic {
    Diagnostic { address, ..Diagnostic::new(code, message) }
}

/// Refuses a backend whose provider the control plane cannot carry out.
pub(super) fn provider_available(
    name: &BackendName,
    wanted: &DesiredBackend,
    control_plane: &ControlPlaneInfo,
) -> Option<Diagnostic> {
    let provider = wanted.spec.provider;
    if control_plane.providers.contains(&provider) {
        return None;
    }
    let available: Vec<String> = control_plane.providers.iter().map(|kind| format!("`{kind}`")).collect();
    let remedy = match provider {
        ProviderKind::Fly => {
            "; it is where `FLY_API_TOKEN` is set for the control plane, to a token that `fly tokens create org` makes"
        }
        _ => "",
    };
    Some(refusal(
        "plan.provider_unavailable",
        Some(Address::backend(name)),
        format!(
            "provider `{provider}` is not available in this control plane; available here: {}{remedy}",
            available.join(", ")
        ),
    ))
}

/// Refuses what Fly does not have: a place that is nowhere, or a size that no machine has.
pub(super) fn fly(name: &BackendName, wanted: &DesiredBackend) -> Vec<Diagnostic> {
    let spec = &wanted.spec;
    if spec.provider != ProviderKind::Fly {
        return Vec::new();
    }
    let address = || Some(Address::backend(name));
    let mut refusals = Vec::new();
    let known = || REGIONS.map(|region| format!("`{region}`")).join(", ");
    if spec.region.is_none() {
        let message =
            format!("a backend on Fly is in one region, and `{name}` names none; add `region = \"…\"`, one of {}", known());
        refusals.push(refusal("plan.region_missing", address(), message));
    }
    for region in spec.region.iter().chain(&spec.settings.fly.fallback_regions) {
        if !REGIONS.contains(&region.as_str()) {
            let message = format!("Fly has no region `{region}` that is known here; choose one of {}", known());
            refusals.push(refusal("plan.unknown_region", address(), message));
        }
    }
    let sizes = [Guest::from_spec(spec).err(), volume_gb(spec).err()];
    refusals.extend(sizes.into_iter().flatten().map(|error| refusal("plan.unknown_size", address(), error.to_string())));
    if let (true, Some(Release::Digest(_))) = (spec.dashboard, &spec.release) {
        let message = "a release by digest names the backend's image alone, so nothing says which dashboard goes with it; name its \
             commit, or leave `dashboard` out";
        refusals.push(refusal("plan.dashboard_release_unknown", address(), message.to_owned()));
    }
    if let Some(server) = spec.storage.server() {
        if server.managed {
            let message =
                "provider `fly` runs no database server of its own; name one with `storage.url`, or leave `storage` out";
            refusals.push(refusal("plan.storage_unavailable", address(), message.to_owned()));
        }
        if let Tls::Ca(_) = server.tls {
            let message = "provider `fly` cannot bring a file of certificates along; use a server whose certificate is public";
            refusals.push(refusal("plan.tls_unavailable", address(), message.to_owned()));
        }
    }
    refusals
}

/// Refuses a database server that nobody would run.
pub(super) fn storage_available(name: &BackendName, wanted: &DesiredBackend) -> Option<Diagnostic> {
    let managed = wanted.spec.storage.server().is_some_and(|server| server.managed);
    let postgres = matches!(wanted.spec.storage, Storage::Postgres(_));
    let message = match wanted.spec.provider {
        ProviderKind::Docker if managed && !postgres => {
            "provider `docker` runs PostgreSQL servers of its own and no MySQL; write `engine = \"postgres\"`, or give it `storage.url`"
        }
        _ => "",
    };
    if !message.is_empty() {
        return Some(refusal("plan.storage_unavailable", Some(Address::backend(name)), message.to_owned()));
    }
    let here = matches!(wanted.spec.provider, ProviderKind::Simulated | ProviderKind::Local);
    let unavailable = here && wanted.spec.storage.server().is_some_and(|server| server.managed);
    unavailable.then(|| {
        refusal(
            "plan.storage_unavailable",
            Some(Address::backend(name)),
            format!(
                "provider `{}` runs no database server, so `storage.managed` takes effect with `docker` only; name a server of yours \
                 with `storage.url`",
                wanted.spec.provider
            ),
        )
    })
}

/// Refuses values from outside that are of no use, before anything is begun with them.
pub(super) fn usable_secrets(name: &BackendName, wanted: &DesiredBackend) -> Vec<Diagnostic> {
    let unusable = wanted.secrets.iter().filter_map(|(path, state)| match state {
        SecretState::Unusable(why) => Some((path, why)),
        SecretState::Known(_)
        | SecretState::Unkeyed
        | SecretState::Unavailable(_)
        | SecretState::Unreadable(_)
        | SecretState::Withheld => None,
    });
    unusable
        .map(|(path, why)| {
            refusal("plan.value_unusable", Some(Address::backend(name)), format!("`{path}` is of no use: {why}"))
        })
        .collect()
}

/// Refuses a rename onto a name that is in use.
pub(super) fn moved_onto_existing(moved: &Moved) -> Diagnostic {
    refusal(
        "plan.moved_onto_existing",
        Some(Address::backend(&moved.from)),
        format!(
            "`[[moved]]` renames `{}` to `{}`, but there already is a backend `{}`; remove the entry, or destroy one of the two first",
            moved.from, moved.to, moved.to
        ),
    )
}

/// Refuses changes that would lose or endanger data.
pub(super) fn changes(
    name: &BackendName,
    existing: &ActualBackend,
    wanted: &DesiredBackend,
    changes: &[FieldChange],
) -> Vec<Diagnostic> {
    let address = || Some(Address::backend(name));
    let mut refusals: Vec<Diagnostic> = Vec::new();
    let moving: Vec<String> = changes
        .iter()
        .filter(|change| change.effect == ChangeImpact::MovesData)
        .map(|change| format!("`{}`", change.path))
        .collect();
    if !moving.is_empty() {
        refusals.push(refusal(
            "plan.moves_data",
            address(),
            format!(
                "changing {} would move the data of `{name}` to another place, which is never done silently; \
                 by hand: export with `npx convex export`, give the new backend another name, import with \
                 `npx convex import --replace-all`, then remove `{name}`",
                moving.join(", ")
            ),
        ));
    }
    if let (Some(old), Some(new)) =
        (existing.newest_release.as_ref().or(existing.recorded.release.as_ref()), &wanted.spec.release)
        && old.compare(new) == ReleaseOrder::Older
    {
        refusals.push(refusal(
            "plan.downgrade",
            address(),
            format!(
                "release `{new}` is older than `{old}`, which has already run on this data; the data's format only goes forward, \
                 so an older build may damage it. Name `{old}` or a newer release"
            ),
        ));
    }
    if let Some(change) = find_change(changes, "resources.disk")
        && let (Some(old), Some(new)) = (existing.recorded.resources.disk, wanted.spec.resources.disk)
        && new < old
    {
        refusals.push(refusal(
            "plan.disk_shrinks",
            address(),
            format!("`{}` would shrink from {old} to {new}, and disks only grow; name {old} or more", change.path),
        ));
    }
    refusals
}

/// Refuses to start a backend with nothing where there was data before.
pub(super) fn data_missing(address: &Address, existing: &ActualBackend) -> Diagnostic {
    let name = &existing.name;
    // What its provider found in the place of the data, and how that is taken up.
    let notes: String = existing.observation.notes.iter().map(|note| format!("\n{note}")).collect();
    refusal(
        "plan.data_missing",
        Some(address.clone()),
        format!(
            "the data of `{name}` was there when it was last applied and is gone now; starting it would begin with nothing. \
             Put the data back, or give it up with `convexinfra destroy {name} --allow-destroy {name}` and apply again{notes}"
        ),
    )
}

/// Refuses to take away a protected backend.
pub(super) fn protected(name: &BackendName, existing: &ActualBackend) -> Option<Diagnostic> {
    existing.recorded.protected.then(|| {
        refusal(
            "plan.protected",
            Some(Address::backend(name)),
            format!(
                "`{name}` is protected, so no plan may destroy it, not even by removing its block; \
                 set `protected = false`, apply that, and then remove it"
            ),
        )
    })
}

/// Refuses to keep the volume of a backend whose provider has none that could stay by itself.
pub(super) fn volume_kept(name: &BackendName, existing: &ActualBackend, volume: VolumeReclaim) -> Option<Diagnostic> {
    let provider = existing.recorded.provider;
    (volume == VolumeReclaim::Retain && provider != ProviderKind::Fly).then(|| {
        refusal(
            "plan.volume_not_kept",
            Some(Address::backend(name)),
            format!(
                "provider `{provider}` keeps no data of a backend that is gone; export it with `npx convex export`, and leave \
                 `--keep-data` out"
            ),
        )
    })
}

/// Says that the project was last applied from somewhere else.
pub(super) fn other_repository(desired: &Desired, snapshot: &Snapshot) -> Option<Diagnostic> {
    let before = snapshot.origin.as_ref().filter(|origin| !desired.origin.is_empty() && **origin != desired.origin)?;
    Some(refusal(
        "plan.other_repository",
        None,
        format!(
            "project `{}` was last applied from {before}, and this is {}; if both mean the same project, `--take-over` makes this \
             repository its home, otherwise give this one another name with `project = …` or `--project NAME`",
            desired.project, desired.origin
        ),
    ))
}

/// Refuses what is over the manifest's ceilings.
pub(super) fn budget(desired: &Desired, existing: &BTreeMap<&BackendName, &ActualBackend>) -> Vec<Diagnostic> {
    let mut refusals = Vec::new();
    let specs = || desired.backends.values().map(|backend| &backend.spec);
    let cpus: Cpus = specs().filter_map(|spec| spec.resources.cpus).fold(Cpus::default(), Cpus::saturating_add);
    let sum =
        |of: fn(&BackendSpec) -> Option<ByteSize>| specs().filter_map(of).fold(ByteSize::default(), ByteSize::saturating_add);
    let memory = sum(|spec| spec.resources.memory);
    let disk = sum(|spec| spec.resources.disk);
    let mut over = |what: &str, asked: String, allowed: String| {
        refusals.push(refusal(
            &format!("plan.over_budget_{what}"),
            None,
            format!("the backends ask for {asked} of {what} together, and `budget.{what}` allows {allowed}; ask for less, or raise the budget"),
        ));
    };
    if let Some(limit) = desired.budget.cpus.filter(|limit| cpus > *limit) {
        over("cpus", cpus.to_string(), limit.to_string());
    }
    if let Some(limit) = desired.budget.memory.filter(|limit| memory > *limit) {
        over("memory", memory.to_string(), limit.to_string());
    }
    if let Some(limit) = desired.budget.disk.filter(|limit| disk > *limit) {
        over("disk", disk.to_string(), limit.to_string());
    }
    // What nobody knows the price of is said by a lint; what is known may be too much already.
    let costs = desired.backends.iter().map(|(name, backend)| {
        let there = existing.get(name).filter(|there| there.phase != Phase::Removing);
        PricedBackend { spec: &backend.spec, region: there.and_then(|there| there.region.as_deref()) }.cost()
    });
    let known_now = costs.clone().filter_map(|cost| match cost {
        Cost::Known { usd, .. } => Some(usd),
        Cost::Unmetered | Cost::Unknown => None,
    });
    let known_now: Usd = known_now.sum();
    let (known, unknown) = monthly_sum(costs);
    if let Some(limit) = desired.budget.monthly_usd.map(Usd::from_dollars).filter(|limit| known > *limit) {
        let more = match unknown {
            _ if known_now <= limit => " up to",
            0 => "",
            _ => " at least",
        };
        let regions = if known_now <= limit { ", depending on which of their regions have room" } else { "" };
        refusals.push(refusal(
            "plan.over_budget_monthly_usd",
            None,
            format!(
                "the backends cost{more} {known} a month together{regions}, and `budget.monthly_usd` allows {limit}; ask for less, or raise the budget"
            ),
        ));
    }
    refusals
}

/// Refuses what would take the project over the ceilings that the control plane keeps. All of its backends count, as they
/// are once the plan is carried out; what becomes of them on the way is [`super::room`]'s.
pub(super) fn quota(steps: &[Step], snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut specs: BTreeMap<&BackendName, &BackendSpec> =
        snapshot.backends.iter().map(|backend| (&backend.name, &backend.recorded)).collect();
    let [_, billed_after] = priced_backends(&snapshot.backends, steps);
    for step in steps {
        if let Some(Task::Put { renamed_from: Some(old), .. } | Task::Remove { backend: old, .. }) = &step.task {
            specs.remove(old);
        }
    }
    for step in steps {
        if let Some(Task::Put { backend, spec, .. }) = &step.task {
            specs.insert(backend, spec);
        }
    }
    // The control plane lets be what has not grown, and counts at every step.
    let [backends, cpus, memory, disk, cost_grows] = QuotaDeltas::of(steps, snapshot).grows();
    let after = Usage::of(specs.values().copied());
    let before = Usage {
        backends: if backends { 0 } else { after.backends },
        cpus: if cpus { Cpus::default() } else { after.cpus },
        memory: if memory { ByteSize::default() } else { after.memory },
        disk: if disk { ByteSize::default() } else { after.disk },
    };
    let excesses = after.exceeding(&snapshot.quota, &before);
    let say = |excess: QuotaExcess| {
        let QuotaExcess { what, asked, allowed } = excess;
        let message = match what {
            "backends" => format!("`{}` would have {asked} backends, and its quota allows {allowed}", snapshot.project),
            what => format!(
                "the backends of `{}` would ask for {asked} of {what} together, and its quota allows {allowed}",
                snapshot.project
            ),
        };
        let message = format!("{message}; ask for less, or have an operator raise it with `convexinfra quota set`");
        refusal(&format!("plan.over_quota_{what}"), None, message)
    };
    let mut refusals: Vec<Diagnostic> = excesses.into_iter().map(say).collect();
    let (cost, _) = monthly_sum(billed_after.values().map(PricedBackend::cost));
    let ceiling = snapshot.quota.monthly_usd.map(Usd::from_dollars);
    if let Some(allowed) = ceiling.filter(|allowed| cost > *allowed && cost_grows) {
        let message = format!(
            "the backends of `{}` would cost {cost} a month together, and its quota allows {allowed}; ask for less, or have an \
             operator raise it with `convexinfra quota set`",
            snapshot.project
        );
        refusals.push(refusal("plan.over_quota_monthly_usd", None, message));
    }
    refusals
}

/// Refuses every destruction that was not allowed by the backend's name.
///
/// This is asked by whoever applies, not while planning: a plan shows what would be destroyed.
pub fn destruction_refusals(plan: &Plan, allowed: &[BackendName]) -> Vec<Diagnostic> {
    let allowed: BTreeSet<&BackendName> = allowed.iter().collect();
    plan.steps
        .iter()
        .filter(|step| step.action == Action::Destroy && !allowed.contains(&step.address.backend))
        .map(|step| {
            let name = &step.address.backend;
            let data = if step.destroys_data { " and its data" } else { "" };
            refusal(
                "apply.destruction_not_allowed",
                Some(step.address.clone()),
                format!("this would destroy `{name}`{data}; if that is meant, add `--allow-destroy {name}`"),
            )
        })
        .collect()
}
