//! One backend on the stand-in, and the means to look behind it and to meddle with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convexinfra::convex::admin_key::{InstanceSecret, KeyKind, issue};
use convexinfra::model::fly::{APP_KEY, app_name, app_url};
use convexinfra::model::{
    BackendId, BackendName, BackendSpec, Endpoints, Generation, INTERNAL_URL, InstanceName, Observation, PortPair, ProjectName,
    ProviderKind, ProviderState, Release, ResolvedBackend, Secret,
};
use convexinfra::provider::fly::{ApiEndpoints, Fly, FlyConfig as FlySettings, FlyError, ReqwestTransport, Timeouts};
use convexinfra::provider::{Provider, ProviderError};
use serde_json::Value;

use fake_fly::settings::TOKEN;
use fake_fly::{FakeFly, Settings};

pub(super) const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// One backend on a stand-in of its own.
pub(super) struct Fixture {
    pub(super) fly: FakeFly,
    pub(super) provider: Fly,
    pub(super) placement: ResolvedBackend,
    pub(super) said: Arc<Mutex<Vec<String>>>,
}

/// Short enough for tests, long enough for a machine that is busy with others.
pub(super) fn timeouts() -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        retry: seconds(20),
        rate_limit: seconds(20),
        poll_interval: Duration::from_millis(20),
        visibility: seconds(10),
        settle: seconds(60),
        ready: seconds(60),
        unchecked: Duration::from_millis(500),
        deletion: seconds(60),
        lease: seconds(60),
        lease_wait: seconds(60),
    }
}

pub(super) fn provider(fly: &FakeFly, token: &str, patience: Timeouts) -> Fly {
    let nowhere = "http://127.0.0.1:1".to_owned();
    let places = ApiEndpoints { machines: fly.host_url(), registry: nowhere.clone(), commits: nowhere };
    let port = Arc::new(ReqwestTransport::new(&Secret::new(token), places));
    Fly::new(port, FlySettings::default()).with_timeouts(patience)
}

/// As the control plane hands it over before anything was made.
pub(super) fn placement() -> ResolvedBackend {
    let (project, name) = (ProjectName::parse("gremlin").unwrap(), BackendName::parse("dev").unwrap());
    let instance_name = InstanceName::preferred(&project, &name).unwrap();
    let id = BackendId::new("abcdefghijkmnpqr");
    let secret = InstanceSecret::new([0x5a; 32]);
    let app = app_name(&instance_name, &id, 0);
    let mut spec = BackendSpec::new(ProviderKind::Fly);
    spec.region = Some("iad".to_owned());
    spec.release = Some(Release::parse(DIGEST).unwrap());
    ResolvedBackend {
        admin_key: issue(instance_name.as_str(), &secret, KeyKind::Admin { member_id: 0 }, 1_780_000_000, [7; 12]).unwrap(),
        instance_secret: secret.to_hex(),
        endpoints: Endpoints { url: app_url(&app), site_url: format!("{}/http", app_url(&app)) },
        provider_state: ProviderState::from([(APP_KEY.to_owned(), app.clone()), (INTERNAL_URL.to_owned(), app_url(&app))]),
        id,
        project,
        name,
        instance_name,
        spec,
        generation: Generation(1),
        secrets: BTreeMap::new(),
        ports: PortPair { api: 0, site: 0 },
        has_been_ready: false,
    }
}

impl Fixture {
    /// The unfriendly stand-in: new apps hide, lists lag, bindings linger, vaults lag, rates are limited.
    pub(super) fn new() -> Self {
        Self::with(Settings::default().eventually_consistent().hurried(50))
    }

    /// The friendly one, for tests about something else.
    pub(super) fn friendly() -> Self {
        Self::with(Settings::friendly().hurried(50))
    }

    pub(super) fn with(settings: Settings) -> Self {
        let fly = FakeFly::start(settings);
        Self { provider: provider(&fly, TOKEN, timeouts()), fly, placement: placement(), said: Arc::default() }
    }

    pub(super) fn app(&self) -> String {
        self.placement.provider_state[APP_KEY].clone()
    }

    pub(super) async fn try_ensure(&self) -> Result<ProviderState, ProviderError> {
        let notice = |text: String| self.said.lock().unwrap().push(text);
        self.provider.ensure(&self.placement, &notice).await
    }

    /// Brings it about, and remembers what a control plane remembers.
    pub(super) async fn ensure(&mut self) {
        self.placement.provider_state = self.try_ensure().await.unwrap();
        self.placement.has_been_ready = true;
    }

    /// Why it could not be brought about.
    pub(super) async fn refusal(&self) -> FlyError {
        match self.try_ensure().await {
            Err(ProviderError::Fly(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn observe(&self) -> Observation {
        self.provider.observe(&self.placement).await.unwrap()
    }

    /// What differs, as `path: recorded → observed`.
    pub(super) async fn drift(&self) -> Vec<String> {
        let seen = self.observe().await;
        seen.drift.iter().map(|d| format!("{}: {} → {}", d.path, d.recorded, d.observed)).collect()
    }

    pub(super) async fn remove(&self) {
        self.provider.remove(&self.placement, &|_| {}).await.unwrap();
    }

    pub(super) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// A request to Fly by hand, past the provider.
    pub(super) async fn meddle(&self, method: &str, path: &str, body: Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        // They come when every node knows the app.
        self.fly.world().apps.values_mut().for_each(|app| app.known_elsewhere = std::time::Instant::now());
        let url = format!("{}{}", self.fly.url(), path.replace("APP", &self.app()));
        let request = reqwest::Client::new().request(method, url).bearer_auth(TOKEN);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The ids of the machines that are there.
    pub(super) fn machines(&self) -> Vec<String> {
        let world = self.fly.world();
        let app = world.apps.get(&self.app());
        app.map(|app| app.machines.iter().filter(|m| !m.state.is_gone()).map(|m| m.id.clone()).collect()).unwrap_or_default()
    }

    /// The ids of the volumes that are there.
    pub(super) fn volumes(&self) -> Vec<String> {
        let world = self.fly.world();
        let app = world.apps.get(&self.app());
        app.map(|app| app.volumes.iter().filter(|v| v.state.is_live()).map(|v| v.id.clone()).collect()).unwrap_or_default()
    }

    /// The configuration of the one machine.
    pub(super) fn config(&self) -> Value {
        let world = self.fly.world();
        let machines = &world.apps[&self.app()].machines;
        machines.iter().find(|machine| !machine.state.is_gone()).unwrap().config.value.clone()
    }

    pub(super) fn region(&self) -> String {
        let world = self.fly.world();
        let machines = &world.apps[&self.app()].machines;
        machines.iter().find(|machine| !machine.state.is_gone()).unwrap().region.clone()
    }

    pub(super) fn host(&self) -> String {
        let world = self.fly.world();
        let machines = &world.apps[&self.app()].machines;
        machines.iter().find(|machine| !machine.state.is_gone()).unwrap().host.clone()
    }

    /// There is exactly one of everything.
    pub(super) fn one_of_each(&self) {
        let world = self.fly.world();
        assert_eq!(world.apps.keys().cloned().collect::<Vec<_>>(), [self.app()]);
        let addresses = &world.apps[&self.app()].addresses;
        assert_eq!(addresses.len(), 2, "addresses");
        drop(world);
        assert_eq!(self.machines().len(), 1, "machines");
        assert_eq!(self.volumes().len(), 1, "volumes");
    }

    /// How many requests changed anything.
    pub(super) fn writes(&self) -> usize {
        self.fly.requests().iter().filter(|seen| !seen.line.starts_with("GET ")).count()
    }
}
