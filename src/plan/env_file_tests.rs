//! Env files in a plan: written, cleared, left alone, refused.

use super::tests::{actual, codes, desired, existing, ids, lints, name, planned, spec, wanted};
use super::*;
use crate::model::{
    Address, Desired, DesiredBackend, EnvFileContent, EnvFileContents, EnvFileState, ProviderKind, RememberedEnvFile,
    RequestedBy,
};

fn target(path: &str) -> EnvFileTarget {
    EnvFileTarget { path: path.to_owned(), contents: EnvFileContents::Pair }
}

pub(super) fn with_env_file(path: &str) -> DesiredBackend {
    let mut backend = wanted(spec(ProviderKind::Simulated));
    backend.env_files = vec![target(path)];
    backend
}

fn file(content: EnvFileContent) -> EnvFileState {
    EnvFileState::Writable { content, outside: false, warnings: vec![] }
}

#[test]
fn an_env_file_is_written_when_it_differs_or_git_does_not_ignore_it() {
    let looks = |up_to_date: bool, needs_ignore_rule: bool| {
        let mut actual = actual(vec![existing("dev", spec(ProviderKind::Simulated))]);
        let content = EnvFileContent { up_to_date, needs_ignore_rule, ..EnvFileContent::default() };
        actual.env_files.insert(Address::env_file(&name("dev")), file(content));
        planned(&desired(&[("dev", with_env_file(".env.local"))]), &actual)
    };
    assert!(looks(true, false).is_empty());
    for (state, reason) in [(looks(false, false), Reason::EnvFileDiffers), (looks(true, true), Reason::EnvFileNotIgnored)] {
        assert_eq!((ids(&state), state.steps[0].reason), (vec!["write:env_file.dev"], reason));
    }
}

#[test]
fn a_key_that_others_may_read_is_a_step() {
    let mut actual = actual(vec![existing("dev", spec(ProviderKind::Simulated))]);
    let content = EnvFileContent { up_to_date: true, exposed_mode: Some(0o644), ..EnvFileContent::default() };
    actual.env_files.insert(Address::env_file(&name("dev")), file(content));
    let plan = planned(&desired(&[("dev", with_env_file(".env.local"))]), &actual);
    let change = &plan.steps[0].changes[0];
    assert_eq!((plan.steps[0].reason, change.path.as_str()), (Reason::EnvFileExposed, "mode"));
    assert_eq!((change.before.as_deref(), change.after.as_deref()), (Some("0644"), Some("0600")));
}

#[test]
fn each_env_file_of_a_backend_is_a_step_of_its_own() {
    let mut backend = with_env_file("packages/backend/.env.local");
    backend.env_files.push(EnvFileTarget { path: "apps/web/.env.local".to_owned(), contents: EnvFileContents::Client });
    let plan = planned(&desired(&[("dev", backend)]), &actual(vec![]));
    assert_eq!(
        ids(&plan),
        ["create:backend.dev", "write:env_file.dev", "write:env_file.dev:apps/web/.env.local"],
        "each waits for the backend alone"
    );
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap().steps[2].address, plan.steps[2].address);
}

/// A plan for a project in which `path` was written for `dev`, and whether `dev` is there.
fn remembering(path: &str, desired: &Desired, there: bool, requested_by: RequestedBy) -> Plan {
    let mut actual = actual(if there { vec![existing("dev", spec(ProviderKind::Simulated))] } else { vec![] });
    let address = Address::env_file_at(&name("dev"), path);
    let content = EnvFileContent { has_block: true, ..EnvFileContent::default() };
    actual.env_files.insert(address.clone(), file(content));
    actual.remembered = vec![RememberedEnvFile { address, target: target(path), requested_by, elsewhere: false }];
    planned(desired, &actual)
}

#[test]
fn an_env_file_is_cleared_when_its_block_is_removed() {
    let clear = "write:env_file.dev:old.env";
    for requested_by in [RequestedBy::Manifest, RequestedBy::Command] {
        let gone = remembering("old.env", &desired(&[]), true, requested_by);
        assert_eq!(ids(&gone), [clear, "destroy:backend.dev"], "{requested_by:?}");
        let gone_before = remembering("old.env", &desired(&[]), false, requested_by);
        assert_eq!(ids(&gone_before), [clear], "{requested_by:?}");
    }
    let moved = desired(&[("dev", with_env_file("new.env"))]);
    assert!(ids(&remembering("old.env", &moved, true, RequestedBy::Manifest)).contains(&clear));
    assert!(!ids(&remembering("old.env", &moved, true, RequestedBy::Command)).contains(&clear), "it was asked for apart");
}

#[test]
fn an_env_file_that_is_no_longer_named_stays_with_a_warning() {
    let two = [("dev", wanted(spec(ProviderKind::Simulated))), ("other", wanted(spec(ProviderKind::Simulated)))];
    let plan = remembering(".env.local", &desired(&two), true, RequestedBy::Manifest);
    assert_eq!(ids(&plan), ["create:backend.other"]);
    assert_eq!(lints(&plan), ["plan.env_file_unnamed"]);
}

#[test]
fn an_env_file_that_cannot_be_written_is_refused_while_planning() {
    let mut actual = actual(vec![]);
    let refused = EnvFileState::Refused { code: "env_file.tracked_by_git".into(), message: "tracked".into() };
    actual.env_files.insert(Address::env_file(&name("dev")), refused);
    let plan = planned(&desired(&[("dev", with_env_file(".env.local"))]), &actual);
    assert_eq!(codes(&plan.refusals), ["env_file.tracked_by_git"]);
}

#[test]
fn an_env_file_of_two_backends_is_written_for_one_with_a_warning() {
    let plan = planned(&desired(&[("a", with_env_file(".env.local")), ("b", with_env_file("./.env.local"))]), &actual(vec![]));
    assert_eq!(ids(&plan), ["create:backend.a", "create:backend.b", "write:env_file.a"]);
    assert_eq!(lints(&plan), ["plan.shared_env_file"]);
}
