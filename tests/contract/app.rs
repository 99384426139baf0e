//! An app on the stand-in for Fly, as the contract of all drivers wants it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use convexinfra::model::fly::{ADOPT_APP_KEY, APP_KEY};
use convexinfra::model::{BackendId, ProviderState, ResolvedBackend, Secret};
use convexinfra::provider::Provider;
use convexinfra::provider::fly::{ApiEndpoints, Fly, FlyConfig, ReqwestTransport, Timeouts};
use fake_fly::settings::TOKEN;
use serde_json::json;

use crate::fly_fixture::{Fixture, placement, timeouts};
use crate::promises::ContractFixture;

pub(super) struct AppFixture {
    fixture: Fixture,
    /// The volumes that were there when the data was marked: their data cannot be looked into.
    marked: Mutex<Vec<String>>,
}

impl AppFixture {
    pub(super) fn new() -> Self {
        Self { fixture: Fixture::new(), marked: Mutex::default() }
    }
}

impl ContractFixture for AppFixture {
    fn provider(&self) -> &dyn Provider {
        &self.fixture.provider
    }

    fn unreachable_provider(&self) -> Box<dyn Provider> {
        let nowhere = || "http://127.0.0.1:1".to_owned();
        let endpoints = ApiEndpoints { machines: nowhere(), registry: nowhere(), commits: nowhere() };
        let transport = Arc::new(ReqwestTransport::new(&Secret::new(TOKEN), endpoints));
        let timeouts = Timeouts { retry: Duration::from_millis(200), ..timeouts() };
        Box::new(Fly::new(transport, FlyConfig::default()).with_timeouts(timeouts))
    }

    fn resolved(&mut self) -> &mut ResolvedBackend {
        &mut self.fixture.placement
    }

    fn inventory(&self) -> Vec<String> {
        let mut all: Vec<String> = self.fixture.fly.world().apps.keys().map(|app| format!("app {app}")).collect();
        all.extend(self.fixture.machines().into_iter().map(|id| format!("machine {id}")));
        all.extend(self.fixture.volumes().into_iter().map(|id| format!("volume {id}")));
        all
    }

    async fn kill(&mut self) {
        let machine = self.fixture.machines()[0].clone();
        self.fixture.meddle("POST", &format!("/apps/APP/machines/{machine}/stop"), json!({})).await;
    }

    fn mark_data(&self) {
        *self.marked.lock().unwrap() = self.fixture.volumes();
    }

    fn has_mark(&self) -> bool {
        let marked = self.marked.lock().unwrap();
        !marked.is_empty() && *marked == self.fixture.volumes()
    }

    async fn add_foreign(&self) -> String {
        let app = format!("{}x", self.fixture.app());
        self.fixture.meddle("POST", "/apps", json!({ "app_name": app, "org_slug": "acme" })).await;
        format!("app {app}")
    }

    fn readable_texts(&self) -> Vec<String> {
        let world = self.fixture.fly.world();
        let machines = world.apps.values().flat_map(|app| &app.machines);
        machines.map(|machine| machine.config.value.to_string()).collect()
    }

    fn take_up_retained(&mut self) {
        // Another backend later, with the app's name in its manifest.
        let app = self.fixture.app();
        let mut again = placement();
        again.id = BackendId::new("another");
        again.provider_state =
            ProviderState::from([(APP_KEY.to_owned(), app.clone()), (ADOPT_APP_KEY.to_owned(), "true".to_owned())]);
        again.spec.settings.fly.app = Some(app);
        self.fixture.placement = again;
    }
}
