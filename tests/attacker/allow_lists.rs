//! What the operator lets no specification name, through raw HTTP. It is refused before anything is asked in its name: no
//! cluster, no engine, no cloud, and no program of this machine.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::Target;
use super::raw_project::{Project, lowered, manifest};
use fixture::script;

const ORIGINS: &str = "origins = { api = \"https://a.example.com\", site = \"https://s.example.com\" }\n";
/// Has a control plane look for a host in the networks of a container, before anything of it is made.
const ON_SERVER: &str = "storage = { engine = \"postgres\", url = { env = \"SERVER\" }, tls = \"disable\" }\n";

/// The lines of a manifest, and what allows them.
fn cases() -> Vec<(String, &'static str)> {
    let cluster = |settings: &str, lines: &str, flag| {
        (format!("provider = \"kubernetes\"\nkubernetes = {{ {settings} }}\n{lines}"), flag)
    };
    let docker = |settings: &str, flag| (format!("provider = \"docker\"\n{ON_SERVER}docker = {{ {settings} }}\n"), flag);
    vec![
        cluster("expose = \"node-port\"", "", "serve --allow-publish 0.0.0.0"),
        cluster("expose = \"load-balancer\"", "", "serve --allow-publish 0.0.0.0"),
        cluster("context = \"other\"", "", "CONVEXINFRA_KUBERNETES_CONTEXTS=other"),
        cluster("namespace = \"kube-system\"", "", "CONVEXINFRA_KUBERNETES_NAMESPACES=kube-system"),
        cluster("namespace = \"shared2\"", "", "CONVEXINFRA_KUBERNETES_NAMESPACES=shared2"),
        cluster("context = \"team\", namespace = \"default\"", "", "CONVEXINFRA_KUBERNETES_NAMESPACES=default"),
        cluster("image = \"evil/convex:1\"", "", "serve --allow-images evil/convex"),
        cluster("dashboard_image = \"evil/page\"", "dashboard = true\n", "serve --allow-images evil/page"),
        docker("image = \"evil/convex\"", "serve --allow-images evil/convex"),
        docker("network = \"monitoring\"", "serve --allow-networks monitoring"),
        docker("networks = [\"convexinfra-other-1a2b3c4d\"]", "serve --allow-networks convexinfra-other-1a2b3c4d"),
        docker("publish = \"0.0.0.0\"", "serve --allow-publish 0.0.0.0"),
        docker("labels = { \"ofelia.job-exec.x.command\" = \"id\" }", "serve --allow-labels ofelia.job-exec.x.command"),
        docker("mounts = [\"/:/host\"]", "mounts nothing"),
        (format!("provider = \"docker\"\ntls = \"auto\"\n{ORIGINS}"), "serve --allow-publish 0.0.0.0"),
        (
            format!(
                "provider = \"docker\"\n{ON_SERVER}server = \"shop\"\ndocker = {{ network = \"edge\" }}\n\
                 [servers.shop]\nhost = \"127.0.0.1\"\n"
            ),
            "reaches no servers",
        ),
        (
            "provider = \"fly\"\nregion = \"iad\"\nfly = { image = \"evil/convex\" }\n".to_owned(),
            "serve --allow-images evil/convex",
        ),
    ]
}

#[test]
fn what_no_operator_allowed_is_refused_before_anything_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (started, kubeconfig) = (folder.path().join("started"), folder.path().join("kubeconfig"));
    // Credentials of a context come from a program, which is none to start for a manifest either.
    let program = |name: &str| script(folder.path(), name, &format!("echo \"$0\" >> '{}'; exit 1", started.display()));
    let (_, plugin) = (program("ssh"), program("plugin"));
    std::fs::write(
        &kubeconfig,
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "team",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "u", "user": { "exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never",
            } } }],
            "contexts": [
                { "name": "team", "context": { "cluster": "c", "user": "u", "namespace": "convex" } },
                { "name": "other", "context": { "cluster": "c", "user": "u", "namespace": "convex" } },
            ],
        })
        .to_string(),
    )
    .unwrap();
    let target = Target::with(&[
        ("KUBECONFIG", kubeconfig.to_str().unwrap()),
        ("CONVEXINFRA_KUBERNETES_CONTEXTS", "team"),
        ("CONVEXINFRA_KUBERNETES_NAMESPACES", "shared, shared3"),
        ("DOCKER_HOST", &format!("tcp://{address}")),
        ("FLY_API_TOKEN", "none"),
        ("CONVEXINFRA_FLY_API", &format!("http://{address}")),
        ("CONVEXINFRA_ALLOW_NETWORKS", "edge"),
        ("PATH", &format!("{}:/usr/bin:/bin", folder.path().display())),
    ]);
    let project = Project::new(&target, "demo".to_owned());
    for (lines, flag) in cases() {
        let spec = lowered(&manifest("demo", &lines, ""));
        let secrets = if lines.contains(ON_SERVER) { json!({ "storage.url": "postgres://me:pw@db" }) } else { json!({}) };
        let work = json!({ "kind": "put", "spec": spec, "secrets": secrets });
        let asked = json!({ "step": { "plan": "look", "step": "s" }, "backend": "dev", "work": work });
        let looked = project.send(&project.apply, "POST", "preflight", Some(&asked));
        let refused = project.operate(&project.apply, "dev", None, &work);
        assert_eq!(looked.status, 200, "{lines}: {looked:?}");
        assert!((400..500).contains(&refused.status), "{lines}: {refused:?}");
        for refusal in [&looked.json()["refusals"][0], &refused.json()["errors"][0]] {
            let said = format!("{} {}", text(&refusal["message"]), text(&refusal["help"]));
            assert!(said.contains("`dev` cannot be created") && said.contains(flag), "{lines}: {said}");
        }
        assert!(listener.accept().is_err(), "{lines}: something was asked");
        assert!(!started.exists(), "{lines}: {:?} was started", std::fs::read_to_string(&started));
    }
    assert_eq!(project.recorded(), json!([]));
    target.assert_well();
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
