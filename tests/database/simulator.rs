//! The simulated backend on real servers, held against what the real one was recorded to do there.

use convexinfra::convex::deployment::EnvironmentChange;
use convexinfra::model::Secret;

use super::story::block;
use crate::backend::{Place, Setup};
use fixture::database::{Kind, ROOT_PASSWORD, Server, server, servers};
use fixture::golden;

fn setup(place: &Place, server: &Server, name: &str, url: &str) -> Setup {
    let mut setup = place.setup();
    setup.arguments.pop();
    let driver = if server.engine() == "mysql" { "mysql-v5" } else { "postgres-v5" };
    setup.arguments.extend(["--do-not-require-ssl".into(), "--db".into(), driver.into(), url.into()]);
    setup.flag("--instance-name", name);
    setup
}

fn without_tls(server: &Server) -> String {
    if server.engine() == "mysql" { server.root() } else { format!("{}?sslmode=disable", server.root()) }
}

/// The last line of a recorded start.
fn recorded(case: &str) -> Option<String> {
    let golden = golden("convex-process.json")?;
    let record = golden.as_array().unwrap().iter().find(|record| record["case"] == case).unwrap().clone();
    Some(record["last_lines"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned())
}

#[test]
fn database_errors_have_the_text_of_the_real_backend() {
    let (Some(server), Some(plain)) = (server(Kind::Postgres), self::server(Kind::PlainPostgres)) else { return };
    let cases = [
        ("postgres without database", "Error: db error: FATAL: database \"gold_backend\" does not exist", without_tls(server)),
        ("postgres url with path", "Error: cluster url already contains db name: /x", format!("{}/x", server.root())),
        (
            "postgres url without user",
            "Error: cluster url username must be set",
            format!("postgres://127.0.0.1:{}", server.port),
        ),
        (
            "postgres server down",
            "Error: error connecting to server: Connection refused (os error 111)",
            "postgres://me:pw@127.0.0.1:1".to_owned(),
        ),
        (
            "postgres ssl required, server without",
            "Error: error performing TLS handshake: server does not support TLS",
            plain.root(),
        ),
    ];
    for (case, words, url) in cases {
        if let Some(recorded) = recorded(case) {
            assert_eq!(recorded, words, "{case}");
        }
        let place = Place::new();
        let mut setup = setup(&place, server, "gold-backend", &url);
        if case.contains("ssl required") {
            let at = setup.arguments.iter().position(|word| word == "--do-not-require-ssl").unwrap();
            setup.arguments.remove(at);
        }
        assert_eq!(place.failure(&setup), 1, "{case}: {}", place.text());
        assert_eq!(place.text().lines().last(), Some(words), "{case}");
        assert!(!place.text().contains(ROOT_PASSWORD), "{case} says too much");
    }
}

#[test]
fn documents_and_variables_are_on_the_server() {
    for server in servers() {
        let name = Server::project();
        let create = format!("CREATE DATABASE {name}");
        server.sql("", &create);
        let place = Place::new();
        let setup = setup(&place, server, &name, &without_tls(server));
        let key = crate::backend::key_of(
            &name,
            &setup.value("--instance-secret"),
            convexinfra::convex::admin_key::KeyKind::Admin { member_id: 0 },
        );
        let mut backend = block(place.start(&setup));
        let deployment = |url: String| {
            convexinfra::convex::deployment::Deployment::new(
                &convexinfra::convex::deployment::DeploymentClient::default(),
                url,
                Some(key.clone()),
            )
        };
        let long = "é'\\\n".repeat(1_000);
        let change = |name: &str, value: &str| EnvironmentChange { name: name.to_owned(), value: Some(Secret::new(value)) };
        block(deployment(backend.url()).change_environment(&[change("A", "1"), change("LONG", &long), change("GONE", "x")]))
            .unwrap();
        let gone = EnvironmentChange { name: "GONE".to_owned(), value: None };
        block(deployment(backend.url()).change_environment(&[gone])).unwrap();
        let import = block(
            reqwest::Client::new()
                .post(format!("{}/api/import?tableName=messages&format=jsonLines&mode=replaceAll", backend.url()))
                .header("Authorization", format!("Convex {}", key.expose()))
                .body("{\"body\":\"one\"}\n{\"body\":\"zwö\"}\n")
                .send(),
        )
        .unwrap();
        assert!(import.status().is_success(), "{import:?}");

        backend.signal(rustix::process::Signal::KILL);
        backend.wait();
        let elsewhere = Place::new();
        let mut other_folder = setup.clone();
        other_folder.flag("--local-storage", elsewhere.folder.path().join("storage"));
        let mut backend = block(elsewhere.start(&other_folder));
        let found = block(deployment(backend.url()).environment()).unwrap();
        assert_eq!(
            found.iter().map(|(name, value)| (name.as_str(), value.expose())).collect::<Vec<_>>(),
            [("A", "1"), ("LONG", long.as_str())]
        );
        let rows = server.sql(&name, "SELECT content FROM simulated_rows WHERE table_name = 'document'");
        assert!(rows.len() == 2 && rows.iter().any(|row| row.contains("zwö")), "{rows:?}");
        assert_eq!(backend.interrupt().code(), Some(0));
        server.sql("", &format!("DROP DATABASE {name}"));
    }
}

#[test]
fn a_database_whose_rows_are_being_copied_is_refused() {
    for server in servers() {
        let name = Server::project();
        server.sql("", &format!("CREATE DATABASE {name}"));
        server.sql(&name, "CREATE TABLE read_only (id BIGINT NOT NULL, PRIMARY KEY (id))");
        server.sql(&name, "INSERT INTO read_only VALUES (1)");
        let place = Place::new();
        let setup = setup(&place, server, &name, &without_tls(server));
        assert_eq!(place.failure(&setup), 1, "{}", place.text());
        assert_eq!(place.text().lines().last(), Some("Error: persistence is read-only, data migration in progress"));
        server.sql(&name, "DELETE FROM read_only WHERE id = 1");
        let mut backend = block(place.start(&setup));
        assert_eq!(backend.interrupt().code(), Some(0));
        server.sql("", &format!("DROP DATABASE {name}"));
    }
}

#[test]
fn a_database_of_the_real_backend_is_shown_and_never_changed() {
    let Some(recorded) = fixture::shared_bytes("golden/data/sqlite.sqlite3") else { return };
    let place = Place::new();
    let file = place.folder.path().join("db.sqlite3");
    std::fs::write(&file, &recorded).unwrap();
    let setup = place.setup();
    let key = crate::backend::key_of(
        crate::backend::NAME,
        &setup.value("--instance-secret"),
        convexinfra::convex::admin_key::KeyKind::Admin { member_id: 0 },
    );
    let mut backend = block(place.start(&setup));
    let deployment = convexinfra::convex::deployment::Deployment::new(
        &convexinfra::convex::deployment::DeploymentClient::default(),
        backend.url(),
        Some(key.clone()),
    );
    let variables = block(deployment.environment()).unwrap();
    assert_eq!(
        variables.iter().map(|(name, value)| (name.as_str(), value.expose())).collect::<Vec<_>>(),
        [("GREETING", "gold")]
    );
    let ask = |path: &str, args: serde_json::Value| {
        let body = serde_json::json!({ "path": path, "args": args, "format": "json" });
        let sent = reqwest::Client::new()
            .post(format!("{}/api/query", backend.url()))
            .header("Authorization", format!("Convex {}", key.expose()))
            .json(&body);
        block(async { sent.send().await.unwrap().json::<serde_json::Value>().await.unwrap() })["value"].clone()
    };
    for (table, count) in [("people", 55.0), ("notes", 60.0), ("jobs", 1.0), ("files", 3.0), ("nobody", 0.0)] {
        assert_eq!(ask("_system/cli/tableSize", serde_json::json!({ "tableName": table })), count, "{table}");
    }
    let options = serde_json::json!({ "paginationOpts": { "cursor": null, "numItems": 100 } });
    let mut names: Vec<String> = ask("_system/cli/tables", options)["page"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| table["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["files", "jobs", "notes", "people"]);
    let change = EnvironmentChange { name: "GREETING".to_owned(), value: Some(Secret::new("other")) };
    block(deployment.change_environment(&[change])).unwrap();
    assert_eq!(backend.interrupt().code(), Some(0));
    assert!(std::fs::read(&file).unwrap() == recorded, "the file was changed");
}

#[test]
fn a_second_process_takes_the_lease_and_the_first_ends_well() {
    for server in servers() {
        let name = Server::project();
        server.sql("", &format!("CREATE DATABASE {name}"));
        let (one, other) = (Place::new(), Place::new());
        let mut first = block(one.start(&setup(&one, server, &name, &without_tls(server))));
        let mut second = block(other.start(&setup(&other, server, &name, &without_tls(server))));
        let ended = first.wait();
        assert_eq!(ended.code(), Some(0), "{}", one.text());
        assert!(one.text().contains("lease"), "{}", one.text());
        assert!(second.is_running());
        assert_eq!(second.interrupt().code(), Some(0));
        server.sql("", &format!("DROP DATABASE {name}"));
    }
}
