//! What is kept of a destroyed backend is kept whole, and half of one is never called ready.

use std::path::PathBuf;

use fixture::database::{ROOT_PASSWORD, Server, servers};
use fixture::{ProjectFixture, walk};

const NO_TLS: &str = ", tls = \"disable\"";

fn world(server: &Server, project: &str) -> ProjectFixture {
    let mut world = ProjectFixture::new(&server.manifest(project, NO_TLS));
    world.set("DATABASE", &server.root());
    world
}

/// Asserts that nothing below the home holds one of these in clear.
fn assert_no_secret(world: &ProjectFixture, secrets: &[&str]) {
    let mut looked_at = 0;
    walk(&world.root().join("home"), &mut |path| {
        if !path.is_file() {
            return;
        }
        looked_at += 1;
        let bytes = std::fs::read(path).unwrap();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret in clear", path.display());
        }
    });
    assert!(looked_at > 1, "nothing is there");
}

/// The folders of files of all backends below a home.
fn storage_folders(world: &ProjectFixture) -> Vec<PathBuf> {
    let backends = world.root().join("home/backends");
    let entries = std::fs::read_dir(backends).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("data/storage")).filter(|path| path.is_dir()).collect()
}

#[test]
fn files_stay_with_the_database_that_names_them_and_go_with_it() {
    for server in servers() {
        let project = Server::project();
        let world = world(server, &project);
        world.apply();
        let [folder] = storage_folders(&world).try_into().unwrap();
        let file = folder.join("modules/kept.blob");
        std::fs::write(&file, "code").unwrap();

        let (_, key) = world.coordinates(".env.local");
        let destroyed = world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
        assert!(destroyed.err.contains("kept with the database"), "{destroyed}");
        assert_no_secret(&world, &[ROOT_PASSWORD, "root-pw", &server.root(), &key]);
        // What is kept is neither an orphan nor a sign that the store was lost.
        for words in [&["plan"][..], &["drift"], &["log", "--verify"]] {
            world.run_expecting(0, words);
        }
        assert!(file.is_file(), "the files went without their documents");
        let status = world.run_expecting(0, &["status"]);
        assert!(status.out.contains("data of the destroyed backend `dev` is kept"), "{status}");
        assert!(
            status.out.contains(&folder.display().to_string()) && status.out.contains(&format!("`{project}_dev`")),
            "{status}"
        );

        // Another home has the name, and not the files.
        let other = self::world(server, &project);
        let refused = other.run_expecting(4, &["plan"]);
        assert!(refused.out.contains("which was destroyed and whose files stay where it ran"), "{refused}");
        let refused = other.run_expecting(4, &["apply", "--yes"]);
        assert!(refused.err.contains("which was destroyed and whose files stay where it ran"), "{refused}");

        world.apply();
        assert_eq!(storage_folders(&world), std::slice::from_ref(&folder));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "code");
        assert!(!world.run_expecting(0, &["status"]).out.contains("is kept"));
        world.assert_converged();

        let refused = world.run_expecting(4, &["destroy", "--keep-data", "--with-database", "--allow-destroy", "dev"]);
        assert!(format!("{refused}").contains("plan.half_kept") || refused.err.contains("neither is of use"), "{refused}");
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(!file.exists() && !server.has(&format!("{project}_dev")));
        world.apply();
        world.assert_converged();
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
    }
}

#[test]
fn a_database_found_without_its_files_is_not_ready() {
    for server in servers() {
        let project = Server::project();
        let database = format!("{project}_dev");
        let is_mysql = server.engine() == "mysql";
        let bytes = |number: u8| match is_mysql {
            true => format!("X'{}'", format!("{number:02x}").repeat(16)),
            false => format!("decode('{}', 'hex')", format!("{number:02x}").repeat(16)),
        };
        let json = |text: &str| match is_mysql {
            true => format!("'{text}'"),
            false => format!("convert_to('{text}', 'UTF8')"),
        };
        let blob = if is_mysql { ("BINARY(16)", "LONGBLOB", "VARCHAR(255)") } else { ("BYTEA", "BYTEA", "TEXT") };
        let convex = || {
            server.sql("", &format!("CREATE DATABASE {database}"));
            server.sql(
                &database,
                &format!(
                    "CREATE TABLE documents (id {0} NOT NULL, ts BIGINT NOT NULL, table_id {0} NOT NULL, json_value {1} NOT NULL,
                     deleted BOOLEAN DEFAULT false, prev_ts BIGINT)",
                    blob.0, blob.1
                ),
            );
            let key = if is_mysql { "`key`" } else { "key" };
            server.sql(
                &database,
                &format!("CREATE TABLE persistence_globals ({key} {} PRIMARY KEY, json_value {})", blob.2, blob.1),
            );
            // Sixteen bytes of one.
            let tables = json("\"AQEBAQEBAQEBAQEBAQEBAQ\"");
            server.sql(&database, &format!("INSERT INTO persistence_globals VALUES ('tables_table_id', {tables})"));
            for (id, ts, table, value, deleted) in [
                (2, 1, 1, r#"{"name":"_source_packages","state":"active"}"#, "false"),
                (3, 1, 1, r#"{"name":"_file_storage","state":"active"}"#, "false"),
                (4, 1, 2, r#"{"storageKey":"aa-1"}"#, "false"),
                (5, 1, 3, r#"{"storageKey":"bb-1"}"#, "false"),
                (6, 1, 3, r#"{"storageKey":"bb-2"}"#, "false"),
                // One that was deleted since.
                (6, 2, 3, "null", "true"),
            ] {
                let sql = format!(
                    "INSERT INTO documents VALUES ({}, {ts}, {}, {}, {deleted}, NULL)",
                    bytes(id),
                    bytes(table),
                    json(value)
                );
                server.sql(&database, &sql);
            }
            // As a release before this one left it: released, with the mark among the tables.
            server.sql(&database, "CREATE TABLE convexinfra_owner (one INT PRIMARY KEY, backend VARCHAR(64), label VARCHAR(255), since TIMESTAMP)");
        };
        convex();
        let world = world(server, &project);
        let before = world.file_names();
        let planned = world.run_expecting(4, &["plan", "--json"]).document();
        assert_eq!(planned["refusals"][0]["code"], "database.files_missing", "{planned:#}");
        let refused = world.run_expecting(4, &["apply", "--yes"]);
        assert!(refused.err.contains("1 of 1 code package and 1 of 1 uploaded file are missing"), "{refused}");
        assert_eq!(world.file_names(), before, "something was made");
        assert!(refused.err.contains("[database.files_missing]") && refused.err.contains("data/storage"), "{refused}");
        assert!(world.processes().is_empty(), "{refused}");

        // The way out that the help names: the files, in the folder that it names.
        let folder: PathBuf = refused.err.lines().map(str::trim).find(|line| line.ends_with("data/storage")).unwrap().into();
        for file in ["modules/aa-1.blob", "files/bb-1.blob"] {
            std::fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
            std::fs::write(folder.join(file), "x").unwrap();
        }
        world.apply();
        // The mark is not one of the tables that Convex counts any more.
        let marks = match is_mysql {
            true => server.sql(&database, &format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{database}' AND table_name LIKE 'convexinfra%'")),
            false => server.sql(&database, "SELECT relname FROM pg_class WHERE relname = 'convexinfra_owner'"),
        };
        assert_eq!(marks, Vec::<String>::new());
        world.assert_converged();

        // Files that are all gone later are noticed as well.
        let [folder] = storage_folders(&world).try_into().unwrap();
        world.kill(&format!("{project}-dev"));
        std::fs::remove_file(folder.join("modules/aa-1.blob")).unwrap();
        let refused = world.run_expecting(4, &["apply", "--yes"]);
        assert!(refused.err.contains("1 of 1 code package and 0 of 1 uploaded file are missing"), "{refused}");
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(!server.has(&database));
    }
}

#[test]
fn a_schema_that_was_cut_off_is_no_data_and_leaves_room_for_the_rest() {
    for server in servers().filter(|server| server.engine() == "mysql") {
        let project = Server::project();
        let database = format!("{project}_dev");
        let world = world(server, &project);
        // The backend is asked for and its process cannot start, so that only the database is there.
        world.apply();
        let tables = server.sql(&database, "SHOW TABLES");
        assert!(tables.iter().all(|table| !table.contains("convexinfra")), "{tables:?}");
        let comment = server
            .sql("", &format!("SELECT routine_comment FROM information_schema.routines WHERE routine_schema = '{database}'"));
        assert!(comment.len() == 1 && comment[0].contains(&format!("{project}/dev")), "{comment:?}");
        world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
    }
}
