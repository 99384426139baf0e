//! API servers that are overloaded, restart, answer with something else or not at all, and webhooks that say no.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fixture::{certificates, wait_until};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::foresight::put as put_object;
use crate::rig::{Cluster, Project};

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The API server answers.
    Clean,
    /// Something else does, with this status, and these lines and body.
    Answered(&'static str, &'static str, &'static str),
    /// The connection breaks off before it gets there.
    Cut,
    /// The API server does what it is asked, and its answer is lost.
    Unheard,
    /// Nothing ever answers.
    Silent,
}

const OVERLOADED: Fate =
    Fate::Answered("429 Too Many Requests", "Retry-After: 1", "Too many requests, please try again later.");
const BUSY: Fate = Fate::Answered("429 Too Many Requests", "X: y", "");
const STARTING: Fate =
    Fate::Answered("503 Service Unavailable", "X: y", r#"{"kind":"Status","code":503,"message":"starting"}"#);
const ETCD: Fate = Fate::Answered(
    "500 Internal Server Error",
    "X: y",
    r#"{"kind":"Status","code":500,"message":"etcdserver: leader changed"}"#,
);
const BAD_GATEWAY: Fate = Fate::Answered("502 Bad Gateway", "Content-Type: text/html", "<html>bad gateway</html>");
const NOT_FOUND: Fate = Fate::Answered("404 Not Found", "Content-Type: text/plain", "404 page not found");
const EMPTY: Fate = Fate::Answered("200 OK", "Content-Type: application/json", "{}");
const LOGIN: Fate = Fate::Answered("200 OK", "Content-Type: text/html", "<html>log in first</html>");

/// What happens to each request, by its number.
type Fates = Arc<Mutex<Box<dyn Fn(usize) -> Fate + Send>>>;

/// A way to the API server on which requests meet their fates, one after another.
struct Way {
    proxy: Child,
    address: SocketAddr,
    fates: Fates,
    asked: Arc<AtomicUsize>,
}

impl Way {
    fn to(cluster: &Cluster, project: &mut Project) -> Self {
        let socket = project.world.folder.join("api.sock");
        let proxy = Command::new("kubectl")
            .args(["--kubeconfig", &cluster.kubeconfig(), "proxy", "--unix-socket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the way is open", || socket.exists());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fates: Fates = Arc::new(Mutex::new(Box::new(|_| Fate::Clean)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (decide, count) = (Arc::clone(&fates), Arc::clone(&asked));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let fate = decide.lock().unwrap()(count.fetch_add(1, Ordering::SeqCst));
                let socket = socket.clone();
                std::thread::spawn(move || carry(client, &socket, fate));
            }
        });
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{ name: x, cluster: {{ server: 'http://{address}' }} }}]\n\
             contexts: [{{ name: x, context: {{ cluster: x, user: x }} }}]\nusers: [{{ name: x, user: {{}} }}]\n"
        );
        project.world.write("way.conf", &config);
        let path = project.world.folder.join("way.conf");
        project.world.set("KUBECONFIG", path.to_str().unwrap());
        Self { proxy, address, fates, asked }
    }

    /// Decides what happens to the requests from now on, by their number.
    fn decide(&self, fate: impl Fn(usize) -> Fate + Send + 'static) {
        self.asked.store(0, Ordering::SeqCst);
        *self.fates.lock().unwrap() = Box::new(fate);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.decide(|_| Fate::Cut);
        let _ = TcpStream::connect(self.address);
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

/// Carries one request: its connection serves no other one.
fn carry(mut client: TcpStream, socket: &std::path::Path, fate: Fate) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    match fate {
        Fate::Cut => return,
        Fate::Silent => {
            let _ = client.read_to_end(&mut Vec::new());
            return;
        }
        Fate::Answered(status, line, body) => {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\n{line}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = client.write_all(answer.as_bytes());
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
            return;
        }
        Fate::Clean | Fate::Unheard => {}
    }
    let Ok(mut server) = std::os::unix::net::UnixStream::connect(socket) else { return };
    let text = String::from_utf8_lossy(&head).into_owned();
    // `kubectl proxy` answers what is asked of this machine only.
    let lines =
        text.trim_end().lines().map(|line| if line.to_lowercase().starts_with("host:") { "Host: localhost" } else { line });
    let mut lines: Vec<&str> = lines.collect();
    if !text.to_lowercase().contains("upgrade:") {
        lines.push("Connection: close");
    }
    if server.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).is_err() {
        return;
    }
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let sending = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    if fate == Fate::Unheard {
        let _ = server.read(&mut [0; 64]);
    } else {
        let _ = std::io::copy(&mut server, &mut client);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = sending.join();
}

#[test]
fn an_apply_goes_on_through_overload_restarts_and_lost_answers() {
    let cluster = cluster_or_skip!();
    let mut project = Project::new(cluster, ONE);
    let way = Way::to(cluster, &mut project);
    let fates = [OVERLOADED, STARTING, ETCD, BAD_GATEWAY, BUSY, Fate::Cut, Fate::Unheard, LOGIN, EMPTY];
    way.decide(move |number| if number.is_multiple_of(4) { fates[number / 4 % fates.len()] } else { Fate::Clean });
    project.world.apply();
    assert!(way.asked.load(Ordering::SeqCst) > 40);
    way.decide(|_| Fate::Clean);
    project.world.assert_converged();
    assert_eq!((project.get("statefulsets").len(), project.get("persistentvolumeclaims").len()), (1, 1));
    // It is away for a while in the middle of a change, as when it restarts.
    project.manifest(&ONE.replace("memory = \"128 MiB\"", "memory = \"160 MiB\""));
    let away = Mutex::new(None::<Instant>);
    way.decide(move |number| {
        let mut away = away.lock().unwrap();
        let since = (number > 75).then(|| *away.get_or_insert_with(Instant::now));
        if since.is_some_and(|since| since.elapsed() < Duration::from_secs(8)) { Fate::Cut } else { Fate::Clean }
    });
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn what_answers_in_the_place_of_an_api_server_is_never_absent() {
    let cluster = cluster_or_skip!();
    let mut project = Project::new(cluster, ONE);
    let way = Way::to(cluster, &mut project);
    project.world.apply();
    for fate in [NOT_FOUND, EMPTY, LOGIN, BAD_GATEWAY, OVERLOADED] {
        way.decide(move |_| fate);
        let status = project.world.status();
        assert_eq!(status["backends"][0]["state"], "unknown", "{fate:?}: {status}");
        assert_eq!(project.world.run(&["drift"]).code(), 69, "{fate:?}");
    }
    way.decide(|_| NOT_FOUND);
    let run = project.world.run(&["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_ne!(run.code(), 0, "{run}");
    assert_eq!(project.world.names(), ["dev"]);
    way.decide(|_| Fate::Clean);
    assert_eq!(project.get("pods").len(), 1);
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn a_server_that_says_nothing_is_told_in_time() {
    let cluster = cluster_or_skip!();
    let mut project = Project::new(cluster, ONE);
    let way = Way::to(cluster, &mut project);
    way.decide(|_| Fate::Silent);
    let began = Instant::now();
    let run = project.world.run_expecting(0, &["plan", "--json"]);
    let lints = run.document()["lints"].to_string();
    assert!(lints.contains("kubernetes.unseen") && lints.contains("no answer within"), "{run}");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}

/// Answers every question of an API server with no, in these words; returns where, and the authority of its certificate.
fn serve_denials(folder: &std::path::Path, words: &'static str) -> (SocketAddr, Vec<u8>) {
    certificates::issue(folder, &["localhost", "127.0.0.1"]);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || deny(StreamOwned::new(ServerConnection::new(config).unwrap(), client), words));
        }
    });
    (address, read("ca.pem"))
}

fn deny(mut stream: StreamOwned<ServerConnection, TcpStream>, words: &str) {
    let mut reader = BufReader::new(&mut stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if length == 0 || reader.read_exact(&mut body).is_err() {
        return;
    }
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": { "uid": asked["request"]["uid"], "allowed": false, "status": { "message": words } },
    })
    .to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let _ = stream.write_all(format!("{head}{answer}").as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// A webhook that denies, with words that name the team and the way to go, is repeated to the user before anything is made; one
/// that cannot be asked on trial is told as not known, and its words come with the apply.
#[test]
fn the_words_of_a_webhook_that_denies_reach_the_user() {
    let project = Project::new(cluster_or_skip!(), ONE);
    let words = "databases need the label team; see wiki/labels";
    let (address, authority) = serve_denials(&project.world.folder, words);
    let put = |sides: &str, group: &str, resource: &str, operation: &str| {
        let webhook = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": project.name },
            "webhooks": [{
                "name": "denies.test.invalid",
                "admissionReviewVersions": ["v1"],
                "sideEffects": sides,
                "failurePolicy": "Fail",
                "clientConfig": { "url": format!("https://{address}/"), "caBundle": STANDARD.encode(&authority) },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": project.name } },
                "rules": [{ "apiGroups": [group], "apiVersions": ["v1"], "operations": [operation], "resources": [resource] }],
            }],
        });
        put_object(&project, &webhook.to_string());
    };
    for (group, resource) in [("apps", "statefulsets"), ("", "pods"), ("", "secrets"), ("", "persistentvolumeclaims")] {
        put("None", group, resource, "CREATE");
        wait_until("the webhook is asked", || project.world.run(&["plan"]).code() == 4);
        let run = project.world.run_expecting(4, &["plan", "--json"]);
        let refusal = run.document()["refusals"][0].clone();
        assert_eq!(refusal["code"], "kubernetes.refused", "{resource}: {run}");
        assert!(refusal["message"].as_str().unwrap().contains(words), "{resource}: {run}");
        assert_eq!(run.document()["refusals"].as_array().unwrap().len(), 1, "{resource}: {run}");
    }
    assert!(project.get("persistentvolumeclaims").is_empty());
    project.cluster.kubectl(&["delete", "validatingwebhookconfiguration", &project.name]);
    wait_until("the webhook is not asked any more", || project.world.run(&["plan"]).code() == 0);
    project.world.apply();
    // A change and a removal are asked about as well.
    put("None", "apps", "statefulsets", "UPDATE");
    project.manifest(&ONE.replace("memory = \"128 MiB\"", "memory = \"160 MiB\""));
    wait_until("the webhook is asked", || project.world.run(&["plan"]).code() == 4);
    assert!(project.world.run_expecting(4, &["apply", "--yes"]).err.contains(words));
    put("None", "apps", "statefulsets", "DELETE");
    wait_until("the webhook is asked about removals", || {
        project
            .cluster
            .try_kubectl(&["-n", &project.name, "delete", "statefulset", &project.name_of("statefulsets"), "--dry-run=server"])
            .is_err()
    });
    let run = project.world.run(&["destroy", "--yes", "--allow-destroy", "dev"]);
    assert!(run.code() != 0 && run.err.contains(words), "{run}");
    assert_eq!(project.world.names(), ["dev"]);
    project.cluster.kubectl(&["delete", "validatingwebhookconfiguration", &project.name]);
    wait_until("it goes", || project.world.run(&["destroy", "--yes", "--allow-destroy", "dev"]).code() == 0);
}
