//! The commands, from the manifest to the cluster and back.

use fixture::{ProjectFixture, get, wait_until};

use crate::cluster_or_skip;
use crate::rig::{BACKEND, BACKEND_TWO, BROKEN, Project};

pub(crate) const ONE: &str = "[backends.dev]\nprovider = \"kubernetes\"\nresources = { cpus = 0.2, memory = \"128 MiB\", disk = \"1 GiB\" }\n\
                              [backends.dev.kubernetes]\nPLACE\n";

#[test]
fn a_backend_comes_up_and_goes_away() {
    let project = Project::new(cluster_or_skip!(), ONE);
    let world = &project.world;
    world.apply();
    world.assert_converged();
    assert_eq!(world.run(&["drift"]).code(), 0);
    assert_eq!(project.one("pods")["spec"]["containers"][0]["image"], BACKEND);
    assert!(!world.run_expecting(0, &["logs", "dev"]).out.is_empty());
    // No secret stands in anything but the Secret.
    let (_, key) = world.coordinates(".env.local");
    let specifications = project.kubectl(&["get", "statefulsets,pods,services,persistentvolumeclaims", "-o", "json"]);
    assert!(!specifications.contains("--instance-secret") && !specifications.contains(&key));
    world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    wait_until("everything is gone", || project.everything().is_empty());
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn a_forwarded_backend_answers_on_the_port_of_its_url() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    let (url, _) = project.world.coordinates(".env.local");
    let forward = project.world.spawn(&["forward", "dev"]);
    let answers =
        || std::net::TcpStream::connect(url.trim_start_matches("http://")).is_ok() && get(&format!("{url}/version")).0 == 200;
    wait_until("the forwarding answers", answers);
    assert_eq!(get(&format!("{url}/instance_name")).1, format!("{}-dev", project.name));
    // Another Pod is reached through the same port.
    project.kubectl(&["delete", "pod", &project.name_of("pods")]);
    project.until_ready();
    wait_until("the forwarding answers again", answers);
    forward.interrupt();
    assert_eq!(forward.end().code(), 130);
}

#[test]
fn resources_change_while_it_runs() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    let before = project.one("pods")["metadata"]["uid"].clone();
    project.manifest(&ONE.replace("cpus = 0.2, memory = \"128 MiB\"", "cpus = 0.3, memory = \"160 MiB\""));
    project.world.apply();
    let pod = project.one("pods");
    assert_eq!(pod["metadata"]["uid"], before);
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], serde_json::json!({ "cpu": "300m", "memory": "160Mi" }));
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    project.world.assert_converged();
}

#[test]
fn another_image_restarts_and_a_broken_one_goes_back() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.shell("echo kept > /convex/data/mark");
    let with = |image: &str| ONE.replace("PLACE", &format!("namespace = \"{}\"\nimage = \"{image}\"", project.name));
    project.manifest(&with(BACKEND_TWO));
    project.world.apply();
    assert_eq!(project.one("pods")["spec"]["containers"][0]["image"], BACKEND_TWO);
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    project.manifest(&with(BROKEN));
    let run = project.world.run_expecting(1, &["apply", "--yes"]);
    assert!(run.err.contains("provider.not_replaced") && run.err.contains("it is broken"), "{run}");
    assert_eq!(project.one("pods")["spec"]["containers"][0]["image"], BACKEND_TWO);
    project.until_ready();
    project.manifest(&with(BACKEND_TWO));
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn a_stopped_backend_stays_so_until_it_is_started() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    project.world.run_expecting(0, &["stop", "dev"]);
    assert!(project.get("pods").is_empty());
    assert_eq!(project.world.run(&["drift"]).code(), 0);
    project.world.run_expecting(0, &["start", "dev"]);
    project.until_ready();
    project.world.assert_converged();
}

#[test]
fn what_others_made_is_not_touched() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.world.apply();
    let service = project.name_of("services");
    // It is made anew by hand, with the same labels.
    let mut object = project.one("services");
    project.kubectl(&["delete", "service", &service]);
    for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object["spec"].as_object_mut().unwrap().retain(|field, _| matches!(field.as_str(), "ports" | "selector"));
    project.world.write("service.json", &object.to_string());
    project.kubectl(&["create", "-f", project.world.folder.join("service.json").to_str().unwrap()]);
    let run = project.world.run_expecting(4, &["apply", "--yes"]);
    assert!(run.err.contains("kubernetes.foreign"), "{run}");
    project.kubectl(&["delete", "service", &service]);
    project.world.apply();
    project.world.assert_converged();
}

#[test]
fn an_account_without_rights_is_told_which_before_anything_is_changed() {
    let project = Project::new(cluster_or_skip!(), ONE);
    project.kubectl(&["create", "serviceaccount", "poor"]);
    let token = project.kubectl(&["create", "token", "poor"]);
    let admin = std::fs::read_to_string(project.cluster.kubeconfig()).unwrap();
    let users = admin.lines().find(|line| line.starts_with("users:")).unwrap();
    project.world.write("poor.conf", &admin.replace(users, &format!("users: [{{name: admin, user: {{token: \"{token}\"}}}}]")));
    let poor = project.world.folder.join("poor.conf");
    let with = |world: &ProjectFixture, words: &[&str]| {
        let output = world.command(words).env("KUBECONFIG", &poor).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = with(&project.world, &["apply", "--yes"]);
    assert_eq!(code, Some(4), "{text}");
    let rule = r#"- { apiGroups: ["apps"], resources: ["statefulsets"], verbs: ["get", "list", "create", "patch", "delete"] }"#;
    assert!(text.contains(rule) && text.contains("kubernetes role --namespace"), "{text}");
    assert!(project.get("statefulsets").is_empty());
    // With the Role that is printed it works.
    let role = project.world.run_expecting(0, &["kubernetes", "role", "--namespace", &project.name]).out;
    project.world.write("role.yaml", &role);
    project.kubectl(&["apply", "-f", project.world.folder.join("role.yaml").to_str().unwrap()]);
    let account = format!("--serviceaccount={}:poor", project.name);
    project.kubectl(&["create", "rolebinding", "poor", "--role=convexinfra", &account]);
    let (code, text) = with(&project.world, &["apply", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = with(&project.world, &["drift"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn two_projects_share_a_namespace() {
    let cluster = cluster_or_skip!();
    let one = Project::new(cluster, ONE);
    let two = Project::new(cluster, "");
    two.manifest(&ONE.replace("PLACE", &format!("namespace = \"{}\"\nIMAGE", one.name)));
    one.world.apply();
    two.world.apply();
    assert_eq!(one.get("statefulsets").len(), 2);
    two.world.run_expecting(0, &["destroy", "--yes", "--allow-destroy", "dev"]);
    assert_eq!(one.get("statefulsets").len(), 1);
    one.world.assert_converged();
}
