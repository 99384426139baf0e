//! The main roads of a backend whose documents are on a server: from the first apply to the last destroy.

use std::collections::BTreeMap;

use convexinfra::convex::deployment::{Deployment, DeploymentClient, EnvironmentChange};
use convexinfra::model::Secret;

use fixture::database::{ROOT_PASSWORD, Server, servers};
use fixture::{ProjectFixture, executable, refusals, script, steps, wait_until};

const NO_TLS: &str = ", tls = \"disable\"";

fn world(server: &Server, project: &str, storage: &str) -> ProjectFixture {
    let mut world = ProjectFixture::new(&server.manifest(project, storage));
    world.set("DATABASE", &server.root());
    world
}

/// What a change of the manifest's world would do: field and effect.
fn effects(world: &ProjectFixture) -> Vec<(String, String)> {
    let plan = world.plan();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let changes = plan["steps"][0]["changes"].as_array().cloned().unwrap_or_default();
    changes.iter().map(|change| (text(&change["path"]), text(&change["effect"]))).collect()
}

pub(super) fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn deployment(world: &ProjectFixture) -> Deployment {
    let (url, key) = world.coordinates(".env.local");
    Deployment::new(&DeploymentClient::default(), url, Some(Secret::new(key)))
}

fn set(world: &ProjectFixture, name: &str, value: &str) {
    let change = EnvironmentChange { name: name.to_owned(), value: Some(Secret::new(value)) };
    block(deployment(world).change_environment(&[change])).unwrap();
}

pub(super) fn variables(world: &ProjectFixture) -> BTreeMap<String, String> {
    let found = block(deployment(world).environment()).unwrap();
    found.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect()
}

#[test]
fn from_nothing_to_a_database_and_back() {
    for server in servers() {
        let project = Server::project();
        let (instance, database) = (format!("{project}-dev"), format!("{project}_dev"));
        let mut world = world(server, &project, NO_TLS);
        let before = world.plan();
        assert_eq!(steps(&before), ["create:backend.dev", "write:env_file.dev"]);
        assert!(!server.has(&database), "planning made a database");

        let applied = world.apply();
        assert!(applied.err.contains(&format!("the database `{database}` was made on ")), "{applied}");
        world.assert_reachable(".env.local", &instance);
        assert!(server.has(&database));
        world.assert_converged();
        for run in [&applied, &world.run_expecting(0, &["plan"])] {
            assert!(!format!("{run}").contains(ROOT_PASSWORD) && !format!("{run}").contains(&server.port.to_string()), "{run}");
        }

        // What is written is on the server and survives any end of the process.
        set(&world, "GREETING", "hello");
        world.kill(&instance);
        world.apply();
        assert_eq!(variables(&world)["GREETING"], "hello");
        world.assert_converged();

        // Without permission nothing goes; with it the database stays, and says so.
        world.run_expecting(4, &["destroy", "--json"]);
        let destroyed = world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
        assert!(destroyed.err.contains(&format!("its database `{database}` stays on its server")), "{destroyed}");
        assert!(destroyed.err.contains("`--with-database` drops it as well"), "{destroyed}");
        assert!(server.has(&database) && world.names().is_empty());

        // A new backend of this name takes it up again, with other keys.
        let again = world.apply();
        assert!(again.err.contains("was left by an earlier backend and is used with its documents"), "{again}");
        assert_eq!(variables(&world)["GREETING"], "hello");
        world.assert_converged();

        world.run_expecting(64, &["destroy", "--with-database"]);
        let plan_of_destroy = world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(!plan_of_destroy.err.contains("stays"), "{plan_of_destroy}");
        assert!(!server.has(&database));
        assert_eq!((world.processes(), world.names()), (Vec::new(), Vec::new()));
        world.set("DATABASE", "");
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
    }
}

#[test]
fn other_credentials_are_a_restart_and_another_server_is_other_data() {
    for server in servers() {
        let project = Server::project();
        let mut world = world(server, &project, NO_TLS);
        let rights = if server.engine() == "mysql" { "ALL PRIVILEGES" } else { "SUPERUSER" };
        world.set("DATABASE", &server.user(&project, "first", rights));
        world.apply();
        set(&world, "GREETING", "hello");

        let rotated = server.change_password(&project, "second");
        world.set("DATABASE", &rotated);
        assert_eq!(effects(&world), [("storage.url".to_owned(), "restart".to_owned())]);
        world.apply();
        assert_eq!(variables(&world)["GREETING"], "hello");
        world.assert_converged();

        // Another user on the same server, by another name of this machine.
        world.set("DATABASE", &server.root().replace("127.0.0.1", "localhost"));
        assert_eq!(effects(&world), [("storage.url".to_owned(), "restart".to_owned())]);
        world.apply();
        assert_eq!(variables(&world)["GREETING"], "hello");
        world.assert_converged();

        let elsewhere = server.root().replace(&server.port.to_string(), "1");
        world.set("DATABASE", &elsewhere);
        assert_eq!(refusals(&world.plan()), ["plan.moves_data"]);
        assert!(effects(&world).contains(&("storage.server".to_owned(), "moves_data".to_owned())));
        world.set("DATABASE", &server.root());

        // Not at hand is not the same as changed.
        world.unset("DATABASE");
        let plan = world.plan();
        assert_eq!((steps(&plan), plan["lints"].as_array().unwrap().len()), (Vec::new(), 1), "{plan:#}");
        world.set("DATABASE", &server.root());
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(!server.has(&format!("{project}_dev")));
    }
}

#[test]
fn a_role_of_its_own_has_its_database_and_nothing_else() {
    for server in servers() {
        let project = Server::project();
        let (instance, database) = (format!("{project}-dev"), format!("{project}_dev"));
        let role = format!("{NO_TLS}, role = \"least_privilege\"");
        let mut world = world(server, &project, &role);
        // An administrator that is less than everything.
        let rights = if server.engine() == "mysql" {
            "CREATE, DROP, SELECT, INSERT, UPDATE, DELETE, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, \
             CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER, CREATE USER"
        } else {
            "CREATEDB CREATEROLE"
        };
        let admin = server.user(&format!("{project}_admin"), "admin-pw", rights);
        if server.engine() == "mysql" {
            server.sql("", &format!("GRANT GRANT OPTION ON *.* TO '{project}_admin'@'%'"));
        }
        world.set("DATABASE", &admin);
        world.apply();
        world.assert_reachable(".env.local", &instance);
        set(&world, "GREETING", "hello");
        world.assert_converged();

        // What it enters with stands on no command line, and with that it gets nowhere else.
        assert!(
            world.processes().iter().all(|(_, words)| !words.contains("sql://") && !words.contains("postgres://")),
            "{:?}",
            world.processes()
        );
        let pid = world.pid(&instance).unwrap().as_raw_nonzero();
        let environment = String::from_utf8(std::fs::read(format!("/proc/{pid}/environ")).unwrap()).unwrap();
        let own = environment.split('\0').find_map(|line| line.strip_prefix("SIMULATED_DATABASE_URL=")).unwrap().to_owned();
        let url = url::Url::parse(&own).unwrap();
        let own = server.url(url.username(), url.password().unwrap());
        assert!(server.roles().contains(&url.username().to_owned()));
        assert_eq!(
            server.sql_as(&own, &database, "SELECT count(*) FROM simulated_rows WHERE number = -1"),
            Ok(vec!["0".to_owned()])
        );
        assert!(server.sql_as(&own, &database, "CREATE DATABASE intruder").is_err());
        assert!(server.sql_as(&own, &database, "DELETE FROM convexinfra_owner").is_err() || server.engine() == "mysql");
        let other = Server::project();
        server.sql("", &format!("CREATE DATABASE {other}"));
        if server.engine() == "mysql" {
            assert!(server.sql_as(&own, &other, "SELECT 1").is_err());
        } else {
            assert!(server.sql_as(&own, &other, "CREATE TABLE x (y int)").is_err());
        }

        // Another password of the administrator is none of the backend's business.
        world.set("DATABASE", &server.change_password(&format!("{project}_admin"), "another"));
        assert_eq!(effects(&world), [("storage.url".to_owned(), "record".to_owned())]);
        let pid = world.pid(&instance);
        world.apply();
        assert_eq!(world.pid(&instance), pid);
        world.assert_converged();

        // Back to the administrator and to a role again, with all tables.
        for storage in [NO_TLS, &role] {
            world.manifest(&server.manifest(&project, storage));
            assert_eq!(effects(&world), [("storage.role".to_owned(), "restart".to_owned())]);
            world.apply();
            set(&world, "AGAIN", storage);
            assert_eq!(variables(&world)["GREETING"], "hello");
            assert_eq!(server.roles().contains(&url.username().to_owned()), storage == role);
            world.assert_converged();
        }
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
        assert!(server.has(&database) && !server.roles().contains(&url.username().to_owned()));
        world.apply();
        assert_eq!(variables(&world)["AGAIN"], role);
        world.assert_converged();
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(!server.has(&database));
        server.sql("", &format!("DROP DATABASE {other}"));
    }
}

#[test]
fn with_tls_under_a_private_authority() {
    for server in servers() {
        let project = Server::project();
        let mut world = world(server, &project, &server.trusting());
        for host in ["127.0.0.1", "localhost"] {
            world.set("DATABASE", &server.url_of(host, "root", ROOT_PASSWORD));
            world.apply();
            world.assert_reachable(".env.local", &format!("{project}-dev"));
            world.assert_converged();
        }
        if server.engine() == "postgres" {
            let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname";
            assert_eq!(server.sql("", &format!("{sql} = '{project}_dev'")), ["t"]);
        }
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
    }
}

#[test]
fn a_missing_database_is_not_created_again() {
    for server in servers() {
        let project = Server::project();
        let world = world(server, &project, NO_TLS);
        world.apply();
        world.kill(&format!("{project}-dev"));
        let force = if server.engine() == "mysql" { "" } else { " WITH (FORCE)" };
        server.sql("", &format!("DROP DATABASE {project}_dev{force}"));
        let run = world.run_expecting(4, &["apply", "--yes"]);
        assert!(run.err.contains("the data of the backend is gone"), "{run}");
        assert!(!server.has(&format!("{project}_dev")), "an empty one hides that the data is gone");
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
        world.apply();
        world.assert_converged();
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
    }
}

#[test]
fn two_homes_do_not_take_each_others_database() {
    for server in servers() {
        let project = Server::project();
        let one = world(server, &project, NO_TLS);
        let other = world(server, &project, NO_TLS);
        one.apply();
        set(&one, "GREETING", "hello");
        let refused = other.run_expecting(4, &["apply", "--yes"]);
        assert!(refused.err.contains(&format!("belongs to another backend, {project}/dev")), "{refused}");
        other.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(server.has(&format!("{project}_dev")), "dropped by somebody whose it was not");
        wait_until("it runs as before", || one.pid(&format!("{project}-dev")).is_some());
        assert_eq!(variables(&one)["GREETING"], "hello");
        one.assert_converged();
        one.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        other.apply();
        other.assert_converged();
        other.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
    }
}

#[test]
fn the_command_line_of_the_real_binary_does_the_same() {
    for server in servers() {
        for storage in [format!("{NO_TLS}, role = \"least_privilege\""), server.trusting()] {
            let project = Server::project();
            let mut world = ProjectFixture::new("");
            world.set("DATABASE", &server.root());
            let binary =
                script(&world.folder, "convex-local-backend", &format!("exec '{}' simulate-backend \"$@\"", executable()));
            let manifest = server.manifest(&project, &storage).replace("simulated", "local");
            world.manifest(&format!("{manifest}local = {{ binary = \"{}\" }}\n", binary.display()));
            world.apply();
            world.assert_reachable(".env.local", &format!("{project}-dev"));
            set(&world, "GREETING", "hello");
            world.kill(&format!("{project}-dev"));
            world.apply();
            assert_eq!(variables(&world)["GREETING"], "hello");
            world.assert_converged();
            world.run_expecting(0, &["deprovision", "dev", "--allow-destroy", "dev", "--with-database"]);
            assert!(!server.has(&format!("{project}_dev")));
        }
    }
}

#[test]
fn deprovision_leaves_the_database_and_says_so() {
    for server in servers() {
        let project = Server::project();
        let world = world(server, &project, NO_TLS);
        world.apply();
        let run = world.run_expecting(0, &["deprovision", "dev", "--allow-destroy", "dev"]);
        assert!(run.err.contains("`--with-database` drops it as well"), "{run}");
        assert!(server.has(&format!("{project}_dev")));
        server.sql("", &format!("DROP DATABASE {project}_dev"));
    }
}

#[test]
fn many_backends_on_one_server_are_made_at_once() {
    for server in servers() {
        let project = Server::project();
        let names: Vec<String> = (0..8).map(|number| format!("b{number}")).collect();
        let storage = format!(
            "storage = {{ engine = \"{}\", url = {{ env = \"DATABASE\" }}{NO_TLS}, role = \"least_privilege\" }}",
            server.engine()
        );
        let blocks: String = names.iter().map(|name| format!("[backends.{name}]\nprovider = \"simulated\"\n")).collect();
        let mut world = ProjectFixture::new(&format!("project = \"{project}\"\n[defaults]\n{storage}\n{blocks}"));
        world.set("DATABASE", &server.root());
        world.apply();
        world.assert_converged();
        for name in &names {
            assert!(server.has(&format!("{project}_{name}")));
        }
        world.run_expecting(0, &["destroy", "--allow-destroy", &names.join(","), "--with-database"]);
        for name in &names {
            assert!(!server.has(&format!("{project}_{name}")));
        }
    }
}
