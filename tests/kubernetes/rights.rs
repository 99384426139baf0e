//! The Role that is printed: every command works under an account that has it and nothing else, and each rule that is missing is
//! named.

use fixture::wait_until;
use serde_json::{Value, json};

use crate::cluster_or_skip;
use crate::commands::ONE;
use crate::foresight::put;
use crate::import::with_hand_written;
use crate::rig::Project;

/// Makes an account that has the printed Role, changed by `change`, and has the project's commands use it.
fn with_role(project: &mut Project, change: impl Fn(&mut Vec<Value>)) {
    let printed = project.world.run_expecting(0, &["kubernetes", "role", "--namespace", &project.name]).out;
    project.world.write("role.yaml", &printed);
    let file = project.world.folder.join("role.yaml");
    let read = project.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", file.to_str().unwrap()]);
    let mut role: Value = serde_json::from_str(&read).unwrap();
    change(role["rules"].as_array_mut().unwrap());
    put(project, &role.to_string());
    if project.world.variables.get("KUBECONFIG").is_some_and(|path| path.ends_with("account.conf")) {
        return;
    }
    project.kubectl(&["create", "serviceaccount", "account"]);
    let account = format!("--serviceaccount={}:account", project.name);
    project.kubectl(&["create", "rolebinding", "account", "--role=convexinfra", &account]);
    let token = project.kubectl(&["create", "token", "account"]);
    let admin = std::fs::read_to_string(project.cluster.kubeconfig()).unwrap();
    let users = admin.lines().find(|line| line.starts_with("users:")).unwrap();
    let own = admin.replace(users, &format!("users: [{{name: admin, user: {{token: \"{token}\"}}}}]"));
    project.world.write("account.conf", &own);
    let path = project.world.folder.join("account.conf").to_str().unwrap().to_owned();
    project.world.set("KUBECONFIG", &path);
}

#[test]
fn every_command_works_under_the_role_that_is_printed() {
    let blocks =
        ONE.replace("[backends.dev]", "[backends.dev]\ndashboard = true").replace("PLACE", "PLACE\nnetwork_policy = true");
    let mut project = Project::new(cluster_or_skip!(), &blocks);
    with_role(&mut project, |_| {});
    let ok = |words: &[&str]| project.world.run_expecting(0, words);
    ok(&["apply", "--yes"]);
    project.until_ready();
    for words in [
        &["plan"][..],
        &["drift"],
        &["status"],
        &["wait", "dev"],
        &["logs", "dev"],
        &["env", "dev"],
        &["key", "rotate", "dev", "--yes"],
    ] {
        ok(words);
    }
    project.world.assert_converged();
    // A change in place is one, and no restart for want of a right.
    let pod = || project.get("pods").into_iter().find(|pod| pod["metadata"]["name"].as_str().unwrap().ends_with("-0")).unwrap();
    let before = pod()["metadata"]["uid"].clone();
    project.manifest(&blocks.replace("128 MiB", "160 MiB"));
    ok(&["apply", "--yes"]);
    assert_eq!(pod()["metadata"]["uid"], before);
    for words in [&["stop", "dev"][..], &["start", "dev"], &["destroy", "--yes", "--allow-destroy", "dev", "--keep-data"]] {
        ok(words);
    }
    ok(&["apply", "--yes"]);
    let claim = project.name_of("persistentvolumeclaims");
    let forward = project.world.spawn(&["forward", "dev"]);
    let (url, _) = project.world.coordinates(".env.local");
    wait_until("the forwarding answers", || {
        std::net::TcpStream::connect(url.trim_start_matches("http://")).is_ok()
            && fixture::get(&format!("{url}/version")).0 == 200
    });
    forward.interrupt();
    forward.end();
    ok(&["destroy", "--yes", "--allow-destroy", "dev"]);
    wait_until("the claim is gone", || !project.kubectl(&["get", "pvc", "-o", "name"]).contains(&claim));
}

#[test]
fn an_import_works_under_the_role_that_is_printed() {
    let mut project = with_hand_written(cluster_or_skip!());
    with_role(&mut project, |_| {});
    let workload = format!("{}/convex", project.name);
    project.world.run_expecting(0, &["import", "dev", "--statefulset", &workload]);
    project.world.run_expecting(0, &["apply", "--yes"]);
    project.until_ready();
    assert_eq!(project.shell("cat /convex/data/mark"), "kept");
    project.world.assert_converged();
}

#[test]
fn each_rule_that_is_missing_is_named_by_the_plan() {
    let blocks =
        ONE.replace("[backends.dev]", "[backends.dev]\ndashboard = true").replace("PLACE", "PLACE\nnetwork_policy = true");
    let mut project = Project::new(cluster_or_skip!(), &blocks);
    with_role(&mut project, |_| {});
    // Without these it works, and says what it does in their place.
    let optional =
        ["ingresses", "httproutes", "resourcequotas", "pods/resize", "configmaps", "pods/exec", "horizontalpodautoscalers"];
    let printed = project.kubectl(&["get", "role", "convexinfra", "-o", "json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    for rule in printed["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            let is_trial = *resource == "pods" && rule["verbs"] == json!(["create"]);
            if is_trial || optional.contains(&resource.as_str().unwrap()) {
                continue;
            }
            with_role(&mut project, |rules| {
                for changed in rules.iter_mut().filter(|known| **known == *rule) {
                    changed["resources"].as_array_mut().unwrap().retain(|known| known != resource);
                }
                rules.retain(|rule| !rule["resources"].as_array().unwrap().is_empty());
            });
            wait_until("the plan refuses", || project.world.run(&["plan"]).code() == 4);
            let document = project.world.run_expecting(4, &["plan", "--json"]).document();
            let refusals = document["refusals"].as_array().unwrap();
            assert_eq!(refusals.len(), 1, "{resource}: {document}");
            assert_eq!(refusals[0]["code"], "kubernetes.rights_missing", "{resource}: {document}");
            let verbs: Vec<&str> = rule["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let line = format!(
                "- {{ apiGroups: [{}], resources: [{resource}], verbs: [\"{}\"] }}",
                rule["apiGroups"][0],
                verbs.join("\", \"")
            );
            let help = refusals[0]["help"].as_str().unwrap();
            assert!(help.contains(&line) && help.matches("apiGroups").count() == 1, "{resource}: {help}");
        }
    }
    with_role(&mut project, |rules| {
        for rule in rules.iter_mut() {
            rule["resources"].as_array_mut().unwrap().retain(|resource| !optional.contains(&resource.as_str().unwrap()));
        }
        rules.retain(|rule| !rule["resources"].as_array().unwrap().is_empty());
    });
    wait_until("the plan is accepted", || project.world.run(&["plan"]).code() == 0);
    project.world.run_expecting(0, &["apply", "--yes"]);
}
