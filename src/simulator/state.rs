//! The state of one backend, which all its handlers share.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::data::SimulatorDatabase;
use super::identifier;
use super::state_gate::StateGate;
use crate::convex::admin_key::InstanceSecret;

/// Shares the state of one backend between its handlers.
#[derive(Clone)]
pub(super) struct SimulatorState(Arc<SharedState>);

/// Holds what the state consists of.
pub(super) struct SharedState {
    pub(super) instance_name: String,
    pub(super) secret: InstanceSecret,
    pub(super) version: String,
    pub(super) cloud_origin: String,
    pub(super) site_origin: String,
    pub(super) metrics_disabled: bool,
    /// The directory for files, unless they are said to be in S3.
    pub(super) storage: Option<PathBuf>,
    pub(super) data: SimulatorDatabase,
    pub(super) gate: StateGate,
    pub(super) changes: watch::Sender<u64>,
    pub(super) stop: watch::Receiver<bool>,
}

impl std::ops::Deref for SimulatorState {
    type Target = SharedState;
    fn deref(&self) -> &SharedState {
        &self.0
    }
}

impl SimulatorState {
    pub(super) fn new(shared: SharedState) -> Self {
        Self(Arc::new(shared))
    }

    /// Notifies listeners that the data has changed.
    pub(super) fn notify_changed(&self) {
        self.changes.send_replace(identifier::now_ns());
    }

    /// Returns when the data last changed.
    pub(super) fn changed_at(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Subscribes to changes of the data.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns once the process has been told to stop.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|stopped| *stopped).await;
    }

    /// Returns the path of an object. Only its name is used: the bytes are in the database.
    pub(super) fn object_path(&self, part: &str, object: &str) -> String {
        match &self.storage {
            Some(directory) => directory.join(part).join(format!("{object}.blob")).to_string_lossy().into_owned(),
            None => format!("s3:{part}/{object}"),
        }
    }
}
