//! The official npm client, unmodified, against the simulated backend.
//!
//! It needs a folder with `node_modules/convex` in `CONVEXINFRA_CONVEX_CLIENT`; with `CONVEXINFRA_REQUIRE_NPM=1` one
//! is installed where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::backend::{Backend, Place, admin_key};
use fixture::skipped;

const VERSION: &str = "1.48.0";

/// The client's program, or nothing where it is not at hand.
fn program(folder: &Path) -> Option<PathBuf> {
    let program = |folder: &Path| folder.join("node_modules/.bin/convex");
    if let Some(given) = std::env::var_os("CONVEXINFRA_CONVEX_CLIENT") {
        let program = program(Path::new(&given));
        assert!(program.exists(), "`{}` does not exist", program.display());
        return Some(program);
    }
    if !std::env::var("CONVEXINFRA_REQUIRE_NPM").is_ok_and(|value| value == "1") {
        skipped("`CONVEXINFRA_CONVEX_CLIENT` is not set, so the npm client was not tried");
        return None;
    }
    std::fs::write(folder.join("package.json"), "{}").unwrap();
    let install = ["install", "--no-audit", "--no-fund", &format!("convex@{VERSION}")];
    assert!(Command::new("npm").args(install).current_dir(folder).status().unwrap().success());
    Some(program(folder))
}

fn run(program: &Path, folder: &Path, backend: &Backend, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("CONVEX_SELF_HOSTED_URL", backend.url())
        .env("CONVEX_SELF_HOSTED_ADMIN_KEY", admin_key().expose())
        .env("CI", "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[tokio::test]
async fn the_official_client_works_unmodified() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = program(folder.path()) else { return };
    let project = folder.path();
    std::fs::write(project.join("package.json"), format!(r#"{{"dependencies":{{"convex":"{VERSION}"}}}}"#)).unwrap();
    std::fs::write(project.join("m.jsonl"), "{\"body\":\"one\"}\n{\"body\":\"two\"}\n").unwrap();
    let place = Place::new();
    let backend = place.start(&place.setup()).await;
    for (arguments, expected) in [
        (&["env", "list"][..], "No environment variables"),
        (&["env", "set", "A", "it's"], "A"),
        (&["env", "get", "A"], "it's"),
        (&["env", "list"], "A=it's"),
        (&["env", "remove", "A"], "A"),
        (&["env", "list"], "No environment variables"),
        (&["import", "--table", "messages", "m.jsonl"], "2 documents"),
        (&["data"], "messages"),
        (&["data", "messages"], "\"two\""),
        (&["export", "--path", "x.zip"], "x.zip"),
        (&["import", "--replace-all", "-y", "x.zip"], "2 documents"),
        (&["data", "messages"], "\"one\""),
    ] {
        let text = run(&program, project, &backend, arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}
