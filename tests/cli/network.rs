//! What is said about ways that do not work from this machine: URLs that do not lead to a backend, certificates that are
//! missing, proxies in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use fixture::{ProjectFixture, get};

fn behind(origin: &str) -> String {
    format!(
        "project = \"p\"\n[backends.dev]\nprovider = \"simulated\"\norigins = {{ api = \"{origin}\", site = \"{origin}/http\" }}\n"
    )
}

#[test]
fn a_url_that_does_not_lead_to_a_backend_is_not_called_ready() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let origin = format!("http://{closed}");
    let world = ProjectFixture::new(&behind(&origin));
    let run = world.apply();
    let line = run.out.lines().find(|line| line.starts_with("`dev`")).expect("nothing is said of the backend").to_owned();
    let (at, rest) = line.split_once("; ").unwrap_or_else(|| panic!("{line}"));
    let url = at.strip_prefix("`dev` is ready at ").unwrap();
    assert_eq!(get(&format!("{url}/instance_name")).1.trim(), "p-dev");
    assert!(rest.starts_with(&format!("{origin} was not reached from here: ")) && rest.contains("refused"), "{line}");
    world.assert_converged();
    // Programs are told in fields of their own, and waiting for it says so as well.
    let wait = world.run_expecting(0, &["wait", "dev", "--json"]).events().pop().unwrap();
    let backend = &wait["backends"][0];
    assert_eq!((&backend["url"], &backend["reached_at"]), (&origin.as_str().into(), &url.into()), "{wait:#}");
    assert!(backend["unreached"].as_str().unwrap().contains("refused"), "{wait:#}");
    // Once it leads there, nothing is said any more.
    world.manifest(&behind(url));
    assert!(world.apply().out.contains(&format!("`dev` is ready at {url}\n")));
    let provisioned = world.run_expecting(0, &["provision", "dev", "--json"]).document();
    assert_eq!(provisioned["unreached"], serde_json::Value::Null, "{provisioned:#}");
}

#[test]
fn a_machine_without_certificates_is_told_what_to_install() {
    let remote = "[control_plane]\nurl = \"https://127.0.0.1:1\"\n[backends.dev]\nprovider = \"simulated\"\n";
    for (name, manifest, variables) in [
        ("fly", "[backends.dev]\nprovider = \"fly\"\nregion = \"iad\"\n", &[("FLY_API_TOKEN", "x")][..]),
        (
            "a release",
            "[backends.dev]\nprovider = \"local\"\nrelease = \"precompiled-2026-08-21-652b828\"\n",
            &[("CONVEXINFRA_RELEASES_URL", "https://127.0.0.1:1")],
        ),
        ("a control plane", remote, &[("CONVEXINFRA_TOKEN", "x"), ("CONVEXINFRA_CONTROL_PLANE", "https://127.0.0.1:1")]),
    ] {
        let mut world = ProjectFixture::new(&format!("project = \"p\"\n{manifest}"));
        world.set("SSL_CERT_FILE", "/dev/null");
        for (variable, value) in variables {
            world.set(variable, value);
        }
        let run = world.run(&["apply", "--yes"]);
        assert!(run.code() != 0 && run.err.contains("ca-certificates") && run.err.contains("SSL_CERT_FILE"), "{name}: {run}");
        assert!(!run.err.contains("builder error") && run.err.contains("local.no_authorities"), "{name}: {run}");
    }
    let mut world = ProjectFixture::new(&behind("https://api.example.com"));
    world.set("SSL_CERT_FILE", "/dev/null");
    let run = world.apply();
    assert!(run.out.contains("was not reached from here") && run.out.contains("ca-certificates"), "{run}");
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let proxy = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = write!(stream, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let mut world = ProjectFixture::new(&behind("https://api.example.com"));
    for variable in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        world.set(variable, &format!("http://me:hunter2@{proxy}"));
    }
    // The backend itself is on this machine, where no proxy is asked.
    let run = world.apply();
    assert!(run.out.contains(&format!("through the proxy http://{proxy}")) && run.out.contains("NO_PROXY"), "{run}");
    assert!(!run.out.contains("hunter2") && !run.err.contains("hunter2"), "{run}");
    world.assert_converged();
}
