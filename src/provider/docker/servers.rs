//! The engines of servers: one connection for each, shared by all backends there and by all that is asked of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::ssh::SshError;
use crate::model::Server;
use crate::provider::ProviderError;

/// How long a failed login answers for all who need the server. Servers block those who try again at once.
const FAILURE_HOLDS: Duration = Duration::from_secs(15);

/// The engines by server, each with its one connection.
pub(super) struct Servers {
    /// The user's own `ssh`.
    pub(super) program: OsString,
    slots: Mutex<BTreeMap<Server, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl Default for Servers {
    fn default() -> Self {
        Self { program: "ssh".into(), slots: Mutex::default() }
    }
}

#[derive(Default)]
struct Slot {
    engine: Option<Engine>,
    failed: Option<(Instant, SshError)>,
}

impl Servers {
    /// Returns the engine of a server, connecting where there is no connection or where it was lost.
    pub(super) async fn engine(&self, server: &Server) -> Result<Engine, ProviderError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(server.clone()).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(engine) = slot.engine.as_ref().filter(|engine| !engine.is_lost()) {
            return Ok(engine.clone());
        }
        if let Some((_, error)) = slot.failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_HOLDS) {
            return Err(error.clone().into());
        }
        match Engine::connect_server(&self.program, server).await {
            Ok(engine) => {
                slot.engine = Some(engine.clone());
                Ok(engine)
            }
            Err(error) => {
                if let ProviderError::Ssh(error) = &error {
                    slot.failed = Some((Instant::now(), error.clone()));
                }
                Err(error)
            }
        }
    }
}
