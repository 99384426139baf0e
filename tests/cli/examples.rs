//! Every example is valid and plans; what can run here is applied, in a copy.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use fixture::CliFixture;

/// What planning an example comes to in the control plane of this machine.
enum Comes {
    /// All of it can be applied, and is.
    Applied,
    /// All of it can be applied, but needs something that is not here.
    Planned,
    /// Every backend is refused, because its provider is not available yet.
    RefusedFor(&'static str),
    /// It is for a control plane that cannot be reached.
    Elsewhere,
}

const EXAMPLES: [(&str, Comes); 9] = [
    ("database-server", Comes::Planned),
    ("docker", Comes::Planned),
    ("fly", Comes::RefusedFor("fly")),
    ("kubernetes", Comes::Planned),
    ("local-binary", Comes::Planned),
    ("monorepo", Comes::Applied),
    ("postgres-docker", Comes::Planned),
    ("quickstart", Comes::Applied),
    ("team", Comes::Elsewhere),
];

#[test]
fn every_example_is_known_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // There is no manifest in these: `listening.rs` checks the unit and the compose file, `papers.rs` the workflows.
    found.retain(|name| !matches!(name.as_str(), "ci" | "server"));
    found.sort();
    assert_eq!(found, EXAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn every_example_is_valid_and_plans() {
    for (name, comes) in &EXAMPLES {
        let cli = CliFixture::with_example(name);
        if cli.read("convex.toml").contains("\"certificates/db.pem\"") {
            std::fs::create_dir(cli.folder().join("certificates")).unwrap();
            cli.write("certificates/db.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        }
        let valid = cli.run_ok("validate");
        assert!(valid.out.starts_with("`convex.toml` is valid: project `"), "{name}: {}", valid.out);
        let plan = cli.run("plan --json");
        let document: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        match comes {
            Comes::Applied | Comes::Planned => {
                assert_eq!((plan.exit, &document["refusals"]), (0, &serde_json::json!([])), "{name}");
            }
            Comes::RefusedFor(provider) => {
                assert_eq!(plan.exit, 4, "{name}");
                let refusals = document["refusals"].as_array().unwrap();
                let backends = document["summary"]["create"].as_u64().unwrap();
                assert_eq!(refusals.len() as u64, backends, "{name}: {refusals:#?}");
                for refusal in refusals {
                    assert_eq!(refusal["code"], "plan.provider_unavailable", "{name}");
                    assert!(refusal["message"].as_str().unwrap().contains(&format!("`{provider}`")), "{name}: {refusal}");
                }
            }
            Comes::Elsewhere => {
                // Nobody here has a token for it, and nothing was sent to find that out.
                assert_eq!((plan.exit, &document["errors"][0]["code"]), (77, &"auth.token_missing".into()), "{name}");
            }
        }
        assert!(!cli.home().exists(), "{name}: planning left something behind");
    }
}

#[test]
fn examples_that_can_run_here_are_applied() {
    for (name, comes) in &EXAMPLES {
        if !matches!(comes, Comes::Applied) {
            continue;
        }
        let cli = CliFixture::with_example(name);
        cli.run_ok("apply --yes");
        let again = cli.run_ok("plan --detailed-exitcode");
        assert_eq!(again.out.lines().count(), 1, "{name}: {}", again.out);
        assert_eq!(cli.run("drift").exit, 0, "{name}");
        let status: serde_json::Value = serde_json::from_str(&cli.run_ok("status --json").out).unwrap();
        let backends = status["backends"].as_array().unwrap();
        assert!(!backends.is_empty() && backends.iter().all(|backend| backend["state"] == "running"), "{name}: {status}");
        let mut words = "destroy".to_owned();
        for backend in backends {
            words.push_str(&format!(" --allow-destroy {}", backend["name"].as_str().unwrap()));
        }
        cli.run_ok(&words);
        assert!(
            fs::read_dir(cli.home().join("backends")).is_ok_and(|mut left| left.next().is_none()),
            "{name}: something is left"
        );
    }
}

#[test]
fn the_monorepo_has_an_env_file_for_each_app() {
    let cli = CliFixture::with_example("monorepo");
    cli.run_ok("apply --yes");
    for app in ["auth", "billing", "web"] {
        let text = cli.read(&format!("apps/{app}/.env.local"));
        assert!(
            text.contains("CONVEX_SELF_HOSTED_URL=http://127.0.0.1:") && text.contains(&format!("'monorepo-{app}|")),
            "{text}"
        );
        assert_eq!(text.contains("VITE_CONVEX_URL="), app == "web", "{text}");
    }
}
