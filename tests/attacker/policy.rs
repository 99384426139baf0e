//! Every rule of `src/policy` through raw HTTP: a client that never plans gets the refusal that a plan shows, code and
//! sentence. The rules are read from the sources, so that one without a case here fails.

use std::fs;

use serde_json::{Value, json};

use super::Target;
use super::policy_rules::{LOCAL, Sent, plan_rules, spec_rules};
use super::raw::RawRequest;
use super::raw_project::{Project, lowered, manifest};
use fixture::{ProjectFixture, executable, script};

const SERVER: &str = "postgres://me:pw@db.example.invalid";

fn put(spec: &Value) -> Value {
    let (mut spec, mut secrets) = (spec.clone(), json!({}));
    // A manifest names a file, whose content its command sends.
    if let Some(path) = spec["storage"]["tls"]["ca"].as_str().map(str::to_owned) {
        spec["storage"]["tls"] = json!({ "pem": fs::read_to_string(path).unwrap() });
    }
    if spec["storage"]["url"].is_object() {
        secrets["storage.url"] = json!(SERVER);
    }
    if spec["env"]["LARGE"].is_object() {
        secrets["env.LARGE"] = json!("x".repeat(9000));
    }
    json!({ "kind": "put", "spec": spec, "secrets": secrets })
}

#[test]
fn a_raw_client_gets_the_refusal_that_a_plan_shows() {
    let target = Target::with(&[("FLY_API_TOKEN", "none"), ("CONVEXINFRA_FLY_API", "http://127.0.0.1:1")]);
    let folder = tempfile::tempdir().unwrap();
    fixture::certificates::issue(folder.path(), &["localhost"]);
    let authority = folder.path().join("ca.pem");
    let binary = script(folder.path(), "backend", &format!("exec '{}' simulate-backend \"$@\"", executable()));
    let on_this_machine = |text: &str| {
        let text = text.replace("/tmp/ca.pem", &authority.display().to_string());
        text.replace("/tmp/backend", &binary.display().to_string())
    };
    for (number, rule) in plan_rules().into_iter().enumerate() {
        let name = format!("rule-{number}");
        let project = Project::new(&target, name.clone());
        // Commands read the certificates that a manifest names.
        let text = on_this_machine(&manifest(&name, &rule.after, rule.beside));
        let what = format!("{} in {text}", rule.code);
        if !rule.before.is_empty() {
            for backend in ["dev"].into_iter().chain((!rule.beside.is_empty()).then_some("old")) {
                let recorded = lowered(&on_this_machine(&manifest(&name, rule.before, "")));
                let made = project.operate(&project.apply, backend, None, &put(&recorded));
                assert!([200, 202].contains(&made.status), "{what}: {made:?}");
            }
            project.settle();
        }
        if let Some(quota) = &rule.quota {
            let set = target.send("operator", RawRequest::new("PUT", &format!("/v1/projects/{name}/quota")).json(quota));
            assert_eq!(set.status, 204, "{what}: {set:?}");
        }
        let is_elsewhere = rule.code == "plan.other_repository";
        if is_elsewhere {
            let origin = json!({ "origin": "repository github.com/acme/blog", "claim": "if_unclaimed" });
            let set = project.send(&project.apply, "PUT", "origin", Some(&origin));
            assert_eq!(set.status, 204, "{what}: {set:?}");
        }

        // What the plan shows.
        let mut world = ProjectFixture::new(&text);
        world.set("CONVEXINFRA_CONTROL_PLANE", &target.server.url);
        world.set("CONVEXINFRA_TOKEN", &project.destroy);
        world.set("SERVER", SERVER);
        world.set("LARGE", &"x".repeat(9000));
        if is_elsewhere {
            world.git();
            for words in [["remote", "add", "origin"].as_slice(), &["remote", "set-url", "origin"]] {
                let mut git = std::process::Command::new("git");
                git.args(words).arg("https://github.com/acme/shop").current_dir(&world.folder).envs(&world.variables);
                assert!(git.status().unwrap().success());
            }
        }
        let (shown, work, token) = match &rule.sent {
            Sent::Remove { volume, database, words } => {
                let words = [&["destroy", "dev", "--allow-destroy", "dev", "--json"], *words].concat();
                let run = world.run_expecting(4, &words);
                let last: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
                let work = json!({ "kind": "remove", "volume": volume, "database": database });
                (last["errors"][0].clone(), work, &project.destroy)
            }
            Sent::Put | Sent::PutRenamed(_) => {
                let run = world.run_expecting(4, &["plan", "--json"]);
                let mut work = put(&lowered(&text));
                if let Sent::PutRenamed(old) = rule.sent {
                    work["renamed_from"] = json!(old);
                }
                (run.document()["refusals"][0].clone(), work, &project.apply)
            }
        };
        assert_eq!(shown["code"], rule.code, "{what}: {shown}");

        // What a raw client gets.
        let before = project.recorded();
        let origin = is_elsewhere.then_some("repository github.com/acme/shop");
        let refused = project.operate(token, "dev", origin, &work);
        assert!((400..500).contains(&refused.status), "{what}: {refused:?}");
        let error = refused.json()["errors"][0].clone();
        assert_eq!(error["code"], rule.code, "{what}: {refused:?}");
        let (planned, sent) = (shown["message"].as_str().unwrap(), error["message"].as_str().unwrap());
        assert!(planned == sent || planned == format!("backend.dev: {sent}"), "{what}:\n{planned}\n{sent}");
        assert_eq!(project.recorded(), before, "{what}: what is refused leaves the record as it is");
        if rule.before == LOCAL {
            let work = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
            let removed = project.operate(&project.destroy, "dev", None, &work);
            assert!([200, 202].contains(&removed.status), "{what}: {removed:?}");
            project.settle();
        }
        project.release();
    }
    target.assert_well();
}

#[test]
fn a_raw_client_records_no_specification_that_a_manifest_may_not_have() {
    let target = Target::with(&[("FLY_API_TOKEN", "none"), ("CONVEXINFRA_FLY_API", "http://127.0.0.1:1")]);
    let project = Project::new(&target, "shapes".to_owned());
    for rule in spec_rules() {
        let block = format!("provider = \"{}\"\n{}\n", rule.provider, rule.lines);
        let problems = convexinfra::manifest::parse(&manifest("shapes", &block, ""), None).expect_err(&rule.lines);
        let shown = problems.iter().find(|problem| problem.code == rule.code);
        let shown = shown.unwrap_or_else(|| panic!("{}: {problems:?}", rule.code));
        let mut spec = json!({ "provider": rule.provider });
        for (key, value) in rule.spec.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let refused = project.operate(&project.apply, "dev", None, &put(&spec));
        assert!((400..500).contains(&refused.status), "{}: {refused:?}", rule.lines);
        let error = refused.json()["errors"][0].clone();
        // On the wire a server is a part of its backend, and a table of its own in a manifest.
        let message = shown.message.replace("`servers.shop.", "`server.");
        assert_eq!(
            (error["code"].as_str(), error["message"].as_str()),
            (Some(rule.code), Some(message.as_str())),
            "{refused:?}"
        );
        assert_eq!(project.recorded(), json!([]), "{}", rule.lines);
    }
    target.assert_well();
}

/// What takes data away, or lets it be taken away sooner, needs the scope `destroy`, however it is put.
#[test]
fn protection_and_time_are_given_up_with_the_scope_destroy_only() {
    let target = Target::new();
    let project = Project::new(&target, "demo".to_owned());
    // It listens: what is only a record has no data that a `ttl` could take.
    let spec = |lines: &str| put(&lowered(&manifest("demo", &format!("provider = \"simulated\"\n{lines}\n"), "")));
    let remove = json!({ "kind": "remove", "volume": "destroy", "database": "leave" });
    for (what, before, work) in [
        ("protection off", "protected = true", spec("")),
        ("an early end", "", spec("ttl = \"1h\"")),
        ("an earlier end", "ttl = \"2d\"", spec("ttl = \"1h\"")),
        ("an end in place of protection", "protected = true\nttl = \"1h\"", spec("ttl = \"1h\"")),
        ("a removal", "", remove.clone()),
        (
            "a removal of its database as well",
            "ttl = \"1h\"",
            json!({ "kind": "remove", "volume": "destroy", "database": "drop" }),
        ),
        (
            "a removal of what its database names in buckets",
            "ttl = \"1h\"",
            json!({ "kind": "remove", "volume": "destroy", "database": "drop_with_files" }),
        ),
        ("its record dropped", "", json!({ "kind": "forget" })),
    ] {
        let made = project.operate(&project.destroy, "dev", None, &spec(before));
        assert!([200, 202].contains(&made.status), "{what}: {made:?}");
        project.settle();
        let recorded = project.recorded();
        let refused = project.operate(&project.apply, "dev", None, &work);
        assert_eq!((refused.status, refused.code().as_str()), (403, "auth.scope"), "{what}: {refused:?}");
        assert_eq!(project.recorded(), recorded, "{what}");
    }
    // The same bytes with the scope.
    let off = project.operate(&project.destroy, "dev", None, &spec(""));
    assert!([200, 202].contains(&off.status), "{off:?}");
    project.settle();
    let gone = project.operate(&project.destroy, "dev", None, &remove);
    assert!([200, 202].contains(&gone.status), "{gone:?}");
    project.settle();
    assert_eq!(project.recorded(), json!([]));
    target.assert_well();
}
