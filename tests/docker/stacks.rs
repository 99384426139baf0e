//! Set-ups that people run, each as its compose file starts it: all that the next apply does not keep of it was said
//! when it was imported.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::commands::Project;
use super::rig::{BACKEND, Engine, POSTGRES, unique};
use super::stack_list::{STACKS, Stack};
use crate::engine_or_skip;

/// What a run makes for its containers.
struct Surroundings {
    edge: String,
    back: String,
    folder: tempfile::TempDir,
    volumes: Vec<String>,
}

impl Surroundings {
    fn new(engine: &Engine) -> Self {
        let (edge, back) = (unique("edge"), unique("back"));
        for network in [&edge, &back] {
            engine.docker(&["network", "create", network]);
        }
        Self { edge, back, folder: tempfile::tempdir().unwrap(), volumes: Vec::new() }
    }

    /// Starts a service as compose does, and waits until it answers.
    fn start(&mut self, engine: &Engine, stack: &Stack) -> String {
        let name = unique(stack.name);
        let (api, site) = fixture::free_ports();
        let folder = self.folder.path().display().to_string();
        // A volume has no slashes in its name.
        let volume = folder.trim_start_matches('/').replace('/', "-");
        let word = |word: &&str| {
            let word = word.replace("FOLDER-", &format!("{volume}-")).replace("FOLDER", &folder);
            let word = word.replace("EDGE", &self.edge);
            let word = if word == "BACK" { self.back.clone() } else { word };
            word.replace("API:", &format!("{api}:"))
                .replace("SITE:", &format!("{site}:"))
                .replace(":API", &format!(":{api}"))
                .replace(":SITE", &format!(":{site}"))
        };
        let data = format!("{name}-data");
        let mut words: Vec<String> =
            ["run", "-d", "--name", &name, "-v", &format!("{data}:/convex/data")].map(str::to_owned).into();
        let project = format!("com.docker.compose.project={}", unique("composed"));
        words.extend(["--label", &project, "--label", "com.docker.compose.service=backend"].map(str::to_owned));
        words.extend(stack.run.iter().map(word));
        words.push(BACKEND.to_owned());
        words.extend(stack.command.iter().map(|word| (*word).to_owned()));
        engine.docker(&words.iter().map(String::as_str).collect::<Vec<_>>());
        self.volumes.extend([data, format!("{volume}-backups")]);
        engine
            .until("it answers", |engine| engine.try_docker(&["exec", &name, "curl", "-fsS", "http://127.0.0.1:3210/version"]));
        name
    }

    /// Starts the database server of a stack, which nothing but its network knows.
    fn start_postgres(&mut self, engine: &Engine) -> String {
        let password = self.folder.path().join("password");
        fs::write(&password, "hunter2").unwrap();
        let (name, data) = (unique("postgres"), unique("postgres-data"));
        let secret = format!("{}:/password:ro", password.display());
        let volume = format!("{data}:/var/lib/postgresql/data");
        let mut words =
            vec!["run", "-d", "--name", &name, "--network", &self.back, "--network-alias", "postgres", "-v", &volume];
        words.extend(["-v", &secret]);
        for variable in [
            "POSTGRES_USER=convex",
            "POSTGRES_DB=stack_pg",
            "POSTGRES_PASSWORD_FILE=/password",
            "PGDATA=/var/lib/postgresql/data/pgdata",
        ] {
            words.extend(["-e", variable]);
        }
        words.push(POSTGRES);
        engine.docker(&words);
        self.volumes.push(data);
        engine.until("the database is ready", |engine| {
            engine.try_docker(&["exec", &name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "convex", "-d", "stack_pg"])
        });
        name
    }
}

/// What a container is, by the words with which an import names it.
fn settings(seen: &Value) -> Vec<(&'static str, Value)> {
    let (config, host) = (&seen["Config"], &seen["HostConfig"]);
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => json!(null),
        Value::Array(list) if list.is_empty() => json!(null),
        Value::Object(entries) if entries.is_empty() => json!(null),
        Value::String(text) if text.is_empty() => json!(null),
        Value::Number(number) if number.as_i64() == Some(0) => json!(null),
        other => other.clone(),
    };
    let labels: serde_json::Map<String, Value> = config["Labels"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| {
            !["com.docker.compose.", "convexinfra.", "org.opencontainers."].iter().any(|ours| name.starts_with(ours))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mounts: BTreeSet<&str> =
        seen["Mounts"].as_array().unwrap().iter().map(|mount| mount["Destination"].as_str().unwrap()).collect();
    let networks: BTreeSet<&String> = seen["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    let mut all = vec![("labels", json!(labels)), ("mounts", json!(mounts)), ("network", json!(networks))];
    for (word, value) in [
        ("extra_hosts", &host["ExtraHosts"]),
        ("dns", &host["Dns"]),
        ("dns_search", &host["DnsSearch"]),
        ("ulimits", &host["Ulimits"]),
        ("sysctls", &host["Sysctls"]),
        ("shm_size", &host["ShmSize"]),
        ("resources.memory", &host["Memory"]),
        ("resources.cpus", &host["NanoCpus"]),
        ("user", &config["User"]),
    ] {
        all.push((word, empty(value)));
    }
    all
}

#[test]
fn nothing_of_the_stacks_is_lost_unsaid() {
    let engine = engine_or_skip!();
    let mut project = Project::new(engine, "");
    let mut around = Surroundings::new(engine);
    project.world.set("STACK_URL", "postgresql://convex:hunter2@postgres:5432");
    for (variable, value) in [
        ("RUST_BACKTRACE", "1"),
        ("SERVICE_FQDN_BACKEND_3210", "https://api.coolify.example"),
        ("JWKS", "{\"keys\":[{\"kty\":\"RSA\"}]}"),
        ("JWT_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"),
        ("NEXT_PUBLIC_CONVEX_URL", "http://127.0.0.1:3210"),
        ("AWS_S3_DISABLE_SSE", "true"),
        ("STACK_KEY_ID", "minio"),
        ("STACK_KEY", "hunter2"),
    ] {
        project.world.set(variable, value);
    }
    let postgres = around.start_postgres(engine);
    let block = |stack: &Stack, own: &str, docker: &str| {
        format!(
            "[backends.{0}]\nprovider = \"docker\"\nenv_file = \"{0}.env\"\n{1}{own}[backends.{0}.docker]\nIMAGE\n{docker}",
            stack.name, stack.manifest
        )
    };
    project.manifest(&STACKS.iter().map(|stack| block(stack, "", "")).collect::<String>());
    let mut before = Vec::new();
    let mut blocks = String::new();
    for stack in &STACKS {
        let name = around.start(engine, stack);
        engine.docker(&["exec", &name, "sh", "-c", "echo kept > /convex/data/mark"]);
        let told = project.world.run_expecting(0, &["import", stack.name, "--container", &name, "--json"]).document();
        let notices: String = told["notices"].as_array().unwrap().iter().map(|notice| notice.as_str().unwrap()).collect();
        for words in stack.said {
            assert!(notices.contains(words), "{}: {words} is not said: {notices}", stack.name);
        }
        assert!(!notices.contains("hunter2") && !notices.contains("4361726e"), "{}: {notices}", stack.name);
        let own: String = told["not_kept"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, value)| format!("{path} = {}\n", value.as_str().unwrap()))
            .collect();
        let docker: String =
            told["not_kept_docker"].as_array().unwrap().iter().map(|line| format!("{}\n", line.as_str().unwrap())).collect();
        blocks.push_str(&block(stack, &own, &docker));
        before.push((stack, settings(&engine.inspect(&name)), notices));
    }
    // With the lines that were printed, the next apply keeps all but what was named.
    project.manifest(&blocks);
    project.world.apply();
    project.world.assert_converged();
    for (stack, before, notices) in before {
        let filter = format!("label=convexinfra.backend={}", stack.name);
        let project_filter = format!("label=convexinfra.project={}", project.name);
        let id = engine.docker(&[
            "ps",
            "-q",
            "--filter",
            &filter,
            "--filter",
            &project_filter,
            "--filter",
            "label=convexinfra.role=backend",
        ]);
        assert_eq!(engine.docker(&["exec", &id, "cat", "/convex/data/mark"]), "kept", "{}", stack.name);
        let after = settings(&engine.inspect(&id));
        for ((word, was), (_, is)) in before.iter().zip(&after) {
            let dropped = format!("`{word}`");
            assert!(was == is || notices.contains(&dropped), "{}: {word} was {was}, is {is}, and nothing was said", stack.name);
        }
    }
    let names: Vec<&str> = STACKS.iter().map(|stack| stack.name).collect();
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", &names.join(",")]);
    engine.docker(&["rm", "-fv", &postgres]);
    for volume in &around.volumes {
        engine.try_docker(&["volume", "rm", volume]);
    }
    for network in [&around.edge, &around.back] {
        engine.docker(&["network", "rm", network]);
    }
}
