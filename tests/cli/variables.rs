//! The variables of a backend: those that others set, those that Convex would not take, and those of S3.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::scenario::ONE;
use fixture::{ProjectFixture, changes, refusals};

#[test]
fn unmanaged_variables_are_shown_and_left_alone() {
    use convexinfra::convex::deployment::{Deployment, DeploymentClient, EnvironmentChange};
    use convexinfra::model::Secret;

    let world = ProjectFixture::new(&format!("{ONE}env = {{ OURS = \"1\" }}\n"));
    world.apply();
    let (url, key) = world.coordinates(".env.local");
    let deployment = Deployment::new(&DeploymentClient::default(), url, Some(Secret::new(key)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let theirs = EnvironmentChange { name: "THEIRS".to_owned(), value: Some(Secret::new("their-own-value")) };
    runtime.block_on(deployment.change_environment(&[theirs])).unwrap();

    world.assert_converged();
    let plan = world.run_expecting(0, &["plan", "--json"]).document();
    assert_eq!(plan["lints"][0]["code"], "plan.other_variables", "{plan:#}");
    assert_eq!(world.status()["backends"][0]["other_variables"], serde_json::json!(["THEIRS"]));
    for words in [["plan"], ["status"], ["drift"]] {
        let run = world.run_expecting(0, &words);
        assert!(run.out.contains("THEIRS") && !run.out.contains("their-own-value") && !run.out.contains("OURS"), "{run}");
    }
    world.manifest(&format!("{ONE}env = {{ OURS = \"2\", ALSO = \"3\" }}\n"));
    world.apply();
    let names: Vec<String> = runtime.block_on(deployment.environment()).unwrap().into_keys().collect();
    assert_eq!(names, ["ALSO", "OURS", "THEIRS"]);
    // Once it is named it is ours, and goes with its name.
    world.manifest(&format!("{ONE}env = {{ THEIRS = \"4\" }}\n"));
    world.apply();
    world.manifest(&format!("{ONE}env = {{ OURS = \"5\" }}\n"));
    world.apply();
    let names: Vec<String> = runtime.block_on(deployment.environment()).unwrap().into_keys().collect();
    assert_eq!(names, ["OURS"]);
    world.assert_converged();
}

#[test]
fn values_that_convex_would_not_take_are_refused_before_anything_is_begun() {
    let mut world = ProjectFixture::new(&format!("{ONE}env = {{ LARGE = {{ env = \"LARGE\" }} }}\n"));
    world.set("LARGE", &"x".repeat(8_193));
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    assert_eq!(refusals(&plan), ["plan.value_unusable"]);
    assert!(plan["refusals"][0]["message"].as_str().unwrap().contains("8193 bytes, and 8192 are allowed"), "{plan:#}");
    world.run_expecting(4, &["apply", "--yes"]);
    assert!(world.names().is_empty());
    world.set("LARGE", &"x".repeat(8_192));
    world.apply();
    world.assert_converged();

    let many: String = (0..70).map(|number| format!("V{number} = {{ env = \"LARGE\" }}\n")).collect();
    world.manifest(&format!("{ONE}\n[backends.dev.env]\n{many}"));
    let plan = world.run_expecting(4, &["plan", "--json"]).document();
    assert_eq!(refusals(&plan), ["plan.value_unusable"]);
    assert!(plan["refusals"][0]["message"].as_str().unwrap().contains("524288 are allowed"), "{plan:#}");
}

#[test]
fn files_in_s3_come_with_all_their_variables_and_stay_there() {
    let s3 = "files = { engine = \"s3\", bucket_prefix = \"gremlin\", region = \"auto\", endpoint = { env = \"ENDPOINT\" }, \
              path_style = true, access_key_id = { env = \"KEY_ID\" }, secret_access_key = { env = \"KEY\" } }\n";
    let mut world = ProjectFixture::new(&format!("{ONE}{s3}"));
    world.set("ENDPOINT", "https://s3.example.com");
    world.set("KEY_ID", "key-id");
    world.set("KEY", "secret-access-key");
    world.apply();
    world.assert_reachable(".env.local", "gremlin-dev");
    world.assert_converged();
    #[cfg(target_os = "linux")]
    {
        let pid = world.pid("gremlin-dev").unwrap().as_raw_nonzero();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let set: std::collections::BTreeSet<&str> =
            environment.split('\0').filter(|line| line.contains("S3_") || line.contains("AWS_")).collect();
        let expected = [
            "AWS_ACCESS_KEY_ID=key-id",
            "AWS_REGION=auto",
            "AWS_S3_FORCE_PATH_STYLE=true",
            "AWS_SECRET_ACCESS_KEY=secret-access-key",
            "S3_ENDPOINT_URL=https://s3.example.com",
            "S3_STORAGE_EXPORTS_BUCKET=gremlin-exports",
            "S3_STORAGE_FILES_BUCKET=gremlin-files",
            "S3_STORAGE_MODULES_BUCKET=gremlin-modules",
            "S3_STORAGE_SEARCH_BUCKET=gremlin-search",
            "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET=gremlin-snapshot-imports",
        ];
        assert_eq!(set, expected.into());
    }
    // Other credentials are a restart; another place is refused, and so is a folder.
    world.set("KEY", "another-access-key");
    assert_eq!(changes(&world.plan(), "update:backend.dev"), [("files.secret_access_key".to_owned(), "restart".to_owned())]);
    world.apply();
    world.assert_converged();
    world.set("ENDPOINT", "https://elsewhere.example.com");
    assert_eq!(refusals(&world.plan()), ["plan.moves_data"]);
    world.manifest(ONE);
    assert_eq!(refusals(&world.plan()), ["plan.moves_data"]);
    // Without credentials the machine's role counts, and nothing is left of the old ones.
    world.set("ENDPOINT", "https://s3.example.com");
    let by_role =
        "files = { engine = \"s3\", bucket_prefix = \"gremlin\", region = \"auto\", endpoint = { env = \"ENDPOINT\" } }\n";
    world.manifest(&format!("{ONE}{by_role}"));
    world.apply();
    world.assert_converged();

    let local = ProjectFixture::new(ONE);
    local.apply();
    local.manifest(&format!("{ONE}files = {{ engine = \"s3\", bucket = \"gremlin\", region = \"auto\" }}\n"));
    assert_eq!(refusals(&local.plan()), ["plan.moves_data"]);
}
