//! Backends behind a proxy that was there before: a real Traefik on the server, which stays its owner's.

use crate::lab::{Lab, Laptop};
use crate::lab_or_skip;
use crate::proxy::{SERVER, Web};
use crate::rig::DASHBOARD;

/// Traefik on the server, with a network of its own and certificates from the lab's authority.
struct Traefik {
    lab: &'static Lab,
    name: String,
    network: String,
}

impl Traefik {
    fn new(lab: &'static Lab, name: &str, flags: &[&str]) -> Self {
        let traefik = Self { lab, name: format!("{name}-edge"), network: format!("{name}-web") };
        lab.engine.docker(&["network", "create", &traefik.network]);
        let socket = format!("{}:/var/run/docker.sock", lab.path("docker.sock"));
        let authority = format!("{}:/authority.pem:ro", lab.path("authority.pem"));
        let mut words =
            vec!["run", "-d", "--name", &traefik.name, "--network", &traefik.network, "-p", "80:80", "-p", "443:443"];
        words.extend([
            "-v",
            &socket,
            "-v",
            &authority,
            "-e",
            "LEGO_CA_CERTIFICATES=/authority.pem",
            "convexinfra-test/traefik:one",
        ]);
        words.extend(flags);
        lab.engine.docker(&words);
        traefik
    }
}

impl Drop for Traefik {
    fn drop(&mut self) {
        self.lab.engine.try_docker(&["rm", "-f", "-v", &self.name]);
        self.lab.engine.try_docker(&["network", "rm", &self.network]);
    }
}

#[test]
fn traefik_that_is_there_leads_to_the_backend() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    let world = &laptop.world;
    let server = format!("--certificatesresolvers.lab.acme.caserver=https://{}:14000/dir", lab.read("address"));
    let traefik = Traefik::new(
        lab,
        &laptop.name,
        &[
            "--providers.docker=true",
            "--providers.docker.exposedbydefault=false",
            "--entryPoints.web.address=:80",
            "--entryPoints.webSecure.address=:443",
            "--certificatesresolvers.lab.acme.email=admin@shop.test",
            "--certificatesresolvers.lab.acme.storage=/data/acme.json",
            "--certificatesresolvers.lab.acme.tlschallenge=true",
            &server,
        ],
    );
    let domain = format!("{}.test", laptop.name);
    let (api, site, dashboard) = (format!("https://api.{domain}"), format!("https://{domain}"), format!("https://d.{domain}"));
    let origins = format!("origins = {{ api = \"{api}\", site = \"{site}\", dashboard = \"{dashboard}\" }}\n");
    laptop.routed(&format!("dashboard = true\n{origins}tls = \"auto\"\n"));
    world.manifest(&format!("{}dashboard_image = \"{DASHBOARD}\"\n", world.read("convex.toml")));
    let planned = world.run_expecting(0, &["plan", "--json"]).to_string();
    for part in ["docker.external_proxy", "Traefik", &traefik.name, &traefik.network, "webSecure", "resolver `lab`"] {
        assert!(planned.contains(part), "{part}: {planned}");
    }
    world.apply();
    world.assert_converged();
    assert!(!web.has_proxy(), "two proxies for one pair of ports");

    let root = lab.path("root.pem");
    let trusting = ["--cacert", root.as_str()];
    let ask = |url: &str| web.ask(url, &trusting);
    let name = format!("{}-dev", laptop.name);
    lab.engine.until("Traefik leads to it with a certificate", |_| {
        ask(&format!("{api}/instance_name")) == ("200".to_owned(), name.clone())
    });
    lab.engine.until("HTTP actions are led to", |_| ask(&format!("{site}/hook")).1.contains("no HTTP actions"));
    lab.engine.until("the dashboard is led to", |_| ask(&dashboard).1.contains("NEXT_PUBLIC_DEPLOYMENT_URL="));
    let (status, _) = web.ask(&format!("http://api.{domain}/version"), &[]);
    assert!(status.starts_with("30") && status.ends_with(&format!("{api}/version")), "{status}");
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let headers: Vec<&str> = upgrade.iter().flat_map(|header| ["-H", header]).collect();
    let opened =
        web.ask(&format!("{api}/api/1.48.0/sync"), &[&trusting[..], &headers[..], &["--http1.1", "--max-time", "2"]].concat());
    assert_eq!(opened.0, "101", "{}", opened.1);

    // A host that labels of another container claim is not claimed twice.
    let second = Laptop::with(lab, SERVER);
    second.routed(&format!("domain = \"{domain}\"\n"));
    let refused = second.world.run_expecting(4, &["plan", "--json"]).to_string();
    assert!(refused.contains("proxy.host_taken"), "{refused}");

    // What happens to the proxy is seen; its owner starts it again.
    lab.engine.docker(&["stop", "-t", "1", &traefik.name]);
    let drift = laptop.drift();
    assert!(drift.contains("proxy.container") && drift.contains("stopped"), "{drift}");
    lab.engine.docker(&["start", &traefik.name]);
    world.assert_converged();

    // Without routes nothing of them is left on the container.
    laptop.manifest(SERVER, "");
    world.apply();
    world.assert_converged();
    let seen = lab.engine.inspect(&laptop.container());
    assert!(!seen["Config"]["Labels"].to_string().contains("traefik"), "{}", seen["Config"]["Labels"]);
    assert!(seen["NetworkSettings"]["Networks"].get(&traefik.network).is_none(), "{}", seen["NetworkSettings"]["Networks"]);
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(laptop.everything(), Vec::<String>::new());
    assert!(lab.engine.try_docker(&["inspect", &traefik.name]));
}

#[test]
fn a_proxy_without_certificates_is_joined_only_as_it_is() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    let flags = ["--providers.docker", "--entrypoints.web.address=:80", "--entrypoints.websecure.address=:443"];
    let _traefik = Traefik::new(lab, &laptop.name, &flags);
    let domain = format!("{}.test", laptop.name);
    laptop.routed(&format!("domain = \"{domain}\"\n"));
    let refused = laptop.world.run_expecting(4, &["plan", "--json"]).to_string();
    assert!(refused.contains("proxy.unsuitable") && refused.contains("internal"), "{refused}");
    laptop.routed(&format!("domain = \"{domain}\"\ntls = \"internal\"\n"));
    laptop.world.apply();
    laptop.world.assert_converged();
    lab.engine.until("Traefik leads to it", |_| web.ask(&format!("https://api.{domain}/version"), &["-k"]).0 == "200");
    laptop.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
}
