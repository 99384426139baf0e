//! Lints: what is worth a look in a plan and blocks nothing.

use super::{FieldChange, Upgrade, WayBack};
use crate::model::{
    ActualBackend, Address, BackendName, ControlPlaneInfo, Cost, DatabaseReclaim, Desired, DesiredBackend, Diagnostic, Expiry,
    FieldPath, Files, STORAGE_SERVER, SecretSource, SecretState, TextValue, Timestamp, VolumeReclaim, monthly_cost,
    secret_slots,
};
use crate::policy::find_change;

/// The code that says that a secret was not compared.
pub const SECRET_NOT_COMPARED: &str = "plan.secret_not_compared";

fn lint(code: &str, address: Address, message: String) -> Diagnostic {
    Diagnostic::warning(code, message).about(address)
}

/// What a time to live comes to in this control plane.
pub(super) fn expiry(
    name: &BackendName,
    wanted: &DesiredBackend,
    existing: Option<&ActualBackend>,
    control_plane: &ControlPlaneInfo,
) -> Option<Diagnostic> {
    let ttl = wanted.spec.ttl?;
    match (control_plane.expiry, existing) {
        (Expiry::Recorded, _) => {
            let message =
                "this control plane has no process of its own, so `ttl` is recorded and shown but removes nothing by itself";
            Some(lint("plan.ttl_not_enforced", Address::backend(name), message.to_owned()))
        }
        // Its time began when it was made, so a new `ttl` may end sooner than it sounds.
        (Expiry::Enforced, Some(existing)) if existing.recorded.ttl != Some(ttl) && !wanted.spec.protected => {
            let end = existing.created_at.plus(ttl);
            let message = format!("made at {}, it is removed with its data once {end} has passed", existing.created_at);
            Some(lint("plan.ttl_enforced", Address::backend(name), message))
        }
        (Expiry::Enforced, _) => None,
    }
}

/// Says that a backend is not brought back, because its time is over.
pub(super) fn expired(name: &BackendName, ended_at: Timestamp) -> Diagnostic {
    let message =
        format!("its `ttl` ended at {ended_at}, so it was removed and is not created again; add `--renew` to bring it back");
    lint("plan.expired", Address::backend(name), message)
}

/// Says that a backend stays stopped, because that was asked for.
pub(super) fn stopped(name: &BackendName) -> Diagnostic {
    lint("plan.stopped", Address::backend(name), "it was stopped on purpose and stays stopped".to_owned())
        .with_help(format!("start it with\n    convexinfra start {name}"))
}

/// What one specification says about itself.
pub(super) fn specification(name: &BackendName, wanted: &DesiredBackend) -> Vec<Diagnostic> {
    let spec = &wanted.spec;
    let mut lints = Vec::new();
    let mut say = |code: &str, message: String| lints.push(lint(code, Address::backend(name), message));
    let descriptor = spec.provider.descriptor();
    if !(descriptor.pins_build)(spec) {
        say(
            "plan.unpinned_release",
            "`release` is not pinned, so two machines may run different builds and nothing can tell an upgrade from a downgrade; \
             name a commit, a `precompiled-…` tag or a digest"
                .to_owned(),
        );
    }
    if let (Some(backend), Some(database)) = (&spec.region, spec.storage.server().and_then(|server| server.region.as_ref()))
        && backend != database
    {
        say(
            "plan.region_mismatch",
            format!(
                "the backend is in `{backend}` and its database in `{database}`; every query pays the distance many times over"
            ),
        );
    }
    lints.extend((descriptor.lints)(name, spec));
    if let Files::S3(s3) = &spec.files
        && let Some(TextValue::Literal(endpoint)) = &s3.endpoint
        && endpoint.contains("r2.cloudflarestorage.com")
    {
        let message = "exports with files are known to fail on R2 (parts of different length); export without files there";
        lints.push(lint("plan.r2_export", Address::backend(name), message.to_owned()));
    }
    lints
}

/// What whole projects say about themselves.
pub(super) fn project(desired: &Desired) -> Vec<Diagnostic> {
    let mut lints = unknown_cost(desired);
    lints.extend(uncounted_resources(desired));
    lints
}

/// Ceilings that some backends escape, because they do not say what they use.
fn uncounted_resources(desired: &Desired) -> Option<Diagnostic> {
    let budget = &desired.budget;
    let silent: Vec<String> = desired
        .backends
        .iter()
        .filter(|(_, backend)| {
            let resources = &backend.spec.resources;
            budget.cpus.is_some() && resources.cpus.is_none()
                || budget.memory.is_some() && resources.memory.is_none()
                || budget.disk.is_some() && resources.disk.is_none()
        })
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    (!silent.is_empty()).then(|| {
        let message =
            format!("the budget counts only what is written in `resources`, and {} leaves some of it out", silent.join(", "));
        Diagnostic::warning("plan.budget_incomplete", message)
    })
}

fn unknown_cost(desired: &Desired) -> Vec<Diagnostic> {
    let unknown: Vec<String> = desired
        .backends
        .iter()
        .filter(|(_, backend)| monthly_cost(&backend.spec, None) == Cost::Unknown)
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    if desired.budget.monthly_usd.is_none() || unknown.is_empty() {
        return Vec::new();
    }
    let message =
        format!("the price of {} is not known here, so `budget.monthly_usd` counts only the others", unknown.join(", "));
    vec![Diagnostic::warning("plan.cost_unknown", message)]
}

/// The code of the lint about a secret that apply needs and that is not set.
pub const SECRET_MISSING: &str = "plan.secret_missing";

/// Secrets that a step needs and that are not at hand.
pub(super) fn unavailable_secrets(
    name: &BackendName,
    wanted: &DesiredBackend,
    is_needed: impl Fn(&FieldPath) -> bool,
) -> Vec<Diagnostic> {
    let needed = wanted.secrets.iter().filter(|(path, _)| path.as_str() != STORAGE_SERVER && is_needed(path));
    needed
        .filter_map(|(path, state)| match state {
            SecretState::Unavailable(reference) => {
                let message = format!("`{path}` comes from {reference}, which is not set; apply will fail without it");
                Some(lint(SECRET_MISSING, Address::backend(name), message))
            }
            SecretState::Unreadable(_) => Some(not_compared(name, path, wanted)),
            _ => None,
        })
        .collect()
}

/// Secrets whose values are templates that nothing has filled in.
pub(super) fn unfilled_secrets<'w>(name: &'w BackendName, wanted: &'w DesiredBackend) -> impl Iterator<Item = Diagnostic> + 'w {
    wanted.templates.iter().map(move |(path, form)| {
        let source = secret_slots(&wanted.spec).into_iter().find(|(slot, _)| slot == path);
        let from = match source {
            Some((_, SecretSource::Reference(reference))) => format!(" comes from {reference}, and"),
            _ => String::new(),
        };
        let message = format!("`{path}`{from} looks like a placeholder such as `{form}`, which nothing has filled in");
        lint("plan.secret_template", Address::backend(name), message).with_help("put the value itself there, and apply again")
    })
}

/// A secret that could not be compared.
pub(super) fn not_compared(name: &BackendName, path: &FieldPath, wanted: &DesiredBackend) -> Diagnostic {
    let why = match wanted.secrets.get(path) {
        Some(SecretState::Unavailable(reference)) => {
            format!("because {reference} is not available; the value that was applied before stays")
        }
        Some(SecretState::Unreadable(why)) => format!("because {why}; an apply does not begin until it can be read"),
        _ => "because that needs a token with scope `apply`; an apply compares it".to_owned(),
    };
    lint(SECRET_NOT_COMPARED, Address::backend(name), format!("`{path}` is not compared here, {why}"))
}

/// What changes are worth a look.
pub(super) fn changes(name: &BackendName, changes: &[FieldChange]) -> Vec<Diagnostic> {
    let mut lints = Vec::new();
    let mut say = |code: &str, message: String| lints.push(lint(code, Address::backend(name), message));
    if find_change(changes, "tuning.document_retention").is_some() {
        say(
            "plan.retention_changes",
            "`tuning.document_retention` changes; lowering it and raising it again later is known to stop the retention worker, \
             so choose it once"
                .to_owned(),
        );
    }
    if find_change(changes, "protected").is_some_and(|change| change.after.is_none()) {
        say("plan.protection_ends", format!("after this, a plan may destroy `{name}`"));
    }
    lints
}

/// An upgrade that nothing takes back.
pub(super) fn no_way_back(name: &BackendName, upgrade: &Upgrade) -> Option<Diagnostic> {
    (upgrade.way_back == WayBack::None).then(|| {
        let message = format!(
            "`{}` starts on the data of `{name}` and there is no way back: no snapshot of it can be taken here, and the release \
             from before cannot read what this one has written",
            upgrade.to
        );
        let help = format!("take an archive first\n    convexinfra archive {name} --out {name}.zip");
        lint("plan.upgrade_without_way_back", Address::backend(name), message).with_help(help)
    })
}

/// A database that outlives its backend.
pub(super) fn database_stays(name: &BackendName, existing: &ActualBackend, disposal: DatabaseReclaim) -> Option<Diagnostic> {
    let stays = existing.recorded.has_own_server() && disposal == DatabaseReclaim::Retain;
    stays.then(|| {
        let files = if existing.recorded.has_split_data() { ", its files stay where it ran" } else { "" };
        let message = format!(
            "its database `{}` stays on its server with all documents{files}, and a backend of the same name takes it up again; \
             `--with-database` drops it as well",
            existing.instance_name.database()
        );
        lint("plan.database_stays", Address::backend(name), message)
    })
}

/// Data that stays at a provider that goes on billing it.
pub(super) fn retained_is_billed(name: &BackendName, existing: &ActualBackend, disposal: VolumeReclaim) -> Option<Diagnostic> {
    if disposal == VolumeReclaim::Delete {
        return None;
    }
    let provider = existing.recorded.provider;
    let price = match (provider.descriptor().retained_price)(&existing.recorded) {
        Cost::Unmetered => return None,
        Cost::Known { usd, .. } => format!("about {usd} a month"),
        Cost::Unknown => "at a price that is not known here".to_owned(),
    };
    let flag = match existing.recorded.has_split_data() {
        true => "`--with-database` removes it together with the database",
        false => "without `--keep-data` it is removed",
    };
    let message = format!("the volume of `{name}` stays, and `{provider}` goes on billing it, {price}; {flag}");
    Some(lint("plan.retained_billed", Address::backend(name), message))
}

/// A removal that was to keep the volume, and that is finished by one that is not to.
pub(super) fn retention_dropped(name: &BackendName, begun: VolumeReclaim, now: VolumeReclaim) -> Option<Diagnostic> {
    (begun == VolumeReclaim::Retain && now == VolumeReclaim::Delete).then(|| {
        let message = format!(
            "the removal of `{name}` was begun with `--keep-data`, and this one takes its volume away as well; say `--keep-data` \
             again to keep it"
        );
        lint("plan.kept_no_more", Address::backend(name), message)
    })
}

/// What becomes of the data of a backend that goes before one of the same name is made.
pub(super) fn removal_first(name: &BackendName, existing: &ActualBackend) -> Vec<Diagnostic> {
    let removal = existing.removal.unwrap_or_default();
    let mut lints = Vec::new();
    if removal.volume == VolumeReclaim::Retain {
        let message = format!(
            "the removal of `{name}` was begun with `--keep-data` and ends so: its app and its volume stay, and the backend that \
             is recreated takes them up only where `fly.app` names that app"
        );
        lints.push(lint("plan.kept_apart", Address::backend(name), message));
    }
    if removal.database.is_dropped() && existing.recorded.has_own_server() {
        let message = format!(
            "the removal of `{name}` was begun with `--with-database` and ends so: its database `{}` is dropped before the \
             backend is recreated",
            existing.instance_name.database()
        );
        lints.push(lint("plan.database_goes", Address::backend(name), message));
    }
    lints
}

/// Variables that no manifest set.
pub(super) fn unmanaged_env(name: &BackendName, wanted: &DesiredBackend, existing: &ActualBackend) -> Option<Diagnostic> {
    // One that the manifest names by now is about to be its own.
    let others: Vec<String> = existing
        .unmanaged_env
        .iter()
        .filter(|variable| !wanted.spec.env.contains_key(*variable))
        .map(|variable| format!("`{variable}`"))
        .collect();
    (!others.is_empty()).then(|| {
        let message = format!("it also has {}, which the manifest does not name: left alone", others.join(", "));
        lint("plan.other_variables", Address::backend(name), message)
    })
}

/// The code of the lint about a backend that could not be looked at.
pub const NOT_OBSERVED: &str = "plan.not_observed";

/// A backend that could not be looked at.
pub(super) fn not_observed(address: &Address, why: &Diagnostic) -> Diagnostic {
    let message = format!("nothing is known about drift, which is not the same as \"absent\": {}", why.message);
    lint(NOT_OBSERVED, address.clone(), message)
}

/// Two backends that write one env file.
pub(super) fn shared_env_file(name: &BackendName, owner: &BackendName, path: &str) -> Diagnostic {
    lint(
        "plan.shared_env_file",
        Address::env_file(name),
        format!(
            "`{path}` is already written for `{owner}`, and one file can name one backend; give `{name}` an `env_file` of its own"
        ),
    )
}

/// A remark about an env file.
pub(super) fn env_file(address: &Address, warning: &str) -> Diagnostic {
    lint("plan.env_file", address.clone(), warning.to_owned())
}

/// An env file that no backend names any more.
pub(super) fn env_file_unnamed(name: &BackendName, path: &str) -> Diagnostic {
    let message = format!(
        "`{path}` was written for `{name}`, and nothing names it any more: only a manifest with one backend has an env file without a \
         word, so it is left as it is"
    );
    lint(ENV_FILE_UNNAMED, Address::env_file_at(name, path), message)
        .with_help(format!("add `env_file = \"{path}\"` to `[backends.{name}]`"))
}

/// The code of the lint about an env file that no backend names any more.
pub const ENV_FILE_UNNAMED: &str = "plan.env_file_unnamed";

/// The code of the lint about a rename that the manifest does not declare.
pub const RENAME_UNDECLARED: &str = "plan.rename_undeclared";

/// A backend that goes while an alike one comes.
pub(super) fn rename_undeclared(old: &BackendName, new: &BackendName) -> Diagnostic {
    let message = format!(
        "`{old}` goes with its data and `{new}`, which is alike, begins without any; if this is a rename, say so and the data stays"
    );
    lint(RENAME_UNDECLARED, Address::backend(new), message)
        .with_help(format!("add to the manifest\n    [[moved]]\n    from = \"{old}\"\n    to = \"{new}\""))
}

/// Returns the lint about an executable that the manifest names and that does not exist.
pub fn missing_binary(name: &BackendName, path: &str) -> Diagnostic {
    let message = format!("`local.binary` names `{path}`, which does not exist; apply will fail without it");
    lint("plan.binary_missing", Address::backend(name), message)
        .with_help("name an executable `convex-local-backend`, or leave `local.binary` out and Convex's own is downloaded")
}

/// An env file of another repository that still names a backend.
pub(super) fn env_file_elsewhere(address: &Address, name: &BackendName, path: &str) -> Diagnostic {
    let message = format!(
        "`{path}` still has the key of `{name}` and lies outside of this repository, so it is left as it is; take the block of \
         convexinfra out of it"
    );
    lint("plan.env_file_elsewhere", address.clone(), message)
}
