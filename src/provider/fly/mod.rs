//! Backends on Fly.io: exactly one app for each, with one machine, one volume and a network of its own.
//!
//! Everything goes through [`ApiTransport`], so the same driver runs wherever requests can be sent. Fly says only once what it
//! has made, so everything is found by name: the app's follows from the backend's identity, the machine's and the
//! volume's are fixed, and what is found has to prove that it is ours.
//!
//! Must not do: start threads, read clocks or the environment, or take a look that failed for "absent".

mod addresses;
mod api_error;
mod api_types;
mod app_secrets;
mod apps;
mod certificates;
mod client;
mod config_diff;
mod cookies;
mod dashboard;
mod deadline;
mod desired;
mod drift;
mod endpoints;
mod ensure;
mod error;
mod fresh;
mod images;
mod leases;
mod machines;
mod observe;
mod remove;
mod requests;
#[cfg(feature = "native")]
mod reqwest_transport;
mod transport;
mod update;
mod volumes;

use std::sync::Arc;

use self::apps::{AppReconciler, BACKEND_ROLE};
use self::client::ApiClient;
use self::desired::app_name_of;
use super::{LogChunk, LogPosition, ProgressFn, Provider, ProviderError, StateJournal, async_trait};
use crate::convex::release::BACKEND_IMAGE;
use crate::model::{BackendSpec, Observation, ProviderKind, ProviderState, ResolvedBackend};
use crate::provider::kit::image_reference::ImagePolicy;

pub use client::Timeouts;
pub use endpoints::ApiEndpoints;
pub use error::FlyError;
#[cfg(feature = "native")]
pub use reqwest_transport::ReqwestTransport;
pub use transport::{
    ApiRequest, ApiResponse, ApiTransport, ApiTransportError, Method, Service, TOKEN_VARIABLES, authorization,
};

/// The settings of the driver, for all backends.
#[derive(Debug, Clone, Default)]
pub struct FlyConfig {
    /// The organisation that pays where the manifest names none.
    pub default_org: Option<String>,
    /// The images that manifests may name: the token fetches those of every app of its organisation.
    pub images: ImagePolicy,
}

/// Runs backends on Fly.io.
pub struct Fly {
    client: ApiClient,
    config: FlyConfig,
}

impl Fly {
    /// Creates the driver over a transport.
    pub fn new(port: Arc<dyn ApiTransport>, settings: FlyConfig) -> Self {
        Self { client: ApiClient::new(port), config: settings }
    }

    /// Replaces the timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, patience: Timeouts) -> Self {
        self.client.timeouts = patience;
        self
    }

    fn reconciler<'a>(&'a self, placement: &'a ResolvedBackend, notice: ProgressFn<'a>) -> Result<AppReconciler<'a>, FlyError> {
        Ok(AppReconciler {
            client: &self.client,
            placement,
            app: app_name_of(placement)?.to_owned(),
            notice,
            journal: None,
            role: BACKEND_ROLE,
        })
    }
}

/// Discards progress: a look reports none.
const NO_NOTICE: ProgressFn<'static> = &|_| {};

#[async_trait]
impl Provider for Fly {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Fly
    }

    async fn authorize(&self, spec: &BackendSpec) -> Result<(), ProviderError> {
        match &spec.settings.fly.image {
            Some(image) => self.config.images.check("fly.image", image, &[BACKEND_IMAGE]),
            None => Ok(()),
        }
    }

    async fn observe(&self, placement: &ResolvedBackend) -> Result<Observation, ProviderError> {
        Ok(observe::observe(&self.reconciler(placement, NO_NOTICE)?).await?)
    }

    async fn ensure(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<ProviderState, ProviderError> {
        ensure::ensure(&self.client, &self.config, placement, notice, None).await
    }

    async fn ensure_recorded(
        &self,
        placement: &ResolvedBackend,
        notice: ProgressFn<'_>,
        journal: &dyn StateJournal,
    ) -> Result<ProviderState, ProviderError> {
        ensure::ensure(&self.client, &self.config, placement, notice, Some(journal)).await
    }

    async fn remove(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), ProviderError> {
        Ok(remove::remove(&self.reconciler(placement, notice)?).await?)
    }

    async fn remove_keeping_data(&self, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), ProviderError> {
        Ok(remove::remove_keeping_data(&self.reconciler(placement, notice)?).await?)
    }

    async fn logs(&self, placement: &ResolvedBackend, _: LogPosition) -> Result<LogChunk, ProviderError> {
        let app = app_name_of(placement)?;
        Err(ProviderError::Unsupported(format!("Fly keeps the logs itself, and shows them with `fly logs --app {app}`")))
    }
}

#[cfg(test)]
mod tests;
