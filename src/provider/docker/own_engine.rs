//! The engine that Docker's own tools would use: connected to once, and not asked again by the next backend where it is out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::engine::{Engine, EngineSource};
use crate::provider::ProviderError;

/// How long an outage answers for what is asked after it: all backends of a project are looked at within that.
const OUTAGE_MEMORY: Duration = Duration::from_secs(5);

/// The connection to the engine, or how it was not reached.
#[derive(Default)]
pub(super) struct OwnEngine {
    engine: OnceCell<Engine>,
    outage: Mutex<Option<Outage>>,
}

struct Outage {
    since: Instant,
    address: String,
    reason: String,
}

impl OwnEngine {
    /// Returns the engine, which is connected to where it was not yet.
    ///
    /// # Errors
    /// [`ProviderError::EngineUnreachable`], also where it was just found out of reach: a silent one would cost its whole timeout
    /// once for each backend.
    pub(super) async fn get(&self, source: &EngineSource) -> Result<&Engine, ProviderError> {
        let connect = || async {
            if let Some(known) = self.outage() {
                return Err(known);
            }
            let connected = Engine::connect(source).await;
            if let Err(ProviderError::EngineUnreachable { address, reason }) = &connected {
                let outage = Outage { since: Instant::now(), address: address.clone(), reason: reason.clone() };
                *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = Some(outage);
            }
            connected
        };
        self.engine.get_or_try_init(connect).await
    }

    fn outage(&self) -> Option<ProviderError> {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = outage.as_ref().filter(|outage| outage.since.elapsed() < OUTAGE_MEMORY)?;
        Some(ProviderError::EngineUnreachable { address: recent.address.clone(), reason: recent.reason.clone() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn an_outage_is_found_once_for_all_backends() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        // An engine that closes each connection without an answer.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        let source = EngineSource { host: Some(format!("unix://{}", socket.display())), ..EngineSource::default() };
        let engine = OwnEngine::default();
        assert!(matches!(engine.get(&source).await, Err(ProviderError::EngineUnreachable { .. })));
        let first = asked.load(Ordering::SeqCst);
        assert!(first > 0);
        for _ in 0..3 {
            assert!(matches!(engine.get(&source).await, Err(ProviderError::EngineUnreachable { .. })));
        }
        assert_eq!(asked.load(Ordering::SeqCst), first);
    }
}
