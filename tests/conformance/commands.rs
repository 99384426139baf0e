//! The command against the Worker: the same stories of the one-step call as against `convexinfra serve`.

#[path = "../fly_driver/one_step.rs"]
mod one_step;

use one_step::{DEPROVISION, EMPTY, PROVISION, counted, script};

use super::conversation::ask;
use super::outside::Outside;
use super::worker::{Reach, Worker};
use fake_fly::settings::TOKEN;
use fake_fly::{FakeFly, Settings};
use fixture::{ProjectFixture, wait_until};

/// A stand-in, a Worker that takes it for Fly.io, and clients that know nothing of it.
pub(crate) struct Scene {
    pub(crate) fly: FakeFly,
    pub(crate) world: ProjectFixture,
    pub(crate) control: Control,
}

/// What serves the control plane.
pub(crate) struct Control {
    worker: Worker,
    _outside: Outside,
}

/// A scene with more in the environment of its Worker; none where it cannot run, which is said.
pub(crate) fn scene(more: &[(&str, &str)]) -> Option<Scene> {
    let fly = FakeFly::start(Settings::default().with_processes().hurried(50));
    let outside = Outside::start(&fly);
    let mut control =
        Control { worker: Worker::start(Some(&Reach { address: outside.address, token: TOKEN }))?, _outside: outside };
    if !more.is_empty() {
        control.end();
        control.start_again(more);
    }
    let mut world = ProjectFixture::new(EMPTY);
    let operator = control.worker.initialise();
    world.set("CONVEXINFRA_CONTROL_PLANE", &control.worker.url());
    world.set("CONVEXINFRA_TOKEN", &operator);
    // Nothing may ever be made there.
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    world.operator = Some(operator);
    Some(Scene { fly, world, control })
}

impl Control {
    /// Ends it, and tells what it said.
    pub(crate) fn end(&mut self) -> String {
        self.worker.kill();
        self.worker.log()
    }

    /// Starts it again over its rows, with more in its environment.
    pub(crate) fn start_again(&mut self, more: &[(&str, &str)]) {
        for (name, value) in more {
            self.worker.set(name, value);
        }
        self.worker.run();
    }
}

/// The Worker goes in the middle, and what it had begun goes on in its next life; the client sees one answer.
#[test]
fn killed_in_the_middle_of_a_provision_it_makes_one_app() {
    let Some(Scene { fly, world, mut control }) = scene(&[]) else { return };
    let running = world.spawn(&PROVISION);
    wait_until("the app is there", || !fly.world().apps.is_empty());
    control.end();
    control.start_again(&[]);
    let run = running.end();
    assert_eq!(run.code(), 0, "{run}\n{}", control.worker.log());
    assert_eq!(counted(&fly), [1, 1, 1]);
    world.assert_converged();
}

/// As `serve --init` does: what one token can make has an end from the first day on.
#[test]
fn it_begins_with_a_default_quota() {
    let Some(Scene { world, control: _control, .. }) = scene(&[]) else { return };
    let (url, operator) = (&world.variables["CONVEXINFRA_CONTROL_PLANE"], &world.variables["CONVEXINFRA_TOKEN"]);
    let quota = ask(url, "GET", "/v1/quota", Some(operator), &[], None);
    assert_eq!((quota.status, &quota.json()["backends"]), (200, &serde_json::json!(100)), "{}", quota.text);
}

#[test]
fn data_is_kept_when_that_is_asked_for() {
    let Some(Scene { fly, world, control: _control }) = scene(&[]) else { return };
    assert_eq!(script(&world, &PROVISION).0, 0);
    let (exit, gone) = script(&world, &[&DEPROVISION[..], &["--keep-data"]].concat());
    assert_eq!((exit, &gone["state"]), (0, &serde_json::json!("absent")), "{gone}");
    assert_eq!(counted(&fly), [1, 0, 1]);
    world.assert_converged();
}

/// Under another master key nothing would open, and what is written would break the histories.
#[test]
fn another_master_key_is_refused_and_the_right_one_finds_everything() {
    let Some(Scene { fly, world, mut control }) = scene(&[]) else { return };
    assert_eq!(script(&world, &PROVISION).0, 0);
    control.end();
    control.start_again(&[("CONVEXINFRA_MASTER_KEY", &"ff".repeat(32))]);
    let plan = world.run(&["plan", "--json"]);
    assert!(plan.code() != 0 && plan.errors() == ["store.sealed"], "{plan}");
    control.end();
    control.start_again(&[("CONVEXINFRA_MASTER_KEY", super::worker::MASTER_KEY)]);
    assert_eq!(script(&world, &PROVISION).0, 0);
    assert_eq!(counted(&fly), [1, 1, 1]);
    world.assert_converged();
}
