//! Upgrades: which change of a release is one, and whether there is a way back from it.

use serde::{Deserialize, Serialize};

use crate::model::{BackendSpec, Files, Release, Storage};

/// Describes an upgrade: another release on data that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Upgrade {
    /// The release that was asked for before; absent where none was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Release>,
    /// The release that is to run.
    pub to: Release,
    /// How it is taken back when it fails.
    pub way_back: WayBack,
}

/// Names how an upgrade is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WayBack {
    /// By a snapshot that is taken before, and the release from before.
    Snapshot,
    /// Not at all: nothing here can take a snapshot of its data.
    None,
}

/// Returns whether a control plane with a disk takes snapshots of a backend.
pub(crate) fn takes_snapshots(spec: &BackendSpec) -> bool {
    let own_data = matches!((&spec.storage, &spec.files), (Storage::Sqlite, Files::Local));
    own_data && !spec.is_record_only() && spec.provider.descriptor().takes_snapshots
}

/// Returns the upgrade that a change of a specification is; none where the release stays or nothing runs.
pub(crate) fn upgrade(recorded: &BackendSpec, wanted: &BackendSpec) -> Option<Upgrade> {
    let to = wanted.release.as_ref().filter(|to| recorded.release.as_ref() != Some(to))?;
    if recorded.is_record_only() || wanted.is_record_only() {
        return None;
    }
    let way_back = if takes_snapshots(recorded) && takes_snapshots(wanted) { WayBack::Snapshot } else { WayBack::None };
    Some(Upgrade { from: recorded.release.clone(), to: to.clone(), way_back })
}
