//! Where secrets may be: in the env file that asked for them, sealed in the store, and nowhere else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;

use super::bad_environment::ONE;
use fixture::{ProjectFixture, walk};

/// A project with secrets in every place that takes one.
#[test]
fn secrets_are_only_where_they_belong() {
    const FROM_ENV: &str = "hunter2-from-the-environment";
    const FROM_FILE: &str = "hunter2-from-a-file";
    const NEXT: &str = "hunter2-the-second";
    let mut world = ProjectFixture::new(&format!(
        "{ONE}env_file = \".env.local\"\n\n[backends.dev.env]\nTOKEN = {{ env = \"TOKEN\" }}\nOTHER = {{ file = \"../other.txt\" }}\n\n\
         [backends.real]\nprovider = \"local\"\n\n[backends.real.env]\nTOKEN = {{ env = \"TOKEN\" }}\n\n[backends.real.local]\nbinary = \"../broken\"\n"
    ));
    fs::write(world.root().join("other.txt"), FROM_FILE).unwrap();
    // A binary that says all that it was given before it fails, as a bad one would.
    fixture::script(&world.root(), "broken", "exit 7");
    world.set("TOKEN", FROM_ENV);
    let mut said = vec![
        world.run(&["plan"]),
        world.run(&["plan", "--json", "--out", "saved.json"]),
        world.run(&["plan", "--markdown"]),
        world.run_expecting(1, &["apply", "--yes", "--json", "--json-into", "events.json"]),
        world.run_expecting(1, &["apply", "--yes"]),
    ];
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["drift", "--json"],
        &["log"],
        &["log", "--json"],
        &["graph"],
        &["logs", "dev"],
        &["logs", "real"],
    ] {
        said.push(world.run(words));
    }
    world.set("TOKEN", NEXT);
    for words in [
        &["plan"][..],
        &["plan", "--json", "--out", "saved-2.json"],
        &["apply", "--yes", "--json"],
        &["apply", "--plan", "saved.json"],
    ] {
        said.push(world.run(words));
    }
    world.kill("gremlin-dev");
    said.push(world.run(&["drift"]));
    said.push(world.run(&["provision", "dev", "--json"]));
    world.run_expecting(0, &["env", "dev"]);
    let (_, key) = world.assert_reachable(".env.local", "gremlin-dev");
    let hex = key.split_once('|').unwrap().1.to_owned();

    // The instance secret is in nobody's hands but the backend's: it is read where only its owner can.
    let pid = world.pid("gremlin-dev").unwrap().as_raw_nonzero();
    let instance = cfg!(target_os = "linux").then(|| {
        let environment = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned();
        let secret = environment.split('\0').find_map(|pair| pair.strip_prefix("INSTANCE_SECRET=").map(str::to_owned));
        secret.unwrap_or_else(|| panic!("{environment:?}"))
    });
    let master = fs::read_to_string(world.home.join("master.key")).unwrap().trim().to_owned();
    let mut secrets = vec![FROM_ENV, FROM_FILE, NEXT, key.as_str(), hex.as_str(), master.as_str()];
    secrets.extend(instance.as_deref());

    for run in &said {
        for secret in &secrets {
            assert!(!run.out.contains(secret) && !run.err.contains(secret), "a secret is said: {run}");
        }
    }
    for (_, words) in world.processes() {
        assert!(secrets.iter().all(|secret| !words.contains(secret)), "{words}");
    }
    let mut files = 0;
    walk(&world.root(), &mut |path| {
        let name = path.strip_prefix(world.root()).unwrap().display().to_string();
        let Ok(content) = fs::read(path) else { return };
        files += 1;
        for secret in &secrets {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            let belongs = match name.as_str() {
                "other.txt" => *secret == FROM_FILE,
                "project/.env.local" => key.contains(secret),
                "home/master.key" => *secret == master,
                // What the deployment was told to keep is kept by the deployment.
                name => name.contains("/data/") && [FROM_ENV, FROM_FILE, NEXT].contains(secret),
            };
            assert!(!found || belongs, "{name} holds a secret");
        }
    });
    assert!(files > 8);
}
