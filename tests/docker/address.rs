//! Engines that are reached otherwise than through the local socket: TCP with TLS, contexts, other machines; and the
//! server that knows the commit of a release.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use super::commands::Project;
use super::crash::OwnEngine;
use super::rig::{BACKEND, DASHBOARD, REVISION};
use crate::engine_or_skip;

const BLOCKS: &str = "[backends.dev]\nprovider = \"docker\"\n[backends.dev.docker]\nIMAGE\n";

/// Certificates of a private authority for an engine on this machine and its clients.
fn certificates(folder: &Path) {
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).current_dir(folder).output().expect("`openssl` is needed for TLS");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=test"]);
    std::fs::write(folder.join("server.ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n").unwrap();
    std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for (name, key, certificate) in [("server", "server-key.pem", "server.pem"), ("client", "key.pem", "cert.pem")] {
        let (subject, request, extensions) = (format!("/CN={name}"), format!("{name}.csr"), format!("{name}.ext"));
        openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", &request, "-subj", &subject]);
        let sign = ["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"];
        openssl(&[&sign[..], &["-out", certificate, "-extfile", &extensions]].concat());
    }
}

#[test]
fn an_engine_is_reached_over_tls_and_through_a_context() {
    let shared = engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let url = format!("tcp://127.0.0.1:{port}");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let flags = [
        ("--host", url.clone()),
        ("--tlscacert", path("ca.pem")),
        ("--tlscert", path("server.pem")),
        ("--tlskey", path("server-key.pem")),
    ];
    let mut more = vec!["--tlsverify".to_owned()];
    more.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    let own = OwnEngine::with(&more);
    own.load(shared, BACKEND);

    let mut project = Project::new(shared, BLOCKS);
    project.world.set("DOCKER_HOST", &url);
    assert_eq!(project.world.run(&["apply", "--yes"]).code(), 69, "without TLS there is no answer");
    project.world.set("DOCKER_TLS_VERIFY", "1");
    project.world.set("DOCKER_CERT_PATH", &path(""));
    project.world.apply();
    project.world.assert_converged();

    // The same engine as a context of Docker's own command line.
    let configuration = tempfile::tempdir().unwrap();
    let endpoint = format!("host={url},ca={},cert={},key={}", path("ca.pem"), path("cert.pem"), path("key.pem"));
    let made = Command::new("docker")
        .args(["context", "create", "far", "--docker", &endpoint])
        .env("DOCKER_CONFIG", configuration.path())
        .env_remove("DOCKER_HOST")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        project.world.unset(name);
    }
    project.world.set("DOCKER_CONFIG", configuration.path().to_str().unwrap());
    project.world.set("DOCKER_CONTEXT", "far");
    project.world.assert_converged();
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(own.engine.everything(&project.name), Vec::<String>::new());
}

#[test]
fn an_engine_on_another_machine_needs_addresses_that_reach_it() {
    let shared = engine_or_skip!();
    // Another address than loopback counts as another machine.
    let listed = Command::new("hostname").arg("-I").output().unwrap().stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let address = listed.split_whitespace().find(|address| !address.contains(':')).expect("a machine with an address");
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let url = format!("tcp://{address}:{port}");
    let own = OwnEngine::with(&["--host".to_owned(), url.clone()]);
    own.load(shared, BACKEND);
    let mut project = Project::new(shared, BLOCKS);
    project.world.set("DOCKER_HOST", &url);
    let refused = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(refused.err.contains("[servers.NAME]") && refused.err.contains("origins.api"), "{refused}");
    assert_eq!(own.engine.everything(&project.name), Vec::<String>::new());
    let first: u16 = project.world.variables["CONVEXINFRA_FIRST_PORT"].parse().unwrap();
    let origins = format!("origins = {{ api = \"http://{address}:{first}\", site = \"http://{address}:{}\" }}", first + 1);
    project
        .manifest(&format!("{}publish = \"{address}\"\n", BLOCKS.replace("\"docker\"\n", &format!("\"docker\"\n{origins}\n"))));
    project.world.apply();
    project.world.assert_converged();
    assert_eq!(project.world.url("dev"), format!("http://{address}:{first}"));
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(own.engine.everything(&project.name), Vec::<String>::new());
}

#[test]
fn a_precompiled_release_is_turned_into_the_commit_that_images_are_tagged_with() {
    let engine = engine_or_skip!();
    let repository = format!("convexinfra-test/{}", super::rig::unique("mirror"));
    let image = format!("{repository}:{REVISION}");
    engine.docker(&["tag", BACKEND, &image]);
    let blocks = format!(
        "[backends.dev]\nprovider = \"docker\"\nrelease = \"precompiled-2026-08-22-652b828\"\n[backends.dev.docker]\n\
         image = \"{repository}\"\npull = \"never\"\n"
    );
    let mut project = Project::new(engine, &blocks);
    project.world.set("CONVEXINFRA_COMMITS_URL", "http://127.0.0.1:1/commits");
    let refused = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(refused.err.contains("first seven digits") && refused.err.contains("commits/652b828"), "{refused}");

    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    project.world.set("CONVEXINFRA_COMMITS_URL", &format!("http://{}/commits", server.local_addr().unwrap()));
    let answers = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = server.accept().unwrap();
        let mut request = [0; 2048];
        let count = stream.read(&mut request).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 40\r\nconnection: close\r\n\r\n{REVISION}").unwrap();
        String::from_utf8_lossy(&request[..count]).into_owned()
    });
    project.world.apply();
    let request = answers.join().unwrap();
    assert!(request.starts_with("GET /commits/652b828 ") && request.contains("application/vnd.github.sha"), "{request}");
    // It was asked once; after that it is known.
    project.world.set("CONVEXINFRA_COMMITS_URL", "http://127.0.0.1:1/commits");
    project.world.assert_converged();
    engine.docker(&["rm", "-f", &project.container()]);
    project.world.apply();
    project.world.assert_converged();
    let (url, _) = project.world.coordinates(".env.local");
    assert_eq!(fixture::get(&format!("{url}/version")).1, REVISION);
    engine.docker(&["rmi", &image]);
}

#[test]
fn the_url_is_the_one_address_that_ports_are_published_on() {
    let engine = engine_or_skip!();
    let blocks = |publish: &str| {
        format!("{BLOCKS}dashboard_image = \"{DASHBOARD}\"\npublish = \"{publish}\"\n")
            .replace("provider = \"docker\"\n", "provider = \"docker\"\ndashboard = true\n")
    };
    let project = Project::new(engine, &blocks("127.0.0.9"));
    let world = &project.world;
    let instance = format!("{}-dev", project.name);
    world.apply();
    world.assert_converged();
    let (url, _) = world.assert_reachable(".env.local", &instance);
    let port = url.strip_prefix("http://127.0.0.9:").unwrap_or_else(|| panic!("{url}")).to_owned();
    let told = |url: &str| {
        let seen = engine.inspect(&project.container());
        assert!(seen["Config"]["Cmd"].as_array().unwrap().contains(&url.into()), "{seen:#}");
        let dashboard = engine.inspect(&engine.container(&project.name, "dashboard"));
        let deployment = format!("NEXT_PUBLIC_DEPLOYMENT_URL={url}");
        assert!(dashboard["Config"]["Env"].as_array().unwrap().contains(&deployment.into()), "{dashboard:#}");
    };
    told(&url);

    // Another address is another URL, which the plan says and the env file gets.
    for (publish, host) in [("127.0.0.8", "127.0.0.8"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")]
    {
        project.manifest(&blocks(publish));
        let next = format!("http://{host}:{port}");
        let plan = world.plan();
        let changes: Vec<&serde_json::Value> =
            plan["steps"].as_array().unwrap().iter().flat_map(|step| step["changes"].as_array().unwrap()).collect();
        let change = |path: &str| changes.iter().find(|change| change["path"] == path).unwrap_or_else(|| panic!("{plan:#}"));
        assert_eq!(
            (&change("docker.publish")["after"], &change("docker.publish")["effect"]),
            (&publish.into(), &"restart".into())
        );
        assert_eq!(change("CONVEX_SELF_HOSTED_URL")["after"], next.as_str());
        world.apply();
        world.assert_converged();
        assert_eq!(world.assert_reachable(".env.local", &instance).0, next);
        told(&next);
    }

    // All addresses are reached as before.
    project.manifest(&blocks("0.0.0.0"));
    assert!(!world.plan().to_string().contains("CONVEX_SELF_HOSTED_URL"), "{:#}", world.plan());
    world.apply();
    world.assert_converged();
}

#[test]
fn an_address_that_leads_to_no_engine_is_refused_before_anything_is_recorded() {
    let engine = engine_or_skip!();
    let mut project = Project::new(engine, BLOCKS);
    for (address, words) in [("bogus", "unix:///var/run/docker.sock"), ("ssh://somebody@far", "[servers.NAME]")] {
        project.world.set("DOCKER_HOST", address);
        let refused = project.world.run_expecting(4, &["apply", "--yes"]);
        assert!(refused.err.contains(address) && refused.err.contains(words), "{refused}");
        assert_eq!(project.world.names(), Vec::<String>::new(), "{address}");
    }
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    project.world.set("DOCKER_HOST", &format!("tcp://127.0.0.1:{port}"));
    let planned = project.world.run_expecting(0, &["plan"]);
    let said = planned.to_string();
    assert!(said.contains("[docker.unseen]") && said.contains("Connection refused"), "{said}");
    let refused = project.world.run_expecting(69, &["apply", "--yes"]);
    assert!(refused.err.contains("Connection refused") && !refused.err.contains("hyper"), "{refused}");
}
