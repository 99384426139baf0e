//! What can go wrong with a connection, each with its own code, and how often a server is asked.

use std::time::{Duration, Instant};

use convexinfra::provider::{Provider as _, ProviderError};

use crate::bench::DockerFixture;
use crate::lab::{Laptop, OwnSshd};
use crate::lab_or_skip;

/// What `apply` says of a server that it does not get to, and what is made of that.
fn refused(laptop: &Laptop, code: &str) -> String {
    let run = laptop.world.run(&["apply", "--yes", "--json"]);
    assert_ne!(run.code(), 0, "{run}");
    let said = format!("{}{}", run.out, run.err);
    assert!(said.contains(code), "{code}: {run}");
    assert_eq!(laptop.everything(), Vec::<String>::new());
    laptop.assert_disconnected();
    said
}

#[test]
fn host_keys_are_never_taken_unseen() {
    let lab = lab_or_skip!();
    let config = lab.read("ssh_config");
    let known = lab.path("known_hosts");
    let mut laptop = Laptop::new(lab);
    let empty = laptop.world.root().join("known_hosts");
    std::fs::write(&empty, "").unwrap();
    laptop.configure(&config.replace(&known, empty.to_str().unwrap()));
    let said = refused(&laptop, "ssh.host_key_unknown");
    assert!(said.contains("SHA256:") && said.contains("StrictHostKeyChecking=ask"), "{said}");
    assert_eq!(std::fs::read_to_string(&empty).unwrap(), "", "a key was taken");

    // What the user's configuration allows counts for nothing.
    laptop
        .configure(&format!("StrictHostKeyChecking no\nForwardAgent yes\n{}", config.replace(&known, empty.to_str().unwrap())));
    refused(&laptop, "ssh.host_key_unknown");

    std::fs::write(&empty, format!("{} {}\n", lab.read("address"), lab.public_key("other_host_key"))).unwrap();
    refused(&laptop, "ssh.host_key_changed");

    // A pinned key needs no known hosts, and another one is refused whatever those say.
    laptop.manifest(&format!("host = \"shop\"\nhost_key = \"{}\"\n", lab.public_key("other_host_key")), "");
    refused(&laptop, "ssh.host_key_changed");
    laptop.manifest(&format!("host = \"shop\"\nhost_key = \"{}\"\n", lab.public_key("host_key")), "");
    laptop.world.apply();
    laptop.world.assert_converged();
}

#[test]
fn a_key_that_is_refused_is_offered_once() {
    let lab = lab_or_skip!();
    let sshd = OwnSshd::new(lab, "");
    let laptop =
        Laptop::with(lab, &format!("host = \"shop\"\nport = {}\nidentity = \"{}\"\n", sshd.port, lab.path("wrong_key")));
    let said = lab.public_key("host_key");
    laptop.manifest(
        &format!("host = \"shop\"\nport = {}\nidentity = \"{}\"\nhost_key = \"{said}\"\n", sshd.port, lab.path("wrong_key")),
        "",
    );
    let mut laptop = laptop;
    laptop.configure(&lab.read("ssh_config").replace(&format!("    IdentityFile {}\n", lab.path("key")), ""));
    let said = refused(&laptop, "ssh.auth_refused");
    assert!(said.contains("ssh-add"), "{said}");
    assert_eq!(sshd.logins(), 1, "{}", sshd.log());
}

#[test]
fn what_a_server_lacks_is_named() {
    let lab = lab_or_skip!();
    let pinned = |port: u16| format!("host = \"shop\"\nport = {port}\nhost_key = \"{}\"\n", lab.public_key("host_key"));
    let off = OwnSshd::new(lab, "AllowTcpForwarding no\nAllowStreamLocalForwarding no\n");
    let laptop = Laptop::with(lab, &pinned(off.port));
    let run = laptop.world.run(&["apply", "--yes"]);
    assert!(run.code() != 0 && run.to_string().contains("AllowTcpForwarding yes"), "{run}");

    let laptop = Laptop::with(lab, "host = \"shop\"\nsocket = \"/run/none/docker.sock\"\n");
    refused(&laptop, "ssh.no_docker");
    let laptop = Laptop::with(lab, "host = \"shop\"\nport = 9\n");
    refused(&laptop, "ssh.unreachable");
}

/// Docker's own command on the server is the way where its SSH server forwards no sockets.
#[test]
fn without_forwarding_of_sockets_dockers_own_command_is_the_way() {
    let lab = lab_or_skip!();
    let sshd = OwnSshd::new(lab, "AllowStreamLocalForwarding no\n");
    let laptop =
        Laptop::with(lab, &format!("host = \"shop\"\nport = {}\nhost_key = \"{}\"\n", sshd.port, lab.public_key("host_key")));
    laptop.world.apply();
    laptop.world.assert_converged();
    laptop.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    laptop.assert_disconnected();
}

#[test]
fn a_command_logs_in_once() {
    let lab = lab_or_skip!();
    let sshd = OwnSshd::new(lab, "MaxStartups 1\n");
    let laptop =
        Laptop::with(lab, &format!("host = \"shop\"\nport = {}\nhost_key = \"{}\"\n", sshd.port, lab.public_key("host_key")));
    laptop.world.apply();
    let before = sshd.logins();
    laptop.world.run_expecting(0, &["plan"]);
    assert_eq!(sshd.logins(), before + 1, "{}", sshd.log());
}

#[tokio::test]
async fn a_connection_that_freezes_is_given_up_and_made_again() {
    let lab = lab_or_skip!();
    let sshd = OwnSshd::new(lab, "");
    let mut server = lab.server();
    server.port = Some(sshd.port);
    let mut bench = DockerFixture::on_server(&lab.engine, server);
    bench.ensure().await;
    sshd.signal_sessions("-STOP");
    let began = Instant::now();
    let error = bench.docker.observe(&bench.placement).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Ssh(error) if error.code() == "ssh.lost"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(240), "{:?}", began.elapsed());
    sshd.signal_sessions("-KILL");
    assert_eq!(bench.until_running().await.drift, Vec::new());
}
