//! The stand-in backend out of this very executable, or nothing but a record.
//!
//! Must not do: pretend. What the stand-in cannot do is refused.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::command_line::{Program, data_paths, describe};
use super::process::{Keeper, Launch};
use super::{LogChunk, LogPosition, Notice, Provider, ProviderError};
use crate::convex::launch::SecretDelivery;
use crate::model::{Data, Observation, Placement, ProviderKind, References, RunState};

/// Runs simulated backends.
#[derive(Debug, Clone)]
pub struct Simulated {
    keeper: Keeper,
}

impl Simulated {
    /// Backends below `home`, run by `executable`, which is convexinfra itself.
    pub fn new(home: PathBuf, executable: PathBuf) -> Self {
        Self { keeper: Keeper::new(home, executable) }
    }

    /// Gives processes another time to end by themselves than ten seconds.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { keeper: self.keeper.with_grace(grace) }
    }

    fn launch(&self, placement: &Placement) -> Result<Launch, ProviderError> {
        let program = Program {
            path: self.keeper.executable().to_owned(),
            sha256: None,
            sub_command: Some("simulate-backend"),
            secret: SecretDelivery::Variable,
            release: placement.spec.release.clone(),
        };
        describe(placement, &self.keeper.place(&placement.id)?, program)
    }
}

impl Provider for Simulated {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Simulated
    }

    fn observe<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<Observation, ProviderError>> {
        Box::pin(async move {
            if placement.spec.is_record_only() {
                return Ok(Observation {
                    state: RunState::Recorded,
                    data: Data::None,
                    deviations: Vec::new(),
                    notes: Vec::new(),
                });
            }
            let data = data_paths(placement, &self.keeper.place(&placement.id)?);
            self.keeper.observe(placement, self.launch(placement).ok().as_ref(), &data).await
        })
    }

    fn ensure<'a>(&'a self, placement: &'a Placement, _: Notice<'a>) -> BoxFuture<'a, Result<References, ProviderError>> {
        Box::pin(async move {
            if placement.spec.is_record_only() {
                // It may have listened before.
                if self.keeper.has_trace(&placement.id)? {
                    self.keeper.halt(&placement.id).await?;
                }
            } else {
                let data = data_paths(placement, &self.keeper.place(&placement.id)?);
                self.keeper.ensure(placement, &self.launch(placement)?, &data).await?;
            }
            Ok(References::new())
        })
    }

    fn remove<'a>(&'a self, placement: &'a Placement, _: Notice<'a>) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move {
            // Whether it listens may have changed since it was started, so what is there counts, not what is asked.
            if placement.spec.is_record_only() && !self.keeper.has_trace(&placement.id)? {
                return Ok(());
            }
            self.keeper.remove(placement).await
        })
    }

    fn logs<'a>(&'a self, placement: &'a Placement, from: LogPosition) -> BoxFuture<'a, Result<LogChunk, ProviderError>> {
        Box::pin(async move { self.keeper.logs(&placement.id, from) })
    }
}
