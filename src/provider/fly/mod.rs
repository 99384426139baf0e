//! Backends on Fly.io: exactly one app for each, with one machine, one volume and a network of its own.
//!
//! Everything goes through [`Port`], so the same driver runs wherever requests can be sent. Fly tells nobody twice what it
//! has made, so everything is found by name: the app's follows from the backend's identity, the machine's and the
//! volume's are fixed, and what is found has to prove that it is ours.
//!
//! Must not do: start threads, read clocks or the environment, or take a look that failed for "absent".

mod answers;
mod apps;
mod calls;
mod certificates;
mod client;
mod dashboard;
mod difference;
mod ensure;
mod error;
mod images;
mod leases;
mod machines;
#[cfg(feature = "native")]
mod native;
mod observe;
mod places;
mod port;
mod refusal;
mod remove;
mod update;
mod volumes;
mod wanted;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use self::apps::{BACKEND_PARTS, Work};
use self::client::Client;
use self::wanted::app_of;
use super::{LogChunk, LogPosition, Notice, Provider, ProviderError};
use crate::model::{Observation, Placement, ProviderKind, References};

pub use client::Patience;
pub use error::FlyError;
#[cfg(feature = "native")]
pub use native::Native;
pub use places::Places;
pub use port::{Call, Method, Port, PortError, Reply, Service, authorization};

/// What is the same for all backends.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The organisation that pays where the manifest names none.
    pub organisation: Option<String>,
}

/// Runs backends on Fly.io.
pub struct Fly {
    client: Client,
    settings: Settings,
}

impl Fly {
    /// Backends that are reached through this port.
    pub fn new(port: Arc<dyn Port>, settings: Settings) -> Self {
        Self { client: Client { port, patience: Patience::default() }, settings }
    }

    /// The same with other times to wait.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.client.patience = patience;
        self
    }

    fn work<'a>(&'a self, placement: &'a Placement, notice: Notice<'a>) -> Result<Work<'a>, FlyError> {
        Ok(Work { client: &self.client, placement, app: app_of(placement)?.to_owned(), notice, parts: BACKEND_PARTS })
    }
}

/// Says nothing: nobody listens to a look.
const SILENT: Notice<'static> = &|_| {};

impl Provider for Fly {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Fly
    }

    fn observe<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<Observation, ProviderError>> {
        Box::pin(async move { Ok(observe::observe(&self.work(placement, SILENT)?).await?) })
    }

    fn ensure<'a>(&'a self, placement: &'a Placement, notice: Notice<'a>) -> BoxFuture<'a, Result<References, ProviderError>> {
        Box::pin(ensure::ensure(&self.client, &self.settings, placement, notice))
    }

    fn remove<'a>(&'a self, placement: &'a Placement, notice: Notice<'a>) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move { Ok(remove::remove(&self.work(placement, notice)?).await?) })
    }

    fn remove_keeping_data<'a>(
        &'a self,
        placement: &'a Placement,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move { Ok(remove::remove_keeping_data(&self.work(placement, notice)?).await?) })
    }

    fn logs<'a>(&'a self, placement: &'a Placement, _: LogPosition) -> BoxFuture<'a, Result<LogChunk, ProviderError>> {
        Box::pin(async move {
            let app = app_of(placement)?;
            Err(ProviderError::Unsupported(format!("Fly keeps the logs itself, and shows them with `fly logs --app {app}`")))
        })
    }
}

#[cfg(test)]
mod tests;
