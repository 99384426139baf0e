//! `server check`: what is true of a server, and nothing changed there.

use serde_json::Value;

use crate::lab::{Laptop, OwnSshd};
use crate::lab_or_skip;

fn codes(document: &Value) -> Vec<&str> {
    document["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn a_server_is_described_and_left_as_it_is() {
    let lab = lab_or_skip!();
    let laptop = Laptop::new(lab);
    let open = format!("{}-open", laptop.name);
    let label = format!("convexinfra.project={}", laptop.name);
    let words = ["run", "-d", "--name", &open, "--label", &label, "-p", "8099:8099", "--entrypoint", "caddy"];
    lab.engine.docker(&[&words[..], &["convexinfra-test/proxy:one", "respond", "--listen", ":8099"]].concat());
    let before = laptop.everything();

    let checked = laptop.world.run_expecting(0, &["server", "check", "shop", "--json"]).document();
    let facts = &checked["facts"];
    assert_eq!(checked["format"], "convexinfra.server_check/1");
    assert_eq!(facts["address"], lab.read("address"));
    assert_eq!(facts["way"], "socket");
    assert!(
        facts["engine"].is_string() && facts["memory"].as_u64() > Some(0) && facts["disk_free"].as_u64() > Some(0),
        "{facts}"
    );
    assert!(facts["clock_ahead"].as_i64().unwrap().abs() < 30, "{facts}");
    let findings = checked["findings"].to_string();
    assert!(
        codes(&checked).contains(&"server.port_public") && findings.contains(&open) && findings.contains("8099"),
        "{findings}"
    );

    // Hosts that lead nowhere are said, with the record to set.
    laptop.manifest("host = \"shop\"\n", &format!("domain = \"{}.test\"\n", laptop.name));
    let checked = laptop.world.run_expecting(0, &["server", "check", "shop", "--json"]).document();
    assert!(codes(&checked).contains(&"dns.missing") && checked.to_string().contains(&lab.read("address")), "{checked:#}");
    let text = laptop.world.run_expecting(0, &["server", "check", "shop"]);
    assert!(text.out.contains("engine") && text.err.contains("[dns.missing]"), "{text}");
    assert!(text.err.contains("warning: ") && !text.err.contains("error: "), "what blocks nothing is no error: {text}");

    let unknown = laptop.world.run_expecting(64, &["server", "check", "hetzner"]);
    assert!(unknown.to_string().contains("server.unknown"), "{unknown}");
    assert_eq!(laptop.everything(), before);
    laptop.assert_disconnected();
}

#[test]
fn a_server_that_is_not_reached_is_no_server_without_findings() {
    let lab = lab_or_skip!();
    let sshd = OwnSshd::new(lab, "AllowStreamLocalForwarding no\n");
    let laptop =
        Laptop::with(lab, &format!("host = \"shop\"\nport = {}\nhost_key = \"{}\"\n", sshd.port, lab.public_key("host_key")));
    let checked = laptop.world.run_expecting(0, &["server", "check", "shop", "--json"]).document();
    assert_eq!(checked["facts"]["way"], "dial-stdio");
    let (host, key) = (lab.read("address"), lab.path("wrong_key"));
    let server = format!("host = \"root@{host}\"\nhost_key = \"{}\"\nidentity = \"{key}\"\n", lab.public_key("host_key"));
    let laptop = Laptop::with(lab, &server);
    let refused = laptop.world.run_expecting(69, &["server", "check", "shop", "--json"]);
    assert!(refused.to_string().contains("ssh.auth_refused"), "{refused}");
}
