//! What a served control plane lets a project use of its engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::commands::Project;
use super::findings::ONE;
use super::rig::{Engine, unique};
use crate::engine_or_skip;
use fixture::Server;

/// A network of nobody's, removed at the end.
struct Network {
    engine: &'static Engine,
    name: String,
}

impl Network {
    fn new(engine: &'static Engine) -> Self {
        let name = unique("edge");
        engine.docker(&["network", "create", &name]);
        Self { engine, name }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.engine.try_docker(&["network", "rm", &self.name]);
    }
}

/// Puts a server over the home of a project, and a client with a token of scope `destroy` before it.
fn serve(project: &mut Project, allowed: &[&str]) {
    let world = &mut project.world;
    let operator = Server::init(&world.variables);
    let mut own = world.variables.clone();
    own.insert("CONVEXINFRA_ALLOW_IMAGES".to_owned(), "convexinfra-test".to_owned());
    own.insert("CONVEXINFRA_ALLOW_NETWORKS".to_owned(), allowed.join(","));
    let server = Server::start(&own);
    world.set("CONVEXINFRA_CONTROL_PLANE", &server.url);
    world.set("CONVEXINFRA_HOME", "/nonexistent/home");
    world.set("CONVEXINFRA_TOKEN", &operator);
    let made = world.run_expecting(0, &["token", "create", "--project", &project.name, "--scope", "destroy"]);
    world.set("CONVEXINFRA_TOKEN", made.out.trim());
    world.server = Some(server);
}

fn on_network(network: &str) -> String {
    ONE.replace("IMAGE", &format!("IMAGE\nnetwork = \"{network}\""))
}

#[test]
fn a_network_of_another_project_is_refused_and_others_are_the_operators_to_allow() {
    let engine = engine_or_skip!();
    let neighbour = Project::new(engine, ONE);
    neighbour.world.apply();
    let filter = format!("label=convexinfra.project={}", neighbour.name);
    let theirs = engine.docker(&["network", "ls", "--format", "{{.Name}}", "--filter", &filter]);
    assert_eq!(theirs.lines().count(), 1, "{theirs}");
    let (allowed, other) = (Network::new(engine), Network::new(engine));

    // On one's own machine every network may be joined but that one.
    let embedded = Project::new(engine, &on_network(&theirs));
    let refused = embedded.world.run(&["apply", "--yes"]);
    assert!(refused.code() == 1 && refused.err.contains("belongs to the project"), "{refused}");
    assert!(embedded.everything().iter().all(|thing| !thing.starts_with("container")), "{:?}", embedded.everything());

    // On a served host the operator's list decides, and does not reach that one either.
    let mut project = Project::new(engine, &on_network(&other.name));
    serve(&mut project, &[&allowed.name, &theirs]);
    let refused = project.world.run(&["apply", "--yes"]);
    assert!(refused.code() != 0 && refused.err.contains(&format!("--allow-networks {}", other.name)), "{refused}");
    project.manifest(&on_network(&theirs));
    let refused = project.world.run(&["apply", "--yes"]);
    assert!(refused.code() != 0 && refused.err.contains("belongs to the project"), "{refused}");
    assert!(project.everything().iter().all(|thing| !thing.starts_with("container")), "{:?}", project.everything());

    project.manifest(&on_network(&allowed.name));
    project.world.apply();
    let networks = engine.inspect(&project.container())["NetworkSettings"]["Networks"].clone();
    assert!(networks.get(&allowed.name).is_some() && networks.get(&theirs).is_none(), "{networks}");
    project.world.assert_converged();
    project.world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
    assert!(engine.try_docker(&["network", "inspect", &allowed.name]), "it is not ours to remove");
}
