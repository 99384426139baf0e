//! Backends whose files are in S3: the store is looked at before anything is made, a key that cannot work replaces none that
//! does, and what a backend leaves there is named. On a real server.

use serde_json::{Value, json};

use super::s3::{REGION, ROOT, S3Server, WEAK, server};
use fixture::{ProjectFixture, executable, script};

const PARTS: [&str; 5] = ["exports", "snapshot-imports", "modules", "files", "search"];

/// A world whose one backend keeps its files with these lines of `files`.
fn world(server: &S3Server, project: &str, files: &str) -> ProjectFixture {
    let mut world = ProjectFixture::new(&manifest(project, files));
    world.set("ENDPOINT", &server.url());
    keys(&mut world, ROOT);
    world
}

fn keys(world: &mut ProjectFixture, (id, secret): (&str, &str)) {
    world.set("KEY_ID", id);
    world.set("KEY", secret);
}

fn manifest(project: &str, files: &str) -> String {
    format!(
        "project = \"{project}\"\n\n[backends.dev]\nprovider = \"simulated\"\nfiles = {{ engine = \"s3\", region = \"{REGION}\", \
         endpoint = {{ env = \"ENDPOINT\" }}, access_key_id = {{ env = \"KEY_ID\" }}, secret_access_key = {{ env = \"KEY\" }}, {files} }}\n"
    )
}

/// The one refusal of a plan, which an apply repeats; nothing is made by either.
fn refused(world: &ProjectFixture) -> Value {
    let before = world.file_names();
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    let run = world.run_expecting(4, &["apply", "--yes", "--json"]);
    assert_eq!(run.errors(), [plan["refusals"][0]["code"].as_str().unwrap()], "{run}");
    for secret in [ROOT.1, WEAK.1, "X-Amz-Signature"] {
        assert!(!plan.to_string().contains(secret) && !format!("{run}").contains(secret), "{run}");
    }
    assert_eq!(world.file_names(), before, "something was made");
    plan["refusals"][0].clone()
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap_or_default()
}

#[test]
fn buckets_that_are_missing_are_named_and_made_where_that_is_asked_for() {
    let Some(server) = server() else { return };
    let world = world(server, "mk", "bucket_prefix = \"mk\"");
    let refusal = refused(&world);
    assert_eq!(text(&refusal, "code"), "files.bucket_missing", "{refusal}");
    assert!(text(&refusal, "message").contains("the bucket `mk-exports` is not there"), "{refusal}");
    let command = format!("aws s3 mb s3://mk-exports --region {REGION} --endpoint-url {}", server.url());
    assert!(text(&refusal, "help").contains(&command) && text(&refusal, "help").contains("create_buckets"), "{refusal}");
    // One of five is not enough.
    server.make("mk-exports");
    assert!(text(&refused(&world), "message").contains("`mk-snapshot-imports`"));

    world.manifest(&manifest("mk", "bucket_prefix = \"mk\", create_buckets = true"));
    world.run_expecting(0, &["plan"]);
    assert_eq!(server.keys("mk-files"), None, "planning made a bucket");
    let applied = world.apply();
    assert!(
        applied.err.contains("the bucket `mk-files` was made") && !applied.err.contains("`mk-exports` was made"),
        "{applied}"
    );
    for part in PARTS {
        assert_eq!(server.keys(&format!("mk-{part}")), Some(Vec::new()), "a probe was left");
    }
    world.assert_reachable(".env.local", "mk-dev");
    world.assert_converged();
    // To say so no more changes nothing that runs.
    world.manifest(&manifest("mk", "bucket_prefix = \"mk\""));
    world.apply();
    world.assert_converged();
}

#[test]
fn a_key_that_cannot_work_is_refused_and_replaces_none_that_does() {
    let Some(server) = server() else { return };
    server.make("keyed");
    let mut world = world(server, "keyed", "bucket = \"keyed\"");
    for (what, pair) in [("secret", (ROOT.0, "nobody-knows-this")), ("id", ("nobody", ROOT.1))] {
        keys(&mut world, pair);
        let refusal = refused(&world);
        assert_eq!(text(&refusal, "code"), "files.credentials", "{what}: {refusal}");
        assert!(
            text(&refusal, "message").contains("`keyed`") && text(&refusal, "help").contains("aws s3 ls s3://keyed"),
            "{refusal}"
        );
    }
    keys(&mut world, ROOT);
    world.apply();
    world.assert_converged();
    let pid = world.pid("keyed-dev");

    keys(&mut world, (ROOT.0, "rotated-and-wrong"));
    let refusal = refused(&world);
    assert_eq!(text(&refusal, "code"), "files.credentials", "{refusal}");
    assert_eq!(world.pid("keyed-dev"), pid, "the running backend was touched");
    // What was recorded is what still works.
    keys(&mut world, ROOT);
    world.assert_converged();
    world.kill("keyed-dev");
    world.apply();
    world.assert_converged();
}

#[test]
fn what_the_keys_may_not_do_is_said_before_the_backend_is_ready() {
    let Some(server) = server() else { return };
    server.make("denied");
    let mut world = world(server, "denied", "bucket = \"denied\"");
    keys(&mut world, WEAK);
    let allow = |actions: &[&str]| {
        server.policy(
            "denied",
            &json!({ "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": { "AWS": [WEAK.0] }, "Action": actions, "Resource": "arn:aws:s3:::denied/*",
            }] }),
        );
    };
    // Only an attempt shows what is allowed, so a plan may pass.
    for actions in [&["s3:GetObject"][..], &["s3:PutObject"]] {
        allow(actions);
        world.run_expecting(0, &["plan"]);
        let run = world.run_expecting(1, &["apply", "--yes"]);
        assert!(run.err.contains("[files.not_allowed]") && run.err.contains("the bucket `denied`"), "{run}");
        assert!(run.err.contains("s3:PutObject") && run.err.contains("aws s3api get-bucket-policy --bucket denied"), "{run}");
        assert_eq!(world.processes(), [], "{run}");
    }
    // Who may not delete is told what stays.
    allow(&["s3:GetObject", "s3:PutObject"]);
    let run = world.apply();
    assert!(run.err.contains("the object `denied-dev-convexinfra-probe` in the bucket `denied` could not be removed"), "{run}");
    allow(&["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]);
    world.assert_converged();
    // A running backend whose new keys may not write keeps the old ones.
    keys(&mut world, ROOT);
    world.apply();
    allow(&["s3:GetObject"]);
    keys(&mut world, WEAK);
    assert_eq!(text(&refused(&world), "code"), "files.not_allowed");
    keys(&mut world, ROOT);
    world.assert_converged();
}

#[test]
fn region_and_style_are_told_apart_from_a_missing_bucket() {
    let Some(server) = server() else { return };
    server.make("placed");
    let mut world = world(server, "placed", "bucket = \"placed\"");
    world.manifest(&manifest("placed", "bucket = \"placed\"").replace(REGION, "eu-central-1"));
    let refusal = refused(&world);
    assert_eq!(text(&refusal, "code"), "files.region", "{refusal}");
    assert!(text(&refusal, "help").contains("region = \"us-east-1\""), "{refusal}");

    // Under a name, buckets are expected below it.
    world.set("ENDPOINT", &server.url().replace("127.0.0.1", "localhost"));
    world.manifest(&manifest("placed", "bucket = \"placed\""));
    let refusal = refused(&world);
    assert_eq!(text(&refusal, "code"), "files.path_style", "{refusal}");
    assert!(text(&refusal, "help").contains("path_style = true"), "{refusal}");
    world.manifest(&manifest("placed", "bucket = \"placed\", path_style = true"));
    world.apply();
    world.assert_converged();
}

#[test]
fn a_service_that_is_away_is_no_missing_bucket() {
    let project = "away";
    let mut world = ProjectFixture::new("");
    let binary = script(&world.folder, "convex-local-backend", &format!("exec '{}' simulate-backend \"$@\"", executable()));
    let text = manifest(project, "bucket = \"away\"").replace("simulated", "local");
    world.manifest(&format!("{text}local = {{ binary = \"{}\" }}\n", binary.display()));
    world.set("ENDPOINT", "http://127.0.0.1:1");
    keys(&mut world, ROOT);
    // Nobody could look, which a plan says, and an apply does not pass over.
    let plan = world.run_expecting(0, &["plan", "--json"]).document();
    assert_eq!(
        plan["lints"].as_array().unwrap().iter().filter(|lint| lint["code"] == "files.unreachable").count(),
        1,
        "{plan:#}"
    );
    let run = world.run_expecting(1, &["apply", "--yes"]);
    assert!(run.err.contains("[files.unreachable]") && run.err.contains("cannot be reached"), "{run}");
    assert_eq!(world.processes(), [], "{run}");
    // One that only stands in for the real one needs no service.
    world.manifest(&manifest(project, "bucket = \"away\""));
    let run = world.apply();
    assert!(run.err.contains("a simulated backend keeps its files itself"), "{run}");
    world.assert_converged();
}

#[test]
fn what_a_destroyed_backend_leaves_in_buckets_is_named_and_nothing_else_is_touched() {
    let Some(server) = server() else { return };
    server.make("left");
    let world = world(server, "left", "bucket = \"left\"");
    world.apply();
    let (own, other) = ("left-dev-0b9cbf71-5c3d-4bd5-9d44-2a8a2c3c7e10/", "left-dev-x-0b9cbf71-5c3d-4bd5-9d44-2a8a2c3c7e10/");
    for (prefix, name) in [(own, "a"), (own, "b"), (other, "c"), ("", "left-dev-notes"), ("", "theirs")] {
        server.put("left", &format!("{prefix}{name}"), &[b'x'; 1024]);
    }
    let before = server.keys("left");
    let words = ["destroy", "--allow-destroy", "dev"];
    let shown = world.run_expecting(4, &["destroy", "--json"]);
    let destroyed = world.run_expecting(0, &words);
    let said = format!("2 objects of `dev` (2 KiB) stay in the bucket `left` under `{own}`");
    let command = format!("aws s3 rm --recursive s3://left/{own} --region {REGION} --endpoint-url {}", server.url());
    assert!(destroyed.err.contains(&said) && destroyed.err.contains(&command), "{destroyed}\n{shown}");
    assert!(!destroyed.err.contains("left-dev-x-"), "{destroyed}");
    assert_eq!(server.keys("left"), before, "objects went");
}

/// With the database that names them, the prefix is known and not guessed.
#[test]
fn objects_of_a_dropped_database_are_named_by_the_prefix_that_stood_in_it() {
    let Some(s3) = server() else { return };
    for server in fixture::database::servers() {
        let project = fixture::database::Server::project();
        let bucket = format!("{project}-bucket");
        s3.make(&bucket);
        let storage =
            format!("storage = {{ engine = \"{}\", url = {{ env = \"DATABASE\" }}, tls = \"disable\" }}\n", server.engine());
        let mut world = world(s3, &project, &format!("bucket = \"{bucket}\""));
        world.manifest(&format!("{}{storage}", manifest(&project, &format!("bucket = \"{bucket}\""))));
        world.set("DATABASE", &server.root());
        world.apply();
        let prefix = format!("{project}-dev-0b9cbf71-5c3d-4bd5-9d44-2a8a2c3c7e10/");
        s3.put(&bucket, &format!("{prefix}a"), b"x");
        // A database that stays needs its objects, so nothing offers to remove them.
        let kept = world.run_expecting(0, &["destroy", "--allow-destroy", "dev"]);
        assert!(!kept.err.contains("remove them with\n") || kept.err.contains("stays on its server"), "{kept}");
        world.apply();
        world.assert_converged();
        let destroyed = world.run_expecting(0, &["destroy", "--allow-destroy", "dev", "--with-database"]);
        assert!(destroyed.err.contains(&format!("under `{prefix}`")), "{destroyed}");
        assert_eq!(s3.keys(&bucket).unwrap(), [format!("{prefix}a")]);
    }
}

/// The rows by which Convex says where its files are: the table of tables, and in it the one document of `_db`.
fn name_prefix(server: &fixture::database::Server, database: &str, prefix: &str) {
    let is_mysql = server.engine() == "mysql";
    let (bytes, blob, text) = if is_mysql { ("BINARY(16)", "LONGBLOB", "VARCHAR(255)") } else { ("BYTEA", "BYTEA", "TEXT") };
    let id = |number: u8| match is_mysql {
        true => format!("X'{}'", format!("{number:02x}").repeat(16)),
        false => format!("decode('{}', 'hex')", format!("{number:02x}").repeat(16)),
    };
    let json = |text: &str| if is_mysql { format!("'{text}'") } else { format!("convert_to('{text}', 'UTF8')") };
    let key = if is_mysql { "`key`" } else { "key" };
    let globals = format!("CREATE TABLE IF NOT EXISTS persistence_globals ({key} {text} PRIMARY KEY, json_value {blob})");
    let documents = format!(
        "CREATE TABLE IF NOT EXISTS documents (id {bytes} NOT NULL, ts BIGINT NOT NULL, table_id {bytes} NOT NULL,
         json_value {blob} NOT NULL, deleted BOOLEAN DEFAULT false, prev_ts BIGINT)"
    );
    let tables = json("\"AQEBAQEBAQEBAQEBAQEBAQ\"");
    let storage = format!(r#"{{"storageType":{{"tag":"s3","s3Prefix":"{prefix}"}}}}"#);
    for sql in [
        globals,
        documents,
        "DELETE FROM persistence_globals".to_owned(),
        format!("INSERT INTO persistence_globals VALUES ('tables_table_id', {tables})"),
        format!(
            "INSERT INTO documents (id, ts, table_id, json_value, deleted) VALUES ({}, 1, {}, {}, false)",
            id(2),
            id(1),
            json(r#"{"name":"_db","state":"active"}"#)
        ),
        format!(
            "INSERT INTO documents (id, ts, table_id, json_value, deleted) VALUES ({}, 1, {}, {}, false)",
            id(3),
            id(2),
            json(&storage)
        ),
    ] {
        server.sql(database, &sql);
    }
}

#[test]
fn objects_under_the_prefix_that_a_database_names_go_with_it_where_that_is_asked_for() {
    let Some(s3) = server() else { return };
    for server in fixture::database::servers() {
        let project = fixture::database::Server::project();
        let bucket = format!("{project}-bucket");
        s3.make(&bucket);
        let storage =
            format!("storage = {{ engine = \"{}\", url = {{ env = \"DATABASE\" }}, tls = \"disable\" }}\n", server.engine());
        let mut world = world(s3, &project, &format!("bucket = \"{bucket}\""));
        world.manifest(&format!("{}{storage}", manifest(&project, &format!("bucket = \"{bucket}\""))));
        world.set("DATABASE", &server.root());
        world.apply();
        world.run_expecting(0, &["stop", "dev"]);
        let own = format!("{project}-dev-0b9cbf71-5c3d-4bd5-9d44-2a8a2c3c7e10/");
        let other = format!("{project}-dev-1b9cbf71-5c3d-4bd5-9d44-2a8a2c3c7e10/");
        name_prefix(server, &format!("{project}_dev"), &own);
        // More than one page, and objects under other prefixes, which stay.
        for number in 0..1003 {
            s3.put(&bucket, &format!("{own}{number}"), b"x");
        }
        let theirs = [format!("{other}a"), format!("{project}-dev-notes")];
        theirs.iter().for_each(|key| s3.put(&bucket, key, b"x"));
        let words = ["destroy", "--allow-destroy", "dev", "--with-database", "--with-files"];
        world.run_expecting(64, &["destroy", "--allow-destroy", "dev", "--with-files"]);
        // A kill between the objects and the database is repaired by the same command.
        world.set("CONVEXINFRA_FAULT", "database.dropped:1");
        let killed = world.run(&words);
        world.unset("CONVEXINFRA_FAULT");
        assert!(!killed.status.success(), "{killed}");
        let destroyed = world.run_expecting(0, &words);
        assert_eq!(s3.keys(&bucket).unwrap(), theirs, "{killed}\n{destroyed}");
        assert!(killed.err.contains("1003 objects under"), "{killed}");
        assert!(!server.has(&format!("{project}_dev")), "{destroyed}");
        assert!(world.names().is_empty());
    }
}
