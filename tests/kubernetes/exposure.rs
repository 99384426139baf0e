//! How clients reach a backend, what is beside it, and its objects in the hands of other tools.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use fixture::{get, wait_until};

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::rig::Project;

/// A balancer's address, as the controller of a cloud would set it; only the rules of the node lead there.
const BALANCER: &str = "10.99.0.7";

/// Returns which instance answers at a URL, to which the rules of the node lead some time after the Pod is ready.
fn instance_at(url: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    wait_until("the rules of the node lead there", || TcpStream::connect(address).is_ok());
    get(&format!("{url}/instance_name")).1
}

#[test]
fn a_backend_is_reached_by_its_service_and_by_its_node() {
    let cluster = cluster_or_skip!();
    for (expose, host) in [("cluster-ip", ".svc:3210"), ("node-port", "http://10.77.0.1:3")] {
        let project = Project::new(cluster, &format!("{ONE}expose = \"{expose}\"\n"));
        project.world.apply();
        let (url, _) = project.world.coordinates(".env.local");
        assert!(url.contains(host), "{url}");
        let service = project.one("services")["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let reached = if expose == "node-port" { url } else { format!("http://{service}:3210") };
        assert_eq!(instance_at(&reached), format!("{}-dev", project.name));
        project.world.assert_converged();
    }
}

/// What other Pods of the cluster and node actions reach it by.
#[test]
fn the_url_of_a_cluster_ip_answers_by_its_name_inside() {
    let project = Project::new(cluster_or_skip!(), &format!("{ONE}expose = \"cluster-ip\"\n"));
    project.world.apply();
    let (url, _) = project.world.coordinates(".env.local");
    let (host, port) = url.strip_prefix("http://").and_then(|rest| rest.split_once(':')).unwrap();
    let ask = format!(
        "exec 3<>/dev/tcp/{host}/{port}; printf 'GET /instance_name HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' >&3; cat <&3"
    );
    let answer = project.kubectl(&["exec", &project.name_of("pods"), "--", "bash", "-c", &ask]);
    assert!(answer.ends_with(&format!("{}-dev", project.name)), "{answer}");
}

#[test]
fn the_address_of_a_load_balancer_is_waited_for() {
    let project = Project::new(cluster_or_skip!(), &format!("{ONE}expose = \"load-balancer\"\n"));
    let applying = project.world.spawn(&["apply", "--yes"]);
    wait_until("the Service is there", || !project.get("services").is_empty());
    let status = format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{BALANCER}"}}]}}}}}}"#);
    project.kubectl(&["patch", "service", &project.name_of("services"), "--subresource=status", "--type=merge", "-p", &status]);
    assert_eq!(applying.end().code(), 0);
    let (url, _) = project.world.coordinates(".env.local");
    assert_eq!(url, format!("http://{BALANCER}:3210"));
    assert_eq!(instance_at(&url), format!("{}-dev", project.name));
    project.world.assert_converged();
}

#[test]
fn what_is_beside_a_backend_comes_and_goes() {
    let origins = "origins = { api = \"https://api.example.com\", site = \"https://example.com\" }\n";
    let dashboard = "dashboard = true\n";
    let all = ONE.replace("[backends.dev.kubernetes]", &format!("{origins}{dashboard}[backends.dev.kubernetes]"));
    let all = format!(
        "{all}expose = \"ingress\"\ningress_class = \"nginx\"\ntls_secret = \"tls\"\nnetwork_policy = true\n\
         dashboard_image = \"docker.io/convexinfra-test/backend:one\"\n"
    );
    let project = Project::new(cluster_or_skip!(), &all);
    project.world.apply();
    project.world.assert_converged();
    let ingress = project.one("ingresses");
    assert_eq!(ingress["spec"]["rules"][0]["host"], "api.example.com");
    assert_eq!(ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"], "0");
    assert_eq!(project.get("services").len(), 2);
    project.one("deployments");
    project.one("networkpolicies");
    // Each that goes by hand is drift, and is made again.
    for kind in ["ingresses", "networkpolicies", "deployments"] {
        project.kubectl(&["delete", kind, "--all"]);
        assert_eq!(project.drift().len(), 1, "{kind}");
        project.world.apply();
        project.one(kind);
    }
    project.manifest(ONE);
    project.world.apply();
    project.world.assert_converged();
    for kind in ["ingresses", "networkpolicies", "deployments"] {
        assert!(project.get(kind).is_empty(), "{kind}");
    }
    project.one("services");
}

#[test]
fn a_gateway_without_gateway_api_is_told_by_the_plan() {
    let origins = "origins = { api = \"https://api.example.com\", site = \"https://example.com\" }\n[backends.dev.kubernetes]";
    let blocks = ONE.replace("[backends.dev.kubernetes]", origins);
    let project = Project::new(cluster_or_skip!(), &format!("{blocks}expose = \"gateway\"\ngateway = \"infra/web\"\n"));
    let run = project.world.run_expecting(4, &["plan", "--json"]);
    let document = run.document();
    assert!(document["refusals"][0]["message"].as_str().unwrap().contains("definitions are not installed"), "{run}");
}

#[test]
fn the_example_is_applied_as_it_is_written() {
    let cluster = cluster_or_skip!();
    let mut project = Project::new(cluster, "");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes/convex.toml");
    let text = fs::read_to_string(example).unwrap();
    // Another run in the same cluster has the same names.
    let text = text.replace("project = \"atlas\"", &format!("project = \"{}\"", project.name));
    let text = text.replace("namespace = \"convex\"", &format!("namespace = \"{}-own\"", project.name));
    // Other tests run on the same node.
    let text = text.replace("cpus = 1,", "cpus = 0.2,").replace("cpus = 0.5,", "cpus = 0.1,");
    project.world.manifest(&text);
    project.world.apply();
    project.world.assert_converged();
    project.name.push_str("-own");
    assert_eq!(project.get("statefulsets").len(), 2);
    project.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev", "--allow-destroy", "staging"]);
}

#[test]
fn rendered_objects_run_under_another_manager() {
    let project = Project::new(cluster_or_skip!(), ONE);
    let yaml = project.world.run_expecting(0, &["render", "dev"]).out;
    let set = yaml.lines().find_map(|line| line.strip_prefix("#     set --")).unwrap();
    let launch = format!("set --{}\n", set.replace("INSTANCE_SECRET", &"5e".repeat(32)));
    project.world.write("launch", &launch);
    project.world.write("objects.yaml", &yaml);
    let path = |name: &str| project.world.folder.join(name).to_str().unwrap().to_owned();
    let secret = yaml.split('`').nth(1).unwrap();
    project.kubectl(&["create", "secret", "generic", secret, &format!("--from-file=launch={}", path("launch"))]);
    project.kubectl(&["apply", "--server-side", "-f", &path("objects.yaml")]);
    wait_until("a Pod is there", || !project.get("pods").is_empty());
    project.until_ready();
    let address = project.one("services")["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(get(&format!("http://{address}:3210/instance_name")).1, format!("{}-dev", project.name));
    // It is another tool's, so nothing of it is taken for a backend of ours.
    let differs =
        project.cluster.try_kubectl(&["--namespace", &project.name, "diff", "--server-side", "-f", &path("objects.yaml")]);
    assert!(differs.is_ok(), "{differs:?}");
}

#[test]
fn an_ingress_from_before_for_the_same_host_is_named() {
    let origins = "origins = { api = \"https://api.example.com\", site = \"https://example.com\" }\n";
    let blocks = ONE.replace("[backends.dev]\n", &format!("[backends.dev]\n{origins}"));
    let project = Project::new(cluster_or_skip!(), &format!("{blocks}expose = \"ingress\"\ningress_class = \"nginx\"\n"));
    project.kubectl(&["create", "ingress", "old", "--class=nginx", "--rule=api.example.com/*=convex:3210"]);
    let run = project.world.run_expecting(0, &["plan"]);
    assert!(run.out.contains("the Ingress `old` answers for `api.example.com` as well"), "{run}");
    project.world.apply();
    project.kubectl(&["delete", "ingress", "old"]);
    project.manifest(&format!("{blocks}expose = \"ingress\"\ningress_class = \"traefik\"\n"));
    let run = project.world.run_expecting(0, &["plan"]);
    assert!(!run.out.contains("kubernetes.host_shared"), "{run}");
}
