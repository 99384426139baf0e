//! The one-step call against `convexinfra serve`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "one_step.rs"]
mod one_step;

#[cfg(debug_assertions)]
use one_step::{DEPROVISION, PROVISION, script};
use one_step::{EMPTY, RELEASE, counted};

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

/// What the server had begun under the lease of a machine goes on under it, and nothing waits for its end.
#[cfg(debug_assertions)]
#[test]
fn a_server_killed_under_a_lease_takes_it_up_again() {
    let Scene { fly, world, mut control } = scene(&[("CONVEXINFRA_FAULT", "provider.fly.lease_recorded:1")]).unwrap();
    world.run_expecting(0, &PROVISION);
    let manifest = world.read("convex.toml");
    world.manifest(&format!("{manifest}\n[backends.preview.tuning]\nmax_concurrent_queries = 8\n"));
    let running = world.spawn(&["apply", "--yes"]);
    control.0.wait();
    let has_lease = || fly.world().apps.values().any(|app| app.machines.iter().any(|machine| machine.lease.is_some()));
    assert!(has_lease());
    control.start_again(&[("CONVEXINFRA_FAULT", "")]);
    let run = running.end();
    assert_eq!(run.code(), 0, "{run}");
    assert!(!run.err.contains("waiting for machine"), "{run}");
    assert!(!has_lease(), "the lease was kept");
    world.assert_converged();
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

/// What a project retained, it alone takes up again, under any name, and with no more than the scope `apply`.
#[test]
fn a_project_takes_up_what_it_retained_and_no_other_project_does() {
    let Scene { fly, mut world, control: _control } = scene(&[]).unwrap();
    let operator = world.operator.clone().unwrap();
    let become_bearer = |world: &mut ProjectFixture, project: &str, scope: &str| {
        world.set("CONVEXINFRA_TOKEN", &operator);
        let made = world.run_expecting(0, &["token", "create", "--project", project, "--scope", scope]);
        world.set("CONVEXINFRA_TOKEN", made.out.trim());
    };
    let manifest = |project: &str, backend: &str, more: &str| {
        format!(
            "project = \"{project}\"\n\n[backends.{backend}]\nprovider = \"fly\"\nregion = \"iad\"\nrelease = \"{RELEASE}\"\n{more}"
        )
    };
    let volumes = |app: &str| -> Vec<String> {
        let world = fly.world();
        world.apps[app].volumes.iter().filter(|volume| volume.state.is_live()).map(|volume| volume.id.clone()).collect()
    };
    world.manifest(&manifest("gremlin", "dev", ""));
    become_bearer(&mut world, "gremlin", "destroy");
    world.apply();
    world.run_expecting(0, &["destroy", "dev", "--keep-data", "--allow-destroy", "dev"]);
    let app = fly.world().apps.keys().next().unwrap().clone();
    let (kept, named) = (volumes(&app), format!("\n[backends.BACKEND.fly]\napp = \"{app}\"\n"));
    assert_eq!((kept.len(), counted(&fly)), (1, [1, 0, 1]));
    let status = world.run_expecting(0, &["status", "--json"]).document();
    assert_eq!(status["retained"][0]["name"], "dev", "{status:#}");

    // Another project, with all that a project may.
    become_bearer(&mut world, "other", "destroy");
    world.manifest(&manifest("other", "dev", &named.replace("BACKEND", "dev")));
    let stolen = world.run(&["apply", "--yes", "--json"]);
    assert!(stolen.code() != 0 && stolen.out.contains("fly.app_foreign"), "{stolen}");
    assert!(!stolen.out.contains("gremlin\"") && !stolen.err.contains("`gremlin`"), "{stolen}");
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
    assert_eq!((volumes(&app), counted(&fly)), (kept.clone(), [1, 0, 1]), "it was touched");

    // Its own, under another name; a time to live would have it removed by itself, which takes more than `apply`.
    become_bearer(&mut world, "gremlin", "apply");
    let mortal = manifest("gremlin", "prod", &format!("ttl = \"1h\"\n{}", named.replace("BACKEND", "prod")));
    world.manifest(&mortal);
    let refused = world.run(&["apply", "--yes", "--json"]);
    assert!(refused.code() != 0 && refused.out.contains("auth.scope"), "{refused}");
    assert_eq!((volumes(&app), counted(&fly)), (kept.clone(), [1, 0, 1]), "it was touched");
    world.manifest(&manifest("gremlin", "prod", &named.replace("BACKEND", "prod")));
    world.apply();
    assert_eq!((volumes(&app), counted(&fly)), (kept.clone(), [1, 1, 1]));
    world.assert_converged();
    let status = world.run_expecting(0, &["status", "--json"]).document();
    assert!(status["retained"].as_array().is_none_or(Vec::is_empty), "{status:#}");

    // And once more under its own name, where it left off.
    become_bearer(&mut world, "gremlin", "destroy");
    world.run_expecting(0, &["destroy", "prod", "--keep-data", "--allow-destroy", "prod"]);
    world.apply();
    assert_eq!((volumes(&app), counted(&fly)), (kept, [1, 1, 1]));
    world.assert_converged();
    world.run_expecting(0, &["destroy", "prod", "--allow-destroy", "prod"]);
    assert_eq!(counted(&fly), [0, 0, 0]);
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
