//! Rules about data: what would lose it, move it, or run an older build on it.

use super::data_move::{data_move, move_refusal};
use super::diff::find_change;
use super::release::{ReleaseOnData, release_refusal};
use super::upgrade::takes_snapshots;
use super::{ChangeImpact, FieldChange};
use crate::model::{
    ActualBackend, Address, BackendName, BackendSpec, DataState, DatabaseReclaim, DesiredBackend, Diagnostic, DowngradeConsent,
    Files, FinalSnapshot, MoveConsent, Phase, ReclaimPolicy, Timestamp, VolumeReclaim,
};

fn refusal(code: &str, address: Option<Address>, message: String) -> Diagnostic {
    Diagnostic { address, ..Diagnostic::new(code, message) }
}

/// Returns whether a last snapshot of a backend is taken before its data goes. What has a `ttl` goes by itself without one, and
/// so it does when it is asked to go.
pub(crate) fn final_snapshot(existing: &ActualBackend, is_declined: bool) -> FinalSnapshot {
    let has_none = matches!(existing.observation.data, DataState::Missing | DataState::None);
    match () {
        () if has_none || existing.phase == Phase::Creating => FinalSnapshot::NoData,
        () if is_declined => FinalSnapshot::Declined,
        () if existing.expires_at.is_some() => FinalSnapshot::Expires,
        () if existing.takes_snapshots => FinalSnapshot::Taken,
        () => FinalSnapshot::Unsupported,
    }
}

/// Refuses a last snapshot of what nothing takes snapshots of.
pub(crate) fn final_snapshot_refusal(name: &BackendName, recorded: &BackendSpec) -> Option<Diagnostic> {
    (!takes_snapshots(recorded)).then(|| {
        let message = format!("nothing takes a snapshot of `{name}`, so it has no last one, and nothing was done");
        let help = format!(
            "take an archive, and destroy it without a snapshot\n    convexinfra archive {name} --out {name}.zip\n    \
             convexinfra destroy {name} --no-last-snapshot --allow-destroy {name}"
        );
        refusal("snapshot.unsupported", Some(Address::backend(name)), message).with_help(help)
    })
}

/// Refuses a rename onto a name that is in use.
pub(crate) fn moved_onto_existing(from: &BackendName, to: &BackendName) -> Diagnostic {
    refusal(
        "plan.moved_onto_existing",
        Some(Address::backend(from)),
        format!(
            "`[[moved]]` renames `{from}` to `{to}`, but there already is a backend `{to}`; remove the entry, or destroy one of the two first"
        ),
    )
}

/// What the user allowed by the name of a backend.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Consent {
    /// That its release is one of unknown age.
    pub(crate) downgrade: DowngradeConsent,
    /// That its data moves.
    pub(crate) moves: MoveConsent,
}

/// Refuses changes that would lose or endanger data.
pub(crate) fn change_refusals(
    name: &BackendName,
    existing: &ActualBackend,
    wanted: &DesiredBackend,
    changes: &[FieldChange],
    consent: Consent,
) -> Vec<Diagnostic> {
    let address = || Some(Address::backend(name));
    let mut refusals: Vec<Diagnostic> = Vec::new();
    let moving: Vec<String> = changes
        .iter()
        .filter(|change| change.effect == ChangeImpact::MovesData)
        .map(|change| format!("`{}`", change.path))
        .collect();
    if let Some(asked) = data_move(existing, wanted, changes) {
        refusals.extend(move_refusal(name, existing, asked, changes, consent.moves));
    } else if !moving.is_empty() {
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
    {
        let ran =
            ReleaseOnData { release: old, built_on: existing.built_on.as_deref(), is_running: existing.phase == Phase::Ready };
        refusals.extend(release_refusal(name, ran, new, consent.downgrade));
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
pub(crate) fn data_missing(address: &Address, existing: &ActualBackend) -> Diagnostic {
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
pub(crate) fn protected(name: &BackendName, existing: &ActualBackend) -> Option<Diagnostic> {
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

/// Refuses to remove objects of which nothing says for certain that they are the backend's.
pub(crate) fn files_removed(name: &BackendName, existing: &ActualBackend, asked: DatabaseReclaim) -> Option<Diagnostic> {
    let Files::S3(files) = &existing.recorded.files else { return None };
    if asked != DatabaseReclaim::DeleteWithFiles || !existing.recorded.has_buckets() {
        return None;
    }
    let why = if !existing.recorded.has_own_server() {
        "the prefix of its objects is known to its database alone, which goes with it"
    } else if files.credentials.is_none() {
        "only the role of its machine opens its buckets"
    } else {
        return None;
    };
    let message = format!("`--with-files` cannot remove what `{name}` has in buckets: {why}");
    let help = "leave `--with-files` out; the plan then names what stays, and the command that removes it";
    Some(Diagnostic { help: Some(help.to_owned()), ..refusal("plan.files_not_removed", Some(Address::backend(name)), message) })
}

/// Refuses to keep the volume of a backend whose provider has none that could stay by itself.
pub(crate) fn volume_kept(name: &BackendName, existing: &ActualBackend, asked: ReclaimPolicy) -> Option<Diagnostic> {
    let provider = existing.recorded.provider;
    if existing.recorded.has_split_data() {
        let is_half = asked.volume == VolumeReclaim::Retain && asked.database.is_dropped();
        return is_half.then(|| {
            refusal(
                "plan.half_kept",
                Some(Address::backend(name)),
                format!(
                    "`--keep-data` would keep the files of `{name}` and `--with-database` drop the documents that name them, and \
                     neither is of use without the other; leave one of the two out"
                ),
            )
        });
    }
    (asked.volume == VolumeReclaim::Retain && !provider.descriptor().retains_volumes).then(|| {
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
/// Returns whether a removal takes the scope `destroy`. What has a `ttl` goes by itself; to have it go earlier is nothing that was
/// not allowed when the `ttl` was set, unless a database on a server of the user's own goes with it.
pub(crate) fn removal_needs_destroy(expires_at: Option<Timestamp>, database: DatabaseReclaim) -> bool {
    expires_at.is_none() || database.is_dropped()
}
