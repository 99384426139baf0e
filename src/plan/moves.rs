//! What a plan says about a move of data: from where to where, how much, in which phases, what is compared and what is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, ChangeImpact, Step, Task};
use crate::model::{ActualBackend, BackendName, DataSize, Location, Storage};

/// Describes the move of a backend's rows to another database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlannedMove {
    /// The backend. It is stopped from its second phase to its last but one.
    pub backend: BackendName,
    /// The engine that the rows are on.
    pub from: String,
    /// The engine that they move to.
    pub to: String,
    /// What the data takes on a disk now; absent where only the server could tell. Files stay where they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<DataSize>,
    /// What is done, in order. A move that is cut off goes on with the same apply, and one that fails is undone.
    pub phases: Vec<String>,
    /// What is compared before the backend starts on the copy.
    pub verified: String,
    /// What stays of the rows where they were.
    pub kept: String,
}

const PHASES: [&str; 7] = [
    "make the target",
    "stop the backend",
    "lock the source",
    "copy the rows",
    "compare both sides",
    "start on the target",
    "wait until it answers",
];

/// Returns the moves of a plan.
pub(super) fn data_moves(steps: &[Step], existing: &BTreeMap<&BackendName, &ActualBackend>) -> Vec<PlannedMove> {
    let moves = steps.iter().filter(|step| step.action == Action::Move);
    let described = moves.filter_map(|step| {
        let Some(Task::Put { backend, spec, .. }) = &step.task else { return None };
        let now = existing.get(backend)?;
        let mut moving = step.changes.iter().filter(|change| change.effect == ChangeImpact::MovesData);
        let is_possible = moving.all(|change| matches!(change.path.as_str(), "storage.engine" | "storage.server"));
        if !is_possible || !spec.provider.descriptor().moves_rows {
            return None;
        }
        let source = &now.recorded.storage;
        Some(PlannedMove {
            backend: backend.clone(),
            from: source.product().to_owned(),
            to: spec.storage.product().to_owned(),
            size: now.data_size.clone(),
            phases: PHASES.map(str::to_owned).to_vec(),
            verified: "count, first and last timestamp and digest of the documents, the index entries and the globals"
                .to_owned(),
            kept: match source {
                Storage::Sqlite if spec.provider.descriptor().location == Location::Process => {
                    "the file, locked under another name".to_owned()
                }
                Storage::Sqlite => "the file in its volume, until a move back replaces it".to_owned(),
                Storage::Postgres(_) | Storage::Mysql(_) => {
                    format!("the database `{}`, locked", now.instance_name.database())
                }
            },
        })
    });
    described.collect()
}
