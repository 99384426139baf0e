//! Any request may fail in any way, any number of times: a later run ends with one of each, and a removal with nothing.
//!
//! What goes wrong is drawn from numbers that are the same each time, so a failure comes again.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use convexinfra::provider::Provider;
use convexinfra::provider::fly::Timeouts;

use super::fixture::{Fixture, provider, timeouts};
use fake_fly::settings::TOKEN;
use fake_fly::{Fault, Reply, Settings};

/// How many storms there are, and how many runs one may take to be survived.
const STORMS: u64 = 8;
const RUNS: usize = 12;

const MAKES: [(&str, &str); 7] = [
    ("POST", "/v1/apps"),
    ("POST", "/v1/apps/*/ip_assignments"),
    ("POST", "/v1/apps/*/secrets"),
    ("POST", "/v1/apps/*/volumes"),
    ("POST", "/v1/apps/*/machines"),
    ("POST", "/v1/apps/*/machines/*"),
    ("POST", "/v1/apps/*/machines/*/lease"),
];
const LOOKS: [(&str, &str); 6] = [
    ("GET", "/v1/apps/*"),
    ("GET", "/v1/apps/*/ip_assignments"),
    ("GET", "/v1/apps/*/volumes"),
    ("GET", "/v1/apps/*/machines"),
    ("GET", "/v1/apps/*/machines/*"),
    ("GET", "/v1/apps/*/machines/*/wait"),
];
const TAKES: [(&str, &str); 4] = [
    ("DELETE", "/v1/apps/*/machines/*"),
    ("DELETE", "/v1/apps/*/volumes/*"),
    ("DELETE", "/v1/apps/*"),
    ("GET", "/v1/orgs/*/volumes"),
];

/// Numbers without end that follow from one: Knuth's, of 64 bits.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn fault(&mut self, requests: &[(&str, &str)]) -> Fault {
        let (method, path) = requests[self.throw(requests.len())];
        let fault = match self.throw(7) {
            0 => Fault::dropped(method, path),
            1 => Fault::answer_lost(method, path),
            2 => Fault::answer(method, path, Reply::error(408, "deadline_exceeded: request timed out")).after_the_effect(),
            3 => Fault::answer(method, path, Reply::error(408, "deadline_exceeded: request timed out")),
            4 => Fault::answer(method, path, Reply::text(502, "<html>Bad Gateway</html>")),
            5 => Fault::answer(method, path, Reply::empty(503)).after_the_effect(),
            _ => Fault::answer(method, path, Reply::error(429, "rate limit exceeded")),
        };
        fault.after(u32::try_from(self.throw(3)).unwrap()).times(u32::try_from(self.throw(3)).unwrap() + 1)
    }

    fn storm(&mut self, fixture: &Fixture, requests: &[(&str, &str)]) {
        for _ in 0..=self.throw(4) {
            fixture.fly.order(self.fault(requests));
        }
    }
}

/// Gives up early, so that a storm is met by several runs and not waited out by one.
fn hasty() -> Timeouts {
    Timeouts { retry: Duration::from_millis(60), poll_interval: Duration::from_millis(5), ..timeouts() }
}

/// Everything is unkind, except that rates are not limited: that is a test of its own.
fn unkind() -> Settings {
    Settings {
        rates_limited: false,
        step: Duration::from_millis(3),
        deletion_takes: Duration::from_millis(10),
        binding_lingers: Duration::from_millis(20),
        ..Settings::default()
    }
}

#[tokio::test]
async fn random_faults_end_with_one_of_each_and_then_with_none() {
    for seed in 0..STORMS {
        let mut dice = Dice(seed);
        let mut fixture = Fixture::with(unkind().hurried(50));
        fixture.provider = provider(&fixture.fly, TOKEN, hasty());
        let makes = [MAKES.as_slice(), &LOOKS].concat();
        dice.storm(&fixture, &makes);
        let mut last = None;
        for _ in 0..RUNS {
            match fixture.try_ensure().await {
                // A control plane notes only what a run that worked came to.
                Ok(references) => {
                    fixture.placement.provider_state = references;
                    fixture.placement.has_been_ready = true;
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        assert!(fixture.placement.has_been_ready, "storm {seed}: {RUNS} runs were not enough: {last:?}");
        fixture.one_of_each();
        let volume = fixture.volumes();

        // The same over what is there, with something to change.
        dice.storm(&fixture, &makes);
        fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
        let mut is_done = false;
        for _ in 0..RUNS {
            if let Ok(references) = fixture.try_ensure().await {
                fixture.placement.provider_state = references;
                is_done = true;
                break;
            }
        }
        assert!(is_done, "storm {seed}: the change was not made");
        fixture.fly.clear_faults();
        fixture.one_of_each();
        assert_eq!(fixture.volumes(), volume, "storm {seed}: the data is another");
        assert_eq!(fixture.config()["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "8", "storm {seed}");
        assert_eq!(fixture.drift().await, Vec::<String>::new(), "storm {seed}: something is left to do");

        dice.storm(&fixture, &[TAKES.as_slice(), &LOOKS].concat());
        let mut is_done = false;
        for _ in 0..RUNS {
            if fixture.provider.remove(&fixture.placement, &|_| {}).await.is_ok() {
                is_done = true;
                break;
            }
        }
        assert!(is_done, "storm {seed}: it was not removed");
        let world = fixture.fly.world();
        assert!(world.apps.is_empty(), "storm {seed}: an app is left");
        assert!(world.remains.iter().all(|(_, volume)| !volume.state.is_live()), "storm {seed}: a volume is left");
    }
}

/// The control plane lets only one at a backend. Should the lease of a suspended one have run out, one of the
/// two may be turned away, and what it made for itself goes with it.
#[tokio::test]
async fn two_at_once_make_one() {
    for round in 0..8 {
        let mut fixture = Fixture::with(unkind().hurried(50));
        let other = provider(&fixture.fly, TOKEN, timeouts());
        let later = async {
            // From at once to when the other one is nearly through.
            tokio::time::sleep(Duration::from_millis(round * 15)).await;
            other.ensure(&fixture.placement, &|_| {}).await
        };
        let (one, two) = tokio::join!(fixture.try_ensure(), later);
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        fixture.one_of_each();
        let used = fixture.config()["mounts"][0]["volume"].clone();
        assert_eq!(used, fixture.volumes()[0], "the volume of somebody who was faster went");
        for references in [one, two].into_iter().flatten() {
            assert_eq!(references["volume"], fixture.volumes()[0]);
            fixture.placement.provider_state = references;
        }
        fixture.placement.has_been_ready = true;
        assert_eq!(fixture.drift().await, Vec::<String>::new());
        fixture.placement.provider_state = fixture.try_ensure().await.unwrap();
        fixture.one_of_each();
    }
}

/// Three at once, the answers to some of whose requests are lost: the next run leaves one of each.
#[tokio::test]
async fn three_at_once_in_a_storm_end_with_one() {
    for seed in 0..STORMS {
        let mut dice = Dice(seed);
        let mut fixture = Fixture::with(unkind().hurried(50));
        let others = [provider(&fixture.fly, TOKEN, timeouts()), provider(&fixture.fly, TOKEN, timeouts())];
        dice.storm(&fixture, &MAKES);
        let quiet = &|_: String| {};
        let _ = tokio::join!(
            fixture.try_ensure(),
            others[0].ensure(&fixture.placement, quiet),
            others[1].ensure(&fixture.placement, quiet)
        );
        fixture.fly.clear_faults();
        // A lease whose answer was lost runs out.
        fixture.fly.world().ahead += timeouts().lease + Duration::from_secs(1);
        // Nobody was told that it is ready, so nothing is lost.
        fixture.observe().await;
        fixture.placement.provider_state = fixture.try_ensure().await.unwrap();
        fixture.placement.has_been_ready = true;
        fixture.one_of_each();
        assert_eq!(fixture.drift().await, Vec::<String>::new(), "storm {seed}");
    }
}
