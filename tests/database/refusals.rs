//! Everything that a server or its administrator can have against a backend, and what is said about it.

use fixture::ProjectFixture;
use fixture::database::{Kind, ROOT_PASSWORD, Server, server, servers};

const NO_TLS: &str = ", tls = \"disable\"";

/// Applies what must not work, and returns the one error: its code, its message, its help. What a look can see is refused
/// while planning, in the same words.
fn refused(server: &Server, project: &str, storage: &str, url: &str) -> (String, String, String) {
    let mut world = ProjectFixture::new(&server.manifest(project, storage));
    world.set("DATABASE", url);
    let plan = world.run(&["plan", "--json"]).document();
    let error = match plan["refusals"].as_array().unwrap().first() {
        Some(refusal) => {
            let run = world.run_expecting(4, &["apply", "--yes", "--json"]);
            assert_eq!(run.errors(), [refusal["code"].as_str().unwrap()], "{run}");
            refusal.clone()
        }
        None => {
            let run = world.run_expecting(1, &["apply", "--yes", "--json"]);
            let end = run.events().into_iter().find(|event| event["type"] == "step_finished" && event["status"] == "failed");
            assert!(!format!("{run}").contains("secret-pw"), "{run}");
            end.unwrap_or_else(|| panic!("{run}"))["error"].clone()
        }
    };
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    assert!(!plan.to_string().contains("secret-pw"), "{plan}");
    assert_eq!(world.processes(), []);
    // The way out of a first attempt is always open.
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
    (text("code"), text("message"), text("help"))
}

#[test]
fn a_refused_login_names_its_reason() {
    for server in servers() {
        let project = Server::project();
        let (code, message, help) = refused(server, &project, NO_TLS, &server.url("root", "secret-pw"));
        assert_eq!(code, "database.credentials", "{message}");
        assert!(
            message.contains("does not know `root` with this password") && help.contains("`storage.url`"),
            "{message} {help}"
        );
        assert_eq!(refused(server, &project, NO_TLS, &server.url("nobody", "secret-pw")).0, "database.credentials");

        let nobody_listens = server.root().replace(&server.port.to_string(), "1");
        let (code, message, _) = refused(server, &project, NO_TLS, &nobody_listens);
        assert_eq!(code, "database.unreachable", "{message}");
        assert!(message.contains("127.0.0.1:1") || message.contains("localhost:1"), "{message}");
        let no_such_host = server.root().replace("127.0.0.1", "nowhere.invalid");
        assert_eq!(refused(server, &project, NO_TLS, &no_such_host).0, "database.unreachable");
        assert!(!server.has(&format!("{project}_dev")));
    }
}

#[test]
fn tls_is_never_weaker_than_the_manifest_says() {
    for server in servers() {
        let project = Server::project();
        let (code, message, help) = refused(server, &project, "", &server.root());
        assert_eq!(code, "database.certificate", "{message}");
        assert!(help.contains("tls = { ca = "), "{help}");
        // The file is read where the manifest is, so a plan knows already.
        for (file, content) in [("nowhere.pem", None), ("empty.pem", Some("no certificate\n")), ("pipe.pem", None)] {
            let storage = format!(", tls = {{ ca = \"{file}\" }}");
            let mut world = ProjectFixture::new(&server.manifest(&project, &storage));
            world.set("DATABASE", &server.root());
            if let Some(content) = content {
                world.write(file, content);
            }
            if file == "pipe.pem" {
                assert!(std::process::Command::new("mkfifo").arg(world.folder.join(file)).status().unwrap().success());
            }
            for words in [&["plan", "--json"][..], &["apply", "--yes", "--json"]] {
                let run = world.run_expecting(4, words);
                assert!(run.out.contains("database.ca_file") && run.out.contains(file), "{run}");
            }
            assert!(world.names().is_empty() && world.processes().is_empty());
        }

        // The right authority for another name.
        if server.kind == Kind::Postgres {
            let renamed = server.root().replace("127.0.0.1", "127.0.0.2");
            let code = refused(server, &project, &server.trusting(), &renamed).0;
            assert!(["database.certificate", "database.unreachable"].contains(&code.as_str()), "{code}");
        }

        let demanding = format!("{project}_tls");
        match server.kind {
            Kind::Mysql | Kind::MariaDb | Kind::HiddenMariaDb => {
                server.user(&demanding, "secret-pw", "ALL PRIVILEGES");
                server.sql("", &format!("ALTER USER '{demanding}'@'%' REQUIRE SSL"));
                // The server does not tell this from a wrong password.
                let code = refused(server, &project, NO_TLS, &server.url(&demanding, "secret-pw")).0;
                assert_eq!(code, "database.credentials");
            }
            Kind::Postgres | Kind::PlainPostgres => {
                let url = server.user("with_tls", "secret-pw", "CREATEDB");
                let (code, message, _) = refused(server, &project, NO_TLS, &url);
                assert_eq!(code, "database.tls_demanded", "{message}");
                let url = server.user("kept_out", "secret-pw", "CREATEDB");
                let (code, message, _) = refused(server, &project, &server.trusting(), &url);
                assert_eq!(code, "database.not_let_in", "{message}");
            }
        }
    }
    if let Some(plain) = server(Kind::PlainPostgres) {
        let (code, message, help) = refused(plain, &Server::project(), "", &plain.root());
        assert_eq!(code, "database.no_tls", "{message}");
        assert!(help.contains("tls = \"disable\""), "{help}");
    }
}

/// The certificate that MySQL makes for itself has no name, so that naming its authority does not help.
#[test]
fn a_certificate_without_a_name_is_told_from_one_of_an_unknown_authority() {
    let Some(server) = server(Kind::Mysql) else { return };
    let (port, ca) = server.self_made.as_ref().unwrap();
    assert!(ca.is_file(), "MySQL has made no certificate at {}", ca.display());
    let project = Server::project();
    let url = server.root().replace(&server.port.to_string(), &port.to_string());
    let (code, message, help) = refused(server, &project, &format!(", tls = {{ ca = \"{}\" }}", ca.display()), &url);
    assert_eq!(code, "database.certificate", "{message}");
    assert!(help.contains("subjectAltName") && help.contains("tls = \"disable\""), "{message} {help}");
    assert!(!help.contains("tls = { ca"), "it was given: {help}");
    // Without it the authority is unknown as well, and that is said first.
    let (code, _, help) = refused(server, &project, "", &url);
    assert_eq!(code, "database.certificate");
    assert!(help.contains("tls = { ca = "), "{help}");
    let mut world = ProjectFixture::new(&server.manifest(&project, NO_TLS));
    world.set("DATABASE", &url);
    world.apply();
    world.assert_converged();
    world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
}

#[test]
fn missing_privileges_are_refused_with_statements_for_an_administrator() {
    for server in servers() {
        let project = Server::project();
        let database = format!("{project}_dev");
        let weak = server.user(&format!("{project}_weak"), "secret-pw", "");
        let (code, message, help) = refused(server, &project, NO_TLS, &weak);
        assert_eq!(code, "database.not_allowed", "{message}");
        assert!(message.contains(&format!("may not create the database `{database}`")), "{message}");
        // What the help says, done by the administrator, is enough.
        let remedy = help.lines().last().unwrap().trim().to_owned();
        for sql in remedy.split_inclusive(';') {
            server.sql("", &sql.replace(&format!("'{project}_weak'"), &format!("'{project}_weak'@'%'")));
        }
        let mut world = ProjectFixture::new(&server.manifest(&project, NO_TLS));
        world.set("DATABASE", &weak);
        let run = world.apply();
        assert!(run.err.contains(&format!("the database `{database}` was there and empty, and is used")), "{run}");
        world.assert_converged();

        // It may not make roles, and says so before anything is restarted.
        world.manifest(&server.manifest(&project, &format!("{NO_TLS}, role = \"least_privilege\"")));
        let run = world.run_expecting(1, &["apply", "--yes"]);
        assert!(run.err.contains("may not make the "), "{run}");
        world.manifest(&server.manifest(&project, NO_TLS));
        world.apply();
        world.assert_converged();
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(!server.has(&database));
    }
}

#[test]
fn a_database_with_foreign_tables_is_not_touched() {
    for server in servers() {
        let project = Server::project();
        let database = format!("{project}_dev");
        server.sql("", &format!("CREATE DATABASE {database}"));
        server.sql(&database, "CREATE TABLE theirs (x int)");
        let (code, message, help) = refused(server, &project, NO_TLS, &server.root());
        assert_eq!(code, "database.occupied", "{message}");
        assert!(message.contains("has 1 table ") && help.contains("another name"), "{message} {help}");
        assert_eq!(server.sql(&database, "SELECT count(*) FROM theirs"), ["0"]);
        let claimed = match server.engine() {
            "mysql" => server.sql(&database, "SHOW TABLES"),
            _ => server.sql(&database, "SELECT relname FROM pg_class WHERE relname IN ('theirs', 'convexinfra_owner')"),
        };
        assert_eq!(claimed, ["theirs"]);
        server.sql("", &format!("DROP DATABASE {database}"));
    }
}

#[test]
fn a_url_that_convex_does_not_take_is_refused_while_planning() {
    for server in servers() {
        let project = Server::project();
        for url in [
            format!("{}/somewhere", server.root()),
            "postgres://127.0.0.1:1".to_owned(),
            format!("http://root:{ROOT_PASSWORD}@x"),
            "hunter2-is-no-url".to_owned(),
        ] {
            let mut world = ProjectFixture::new(&server.manifest(&project, NO_TLS));
            world.set("DATABASE", &url);
            let run = world.run_expecting(4, &["plan", "--json"]);
            let refusal = &run.document()["refusals"][0];
            assert_eq!(refusal["code"], "plan.value_unusable", "{run}");
            assert!(!format!("{run}").contains("hunter2"), "{run}");
        }
    }
}

#[test]
fn mariadb_is_refused_before_anything_is_made() {
    for kind in [Kind::MariaDb, Kind::HiddenMariaDb] {
        let Some(server) = server(kind) else { return };
        let project = Server::project();
        let mut world = ProjectFixture::new(&server.manifest(&project, NO_TLS));
        world.set("DATABASE", &server.root());
        let before = world.file_names();
        let planned = world.run_expecting(4, &["plan"]);
        assert!(planned.out.contains("MariaDB") && planned.out.contains("name a server of MySQL 8.0"), "{planned}");
        assert_eq!(world.file_names(), before, "planning made something");
        let (code, message, help) = refused(server, &project, NO_TLS, &server.root());
        assert_eq!(code, "database.unsupported", "{message}");
        assert!(
            message.contains("MariaDB") && message.contains("utf8mb4_0900_bin") && help.contains("MySQL 8.0"),
            "{message} {help}"
        );
        assert!(!server.has(&format!("{project}_dev")));
        server.sql("", &format!("CREATE DATABASE {project}_dev"));
        assert_eq!(refused(server, &project, NO_TLS, &server.root()).0, "database.unsupported");
        assert_eq!(server.sql(&format!("{project}_dev"), "SHOW TABLES"), Vec::<String>::new());
        server.sql("", &format!("DROP DATABASE {project}_dev"));
    }
}

/// Announces a message of two gigabytes once the login is done.
fn announces_too_much() -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).unwrap_or(0) == 0 {
                continue;
            }
            // AuthenticationOk, ReadyForQuery, and the head of a row.
            let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(&[b'D', 0x7f, 0xff, 0xff, 0xff]);
            let _ = stream.write_all(&vec![0; 1 << 20]);
        }
    });
    port
}

#[test]
fn a_server_that_announces_too_much_is_left() {
    let port = announces_too_much();
    let manifest = format!(
        "project = \"loud\"\n\n[backends.dev]\nprovider = \"simulated\"\n\
         storage = {{ engine = \"postgres\", url = {{ env = \"DATABASE\" }}{NO_TLS} }}\n"
    );
    let mut world = ProjectFixture::new(&manifest);
    world.set("DATABASE", &format!("postgres://me:secret-pw@127.0.0.1:{port}"));
    let run = world.run_expecting(1, &["apply", "--yes"]);
    assert!(run.err.contains("announced a message of 2147483647 bytes"), "{run}");
}

/// Needs no server: a listener accepts the connection and sends nothing.
#[test]
fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for engine in ["postgres", "mysql"] {
        let manifest = format!(
            "project = \"silent\"\n\n[backends.dev]\nprovider = \"simulated\"\n\
             storage = {{ engine = \"{engine}\", url = {{ env = \"DATABASE\" }}{NO_TLS} }}\n"
        );
        let mut world = ProjectFixture::new(&manifest);
        world.set("DATABASE", &format!("{engine}://me:secret-pw@127.0.0.1:{port}"));
        let run = world.run_expecting(1, &["apply", "--yes"]);
        assert!(run.err.contains("cannot be reached") && run.err.contains("[database.unreachable]"), "{run}");
    }
}
