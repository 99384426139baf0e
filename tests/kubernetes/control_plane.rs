//! The control plane in the cluster, from the example as it is written: its first token, and a project that is applied through it.

use std::process::{Command, Stdio};

use fixture::{executable, free_ports, repository, wait_until};

use crate::cluster_or_skip;
use crate::rig::{Project, script};

/// What the example calls its image and its namespace.
const IMAGE: &str = "registry.example.com/convexinfra:0.1.0";
const NAMESPACE: &str = "convexinfra";
const BLOCKS: &str = "[backends.dev]\nprovider = \"kubernetes\"\nrelease = \"652b828b5129e6cdbcaa3c20efa8d116d09ff3bf\"\n\
                      resources = { cpus = 0.2, memory = \"128 MiB\", disk = \"1 GiB\" }\n";

#[test]
fn the_example_of_a_control_plane_serves_a_project() {
    let cluster = cluster_or_skip!();
    let mut project = Project::new(cluster, "");
    let folder = project.world.folder.clone();
    let tar = folder.join("server.tar");
    script("backend-image", &[executable(), IMAGE, tar.to_str().unwrap(), "server"]);
    script("cluster", &["load", cluster.folder.to_str().unwrap(), tar.to_str().unwrap()]);
    // Only its address from outside is another one.
    let (port, _) = free_ports();
    let url = format!("http://127.0.0.1:{port}");
    let overlay = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [base]\npatches:\n\
         - target: {{ kind: Deployment, name: convexinfra }}\n  patch: |\n    - {{ op: replace, path: \
         /spec/template/spec/containers/0/args/5, value: \"{url}\" }}\n"
    );
    project.world.write("kustomization.yaml", &overlay);
    let example = repository().join("examples/kubernetes/control-plane");
    assert!(Command::new("cp").arg("-r").args([&example, &folder.join("base")]).status().unwrap().success());
    cluster.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"]);
    cluster.kubectl(&["apply", "-k", folder.to_str().unwrap()]);
    let kubectl = |words: &[&str]| cluster.kubectl(&[&["--namespace", NAMESPACE], words].concat());
    let claim = ["get", "pvc", "convexinfra-home", "-o", "jsonpath={.spec.volumeName}"];
    wait_until("its volume is there", || !kubectl(&claim).is_empty());
    // Volumes of this cluster are folders of the node, which heed no `fsGroup`.
    let place = cluster.kubectl(&["get", "pv", &kubectl(&claim), "-o", "jsonpath={.spec.hostPath.path}"]);
    let home = cluster.folder.join("volumes").join(place.rsplit('/').next().unwrap());
    std::os::unix::fs::chown(&home, Some(10001), Some(10001)).unwrap();
    kubectl(&["delete", "pods", "--all"]);
    kubectl(&["rollout", "status", "deployment/convexinfra", "--timeout=120s"]);
    let token = kubectl(&["exec", "deploy/convexinfra", "--", "convexinfra", "serve", "--init"]);
    let token = token.split_whitespace().find(|word| word.starts_with("cvxi_")).unwrap();
    let mut way = Command::new("kubectl")
        .args(["--kubeconfig", &cluster.kubeconfig(), "--namespace", NAMESPACE, "port-forward", "service/convexinfra"])
        .arg(format!("{port}:7310"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the way is open", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    project.world.set("CONVEXINFRA_TOKEN", token);
    project.world.manifest(&format!("project = \"{}\"\ncontrol_plane = {{ url = \"{url}\" }}\n{BLOCKS}", project.name));
    project.world.run_expecting(0, &["trust", "add", &url]);
    project.world.apply();
    project.world.assert_converged();
    let made = kubectl(&["get", "statefulsets", "-o", "name"]);
    assert!(made.contains(&format!("{}-dev", project.name)), "{made}");
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    wait_until("its claim is gone", || !kubectl(&["get", "pvc", "-o", "name"]).contains(&project.name));
    let _ = way.kill();
    let _ = way.wait();
    let _ = cluster.try_kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]);
}
