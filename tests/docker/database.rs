//! Backends in containers with their documents on a real server of this machine: `localhost` outside and inside, a private
//! authority, a role of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::commands::Project;
use super::rig::{DASHBOARD, Engine, unique};
use crate::engine_or_skip;
use fixture::database::{Kind, ROOT_PASSWORD, Server, server};

fn lives_on(engine: &'static Engine, server: &Server, host: &str) {
    let blocks = format!(
        "[backends.dev]\nprovider = \"docker\"\nstorage = {{ engine = \"{}\", url = {{ env = \"DATABASE\" }}, \
         role = \"least_privilege\", tls = {{ ca = \"{}\" }} }}\n[backends.dev.docker]\nIMAGE\n",
        server.engine(),
        server.ca.display()
    );
    let mut project = Project::new(engine, &blocks);
    project.world.set("DATABASE", &server.url_of(host, "root", ROOT_PASSWORD));
    let world = &project.world;
    world.apply();
    world.assert_reachable(".env.local", &format!("{}-dev", project.name));
    world.assert_converged();
    let database = format!("{}_dev", project.name.replace('-', "_"));
    assert!(server.has(&database), "there is no {database}");

    // What the engine shows of it holds neither the administrator's password nor the role's.
    let seen = engine.inspect(&project.container()).to_string();
    assert!(!seen.contains("root-pw") && !seen.contains(&format!("{}://", server.engine())), "{seen}");

    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert!(server.has(&database), "the database went with the container");
    // Its files stay in a volume on the engine, and that volume is no orphan: not to a plan, and not to who looks for some.
    assert_ne!(project.everything(), Vec::<String>::new());
    let recovered = world.run_expecting(0, &["recover"]);
    assert!(recovered.out.contains("nothing to recover"), "{recovered}");
    world.run_expecting(2, &["plan", "--detailed-exitcode"]);
    world.apply();
    world.assert_converged();
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev", "--with-database"]);
    assert!(!server.has(&database), "the database stayed");
    assert_eq!(project.everything(), Vec::<String>::new());
}

#[test]
fn a_container_reaches_the_postgresql_of_its_machine() {
    let engine = engine_or_skip!();
    let Some(server) = server(Kind::Postgres) else { return };
    lives_on(engine, server, "localhost");
}

#[test]
fn a_container_reaches_the_mysql_of_its_machine() {
    let engine = engine_or_skip!();
    let Some(server) = server(Kind::Mysql) else { return };
    // Its administrator may come from one address only.
    lives_on(engine, server, "127.0.0.1");
}

#[test]
fn mariadb_is_refused_before_a_container_is_made() {
    let engine = engine_or_skip!();
    let Some(server) = server(Kind::HiddenMariaDb) else { return };
    let mut project = Project::new(
        engine,
        "[backends.dev]\nprovider = \"docker\"\nstorage = { engine = \"mysql\", url = { env = \"DATABASE\" }, tls = \"disable\" }\n\
         [backends.dev.docker]\nIMAGE\n",
    );
    project.world.set("DATABASE", &server.url_of("127.0.0.1", "root", ROOT_PASSWORD));
    let world = &project.world;
    for words in [&["plan", "--json"][..], &["apply", "--yes", "--json"]] {
        let run = world.run_expecting(4, words);
        assert!(run.out.contains("database.unsupported") && run.out.contains("utf8mb4_0900_bin"), "{run}");
    }
    assert_eq!(project.everything(), Vec::<String>::new());
    assert!(!server.has(&format!("{}_dev", project.name.replace('-', "_"))));
}

/// A service of a compose network, such as MinIO: what answers at its address there is asked, as a database server is.
#[test]
fn buckets_of_a_service_that_only_a_network_knows_are_asked_there() {
    let engine = engine_or_skip!();
    let network = unique("files");
    engine.docker(&["network", "create", &network]);
    let service = engine.docker(&["run", "-d", "--network", &network, "--network-alias", "minio", DASHBOARD]);
    let blocks = |lines: &str| {
        format!(
            "[backends.dev]\nprovider = \"docker\"\nfiles = {{ engine = \"s3\", bucket = \"shop-files\", region = \"us-east-1\", \
             endpoint = \"http://minio:6791\", path_style = true, access_key_id = {{ env = \"KEY_ID\" }}, \
             secret_access_key = {{ env = \"KEY\" }} }}\n[backends.dev.docker]\nIMAGE\n{lines}"
        )
    };
    let mut project = Project::new(engine, &blocks(""));
    project.world.set("KEY_ID", "minio");
    project.world.set("KEY", "hunter2");
    let plan = project.world.run_expecting(0, &["plan", "--json"]);
    assert!(plan.out.contains("files.unreachable"), "{plan}");
    project.manifest(&blocks(&format!("network = \"{network}\"\n")));
    // It answers, if only as something that has no buckets.
    let plan = project.world.run_expecting(4, &["plan", "--json"]);
    assert!(!plan.out.contains("files.unreachable") && plan.out.contains("\"files."), "{plan}");
    // One that has the name as well and does not run leads nowhere else, however it is known.
    let label = "com.docker.compose.service=minio";
    let other = engine.docker(&["create", "--network", &network, "--network-alias", "minio", "--label", label, DASHBOARD]);
    let again = project.world.run_expecting(4, &["plan", "--json"]);
    assert_eq!(again.document()["refusals"], plan.document()["refusals"]);
    // In a network of another project nothing is asked.
    let theirs = unique("theirs");
    engine.docker(&["network", "create", "--label", "convexinfra.project=another", &theirs]);
    engine.docker(&["network", "connect", "--alias", "minio", &theirs, &service]);
    project.manifest(&blocks(&format!("network = \"{theirs}\"\n")));
    let plan = project.world.run(&["plan", "--json"]);
    assert!(plan.out.contains("files.unreachable"), "{plan}");
    engine.docker(&["rm", "-f", &service, &other]);
    engine.docker(&["network", "rm", &theirs]);
    engine.docker(&["network", "rm", &network]);
}
