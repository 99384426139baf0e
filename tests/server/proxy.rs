//! Routes and certificates: convexinfra's own proxy on the server, asked from outside as clients ask it.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lab::{Lab, Laptop};
use crate::lab_or_skip;
use crate::rig::DASHBOARD;

const PROXY: &str = "convexinfra-proxy";
const IMAGE: &str = "convexinfra-test/proxy:one";

/// The ports of the web, of which the server has one pair: one test after another has them.
pub(crate) struct Web {
    lab: &'static Lab,
    _alone: MutexGuard<'static, ()>,
}

impl Web {
    pub(crate) fn new(lab: &'static Lab) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let web = Self { lab, _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) };
        web.clear();
        web
    }

    fn clear(&self) {
        for words in [
            &["rm", "-f", PROXY][..],
            &["volume", "rm", "convexinfra-proxy-configuration", "convexinfra-proxy-certificates"],
            &["network", "rm", "convexinfra"],
        ] {
            self.lab.engine.try_docker(words);
        }
    }

    /// Whether the server has a proxy.
    pub(crate) fn has_proxy(&self) -> bool {
        self.lab.engine.try_docker(&["inspect", PROXY])
    }

    /// Sends a request to the server for a host, trusting what these words say, and returns the status and what came.
    pub(crate) fn ask(&self, url: &str, words: &[&str]) -> (String, String) {
        let address = self.lab.read("address");
        let host = url.split("://").nth(1).unwrap().split('/').next().unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "-w", "\n%{http_code} %{redirect_url}"]);
        for port in ["80", "443"] {
            command.args(["--resolve", &format!("{host}:{port}:{address}")]);
        }
        let output = command.args(words).arg(url).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (status.trim().to_owned(), format!("{body}{said}"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.clear();
    }
}

pub(crate) const SERVER: &str = "host = \"shop\"\nproxy_image = \"convexinfra-test/proxy:one\"\n";

impl Laptop {
    /// Writes a manifest whose backend has routes.
    pub(crate) fn routed(&self, lines: &str) {
        self.manifest(SERVER, lines);
    }

    /// The file of the root that the proxy's own authority has.
    fn authority(&self) -> String {
        let file = self.world.root().join("root.crt").display().to_string();
        let from = format!("{PROXY}:/data/caddy/pki/authorities/local/root.crt");
        self.lab.engine.docker(&["cp", &from, &file]);
        file
    }

    pub(crate) fn drift(&self) -> String {
        self.world.run_expecting(3, &["drift"]).to_string()
    }
}

#[test]
fn origins_become_routes_with_certificates() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    let world = &laptop.world;
    let domain = format!("{}.test", laptop.name);
    let (api, site, dashboard) = (format!("https://api.{domain}"), format!("https://{domain}"), format!("https://d.{domain}"));
    laptop.routed(&format!(
        "dashboard = true\norigins = {{ api = \"{api}\", site = \"{site}\", dashboard = \"{dashboard}\" }}\ntls = \"internal\"\n"
    ));
    let text = format!("{}dashboard_image = \"{DASHBOARD}\"\n", world.read("convex.toml"));
    world.manifest(&text);
    world.apply();
    world.assert_converged();
    assert!(world.read(".env.local").contains(&format!("CONVEX_SELF_HOSTED_URL={api}\n")), "{}", world.read(".env.local"));

    let trusting = ["--cacert".to_owned(), laptop.authority()];
    let trusting: Vec<&str> = trusting.iter().map(String::as_str).collect();
    let name = format!("{}-dev", laptop.name);
    assert_eq!(web.ask(&format!("{api}/instance_name"), &trusting), ("200".to_owned(), name.clone()));
    let (status, said) = web.ask(&format!("{site}/hook"), &trusting);
    assert!(status == "404" && said.contains("no HTTP actions"), "{status} {said}");
    let (status, page) = web.ask(&dashboard, &trusting);
    assert!(status == "200" && page.contains("NEXT_PUBLIC_DEPLOYMENT_URL="), "{status} {page}");
    let plain = web.ask(&format!("http://api.{domain}/version"), &[]);
    assert_eq!(plain.0, format!("308 {api}/version"));

    let large = world.root().join("large");
    fs::write(&large, vec![b'x'; 8 << 20]).unwrap();
    let body = format!("@{}", large.display());
    let echoed = web.ask(&format!("{api}/echo"), &[&trusting[..], &["--data-binary", &body]].concat());
    assert_eq!((echoed.0.as_str(), echoed.1.len()), ("200", 8 << 20));
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

    // A call from inside the backend's container stays inside.
    let inside =
        lab.engine.docker(&["exec", &laptop.container(), "curl", "-skS", "--max-time", "10", &format!("{api}/instance_name")]);
    assert_eq!(inside, name);

    laptop.manifest(SERVER, "");
    world.apply();
    world.assert_converged();
    assert!(!web.has_proxy(), "the last route is gone, and the proxy is not");
    assert!(lab.engine.try_docker(&["volume", "inspect", "convexinfra-proxy-certificates"]), "its certificates are kept");
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(laptop.everything(), Vec::<String>::new());
}

#[test]
fn what_was_changed_about_the_proxy_is_drift_and_repaired() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    laptop.routed(&format!("domain = \"{}.test\"\ntls = \"internal\"\n", laptop.name));
    laptop.world.apply();
    let seen = lab.engine.inspect(PROXY);
    assert_eq!(seen["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(seen["HostConfig"]["CapDrop"], serde_json::json!(["ALL"]));
    assert!(!seen["Mounts"].to_string().contains("docker.sock"), "{}", seen["Mounts"]);

    let network = format!("label=convexinfra.project={}", laptop.name);
    let network = lab.engine.docker(&["network", "ls", "-q", "--filter", &network]);
    let empty = laptop.world.root().join("empty.caddy");
    fs::write(&empty, "").unwrap();
    let site = lab.engine.inspect(&laptop.container())["Name"].as_str().unwrap().trim_start_matches('/').to_owned();
    let site = format!("{PROXY}:/etc/caddy/conf/sites/{site}.caddy");
    let broken = laptop.world.root().join("broken.caddy");
    fs::write(&broken, "nonsense {{{").unwrap();
    lab.engine.docker(&["cp", broken.to_str().unwrap(), &site]);
    lab.engine.docker(&["restart", "-t", "1", PROXY]);
    lab.engine.until("the proxy fails", |engine| engine.inspect(PROXY)["State"]["Restarting"] == true);
    laptop.drift();
    laptop.world.apply();
    laptop.world.assert_converged();
    for (change, path) in [
        (&["cp", empty.to_str().unwrap(), &site][..], "proxy.site"),
        (&["stop", PROXY], "proxy.container"),
        (&["rm", "-f", PROXY], "proxy.container"),
        (&["network", "disconnect", &network, PROXY], "proxy.network"),
    ] {
        lab.engine.docker(change);
        let drift = laptop.drift();
        assert!(drift.contains(path), "{change:?}: {drift}");
        laptop.world.apply();
        laptop.world.assert_converged();
        let (status, said) = web.ask(&format!("https://api.{}.test/version", laptop.name), &["-k"]);
        assert_eq!(status, "200", "{change:?}: {said}");
    }
    laptop.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert!(!web.has_proxy());
    assert_eq!(laptop.everything(), Vec::<String>::new());
}

#[test]
fn two_projects_share_the_proxy_and_no_host() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let (first, second) = (Laptop::with(lab, SERVER), Laptop::with(lab, SERVER));
    first.routed(&format!("domain = \"{}.test\"\ntls = \"internal\"\n", first.name));
    first.world.apply();
    // Another home knows nothing of the first one's origins, and the server does.
    second.routed(&format!("domain = \"{}.test\"\ntls = \"internal\"\n", first.name));
    let refused = second.world.run_expecting(4, &["plan", "--json"]);
    assert!(refused.to_string().contains("proxy.host_taken"), "{refused}");
    second.routed(&format!("domain = \"{}.test\"\ntls = \"internal\"\n", second.name));
    second.world.apply();
    second.world.assert_converged();
    first.world.assert_converged();
    second.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    first.world.assert_converged();
    let (status, said) = web.ask(&format!("https://api.{}.test/version", first.name), &["-k"]);
    assert_eq!(status, "200", "{said}");
    first.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert!(!web.has_proxy());
}

#[test]
fn a_certificate_of_ones_own_is_served() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    let domain = format!("{}.test", laptop.name);
    let names = format!("subjectAltName=DNS:{domain},DNS:api.{domain}");
    let make = |key: &str, cert: &str| {
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=test", "-addext", &names, "-keyout", key, "-out", cert])
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    };
    let path = |name: &str| laptop.world.root().join(name).display().to_string();
    let (key, cert) = (path("key.pem"), path("cert.pem"));
    make(&key, &cert);
    laptop
        .routed(&format!("domain = \"{domain}\"\ntls = {{ cert = {{ file = \"{cert}\" }}, key = {{ file = \"{key}\" }} }}\n"));
    laptop.world.apply();
    laptop.world.assert_converged();
    let api = format!("https://api.{domain}/version");
    let (status, said) = web.ask(&api, &["--cacert", &cert]);
    assert_eq!(status, "200", "{said}");

    // Another pair takes its place without another container.
    let before = laptop.container();
    make(&key, &cert);
    laptop.world.apply();
    laptop.world.assert_converged();
    assert_eq!(laptop.container(), before);
    let (status, said) = web.ask(&api, &["--cacert", &cert]);
    assert_eq!(status, "200", "{said}");

    // Nothing of a private key is left that is not in use.
    let keys = || {
        let folder = tempfile::tempdir().unwrap();
        lab.engine.docker(&["cp", &format!("{PROXY}:/etc/caddy/certs"), folder.path().to_str().unwrap()]);
        let all = fs::read_dir(folder.path().join("certs")).unwrap().map(|entry| entry.unwrap());
        all.filter(|file| file.path().extension().is_some_and(|kind| kind == "key") && file.metadata().unwrap().len() > 0)
            .count()
    };
    assert_eq!(keys(), 1);

    // Half of a pair is refused, and what is served goes on.
    make(&key, &path("other.pem"));
    let refused = laptop.world.run(&["apply", "--yes", "--json"]);
    assert!(refused.code() != 0 && refused.to_string().contains("proxy.refused"), "{refused}");
    assert_eq!(keys(), 1);
    let (status, said) = web.ask(&api, &["--cacert", &cert]);
    assert_eq!(status, "200", "{said}");
    laptop.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(laptop.everything(), Vec::<String>::new());
}

#[test]
fn certificates_are_ordered_from_the_authority_that_is_named() {
    let lab = lab_or_skip!();
    let web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    let world = &laptop.world;
    let (domain, address) = (format!("{}.test", laptop.name), lab.read("address"));
    let (acme, file) = (format!("https://{address}:14000/dir"), lab.path("authority.pem"));
    laptop.routed(&format!("domain = \"{domain}\"\ntls = {{ acme = \"{acme}\", root = {{ file = \"{file}\" }} }}\n"));
    world.apply();
    world.assert_converged();
    let root = lab.path("root.pem");
    let (api, site) = (format!("https://api.{domain}/version"), format!("https://{domain}/"));
    let answer = |url: &str| web.ask(url, &["--cacert", &root]).0;
    lab.engine.until("certificates come", |_| answer(&api) == "200" && answer(&site) == "404");

    // What was ordered once is kept with the volume: another proxy asks for nothing.
    let ordered = || fs::read_to_string(lab.path("pebble.log")).unwrap().matches("Issued certificate").count();
    let before = ordered();
    assert!(before >= 2, "{before}");
    lab.engine.docker(&["rm", "-f", PROXY]);
    world.apply();
    world.assert_converged();
    lab.engine.until("certificates are there again", |_| answer(&api) == "200");
    assert_eq!(ordered(), before);

    // Another source takes its place without another container.
    let container = laptop.container();
    laptop.routed(&format!("domain = \"{domain}\"\ntls = \"internal\"\n"));
    world.apply();
    world.assert_converged();
    assert_eq!(laptop.container(), container);
    let authority = laptop.authority();
    lab.engine.until("the other certificate is served", |_| web.ask(&api, &["--cacert", &authority]).0 == "200");
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(laptop.everything(), Vec::<String>::new());
}

#[test]
fn a_proxy_that_labels_cannot_lead_stays_in_charge() {
    let lab = lab_or_skip!();
    let _web = Web::new(lab);
    let laptop = Laptop::with(lab, SERVER);
    let theirs = format!("{}-traefik", laptop.name);
    let label = format!("convexinfra.project={}", laptop.name);
    lab.engine.docker(&[
        "run",
        "-d",
        "--name",
        &theirs,
        "--label",
        &label,
        "-p",
        "443:443",
        "--entrypoint",
        "caddy",
        IMAGE,
        "respond",
        "--listen",
        ":443",
    ]);
    laptop.routed(&format!("domain = \"{}.test\"\n", laptop.name));
    let refused = laptop.world.run_expecting(4, &["plan", "--json"]);
    let said = refused.to_string();
    assert!(said.contains("proxy.unsuitable") && said.contains(&theirs) && said.contains("reads no labels"), "{said}");
    laptop.world.run_expecting(4, &["apply", "--yes"]);
    assert!(lab.engine.containers(&laptop.name, "backend").is_empty(), "the backend is begun before its route is possible");
    lab.engine.docker(&["rm", "-f", &theirs]);
}
