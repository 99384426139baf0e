//! The one-step call against `convexinfra serve`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "one_step.rs"]
mod one_step;

use one_step::EMPTY;
#[cfg(debug_assertions)]
use one_step::{DEPROVISION, PROVISION, counted, script};

use fake_fly::{FakeFly, Settings};
use fixture::ProjectFixture;
use fixture::Server;

/// A stand-in, a server that takes it for Fly.io, and clients that know nothing of it.
pub(crate) struct Scene {
    pub(crate) fly: FakeFly,
    pub(crate) world: ProjectFixture,
    pub(crate) control: Control,
}

/// What serves the control plane.
pub(crate) struct Control(Server);

/// A scene with more in the environment of its server; there always is one.
pub(crate) fn scene(more: &[(&str, &str)]) -> Option<Scene> {
    let fly = FakeFly::start(Settings::default().with_processes().hurried(50));
    let mut world = ProjectFixture::new(EMPTY);
    let operator = Server::init(&world.variables);
    let mut own = world.variables.clone();
    own.extend(fly.environment().into_iter().map(|(name, value)| (name.to_owned(), value)));
    own.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let server = Server::start(&own);
    world.set("CONVEXINFRA_CONTROL_PLANE", &server.url);
    world.set("CONVEXINFRA_TOKEN", &operator);
    // Nothing may ever be made there.
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    world.operator = Some(operator);
    Some(Scene { fly, world, control: Control(server) })
}

impl Control {
    /// Ends it, and tells what it said.
    pub(crate) fn end(&mut self) -> String {
        self.0.terminate();
        self.0.log()
    }

    /// Starts it again over its rows, with more in its environment.
    pub(crate) fn start_again(&mut self, more: &[(&str, &str)]) {
        self.0.start_again(more);
    }
}

/// The server goes in the middle, and what it had begun goes on with the next one; the client sees one answer.
#[cfg(debug_assertions)]
#[test]
fn a_server_killed_in_the_middle_of_a_provision_makes_one_app() {
    for point in ["app_created:1", "volume_created:1", "machine_created:1"] {
        let fault = format!("provider.fly.{point}");
        let Scene { fly, world, mut control } = scene(&[("CONVEXINFRA_FAULT", &fault)]).unwrap();
        let running = world.spawn(&PROVISION);
        control.0.wait();
        control.start_again(&[("CONVEXINFRA_FAULT", "")]);
        let run = running.end();
        assert_eq!(run.code(), 0, "{point}: {run}");
        assert_eq!(counted(&fly), [1, 1, 1], "{point}");
        world.assert_converged();
    }
}

/// A removal that keeps the data is kept to by the server that goes on with it.
#[cfg(debug_assertions)]
#[test]
fn a_server_killed_while_it_keeps_the_data_keeps_it() {
    let Scene { fly, world, mut control } = scene(&[("CONVEXINFRA_FAULT", "provider.fly.machine_deleted:1")]).unwrap();
    assert_eq!(script(&world, &PROVISION).0, 0);
    let running = world.spawn(&[&DEPROVISION[..], &["--keep-data"]].concat());
    control.0.wait();
    fly.world().ahead += std::time::Duration::from_secs(300);
    control.start_again(&[("CONVEXINFRA_FAULT", "")]);
    let run = running.end();
    assert_eq!(run.code(), 0, "{run}");
    assert_eq!(counted(&fly), [1, 0, 1]);
    world.assert_converged();
}
