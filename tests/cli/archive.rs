//! A backend's data in a file: what is in it, and what is never touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;

use fixture::ProjectFixture;

const MANIFEST: &str = "project = \"gremlin\"\n[backends.dev]\nprovider = \"simulated\"\nenv_file = \".env.local\"\n";

/// Adds documents to a table of the backend that `.env.local` points to.
pub(crate) fn import(world: &ProjectFixture, table: &str, lines: &str) {
    let (url, key) = world.coordinates(".env.local");
    let url = format!("{url}/api/import?format=jsonLines&mode=append&tableName={table}");
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
    let request = request.header("Authorization", format!("Convex {key}")).body(lines.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(request.send()).unwrap().status().is_success());
}

#[test]
fn an_archive_holds_every_document_and_replaces_no_file() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    import(&world, "messages", "{\"body\":\"one\"}\n{\"body\":\"two\"}\n");
    let run = world.run_expecting(0, &["archive", "dev", "--out", "dev.zip", "--json"]);
    let document = run.document();
    assert_eq!(document["format"], "convexinfra.archive/1", "{run}");
    assert_eq!(document["tables"], serde_json::json!([{ "name": "messages", "documents": 2 }]), "{run}");
    let file = world.folder.join("dev.zip");
    assert_eq!(document["bytes"], std::fs::metadata(&file).unwrap().len(), "{run}");
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&file).unwrap()).unwrap();
    let mut lines = String::new();
    zip.by_name("messages/documents.jsonl").unwrap().read_to_string(&mut lines).unwrap();
    assert!(lines.contains("\"one\"") && lines.contains("\"two\""), "{lines}");

    let before = std::fs::read(&file).unwrap();
    let refused = world.run_expecting(4, &["archive", "dev", "--out", "dev.zip", "--json"]);
    assert_eq!(refused.errors(), ["archive.exists"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let run = world.run_expecting(0, &["archive", "--out", "again.zip"]);
    assert!(run.out.starts_with("`again.zip` holds 2 documents in 1 table and 0 files of `dev`, as of "), "{run}");
    world.assert_converged();
}

#[test]
fn a_backend_that_does_not_answer_leaves_no_file() {
    let world = ProjectFixture::new(MANIFEST);
    world.apply();
    world.run_expecting(0, &["stop", "dev"]);
    let run = world.run_expecting(69, &["archive", "dev", "--out", "dev.zip", "--json"]);
    assert_eq!(run.errors(), ["archive.deployment"]);
    let names: Vec<_> = std::fs::read_dir(&world.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().contains("zip") || name.to_string_lossy().contains("archive")),
        "{names:?}"
    );
}

#[test]
fn what_a_killed_command_staged_beside_its_target_is_gone_with_the_next() {
    let mut world = ProjectFixture::new(MANIFEST);
    world.git();
    world.apply();
    let staged = |world: &ProjectFixture| -> Vec<String> {
        world.file_names().into_iter().filter(|name| name.contains("/.convexinfra-") || name.contains("/.tmp")).collect()
    };
    for (point, words) in [
        ("archive.exported:1", &["archive", "dev", "--out", "dev.zip"][..]),
        ("archive.downloaded:1", &["archive", "dev", "--out", "dev.zip"]),
        ("archive.verified:1", &["archive", "dev", "--out", "dev.zip"]),
        ("plan.saving:1", &["plan", "--out", "plan.json"]),
    ] {
        world.set("CONVEXINFRA_FAULT", point);
        let killed = world.run(words);
        world.unset("CONVEXINFRA_FAULT");
        assert!(!killed.status.success() && !staged(&world).is_empty(), "{point}\n{killed}");
        world.run_expecting(0, words);
        assert_eq!(staged(&world), Vec::<String>::new(), "{point}");
        let _ = std::fs::remove_file(world.folder.join("dev.zip"));
    }
}
